"""Before and after, on the user's own hold-out and on drawn lines, with intervals that say what is chance."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rapidfuzz.distance import Levenshtein

from nanoocr.alphabet import written_in, written_one_way
from nanoocr.bpe import Tokenizer
from nanoocr.data.example import prepare
from nanoocr.data.rows import Row, row_from_synth
from nanoocr.data.synth import VALIDATION_SEED, find_fonts, make_sample
from nanoocr.eval.grounding import wrong_picture
from nanoocr.eval.metrics import word_bag_f1, word_overlap
from nanoocr.eval.reading import read_examples
from nanoocr.finetune.task import asking, row_of
from nanoocr.finetune.types import CutDocument, TrueDocument
from nanoocr.inference.page import Page
from nanoocr.inference.reader import Reader
from nanoocr.model.vlm import VLM
from nanoocr.pages import PageRanges, parse_pages

DRAWS = 2000  # resamplings of an interval
FEWEST_GROUPS = 3  # documents that are resampled; one alone would have an interval without a width
MOST_TOKENS = 256  # a line gets at most this many
MOST_LOST = 0.005  # what the drawn lines' CER may rise by: half a point


@dataclass(frozen=True)
class Reading:
    """One text that was read: a document of the hold-out, or a line."""

    name: str
    group: str
    truth: str
    read: str
    gap: float = 0.0  # word overlap of what was read minus that of what was read on another line

    @property
    def errors(self) -> int:
        """The edit distance between what was read and the truth, in characters."""
        return Levenshtein.distance(self.read, self.truth)


@dataclass(frozen=True)
class Measured:
    """What one model reads: whole documents as `nanoocr read` does, their lines, and drawn lines."""

    pages: tuple[Reading, ...]
    lines: tuple[Reading, ...]
    drawn: tuple[Reading, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Measured:
        """The inverse of `to_dict`."""
        parts = {name: tuple(Reading(**one) for one in values[name]) for name in ("pages", "lines", "drawn")}
        return cls(**parts)


def drawn_rows(count: int, start: int = 0) -> list[Row]:
    """Held-out drawn lines: a series that no training run draws from."""
    fonts = find_fonts()
    return [
        row_from_synth(make_sample("strip", VALIDATION_SEED, start + i, fonts=fonts), f"strip/{start + i}")
        for i in range(count)
    ]


def measure(model: Path, cuts: Sequence[CutDocument], drawn: Sequence[Row], device: str) -> Measured:
    """Read the hold-out's documents and lines, and drawn lines, with one model.

    Of drawn lines it is asked whether they can be read still, so that they come as the weights read them,
    also from a model whose texts are in capitals.
    """
    reader = Reader(model, device=device)
    pages = tuple(read_whole(reader, cut.document) for cut in cuts)
    strips = [strip for cut in cuts for strip in cut.strips]
    named = [row_of(strip, f"{strip.document}, line {i}") for i, strip in enumerate(strips)]
    rows, drawn = ([asking(row, reader.prompt) for row in some] for some in (named, drawn))
    lines = tuple(
        replace(line, read=written_in(line.read, reader.letters))
        for line in read_rows(reader.model, reader.tokenizer, rows, [strip.group for strip in strips])
    )
    told = read_rows(reader.model, reader.tokenizer, drawn, [row.id for row in drawn])
    del reader
    gc.collect()  # Otherwise this model would stay in memory while the next one trains.
    return Measured(pages, lines, told)


def read_rows(
    model: VLM, tokenizer: Tokenizer, rows: Sequence[Row], groups: Sequence[str]
) -> tuple[Reading, ...]:
    """What a model reads on strips, each of which belongs to one of `groups`.

    All ask the same, so that another picture's answer is what was read on it: nothing is read twice. A single
    line has no other and gap 0.
    """
    length = model.config.gpt.sequence_len
    examples = [prepare(row, tokenizer, model.config.views, length) for row in rows]
    read = [text for text, _ in read_examples(model, tokenizer, examples, MOST_TOKENS)]
    prompts, truths = [row.prompt for row in rows], [row.answer for row in rows]
    others = [wrong_picture(prompts, truths, i) if len(rows) > 1 else i for i in range(len(rows))]
    return tuple(
        Reading(
            row.id, group, flat(truth), flat(text), word_overlap(text, truth) - word_overlap(other, truth)
        )
        for row, group, truth, text, other in zip(rows, groups, truths, read, [read[j] for j in others])
    )


def read_whole(reader: Reader, document: TrueDocument) -> Reading:
    """A document as `nanoocr read` reads it."""
    pages: PageRanges = parse_pages(str(document.page) if document.page else "1-end")
    read = reader.read([document.source], pages=pages)
    text = " ".join(page.text for page in read if isinstance(page, Page))
    return Reading(document.name, document.group, flat(document.text), flat(text))


def flat(text: str) -> str:
    """All white space as one blank, and what fonts draw alike written one way; case counts."""
    return " ".join(written_one_way(text).split())


def cer(readings: Sequence[Reading]) -> float:
    """Errors of all texts / characters of all truths."""
    characters = sum(len(one.truth) for one in readings)
    return sum(one.errors for one in readings) / max(1, characters)


@dataclass(frozen=True)
class Interval:
    """A value and where it lies in 95 % of the resamplings of the documents."""

    value: float
    low: float
    high: float


def interval(readings: Sequence[Reading], seed: int = 0) -> Interval:
    """The CER, resampled by groups."""
    errors, characters = _sums(readings)
    return Interval(cer(readings), *_quantiles(_resampled(errors, characters, seed)))


def mean_interval(readings: Sequence[Reading], score: Callable[[Reading], float], seed: int = 0) -> Interval:
    """The mean of a score over the texts, resampled by groups; 0 without a text."""
    total, count = _sums_of(readings, score, lambda one: 1.0)
    mean = float(total.sum() / max(1.0, count.sum()))
    return Interval(mean, *_quantiles(_resampled(total, count, seed)))


def word_f1(one: Reading) -> float:
    """The F1 of a text's words as multisets."""
    return word_bag_f1(one.read, one.truth)


def grounding(one: Reading) -> float:
    """What a text owes to its picture: its part of the grounding gap."""
    return one.gap


def difference(before: Sequence[Reading], after: Sequence[Reading], seed: int = 0) -> Interval:
    """CER after minus CER before: both read the same documents, so that they are resampled together."""
    errors, characters = _sums(before)
    errors_after, _ = _sums(after)
    draws = _resampled(errors_after, characters, seed) - _resampled(errors, characters, seed)
    return Interval(cer(after) - cer(before), *_quantiles(draws))


def _sums(readings: Sequence[Reading]) -> tuple[np.ndarray, np.ndarray]:
    """Errors and characters of each group, in the order of their names."""
    return _sums_of(readings, lambda one: one.errors, lambda one: len(one.truth))


def _sums_of(
    readings: Sequence[Reading], above: Callable[[Reading], float], below: Callable[[Reading], float]
) -> tuple[np.ndarray, np.ndarray]:
    groups = {name: i for i, name in enumerate(sorted({one.group for one in readings}))}
    over, under = np.zeros(len(groups)), np.zeros(len(groups))
    for one in readings:
        over[groups[one.group]] += above(one)
        under[groups[one.group]] += below(one)
    return over, under


def _resampled(errors: np.ndarray, characters: np.ndarray, seed: int) -> np.ndarray:
    """The CER of DRAWS sets of groups; the same seed draws the same sets."""
    if not len(errors):
        return np.zeros(DRAWS)
    chosen = np.random.default_rng(seed).integers(0, len(errors), (DRAWS, len(errors)))
    return errors[chosen].sum(axis=1) / np.maximum(characters[chosen].sum(axis=1), 1)


def _quantiles(draws: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(low), float(high)


@dataclass(frozen=True)
class Verdict:
    """Whether the tuned model is handed over, and why not."""

    own: Interval  # CER after minus before, of whole documents, or of lines where documents are few
    drawn: Interval
    reasons: tuple[str, ...]  # against it; none is good

    @property
    def better(self) -> bool:
        """Whether nothing speaks against handing the tuned model over."""
        return not self.reasons


def without_case(readings: Sequence[Reading]) -> tuple[Reading, ...]:
    """The same texts in small letters."""
    return tuple(replace(one, truth=one.truth.lower(), read=one.read.lower()) for one in readings)


def judge(before: Measured, after: Measured) -> Verdict:
    """Better is what reads the hold-out better than chance explains, and has not forgotten the rest."""
    both = (before, after)
    own, drawn = _own_difference(*both), difference(before.drawn, after.drawn)
    reasons = []
    if not any(one.errors for one in before.pages):
        reasons.append("the base model reads the hold-out without an error, so that there is nothing to gain")
    elif own.high >= 0:
        told = "rose" if own.value > 0 else "fell"
        reasons.append(
            f"the CER of the hold-out {told} by {abs(own.value):.2%}, which chance explains "
            f"(95 % of the resamplings: {own.low:+.2%} to {own.high:+.2%})"
        )
    if drawn.value > MOST_LOST:
        reasons.append(
            f"the CER of drawn lines rose by {drawn.value:.2%}, more than {MOST_LOST:.1%}: it forgets"
        )
    # Who writes capitals as the texts do gains much by that alone, and shall not read worse behind it.
    plain = [replace(one, pages=without_case(one.pages), lines=without_case(one.lines)) for one in both]
    read = _own_difference(*plain)
    if read.value > MOST_LOST:
        reasons.append(f"without case the CER of the hold-out rose by {read.value:.2%}")
    return Verdict(own, drawn, tuple(reasons))


def _own_difference(before: Measured, after: Measured) -> Interval:
    """Of documents; of lines one by one where a resampling of so few documents says nothing."""
    if len({one.group for one in before.pages}) >= FEWEST_GROUPS or len(before.lines) < FEWEST_GROUPS:
        return difference(before.pages, after.pages)
    one, other = (tuple(replace(line, group=line.name) for line in part.lines) for part in (before, after))
    return difference(one, other)
