"""Before and after, on the user's own hold-out and on drawn lines, with intervals that say what is chance."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rapidfuzz.distance import Levenshtein

from nanoocr.alphabet import written_one_way
from nanoocr.data.rows import Row, row_from_synth
from nanoocr.data.synth import VALIDATION_SEED, find_fonts, make_sample
from nanoocr.eval.metrics import word_bag_f1
from nanoocr.eval.reading import evaluate_reading
from nanoocr.finetune.task import row_of
from nanoocr.finetune.types import CutDocument, LineStrip
from nanoocr.inference.page import Page
from nanoocr.inference.reader import Reader
from nanoocr.pages import PageRanges, parse_pages

DRAWS = 2000  # resamplings of an interval
MOST_LOST = 0.005  # what the drawn lines' CER may rise by: half a point


@dataclass(frozen=True)
class Reading:
    """One text that was read: a document of the hold-out, or a line."""

    name: str
    group: str
    truth: str
    read: str

    @property
    def errors(self) -> int:
        return Levenshtein.distance(self.read, self.truth)


@dataclass(frozen=True)
class Measured:
    """What one model reads: whole documents as `nanoocr read` does, their lines, and drawn lines."""

    pages: tuple[Reading, ...]
    lines: tuple[Reading, ...]
    drawn: tuple[Reading, ...]
    gap: float  # grounding gap on the hold-out's lines
    gap_drawn: float

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Measured:
        """The inverse of `to_dict`."""
        parts = {name: tuple(Reading(**one) for one in values[name]) for name in ("pages", "lines", "drawn")}
        return cls(**parts, gap=values["gap"], gap_drawn=values["gap_drawn"])


def drawn_rows(count: int, start: int = 0) -> list[Row]:
    """Held-out drawn lines: a series that no training run draws from."""
    fonts = find_fonts()
    return [
        row_from_synth(make_sample("strip", VALIDATION_SEED, start + i, fonts=fonts), f"strip/{start + i}")
        for i in range(count)
    ]


def measure(model: Path, cuts: Sequence[CutDocument], drawn: Sequence[Row], device: str) -> Measured:
    """Read the hold-out's documents and lines, and drawn lines, with one model."""
    reader = Reader(model, device=device)
    pages = tuple(_read_document(reader, cut) for cut in cuts)
    strips = [strip for cut in cuts for strip in cut.strips]
    # Asked with a wrong picture a row needs another one, and a single line has none.
    lines, gap = _read_rows(reader, strips) if len(strips) > 1 else ((), 0.0)
    report = evaluate_reading(reader.model, reader.tokenizer, drawn, max_tokens=256)
    told = tuple(Reading(row.id, row.id, flat(row.truth), flat(row.text)) for row in report.rows)
    del reader
    gc.collect()  # two models are in memory otherwise while the next one trains
    return Measured(pages, lines, told, gap, report.grounding_gap)


def _read_rows(reader: Reader, strips: Sequence[LineStrip]) -> tuple[tuple[Reading, ...], float]:
    rows = [row_of(strip, f"{strip.document}, line {i}") for i, strip in enumerate(strips)]
    report = evaluate_reading(reader.model, reader.tokenizer, rows, max_tokens=256)
    lines = tuple(
        Reading(row.id, strip.group, flat(row.truth), flat(row.text))
        for row, strip in zip(report.rows, strips, strict=True)
    )
    return lines, report.grounding_gap


def _read_document(reader: Reader, cut: CutDocument) -> Reading:
    document = cut.document
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


def word_f1(readings: Sequence[Reading]) -> float:
    """Mean over the texts of the F1 of their words as multisets."""
    return float(np.mean([word_bag_f1(one.read, one.truth) for one in readings])) if readings else 0.0


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


def difference(before: Sequence[Reading], after: Sequence[Reading], seed: int = 0) -> Interval:
    """CER after minus CER before: both read the same documents, so that they are resampled together."""
    errors, characters = _sums(before)
    errors_after, _ = _sums(after)
    draws = _resampled(errors_after, characters, seed) - _resampled(errors, characters, seed)
    return Interval(cer(after) - cer(before), *_quantiles(draws))


def _sums(readings: Sequence[Reading]) -> tuple[np.ndarray, np.ndarray]:
    """Errors and characters of each group, in the order of their names."""
    groups = {name: i for i, name in enumerate(sorted({one.group for one in readings}))}
    errors, characters = np.zeros(len(groups)), np.zeros(len(groups))
    for one in readings:
        errors[groups[one.group]] += one.errors
        characters[groups[one.group]] += len(one.truth)
    return errors, characters


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

    own: Interval  # CER after minus before, of whole documents
    drawn: Interval
    reasons: tuple[str, ...]  # against it; none is good

    @property
    def better(self) -> bool:
        return not self.reasons


def judge(before: Measured, after: Measured) -> Verdict:
    """Better is what reads the hold-out better than chance explains, and has not forgotten the rest."""
    own, drawn = difference(before.pages, after.pages), difference(before.drawn, after.drawn)
    reasons = []
    if own.high >= 0:
        told = "rose" if own.value > 0 else "fell"
        reasons.append(
            f"the CER of the hold-out {told} by {abs(own.value):.2%}, which chance explains "
            f"(95 % of the resamplings: {own.low:+.2%} to {own.high:+.2%})"
        )
    if drawn.value > MOST_LOST:
        reasons.append(
            f"the CER of drawn lines rose by {drawn.value:.2%}, more than {MOST_LOST:.1%}: it forgets"
        )
    return Verdict(own, drawn, tuple(reasons))
