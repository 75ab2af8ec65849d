"""A page's text while strips are still read: each line as soon as nothing that is unread can change it.

strips end in any order -> DecidedLines -> lines in the order of the page, with the tokens that gave them

Whether a strip counts as text depends on the whole page (inference/lines.py, `assemble`): on the median of
all confidences, and on how many letters there are among all signs. So a line waits until both are certain,
whatever the strips that are unread may say.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from nanoocr.inference.engine import Completion
from nanoocr.inference.lines import (
    DOUBTFUL,
    LEAST_LETTERS,
    MANY_STRIPS,
    SURE,
    SURELY_TEXT,
    StripReading,
    make_line,
)
from nanoocr.layout import PageLayout, Strip


@dataclass
class DecidedLines:
    """The strips of a page in its order, and what has been read of them.

    `most` holds, for each strip, the most characters that it may say; `least` is the confidence below which
    the reader leaves a strip out.
    """

    layout: PageLayout
    strips: Sequence[Strip]
    most: Sequence[int]
    least: float
    readings: dict[int, StripReading] = field(default_factory=dict)
    signs: dict[int, tuple[int, int]] = field(default_factory=dict)  # letters and digits, all but blanks
    is_text: bool = False  # once certain, it stays so
    told: int = 0  # strips whose lines have been given
    block: int | None = None  # of the line that was given last

    def add(self, place: int, reading: StripReading) -> Iterator[tuple[str, list[Completion]]]:
        """Note what strip `place` says; gives the lines that are decided now, what parts them in front."""
        self.readings[place], text = reading, reading.completion.text
        self.signs[place] = sum(map(str.isalnum, text)), len("".join(text.split()))
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
        if not reading.completion.text.strip() or reading.confidence < bound[0]:
            return False
        return True if reading.confidence >= bound[1] else None

    def _bound(self) -> tuple[float, float]:
        """The confidence below which a strip is surely left out, and from which on it is surely kept."""
        strict = max(self.least, SURE)
        if not self.least or len(self.strips) < MANY_STRIPS:
            return self.least, self.least
        said = [one.confidence for one in self.readings.values() if one.completion.text.strip()]
        unread = len(self.strips) - len(self.readings)
        # A median is at least as large as something that more than half of all reach.
        if 2 * sum(sure >= DOUBTFUL for sure in said) > len(said) + unread:
            return self.least, self.least
        return self.least, strict

    def _is_text(self, bound: tuple[float, float]) -> bool:
        """Whether the page will be taken for text, whatever comes (`inference.lines.hardly_text`)."""
        if not self.least:
            return True
        letters = signs = surely = 0
        for place, (of_letters, of_all) in self.signs.items():
            kept = self._kept(place, bound)
            letters += of_letters if kept else 0
            signs += 0 if kept is False else of_all
            surely += of_letters if kept and self.readings[place].confidence >= SURE else 0
        if surely >= SURELY_TEXT:
            return True
        signs += sum(most for place, most in enumerate(self.most) if place not in self.readings)
        return letters > 0 and letters >= LEAST_LETTERS * signs
