"""The way from a page's picture to its lines of text."""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image

from nanoocr.layout.components import Boxes, find_components, group_quantile
from nanoocr.layout.geometry import Frame, RowShape, measure_row, text_line
from nanoocr.layout.ink import find_ink
from nanoocr.layout.lines import Runs, find_chains, find_runs, letter_like, measure_runs
from nanoocr.layout.mend import absorb, merge_broken, split_double_rows, split_touching
from nanoocr.layout.order import arrange
from nanoocr.layout.orient import Upright, find_upright, measure_tilt, shear_boxes
from nanoocr.layout.rules import remove_rules
from nanoocr.layout.sift import plausible, rescue
from nanoocr.layout.types import PageLayout, TextLine

LONGEST_SIDE = 2000  # larger pages are analysed on a reduced copy
LARGEST_SHEAR = 2.5  # degrees of tilt that moving the boxes mends; more needs the picture turned


def find_page(image: Image.Image, quarter_turns: int | None = None) -> PageLayout:
    """Finds the lines of text of an RGB picture, in reading order.

    `quarter_turns` (of 90 degrees anticlockwise, as numpy.rot90 counts) says how the page must be turned, where
    the caller knows it: for a page that may stand on its head, from reading it in both positions.
    """
    gray, to_page = _working_copy(image)
    marks, letters, ink = _pieces(gray)
    upright = find_upright(letters, gray.shape)
    if quarter_turns is not None and (quarter_turns - upright.quarter_turns) % 4:
        upright = _other_turn(upright, quarter_turns)
    turns, tilt = upright.quarter_turns % 4, upright.tilt_degrees
    steep = abs(tilt) > LARGEST_SHEAR
    if turns or steep:
        gray, to_page = _turned(gray, to_page, turns, tilt if steep else 0.0)
        marks, letters, ink = _pieces(gray)
        tilt = measure_tilt(find_chains(letters)[1]) if len(letters) else 0.0
    frame = Frame(to_page, float(np.tan(np.radians(tilt))))
    lines = _find_lines(shear_boxes(marks, tilt), shear_boxes(letters, tilt), ink, frame)
    size = (image.height, image.width)
    return PageLayout(size, turns, upright.tilt_degrees, upright.doubtful_180, tuple(lines))


def _working_copy(image: Image.Image) -> tuple[np.ndarray, np.ndarray]:
    """The grey copy that is analysed, and the map (2, 3) from its pixels to those of the page."""
    scale = max(max(image.size) / LONGEST_SIDE, 1.0)
    gray = np.asarray(image.convert("L"))
    if scale > 1:
        size = (max(round(image.width / scale), 1), max(round(image.height / scale), 1))
        gray = cv2.resize(gray, size, interpolation=cv2.INTER_AREA)
    return gray, np.array([[scale, 0.0, 0.0], [0.0, scale, 0.0]])


def _pieces(gray: np.ndarray) -> tuple[Boxes, Boxes, np.ndarray]:
    """The small pieces of ink (dots, commas, dashes), those that may be letters, and the ink (H, W)."""
    ink, depth = find_ink(gray)
    # Faded and dotted strokes are broken: gaps of two pixels are closed, upright alone, to part letters still.
    ink = cv2.morphologyEx(remove_rules(ink), cv2.MORPH_CLOSE, np.ones((3, 1), np.uint8))
    boxes = find_components(ink, depth)
    like = letter_like(boxes, gray.shape[0])
    small = ~like & (boxes.height < 3 * 12) & (boxes.width < 3 * 12) & (boxes.area >= 2)
    return boxes.take(small), boxes.take(like), ink


def _other_turn(found: Upright, quarter_turns: int) -> Upright:
    """The same tilt, seen after another turn: a half turn keeps it, a quarter turns rows into columns."""
    return Upright(quarter_turns, found.tilt_degrees, found.doubtful_180)


def _turned(
    gray: np.ndarray, to_page: np.ndarray, quarter_turns: int, tilt: float
) -> tuple[np.ndarray, np.ndarray]:
    """The grey copy with its lines level, and the map (2, 3) from it to the page, in pixels from the edge."""
    for _ in range(quarter_turns):
        width = gray.shape[1]
        back = np.array([[0.0, -1.0, width], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
        to_page = to_page @ back
        gray = np.ascontiguousarray(np.rot90(gray))
    if tilt == 0.0:
        return gray, to_page
    height, width = gray.shape
    cosine, sine = np.cos(np.radians(tilt)), np.sin(np.radians(tilt))
    turn = np.array([[cosine, sine], [-sine, cosine]])  # level = turn @ tilted
    corners = np.array([[0, 0], [width, 0], [0, height], [width, height]]) @ turn.T
    low, high = corners.min(axis=0), corners.max(axis=0)
    forward = np.concatenate([turn, -low[:, None]], axis=1)
    size = (int(np.ceil(high[0] - low[0])), int(np.ceil(high[1] - low[1])))
    # The corners that come into view repeat the edge: a flat colour would look like ink.
    level = cv2.warpAffine(gray, forward, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    back = np.eye(3)
    back[:2] = cv2.invertAffineTransform(forward)
    return level, to_page @ back


def _find_lines(marks: Boxes, letters: Boxes, ink: np.ndarray, frame: Frame) -> list[TextLine]:
    if not len(letters):
        return []
    letters = split_double_rows(letters, *find_runs(letters), ink, frame.fall)
    letters = split_touching(letters, *find_runs(letters))
    letters, run_of, runs = _runs_of(letters)
    text = plausible(letters, run_of, runs)
    if not text.any():
        return []
    letters, run_of, runs = _runs_of(letters.take(rescue(letters, run_of, runs, text)))
    arrangement = arrange(runs)
    row_of = arrangement.row_of[run_of]
    count = len(arrangement.block_of)
    mark_row = _rows_of_marks(marks, letters, row_of, count)
    shapes = _row_shapes(letters, row_of, marks, mark_row, count)
    foreign = _foreign_ink(letters, row_of, shapes)
    return [text_line(shapes[k], frame, int(arrangement.block_of[k]), foreign[k]) for k in range(count)]


def _runs_of(letters: Boxes) -> tuple[Boxes, np.ndarray, Runs]:
    """Letters, mended where broken, the run of each, and the runs."""
    run_of, runs = absorb(letters, *find_runs(letters))
    letters, run_of = merge_broken(letters, run_of)
    return letters, run_of, measure_runs(letters, run_of, len(runs))


def _rows_of_marks(marks: Boxes, letters: Boxes, row_of: np.ndarray, count: int) -> np.ndarray:
    """The row each mark belongs to, or -1: that of a letter near it, at a height where rows have marks."""
    result = np.full(len(marks), -1, dtype=np.int64)
    if not len(marks):
        return result
    order = np.argsort(letters.x0)
    base = group_quantile(letters.y1, row_of, count, 0.5)
    cap = np.maximum(group_quantile(letters.height, row_of, count, 0.8), 3.0)
    left = np.full(count, np.inf)
    right = np.full(count, -np.inf)
    np.minimum.at(left, row_of[order], letters.x0[order])
    np.maximum.at(right, row_of[order], letters.x1[order])
    middle = (marks.y0 + marks.y1) / 2
    by_base = np.argsort(base)
    # Rows are tried from the nearest baseline below the mark's middle and its two neighbours on either side.
    near = np.searchsorted(base[by_base], middle)
    best = np.full(len(marks), np.inf)
    for step in range(-6, 7):
        row = by_base[np.clip(near + step, 0, count - 1)]
        above = (base[row] - middle) / cap[row]
        aside = np.maximum(np.maximum(left[row] - marks.x1, marks.x0 - right[row]), 0) / cap[row]
        fits = (above > -0.35) & (above < 1.35) & (aside < 1.0) & (marks.height < 0.8 * cap[row])
        distance = np.abs(above - 0.5) + aside
        better = fits & (distance < best)
        result[better], best[better] = row[better], distance[better]
    return result


def _row_shapes(
    letters: Boxes, row_of: np.ndarray, marks: Boxes, mark_row: np.ndarray, count: int
) -> list[RowShape]:
    by_row, by_mark = np.argsort(row_of, kind="stable"), np.argsort(mark_row, kind="stable")
    row_edges = np.searchsorted(row_of[by_row], np.arange(count + 1))
    mark_edges = np.searchsorted(mark_row[by_mark], np.arange(count + 1))
    base = group_quantile(letters.y1, row_of, count, 0.5)
    cap = np.maximum(group_quantile(base[row_of] - letters.y0, row_of, count, 0.8), 3.0)
    shapes = []
    for k in range(count):
        own = letters.take(by_row[row_edges[k] : row_edges[k + 1]])
        shapes.append(measure_row(own, marks.take(by_mark[mark_edges[k] : mark_edges[k + 1]]), float(cap[k])))
    return shapes


def _foreign_ink(letters: Boxes, row_of: np.ndarray, shapes: list[RowShape]) -> list[np.ndarray]:
    """For each row the boxes (K, 4) of other rows' letters that its strips would show."""
    corners = np.stack([letters.x0, letters.y0, letters.x1, letters.y1], axis=1)
    result = []
    for row, shape in enumerate(shapes):
        base = shape.baseline[:, 1]
        low, high = base.min() - 1.7 * shape.cap, base.max() + 0.7 * shape.cap
        start, end = shape.baseline[0, 0] - shape.cap, shape.baseline[-1, 0] + shape.cap
        shown = (letters.y1 > low) & (letters.y0 < high) & (letters.x1 > start) & (letters.x0 < end)
        other = corners[shown & (row_of != row)]
        own = corners[shown & (row_of == row)]
        result.append(_clear_of(other, own))
    return result


def _clear_of(other: np.ndarray, own: np.ndarray) -> np.ndarray:
    """The boxes (K, 4), less their parts at the height of own letters that they overlap."""
    if not len(other) or not len(own):
        return other
    beside = (other[:, None, 0] < own[None, :, 2] + 1) & (other[:, None, 2] > own[None, :, 0] - 1)
    above = other[:, 1] + other[:, 3] < float(np.median(own[:, 1] + own[:, 3]))
    result = other.copy()
    top = np.where(beside, own[None, :, 1], np.inf).min(axis=1) - 1
    bottom = np.where(beside, own[None, :, 3], -np.inf).max(axis=1) + 1
    result[above, 3] = np.minimum(other[above, 3], top[above])
    result[~above, 1] = np.maximum(other[~above, 1], bottom[~above])
    return result[result[:, 3] > result[:, 1]]
