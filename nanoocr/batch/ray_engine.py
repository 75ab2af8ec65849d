"""A batch on Ray Data: actors read, and the driver keeps the same ledger as on one machine.

Ray may run a task twice or lose an actor; the ledger takes the first record of a page and drops a second, so
the output is the same. Rows are given out in rounds, so that one round's results are all that is on the way.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa

from nanoocr.batch import shards
from nanoocr.batch.drive import Plan, Tell, note
from nanoocr.batch.ledger import Document, Ledger
from nanoocr.batch.worker import MakeReading, Task, answers
from nanoocr.errors import BrokenRunError, UsageError

ROUND = 5000  # tasks' items in one job of Ray
# Plain strings: Ray guesses the types of lists from each block, and then blocks do not fit together.
ANSWER = pa.schema(
    [("what", pa.string()), ("document", pa.int64()), ("page", pa.int64()), ("value", pa.string())]
)


class Actor:
    """What Ray keeps on a processor: one reader, made when it is first needed."""

    def __init__(self, make: MakeReading) -> None:
        self.reading = make()

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Answers to a block of (kind, document as JSON, page), each as plain strings."""
        said = []
        items = rows.to_pylist()
        for kind in dict.fromkeys(item["kind"] for item in items):
            own = [item for item in items if item["kind"] == kind]
            documents = [Document(*json.loads(item["document"])) for item in own]
            pages = tuple(item["page"] for item in own) if kind == "read" else ()
            tasks = (
                [Task(kind, [one]) for one in documents]
                if kind == "beside"
                else [Task(kind, documents, pages)]
            )
            for task in tasks:
                said += [
                    {"what": what, "document": number, "page": page, "value": json.dumps(value)}
                    for what, number, page, value in answers(task, self.reading)
                    if what != "begun"
                ]
        return pa.Table.from_pylist(said, schema=ANSWER)


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
        UsageError: Ray is not installed, or the cluster does not answer.
        BrokenRunError: an actor cannot be made, or the cluster is lost.
    """
    try:
        import ray
    except ModuleNotFoundError as error:
        raise UsageError("--engine=ray needs Ray: pip install 'nano-deepseek-ocr[batch]'") from error
    try:
        ray.init(address=address, ignore_reinit_error=True, logging_level=logging.ERROR, log_to_driver=False)
    except (ConnectionError, ValueError) as error:
        raise UsageError(f"--address={address}: no Ray answers there ({error})") from error
    shards.begin(folder, ledger)
    try:
        while items := next_round(ledger):
            for answer in run_round(items, make, plan):
                with ledger.changing() as db:
                    value = json.loads(answer["value"])
                    note(
                        ledger,
                        db,
                        (answer["what"], answer["document"], answer["page"], value),
                        plan.beside,
                        tell,
                    )
                shards.flush(folder, ledger, plan.rows, plan.rows)
                look()
    except ray.exceptions.RayError as error:
        reason = str(error).strip().splitlines()[-1][:300]
        raise BrokenRunError(f"Ray gave up ({reason}): mend that and go on with --resume") from error
    finally:
        ray.shutdown()
    shards.finish(folder, ledger)


def next_round(ledger: Ledger) -> list[dict[str, Any]]:
    """What the ledger has to do next, at most ROUND items: files beside, then pages, then documents."""
    for doubted in (False, True):
        if found := ledger.documents("read", 0, ROUND, doubted):
            return [_item("beside", one, 0) for one in found]
        if pages := ledger.waiting((0, 0), ROUND, doubted):
            known = {number: ledger.document(number) for number in dict(pages)}
            return [_item("read", known[number], page) for number, page in pages]
        if found := ledger.documents("pending", 0, ROUND, doubted):
            return [_item("survey", one, 0) for one in found]
    return []


def run_round(items: list[dict[str, Any]], make: MakeReading, plan: Plan) -> Iterable[dict[str, Any]]:
    """The answers to the items, in whatever order they come."""
    import ray

    blocks = max(1, min(len(items) // plan.pages_at_once, 4 * plan.workers))
    data = ray.data.from_items(items, override_num_blocks=blocks).map_batches(
        Actor,
        fn_constructor_args=(make,),
        batch_format="pyarrow",
        batch_size=plan.pages_at_once,
        # Half a processor: a pool that takes all of them leaves none to bring it rows.
        num_cpus=0.5,
        compute=ray.data.ActorPoolStrategy(size=plan.workers),
    )
    return data.iter_rows()


def _item(kind: str, document: Document, page: int) -> dict[str, Any]:
    return {"kind": kind, "document": json.dumps(document), "page": page}
