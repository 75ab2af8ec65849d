"""The result of reading, which every output format takes: lines and words with their places on the page.

Points are (x, y) in pixels of the original picture, as its own metadata (EXIF) shows it upright; x grows to
the right and y grows downwards. A quad is four points clockwise from the top left corner *of the text*, so a
line that stands on its head begins at its right side. This module needs neither torch nor Pillow.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import NamedTuple, Protocol

Point = tuple[float, float]
Quad = tuple[Point, Point, Point, Point]
Baseline = tuple[Point, Point]


@dataclass(frozen=True)
class Word:
    """One word. `confidence` is from 0 to 1, None where the reader has none."""

    text: str
    quad: Quad
    confidence: float | None = None

    @property
    def box(self) -> Box:
        """The smallest upright box around the word, in pixels."""
        return hull(self.quad)


@dataclass(frozen=True)
class Line:
    """One line of text with its words in reading order.

    `block` numbers the paragraph or cell that the line belongs to. `baseline` is the line that the letters
    stand on, from the text's left to its right; `cap_height` is the height of its capitals in pixels.
    """

    text: str
    quad: Quad
    confidence: float | None = None
    words: tuple[Word, ...] = ()
    block: int = 0
    baseline: Baseline | None = None
    cap_height: float | None = None

    @property
    def box(self) -> Box:
        """The smallest upright box around the line, in pixels."""
        return hull(self.quad)


class PageLike(Protocol):
    """The facts about a page that formats need. `TextPage` has them, and so has the reader's page.

    `page` counts from 1. `quarter_turns` (0 to 3) are the clockwise quarter turns that would set the picture
    upright, after those that its metadata asks for. The quads lie in the picture before these turns.
    """

    @property
    def file(self) -> str:
        """The name of the file that the page comes from."""

    @property
    def page(self) -> int:
        """The number of the page in its file, from 1."""

    @property
    def text(self) -> str:
        """The text of the whole page, its lines in reading order."""

    @property
    def error(self) -> str | None:
        """Why the page could not be read, in one sentence; None where it was read."""

    @property
    def width(self) -> int:
        """The width of the picture in pixels."""

    @property
    def height(self) -> int:
        """The height of the picture in pixels."""

    @property
    def dpi(self) -> float | None:
        """Pixels per inch, None where the file does not say."""

    @property
    def lines(self) -> Sequence[Line]:
        """The lines of text in reading order."""

    @property
    def quarter_turns(self) -> int:
        """Quarter turns clockwise, 0 to 3, that would set the picture upright."""


@dataclass(frozen=True)
class TextPage:
    """A page as plain data: `width` x `height` pixels and the lines in reading order."""

    file: str
    page: int
    width: int
    height: int
    lines: tuple[Line, ...] = ()
    dpi: float | None = None
    quarter_turns: int = 0
    error: str | None = None
    text: str = field(default="")
    is_clean: bool = field(default=False, compare=False, repr=False)  # `formats.clean` made it

    def __post_init__(self) -> None:
        if not self.text:
            object.__setattr__(self, "text", join_lines(self.lines))


class Box(NamedTuple):
    """An upright box in pixels; right and bottom are the first coordinates outside."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def width(self) -> float:
        """From left to right, in pixels."""
        return self.right - self.left

    @property
    def height(self) -> float:
        """From top to bottom, in pixels."""
        return self.bottom - self.top

    def quad(self) -> Quad:
        """The four corners, clockwise from the top left."""
        return (
            (self.left, self.top),
            (self.right, self.top),
            (self.right, self.bottom),
            (self.left, self.bottom),
        )


def hull(points: Iterable[Point]) -> Box:
    """The smallest upright box around the points; there must be at least one."""
    xs, ys = zip(*points, strict=True)
    return Box(min(xs), min(ys), max(xs), max(ys))


def hull_of_lines(lines: Iterable[Line]) -> Box:
    """The smallest upright box around all the lines; there must be at least one."""
    return hull(point for line in lines for point in line.quad)


def angle(quad: Quad) -> float:
    """Degrees by which the text is turned clockwise from left-to-right, from -180 to 180.

    Text that runs downwards has 90, text that runs upwards -90. A quad without width has 0.
    """
    (left_top, right_top, right_bottom, left_bottom) = quad
    # The mean of the upper and the lower edge is used, since either may be short where a box is ragged.
    across = right_top[0] + right_bottom[0] - left_top[0] - left_bottom[0]
    down = right_top[1] + right_bottom[1] - left_top[1] - left_bottom[1]
    return math.degrees(math.atan2(down, across)) if across or down else 0.0


def length(quad: Quad) -> float:
    """The extent along the text in pixels, the mean of the upper and the lower edge."""
    return (math.dist(quad[0], quad[1]) + math.dist(quad[3], quad[2])) / 2


def height(quad: Quad) -> float:
    """The extent across the text in pixels, the mean of both sides."""
    return (math.dist(quad[0], quad[3]) + math.dist(quad[1], quad[2])) / 2


def part(quad: Quad, start: float, end: float) -> Quad:
    """The piece of a quad between two shares (0 to 1) of its extent along the text."""
    (top_left, top_right, bottom_right, bottom_left) = quad
    return (
        _between(top_left, top_right, start),
        _between(top_left, top_right, end),
        _between(bottom_left, bottom_right, end),
        _between(bottom_left, bottom_right, start),
    )


def _between(one: Point, other: Point, share: float) -> Point:
    return (one[0] + (other[0] - one[0]) * share, one[1] + (other[1] - one[1]) * share)


def blocks(lines: Sequence[Line]) -> Iterator[tuple[Line, ...]]:
    """The lines of each block. A block that other lines interrupt comes in pieces, to keep the order."""
    for _, members in groupby(lines, key=lambda line: line.block):
        yield tuple(members)


def join_lines(lines: Sequence[Line]) -> str:
    """The text of all lines, one line each, with a blank line between blocks."""
    return "\n\n".join("\n".join(line.text for line in block) for block in blocks(lines))


def runs_leftwards(text: str) -> bool:
    """Whether most letters belong to a script that runs from right to left."""
    kinds = [unicodedata.bidirectional(character) for character in text]
    leftwards = sum(kind in ("R", "AL") for kind in kinds)
    return leftwards > kinds.count("L")


def words_with_blanks(line: Line) -> list[tuple[Word, bool]]:
    """Each word of a line, and whether a blank follows it in the line's text.

    Scripts without blanks set word after word. A word that does not occur in the line's text gets a blank.
    """
    pairs, position = [], 0
    for word in line.words:
        found = line.text.find(word.text, position)
        position = found + len(word.text) if found >= 0 else position
        # The end of the line counts as a blank after its last word.
        follows = line.text[position : position + 1]
        pairs.append((word, found < 0 or not follows or follows.isspace()))
    return pairs
