"""Leaders: the long rows of dots that lead the eye from an item to its price or page number.

They are no text. The model reads a strip that is full of them as empty, and what is printed at their end
would be lost with them. So they are taken out of the ink, and leave a blank at which the line is cut.
"""

from __future__ import annotations

import cv2
import numpy as np

from nanoocr.layout.components import Boxes, group_quantile
from nanoocr.layout.lines import choose, neighbours, typical_height

LEAST_DOTS = 8  # an ellipsis has three
LARGEST_DOT = 0.4  # times the usual letter height
WIDEST_BLANK = 8.0  # dot sizes between two dots
EVEN_STEPS = 0.85  # least share of steps as long as the others: the dots of dotted letters come in groups
UNDER_INK = 0.2  # most of the dots that may stand under ink: those of letters and of rasters do


def find_leaders(boxes: Boxes, ink: np.ndarray) -> np.ndarray:
    """Which pieces of the page's ink (H, W) uint8, 0 and 1, are dots of leaders: (N,) bool."""
    usual = typical_height(boxes)
    size = np.maximum(boxes.width, boxes.height)
    # A dot of two pixels may be one pixel higher than it is wide.
    like_dots = np.abs(boxes.width - boxes.height) <= 0.3 * size + 1
    candidates = np.flatnonzero(like_dots & (size <= max(LARGEST_DOT * usual, 3)))
    result = np.zeros(len(boxes), dtype=bool)
    if len(candidates) >= LEAST_DOTS:
        dots = boxes.take(candidates)
        row, count = _rows_of_dots(dots)
        leader = np.bincount(row, minlength=count) >= LEAST_DOTS
        leader &= _share_of_even_steps(dots, row, count) >= EVEN_STEPS
        under_ink = np.bincount(row, _under_ink(dots, ink, usual), minlength=count)
        leader &= under_ink <= UNDER_INK * np.bincount(row, minlength=count)
        result[candidates] = leader[row]
    return result


def _rows_of_dots(dots: Boxes) -> tuple[np.ndarray, int]:
    """The row of each dot (N,), and how many rows; a dot without a neighbour is a row of its own."""
    size = np.maximum(dots.width, dots.height)
    left, right = neighbours(dots, dots.height)
    blank = dots.x0[right] - dots.x1[left]
    larger = np.maximum(size[left], size[right])
    fall = np.abs(dots.y0[left] + dots.y1[left] - dots.y0[right] - dots.y1[right]) / 2
    fits = (blank > 0) & (blank <= WIDEST_BLANK * larger) & (fall <= 0.5 * larger)
    fits &= np.abs(size[left] - size[right]) <= 0.3 * larger + 1
    return choose(left[fits], right[fits], (blank + fall)[fits], len(dots))


def _share_of_even_steps(dots: Boxes, row: np.ndarray, count: int) -> np.ndarray:
    """The share of the steps from dot to dot that are as long as their row's median: (rows,)."""
    order = np.lexsort((dots.x0, row))
    same = np.diff(row[order]) == 0
    step, of = np.diff(dots.x0[order])[same], row[order][1:][same]
    usual = group_quantile(step, of, count, 0.5)
    even = np.abs(step - usual[of]) <= 0.2 * usual[of] + 1
    return np.bincount(of, even, minlength=count) / np.maximum(np.bincount(of, minlength=count), 1)


def _under_ink(dots: Boxes, ink: np.ndarray, letter_height: float) -> np.ndarray:
    """Which dots have ink above them, not farther away than a letter is high: (N,) bool."""
    sums = cv2.integral(ink)
    x0, x1, y1 = (side.astype(np.int64) for side in (dots.x0, dots.x1, dots.y0))
    y0 = np.maximum(y1 - int(letter_height), 0)
    above: np.ndarray = (sums[y1, x1] - sums[y0, x1] - sums[y1, x0] + sums[y0, x0]) > 0
    return above
