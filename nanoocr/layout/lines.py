"""Pieces of ink become runs of letters, and runs that lie on one baseline become lines.

Everything here happens on an upright, level page. A letter is linked with its nearest neighbour to the right
when both choose each other; so a row never branches into the row below.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nanoocr.layout.components import Boxes, chain_labels, group_extent, group_quantile

SMALLEST = 5  # pixels of height below which a piece of ink is a mark and starts no line
LETTER_GAP = 1.1  # of the taller letter's height: what a blank inside a run of letters has at most
RUN_GAP = 1.5  # of the cap height: what a blank between two runs of one line has at most


@dataclass(frozen=True)
class Runs:
    """N runs of letters. All arrays (N,)."""

    box: Boxes
    base: np.ndarray  # y of the baseline
    cap: np.ndarray  # height of the taller letters above it
    letters: np.ndarray  # how many

    def __len__(self) -> int:
        return len(self.base)

    def take(self, which: np.ndarray) -> Runs:
        """The runs that an index or mask array names."""
        return Runs(self.box.take(which), self.base[which], self.cap[which], self.letters[which])


def letter_like(boxes: Boxes, page_height: int) -> np.ndarray:
    """Which boxes may be letters or words whose letters touch: (N,) bool. The rest are marks, rules, pictures."""
    width, height = boxes.width, boxes.height
    typical = typical_height(boxes)
    fits = (height >= SMALLEST) & (height < 0.5 * page_height + 20) & (height < 12 * typical)
    shape = (width < 15 * height) & (height < 15 * width)
    solid = boxes.area > 0.06 * width * height
    return fits & shape & solid


def typical_height(boxes: Boxes) -> float:
    """The height of most letters of a page, in pixels."""
    likely = (boxes.height >= SMALLEST) & (boxes.width < 3 * boxes.height) & (boxes.height < 6 * boxes.width)
    return float(np.median(boxes.height[likely])) if likely.any() else float(SMALLEST)


def find_chains(letters: Boxes) -> tuple[np.ndarray, Runs]:
    """Joins letters that follow each other without a wide blank: the number of each one's run (N,), the runs."""
    chain, count = _link(letters, letters.y1, letters.height, LETTER_GAP, largest_ratio=2.6)
    return chain, measure_runs(letters, chain, count)


def find_runs(letters: Boxes) -> tuple[np.ndarray, Runs]:
    """Joins letters to runs, then runs across blanks between words: the number of each one's run, the runs."""
    chain, runs = find_chains(letters)
    for _ in range(2):
        joined, count = _link(runs.box, runs.base, runs.cap, RUN_GAP, largest_ratio=1.8)
        chain = joined[chain]
        runs = measure_runs(letters, chain, count)
    return chain, runs


def link_rows(runs: Runs) -> tuple[np.ndarray, int]:
    """Joins runs that stand beside each other at any distance: the number of each one's row, how many rows."""
    return _link(runs.box, runs.base, runs.cap, np.inf, largest_ratio=1.9)


def nearest_gaps(letters: Boxes) -> np.ndarray:
    """The blank to each letter's nearest neighbour in its own row, in pixels (N,); inf where it has none."""
    left, right = _neighbours(letters, letters.height, reach=3)
    overlap = np.minimum(letters.y1[left], letters.y1[right]) - np.maximum(
        letters.y0[left], letters.y0[right]
    )
    fits = overlap > 0.4 * np.minimum(letters.height[left], letters.height[right])
    gap = np.maximum(letters.x0[right] - letters.x1[left], 0)[fits]
    nearest = np.full(len(letters), np.inf)
    np.minimum.at(nearest, left[fits], gap)
    np.minimum.at(nearest, right[fits], gap)
    return nearest


def measure_runs(letters: Boxes, chain: np.ndarray, count: int) -> Runs:
    """Baseline and letter height of each run, by quantiles: descenders and dots do not move them."""
    base = group_quantile(letters.y1, chain, count, 0.5)
    rise = base[chain] - letters.y0
    cap = np.maximum(group_quantile(rise, chain, count, 0.8), 3.0)
    return Runs(group_extent(letters, chain, count), base, cap, np.bincount(chain, minlength=count))


def _link(
    boxes: Boxes, base: np.ndarray, height: np.ndarray, largest_gap: float, largest_ratio: float
) -> tuple[np.ndarray, int]:
    """Chains of boxes that follow each other from left to right, by mutual choice of the cheapest neighbour."""
    left, right = _neighbours(boxes, height)
    gap = boxes.x0[right] - boxes.x1[left]
    taller = np.maximum(height[left], height[right])
    shorter = np.minimum(height[left], height[right])
    overlap = np.minimum(boxes.y1[left], boxes.y1[right]) - np.maximum(boxes.y0[left], boxes.y0[right])
    lower = np.minimum(boxes.height[left], boxes.height[right])
    fits = (gap <= largest_gap * taller) & (gap > -0.7 * taller) & (boxes.x1[right] > boxes.x1[left])
    fits &= (overlap > 0.4 * lower) & (taller < largest_ratio * shorter)
    left, right, gap, taller = left[fits], right[fits], gap[fits], taller[fits]
    cost = np.maximum(gap, 0) + 1.5 * np.abs(base[left] - base[right])
    best_right = _cheapest(left, right, cost, len(boxes))
    best_left = _cheapest(right, left, cost, len(boxes))
    index = np.arange(len(boxes))
    mutual = (best_right >= 0) & (best_left[best_right] == index)
    return chain_labels(np.where(mutual, best_right, index))


def _cheapest(own: np.ndarray, other: np.ndarray, cost: np.ndarray, count: int) -> np.ndarray:
    """For each item the other one of its cheapest pair, or -1."""
    best = np.full(count, -1, dtype=np.int64)
    order = np.argsort(-cost, kind="stable")
    best[own[order]] = other[order]  # the cheapest pair is written last and stays
    return best


def _neighbours(boxes: Boxes, height: np.ndarray, reach: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (left, right) of boxes that share a row of the page and stand among the next `reach` of it."""
    if len(boxes) < 2:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    row_height = max(float(np.median(height)) / 2, 3.0)
    first = (boxes.y0 // row_height).astype(np.int64)
    # Tall boxes are entered in 40 rows at most: pictures must not fill the memory.
    rows = np.minimum((boxes.y1 // row_height).astype(np.int64) - first + 1, 40)
    index = np.repeat(np.arange(len(boxes)), rows)
    row = np.repeat(first, rows) + np.arange(len(index)) - np.repeat(np.cumsum(rows) - rows, rows)
    order = np.lexsort((boxes.x0[index], row))
    index, row = index[order], row[order]
    pairs = [
        (index[:-step][same], index[step:][same])
        for step in range(1, min(reach, len(index) - 1) + 1)
        for same in [row[:-step] == row[step:]]
    ]
    return np.concatenate([pair[0] for pair in pairs]), np.concatenate([pair[1] for pair in pairs])
