"""Worker processes as the driver sees them: started, given assignments, listened to, buried."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from nanoocr.batch.worker import Assignment, MakeReader, work

ASSIGNMENTS = 2  # assignments that a worker holds, so that it need not wait for the driver between two
HEARD_AT_ONCE = 256  # messages that are taken from one worker at once, so that the others are heard too

Message = tuple[str, int, int, Any]  # what, document, page, value


@dataclass
class Worker:
    """One process, its assignments in order, and what it is busy with."""

    process: BaseProcess
    pipe: Connection
    assignments: deque[Assignment] = field(default_factory=deque)
    is_ready: bool = False
    begun: tuple[int, int] | None = None  # document and page
    since: float = 0.0

    @property
    def has_room(self) -> bool:
        """Whether it can be given another assignment; one that still loads its model gets none."""
        return self.is_ready and len(self.assignments) < ASSIGNMENTS

    def give(self, assignment: Assignment) -> None:
        """Send an assignment. If the worker has died, that shows when it is listened to."""
        self.assignments.append(assignment)
        try:
            self.pipe.send(assignment)
        except OSError:
            return

    def hear(self) -> Iterator[Message]:
        """The messages that have come since. Raises EOFError if the worker has died."""
        for _ in range(HEARD_AT_ONCE):
            if not self.pipe.poll():
                return
            try:
                message = self.pipe.recv()
            except OSError as error:
                raise EOFError from error
            self._note(message)
            yield message

    def _note(self, message: Message) -> None:
        what, document, page, _ = message
        if what == "ready":
            self.is_ready = True
        elif what == "idle":
            self.assignments.popleft()
        self.begun = (document, page) if what == "begun" else None
        self.since = time.monotonic()


def start(make: MakeReader, threads: int) -> Worker:
    """Start a worker. It is spawned, because a fork of a process with threads may hang."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=work, args=(theirs, make, threads), daemon=True)
    start_deaf(process)
    theirs.close()  # otherwise our end would not notice when the worker ends
    return Worker(process, ours)


def start_deaf(process: BaseProcess) -> None:
    """Start a process that Ctrl-C does not reach: while Python begins there it would print a traceback."""
    if not hasattr(signal, "pthread_sigmask"):
        process.start()
        return
    resource_tracker.ensure_running()  # started later, it would take the mask off again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # which a child inherits
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def listen(workers: Sequence[Worker], seconds: float) -> list[Worker]:
    """The workers that have sent something or have died; waits at most so many seconds for the first."""
    said = set(map(id, wait([worker.pipe for worker in workers], seconds)))
    return [worker for worker in workers if id(worker.pipe) in said]


def bury(worker: Worker) -> None:
    """End a worker for good."""
    worker.process.kill()
    worker.process.join()
    worker.pipe.close()
