"""What a command and all processes below it spend, seen from outside, whoever waits for them.

Of each process Linux tells how long its main thread ran and how long it waited for a processor
(/proc/PID/schedstat, in the kernel's Documentation/scheduler/sched-stats.rst). The wall time less that wait
is about what an idle machine would need. It is rather less there, since a worker that waits for another
process, which waits for a processor, does not count as waiting for one.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

LOOK_EVERY = 0.1  # seconds
# The processes that read: workers of the pool and actors of Ray. Of a command that has none it is itself.
READERS = re.compile(rb"spawn_main.*pipe_handle|ray::MapWorker")


class Cost(NamedTuple):
    """Of one command, in seconds; `unhindered`: wall time less what its readers waited for a processor."""

    wall: float
    cpu: float
    unhindered: float


@dataclass
class Seen:
    """One process, as it was when it was last looked at."""

    is_reader: bool
    cpu: float  # seconds of all its threads
    waited: float  # seconds of its main thread
    ran: float


def cost_of(command: Sequence[str]) -> Cost:
    """Run a command and look at its processes until it ends.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    seen: dict[int, Seen] = {}
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            for pid in _below(process.pid):
                _look(pid, seen)
            time.sleep(LOOK_EVERY)
    wall = time.perf_counter() - started
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    # The process that speaks to Ray is started like a worker, and reads nothing.
    readers = [one for one in seen.values() if one.is_reader] or [seen[process.pid]]
    most = max(one.ran for one in readers)
    waited = [one.waited for one in readers if one.ran > most / 4]
    return Cost(wall, sum(one.cpu for one in seen.values()), wall - sum(waited) / len(waited))


def _below(pid: int) -> list[int]:
    """A process and all below it."""
    found, left = [], [pid]
    while left:
        one = left.pop()
        found.append(one)
        try:
            for task in Path(f"/proc/{one}/task").iterdir():
                left += map(int, (task / "children").read_text().split())
        except OSError:
            continue  # it has ended meanwhile
    return found


def _look(pid: int, seen: dict[int, Seen]) -> None:
    try:
        about = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ran, waited, _ = Path(f"/proc/{pid}/schedstat").read_text().split()
        name = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return
    cpu = (int(about[11]) + int(about[12])) / os.sysconf("SC_CLK_TCK")  # fields 14 and 15 of proc(5)
    if name or pid not in seen:  # one that has just ended has no name any more
        seen[pid] = Seen(bool(READERS.search(name)), cpu, int(waited) / 1e9, int(ran) / 1e9)
