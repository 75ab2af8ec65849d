"""A run's output: a progress bar with ETA on a terminal, plain lines elsewhere, and metrics.jsonl always.

Everything for people goes to stderr; stdout stays free for results.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.table import Table

from nanoocr.errors import UsageError
from nanoocr.files import write_file
from nanoocr.progress import clock, make_bar
from nanoocr.train.config import TrainConfig


class RunLog:
    """Writes to the console, to <run>/metrics.jsonl and, on demand, to wandb. Use as a context manager."""

    def __init__(self, run: Path, config: TrainConfig, *, start: int, main: bool = True) -> None:
        """`main` is False on the ranks that stay silent."""
        self.run = run
        run.mkdir(parents=True, exist_ok=True)
        # The silent ranks write to nowhere, so that they run the same lines as rank 0.
        metrics = run / "metrics.jsonl" if main else Path(os.devnull)
        written = metrics.read_bytes() if metrics.is_file() else b""
        self.metrics = open(metrics, "a", encoding="utf-8")  # noqa: SIM115 (closed in __exit__)
        # A kill cut the last record short, so the next one must begin on a new line.
        if written and not written.endswith(b"\n"):
            self.metrics.write("\n")
        self.console = Console(
            stderr=True, soft_wrap=True, markup=False, emoji=False, highlight=False, quiet=not main
        )
        self.steps, self.start, self.started = config.steps, start, time.monotonic()
        self.peak_tflops = config.peak_tflops
        self.tracker = start_wandb(run, asdict(config)) if config.wandb and main else None
        self.progress = make_bar(self.console, disable=not (main and sys.stderr.isatty()))
        self.task = self.progress.add_task(run.name, total=config.steps, completed=start)

    def __enter__(self) -> RunLog:
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()
        self.metrics.close()
        if self.tracker is not None:
            self.tracker.finish()

    def say(self, text: str) -> None:
        """Print one line for people."""
        self.console.print(text)

    def table(self, rows: list[dict[str, Any]]) -> None:
        """Print rows of equal keys as a table."""
        table = Table(*rows[0].keys())
        for row in rows:
            table.add_row(*(f"{v:,}" if isinstance(v, int) else str(v) for v in row.values()))
        self.console.print(table)

    def advance(self, step: int) -> None:
        """Move the bar to `step`."""
        self.progress.update(self.task, completed=step)

    def record(self, step: int, event: str, values: Mapping[str, Any]) -> None:
        """Write one record to metrics.jsonl: {"step", "event", "seconds", ...}, with null instead of NaN."""
        clean = {key: finite(value) for key, value in values.items()}
        seconds = round(time.monotonic() - self.started, 3)
        line = {"step": step, "event": event, "seconds": seconds, **clean}
        self.metrics.write(json.dumps(line) + "\n")
        # Flush at once: after a kill the log must hold every step that was reported.
        self.metrics.flush()
        if self.tracker is not None:
            numbers = {f"{event}/{k}": v for k, v in clean.items() if isinstance(v, int | float)}
            self.tracker.log(numbers, step=step)

    def time_left(self, step: int) -> str:
        """Estimate the remaining time from the pace so far, as 1:02:03."""
        pace = (time.monotonic() - self.started) / max(1, step - self.start)
        return clock(pace * (self.steps - step))


def finite(value: Any) -> Any:
    """Replace NaN and infinity by None, because JSON has neither."""
    is_bad = isinstance(value, float) and (value != value or abs(value) == float("inf"))
    return None if is_bad else value


def start_wandb(run: Path, config: Mapping[str, Any]) -> Any:
    """Start or continue the wandb run. Its id lies beside the checkpoints, so that a resumed run finds it.

    Raises:
        UsageError: wandb is not installed.
    """
    try:
        import wandb
    except ImportError as error:
        raise UsageError("--wandb needs the extra: pip install 'nano-deepseek-ocr[wandb]'") from error
    about = run / "wandb.json"
    # The id makes a resumed run continue its curves instead of beginning new ones.
    known = json.loads(about.read_text())["id"] if about.is_file() else None
    tracker = wandb.init(
        project="nano-deepseek-ocr", name=run.name, config=dict(config), id=known, resume="allow"
    )
    write_file(about, json.dumps({"id": tracker.id}).encode())
    return tracker
