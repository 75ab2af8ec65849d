"""The driver of a batch on one machine: gives out what the ledger says is left, and notes what comes back.

There is no queue beside the ledger: what is pending there and in no worker's hands is what is left to do. So
a worker's death, or our own, needs nothing but to look again.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from nanoocr.batch import shards
from nanoocr.batch.ledger import DOUBTED, Ledger
from nanoocr.batch.pool import Message, Worker, bury, listen, start
from nanoocr.batch.record import Record, packed
from nanoocr.batch.worker import Assignment, MakeReader, error_record
from nanoocr.errors import BrokenRunError

SURVEYED_AT_ONCE = 8
SHARES = 2  # assignments per worker in the last pages, so that no worker ends long after the others
# Deaths per worker before any could read; so many mean that something is wrong with all of them.
EARLY_DEATHS = 3
LISTEN = 0.5  # seconds between two looks at the clock

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """How a batch is run. Nothing of this changes a text."""

    workers: int = 1
    threads: int = 1
    pages_at_once: int = 4  # in one assignment; readers of whole pages decode these together
    page_limit: float = 900.0  # seconds for one page, after which its worker is ended
    rows: int = shards.ROWS
    beside: bool = False
    gpus: float = 0.0  # GPUs that each actor on Ray takes


@dataclass
class BatchRun:
    """A batch while it runs: its ledger, its workers, and how it is run."""

    ledger: Ledger
    folder: Path
    make: MakeReader
    plan: Plan
    tell: Tell
    workers: list[Worker] = field(default_factory=list)
    early_deaths: int = 0
    alone: bool = False  # everything else is done, and the doubted are tried one by one


def drive(
    ledger: Ledger, folder: Path, make: MakeReader, plan: Plan, tell: Tell, look: Callable[[], None]
) -> None:
    """Read all that is pending in the ledger, and write it to shards; `look` is called about twice a second.

    Raises:
        NanoOCRError: what a worker cannot go on with: no model, no room, a defect of all workers.
    """
    batch = BatchRun(ledger, folder, make, plan, tell)
    shards.begin(folder, ledger)
    try:
        while _give_out(batch):
            _start_missing(batch)
            _hear(batch)
            shards.flush(folder, ledger, plan.rows, plan.rows)
            look()
    finally:
        for worker in batch.workers:
            bury(worker)
    shards.finish(folder, ledger)


# ---------------------------------------------------------------------------------------------------
# Giving out


def _give_out(batch: BatchRun) -> bool:
    """Give every worker assignments; returns False if nothing is left to do."""
    while True:
        with_room = [worker for worker in batch.workers if worker.has_room]
        if batch.workers and not with_room:
            return True
        held = {
            key for worker in batch.workers for assignment in worker.assignments for key in assignment.items()
        }
        if batch.alone and held:
            return True
        assignment = next_assignment(batch, held)
        if assignment is None and not held:
            # Either only doubted pages are left, or a doubted document was opened and has ordinary pages now.
            batch.alone = not batch.alone
            assignment = next_assignment(batch, held)
            if assignment is None:
                return False
        if assignment is None or not with_room:
            return True
        # The worker with the least to do gets it, so that the last pages are shared evenly.
        min(with_room, key=lambda worker: len(worker.assignments)).give(assignment)


def next_assignment(batch: BatchRun, held: set[tuple[str, int, int]]) -> Assignment | None:
    """What to do next: write the files of a document that is read, else read pages, else survey documents."""
    ledger, alone = batch.ledger, batch.alone
    most = 1 if alone else batch.plan.pages_at_once
    for one in ledger.documents("read", 0, len(held) + 1, alone):
        if ("beside", one.id, 0) not in held:
            return Assignment("beside", [one])
    enough = most * SHARES * batch.plan.workers
    waiting = ledger.waiting((0, 0), len(held) + enough, alone)
    pages = [key for key in waiting if ("read", *key) not in held]
    if len(pages) < enough and not ledger.documents("pending", 0, 1, alone):
        most = fair_share(len(pages), batch.plan.workers, most)
    pages = pages[:most]
    if len(pages) < most:
        limit = 1 if alone else SURVEYED_AT_ONCE
        unread = ledger.documents("pending", 0, len(held) + limit, alone)
        if fresh := [one for one in unread if ("survey", one.id, 0) not in held][:limit]:
            return Assignment("survey", fresh)
    if not pages:
        return None
    return Assignment("read", [ledger.document(one) for one, _ in pages], tuple(page for _, page in pages))


def fair_share(left: int, workers: int, most: int) -> int:
    """How many of the pages that are left one assignment takes: ever fewer, so that workers end together."""
    return max(min(most, -(-left // (SHARES * workers))), 1)


def _start_missing(batch: BatchRun) -> None:
    wanted = 1 if batch.alone else batch.plan.workers
    while len(batch.workers) < wanted:
        batch.workers.append(start(batch.make, batch.plan.threads))


# ---------------------------------------------------------------------------------------------------
# Hearing


def _hear(batch: BatchRun) -> None:
    """Note what the workers say, in one transaction, and bury the dead."""
    speakers = listen(batch.workers, LISTEN)
    with batch.ledger.changing() as db:
        for worker in speakers:
            try:
                for message in worker.hear():
                    batch.early_deaths = 0
                    note(batch.ledger, db, message, batch.plan.beside, batch.tell)
            except EOFError:
                _mourn(batch, db, worker)
    for worker in batch.workers:
        if worker.begun and time.monotonic() - worker.since > batch.plan.page_limit:
            worker.process.kill()  # it is buried, and its page counted, when its pipe shows it


def note(ledger: Ledger, db: sqlite3.Connection, message: Message, beside: bool, tell: Tell) -> None:
    """Write into the ledger what a worker has done."""
    what, number, page, value = message
    if what == "broken":
        raise value
    if what == "opened":
        ledger.opened(db, number, *value)
    elif what == "unreadable":
        ledger.failed(db, number, None, value)
        tell(f"error: {value}")
    elif what == "read":
        _note_page(ledger, db, number, page, value, beside, tell)
    elif what == "written":
        ledger.finished(db, number)
        for sentence in value:
            tell(f"note: {sentence}")


def _note_page(
    ledger: Ledger,
    db: sqlite3.Connection,
    number: int,
    page: int,
    record: Record,
    beside: bool,
    tell: Tell,
) -> None:
    is_last = ledger.read(db, number, page, record)
    if record.status == "error":
        tell(f"error: {record.error}")
    if is_last and not beside:
        ledger.finished(db, number)


def _mourn(batch: BatchRun, db: sqlite3.Connection, worker: Worker) -> None:
    """Bury a worker, and count its death against what it had begun."""
    bury(worker)
    batch.workers.remove(worker)
    if not worker.is_ready:
        batch.early_deaths += 1
        if batch.early_deaths >= EARLY_DEATHS * batch.plan.workers:
            raise BrokenRunError(
                f"workers end before they have read anything (exit code {worker.process.exitcode}): "
                "try fewer --workers, or see whether the memory is enough"
            )
    if worker.begun is None:
        return
    note_death(batch.ledger, db, *worker.begun, batch.plan.beside, batch.tell)


def note_death(
    ledger: Ledger, db: sqlite3.Connection, number: int, page: int, beside: bool, tell: Tell
) -> None:
    """Count a worker's death against the page it had begun (0: the document), and give up what kills."""
    deaths = ledger.died(db, number, page)
    one = ledger.document(number)
    name = f"{one.name}, page {page}" if page else one.name
    if deaths == DOUBTED:
        tell(f"warning: {name}: {deaths} workers died over it; it waits until all else is read")
    if deaths <= DOUBTED:
        return
    sentence = f"{name} was given up: {deaths} workers died or hung over it."
    if page:
        _note_page(ledger, db, number, page, packed(error_record(one.name, page, sentence)), beside, tell)
        return
    tell(f"error: {sentence}")
    if one.pages:
        ledger.finished(db, number)  # only its files could not be written, so its pages still count
    else:
        ledger.failed(db, number, None, sentence)
