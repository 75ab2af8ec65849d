"""Decides which waiting rows share a packed sequence, and which sequences share one attention product.

Everything here is arithmetic on lengths. Rows in a packed sequence are called documents. Packing is best fit:
every sequence starts with the document that has waited longest, so that none waits forever, and then takes
the largest document that still fits until none does.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Sequence
from itertools import pairwise

import numpy as np


def pack(
    lengths: Sequence[int], pictures: Sequence[int], capacity: int, max_pictures: int, sequences: int
) -> list[list[int]]:
    """Choose documents for `sequences` sequences of `capacity` positions; returns indices into `lengths`.

    `pictures` is the number of pictures of each document. A sequence holds at most `max_pictures` of them, or
    a single document that alone has more. Documents come in the order of their waiting, and the others go on
    waiting. There are fewer sequences where the documents do not suffice.
    """
    # documents not yet taken, shortest first
    by_length = sorted((length, i) for i, length in enumerate(lengths))
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
    """Take the largest document that fits, again and again; `more` pictures may still come."""
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
    """Choose an unpacked batch: the document that has waited longest, and its count - 1 nearest in length.

    Returns indices in the order of their waiting.
    """
    if not lengths:
        return []
    by_distance = sorted(range(1, len(lengths)), key=lambda i: (abs(lengths[i] - lengths[0]), i))
    nearest: list[int] = [0]
    for i in by_distance[: count - 1]:
        insort(nearest, i)
    return nearest


def cut_by_length(ascending: Sequence[int], groups: int) -> list[range]:
    """Cut ascending lengths into at most `groups` runs, so that padding each run to its longest costs least.

    The cost of a run of n documents whose longest has L positions is n L^2, the size of its attention scores.
    """
    if not len(ascending):
        return []
    # equal lengths always stay together
    lengths, firsts = np.unique(np.asarray(ascending), return_index=True)
    firsts = np.append(firsts, len(ascending))
    n = len(lengths)
    squares = np.square(lengths.astype(np.float64))
    start, end = np.arange(n)[:, None], np.arange(n)[None, :]
    count = firsts[1:][None, :] - firsts[:-1][:, None]
    # [start, end]: the cost of one run of the lengths start .. end
    cost = np.where(end >= start, count * squares[None, :], np.inf)
    best = cost[0]  # [end]: the cost of all lengths 0 .. end in one run
    cuts = [np.zeros(n, dtype=np.int64)]
    for _ in range(min(groups, n) - 1):
        # [start, end]: the best cost of everything before `start`, plus one more run
        before = np.concatenate([[0.0], best[:-1]])[:, None] + cost
        cuts.append(before.argmin(axis=0))
        best = before.min(axis=0)
    bounds = [n]
    for first in reversed(cuts):
        bounds.append(int(first[bounds[-1] - 1]) if bounds[-1] else 0)
    return [range(int(firsts[a]), int(firsts[b])) for a, b in pairwise(reversed(bounds)) if a < b]
