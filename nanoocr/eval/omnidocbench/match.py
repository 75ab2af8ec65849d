"""Matches pieces of the truth with pieces of the prediction: OmniDocBench's "quick match".

There are four steps. Adjacent predictions are merged if together they look like one piece of the truth. A
Hungarian assignment on normalised edit distance pairs what fits. Pieces of the truth that stand inside a
predicted piece are added to it. The rest is paired as well as possible. This behaves as
opendatalab/OmniDocBench (`utils/match_quick.py`) in both versions. It is written anew around one fact: the
distances of two windows that are n places apart differ by at most 2n, so most of the official code's windows
need not be looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import cdist

from nanoocr.errors import UsageError
from nanoocr.eval.omnidocbench.extract import Version

CERTAIN = 0.25  # A pair nearer than this is certain, and its pieces are not merged with others.
MERGE = 0.6  # A neighbour may be merged if some window of the truth is nearer to it than this.
INSIDE = 0.4  # A left-over truth lies inside a prediction if some window is nearer than this.
WORST_PAIR = 0.7  # A pair farther than this is no pair.
# The official code gives up after 30 s and then assigns without merging. A limit on comparisons gives the
# same numbers on every machine. Where it is reached, the official code is slower and gives up too.
MOST_COMPARISONS = 250_000


class Match(NamedTuple):
    """Pieces of the truth and of the prediction that belong together, by number; one side may be empty."""

    truths: tuple[int, ...]
    found: tuple[int, ...]


class TooManyPieces(Exception):  # noqa: N818 (nobody's mistake: the caller then assigns plainly)
    """There are so many pieces that looking for neighbours to merge would take minutes."""


def quick_match(truths: Sequence[str], found: Sequence[str], version: Version) -> list[Match]:
    """Match normalised, non-empty pieces, with the official shortcuts for none and for one.

    Raises:
        TooManyPieces: the caller should use plain_match.
    """
    if not truths:
        return [Match((), (j,)) for j in range(len(found))]
    if not found:
        return [Match((i,), ()) for i in range(len(truths))]
    if len(truths) == len(found) == 1:
        return [Match((0,), (0,))]
    return adjacency_match(truths, found, version)


def adjacency_match(truths: Sequence[str], found: Sequence[str], version: Version) -> list[Match]:
    """Merge, assign, look inside, and pair the rest.

    Raises:
        TooManyPieces: the caller should use plain_match.
    """
    groups, cost = merge_neighbours(truths, found)
    paired = {row: groups[column] for row, column in assign(cost) if cost[row, column] <= WORST_PAIR}
    lost = [i for i in range(len(truths)) if i not in paired]
    by_found: dict[tuple[int, ...], list[int]] = {}
    for i in sorted(paired):
        by_found.setdefault(paired[i], []).append(i)
    taken: set[int] = set()
    for j, text in enumerate(found):
        inside = [i for i in lost if nearest_window(truths[i], text, INSIDE) < INSIDE]
        if inside:
            # A prediction whose truths were all taken by an earlier one keeps its entry, because it counts as
            # used.
            by_found.setdefault((j,), []).extend(i for i in inside if i not in taken)
            taken.update(inside)
    entries = [(i, group) for group, members in by_found.items() for i in sorted(members)]
    return collect(entries + rest(truths, found, by_found, version), len(truths), version)


def plain_match(truths: Sequence[str], found: Sequence[str]) -> list[Match]:
    """Only the assignment. Each prediction beyond it becomes a match without truth."""
    pairs = dict(assign(distances(truths, found))) if truths and found else {}
    matches = [Match((i,), (pairs[i],) if i in pairs else ()) for i in range(len(truths))]
    used = set(pairs.values())
    surplus = tuple(j for j in range(len(found)) if j not in used)
    return [*matches, Match((), surplus)] if surplus else matches


def distances(truths: Sequence[str], found: Sequence[str]) -> np.ndarray:
    """(len(truths), len(found)) float64: Levenshtein / longer length, 0 for two empty texts."""
    if not truths or not found:
        return np.zeros((len(truths), len(found)))
    counts = cdist(truths, found, scorer=Levenshtein.distance, dtype=np.int32)
    longest = np.maximum.outer([len(t) for t in truths], [len(f) for f in found])
    return counts / np.maximum(longest, 1)


def distance(truth: str, found: str) -> float:
    """Levenshtein / longer length for one pair, in which at least one text is not empty."""
    return Levenshtein.distance(truth, found) / max(len(truth), len(found))


def assign(cost: np.ndarray) -> list[tuple[int, int]]:
    """The pairs (row, column) of the cheapest assignment.

    Raises:
        UsageError: scipy is not installed.
    """
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError as error:
        raise UsageError("OmniDocBench needs the extra: pip install 'nano-deepseek-ocr[eval]'") from error
    rows, columns = linear_sum_assignment(cost)
    return list(zip(rows.tolist(), columns.tolist()))


def nearest_window(needle: str, text: str, limit: float) -> float:
    """How near `needle` comes to any stretch of `text` of its own length: Levenshtein / length.

    The value is exact only as far as it decides: some value below `limit` if there is one, else `limit` if
    that is reached, else infinity. It is also infinity for a needle longer than the text.
    """
    length = len(needle)
    if not length or length > len(text):
        return float("inf")
    most = int(limit * length) + 1  # this many errors still count as near
    while most / length > limit:
        most -= 1
    best = float("inf")
    start = 0
    while start <= len(text) - length:
        errors = Levenshtein.distance(needle, text[start : start + length])
        if errors / length < limit:
            return errors / length
        if errors <= most:
            best = limit
        # One place further on, the distance is at most 2 smaller, so the next windows cannot be near yet.
        start += max(1, (errors - most + 1) // 2)
    return best


# ---------------------------------------------------------------------------------------------------------
# Merging neighbours


class Group(NamedTuple):
    """Adjacent predictions that one piece of the truth wants, and their distance."""

    members: tuple[int, ...]
    cost: float


def merge_neighbours(truths: Sequence[str], found: Sequence[str]) -> tuple[list[tuple[int, ...]], np.ndarray]:
    """Group the predictions, in order; also returns the distances (truths, groups) to their joined texts.

    Raises:
        TooManyPieces: there would be more than MOST_COMPARISONS comparisons.
    """
    if len(truths) * len(found) > MOST_COMPARISONS:
        raise TooManyPieces
    cost = distances(truths, found)
    certain_truths, certain_found = (set(side.tolist()) for side in np.nonzero(cost < CERTAIN))
    starts = [j for j in range(len(found)) if j not in certain_found]
    wishes = []
    comparisons = 0
    for i, truth in enumerate(truths):
        best = None
        windows = _Windows(truth)
        for j in starts if i not in certain_truths else ():
            group = _grow(truth, found, j, certain_found, windows)
            comparisons += len(group.members)
            if comparisons > MOST_COMPARISONS:
                raise TooManyPieces
            best = group if best is None or group.cost < best.cost else best
        wishes += [best] if best else []
    merged = {group[0]: group for group in choose_groups(wishes)}
    if not any(len(group) > 1 for group in merged.values()):
        return [(j,) for j in range(len(found))], cost
    in_order: list[tuple[int, ...]] = []
    j = 0
    while j < len(found):
        in_order.append(merged.get(j, (j,)))
        j = in_order[-1][-1] + 1
    return in_order, distances(truths, [" ".join(found[j] for j in group) for group in in_order])


class _Windows(dict[str, float]):
    """nearest_window of one truth to each predicted text, computed once and only when needed."""

    def __init__(self, truth: str) -> None:
        self.truth = truth

    def __missing__(self, found: str) -> float:
        self[found] = nearest_window(found, self.truth, MERGE)
        return self[found]


def _grow(
    truth: str, found: Sequence[str], start: int, barred: set[int], windows: Mapping[str, float]
) -> Group:
    """Extend the group from `start` on, while each next prediction brings its text nearer to the truth."""
    joined, cost = found[start], distance(truth, found[start])
    end = start + 1
    while end < len(found) and end not in barred:
        longer = f"{joined} {found[end]}"
        longer_cost = distance(truth, longer)
        if longer_cost > cost or windows[found[start]] > MERGE or windows[found[end]] >= MERGE:
            break
        joined, cost, end = longer, longer_cost, end + 1
        if len(joined) > len(truth):
            break
    return Group(tuple(range(start, end)), cost)


def choose_groups(wishes: Sequence[Group]) -> list[tuple[int, ...]]:
    """Choose groups without overlap: of each run of overlapping wishes the cheapest compatible set (mean)."""
    groups: list[tuple[int, ...]] = []
    run: list[Group] = []
    for wish in sorted(wishes, key=lambda wish: wish.members[0]):
        if run and not any(_overlap(wish, other) for other in run):
            groups += _cheapest(run)
            run = []
        run.append(wish)
    return groups + (_cheapest(run) if run else [])


def _cheapest(run: Sequence[Group]) -> list[tuple[int, ...]]:
    """Build sets in the order of the run: a wish joins each set that it does not overlap, or starts one."""
    sets: list[list[Group]] = []
    for wish in run:
        placed = False
        for members in sets:
            twin = next((other for other in members if other.members == wish.members), None)
            if twin is not None:
                placed = True
                if twin.cost > wish.cost:
                    members.remove(twin)
                    members.append(wish)
            elif not any(_overlap(wish, other) for other in members):
                placed = True
                members.append(wish)
        if not placed:
            sets.append([wish])
    best = min(sets, key=lambda members: sum(group.cost for group in members) / len(members))
    return [group.members for group in best]


def _overlap(one: Group, other: Group) -> bool:
    return one.members[0] <= other.members[-1] and other.members[0] <= one.members[-1]


# ---------------------------------------------------------------------------------------------------------
# The rest, and one match per group

Entry = tuple[int | None, tuple[int, ...]]  # a truth and the predictions that belong to it


def rest(
    truths: Sequence[str], found: Sequence[str], by_found: dict[tuple[int, ...], list[int]], version: Version
) -> list[Entry]:
    """Entries of the truths and predictions without a group, paired with each other if both exist."""
    # Ties in the assignment depend on the order of the official code's sets, so these are built the same way.
    lost = list(set(range(len(truths))) - set().union(*(set(members) for members in by_found.values())))
    surplus = list(set(range(len(found))) - {j for group in by_found for j in group})
    if not surplus:
        return [(i, ()) for i in lost]
    if not lost:
        return [(None, tuple(surplus))]
    measure: Callable[[str, str], float] = Levenshtein.distance if version == "1.0" else distance
    cost = np.array([[measure(truths[i], found[j]) for j in surplus] for i in lost], dtype=np.float64)
    return [(lost[row], (surplus[column],)) for row, column in assign(cost)]


def collect(entries: Sequence[Entry], count: int, version: Version) -> list[Match]:
    """One match per group of predictions, then the truths without any.

    v1.0 counts a truth twice if it is left over while no prediction is. This mistake is part of its numbers.
    """
    by_group: dict[tuple[int, ...], list[int]] = {}
    alone: list[int] = []
    for truth, group in entries:
        members = by_group.setdefault(group, []) if group else alone
        if truth is not None:
            members.append(truth)
    matches = [Match(tuple(members), group) for group, members in by_group.items()]
    seen = {i for match in matches for i in match.truths}
    missing = [i for i in range(count) if i not in seen]
    twice = [i for i in alone if i not in seen] if version == "1.0" else []
    return matches + [Match((i,), ()) for i in [*twice, *missing]]
