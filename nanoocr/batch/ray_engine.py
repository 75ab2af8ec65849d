"""A batch on Ray Data: actors read, and the driver keeps the same ledger as on one machine.

Ray may run a task twice or lose an actor; the ledger takes the first record of a page and drops a second, so
the output is the same. Rows are given out in rounds, so that one round's results are all that is on the way.
Ray itself is spoken to by a process of its own (`ray_process.py`), whose pipe this one listens to.
"""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from nanoocr import errors
from nanoocr.batch import shards
from nanoocr.batch.drive import Plan, Tell, note, note_death
from nanoocr.batch.ledger import Ledger
from nanoocr.batch.pool import start_deaf
from nanoocr.batch.ray_process import Nodes, Round, item_of, serve
from nanoocr.batch.record import Record
from nanoocr.batch.worker import MakeReader
from nanoocr.errors import BrokenRunError, UsageError

# Pages of one job of Ray, after which its actors end and load the model anew. With many workers a round of
# 20,000 is over before all have begun, and half their time is waiting (docs/scale.md).
ROUND, ROUND_PER_WORKER = 20_000, 1000
LOG = "ray.log"  # in the output folder: what Ray prints

LOOK_EVERY = 1.0  # seconds
START = 240.0  # seconds until Ray is there: two tries of starting one, on a busy machine
SILENT = 60.0  # seconds without a word
# Seconds for which a cluster may have no machine to read with: those that were taken away may be replaced.
EMPTY = 600.0
LEAVE = 30.0  # seconds for an orderly end


@dataclass
class Partner:
    """The process that speaks to Ray, and for how long it has not been well."""

    process: BaseProcess
    pipe: Connection
    limit: float  # seconds for which it may be silent
    silent: float = 0.0
    empty: float = 0.0
    nodes: Nodes = Nodes(is_ours_alive=True, readers=1)  # noqa: RUF009 - a tuple, which nobody can change


def drive_ray(
    ledger: Ledger,
    folder: Path,
    make: MakeReader,
    plan: Plan,
    tell: Tell,
    look: Callable[[], None],
    address: str | None,
) -> None:
    """Read all that is pending in the ledger on Ray, and write it to shards.

    Files beside need the ledger, so actors on other machines need the output folder on a shared file system.

    Raises:
        UsageError: Ray is not installed, or the cluster does not answer or is too small.
        BrokenRunError: Ray does not start, is lost, or hangs.
        NanoOCRError: what an actor cannot go on with.
    """
    if find_spec("ray") is None:
        raise UsageError("--engine=ray needs Ray: pip install 'nano-deepseek-ocr[batch]'")
    shards.begin(folder, ledger)
    partner = start(make, plan, address, folder / LOG)
    try:
        for _ in hear(partner, "ready"):
            look()
        partner.limit = SILENT
        while (job := next_round(ledger, max(ROUND, ROUND_PER_WORKER * plan.workers))).items:
            order(partner, job)
            for answers in hear(partner, "end"):
                if answers:
                    note_answers(ledger, answers, plan.beside, tell)
                    shards.flush(folder, ledger, plan.rows, plan.rows)
                look()
        partner.pipe.close()
        partner.process.join(LEAVE)
    finally:
        partner.process.kill()  # a Ray of our own ends with it
        partner.process.join()
    shards.finish(folder, ledger)


def start(make: MakeReader, plan: Plan, address: str | None, log: Path) -> Partner:
    """Start the process that speaks to Ray."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(theirs, make, plan, address, log), daemon=True)
    start_deaf(process)
    theirs.close()  # else the end of the process would not show in ours
    return Partner(process, ours, START)


def order(partner: Partner, job: Round) -> None:
    """Give it a round to do.

    Raises:
        BrokenRunError: it has died.
    """
    try:
        partner.pipe.send(job)
    except OSError as error:
        raise lost("its process has ended") from error


def hear(partner: Partner, until: str) -> Iterator[list[dict[str, Any]] | None]:
    """What it answers, until it says `until`; None about every second in which it answers nothing.

    Raises:
        BrokenRunError: it has died or hangs, or Ray has lost its machines.
        NanoOCRError: what it cannot go on with.
    """
    while True:
        # Time is counted in looks: by the clock, whoever woke up a sleeping machine would find Ray lost.
        if not partner.pipe.poll(LOOK_EVERY):
            partner.silent += LOOK_EVERY
            partner.empty += 0.0 if partner.nodes.readers else LOOK_EVERY
            check(partner)
            yield None
            continue
        try:
            what, value = partner.pipe.recv()
        except (EOFError, OSError) as error:
            raise lost("its process has ended") from error
        partner.silent = 0.0
        if what == until:
            return
        if what == "broken":
            raise value
        if what == "nodes":
            partner.nodes = value
            partner.empty = 0.0 if value.readers else partner.empty
            check(partner)
        else:
            partner.empty = 0.0
            yield value


def check(partner: Partner) -> None:
    """Raise BrokenRunError where Ray is not worth waiting for any longer."""
    if not partner.nodes.is_ours_alive:
        raise lost("the node of this machine has died, or was too busy to answer in time")
    if partner.silent >= partner.limit:
        raise lost(f"it has not answered for {partner.silent:.0f} seconds")
    if partner.empty >= EMPTY:
        raise lost(f"it has had no machine to read with for {partner.empty:.0f} seconds")


def lost(reason: str) -> BrokenRunError:
    """Ray is gone, or of no use any more."""
    return BrokenRunError(
        f"Ray is lost ({reason}; {LOG} in the output folder has its words): go on with --resume, on fewer "
        "--workers, or without Ray"
    )


def note_answers(ledger: Ledger, answers: Sequence[dict[str, Any]], beside: bool, tell: Tell) -> None:
    """Write into the ledger what an actor has answered about one block, in one transaction."""
    with ledger.changing() as db:
        for answer in answers:
            what, number, page = (answer[key] for key in ("what", "document", "page"))
            value = json.loads(answer["value"])
            if what == "broken":
                kind, said = value
                raise getattr(errors, kind)(said)
            if what == "died":
                for _ in range(value):
                    note_death(ledger, db, number, page, beside, tell)
                continue
            value = Record(*value) if what == "read" else value
            note(ledger, db, (what, number, page, value), beside, tell)


def next_round(ledger: Ledger, most: int = ROUND) -> Round:
    """What the ledger has to do next, at most so many items: files beside, then pages, then documents."""
    for alone in (False, True):
        if found := ledger.documents("read", 0, most, alone):
            return Round([item_of("beside", one, 0) for one in found], alone)
        if pages := ledger.waiting((0, 0), most, alone):
            known = {number: ledger.document(number) for number in dict(pages)}
            return Round([item_of("read", known[number], page) for number, page in pages], alone)
        if found := ledger.documents("pending", 0, most, alone):
            return Round([item_of("survey", one, 0) for one in found], alone)
    return Round([], False)
