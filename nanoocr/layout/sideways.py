"""Print that runs upwards or downwards beside level text, as a number in the margin or the name of an axis.

Its letters stand above each other, one in a row, and lie on their sides: they are wider than they are high.
Which of the two ways they lie is often not to be seen, as with digits; then both are read (see `turn_over`).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nanoocr.layout.components import Boxes, group_quantile
from nanoocr.layout.geometry import Frame, text_line
from nanoocr.layout.lines import Runs, find_chains, find_runs, measure_runs
from nanoocr.layout.mend import merge_broken
from nanoocr.layout.orient import turn_boxes
from nanoocr.layout.rows import shape_rows
from nanoocr.layout.types import TextLine

LEAST_LETTERS = 5  # fewer pieces of ink above each other are chance
LEAST_REGULAR = 0.8  # share of letters that stand and end where letters of a line do
LYING = 1.15  # sum of the widths of letters on their sides, in sums of their heights
MOST_SLOPE = 0.05  # by how much a sideways line leans at most
FAINTEST = 0.5  # share of the contrast of the page's letters
MOST_LINES = 20  # a page with more of them is a pattern


def find_sideways(letters: Boxes, size: tuple[int, int]) -> tuple[Boxes, np.ndarray, int]:
    """Letters that stand in sideways lines, on the page after a quarter turn, as numpy.rot90 turns it.

    `letters` are those of a level page of `size` (height, width), whose upright gaps were not closed. Returns
    the letters, the line of each (N,), and by how many quarters the page was turned: 1 or 3.
    """
    chain, level = find_chains(letters)
    # Two lines side by side make level rows of two.
    alone = letters.take(level.letters[chain] <= 2)
    usual = float(np.median(letters.contrast)) if len(letters) else 0.0
    best: tuple[Boxes, np.ndarray, int] = (alone.take(np.zeros(0, np.int64)), np.zeros(0, np.int64), 1)
    if len(alone) < LEAST_LETTERS:
        return best
    found = 0.0
    for turns in (1, 3):
        turned = turn_boxes(alone, turns, size)
        run_of, runs = find_runs(turned)
        lines = _lines(turned, run_of, runs) & (runs.box.contrast > FAINTEST * usual)
        regular = float((runs.letters * runs.regular)[lines].sum())
        if lines.sum() <= MOST_LINES and regular > found:
            inside = lines[run_of]
            found, best = regular, (turned.take(inside), (np.cumsum(lines) - 1)[run_of[inside]], turns)
    return best


def _lines(letters: Boxes, run_of: np.ndarray, runs: Runs) -> np.ndarray:
    """Which runs of a turned page are lines of letters that lie on the page: (runs,) bool."""
    count = len(runs)
    high = np.bincount(run_of, letters.height, count) / np.bincount(run_of, letters.width, count)
    box = np.bincount(run_of, letters.width * letters.height, count)
    filled = np.bincount(run_of, letters.area, count) / box
    fits = (
        (runs.letters >= LEAST_LETTERS) & (runs.regular > LEAST_REGULAR) & (np.abs(runs.slope) < MOST_SLOPE)
    )
    # The bars of a bar code are narrow, and full of ink.
    narrow = group_quantile(letters.width, run_of, count, 0.5) < 0.25 * runs.cap
    return fits & (high > LYING) & (filled < 0.9) & ~narrow & (runs.box.cut < 0.5)


def sideways_lines(
    letters: Boxes, line_of: np.ndarray, marks: Boxes, turned: Frame, block: int
) -> list[TextLine]:
    """The lines of letters on a turned page, from top to bottom; `block` is the number of the first."""
    letters, line_of = merge_broken(letters, line_of)
    count = int(line_of.max(initial=-1)) + 1
    order = np.argsort(measure_runs(letters, line_of, count).base)
    place = np.argsort(order)[line_of]
    none = np.zeros((0, 4))
    shapes = shape_rows(letters, place, marks, np.arange(count))
    lines = [text_line(shape, turned, block + k, none) for k, shape in enumerate(shapes)]
    return [replace(line, sideways=True) for line in lines]


def turned_frame(frame: Frame, quarter_turns: int, size: tuple[int, int]) -> Frame:
    """The frame of a level page of `size` (height, width) after numpy.rot90(page, quarter_turns), 1 or 3."""
    height, width = size
    if quarter_turns == 1:
        back = np.array([[0.0, -1.0, width], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    else:
        back = np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, height], [0.0, 0.0, 1.0]])
    return Frame(frame.to_page @ back)


def not_inside(boxes: Boxes, others: Boxes) -> np.ndarray:
    """Which boxes have their middles in none of the others: (N,) bool."""
    x, y = (boxes.x0 + boxes.x1) / 2, (boxes.y0 + boxes.y1) / 2
    inside = np.zeros(len(boxes), dtype=bool)
    for x0, y0, x1, y1 in zip(others.x0, others.y0, others.x1, others.y1):
        inside |= (x > x0) & (x < x1) & (y > y0) & (y < y1)
    return ~inside


def turn_over(line: TextLine) -> TextLine:
    """The same line read from its other end, its letters on their heads."""
    points = np.asarray(line.baseline)
    along = points[-1] - points[0]
    up = np.array([along[1], -along[0]]) / max(float(np.hypot(*along)), 1e-6)
    # What was the head of the capitals is their foot now.
    baseline = (points + up * line.cap_height)[::-1]
    length = float(np.hypot(*np.diff(points, axis=0).T).sum())
    gaps = tuple((length - end, length - start) for start, end in line.gaps[::-1])
    quad = (line.quad[2], line.quad[3], line.quad[0], line.quad[1])
    return replace(line, quad=quad, baseline=tuple((float(x), float(y)) for x, y in baseline), gaps=gaps)
