"""How a page lies: its turn by quarters, and its tilt, told from how letters follow each other.

Letters of one word stand closer together than lines do, and they share a baseline. Chains of neighbours
therefore run along the lines, whatever the tilt. A page that stands on its head is told by its lower-case
letters alone: more of them rise above their neighbours than hang below. Capitals and digits do not tell it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from nanoocr.layout.components import Boxes, group_quantile, weighted_median
from nanoocr.layout.lines import Runs, find_chains


@dataclass(frozen=True)
class Upright:
    """What must be done to a page until its text is level."""

    quarter_turns: int  # of 90 degrees anticlockwise, as numpy.rot90 counts
    tilt_degrees: float  # how far baselines then still fall to the right (clockwise)
    doubtful_180: bool  # the page may as well stand on its head: compare what is read in both positions


def find_upright(letters: Boxes, size: tuple[int, int]) -> Upright:
    """How letters (N boxes) on a page of `size` (height, width) must be turned."""
    if len(letters) < 2:
        return Upright(0, 0.0, True)
    chain, runs = find_chains(letters)
    turned = turn_boxes(letters, 1, size)
    other_chain, other_runs = find_chains(turned)
    turns = 0
    if _in_lines(other_runs) > 1.3 * _in_lines(runs):
        turns, letters, chain, runs = 1, turned, other_chain, other_runs
    tilt = measure_tilt(runs)
    rising, hanging = _rising_and_hanging(shear_boxes(letters, tilt), chain, runs)
    clear = rising + hanging >= 12 and max(rising, hanging) > 1.7 * min(rising, hanging)
    if clear and hanging > rising:
        turns += 2
    return Upright(turns, tilt, not clear)


def turn_boxes(boxes: Boxes, quarter_turns: int, size: tuple[int, int]) -> Boxes:
    """The boxes on the page of `size` (height, width) after numpy.rot90(page, quarter_turns)."""
    height, width = size
    for _ in range(quarter_turns % 4):
        boxes = replace(boxes, x0=boxes.y0, y0=width - boxes.x1, x1=boxes.y1, y1=width - boxes.x0)
        height, width = width, height
    return boxes


def shear_boxes(boxes: Boxes, tilt_degrees: float) -> Boxes:
    """The boxes moved upright or down until lines of this tilt are level; their sizes stay."""
    lift = np.tan(np.radians(tilt_degrees)) * (boxes.x0 + boxes.x1) / 2
    return replace(boxes, y0=boxes.y0 - lift, y1=boxes.y1 - lift)


def measure_tilt(runs: Runs) -> float:
    """The median slope of the baselines of long runs, in degrees, clockwise positive; 0.0 without any."""
    fits = (runs.slope != 0) & (runs.box.width > 4 * runs.cap) & (runs.regular > 0.5)
    if not fits.any():
        return 0.0
    # A slope's error falls with the run's length, so long runs have the votes.
    votes = runs.box.width[fits] ** 1.5 * runs.regular[fits]
    return float(np.degrees(np.arctan(weighted_median(runs.slope[fits], votes))))


def _in_lines(runs: Runs) -> float:
    """How many letters stand in runs as regular as lines of text are."""
    return float((runs.letters * (runs.regular - 0.4))[(runs.letters >= 4) & (runs.regular > 0.4)].sum())


def _rising_and_hanging(letters: Boxes, chain: np.ndarray, runs: Runs) -> tuple[int, int]:
    """How many letters rise above the most of their run, and how many hang below."""
    count = len(runs)
    top = group_quantile(letters.y0, chain, count, 0.5)[chain]
    bottom = group_quantile(letters.y1, chain, count, 0.5)[chain]
    height = np.maximum(bottom - top, 1)
    long = (runs.letters >= 5)[chain]
    up, down = (top - letters.y0) / height, (letters.y1 - bottom) / height
    rising = long & (up > 0.2) & (up < 0.7) & (down < 0.12)
    hanging = long & (down > 0.2) & (down < 0.7) & (up < 0.12)
    return int(rising.sum()), int(hanging.sum())
