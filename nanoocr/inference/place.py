"""Where the words of a line stand: the text of a strip is laid along its ink, blanks on blanks.

The reader names characters, the finder knows the blanks between words. Each blank of the text is laid on one
of those blanks, in order, so that the words in between get about the width that their letters take.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

NARROW, WIDE = frozenset("iljI.,:;'|!()[]t‘’·"), frozenset("mwMW@%—…™")
WRONG_PLACE = 4.0  # cost of a blank that lies a whole word's width away, in widths of a found blank


@dataclass(frozen=True)
class Span:
    """A stretch along a line, in pixels from the line's beginning."""

    start: float
    end: float


def widths(text: str) -> list[float]:
    """About how wide each character is, in any unit: what a common face makes of it."""
    special = {**dict.fromkeys(NARROW, 0.5), **dict.fromkeys(WIDE, 1.5)}
    return [special.get(char, 1.2 if char.isupper() else 1.0) for char in text]


def place_words(words: Sequence[str], line: Span, gaps: Sequence[Span]) -> list[Span]:
    """The span of each word of a text that fills `line`; `gaps` are the blanks between its ink.

    Without enough gaps the words share the line by the width of their letters.
    """
    if not words:
        return []
    expected = _by_width(words, line)
    # The margins of a strip are blank too, but they lie between no words.
    inner = [gap for gap in gaps if line.start < gap.start and gap.end < line.end]
    # In tight print the finder misses blanks; then not every word can get one of its own.
    if len(words) == 1 or len(inner) < len(words) - 1:
        return expected
    chosen = _match([(a.end + b.start) / 2 for a, b in pairwise(expected)], inner, line)
    starts = [line.start, *(gap.end for gap in chosen)]
    ends = [*(gap.start for gap in chosen), line.end]
    return [Span(start, end) for start, end in zip(starts, ends, strict=True)]


def _by_width(words: Sequence[str], line: Span) -> list[Span]:
    """The words one behind the other, a narrow blank between two, stretched to the line."""
    lengths = [sum(widths(word)) for word in words]
    # In widths of a common letter, about as most faces set it.
    blank = 0.6
    scale = (line.end - line.start) / (sum(lengths) + blank * (len(words) - 1))
    spans, at = [], line.start
    for length in lengths:
        spans.append(Span(at, at + length * scale))
        at += (length + blank) * scale
    return spans


def _match(wanted: Sequence[float], gaps: Sequence[Span], line: Span) -> list[Span]:
    """One gap for each wanted place, rising, at the least cost: far gaps cost much, wide gaps little."""
    widest = max(gap.end - gap.start for gap in gaps)
    word = (line.end - line.start) / (len(wanted) + 1)

    def cost(place: float, gap: Span) -> float:
        """How badly a gap suits a blank that is expected at `place`, an x in pixels; lower is better."""
        # Measured in words, so that long and short lines weigh the blank's width alike.
        away = abs((gap.start + gap.end) / 2 - place) / word
        return WRONG_PLACE * away - (gap.end - gap.start) / widest

    # best[j]: the least cost of the places so far, the last of them on one of the first j gaps, and the gaps.
    best: list[tuple[float, tuple[int, ...]]] = [(0.0, ())] * (len(gaps) + 1)
    for number, place in enumerate(wanted):
        row: list[tuple[float, tuple[int, ...]]] = [(float("inf"), ())]
        for j, gap in enumerate(gaps):
            # A state that has no gap for an earlier word cannot be continued.
            before = best[j] if len(best[j][1]) == number else (float("inf"), ())
            taken = (before[0] + cost(place, gap), (*before[1], j))
            # Either this gap is taken, or the best choice without it stays.
            row.append(min(row[-1], taken, key=lambda pair: pair[0]))
        best = row
    return [gaps[j] for j in best[-1][1]]
