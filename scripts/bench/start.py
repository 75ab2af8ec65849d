"""A fresh `nanoocr read` of one picture: processor seconds, wall seconds and memory, beside older checkouts.

python -m scripts.bench.start --before=OLDER_CHECKOUT

The checkouts take turns, and the numbers are medians. JSON on the last line.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from nanoocr.commandline import parse, run
from nanoocr.errors import UsageError
from nanoocr.eval.evaluate import split_names
from nanoocr.machine import machine
from scripts.common import refuse_below, refuse_missing

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class StartConfig:
    """Measures a fresh `nanoocr read` beside those of older checkouts."""

    picture: str = "assets/samples/card_1_line_dark.png"  # the picture that is read
    before: str = ""  # roots of older checkouts, parted by commas
    repeats: int = 5  # rounds; each one takes every checkout in turn

    def __post_init__(self) -> None:
        """Refuse what is not there."""
        refuse_below(self, repeats=1)
        refuse_missing("--picture", self.picture)
        refuse_missing("--before", *(Path(root, "nanoocr") for root in split_names(self.before)))


def main(argv: list[str] | None = None) -> int:
    """Print one line of JSON."""
    config = parse(StartConfig, argv)
    roots = [ROOT, *(Path(root).resolve() for root in split_names(config.before))]
    found: dict[Path, list[tuple[float, float, int]]] = {root: [] for root in roots}
    for _ in range(config.repeats):
        for root in roots:
            found[root].append(read_once(root, Path(config.picture).resolve()))
    names = ["now", *(root.name for root in roots[1:])]
    medians = {
        name: dict(zip(("wall", "processor", "peak_bytes"), map(median, zip(*found[root]))))
        for name, root in zip(names, roots)
    }
    print(json.dumps({**machine(), **medians}))
    return 0


def read_once(root: Path, picture: Path) -> tuple[float, float, int]:
    """Seconds by the clock and of the processor, and the peak bytes, of one new process.

    Raises:
        UsageError: it could not read the picture.
    """
    started = time.perf_counter()
    command = [sys.executable, "-m", "nanoocr", "read", str(picture)]
    process = subprocess.Popen(command, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise UsageError(f"{root} cannot read {picture}: nanoocr read ends with {process.returncode}")
    return time.perf_counter() - started, usage.ru_utime + usage.ru_stime, 1024 * usage.ru_maxrss


if __name__ == "__main__":
    sys.exit(run(main))
