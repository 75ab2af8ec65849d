"""Packing: nothing lost, nothing over, nobody waits forever; and cuts that are the best possible."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanoocr.data.packing import alike, cut_by_length, pack

LINES = 4  # of a batch
documents = st.lists(st.tuples(st.integers(1, 100), st.integers(0, 4)), max_size=60)


@given(documents, st.integers(100, 300), st.integers(1, 6), st.integers(1, 8))
def test_lines_hold_what_they_may_and_no_document_twice(docs, capacity, max_pictures, lines):
    lengths, pictures = [d[0] for d in docs], [d[1] for d in docs]
    chosen = pack(lengths, pictures, capacity, max_pictures, lines)
    flat = [i for line in chosen for i in line]
    assert len(flat) == len(set(flat)) and all(chosen)
    assert len(chosen) <= lines and (len(chosen) == lines or len(flat) == len(docs))
    for line in chosen:
        assert sum(lengths[i] for i in line) <= capacity
        assert sum(pictures[i] for i in line) <= max_pictures or sum(pictures[i] > 0 for i in line) == 1
    if docs:
        assert 0 in chosen[0]  # what has waited longest comes first


@given(documents, st.integers(100, 200))
def test_a_line_is_closed_only_when_nothing_that_waits_fits(docs, capacity):
    lengths = [d[0] for d in docs]
    chosen = pack(lengths, [0] * len(docs), capacity, 1, 3)
    waiting = set(range(len(docs))) - {i for line in chosen for i in line}
    for line in chosen:
        room = capacity - sum(lengths[i] for i in line)
        assert all(lengths[i] > room for i in waiting)


@settings(deadline=None)
@given(st.sampled_from(["heavy tail", "all the same", "just over half", "two sizes"]), st.integers(0, 9))
def test_nobody_waits_forever(kind, seed):
    """A stream with the window of the loader: every line takes the oldest, so all leave by their turn."""
    rng = np.random.default_rng(seed)
    draw = {
        "heavy tail": lambda: int(min(512, 20 * (1 + rng.pareto(1.2)))),
        "all the same": lambda: 200,
        "just over half": lambda: int(rng.integers(257, 300)),
        "two sizes": lambda: 512 if rng.random() < 0.5 else 5,
    }[kind]
    waiting: list[tuple[int, int]] = []  # (length, the batch that takes it at the latest)
    for batch in range(30):
        while sum(length for length, _ in waiting) < 2 * LINES * 512:
            ahead = len(waiting)  # of these every batch that passes this document over takes one a line
            waiting.append((draw(), batch + ahead // LINES))
        chosen = pack([length for length, _ in waiting], [1] * len(waiting), 512, 64, LINES)
        gone = {i for line in chosen for i in line}
        assert len(chosen) == LINES
        waiting = [row for i, row in enumerate(waiting) if i not in gone]
        assert all(batch < latest for _, latest in waiting)


def test_a_realistic_mix_fills_the_lines():
    """Half short cards, pages, and text of all lengths: at least 97 % of the positions are real."""
    rng = np.random.default_rng(0)

    def draw() -> int:
        kind = rng.random()
        if kind < 0.5:
            return int(rng.integers(40, 120))
        return int(rng.integers(300, 1400)) if kind < 0.8 else int(rng.lognormal(5, 1)) % 2000 + 10

    waiting, real = [], 0
    for _ in range(40):
        while sum(waiting) < 2 * 8 * 2048:
            waiting.append(draw())
        chosen = pack(waiting, [1] * len(waiting), 2048, 64, 8)
        gone = {i for line in chosen for i in line}
        real += sum(waiting[i] for i in gone)
        waiting = [length for i, length in enumerate(waiting) if i not in gone]
    assert real / (40 * 8 * 2048) > 0.97


def test_alike_takes_the_oldest_and_the_nearest():
    assert alike([5, 9, 5, 1, 6], 3) == [0, 2, 4]
    assert alike([5, 9], 3) == [0, 1] and alike([], 3) == []


@given(st.lists(st.integers(1, 50), min_size=1, max_size=9), st.integers(1, 4))
def test_cuts_cost_the_least(lengths, groups):
    ascending = sorted(lengths)

    def cost(bounds) -> int:
        return sum((b - a) * ascending[b - 1] ** 2 for a, b in pairwise(bounds))

    runs = cut_by_length(ascending, groups)
    assert [i for run in runs for i in run] == list(range(len(ascending))) and len(runs) <= groups
    n = len(ascending)
    best = min(
        cost((0, *inner, n)) for count in range(min(groups, n)) for inner in combinations(range(1, n), count)
    )
    assert cost([0, *(run[-1] + 1 for run in runs)]) == pytest.approx(best)
