"""How long a batch of many documents takes to go on, and whether the driver's memory stays as it is.

Usage: python -m scripts.bench.resume [--documents=100000]

A ledger of generated entries is resumed; then all its pages are noted and written, as if a reader that takes
no time had read them.
"""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from nanoocr.batch import shards
from nanoocr.batch.drive import BatchRun, Plan, next_assignment, note
from nanoocr.batch.ledger import Found, Ledger
from nanoocr.batch.pace import watch
from nanoocr.batch.record import packed
from nanoocr.batch.worker import PageReader
from nanoocr.commandline import parse, run
from nanoocr.machine import peak_resident
from scripts.common import refuse_below, resident


@dataclass(frozen=True)
class ResumeConfig:
    """Measures how a batch of many documents goes on."""

    documents: int = 100_000  # entries of the ledger
    says: int = 5  # how often it tells its memory

    def __post_init__(self) -> None:
        """Refuse a ledger that is too short to tell anything about."""
        refuse_below(self, says=1, documents=self.says)


def _no_reader() -> PageReader:
    raise AssertionError("nothing is read here")


def fill(folder: Path, documents: int) -> None:
    """A ledger of documents of one page, half of which somebody has looked into."""
    ledger = Ledger(folder)
    ledger.add(
        Found(f'{{"path": "/scans/{number}.png"}}', f"{number}.png", str(number))
        for number in range(1, documents + 1)
    )
    with ledger.changing() as db:
        for number in range(1, documents // 2 + 1):
            ledger.opened(db, number, f"{number:064x}", 1)
    ledger.close()


def resume(folder: Path) -> Ledger:
    """Open the ledger and find the first assignment, as a resumed run does."""
    ledger = Ledger(folder)
    ledger.known()  # inputs that are named again are looked up in it
    shards.begin(folder, ledger)
    watch(ledger, 1.0, print)
    assignment = next_assignment(BatchRun(ledger, folder, _no_reader, Plan(), print), set())
    assert assignment is not None and assignment.kind == "read"
    return ledger


def read_all(folder: Path, ledger: Ledger, says: int) -> None:
    """Note every page, and say every now and then how much memory the driver holds."""
    batch = BatchRun(ledger, folder, _no_reader, Plan(), print)
    every, done, said = ledger.counts().documents // says, 0, 0
    record = {
        "text": "a line of text " * 100,
        "status": "ok",
        "error": None,
        "seconds": 1.0,
        "confidence": 0.9,
    }
    while assignment := next_assignment(batch, set()):
        with ledger.changing() as db:
            for document, page in zip(
                assignment.documents, assignment.pages or (0,) * len(assignment.documents), strict=True
            ):
                value = (
                    packed({"file": document.name, "page": page, **record})
                    if page
                    else (f"{document.id:064x}", 1)
                )
                note(ledger, db, ("read" if page else "opened", document.id, page, value), False, print)
                done += bool(page)
        shards.flush(folder, ledger)
        if done // every > said:
            said = done // every
            print(f"{done} pages noted: {resident() / 2**20:.0f} MiB", flush=True)
    shards.finish(folder, ledger)


def main(argv: list[str] | None = None) -> None:
    """Fill a ledger, time what a resumed run does before it reads, and read it to its end."""
    options = parse(ResumeConfig, argv)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fill(folder, options.documents)
        before, started, used = peak_resident(), time.monotonic(), time.process_time()
        ledger = resume(folder)
        seconds, used = time.monotonic() - started, time.process_time() - used
        grown = (peak_resident() - before) / 2**20
        print(
            f"{options.documents} documents: begun after {seconds:.2f} s, {used:.2f} of them on the "
            f"processor; {grown:.0f} MiB more",
            flush=True,
        )
        read_all(folder, ledger, options.says)


if __name__ == "__main__":
    sys.exit(run(main))
