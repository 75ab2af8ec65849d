"""Only one process may write to a run's folder. `run.lock` names it; a lock without a holder is taken over.

A lock is held while its process lives. A process is identified by its pid and its start time, since pids are
reused. For a process on another machine we only see whether it touches the file, so a lock that nobody has
touched for LOST seconds belongs to nobody.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nanoocr.errors import UsageError

if TYPE_CHECKING:
    from nanoocr.train.distributed import (
        World,
    )  # Importing it at run time would load torch, even for a caller that only takes a lock.

LOCK = "run.lock"
TOUCH_EVERY = 20.0  # seconds
LOST = 300.0  # seconds without a touch, after which the other machine or its network counts as gone


@contextmanager
def locked(run: Path, world: World) -> Iterator[None]:
    """Keep other processes from writing to `run` during the `with` block; rank 0 holds the lock for all.

    Raises:
        UsageError: another process holds it; the error names the process and its machine.
    """
    refused = take(run) if world.is_main else ""
    if refused := next(filter(None, world.gather(refused)), ""):
        raise UsageError(refused)
    done = threading.Event()
    if world.is_main:
        threading.Thread(target=touch, args=(run / LOCK, done), daemon=True).start()
    try:
        yield
    finally:
        done.set()
        if world.is_main:
            give_back(run)


def take(run: Path, other: str = "another --run_name") -> str:
    """Write our name into the lock. Returns "", or a sentence about its holder that suggests `other`."""
    run.mkdir(parents=True, exist_ok=True)
    # `a+` neither empties a lock that somebody holds nor fails where there is none.
    with open(run / LOCK, "a+", encoding="utf-8") as file:
        # Lock the file for a moment, so that only one of two takes over a stale lock. Some file systems
        # cannot.
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        if holder := holder_of(file.read(), time.time() - os.fstat(file.fileno()).st_mtime):
            return (
                f"{run} is written by process {holder['pid']} on {holder['host']}: wait until it has ended, "
                f"or name {other} (if it is gone, delete {run / LOCK})"
            )
        # A file opened for appending writes at its end, which is now its start.
        file.truncate(0)
        file.write(json.dumps(myself()))
    return ""


def myself() -> dict[str, Any]:
    """What a lock says about this process."""
    return {"pid": os.getpid(), "host": socket.gethostname(), "born": born(os.getpid())}


def holder_of(text: str, age: float) -> dict[str, Any] | None:
    """Who holds a lock with content `text`, touched `age` seconds ago; None where nobody holds it."""
    try:
        said = json.loads(text)
        pid, host, then = int(said["pid"]), str(said["host"]), said["born"]
    except (ValueError, KeyError, TypeError):
        return None  # it is empty, or a kill cut the write short
    if host != socket.gethostname():
        return said if age < LOST else None
    try:
        # Signal 0 is not sent: the system only says whether the process is there.
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return None
    except PermissionError:
        pass  # the process exists and belongs to somebody else
    return said if born(pid) == then else None


def born(pid: int) -> str:
    """When a process started, by the system's clock; "" where there is no /proc."""
    try:
        about = Path(f"/proc/{pid}/stat").read_text()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
    # field 22 of proc(5); the name before it may hold blanks
    return f"{boot} {about.rpartition(')')[2].split()[19]}"


def touch(lock: Path, done: threading.Event) -> None:
    """Touch the lock now and then, to show other machines that its holder lives."""
    while not done.wait(TOUCH_EVERY):
        try:
            os.utime(lock)
        except OSError:
            return  # somebody deleted it by hand


def give_back(run: Path) -> None:
    """Remove our lock, and the run's folder if it is still empty."""
    try:
        # It may be another's by now, if this process was taken for dead.
        if json.loads((run / LOCK).read_bytes()) == myself():
            (run / LOCK).unlink()
        run.rmdir()
    except (OSError, ValueError):
        pass  # the folder holds something, or the lock is no longer ours
