"""An event loop that does nothing but look whether it runs in time, until its input ends.

python -m scripts.bench.heartbeat < /dev/null

Prints the longest time in seconds that it ran late, and the longest without the wait for a processor.
"""

from __future__ import annotations

import asyncio
import sys

from nanoocr.serve.heartbeat import Beat, beats


async def listen() -> Beat:
    """The longest delays until the input ends."""
    longest = Beat(0.0, 0.0)
    ended = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    async for beat in beats():
        longest = Beat(max(longest.late, beat.late), max(longest.own, beat.own))
        if ended.done():
            break
    return longest


if __name__ == "__main__":
    found = asyncio.run(listen())
    print(f"{found.late:.3f} {found.own:.3f}")
