"""From answers to numbers: scores per page under three pictures, and summaries per group.

A mean never stands alone. Beside it are the median, a bootstrap interval, the share of pages that were not
read at all, how often the engine looped or was cut, what is missing, and the same score without the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

from nanoocr.eval.catalogue import LOWER_IS_BETTER, Benchmark
from nanoocr.eval.grounding import CONDITIONS, Condition
from nanoocr.eval.metrics import (
    CATASTROPHIC,
    bootstrap_interval,
    corpus_character_error_rate,
    ends_in_loop,
    grounding_gap,
)
from nanoocr.eval.samples import EvalSample
from nanoocr.eval.store import MISSING, ByCondition, Prediction

ALL = "all"


@dataclass(frozen=True)
class PageResult:
    """One sample with its answers and their scores, by the shown picture."""

    sample: EvalSample
    predictions: dict[Condition, Prediction]
    scores: dict[Condition, dict[str, float]]

    @property
    def right(self) -> Prediction:
        """The answer to the sample's own picture."""
        return self.predictions["right"]

    @property
    def badness(self) -> float:
        """The number by which pages are ranked: the CER, or how wrong an answer is."""
        scores = self.scores["right"]
        return scores["cer"] if "cer" in scores else 1.0 - next(iter(scores.values()))

    @property
    def went_in_circles(self) -> bool:
        """Whether the engine stopped a loop, or the text ends in one."""
        return self.right.status == "repetition" or ends_in_loop(self.right.text)


def score_pages(
    samples: Sequence[EvalSample], predictions: ByCondition, benchmark: Benchmark
) -> tuple[PageResult, ...]:
    """Score every sample. One without an answer counts as an empty answer."""
    results = []
    for sample in samples:
        given = {c: found.get(sample.id, MISSING) for c, found in predictions.items()}
        given.setdefault("right", MISSING)
        scores = {c: benchmark.score(sample, prediction.text) for c, prediction in given.items()}
        results.append(PageResult(sample, given, scores))
    return tuple(results)


def by_group(results: Sequence[PageResult]) -> dict[str, list[PageResult]]:
    """The pages of every group: all, then the groups in the order of the samples."""
    groups: dict[str, list[PageResult]] = {ALL: list(results)}
    for result in results:
        for group in result.sample.groups:
            groups.setdefault(group, []).append(result)
    return groups


def summarise(results: Sequence[PageResult]) -> dict[str, Any]:
    """The numbers of one group as plain data; rates are shares of its pages.

    For each metric, `scores` holds the mean, median and 95 % interval over the pages that have it, the means
    with the wrong and the blank picture, and the two gaps, which are positive where the right picture helped.
    `corpus_cer` weighs pages by length. `distinct` counts the different answers under each picture.
    """
    metrics = list(dict.fromkeys(name for result in results for name in result.scores["right"]))
    conditions = [c for c in CONDITIONS if all(c in result.predictions for result in results)]
    read = [result for result in results if "cer" in result.scores["right"]]
    seconds = [result.right.seconds for result in results if result.right.seconds is not None]

    def rate(bad: Sequence[bool]) -> float | None:
        """The share of True; None of nothing."""
        return sum(bad) / len(bad) if bad else None

    return {
        "pages": len(results),
        "scores": {name: _metric(results, name, conditions) for name in metrics},
        "corpus_cer": _corpus_cer(read),
        "perfect": rate([result.right.text.strip() == result.sample.truth.strip() for result in results]),
        "catastrophic": rate([result.scores["right"]["cer"] > CATASTROPHIC for result in read]),
        "repetition": rate([result.went_in_circles for result in results]),
        "truncated": rate([result.right.status == "truncated" for result in results]),
        "errors": sum(result.right.status == "error" for result in results),
        "missing": sum(result.right.status == "missing" for result in results),
        "distinct": {c: len({result.predictions[c].text for result in results}) for c in conditions},
        "seconds_per_page": fmean(seconds) if seconds else None,
    }


def _corpus_cer(read: Sequence[PageResult]) -> float | None:
    if not read:
        return None
    return corpus_character_error_rate([r.right.text for r in read], [r.sample.truth for r in read])


def _metric(results: Sequence[PageResult], name: str, conditions: Sequence[Condition]) -> dict[str, float]:
    pages = [result.scores for result in results if name in result.scores["right"]]
    values = {c: [scores[c][name] for scores in pages] for c in conditions}
    right = values["right"]
    low, high = bootstrap_interval(right)
    found = {"mean": fmean(right), "median": median(right), "low": low, "high": high}
    for condition in conditions[1:]:
        gap = grounding_gap(right, values[condition])
        found[condition] = fmean(values[condition])
        found[f"gap_{condition}"] = -gap if name in LOWER_IS_BETTER else gap
    return found
