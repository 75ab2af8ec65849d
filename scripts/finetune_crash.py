"""Kills `nanoocr finetune` again and again. The same command must end with the result of an untouched run.

python -m scripts.finetune_crash --kills=20

The first kills come as soon as a landmark of a run lies on disk (lines cut, first measure, steps, last step,
blended model, second measure, model folder), the rest at random moments. A run that got to its end is
compared, and another one takes its place. The last line on stdout is the result as JSON.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nanoocr.commandline import parse, run
from nanoocr.errors import NanoOCRError, NotBetterError, UsageError
from nanoocr.machine import machine
from scripts.common import folder_or_temporary
from scripts.dev.make_examples import draw, write_text

FLAGS = (
    *("--steps=3", "--eval_every=1", "--batch_size=2", "--eval_drawn=8", "--threads=1"),
    *("--lr=1e-5", "--muon_lr=1e-5", "--seed=1"),
)
LANDMARKS = (
    *("model.work/about.json", "model.work/documents.json", "model.work/before.json"),
    *("model.work/watch.parquet", "model.work/run/step_000001", "model.work/run/step_000003"),
    *("model.work/trained.json", "model.work/blend.json", "model.work/blend/manifest.json"),
    *("model.work/after.json", "model/manifest.json"),
)
POLL = 0.02  # seconds
ENDS = (0, NotBetterError.exit_code)  # so few steps may gain or not, but every run must agree


@dataclass(frozen=True)
class FinetuneCrashConfig:
    """Kills fine-tuning and compares where it ends."""

    kills: int = len(LANDMARKS)  # the first ones at landmarks, the rest at random
    documents: int = 6  # documents to tune on
    seed: int = 0  # seeds the moments of the random kills
    out: str = ""  # folder for the runs; empty means a temporary one

    def __post_init__(self) -> None:
        """Refuse numbers that make no sense."""
        if self.kills < 1 or self.documents < 4:
            raise UsageError("--kills must be above 0, and --documents at least 4")


class CrashError(NanoOCRError):
    """A second start failed, or the result differs: the script has found a fault."""

    exit_code = 1


def start(data: Path, out: Path) -> subprocess.Popen[str]:
    """Start the command as a child process."""
    command = [sys.executable, "-m", "nanoocr", "finetune", str(data), f"--out={out / 'model'}", *FLAGS]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def finish(data: Path, out: Path) -> float:
    """Run to the end without kills; returns the seconds it took.

    Raises:
        CrashError: the exit code is none of those of a judged run.
    """
    started = time.monotonic()
    child = start(data, out)
    _, log = child.communicate()
    if child.returncode not in ENDS:
        raise CrashError(f"{out}: ended with exit code {child.returncode}: {log.strip()[-500:]}")
    return time.monotonic() - started


def start_and_kill(data: Path, out: Path, landmark: str, after: float) -> str:
    """Start, and kill at `landmark`, or after `after` seconds if it is empty; returns which it was."""
    child = start(data, out)
    there, began = bool(landmark) and (out / landmark).exists(), time.monotonic()
    while child.poll() is None:
        if (out / landmark).exists() and not there if landmark else time.monotonic() - began > after:
            break
        time.sleep(POLL)
    ended = child.poll()
    child.kill()
    _, log = child.communicate()
    if ended is not None and ended not in ENDS:
        raise CrashError(f"{out}: ended by itself with exit code {ended}: {log.strip()[-500:]}")
    return "ended before" if ended is not None else landmark or "at random"


def compare(one: Path, other: Path) -> None:
    """Check that weights, numbers and card are equal byte for byte.

    Raises:
        CrashError: it names the first file that differs.
    """
    for name in ("model.safetensors", "finetune.json", "MODEL_CARD.md"):
        if (one / "model" / name).read_bytes() != (other / "model" / name).read_bytes():
            raise CrashError(f"{name} differs between {one} and {other}")


def crash_test(out: Path, config: FinetuneCrashConfig) -> dict[str, Any]:
    """Do all kills, finish both runs, and compare."""
    data, untouched, killed = out / "data", out / "untouched", out / "killed"
    for number in range(config.documents):
        write_text(data, draw(number))
    rng, moments, runs = random.Random(config.seed), Counter[str](), 0
    seconds = finish(data, untouched)
    for kill in range(config.kills):
        landmark = LANDMARKS[kill] if kill < len(LANDMARKS) else ""
        what = start_and_kill(data, killed, landmark, rng.uniform(0, seconds))
        moments[what] += 1
        print(f"kill {kill + 1}/{config.kills}: {what}", file=sys.stderr)
        if what == "ended before" or kill + 1 == config.kills:
            finish(data, killed)
            compare(untouched, killed)
            shutil.rmtree(killed)
            runs += 1
    return {**machine(), "kills": config.kills, "killed_at": moments, "runs_compared_equal": runs}


def main(argv: list[str] | None = None) -> None:
    """Kill, compare, print."""
    config = parse(FinetuneCrashConfig, argv)
    with folder_or_temporary(config.out) as folder:
        print(json.dumps(crash_test(folder, config)))


if __name__ == "__main__":
    sys.exit(run(main))
