"""What runs in Ray's processes: the actor that reads, and the count of pages that were begun and not ended.

Ray starts a task again without end where it kills its actor. So an actor says before each page that it begins
it; a page that others began and never ended is not read, and the driver hears how many it has killed.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections import Counter
from typing import Any

import pyarrow as pa

from nanoocr.batch.ledger import Document
from nanoocr.batch.worker import Assignment, MakeReader, PageReader, answers
from nanoocr.errors import NanoOCRError

# Plain strings: Ray guesses the types of lists from each block, and then blocks do not fit together.
ANSWER = pa.schema(
    [("what", pa.string()), ("document", pa.int64()), ("page", pa.int64()), ("value", pa.string())]
)

Key = tuple[int, int]  # document and page; 0 is the document itself


class Attempts:
    """An actor that counts how often a page was begun and not ended."""

    def __init__(self) -> None:
        self.open: Counter[Key] = Counter()

    def deaths(self, keys: list[Key]) -> list[int]:
        """How many have begun each of these and not come back."""
        return [self.open[key] for key in keys]

    def begin(self, key: Key) -> None:
        """Somebody begins this."""
        self.open[key] += 1

    def end(self, key: Key) -> None:
        """It is done, so that it has killed nobody."""
        self.open.pop(key, None)


class Actor:
    """One reader, loaded when the first page comes."""

    def __init__(
        self, make: MakeReader, attempts: Any, deaths: int, threads: int, page_limit: float, at_once: int
    ) -> None:
        os.environ["OMP_NUM_THREADS"] = str(threads)  # before whatever brings torch; Ray's own is 1
        self.reader: PageReader = make()
        self.attempts, self.deaths, self.at_once = attempts, deaths, at_once
        self.began = time.monotonic()
        self.is_busy = False
        threading.Thread(target=self._end_late, args=(page_limit,), daemon=True).start()

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Answers to a block of (kind, document as JSON, page), each as plain strings."""
        import ray

        items = [
            (item["kind"], Document(*json.loads(item["document"])), item["page"]) for item in rows.to_pylist()
        ]
        keys = [(document.id, page) for _, document, page in items]
        deaths = ray.get(self.attempts.deaths.remote(keys))
        said = [
            ("died", *key, count) for key, count in zip(keys, deaths, strict=True) if count >= self.deaths
        ]
        good = [item for item, count in zip(items, deaths, strict=True) if count < self.deaths]
        try:
            for first in range(0, len(good), self.at_once):
                for assignment in assignments_of(good[first : first + self.at_once]):
                    said += self._answers(assignment)
        except NanoOCRError as error:
            # As a value: Ray would make of the exception one of its own, and try the block once more.
            said.append(("broken", 0, 0, (type(error).__name__, str(error))))
        return block_of(said)

    def _answers(self, assignment: Assignment) -> list[tuple[str, int, int, Any]]:
        import ray

        if assignment.kind == "read":
            self.reader.load()
        said = []
        for answer in answers(assignment, self.reader):
            key = answer[1:3]
            self.is_busy = answer[0] == "begun"
            if self.is_busy:
                self.began = time.monotonic()
                ray.get(self.attempts.begin.remote(key))  # waited for: the next moment may be the last
            else:
                self.attempts.end.remote(key)
                said.append(answer)
        return said

    def _end_late(self, page_limit: float) -> None:
        # Ray would wait for a page that hangs; so its process ends, and that counts as a death.
        while not self.is_busy or time.monotonic() - self.began < page_limit:
            time.sleep(min(1.0, page_limit / 4))
        os._exit(1)


def block_of(said: list[tuple[str, int, int, Any]]) -> pa.Table:
    """Answers as Ray carries them."""
    told = [dict(zip(ANSWER.names, (*one[:3], json.dumps(one[3])), strict=True)) for one in said]
    return pa.Table.from_pylist(told, schema=ANSWER)


def assignments_of(items: list[tuple[str, Document, int]]) -> list[Assignment]:
    """The items as assignments: pages together, so that they share batches, and documents one by one."""
    pages = [(document, page) for kind, document, page in items if kind == "read"]
    assignments = [Assignment(kind, [document]) for kind, document, _ in items if kind != "read"]
    if pages:
        documents, numbers = zip(*pages, strict=True)
        assignments.append(Assignment("read", list(documents), tuple(numbers)))
    return assignments
