"""The hidden text of a page as PDF drawing commands, placed so that readers get words, order and blanks back.

What readers need was measured (docs/guide/formats.md): one text object per line, the blank in the same
string as the word before it, and between two words a free gap of about a fifth of the font size, even where
the words touch on paper.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import groupby
from statistics import median

from nanoocr.document import Line, Point, Quad, angle, runs_leftwards, words_with_blanks
from nanoocr.formats.hidden_font import DESCENT, UNITS, WIDTHS, HiddenFont, nearest_width

GAP = 0.19  # share of the font size; less glues words in one reader, more doubles the blank in another
MOST_OFF = 0.22  # the largest share of a word that is taken from each side for the gap
SAME_HEIGHT = 0.6  # words whose height agrees this well (IoU) share the font size and baseline of their line
# Degrees. Lines that lean less are written as level words, each at its own height: one reader tears leaning
# lines apart from 2 degrees on, while all of them put level words back into lines up to about this angle.
LEVEL = 6.0

ToPoints = Callable[[Point], Point]


@dataclass(frozen=True)
class _Span:
    """A word in the line's own directions, in points: along the text, and upwards across it."""

    text: str
    start: float
    end: float
    low: float
    high: float
    blank: bool


def layer(lines: tuple[Line, ...], to_points: ToPoints, font: HiddenFont, name: str) -> bytes:
    """The commands that write all lines in render mode 3, which is invisible.

    Args:
        to_points: from pixels of the picture to the page's own coordinates, y upwards.
        name: what the page's resources call the font.
    """
    written = b"".join(_line(line, to_points, font, name) for line in lines)
    return b"q 3 Tr\n" + written + b"Q\n" if written else b""


def _line(line: Line, to_points: ToPoints, font: HiddenFont, name: str) -> bytes:
    lean, quarter_turn = _direction(line, to_points)
    spans = [
        _span(word.text, _map(word.quad, to_points), lean + quarter_turn, blank)
        for word, blank in words_with_blanks(line)
    ]
    spans = _aligned(spans)
    turn = quarter_turn if abs(lean) < math.radians(LEVEL) else lean + quarter_turn
    spans = _with_gaps([_turned(span, lean + quarter_turn - turn) for span in spans])
    cosine, sine = math.cos(turn), math.sin(turn)
    # The first command turns the line; all later places are counted from the word before.
    parts = [f"BT {_number(cosine)} {_number(sine)} {_number(-sine)} {_number(cosine)} 0 0 Tm\n"]
    x, y, size = 0.0, 0.0, 0.0
    for index, span in enumerate(spans):
        new_size = _rounded(span.high - span.low)
        if new_size != size:
            parts.append(f"/{name} {_number(new_size)} Tf ")
            size = new_size
        bottom = span.low - size * DESCENT / UNITS
        # Rounded steps add up, so the next one starts from where this one has really gone.
        step_x, step_y = _rounded(span.start - x), _rounded(bottom - y)
        x, y = x + step_x, y + step_y
        next_start = spans[index + 1].start if index + 1 < len(spans) else span.end + GAP * size
        parts.append(f"{_number(step_x)} {_number(step_y)} Td ")
        parts.append(_word(span, size, next_start, font))
    return "".join([*parts, "ET\n"]).encode("ascii")


def _word(span: _Span, size: float, next_start: float, font: HiddenFont) -> str:
    """One word, stretched to its place, and the blank behind it in the same string."""
    each = (span.end - span.start) / len(span.text) / size
    width = nearest_width(each)
    stretch = each / WIDTHS[width]
    codes = font.encode(_as_drawn(span.text), width)
    if span.blank:
        # The blank reaches to the next word, or the reader would see a second one behind it.
        gap = max(GAP, (next_start - span.end) / size) / stretch
        reaching = next((index for index, wide in enumerate(WIDTHS) if wide >= gap), len(WIDTHS) - 1)
        codes += font.encode(" ", reaching)
    return f"{_number(stretch * 100)} Tz <{codes.hex()}> Tj\n"


def _as_drawn(text: str) -> str:
    """The characters as they stand from left to right, which readers of PDFs expect of every script."""
    if not runs_leftwards(text):
        return text
    # Digits and foreign letters run from left to right within their word.
    runs = groupby(text, key=lambda character: unicodedata.bidirectional(character) in ("L", "EN", "AN"))
    parts = ["".join(run) if rightwards else "".join(run)[::-1] for rightwards, run in runs]
    return "".join(reversed(parts))


def _direction(line: Line, to_points: ToPoints) -> tuple[float, float]:
    """The angle of the line on the page in radians, counter-clockwise as PDF counts.

    It comes as the lean, at most an eighth turn, and the whole quarter turns.
    """
    if line.baseline is not None:
        (x0, y0), (x1, y1) = map(to_points, line.baseline)
        turn = math.atan2(y1 - y0, x1 - x0)
    else:
        # PDF's y grows upwards, so the same formula gives the angle counter-clockwise.
        turn = math.radians(angle(_map(line.quad, to_points)))
    quarter_turn = round(turn / (math.pi / 2)) * math.pi / 2
    return turn - quarter_turn, quarter_turn


def _map(quad: Quad, to_points: ToPoints) -> Quad:
    a, b, c, d = quad
    return (to_points(a), to_points(b), to_points(c), to_points(d))


def _span(text: str, quad: Quad, turn: float, blank: bool) -> _Span:
    """A word seen along the direction `turn`, in radians."""
    cosine, sine = math.cos(turn), math.sin(turn)
    along = [x * cosine + y * sine for x, y in quad]
    up = [y * cosine - x * sine for x, y in quad]
    start, end = (along[0] + along[3]) / 2, (along[1] + along[2]) / 2
    low, high = (up[2] + up[3]) / 2, (up[0] + up[1]) / 2
    # A quad that starts at another corner than its text must not turn the word around.
    return _Span(text, min(start, end), max(start, end), min(low, high), max(low, high), blank)


def _turned(span: _Span, by: float) -> _Span:
    """A span of the same size around the same middle, in directions that lie `by` radians clockwise."""
    along, up = (span.start + span.end) / 2, (span.low + span.high) / 2
    x, y = along * math.cos(by) - up * math.sin(by), along * math.sin(by) + up * math.cos(by)
    half = (span.end - span.start) / 2 * math.cos(by)  # so that neighbours do not come to overlap
    tall = (span.high - span.low) / 2
    return replace(span, start=x - half, end=x + half, low=y - tall, high=y + tall)


def _aligned(spans: list[_Span]) -> list[_Span]:
    """The spans at one height, but for those that would be moved to another place by that."""
    low, high = median(span.low for span in spans), median(span.high for span in spans)
    return [
        replace(span, low=low, high=high) if _overlap(span, low, high) >= SAME_HEIGHT else span
        for span in spans
    ]


def _overlap(span: _Span, low: float, high: float) -> float:
    """How well two heights agree: the part they share of the part that either covers."""
    shared = max(0.0, min(span.high, high) - max(span.low, low))
    either = max(span.high, high) - min(span.low, low)
    return shared / either if either > 0 else 0.0


def _with_gaps(spans: list[_Span]) -> list[_Span]:
    """The spans, narrowed where the next word comes so close that readers would run the two together."""
    starts, ends = [span.start for span in spans], [span.end for span in spans]
    for index in range(len(spans) - 1):
        before, after = spans[index], spans[index + 1]
        # The next word may stand on the left.
        leftwards = after.start + after.end < before.start + before.end
        free = before.start - after.end if leftwards else after.start - before.end
        missing = GAP * (before.high - before.low) - free
        wide, next_wide = before.end - before.start, after.end - after.start
        if before.blank and missing > 0 and wide + next_wide > 0:
            # Each gives in proportion to its width, so that a short word keeps most of its box.
            off = min(missing * wide / (wide + next_wide), MOST_OFF * wide)
            next_off = min(missing * next_wide / (wide + next_wide), MOST_OFF * next_wide)
            if leftwards:
                starts[index] += off
                ends[index + 1] -= next_off
            else:
                ends[index] -= off
                starts[index + 1] += next_off
    return [
        # No extent may be zero: the stretch of a word is its width divided by its height.
        replace(span, start=start, end=max(end, start + 0.01), high=max(span.high, span.low + 0.1))
        for span, start, end in zip(spans, starts, ends, strict=True)
    ]


def _rounded(value: float) -> float:
    return round(value, 2)  # a hundredth of a point is a thirtieth of a pixel at 300 dpi


def _number(value: float) -> str:
    """A number as PDF takes it: no exponent, no needless zeros."""
    text = f"{value:.4f}" if abs(value) <= 1 else f"{value:.2f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
