"""Lines of a page read side by side: each thread has lines of its own.

torch shares every product out over its threads. The products of strips are small, so that two threads spend
twice the processor and win a tenth of the time, and on a busy machine they wait for each other
(docs/log.md, "each thread has lines of its own"). Here no thread waits for another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

T = TypeVar("T")

# Letters for which a second thread is worth its start, and a fuller pass of the encoder would not be.
LEAST_LETTERS = 100
# Letters of a share at most: Ctrl-C waits until the shares that have begun are read.
MOST_LETTERS = 4_000


def shares_of(letters: Sequence[float], threads: int) -> list[list[int]]:
    """The places of all lines, dealt into shares that so many threads read; `letters` are about theirs."""
    total = sum(letters)
    shares = min(threads, int(total / LEAST_LETTERS))
    if shares > 1:
        # Several rounds of a long page, in each of which every thread has a share.
        shares *= max(1, round(total / (threads * MOST_LETTERS)))
    # Neighbours are about as long as each other, so dealing them out gives every share as much.
    dealt = [list(range(first, len(letters), shares)) for first in range(shares)]
    return [share for share in dealt if share] or [list(range(len(letters)))]


def side_by_side(work: Callable[[list[int]], T], shares: Sequence[list[int]], threads: int) -> list[T]:
    """What `work` makes of each share, in their order, by at most so many threads.

    Raises:
        Exception: whatever `work` raises, of the first share that fails.
    """
    if len(shares) == 1:
        return [work(shares[0])]
    with ThreadPoolExecutor(min(threads, len(shares))) as pool:
        return list(pool.map(work, shares))


@contextmanager
def undivided_products() -> Iterator[None]:
    """Products take one thread here, and in threads that start here, until the block is left."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
