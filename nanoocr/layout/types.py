"""What the room hands out: a page's lines with their geometry, and the strips that the model reads.

All points are (x, y) in pixels of the original picture; (0, 0) is the centre of its top left pixel.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

Point = tuple[float, float]
Quad = tuple[Point, Point, Point, Point]  # clockwise from the top left corner *of the text*


@dataclass(frozen=True)
class TextLine:
    """One line of text, as it lies on the page. Lengths are pixels of the original picture."""

    quad: Quad
    baseline: tuple[Point, ...]  # a polyline in reading direction, at least two points
    cap_height: float  # how far capitals and ascenders rise above the baseline
    block: int  # lines of one block (paragraph, table, column) share this number
    gaps: tuple[tuple[float, float], ...]  # blanks between words: (start, end) along the baseline
    # Boxes (K, 4, 2) of ink near this line that belongs to other lines: strips are cleaned of it.
    foreign: np.ndarray = field(default_factory=lambda: np.zeros((0, 4, 2)), compare=False, repr=False)
    sideways: bool = (
        False  # it runs across the page's level lines, and may as well be read from its other end
    )


@dataclass(frozen=True)
class Upright:
    """What must be done to a page until its text is level."""

    quarter_turns: int  # of 90 degrees anticlockwise, as numpy.rot90 counts
    tilt_degrees: float  # how far baselines then still fall to the right (clockwise)
    doubtful_180: bool  # the page may as well stand on its head: compare what is read in both positions


@dataclass(frozen=True)
class PageLayout:
    """The lines of a page in reading order, and how the page was turned to find them."""

    size: tuple[int, int]  # (height, width) of the original picture
    upright: Upright
    lines: tuple[TextLine, ...]


@dataclass(frozen=True)
class Strip:
    """A piece of a line as the model sees it."""

    image: np.ndarray  # (64, W, 3) uint8, RGB
    to_page: np.ndarray  # (2, 3) float64: page_xy = to_page @ (strip_x, strip_y, 1)
    used: tuple[int, int]  # the columns [x0, x1) that hold the line's ink
    line: int  # the line's number in PageLayout.lines
