"""Pages that every format can hold: what a file cannot take is left out, counted and told.

XML forbids most control characters. PAGE wants whole numbers within the picture. PDF viewers cannot mark
a word without width. ALTO wants a word in every line. One function sees to all of this, before any format.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nanoocr.document import (
    Baseline,
    Box,
    Line,
    PageLike,
    Point,
    Quad,
    TextPage,
    Word,
    angle,
    hull,
    part,
    runs_leftwards,
)

# Everything outside the Char production of XML 1.0. This includes surrogates, which UTF-8 cannot hold either.
FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
MIN_SIDE = 1.0  # pixels; the smallest box that whole numbers can tell from nothing

# What is counted of a page, and what is said of it.
_CHARACTERS = "characters that XML forbids were left out"
_OTHER_WORDS = "lines whose words are not those of their text got words of equal shares"
_NO_PLACE = "words without a place on the page got one within their line"
_MOVED = "words that stood outside the page or had no size were moved into it"


@dataclass(frozen=True)
class Cleaned:
    """A page that every format can hold, and a sentence for each kind of thing that was changed."""

    page: TextPage
    notes: tuple[str, ...]


def clean(page: PageLike) -> Cleaned:
    """The page with only allowed characters, boxes inside the picture, and words in every line.

    A page that this function has made is returned as it is, so that several formats share the work.
    """
    if isinstance(page, TextPage) and page.is_clean:
        return Cleaned(page, ())
    counts: Counter[str] = Counter()
    # Without a size the boxes say how large the page must be, and a page has at least one pixel.
    width, height = (max(1, math.ceil(side)) for side in _size(page))
    lines = []
    for line in page.lines:
        cleaned = _clean_line(line, Box(0, 0, width, height), counts)
        if cleaned is not None:
            lines.append(cleaned)
    # A reading that knows no lines still has its text.
    text = "" if page.lines else _allowed(page.text, Counter())
    cleaned_page = TextPage(
        file=_allowed(page.file, Counter()),
        page=page.page,
        width=width,
        height=height,
        lines=tuple(lines),
        dpi=page.dpi if page.dpi and math.isfinite(page.dpi) and page.dpi > 0 else None,
        quarter_turns=page.quarter_turns % 4,
        error=None if page.error is None else _allowed(page.error, Counter()),
        text=text,
        is_clean=True,
    )
    return Cleaned(cleaned_page, tuple(_notes(page, counts)))


def clean_pages(pages: Iterable[PageLike]) -> list[TextPage]:
    """The pages that every format can hold, without the notes."""
    return [clean(page).page for page in pages]


def _size(page: PageLike) -> tuple[float, float]:
    if page.width > 0 and page.height > 0:
        return page.width, page.height
    points = [point for line in page.lines for point in line.quad if all(map(math.isfinite, point))]
    box = hull(points) if points else Box(0, 0, 1, 1)
    return box.right, box.bottom


def _notes(page: PageLike, counts: Counter[str]) -> Iterable[str]:
    name = page.file if page.page == 1 else f"{page.file}, page {page.page}"
    for kind in (_CHARACTERS, _OTHER_WORDS, _NO_PLACE, _MOVED):
        if count := counts[kind]:
            yield f"{name}: {count} {kind}."


def _clean_line(line: Line, page: Box, counts: Counter[str]) -> Line | None:
    """The line with allowed text and places; None if it has no text."""
    text = " ".join(_allowed(line.text, counts).split())
    # The notes count words, so what happens to the box of a line that has words is not counted.
    moved = counts if text and not line.words else Counter()
    quad = _inside(line.quad, page, moved) or _hull_quad(line.words, page) or page.quad()
    # The same characters were already counted in the line's text.
    texts = [" ".join(_allowed(word.text, Counter()).split()) for word in line.words]
    said = "".join("".join(texts).split())
    if text and said and said != "".join(text.split()):
        counts[_OTHER_WORDS] += 1
        texts = []
    words, place = [], 0
    for word, word_text in zip(line.words, texts, strict=False):
        if word_text:
            share = _share_of_line(quad, text or word_text, place, len(word_text))
            words.append(_clean_word(word, word_text, share, page, counts))
            place += len(word_text) + 1
    words = words or _split(text, quad, line.confidence)
    if not words:
        return None
    return Line(
        text=text or " ".join(word.text for word in words),
        quad=quad,
        confidence=_share(line.confidence),
        words=tuple(words),
        block=line.block,
        baseline=_clean_baseline(line.baseline, page),
        cap_height=line.cap_height if line.cap_height and math.isfinite(line.cap_height) else None,
    )


def _share_of_line(quad: Quad, text: str, start: int, count: int) -> Quad:
    """The piece of a line's quad that `count` characters of its text take, if all are equally wide."""
    first, last = min(1.0, start / len(text)), min(1.0, (start + count) / len(text))
    return part(quad, 1 - last, 1 - first) if runs_leftwards(text) else part(quad, first, last)


def _clean_word(word: Word, text: str, share: Quad, page: Box, counts: Counter[str]) -> Word:
    quad = _inside(word.quad, page, counts)
    if quad is None:
        counts[_NO_PLACE] += 1
    return Word(text, quad or share, _share(word.confidence))


def _allowed(text: str, counts: Counter[str]) -> str:
    # Some of them divide words: form feeds, and the separators of old records.
    kept, left_out = FORBIDDEN.subn(lambda match: " " if match[0].isspace() else "", text)
    counts[_CHARACTERS] += left_out
    return kept


def _share(confidence: float | None) -> float | None:
    if confidence is None or not math.isfinite(confidence):
        return None
    return min(1.0, max(0.0, confidence))


def _split(text: str, quad: Quad, confidence: float | None) -> list[Word]:
    """Words for a line that has none: its quad is shared out by the number of characters."""
    return [
        Word(match[0], _share_of_line(quad, text, match.start(), len(match[0])), _share(confidence))
        for match in re.finditer(r"\S+", text)
    ]


def _hull_quad(words: Iterable[Word], page: Box) -> Quad | None:
    points = [point for word in words for point in word.quad if all(map(math.isfinite, point))]
    return _inside(hull(points).quad(), page, Counter()) if points else None


def _inside(quad: Quad, page: Box, counts: Counter[str]) -> Quad | None:
    """The quad with its corners moved into the page and at least a pixel wide; None if it has no place."""
    if len(quad) != 4 or not all(math.isfinite(value) for point in quad for value in point):
        return None
    moved = tuple(_clamp(point, page) for point in quad)
    box = hull(moved)
    # An upright box of a pixel takes the place of a flat one, and keeps to the page at its far edges.
    flat = box.width < MIN_SIDE or box.height < MIN_SIDE
    if flat:
        left = min(box.left, page.right - MIN_SIDE)
        top = min(box.top, page.bottom - MIN_SIDE)
        wide = Box(left, top, max(box.right, left + MIN_SIDE), max(box.bottom, top + MIN_SIDE))
        moved = _turned(wide, angle(quad))
    if flat or moved != tuple(quad):
        counts[_MOVED] += 1
    (a, b, c, d) = moved
    return (a, b, c, d)


def _turned(box: Box, degrees: float) -> Quad:
    """The corners of a box from where text of this angle begins."""
    a, b, c, d = box.quad()
    quarter = round(degrees / 90) % 4
    return ((a, b, c, d), (b, c, d, a), (c, d, a, b), (d, a, b, c))[quarter]


def _clamp(point: Point, page: Box) -> Point:
    return (min(max(point[0], page.left), page.right), min(max(point[1], page.top), page.bottom))


def _clean_baseline(baseline: Baseline | None, page: Box) -> Baseline | None:
    if baseline is None or not all(math.isfinite(value) for point in baseline for value in point):
        return None
    start, end = (_clamp(point, page) for point in baseline)
    return None if math.dist(start, end) < MIN_SIDE else (start, end)


def with_clean_names(
    pages: Sequence[PageLike], cleaned: Sequence[TextPage], sources: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The sources, found under the names of cleaned pages too: a path may hold what XML forbids."""
    known = dict(sources or {})
    for page, kept in zip(pages, cleaned, strict=True):
        if page.file != kept.file:
            known[kept.file] = known.get(page.file, page.file)
    return known
