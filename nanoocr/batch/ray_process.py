"""The process that speaks to Ray for the driver.

It is one of its own because Ray ends the process that uses it, by exit code 1 and without a word, when its
node dies; because its calls hang for good when its processes do; and because it prints to stdout. So the
driver, which has the ledger, sees a pipe that closes or falls silent, and what Ray prints goes into a file.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from nanoocr.batch.drive import Plan, fair_share
from nanoocr.batch.ledger import DOUBTED, Document
from nanoocr.batch.ray_actor import Actor, Attempts
from nanoocr.batch.worker import MakeReader, end_with
from nanoocr.errors import BrokenRunError, NanoOCRError, UsageError

BATCHES_PER_TASK = 4  # at most; a task's results come when all of it is read, and are lost with it
CPUS = 0.5  # of an actor: a pool that takes all processors leaves none to bring it rows
ASK_EVERY = 3.0  # seconds
KNOCK = 10.0  # seconds for a cluster to take a connection
STARTS = 2  # tries of a Ray of our own: its helpers have 15 seconds to start, a number in its code
# What a Ray that we start gets, unless somebody has set it. Of itself it takes a node for dead that is late
# five times, and where readers keep all processors busy ours was.
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",  # else it tells its makers of each run
    "RAY_health_check_timeout_ms": "30000",
    "RAY_health_check_failure_threshold": "10",
}


class Round(NamedTuple):
    """What one job of Ray has to do; `alone`: all else is done, and the doubted are tried one by one."""

    items: list[dict[str, Any]]
    alone: bool


class Nodes(NamedTuple):
    """What Ray says of its machines."""

    is_ours_alive: bool  # the one that the driver is on; without it nothing can be started
    readers: int  # living ones with processors


def serve(pipe: Connection, make: MakeReader, plan: Plan, address: str | None, log: Path) -> None:
    """Connect to Ray, then run each round that comes, until the pipe is closed.

    What it sends: ("ready", None), ("nodes", Nodes) every few seconds, ("answers", list) for each block of a
    round, ("end", None) of it, ("broken", error).
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the driver ends us
    threading.Thread(target=end_with, args=(os.getppid(),), daemon=True).start()
    _write_into(log)
    lock = threading.Lock()

    def send(what: str, value: Any = None) -> None:
        """Tell the driver something; threads take turns at the pipe."""
        with lock:
            pipe.send((what, value))

    try:
        ray = connect(plan.workers, address)
        send("ready")
        threading.Thread(target=_ask, args=(ray, send), daemon=True).start()
        while True:
            for answers in run_round(pipe.recv(), make, plan):
                send("answers", answers)
            send("end")
    except EOFError:
        ray.shutdown()  # the driver is done
    except NanoOCRError as error:
        send("broken", error)
    except Exception as error:
        if not type(error).__module__.startswith("ray."):
            raise  # a defect of this code, whose trace the file keeps
        send("broken", BrokenRunError(f"Ray gave up ({last_line(error)}): mend that and go on with --resume"))


def _write_into(log: Path) -> None:
    """Send all that this process and its libraries print into a file."""
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(file, stream.fileno())


def _ask(ray: Any, send: Any) -> None:
    """Tell the driver every few seconds that Ray still answers, and what of its machines."""
    ours, pause = ray.get_runtime_context().get_node_id(), threading.Event()
    while not pause.wait(ASK_EVERY):
        try:
            send("nodes", nodes_of(ray.nodes(), ours))
        except OSError:
            return  # the driver has ended
        except Exception as error:  # noqa: BLE001 - whatever it is, it is no answer
            print(f"Ray did not answer: {error}", file=sys.stderr, flush=True)


def nodes_of(table: list[dict[str, Any]], ours: str) -> Nodes:
    """What a table of Ray's nodes says; `ours` is the id of the driver's."""
    living = [node for node in table if node["Alive"]]
    return Nodes(
        is_ours_alive=any(node["NodeID"] == ours for node in living),
        readers=sum(node["Resources"].get("CPU", 0) > 0 for node in living),
    )


# ---------------------------------------------------------------------------------------------------
# Connecting


def connect(workers: int, address: str | None) -> Any:
    """Ray, connected to a cluster, or to one of this machine with room for so many actors.

    Raises:
        UsageError: the cluster does not answer or is too small.
        BrokenRunError: a local Ray does not start.
    """
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)  # before the import, which reads them
    import ray

    if address:
        _knock(address)
        try:
            ray.init(address=address, log_to_driver=False)
        except Exception as error:  # Ray raises plain ones, too
            raise UsageError(
                f"--address={address}: no Ray answers there ({last_line(error)}): see whether `ray status` "
                "works here (a cluster with tokens needs RAY_AUTH_MODE=token and its ~/.ray/auth_token)"
            ) from error
    else:
        _start(ray, workers)
    ray.data.DataContext.get_current().enable_progress_bars = False
    there = ray.cluster_resources().get("CPU", 0)
    if workers * CPUS >= there:
        # Actors that find no place would be waited for without end.
        raise UsageError(
            f"--workers={workers} needs more than {workers * CPUS:g} processors, and the cluster has "
            f"{there:g}: name fewer --workers, or add machines"
        )
    return ray


def _knock(address: str) -> None:
    """Raise UsageError where nobody is at HOST:PORT; Ray itself would try for many minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdecimal()):
        return  # "auto", and whatever else Ray knows
    try:
        socket.create_connection((host.strip("[]"), int(port)), KNOCK).close()
    except (OSError, OverflowError) as error:
        raise UsageError(
            f"--address={address}: no Ray answers there ({error}): see whether `ray status` on that machine "
            "names this port"
        ) from error


def _start(ray: Any, workers: int) -> None:
    """A Ray of our own; what a busy machine was too slow for once may work the second time."""
    cpus = max(workers, os.cpu_count() or 1)
    for left in reversed(range(STARTS)):
        try:
            # By that address it is of our own whatever RAY_ADDRESS says.
            ray.init(address="local", num_cpus=cpus, include_dashboard=False, log_to_driver=False)
            return
        except Exception as error:
            print(f"Ray does not start: {error}", file=sys.stderr, flush=True)
            ray.shutdown()
            if not left:
                raise BrokenRunError(
                    f"Ray does not start here ({last_line(error)}): go on with --resume, or without Ray"
                ) from error


def last_line(error: BaseException) -> str:
    """The reason of Ray's error, which may be many lines."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return " ".join(lines[-1].split())[:300]


# ---------------------------------------------------------------------------------------------------
# Rounds


def run_round(job: Round, make: MakeReader, plan: Plan) -> Iterator[list[dict[str, Any]]]:
    """The answers to the items, a block at a time, in whatever order they come."""
    import ray

    at_once = 1 if job.alone else plan.pages_at_once
    workers = 1 if job.alone else plan.workers
    # It must outlive the actors whose deaths it counts, so it is one of its own.
    attempts = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Attempts).remote()
    deaths = 1 if job.alone else DOUBTED
    data = ray.data.from_arrow(cut(job.items, workers, at_once * BATCHES_PER_TASK)).map_batches(
        Actor,
        fn_constructor_args=(make, attempts, deaths, plan.threads, plan.page_limit, at_once),
        batch_format="pyarrow",
        batch_size=None,  # a task at a time; with a number Ray would join the small ones again
        num_cpus=CPUS,
        num_gpus=plan.gpus or None,
        compute=ray.data.ActorPoolStrategy(size=workers),
    )
    blocks: Any = data.iter_batches(batch_size=None, batch_format="pyarrow")  # tables, by that format
    for block in blocks:
        yield block.to_pylist()


def cut(items: list[dict[str, Any]], workers: int, most: int) -> list[pa.Table]:
    """The items of a round, cut into the tasks that actors get; the last ones are short."""
    tasks, first = [], 0
    while first < len(items):
        end = first + fair_share(len(items) - first, workers, most)
        tasks.append(pa.Table.from_pylist(items[first:end]))
        first = end
    return tasks


def item_of(kind: str, document: Document, page: int) -> dict[str, Any]:
    """A row of a round."""
    return {"kind": kind, "document": json.dumps(document), "page": page}
