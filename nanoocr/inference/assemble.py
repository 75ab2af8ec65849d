"""Strips that were read become the lines and words of a page, each with its place and confidence.

What is no text is left out here: strips of which the model is not sure, and pages with hardly a letter.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np

from nanoocr.alphabet import written_in
from nanoocr.document import Line, Quad, Word
from nanoocr.inference.engine import Completion, TokenCount
from nanoocr.inference.place import Span, place_words
from nanoocr.layout import PageLayout, Strip, TextLine
from nanoocr.layout.strips import BASELINE, lengths_along

SURE = 0.85  # confidence from which on a reading is believed without a second thought
MANY_STRIPS, DOUBTFUL = 6, 0.75  # a page of at least this many strips is judged by their median confidence
LEAST_LETTERS = 0.25  # least share of letters and digits in text; even tables of dashes have that many
SHAPES = frozenset("IlOo")  # letters that a stroke or a ring may be
# What is read on a raster has at most so few different signs, and each comes at least so often on average.
FEW_LETTERS, SAME_LETTERS = 3, 3
# Of so many strips of a page of text more than this share is read: two thirds at least on 74 real pages, and
# less than a fiftieth on rasters (docs/log.md, "colons, rasters and print that runs sideways").
PAGE_OF_STRIPS, LEAST_READ = 40, 0.05
# If so many letters and digits are surely read, and so many of them differ, the page is text whatever else
# stands on it, and a stream of its lines may begin. Dirt, rasters and holes gave two (scripts.measure_pages).
SURELY_LETTERS, SURELY_DIFFERENT = 24, 8
ONE_LINE = 6  # a picture lower than this many cap heights shows one line
SAME_WORD = 0.15  # strips nearer to each other than this many cap heights share a word that was cut
ASCENDERS = frozenset("bdfhklt")
DESCENDERS = frozenset("gjpqy,;Qçş()[]{}/|_§")


@dataclass(frozen=True)
class StripReading:
    """A strip of a page and what the model read there, in the look of which it was surest."""

    strip: Strip
    completion: Completion
    looks: tuple[Completion, ...] = ()  # all looks in their order; () if there was only one

    @property
    def confidence(self) -> float:
        """Geometric mean of the probabilities of all tokens, the end included: 0 to 1."""
        return confidence_of(self.completion)

    @property
    def least_probability(self) -> float:
        """The probability of the token that the model doubts most, the end included."""
        return min((*self.completion.probabilities, self.completion.stop_probability))

    @property
    def first_confidence(self) -> float:
        """The confidence of the first look. It tells text from dirt better than the surest of all looks."""
        return confidence_of(self.looks[0] if self.looks else self.completion)

    @property
    def tokens(self) -> TokenCount:
        """The tokens of all looks."""
        return sum_tokens([look.tokens for look in self.looks or (self.completion,)])


@dataclass(frozen=True)
class PageReading:
    """The lines that were read on a page; `tokens` counts those of all its strips."""

    lines: tuple[Line, ...]
    quarter_turns: int  # quarter turns clockwise that would set the page upright
    tokens: TokenCount
    confidence: float | None
    truncated: bool = False
    left_out: int = 0  # how many strips were left out, below the least confidence
    completions: tuple[Completion, ...] = ()  # one per strip whose text is in the lines, in the same order
    kept: int = 0  # how many strips have a text that is believed


def assemble(layout: PageLayout, readings: Sequence[StripReading], least: float) -> PageReading:
    """The page's lines out of its strips; what the model is not sure of is left out and counted."""
    said = [one for one in readings if one.completion.text.strip()]
    least = max(least, least_of_page([one.first_confidence for one in said])) if least else 0.0
    kept = [one for one in said if one.first_confidence >= least]
    if least and hardly_text(layout, kept, len(readings)):
        kept = []
    unsure = len(said) - len(kept)
    # Strips come in reading order, and a dictionary keeps the order of its keys.
    by_line: dict[int, list[StripReading]] = {}
    for reading in kept:
        by_line.setdefault(reading.strip.line, []).append(reading)
    lines = tuple(make_line(layout.lines[number], parts) for number, parts in by_line.items())
    every = [p for one in kept for p in one.completion.probabilities]
    return PageReading(
        lines=lines,
        quarter_turns=-layout.upright.quarter_turns % 4,  # the finder counts anticlockwise
        tokens=sum_tokens([one.tokens for one in readings]),
        confidence=sum(every) / len(every) if every else None,
        truncated=any(one.completion.status == "truncated" for one in kept),
        left_out=unsure,
        completions=tuple(one.completion for parts in by_line.values() for one in parts),
        kept=len(kept),
    )


def hardly_text(layout: PageLayout, kept: Sequence[StripReading], strips_of_page: int) -> bool:
    """Whether only signs were read, with hardly a letter or digit among them, or next to nothing of the page.

    Holes of a punch, dirt and rasters look like signs, strokes and rings alone like I and O. Whoever cuts out
    a sign alone means it, so that one is believed which nearly fills the picture and is surely read.
    """
    if surely_text(kept):
        return False
    # A raster or a texture gives hundreds of strips, of which a few look like text by chance.
    if strips_of_page >= PAGE_OF_STRIPS and len(kept) < LEAST_READ * strips_of_page:
        return True
    strips = ["".join(one.completion.text.split()) for one in kept]
    said = "".join(strips)
    letters = [char for char in said if char.isalnum()]
    # The dots of a raster are bullets in one row, and the same few digits over and over in the next.
    bullets = any(not any(map(str.isalnum, strip)) for strip in strips)
    different = len(set(letters))
    dots = bullets and different <= FEW_LETTERS and len(letters) >= SAME_LETTERS * different
    if not dots and said not in SHAPES and len(letters) >= LEAST_LETTERS * len(said):
        return False
    tallest = max(layout.lines[one.strip.line].cap_height for one in kept)
    return tallest * ONE_LINE < layout.size[0] or min(one.confidence for one in kept) < SURE


def surely_text(kept: Sequence[StripReading]) -> bool:
    """Whether so much was surely read that nothing else on the page can change the verdict."""
    said = "".join(one.completion.text for one in kept if one.first_confidence >= SURE)
    letters = [char for char in said if char.isalnum()]
    return len(letters) >= SURELY_LETTERS and len(set(letters)) >= SURELY_DIFFERENT


def least_of_page(confidences: Sequence[float]) -> float:
    """The least confidence for the strips of a page; it is high if most of them are doubtful.

    A raster, a texture or the back of a page gives many strips in which the model sees a sign here and there.
    A page of text has few of those, also where its print is bad.
    """
    doubtful = len(confidences) >= MANY_STRIPS and median(confidences) < DOUBTFUL
    return SURE if doubtful else 0.0


def confidence_of(completion: Completion) -> float:
    """Geometric mean of the probabilities of all its tokens, the end included: 0 to 1."""
    return geometric_mean((*completion.probabilities, completion.stop_probability))


def geometric_mean(probabilities: Sequence[float]) -> float:
    """The mean of probabilities in logarithms; 0 where one of them is 0 or there is none."""
    if not probabilities or min(probabilities) <= 0:
        return 0.0
    return math.exp(sum(map(math.log, probabilities)) / len(probabilities))


def sum_tokens(counts: Sequence[TokenCount]) -> TokenCount:
    """All counts together, kind by kind."""
    return TokenCount(*(sum(column) for column in zip(*counts))) if counts else TokenCount(0, 0, 0)


# ---------------------------------------------------------------------------------------------------
# Lines and words


def make_line(line: TextLine, parts: Sequence[StripReading]) -> Line:
    """One line of text out of the strips that it was cut into."""
    words: list[Word] = []
    end: np.ndarray | None = None
    for reading in parts:
        start = _on_page(reading.strip, reading.strip.used[0])
        placed = list(words_of(line, reading))
        # A line without a blank is cut inside a word; the two strips then touch, and so do the halves.
        if end is not None and placed and math.dist(start, end) < SAME_WORD * line.cap_height:
            words[-1:] = [_joined(words[-1], placed.pop(0))]
        words += placed
        end = _on_page(reading.strip, reading.strip.used[1])
    return Line(
        text=" ".join(word.text for word in words),
        quad=line.quad,
        confidence=geometric_mean([reading.confidence for reading in parts]),
        words=tuple(words),
        block=line.block,
        baseline=(line.baseline[0], line.baseline[-1]),
        cap_height=line.cap_height,
    )


def line_in(line: Line, letters: str) -> Line:
    """The line and its words in capitals or small letters; their places were found by the print."""
    if not letters:
        return line
    words = tuple(replace(word, text=written_in(word.text, letters)) for word in line.words)
    return replace(line, text=written_in(line.text, letters), words=words)


def words_of(line: TextLine, reading: StripReading) -> Iterator[Word]:
    """The words of a strip, with their places on the page."""
    strip, completion = reading.strip, reading.completion
    texts = completion.text.split()
    spans = place_words(texts, Span(*strip.used), _gaps_in_strip(line, strip))
    for text, span, confidence in zip(texts, spans, word_confidences(completion, texts), strict=True):
        yield Word(text, _word_quad(line, strip, span, text), confidence)


def word_confidences(completion: Completion, texts: Sequence[str]) -> list[float]:
    """Geometric mean of the probabilities of each word's tokens, the blank before it included."""
    ends, at = [], 0
    for text in texts:
        # The search goes on behind the last word, because the same word may come twice.
        at = completion.text.index(text, at) + len(text)
        ends.append(at)
    groups: list[list[float]] = [[] for _ in texts]
    for place, probability in zip(completion.places, completion.probabilities, strict=True):
        # A blank stands before its word, so a token belongs to the first word that ends behind it.
        number = next((i for i, end in enumerate(ends) if place < end), len(ends) - 1)
        groups[number].append(probability)
    return [geometric_mean(group) for group in groups]


def _joined(one: Word, other: Word) -> Word:
    quad = (one.quad[0], other.quad[1], other.quad[2], one.quad[3])
    # A word is as doubtful as its worse half; a mean would hide that.
    least = min(one.confidence or 0.0, other.confidence or 0.0)
    return Word(one.text + other.text, quad, least)


def _gaps_in_strip(line: TextLine, strip: Strip) -> list[Span]:
    """The blanks of a line as columns of its strip."""
    if not line.gaps:
        return []
    points = np.asarray(line.baseline)
    along = lengths_along(line)
    at = np.asarray(line.gaps).reshape(-1)
    on_page = np.stack([np.interp(at, along, points[:, 0]), np.interp(at, along, points[:, 1])], axis=1)
    # Only the columns matter: on the strip the baseline is level.
    columns = np.linalg.solve(strip.to_page[:, :2], (on_page - strip.to_page[:, 2]).T)[0]
    return [Span(float(start), float(end)) for start, end in columns.reshape(-1, 2)]


def _word_quad(line: TextLine, strip: Strip, span: Span, text: str) -> Quad:
    """The word's corners on the page: as high as its letters rise above the baseline and hang below it."""
    # Capitals and digits rise as high as ascenders; all other letters are as high as an x.
    tall = any(char in ASCENDERS or not char.islower() for char in text)
    # The letters of a strip are as large as the look at it made them.
    cap_height = line.cap_height / float(np.hypot(*strip.to_page[:, 1]))
    top = BASELINE - cap_height * (1.05 if tall else 0.75)
    bottom = BASELINE + cap_height * (0.3 if any(char in DESCENDERS for char in text) else 0.03)
    corners = ((span.start, top), (span.end, top), (span.end, bottom), (span.start, bottom))
    a, b, c, d = (_on_page(strip, *corner) for corner in corners)
    return (_point(a), _point(b), _point(c), _point(d))


def _on_page(strip: Strip, x: float, y: float = BASELINE) -> np.ndarray:
    return strip.to_page @ np.array([x, y, 1.0])


def _point(xy: np.ndarray) -> tuple[float, float]:
    return (float(xy[0]), float(xy[1]))
