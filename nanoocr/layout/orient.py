"""How a page lies: its turn by quarters, and its tilt, judged by how letters follow each other.

Letters of one word stand closer together than lines do, and they share a baseline. Chains of neighbours
therefore run along the lines, whatever the tilt. A page that stands on its head is told by its lower-case
letters alone: more of them rise above their neighbours than hang below. Capitals and digits do not tell it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nanoocr.layout.components import Boxes, group_quantile, weighted_median
from nanoocr.layout.lines import Runs, find_chains

MORE = 1.3  # the other direction is believed if it has this many times as many letters in lines


def share_in_lines(letters: Boxes) -> float:
    """The share of letters (N boxes) that stand in level lines, 0 to 1."""
    if not len(letters):
        return 0.0
    return _in_lines(find_chains(letters)[1]) / len(letters)


def stands_on_side(letters: Boxes, size: tuple[int, int]) -> bool:
    """Whether letters (N boxes) on a page of `size` (height, width) form lines from top to bottom."""
    if len(letters) < 2:
        return False
    # A short word on its head is no regular line: each way counts by the better of its two positions.
    zero, one, two, three = (
        _in_lines(find_chains(turn_boxes(letters, turns, size))[1]) for turns in range(4)
    )
    return max(one, three) > MORE * max(zero, two) + 2


def stands_on_head(letters: Boxes) -> tuple[bool, bool]:
    """Whether level letters (N boxes) are upside down, and whether that is in doubt."""
    if len(letters) < 2:
        return False, True
    rising, hanging, judged = _rising_and_hanging(letters, *find_chains(letters))
    # Of lower-case letters a quarter rise and a tenth hang; a few commas and underlines are no evidence.
    more, fewer = max(rising, hanging), min(rising, hanging)
    clear = more >= 12 and more > 0.1 * judged and more > 2 * fewer
    return clear and hanging > rising, not clear


def turn_boxes(boxes: Boxes, quarter_turns: int, size: tuple[int, int]) -> Boxes:
    """The boxes on the page of `size` (height, width) after numpy.rot90(page, quarter_turns)."""
    height, width = size
    for _ in range(quarter_turns % 4):
        boxes = replace(boxes, x0=boxes.y0, y0=width - boxes.x1, x1=boxes.y1, y1=width - boxes.x0)
        height, width = width, height
    return boxes


def rotation(tilt_degrees: float) -> np.ndarray:
    """The matrix (2, 2) that makes lines of this tilt level: level_xy = rotation @ xy."""
    cosine, sine = np.cos(np.radians(tilt_degrees)), np.sin(np.radians(tilt_degrees))
    return np.array([[cosine, sine], [-sine, cosine]])


def level_boxes(boxes: Boxes, tilt_degrees: float) -> Boxes:
    """The boxes at the places they have after the page is turned level; their sizes stay."""
    x, y = (boxes.x0 + boxes.x1) / 2, (boxes.y0 + boxes.y1) / 2
    right, down = rotation(tilt_degrees) @ np.stack([x, y]) - np.stack([x, y])
    return replace(boxes, x0=boxes.x0 + right, x1=boxes.x1 + right, y0=boxes.y0 + down, y1=boxes.y1 + down)


def measure_tilt(letters: Boxes) -> float:
    """The median slope of the baselines of long runs, in degrees, clockwise positive; 0.0 without any."""
    if not len(letters):
        return 0.0
    runs = find_chains(letters)[1]
    fits = (runs.slope != 0) & (runs.box.width > 4 * runs.cap) & (runs.regular > 0.5)
    if not fits.any():
        return 0.0
    # A slope's error falls with the run's length, so long runs have the votes.
    votes = runs.box.width[fits] ** 1.5 * runs.regular[fits]
    slope = weighted_median(runs.slope[fits], votes)
    uncertain = 0.05 * weighted_median(runs.cap[fits] / runs.box.width[fits], votes)
    return float(np.degrees(np.arctan(slope))) if abs(slope) > uncertain else 0.0


def _in_lines(runs: Runs) -> float:
    """How many letters stand in runs as regular as lines of text are."""
    return float((runs.letters * (runs.regular - 0.4))[(runs.letters >= 4) & (runs.regular > 0.4)].sum())


def _rising_and_hanging(letters: Boxes, chain: np.ndarray, runs: Runs) -> tuple[int, int, int]:
    """How many letters rise above the most of their run, how many hang below, and of how many."""
    count = len(runs)
    own = runs.take(chain)
    fall = own.base_at((letters.x0 + letters.x1) / 2) - own.base
    high, low = letters.y0 - fall, letters.y1 - fall
    top = group_quantile(high, chain, count, 0.5)[chain]
    bottom = group_quantile(low, chain, count, 0.5)[chain]
    height = np.maximum(bottom - top, 1)
    long = (runs.letters >= 5)[chain]
    up, down = (top - high) / height, (low - bottom) / height
    # What reaches far both up and down is a bracket, or two letters that touch.
    rising = long & (up > 0.2) & (up < 0.7) & (down < 0.12)
    hanging = long & (down > 0.2) & (down < 0.7) & (up < 0.12)
    return int(rising.sum()), int(hanging.sum()), int(long.sum())
