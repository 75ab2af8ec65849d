"""Reading by lines: the finder says where the lines of a page are, the model reads strips of them.

picture -> layout (lines with geometry) -> shares of the lines, one for each thread
        -> strips, 64 pixels high -> Engine, strips of one width together
        -> text of each strip, from further looks where the first is doubtful -> words with places -> lines
        -> the page's text
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import NamedTuple, Protocol

import torch
from PIL import Image

from nanoocr.alphabet import written_in
from nanoocr.image_process import PictureViews, count_picture_tokens
from nanoocr.inference.assemble import SURE, PageReading, StripReading, assemble, line_in
from nanoocr.inference.engine import Completion, Request
from nanoocr.inference.sampling import SamplingConfig
from nanoocr.inference.threads import shares_of, side_by_side, undivided_products
from nanoocr.layout import PageLayout, Strip, TextLine, cut_strips, find_page, stretch_strip, turn_over
from nanoocr.model.vlm import VLM
from nanoocr.picture_header import MAX_PIXELS

# Strips that all threads decode together, and the fewest of one thread. The more there are, the fewer passes
# run for the last strip or two; but each has half a megabyte of keys and values.
STRIPS_AT_ONCE, STRIPS_OF_A_THREAD = 128, 32
# Strips that the model is less sure of are no text more often than text: borders, dirt, pictures. The value
# is where text that is left out and text that is invented weigh alike on synthetic pages.
LEAST_CONFIDENCE = 0.5
# A strip says no more than this: the narrowest letters are some 5 pixels wide, an accent takes two tokens of
# bytes. The bound keeps the cache small and ends what goes in circles.
MOST_TOKENS, PIXELS_PER_TOKEN = 24, 4
# A strip of which the model is less sure than this is looked at again with letters of another shape, at most
# this often, and the surest text is taken. Nobody knows before at which size a print is read best, and wider
# letters part what stands close together. A fifth of the errors on real lines goes (docs/log.md, "a third
# look").
DOUBTFUL_STRIP = 0.97
FURTHER_LOOKS = ((0.92, 1.1), (1.06, 1.15))  # how many times as high and as wide as at the first look
# A long strip is sure on the whole where one letter of it is not, so one token this doubtful is enough.
DOUBTFUL_TOKEN = 0.7
PROBES = 4  # lines that are read to tell whether a page stands on its head
# Most tokens of each, because a line on its head gives long nonsense, in which no draft helps.
PROBE_TOKENS = 32
# A page that stood on its head was read with .87 (tests/formats/test_ocrmypdf.py).
SURELY_UPRIGHT = 0.93  # mean confidence of probes from which the other way up is not tried
WITHOUT_DOUBT, ON_END = 0.99, 16  # mean confidence, and characters, that settle it alone
FLATTEST = 160  # width by height; the smallest copy that the finder makes then has three rows
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


class Probe(NamedTuple):
    """What some strips say of a page one way up."""

    confidence: float  # mean of the strips
    letters: int  # characters that they say
    read: dict[int, Completion]  # by line, of its first strip, where that was read to its end


class UprightLayout(NamedTuple):
    """A layout the right way up, and what was read to know it, as in a `Probe`."""

    layout: PageLayout
    read: dict[int, Completion]


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
    threads: int = 1  # that read lines of a page side by side

    def read(self, image: Image.Image) -> PageReading:
        """The lines of an RGB picture, in reading order."""
        with undivided_products() if self.threads > 1 else nullcontext():
            found = self.upright_layout(image)
            return self.page_of(found.layout, self.read_lines(image, found))

    def read_lines(self, image: Image.Image, found: UprightLayout) -> list[StripReading]:
        """The strips of all lines, in reading order."""
        # What is drawn at random depends on how many strips were read before, so that has one order.
        threads = 1 if self.sampling.temperature else self.threads
        shares = shares_of([room_for_letters(line) for line in found.layout.lines], threads)
        readings = side_by_side(partial(self._read_share, image, found), shares, threads)
        return sorted(chain.from_iterable(readings), key=lambda reading: reading.strip.line)

    def _read_share(self, image: Image.Image, found: UprightLayout, numbers: list[int]) -> list[StripReading]:
        """The strips of the lines with these numbers."""
        return self.read_strips(*cut_page(image, found, numbers))

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

    def upright_layout(self, image: Image.Image) -> UprightLayout:
        """The layout with its page and sideways lines the right way up: in doubt, both ways are read."""
        image = _not_too_flat(image)
        return self._settle_sideways(image, self._upright_page(image))

    def _settle_sideways(self, image: Image.Image, found: UprightLayout) -> UprightLayout:
        """The layout with each sideways line in the direction in which it is surely read, or without it."""
        lines = {i: line for i, line in enumerate(found.layout.lines) if line.sideways}
        if not lines:
            return found
        ways = [(i, way) for i, line in lines.items() for way in (line, turn_over(line))]
        readings = self.look([cut_strips(image, way, i)[0] for i, way in ways])
        settled = [line for line in found.layout.lines if not line.sideways]
        known = {number: said for number, said in found.read.items() if number not in lines}
        for place in range(0, len(ways), 2):
            best = max(
                place, place + 1, key=lambda k: readings[k].confidence * bool(readings[k].completion.text)
            )
            if readings[best].completion.text.strip() and readings[best].confidence >= SURE:
                known[len(settled)] = readings[best].completion
                settled.append(ways[best][1])
        return UprightLayout(replace(found.layout, lines=tuple(settled)), known)

    def _upright_page(self, image: Image.Image) -> UprightLayout:
        """The layout the right way up, before its sideways lines are settled."""
        layout = find_page(image)
        on_head = layout.upright.quarter_turns >= 2  # for letters at random the finder's signs say nothing
        if not on_head and not (layout.lines and layout.upright.doubtful_180):
            return UprightLayout(layout, {})
        # Reading costs time, so the other way up is tried only where this one reads badly. Most pages are as
        # they were found, so these strips are read to their ends and need not be read again.
        found = self._probe(image, layout, self.max_tokens)
        if not on_head and found.confidence >= SURELY_UPRIGHT:
            return UprightLayout(layout, found.read)
        # Lines are cut along the direction of reading, so the layout has to be found anew.
        turned = find_page(image, (layout.upright.quarter_turns + 2) % 4)
        other = self._probe(image, turned, min(PROBE_TOKENS, self.max_tokens or PROBE_TOKENS))
        as_found = reads_better_turned(other, found) if on_head else not reads_better_turned(found, other)
        return UprightLayout(layout, found.read) if as_found else UprightLayout(turned, other.read)

    def _probe(self, image: Image.Image, layout: PageLayout, most: int | None) -> Probe:
        """Read the first strips of the longest lines, at most so many tokens of each."""
        # The line with the most letters says the most, and not the one with the largest.
        level = [i for i, line in enumerate(layout.lines) if not line.sideways]
        numbers = sorted(level, key=lambda i: room_for_letters(layout.lines[i]))[-PROBES:]
        strips = [strip for i in numbers for strip in cut_strips(image, layout.lines[i], i)[:1]]
        readings = replace(self, max_tokens=most).look(strips)
        letters = sum(len(reading.completion.text) for reading in readings)
        said = [reading.confidence for reading in readings if reading.completion.text]
        ended = {one.strip.line: one.completion for one in readings if one.completion.status == "ok"}
        # A strip in which nothing is read speaks against this way up, so all probes share the mean.
        return Probe(sum(said) / max(len(readings), 1), letters, ended)

    def read_strips(
        self, strips: Sequence[Strip], known: Mapping[int, Completion] | None = None
    ) -> list[StripReading]:
        """What each strip says, in their order, after further looks at the doubtful ones.

        `known` holds the first look at some of them, by their place in `strips`.
        """
        return self.look_again(self.look(strips, known))

    def look_again(self, readings: Sequence[StripReading]) -> list[StripReading]:
        """The readings after further looks at the doubtful ones, in the same order."""
        best = list(readings)
        for high, wide in FURTHER_LOOKS:
            doubtful = [i for i, reading in enumerate(best) if self.doubts(reading)]
            # It is always the strip of the first look that is stretched: pixels get softer each time.
            again = self.look([stretch_strip(readings[i].strip, high, wide) for i in doubtful])
            for i, reading in zip(doubtful, again, strict=True):
                best[i] = surer(best[i], reading)
        return best

    def doubts(self, reading: StripReading) -> bool:
        """Whether a further look is worth its time: something was read that may stay, but not for sure."""
        if not reading.completion.text.strip() or reading.confidence < self.least_confidence:
            return False
        return reading.confidence < DOUBTFUL_STRIP or reading.least_probability < DOUBTFUL_TOKEN

    def look(
        self, strips: Sequence[Strip], known: Mapping[int, Completion] | None = None
    ) -> list[StripReading]:
        """What each strip says at a first look, in their order; strips of one width are read together."""
        order = reading_order(strips, known or {})
        requests = [self.request(strips[i]) for i in order]
        at_once = max(STRIPS_AT_ONCE // self.threads, STRIPS_OF_A_THREAD)
        done = self.engine.generate(requests, self.sampling, max_batch=at_once) if requests else []
        by_place = {**(known or {}), **dict(zip(order, done, strict=True))}
        return [StripReading(strip, by_place[i]) for i, strip in enumerate(strips)]

    def request(self, strip: Strip) -> Request:
        """What is asked about a strip."""
        views = PictureViews(torch.from_numpy(strip.image))
        run = (self.engine.model.image_id,) * count_picture_tokens(views)
        most = MOST_TOKENS + strip.image.shape[1] // PIXELS_PER_TOKEN
        return Request((*self.before, *run, *self.behind), (views,), min(most, self.max_tokens or most))


def cut_page(
    image: Image.Image, found: UprightLayout, numbers: Sequence[int] | None = None
) -> tuple[list[Strip], dict[int, Completion]]:
    """The strips of all lines or of those with these numbers, and by place what has been read already."""
    strips: list[Strip] = []
    known = {}
    for number in range(len(found.layout.lines)) if numbers is None else numbers:
        if number in found.read:
            known[len(strips)] = found.read[number]
        strips += cut_strips(image, found.layout.lines[number], number)
    return strips, known


def reading_order(strips: Sequence[Strip], known: Mapping[int, Completion]) -> list[int]:
    """The places of the strips that are not known, as they are decoded."""
    # Strips of one width go through the encoder together and end after about as many steps.
    return sorted((i for i in range(len(strips)) if i not in known), key=lambda i: strips[i].image.shape[1])


def reads_better_turned(level: Probe, turned: Probe) -> bool:
    """Whether a page stands on its head, from probes of it as it came and turned by 180 degrees.

    Few pages do, so that reading must speak clearly for it. A letter or two cannot: many a sign is another
    one on its head.
    """
    # Nothing that stands on its head reads without a doubt for words on end.
    if turned.letters >= ON_END and turned.confidence > WITHOUT_DOUBT and level.confidence < SURELY_UPRIGHT:
        return True
    # The fewer characters there are, the more the two readings must differ.
    clearly = CLEARLY + 1 / max(level.letters, turned.letters, 1)
    return turned.confidence > level.confidence + clearly


def surer(best: StripReading, further: StripReading) -> StripReading:
    """The surer of the best reading of a strip so far and a further look; it knows of all looks."""
    taken = further if further.confidence > best.confidence else best
    return replace(taken, looks=(*(best.looks or (best.completion,)), further.completion))


def room_for_letters(line: TextLine) -> float:
    """About how many letters a line has room for."""
    return math.dist(line.baseline[0], line.baseline[-1]) / line.cap_height


def _not_too_flat(image: Image.Image) -> Image.Image:
    """The picture with white below it, if it is flatter than a line of text can be; places do not move."""
    height = max(2, -(-image.width // FLATTEST))
    if image.height >= height:
        return image
    # A picture that would become too large in this way has no letters that could be told apart.
    taller = Image.new(
        "RGB", (image.width, height) if image.width * height <= MAX_PIXELS else (8, 8), "white"
    )
    taller.paste(image, (0, 0))
    return taller
