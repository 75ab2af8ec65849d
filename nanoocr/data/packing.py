"""Which waiting rows are packed into one sequence of the batch, and which sequences attend in one product.

Everything here is arithmetic on lengths. The rows that a sequence is packed with are called documents. The
packing is best fit: every sequence starts with the document that has waited longest, so that none waits
forever, and then takes the largest that still fits until none does.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Sequence
from itertools import pairwise

import numpy as np


def pack(
    lengths: Sequence[int], pictures: Sequence[int], capacity: int, max_pictures: int, sequences: int
) -> list[list[int]]:
    """Choose documents for so many `sequences` of `capacity` positions: for each its indices into `lengths`.

    `pictures` is the number of pictures of each document; a sequence holds at most `max_pictures` of them, or
    a single document that alone has more. Documents come in the order of their waiting; those that are not
    chosen go on waiting. There are fewer sequences where the documents do not suffice.
    """
    by_length = sorted((length, i) for i, length in enumerate(lengths))  # of those that are not yet taken
    packed: list[list[int]] = []
    taken: set[int] = set()
    for oldest, length in enumerate(lengths):
        if len(packed) == sequences:
            break
        if oldest not in taken:
            by_length.remove((length, oldest))
            room, more = capacity - length, max_pictures - pictures[oldest]
            sequence = [oldest, *_fill(by_length, pictures, room, more)]
            taken.update(sequence)
            packed.append(sequence)
    return packed


def _fill(by_length: list[tuple[int, int]], pictures: Sequence[int], room: int, more: int) -> list[int]:
    """Take the largest document that fits, again and again; `more` is how many pictures may still come."""
    sequence = []
    place = bisect_right(by_length, (room, len(pictures))) - 1
    while place >= 0:
        length, i = by_length[place]
        if length <= room and pictures[i] <= max(0, more):
            del by_length[place]
            sequence.append(i)
            room, more = room - length, more - pictures[i]
            place = min(place, bisect_right(by_length, (room, len(pictures)))) - 1
        else:
            place -= 1
    return sequence


def alike(lengths: Sequence[int], count: int) -> list[int]:
    """A batch without packing: what has waited longest, and the count - 1 documents nearest to it in length.

    Indices in the order of their waiting.
    """
    if not lengths:
        return []
    by_distance = sorted(range(1, len(lengths)), key=lambda i: (abs(lengths[i] - lengths[0]), i))
    nearest: list[int] = [0]
    for i in by_distance[: count - 1]:
        insort(nearest, i)
    return nearest


def cut_by_length(ascending: Sequence[int], groups: int) -> list[range]:
    """Cut ascending lengths into at most `groups` runs, so that padding each to its longest costs least.

    The cost of a run of n documents whose longest has L positions is n L^2, that of their attention scores.
    """
    if not len(ascending):
        return []
    lengths, firsts = np.unique(np.asarray(ascending), return_index=True)  # equal ones stay together
    firsts = np.append(firsts, len(ascending))
    n = len(lengths)
    squares = np.square(lengths.astype(np.float64))
    start, end = np.arange(n)[:, None], np.arange(n)[None, :]
    count = firsts[1:][None, :] - firsts[:-1][:, None]
    cost = np.where(end >= start, count * squares[None, :], np.inf)  # of a run of the lengths start .. end
    best = cost[0]  # of the lengths 0 .. end in one run
    cuts = [np.zeros(n, dtype=np.int64)]
    for _ in range(min(groups, n) - 1):
        # [start, end]: everything before start at its best, and one run more
        before = np.concatenate([[0.0], best[:-1]])[:, None] + cost
        cuts.append(before.argmin(axis=0))
        best = before.min(axis=0)
    bounds = [n]
    for first in reversed(cuts):
        bounds.append(int(first[bounds[-1] - 1]) if bounds[-1] else 0)
    return [range(int(firsts[a]), int(firsts[b])) for a, b in pairwise(reversed(bounds)) if a < b]
