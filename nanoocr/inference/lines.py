"""Reading by lines: the finder says where the lines of a page are, the model reads strips of them.

picture -> layout (lines with geometry) -> strips, 64 pixels high -> Engine, strips of one width together
        -> text of each strip, from a second look where the first is doubtful -> words with places -> lines
        -> the page's text
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from PIL import Image

from nanoocr.alphabet import written_in
from nanoocr.image_process import PictureViews, count_picture_tokens
from nanoocr.inference.assemble import PageReading, StripReading, assemble, line_in
from nanoocr.inference.engine import Completion, Request
from nanoocr.inference.sampling import SamplingConfig
from nanoocr.layout import PageLayout, Strip, TextLine, cut_strips, find_page, stretch_strip
from nanoocr.model.vlm import VLM

# Strips decoded together; the more there are, the fewer passes run for the last strip or two.
STRIPS_AT_ONCE = 256
# Strips that the model is less sure of are no text more often than text: borders, dirt, pictures. The value
# is where text that is left out and text that is invented weigh alike on synthetic pages.
LEAST_CONFIDENCE = 0.5
# A strip says no more than this: the narrowest letters are some 5 pixels wide, an accent takes two tokens of
# bytes. The bound keeps the cache small and ends what goes in circles.
MOST_TOKENS, PIXELS_PER_TOKEN = 24, 4
# A strip of which the model is less sure than this is looked at once more with its letters HIGHER and WIDER,
# and the surer text is taken. Nobody knows before at which size a print is read best, and wider letters part
# what stands close together. On real lines a sixth of the errors goes (docs/log.md, "a second look").
DOUBTFUL_STRIP, HIGHER, WIDER = 0.97, 1.06, 1.15
PROBES = 4  # lines that are read to tell whether a page stands on its head
# Most tokens of each, because a line on its head gives long nonsense, in which no draft helps.
PROBE_TOKENS = 32
# A page that stood on its head was read with .87 (tests/formats/test_ocrmypdf.py).
SURELY_UPRIGHT = 0.93  # mean confidence of probes from which the other way up is not tried
CLEARLY = 0.1  # the other way up must be surer than the page as it came by at least this much


class Decodes(Protocol):
    """What a LineReader needs of an engine: the server has one that many requests share."""

    @property
    def model(self) -> VLM:
        """The model, which names the id of a picture's tokens."""

    def generate(
        self, requests: Sequence[Request], sampling: SamplingConfig | None = None, *, max_batch: int = ...
    ) -> list[Completion]:
        """A completion for each request, in their order, `max_batch` of them decoded together."""


@dataclass(frozen=True)
class LineReader:
    """An engine, and how it is asked about strips."""

    engine: Decodes
    before: tuple[int, ...]  # ids before the run of picture ids
    behind: tuple[int, ...]  # ids after that run
    sampling: SamplingConfig
    least_confidence: float = LEAST_CONFIDENCE
    max_tokens: int | None = None  # most tokens of a strip
    letters: str = ""  # what it writes its lines in (see `written_in`), whatever the print is

    def read(self, image: Image.Image) -> PageReading:
        """The lines of an RGB picture, in reading order."""
        layout = self.upright_layout(image)
        strips = [s for number, line in enumerate(layout.lines) for s in cut_strips(image, line, number)]
        readings = self.read_strips(strips)
        return self.page_of(layout, readings)

    def page_of(self, layout: PageLayout, readings: Sequence[StripReading]) -> PageReading:
        """The page out of its strips, its lines written in this reader's letters."""
        page = assemble(layout, readings, self.least_confidence)
        return replace(page, lines=tuple(line_in(line, self.letters) for line in page.lines))

    def written(self, reading: StripReading) -> StripReading:
        """The reading of a strip in this reader's letters."""
        if not self.letters:
            return reading
        completion = replace(reading.completion, text=written_in(reading.completion.text, self.letters))
        return replace(reading, completion=completion)

    def upright_layout(self, image: Image.Image) -> PageLayout:
        """The layout the right way up: where the finder doubts, both ways are tried by reading."""
        layout = find_page(image)
        on_head = layout.upright.quarter_turns >= 2  # for letters at random the finder's signs say nothing
        if not on_head and not (layout.lines and layout.upright.doubtful_180):
            return layout
        # Reading costs time, so the other way up is tried only where this one reads badly.
        found = self._probe(image, layout)
        if not on_head and found[0] >= SURELY_UPRIGHT:
            return layout
        # Lines are cut along the direction of reading, so the layout has to be found anew.
        other = find_page(image, (layout.upright.quarter_turns + 2) % 4)
        readings = (found, self._probe(image, other))
        level, turned = readings[::-1] if on_head else readings
        return layout if reads_better_turned(level, turned) == on_head else other

    def _probe(self, image: Image.Image, layout: PageLayout) -> tuple[float, int]:
        """Read the longest lines; returns their mean confidence and how many characters were read."""
        # The line with the most letters says the most, and not the one with the largest.
        longest = sorted(layout.lines, key=lambda line: _length(line) / line.cap_height)[-PROBES:]
        strips = [strip for line in longest for strip in cut_strips(image, line)[:1]]
        # The two ways up must be compared at one size, so there is no second look here.
        most = min(PROBE_TOKENS, self.max_tokens or PROBE_TOKENS)
        readings = replace(self, max_tokens=most).look(strips)
        said = [reading for reading in readings if reading.completion.text]
        letters = sum(len(reading.completion.text) for reading in said)
        # A strip in which nothing is read speaks against this way up, so all probes share the mean.
        return sum(reading.confidence for reading in said) / max(len(readings), 1), letters

    def read_strips(self, strips: Sequence[Strip]) -> list[StripReading]:
        """What each strip says, in their order, after a second look at the doubtful ones."""
        return self.look_again(self.look(strips))

    def look_again(self, readings: Sequence[StripReading]) -> list[StripReading]:
        """The readings after a second look at the doubtful ones, in the same order."""
        doubtful = [i for i, reading in enumerate(readings) if self.doubts(reading)]
        again = self.look([stretch_strip(readings[i].strip, HIGHER, WIDER) for i in doubtful])
        best = list(readings)
        for i, second in zip(doubtful, again, strict=True):
            best[i] = surer(readings[i], second)
        return best

    def doubts(self, reading: StripReading) -> bool:
        """Whether a second look is worth its time: something was read that may stay, but not for sure."""
        said = bool(reading.completion.text.strip())
        return said and self.least_confidence <= reading.confidence < DOUBTFUL_STRIP

    def look(self, strips: Sequence[Strip]) -> list[StripReading]:
        """What each strip says at a first look, in their order; strips of one width are read together."""
        # Strips of one width go through the encoder together and end after about as many steps.
        order = sorted(range(len(strips)), key=lambda i: strips[i].image.shape[1])
        requests = [self.request(strips[i]) for i in order]
        done = self.engine.generate(requests, self.sampling, max_batch=STRIPS_AT_ONCE) if requests else []
        by_place = dict(zip(order, done, strict=True))
        return [StripReading(strip, by_place[i]) for i, strip in enumerate(strips)]

    def request(self, strip: Strip) -> Request:
        """What is asked about a strip."""
        views = PictureViews(torch.from_numpy(strip.image))
        run = (self.engine.model.image_id,) * count_picture_tokens(views)
        most = MOST_TOKENS + strip.image.shape[1] // PIXELS_PER_TOKEN
        return Request((*self.before, *run, *self.behind), (views,), min(most, self.max_tokens or most))


def reads_better_turned(level: tuple[float, int], turned: tuple[float, int]) -> bool:
    """Whether a page stands on its head, from (confidence, characters) of its probes both ways up.

    Few pages do, so that reading must speak clearly for it. A letter or two cannot: many a sign is another
    one on its head.
    """
    # The fewer characters there are, the more the two readings must differ.
    clearly = CLEARLY + 1 / max(level[1], turned[1], 1)
    return turned[0] > level[0] + clearly


def surer(first: StripReading, second: StripReading) -> StripReading:
    """The reading of the surer of two looks at a strip."""
    taken = second if second.confidence > first.confidence else first
    return replace(taken, looks=(first.completion, second.completion))


def _length(line: TextLine) -> float:
    return math.dist(line.baseline[0], line.baseline[-1])
