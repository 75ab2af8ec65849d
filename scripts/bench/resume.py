"""How long a batch of many documents takes to go on: a ledger of generated entries, and one page to read.

Usage: python -m scripts.bench.resume [--documents 100000]
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import tyro

from nanoocr.batch import shards
from nanoocr.batch.drive import Batch, Plan, next_task
from nanoocr.batch.ledger import Found, Ledger
from nanoocr.batch.pace import watch
from nanoocr.batch.worker import Reading
from nanoocr.machine import peak_resident


@dataclass(frozen=True)
class Options:
    """What is measured."""

    documents: int = 100_000


def _no_reader() -> Reading:
    raise AssertionError("nothing is read here")


def main() -> None:
    """Fill a ledger, close it, and time what a resumed run does before it reads."""
    options = tyro.cli(Options)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ledger = Ledger(folder)
        found = [Found(f'{{"path": "/scans/{n}.png"}}', f"{n}.png", str(n)) for n in range(options.documents)]
        ledger.add(found)
        with ledger.changing() as db:
            for number in range(1, options.documents // 2 + 1):
                ledger.opened(db, number, f"{number:064x}", 1)
        ledger.close()
        before, started = peak_resident(), time.monotonic()
        ledger = Ledger(folder)
        ledger.add(found)  # the same inputs are named again
        shards.begin(folder, ledger)
        watch(ledger, 1.0, print)
        task = next_task(Batch(ledger, folder, _no_reader, Plan(), print), set())
        assert task is not None and task.kind == "read"
        seconds, grown = time.monotonic() - started, peak_resident() - before
        print(
            f"{options.documents} documents: first task after {seconds:.2f} s, {grown / 2**20:.0f} MiB more"
        )


if __name__ == "__main__":
    main()
