"""Whether Ray is still there.

Ray Data waits without end for a cluster that has lost its nodes, and Ray's own questions wait without end for
a control service (GCS) that hangs. So a thread of its own goes through Ray Data's blocks, another asks for
nodes, and the driver, which waits for neither, sees what both have said.
"""

from __future__ import annotations

import atexit
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from nanoocr.errors import BrokenRunError

T = TypeVar("T")

LOOK_EVERY = 1.0  # seconds
ASK_EVERY = 3.0
# Seconds without an answer. After 60 without its control service Ray ends our process itself, in the middle.
SILENT = 40.0
# Seconds for which a cluster may have no machine to read with: those that were taken away may be replaced.
EMPTY = 600.0
LEAVE = 30.0  # seconds for the end of a connection


class Nodes(NamedTuple):
    """What Ray says of its machines."""

    is_ours_alive: bool  # the one that the driver is on; without it the driver can start nothing
    readers: int  # living ones with processors


@dataclass
class Answers:
    """What the thread that asks has heard. The driver counts, so that a machine that slept is not lost."""

    count: int = 0
    last: Nodes = field(default_factory=lambda: Nodes(is_ours_alive=True, readers=1))


def nodes_of(ray: Any, ours: str) -> Nodes:
    """Ask Ray for its machines; `ours` is the id of the driver's node. May wait without end."""
    living = [node for node in ray.nodes() if node["Alive"]]
    return Nodes(
        is_ours_alive=any(node["NodeID"] == ours for node in living),
        readers=sum(node["Resources"].get("CPU", 0) > 0 for node in living),
    )


def watched(blocks: Callable[[], Iterable[T]], ask: Callable[[], Nodes]) -> Iterator[T | None]:
    """The blocks in the order in which they come, and None every second in which none does.

    Raises:
        BrokenRunError: Ray has not answered for SILENT seconds, the driver's node has died, or for EMPTY
            seconds no machine was left.
    """
    # Short, so that Ray Data holds work back where the driver is slower than the readers.
    came: queue.Queue[tuple[str, Any]] = queue.Queue(maxsize=2)
    done, answers = threading.Event(), Answers()
    threading.Thread(target=_fetch, args=(blocks, came), daemon=True).start()
    threading.Thread(target=_ask, args=(ask, answers, done), daemon=True).start()
    heard, silent, empty = 0, 0.0, 0.0
    try:
        while True:
            try:
                what, value = came.get(timeout=LOOK_EVERY)
            except queue.Empty:
                is_new, heard = answers.count > heard, answers.count
                silent = 0.0 if is_new else silent + LOOK_EVERY
                empty = 0.0 if answers.last.readers else empty + LOOK_EVERY
                _check(answers.last, silent, empty)
                yield None
                continue
            silent = empty = 0.0
            if what == "end":
                return
            if what == "error":
                raise value
            yield value
    finally:
        done.set()


def _fetch(blocks: Callable[[], Iterable[T]], came: queue.Queue[tuple[str, Any]]) -> None:
    try:
        for block in blocks():
            came.put(("block", block))
        came.put(("end", None))
    except BaseException as error:  # noqa: BLE001 - Ray raises SystemExit, too; the driver decides what it means
        came.put(("error", error))


def _ask(ask: Callable[[], Nodes], answers: Answers, done: threading.Event) -> None:
    while not done.wait(ASK_EVERY):
        try:
            answers.last = ask()
        except Exception:  # noqa: BLE001 - whatever it is, it is no answer
            continue
        answers.count += 1


def _check(nodes: Nodes, silent: float, empty: float) -> None:
    if not nodes.is_ours_alive:
        raise lost("the node of this machine has died, or was too busy to answer Ray")
    if silent >= SILENT:
        raise lost(f"it has not answered for {silent:.0f} seconds")
    if empty >= EMPTY:
        raise lost(f"no machine has been left to read with for {empty:.0f} seconds")


def lost(reason: str) -> BrokenRunError:
    """Ray is gone, or of no use any more."""
    return BrokenRunError(f"Ray is lost ({reason}): go on with --resume, on fewer --workers or without Ray")


def leave(ray: Any) -> None:
    """End the connection, and a Ray that we have started ourselves."""
    ending = threading.Thread(target=ray.shutdown, daemon=True)
    ending.start()
    ending.join(LEAVE)
    if ending.is_alive():
        # Ray would wait for its hanging processes once more when Python ends. It has a process that ends the
        # others as soon as ours is gone.
        atexit.register(_end)


def _end() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(BrokenRunError.exit_code)
