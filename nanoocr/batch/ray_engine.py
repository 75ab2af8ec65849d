"""A batch on Ray Data: actors read, and the driver keeps the same ledger as on one machine.

Ray may run a task twice or lose an actor; the ledger takes the first record of a page and drops a second, so
the output is the same. Rows are given out in rounds, so that one round's results are all that is on the way.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from nanoocr.batch import shards
from nanoocr.batch.drive import Plan, Tell, note, note_death
from nanoocr.batch.ledger import DOUBTED, Document, Ledger
from nanoocr.batch.ray_actor import Actor, Attempts
from nanoocr.batch.record import Record
from nanoocr.batch.worker import MakeReading
from nanoocr.errors import BrokenRunError, UsageError

# Pages of one job of Ray, after which its actors end and load the model anew. With many workers a round of
# 20,000 is over before all have begun, and half their time is waiting (docs/scale.md).
ROUND, ROUND_PER_WORKER = 20_000, 1000
BATCHES_PER_TASK = 4  # a task's results come when all of it is read, and are lost with it
CPUS = 0.5  # per actor; a pool that takes all processors leaves none to bring it rows


class Round(NamedTuple):
    """What one job of Ray has to do; `alone`: all else is done, and the doubted are tried one by one."""

    items: list[dict[str, Any]]
    alone: bool


def drive_ray(
    ledger: Ledger,
    folder: Path,
    make: MakeReading,
    plan: Plan,
    tell: Tell,
    look: Callable[[], None],
    address: str | None,
) -> None:
    """Read all that is pending in the ledger on Ray, and write it to shards.

    Files beside need the ledger, so actors on other machines need the output folder on a shared file system.

    Raises:
        UsageError: Ray is not installed, or the cluster does not answer or is too small.
        BrokenRunError: an actor cannot be made, or the cluster is lost.
    """
    ray = _connect(plan.workers, address)
    shards.begin(folder, ledger)
    try:
        while (job := next_round(ledger, max(ROUND, ROUND_PER_WORKER * plan.workers))).items:
            for answers in run_round(job, make, plan):
                note_answers(ledger, answers, plan.beside, tell)
                shards.flush(folder, ledger, plan.rows, plan.rows)
                look()
    except ray.exceptions.RayError as error:
        reason = str(error).strip().splitlines()[-1][:300]
        raise BrokenRunError(f"Ray gave up ({reason}): mend that and go on with --resume") from error
    finally:
        ray.shutdown()
    shards.finish(folder, ledger)


def _connect(workers: int, address: str | None) -> Any:
    """Ray, connected to a cluster, or to one of this machine with room for so many actors."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # else it tells its makers of each run
    try:
        import ray
    except ModuleNotFoundError as error:
        raise UsageError("--engine=ray needs Ray: pip install 'nano-deepseek-ocr[batch]'") from error
    local: dict[str, Any] = {"num_cpus": max(workers, os.cpu_count() or 1), "include_dashboard": False}
    try:
        ray.init(
            address=address,
            logging_level=logging.ERROR,
            log_to_driver=False,
            **({} if address else local),
        )
    except Exception as error:  # Ray raises plain ones, too
        reason = " ".join(str(error).split())[:300]
        if address:
            raise UsageError(f"--address={address}: no Ray answers there ({reason})") from error
        raise BrokenRunError(
            f"Ray does not start here ({reason}): go on with --resume, or without Ray"
        ) from error
    ray.data.DataContext.get_current().enable_progress_bars = False
    there = ray.cluster_resources().get("CPU", 0)
    if workers * CPUS >= there:
        ray.shutdown()
        # Actors that find no place would be waited for without end.
        raise UsageError(
            f"--workers={workers} needs more than {workers * CPUS:g} processors, and the cluster has "
            f"{there:g}: name fewer --workers, or add machines"
        )
    return ray


def note_answers(ledger: Ledger, answers: Sequence[dict[str, Any]], beside: bool, tell: Tell) -> None:
    """Write into the ledger what an actor has answered about one block, in one transaction."""
    with ledger.changing() as db:
        for answer in answers:
            what, number, page = (answer[key] for key in ("what", "document", "page"))
            value = json.loads(answer["value"])
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
            return Round([_item("beside", one, 0) for one in found], alone)
        if pages := ledger.waiting((0, 0), most, alone):
            known = {number: ledger.document(number) for number in dict(pages)}
            return Round([_item("read", known[number], page) for number, page in pages], alone)
        if found := ledger.documents("pending", 0, most, alone):
            return Round([_item("survey", one, 0) for one in found], alone)
    return Round([], False)


def run_round(job: Round, make: MakeReading, plan: Plan) -> Iterator[list[dict[str, Any]]]:
    """The answers to the items, a block at a time, in whatever order they come."""
    import ray

    at_once = 1 if job.alone else plan.pages_at_once
    workers = 1 if job.alone else plan.workers
    # It must outlive the actors whose deaths it counts, so it is one of its own.
    attempts = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Attempts).remote()
    deaths = 1 if job.alone else DOUBTED
    data = ray.data.from_items(
        job.items, override_num_blocks=-(-len(job.items) // (at_once * BATCHES_PER_TASK))
    ).map_batches(
        Actor,
        fn_constructor_args=(make, attempts, deaths, plan.threads, plan.page_limit),
        batch_format="pyarrow",
        batch_size=at_once,
        num_cpus=CPUS,
        num_gpus=plan.gpus or None,
        compute=ray.data.ActorPoolStrategy(size=workers),
    )
    blocks: Any = data.iter_batches(batch_size=None, batch_format="pyarrow")  # tables, by that format
    for block in blocks:
        yield block.to_pylist()


def _item(kind: str, document: Document, page: int) -> dict[str, Any]:
    return {"kind": kind, "document": json.dumps(document), "page": page}
