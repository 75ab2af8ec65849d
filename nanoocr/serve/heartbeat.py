"""Whether an event loop runs in time, and if not, whether the machine's other work is to blame.

A loop that wakes late has waited for a processor, or for this process: for Python's lock, a long piece of
work, the collector of garbage. Linux counts the first kind for each thread; the second is what is left.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

TICK = 0.02  # seconds between two looks
SCHEDULER = Path("/proc/thread-self/schedstat")


class Beat(NamedTuple):
    """How many seconds late the loop woke, and how many of these it did not wait for a processor."""

    late: float
    own: float


async def beats() -> AsyncIterator[Beat]:
    """A look at the running loop every TICK seconds, without end."""
    loop, before = asyncio.get_running_loop(), waited_for_processor()
    while True:
        due = loop.time() + TICK
        await asyncio.sleep(TICK)
        late, now = max(0.0, loop.time() - due), waited_for_processor()
        yield Beat(late, max(0.0, late - (now - before)))
        before = now


def waited_for_processor() -> float:
    """Seconds that this thread was ready to run and had no processor; 0 where the system does not tell."""
    try:
        return int(SCHEDULER.read_text().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0
