"""A page's text while strips are still read: each line as soon as nothing that is unread can change it.

strips end in any order -> DecidedLines -> lines in the order of the page, with the tokens that gave them

Whether a strip counts as text depends on the whole page (inference/lines.py, `assemble`): on the median of
all confidences, and on whether letters were read or signs alone. So a line waits until both are certain,
whatever the strips that are unread may say.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from nanoocr.inference.assemble import (
    DOUBTFUL,
    MANY_STRIPS,
    SURE,
    StripReading,
    make_line,
    surely_text,
)
from nanoocr.inference.engine import Completion
from nanoocr.layout import PageLayout, Strip


@dataclass
class DecidedLines:
    """The strips of a page in its order, and what has been read of them in all looks.

    `least` is the confidence below which the reader leaves a strip out.
    """

    layout: PageLayout
    strips: Sequence[Strip]
    least: float
    readings: dict[int, StripReading] = field(default_factory=dict)
    is_text: bool = False  # once certain, it stays so
    told: int = 0  # strips whose lines have been given
    block: int | None = None  # of the line that was given last

    def add(self, place: int, reading: StripReading) -> Iterator[tuple[str, list[Completion]]]:
        """Note what strip `place` says; gives the lines that are decided now, what parts them in front."""
        self.readings[place] = reading
        bound = self._bound()
        self.is_text = self.is_text or self._is_text(bound)
        if not self.is_text:
            return
        while self.told < len(self.strips):
            number = self.strips[self.told].line
            end = self.told
            while end < len(self.strips) and self.strips[end].line == number:
                end += 1
            kept = [self._kept(i, bound) for i in range(self.told, end)]
            if None in kept:
                return
            parts = [self.readings[self.told + i] for i, keep in enumerate(kept) if keep]
            self.told = end
            if parts:
                yield self._line(number, parts)

    def _line(self, number: int, parts: Sequence[StripReading]) -> tuple[str, list[Completion]]:
        line = make_line(self.layout.lines[number], parts)
        # As document.join_lines parts lines.
        before = "" if self.block is None else "\n" if line.block == self.block else "\n\n"
        self.block = line.block
        return before + line.text, [part.completion for part in parts]

    def _kept(self, place: int, bound: tuple[float, float]) -> bool | None:
        """Whether a strip will be kept; None where that is open."""
        reading = self.readings.get(place)
        if reading is None:
            return None
        if not reading.completion.text.strip() or reading.first_confidence < bound[0]:
            return False
        return True if reading.first_confidence >= bound[1] else None

    def _bound(self) -> tuple[float, float]:
        """The confidence below which a strip is surely left out, and from which on it is surely kept."""
        strict = max(self.least, SURE)
        if not self.least or len(self.strips) < MANY_STRIPS:
            return self.least, self.least
        said = [one.first_confidence for one in self.readings.values() if one.completion.text.strip()]
        unread = len(self.strips) - len(self.readings)
        # A median is at least as large as something that more than half of all reach.
        if 2 * sum(sure >= DOUBTFUL for sure in said) > len(said) + unread:
            return self.least, self.least
        return self.least, strict

    def _is_text(self, bound: tuple[float, float]) -> bool:
        """Whether the page will be taken for text, whatever comes (`inference.assemble.hardly_text`)."""
        kept = [reading for place, reading in self.readings.items() if self._kept(place, bound)]
        return not self.least or surely_text(kept)
