"""The way from a page's picture to its lines of text."""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image

from nanoocr.layout.components import Boxes, find_components
from nanoocr.layout.geometry import Frame, text_line
from nanoocr.layout.ink import find_ink
from nanoocr.layout.lines import Runs, find_chains, find_runs, letter_like, measure_runs
from nanoocr.layout.mend import absorb, merge_broken, split_double_rows, split_touching
from nanoocr.layout.order import arrange
from nanoocr.layout.orient import Upright, find_upright, measure_tilt, shear_boxes
from nanoocr.layout.rows import foreign_ink, shape_rows
from nanoocr.layout.rules import remove_rules
from nanoocr.layout.sift import plausible, rescue
from nanoocr.layout.types import PageLayout, TextLine

LONGEST_SIDE = 2000  # larger pages are analysed on a reduced copy
LARGEST_SHEAR = 2.5  # degrees of tilt that moving the boxes mends; more needs the picture turned


def find_page(image: Image.Image, quarter_turns: int | None = None) -> PageLayout:
    """Finds the lines of text of an RGB picture, in reading order.

    `quarter_turns` (of 90 degrees anticlockwise, as numpy.rot90 counts) says how the page must be turned,
    where the caller knows it: for a page that may stand on its head, from reading it in both positions.
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
    # Faded and dotted strokes are broken: upright gaps of two pixels are closed; level ones part letters.
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
    shapes = shape_rows(letters, row_of, marks, arrangement.block_of)
    foreign = foreign_ink(letters, row_of, shapes)
    return [
        text_line(shape, frame, int(arrangement.block_of[k]), foreign[k]) for k, shape in enumerate(shapes)
    ]


def _runs_of(letters: Boxes) -> tuple[Boxes, np.ndarray, Runs]:
    """Letters, mended where broken, the run of each, and the runs."""
    run_of, runs = absorb(letters, *find_runs(letters))
    letters, run_of = merge_broken(letters, run_of)
    return letters, run_of, measure_runs(letters, run_of, len(runs))
