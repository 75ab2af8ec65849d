"""An event loop that does nothing but look whether it runs in time, until its input ends.

python -m scripts.bench.heartbeat < /dev/null

Prints the longest time in seconds that it ran late: on a busy machine that is a wait for a processor.
"""

from __future__ import annotations

import asyncio
import sys

TICK = 0.02  # seconds between two looks, as in the server


async def listen() -> float:
    """The longest delay until the input ends."""
    loop, late = asyncio.get_running_loop(), 0.0
    ended = loop.run_in_executor(None, sys.stdin.read)
    while not ended.done():
        due = loop.time() + TICK
        await asyncio.sleep(TICK)
        late = max(late, loop.time() - due)
    return late


if __name__ == "__main__":
    print(f"{asyncio.run(listen()):.3f}")
