"""The worker processes that make batches: their signals, their number, and their end."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from nanoocr.errors import DefectError


def shared_by(readers: int, workers: int) -> int:
    """The largest number of processes, up to `workers`, that divides the streams evenly.

    Requests go to the processes in turn, so a stream stays with one process if their number divides the
    streams.
    """
    return next((n for n in range(min(workers, readers), 0, -1) if readers % n == 0), 0)


def leave_signals_to_the_parent(worker: int) -> None:
    """Ignore Ctrl-C and SIGTERM, which reach the whole process group.

    The parent finishes its step, saves, and ends the workers.
    """
    os.setpgrp()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


@contextmanager
def ended_afterwards() -> Iterator[None]:
    """End the processes that were started inside the `with` block, whatever they are doing.

    They ignore SIGTERM, and Python waits for its children when it exits. Without this, a run that fails would
    wait for ever. Nobody needs their batches by then, so they are killed.
    """
    before = set(multiprocessing.active_children())
    try:
        yield
    finally:
        if mine := [child for child in multiprocessing.active_children() if child not in before]:
            kill(mine)


def kill(children: list[multiprocessing.process.BaseProcess]) -> None:
    """End the processes and wait until they are gone."""
    # torch treats a worker's death as an error, and raises it in whatever the main thread does just then.
    in_main_thread = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGCHLD, signal.SIG_DFL) if in_main_thread else None
    try:
        for child in children:
            child.kill()
        for child in children:
            child.join()
    finally:
        if handler is not None:
            signal.signal(signal.SIGCHLD, handler)


def defect_of(error: Exception) -> DefectError:
    """Turn an unforeseen exception into a value that can travel to another process."""
    return DefectError(in_a_line(error), traceback.format_exc())


def in_a_line(error: BaseException) -> str:
    """Format an error as `ValueError: message`: only its first line, and not too long."""
    lines = str(error).splitlines() or [""]
    said = lines[0] if len(lines[0]) <= 200 else lines[0][:200] + "..."
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
