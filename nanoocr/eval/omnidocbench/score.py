"""Scores OmniDocBench end to end: predictions in, the official averages and the coverage out.

    report = score_omnidocbench(read_omnidocbench("OmniDocBench.json"), "predictions", version="1.5")
    report.scores["text_edit"].page_average

The numbers equal those of the official code (opendatalab/OmniDocBench, `metrics/cal_metric.py`) where it has
any. Two are not computed: CDM, which draws formulas with TeX and compares pictures, and v1.5's overall, which
uses it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, get_args

from rapidfuzz.distance import Levenshtein

from nanoocr.errors import UsageError
from nanoocr.eval.omnidocbench.extract import Version
from nanoocr.eval.omnidocbench.page import PageSamples, Sample, page_samples
from nanoocr.eval.omnidocbench.read import OmniPage
from nanoocr.eval.predictions import Predictions, read_predictions

EDITS = ("text_edit", "formula_edit", "table_edit", "order_edit")  # lower is better
SIMILARITIES = ("table_teds", "table_teds_structure")  # higher is better
NOT_COMPUTED = {
    "1.0": ("CDM", "BLEU", "METEOR"),
    "1.5": ("CDM", "BLEU", "METEOR", "overall (mean of text, CDM and TEDS)"),
}


@dataclass(frozen=True)
class Average:
    """One metric over a set of pages, averaged in the official ways."""

    page_average: float  # mean over pages: errors / lengths for edits, page means for TEDS
    whole: float  # errors / lengths over all pages together; for TEDS the mean over all tables
    sample_average: float  # mean over matched pieces (tables)
    pages: int
    samples: int


@dataclass(frozen=True)
class PageScore:
    """One page: its samples' values per metric, each as (value, weight)."""

    id: str
    attributes: tuple[str, ...]
    values: dict[str, tuple[tuple[float, int], ...]]
    predicted: bool

    def mean(self, metric: str) -> float | None:
        """The page's own score; None where it has nothing of the kind."""
        values = self.values[metric]
        weights = sum(weight for _, weight in values)
        return sum(value * weight for value, weight in values) / weights if weights else None


@dataclass(frozen=True)
class Coverage:
    """What was scored, and everything odd by name, so that nothing is lost silently."""

    pages: int
    predicted: int
    missing: tuple[str, ...]  # pages without a prediction, which count as wrong or are skipped
    unused: tuple[str, ...]  # predictions without a page
    empty: tuple[str, ...]  # predictions without any character
    duplicates: tuple[str, ...]  # pages that the annotation contains twice; the first counts
    broken_tables: tuple[str, ...]  # tables that could not be compared, with TEDS 0
    latex_tables: tuple[str, ...]  # pages with LaTeX tables, which are not converted and count as wrong
    plainly_matched: tuple[str, ...]  # pages with so many pieces that neighbours were not merged
    problems: tuple[str, ...]  # files that could not be read properly


@dataclass(frozen=True)
class OmniReport:
    """Averages by metric (None where the pages have nothing of the kind), by attribute, and by page."""

    version: Version
    missing_pages: Literal["wrong", "skip"]
    scores: dict[str, Average | None]
    by_attribute: dict[str, dict[str, Average | None]]  # such as "language: english"
    pages: tuple[PageScore, ...]
    coverage: Coverage
    not_computed: tuple[str, ...] = field(default=())

    @property
    def overall(self) -> float | None:
        """v1.0: the mean of the four edit distances; lower is better. v1.5: None, because it needs CDM."""
        return overall(self.scores) if self.version == "1.0" else None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**asdict(self), "overall": self.overall}


def overall(scores: Mapping[str, Average | None]) -> float | None:
    """The mean of the four edit distances (v1.0), None if one is missing; also for one attribute's scores."""
    parts = [scores[metric] for metric in EDITS]
    known = [part.page_average for part in parts if part is not None]
    return fmean(known) if len(known) == len(parts) else None


def score_omnidocbench(
    pages: Sequence[OmniPage],
    predictions: str | Path | Mapping[str, str],
    *,
    version: Version = "1.5",
    missing: Literal["wrong", "skip"] = "wrong",
    progress: Callable[[Iterable[OmniPage]], Iterable[OmniPage]] = iter,
) -> OmniReport:
    """Score markdown predictions, a folder of `<picture's stem>.md` or a mapping from stem to text.

    A page without a prediction counts as wrong; `missing="skip"` leaves it out, as the official code does.
    Other file names that the official code accepts are found too (`<picture>.md`, or the stem without
    `.pdf`).

    Raises:
        UsageError: no such folder, an unknown version, or the extra `eval` is not installed.
    """
    if version not in get_args(Version):
        raise UsageError(f"OmniDocBench has the versions {' and '.join(get_args(Version))}, not {version!r}")
    if missing not in ("wrong", "skip"):
        raise UsageError(f"a page without prediction is 'wrong' or 'skip', not {missing!r}")
    given = (
        Predictions(dict(predictions)) if isinstance(predictions, Mapping) else read_predictions(predictions)
    )
    scored: list[PageScore] = []
    notes = _Notes()
    used: set[str] = set()
    for page in progress(_unique(pages, notes)):
        name = given.find(page.id, page.image.name, page.id.replace(".pdf", ""))
        used |= {name} if name is not None else set()
        text = given.texts[name] if name is not None else ""
        if name is None:
            notes.missing.append(page.id)
        elif not text.strip():
            notes.empty.append(page.id)
        if name is not None or missing == "wrong":
            samples = page_samples(page.annotation, text, version)
            notes.look_at(page.id, samples)
            scored.append(PageScore(page.id, page.attributes, page_values(samples), name is not None))
    coverage = Coverage(
        pages=len(pages) - len(notes.duplicates),
        predicted=len(used),
        missing=tuple(notes.missing),
        unused=tuple(sorted(set(given.texts) - used)),
        empty=tuple(notes.empty),
        duplicates=tuple(notes.duplicates),
        broken_tables=tuple(notes.broken_tables),
        latex_tables=tuple(notes.latex_tables),
        plainly_matched=tuple(notes.plainly_matched),
        problems=given.problems,
    )
    attributes = sorted({attribute for page in scored for attribute in page.attributes})
    by_attribute = {a: averages([page for page in scored if a in page.attributes]) for a in attributes}
    return OmniReport(
        version, missing, averages(scored), by_attribute, tuple(scored), coverage, NOT_COMPUTED[version]
    )


@dataclass
class _Notes:
    """Collects the names of odd things, page by page."""

    missing: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    duplicates: list[str] = field(default_factory=list)
    broken_tables: list[str] = field(default_factory=list)
    latex_tables: list[str] = field(default_factory=list)
    plainly_matched: list[str] = field(default_factory=list)

    def look_at(self, page_id: str, samples: PageSamples) -> None:
        """Note everything odd in the matching of a page."""
        for number, table in enumerate(samples.tables):
            # An absent table is simply wrong, not broken.
            if table.scores.problem and table.prediction:
                self.broken_tables.append(f"{page_id}, table {number}: {table.scores.problem}")
        self.latex_tables += [page_id] if samples.latex_tables else []
        self.plainly_matched += [page_id] if samples.plainly_matched else []


def _unique(pages: Sequence[OmniPage], notes: _Notes) -> list[OmniPage]:
    """The first page of every id."""
    first: dict[str, OmniPage] = {}
    for page in pages:
        if first.setdefault(page.id, page) is not page:
            notes.duplicates.append(page.id)
    return list(first.values())


def page_values(samples: PageSamples) -> dict[str, tuple[tuple[float, int], ...]]:
    """(value, weight) of every sample, by metric: edits weigh by the longer text, tables weigh the same."""
    return {
        "text_edit": _edits(samples.text),
        "formula_edit": _edits(samples.formulas),
        "table_edit": _edits(samples.tables),
        "order_edit": _edits([samples.order] if samples.order else []),
        "table_teds": tuple((table.scores.teds, 1) for table in samples.tables),
        "table_teds_structure": tuple((table.scores.teds_structure, 1) for table in samples.tables),
    }


def _edits(samples: Sequence[Sample]) -> tuple[tuple[float, int], ...]:
    lengths = [max(len(sample.truth), len(sample.prediction)) for sample in samples]
    return tuple(
        (Levenshtein.distance(sample.prediction, sample.truth) / length, length)
        for sample, length in zip(samples, lengths)
        if length
    )


def averages(pages: Sequence[PageScore]) -> dict[str, Average | None]:
    """Average all metrics over a set of pages."""
    return {metric: _average(pages, metric) for metric in (*EDITS, *SIMILARITIES)}


def _average(pages: Sequence[PageScore], metric: str) -> Average | None:
    means = [mean for page in pages if (mean := page.mean(metric)) is not None]
    values = [value for page in pages for value in page.values[metric]]
    if not means:
        return None
    whole = sum(value * weight for value, weight in values) / sum(weight for _, weight in values)
    return Average(fmean(means), whole, fmean(value for value, _ in values), len(means), len(values))
