"""The way from a page's picture to its lines of text."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from nanoocr.layout.components import Boxes, concatenate, find_components, find_frames, group_extent
from nanoocr.layout.geometry import Frame, text_line
from nanoocr.layout.ink import find_ink, flat_below
from nanoocr.layout.leaders import find_leaders
from nanoocr.layout.lines import (
    NARROWEST_GUTTER,
    RUN_GAP,
    Runs,
    find_runs,
    letter_like,
    measure_runs,
    with_two_sizes,
)
from nanoocr.layout.mend import absorb, merge_broken, split_double_rows, split_touching
from nanoocr.layout.order import arrange
from nanoocr.layout.orient import (
    level_boxes,
    measure_tilt,
    rotation,
    share_in_lines,
    stands_on_head,
    stands_on_side,
    turn_boxes,
)
from nanoocr.layout.rows import foreign_ink, shape_rows
from nanoocr.layout.rules import remove_rules
from nanoocr.layout.sideways import find_sideways, not_inside, sideways_lines, turned_frame
from nanoocr.layout.sift import LOW, compact, cut_by_edge, one_line, plausible, rescue, small_runs
from nanoocr.layout.types import PageLayout, TextLine, Upright

# Factor by which a page of such small capitals is enlarged, because their strokes touch.
ENLARGED, SMALL_CAP = 2, 10
MANY_LINES = 0.4  # share of the lines that must have such capitals
LONGEST_SIDE = 2000  # larger pages are analysed on a reduced copy
LEAST_SHORT_SIDE = 400  # of that copy: a long screenshot or receipt is as wide as other pages
LONGEST_ROLL = 30_000  # side of such a copy, which bounds its memory
SMALL_SIDE = 500  # a page without any line is searched once more on a copy of this side
FEW_LETTERS = 24  # a picture with so few is also searched upside down before it counts as empty
# Up to this tilt, in degrees, it is enough to move the boxes; beyond it the picture is turned.
LARGEST_REST = 2.5


LARGEST_MARK = 36  # pixels; a larger piece of ink that is no letter is no comma either


@dataclass(frozen=True)
class _Page:
    """A grey copy of the page and what was found on it."""

    gray: np.ndarray  # (H, W) uint8
    to_page: np.ndarray  # (2, 3), from the copy's pixels to those of the original
    open_ink: np.ndarray  # (H, W) uint8, 0 and 1, without rules
    depth: np.ndarray  # (H, W) uint8, distance of each pixel from its threshold
    ink: np.ndarray  # the ink with small gaps closed
    marks: Boxes  # dots, commas, dashes
    letters: Boxes  # what may be letters
    no_text: Boxes  # boxes to tick and the dots of leaders, which strips are cleaned of


def find_page(image: Image.Image, quarter_turns: int | None = None) -> PageLayout:
    """Finds the lines of text of an RGB picture, in reading order.

    `quarter_turns` (of 90 degrees anticlockwise, as numpy.rot90 counts) says how the page must be turned,
    where the caller knows it: for a page that may stand on its head, from reading it in both positions.
    """
    side = _working_side(image.size)
    layout = _find_page(image, quarter_turns, side)
    if not layout.lines:
        # Letters of a quarter of the picture, as on posters and signs, are found on a small copy.
        return _find_page(image, quarter_turns, SMALL_SIDE) if side > SMALL_SIDE else layout
    larger = min(ENLARGED * side, LONGEST_SIDE)
    # A form has headings and a text typed in, and what is hard to read on it is its small print.
    small_cap = np.quantile([line.cap_height for line in layout.lines], MANY_LINES)
    # A low picture was cut out of a page, and its noise would hang together when it is enlarged.
    if larger > side and min(image.size) > LOW and small_cap < SMALL_CAP:
        enlarged = _find_page(image, quarter_turns, larger)
        return enlarged if enlarged.lines else layout
    return layout


def _working_side(size: tuple[int, int]) -> int:
    """Longer side, in pixels, of the copy on which a picture of this size is analysed."""
    short, long = sorted(size)
    # A picture that is low itself is a line that was cut out, whose letters are large enough.
    least = LEAST_SHORT_SIDE * long // short if short > LEAST_SHORT_SIDE else 0
    return min(long, max(LONGEST_SIDE, min(least, LONGEST_ROLL)))


def _find_page(image: Image.Image, quarter_turns: int | None, longest_side: int) -> PageLayout:
    """`find_page` on a copy whose longer side has so many pixels."""
    page = _analyse(*_working_copy(image, longest_side))
    if quarter_turns is None:
        # Closing gaps upright joins the letters of a page on its side, so both ways are judged without it.
        clearly_level = share_in_lines(page.letters) > 0.25
        turns = 0 if clearly_level else int(stands_on_side(_unclosed_letters(page), page.gray.shape))
    else:
        turns = quarter_turns % 2
    if turns:
        page = _analyse(*_quarter_turn(page.gray, page.to_page))
    tilt = rest = measure_tilt(page.letters)
    if abs(tilt) > LARGEST_REST:
        page = _analyse(*_level(page.gray, page.to_page, tilt))
        rest = measure_tilt(page.letters)
    on_head, doubtful = stands_on_head(level_boxes(page.letters, rest))
    if quarter_turns is not None:
        on_head = (quarter_turns - turns) % 4 == 2
    if on_head:
        page = _half_turn(page)
    lines = _find_lines(page, rest)
    if not lines and quarter_turns is None and len(page.letters) <= FEW_LETTERS:
        on_head = not on_head  # a short word on its head is no regular line
        lines = _find_lines(_half_turn(page), rest)
    upright = Upright((turns + 2 * on_head) % 4, tilt, doubtful)
    return PageLayout((image.height, image.width), upright, tuple(lines))


def _working_copy(image: Image.Image, longest_side: int) -> tuple[np.ndarray, np.ndarray]:
    """The grey copy that is analysed, and the map (2, 3) from its pixels to those of the page."""
    scale = max(image.size) / longest_side
    gray = np.asarray(image.convert("L"))
    if scale != 1:
        size = (max(round(image.width / scale), 1), max(round(image.height / scale), 1))
        gray = cv2.resize(gray, size, interpolation=cv2.INTER_AREA if scale > 1 else cv2.INTER_CUBIC)
    shift = (scale - 1) / 2  # points are centres of pixels
    return gray, np.array([[scale, 0.0, shift], [0.0, scale, shift]])


def _analyse(gray: np.ndarray, to_page: np.ndarray) -> _Page:
    floor = flat_below(gray)
    ink, depth = find_ink(gray, floor)
    enlarged = max(1.0, 1 / float(np.hypot(*to_page[:, 0])))
    open_ink = remove_rules(gray, ink, floor, enlarged)
    # Faded and dotted strokes are broken: upright gaps of two pixels are closed; level ones part letters.
    ink = cv2.morphologyEx(open_ink, cv2.MORPH_CLOSE, np.ones((3, 1), np.uint8))
    boxes = find_components(ink, depth)
    frames, empty = find_frames(ink, boxes)
    leaders = find_leaders(boxes, ink)
    no_text, boxes = boxes.take(empty | leaders), boxes.take(~(frames | leaders))
    like = letter_like(boxes, gray.shape[0])
    small = ~like & (boxes.height < LARGEST_MARK) & (boxes.width < LARGEST_MARK) & (boxes.area >= 2)
    return _Page(gray, to_page, open_ink, depth, ink, boxes.take(small), boxes.take(like), no_text)


def _unclosed_letters(page: _Page) -> Boxes:
    boxes = find_components(page.open_ink, page.depth)
    return boxes.take(letter_like(boxes, page.gray.shape[0]))


def _quarter_turn(gray: np.ndarray, to_page: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The grey copy turned by 90 degrees anticlockwise, and the map (2, 3) from it to the page."""
    back = np.array([[0.0, -1.0, gray.shape[1]], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    return np.ascontiguousarray(np.rot90(gray)), to_page @ back


def _half_turn(page: _Page) -> _Page:
    """The page turned by 180 degrees: all that was found on it turns along."""
    height, width = page.gray.shape
    back = np.array([[-1.0, 0.0, width], [0.0, -1.0, height], [0.0, 0.0, 1.0]])
    boxes = (turn_boxes(boxes, 2, (height, width)) for boxes in (page.marks, page.letters, page.no_text))
    pictures = (page.gray, page.open_ink, page.depth, page.ink)
    gray, open_ink, depth, ink = (np.ascontiguousarray(part[::-1, ::-1]) for part in pictures)
    return _Page(gray, page.to_page @ back, open_ink, depth, ink, *boxes)


def _level(gray: np.ndarray, to_page: np.ndarray, tilt: float) -> tuple[np.ndarray, np.ndarray]:
    """The grey copy turned until lines of this tilt are level, and the map (2, 3) from it to the page."""
    height, width = gray.shape
    turn = rotation(tilt)
    corners = np.array([[0, 0], [width, 0], [0, height], [width, height]]) @ turn.T
    low, high = corners.min(axis=0), corners.max(axis=0)
    forward = np.concatenate([turn, -low[:, None]], axis=1)
    size = (int(np.ceil(high[0] - low[0])), int(np.ceil(high[1] - low[1])))
    # The corners that come into view repeat the edge: a flat colour would look like ink.
    level = cv2.warpAffine(gray, forward, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    back = np.eye(3)
    back[:2] = cv2.invertAffineTransform(forward)
    return level, to_page @ back


def _find_lines(page: _Page, tilt: float) -> list[TextLine]:
    """The lines of a page whose text still falls by `tilt` degrees; moving the boxes is enough for that."""
    turn = rotation(tilt)
    frame = Frame(np.concatenate([page.to_page[:, :2] @ turn.T, page.to_page[:, 2:]], axis=1))
    marks, letters = level_boxes(page.marks, tilt), level_boxes(page.letters, tilt)
    if not len(letters):
        return []
    size = (page.gray.shape[0], page.gray.shape[1])
    lying, lying_line, turns = find_sideways(level_boxes(_unclosed_letters(page), tilt), size)
    all_marks = marks
    if len(lying):
        # Level rows of one letter each are made of them otherwise.
        places = turn_boxes(group_extent(lying, lying_line, int(lying_line.max()) + 1), -turns, _turned(size))
        marks, letters = marks.take(not_inside(marks, places)), letters.take(not_inside(letters, places))
    # Lines that touch are parted first, because all that follows measures letters by their line.
    letters = split_double_rows(letters, *find_runs(letters), page.ink, turn)
    letters = split_touching(letters, find_runs(letters)[1])
    letters, run_of, runs = _runs_of(letters)
    text = plausible(letters, run_of, with_two_sizes(letters, run_of, runs))
    if not text.any():
        text = one_line(runs, page.gray.shape[0])
    if not text.any():
        return []
    rescued = rescue(letters, run_of, runs, text)
    marks = concatenate([marks, letters.take(~rescued & compact(letters))])
    letters = letters.take(rescued)
    # Runs are found anew, since letters between which dirt stood can now join.
    letters, run_of, runs = _runs_of(letters, NARROWEST_GUTTER)
    dots = small_runs(runs)
    marks = concatenate([marks, letters.take(dots[run_of])])
    letters, run_of, runs = _without(dots, letters, run_of, runs)
    cut = cut_by_edge(letters, run_of, runs, page.gray.shape[0])
    letters, run_of, runs = _without(cut, letters, run_of, runs)
    arrangement = arrange(runs)
    row_of = arrangement.row_of[run_of]
    shapes = shape_rows(letters, row_of, marks, arrangement.block_of)
    no_text = level_boxes(page.no_text, tilt)
    rows = np.concatenate([row_of, np.full(len(no_text), -1)])
    foreign = foreign_ink(concatenate([letters, no_text]), rows, shapes)
    blocks = arrangement.block_of
    lines = [text_line(shape, frame, int(blocks[k]), foreign[k]) for k, shape in enumerate(shapes)]
    if len(lying):
        turned = turned_frame(frame, turns, size)
        turned_marks = turn_boxes(all_marks, turns, size)
        lines += sideways_lines(lying, lying_line, turned_marks, turned, int(blocks.max(initial=-1)) + 1)
    return lines


def _turned(size: tuple[int, int]) -> tuple[int, int]:
    """The (height, width) of a page of this size after a quarter turn."""
    return size[1], size[0]


def _without(
    gone: np.ndarray, letters: Boxes, run_of: np.ndarray, runs: Runs
) -> tuple[Boxes, np.ndarray, Runs]:
    """Letters, the run of each, and the runs, less those that the mask (runs,) names."""
    stays = ~gone[run_of]
    number = np.cumsum(~gone) - 1
    return letters.take(stays), number[run_of[stays]], runs.take(~gone)


def _runs_of(letters: Boxes, largest_gap: float = RUN_GAP) -> tuple[Boxes, np.ndarray, Runs]:
    """Letters, mended where broken, the run of each, and the runs."""
    run_of, runs = absorb(letters, *find_runs(letters, largest_gap))
    letters, run_of = merge_broken(letters, run_of)
    return letters, run_of, measure_runs(letters, run_of, len(runs))
