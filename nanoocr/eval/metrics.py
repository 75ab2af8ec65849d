"""Text metrics with exact definitions. There is no normalisation except what each docstring says.

Characters are Unicode code points. Every text is first stripped at both ends. Inside it every character
counts as it is, and a newline is one character. A letter and its accent count as one if they are composed,
and as two if they are separate. Words are defined by `words`. Distances are Levenshtein distances:
insertions, deletions and substitutions cost 1 each.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any, TypeVar

import numpy as np
from rapidfuzz.distance import Levenshtein

from nanoocr.inference.forms import FORM_COPIES, is_form

T = TypeVar("T")

# Scripts without blanks between words: Thai, Lao, Tibetan, Myanmar, Khmer, those of the Tai and of Bali and
# Java, kana, bopomofo, Han with its radicals, Yi, and wide signs and digits.
_WITHOUT_BLANKS = (
    "\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u1950-\u19ff\u1a20-\u1aaf\u1b00-\u1b7f\u2e80-\u2fdf\u3001-\u303f"
    "\u3040-\u312f\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua000-\ua4cf\ua980-\ua9ff\uaa60-\uaadf"
    "\uf900-\ufaff\uff01-\uff9f\U0001b000-\U0001b16f\U00020000-\U0003ffff"
)
_UNIT = re.compile(f"[{_WITHOUT_BLANKS}]|[^\\s{_WITHOUT_BLANKS}]+")
_COMBINING = ("Mn", "Mc", "Me")  # Unicode categories of signs that belong to the character before them


def words(text: str) -> list[str]:
    """Split a text into words at white space. In scripts without blanks each character is a word.

    A combining sign (a Thai vowel above its letter) stays with its character. Otherwise a Chinese line with
    one wrong character of twenty would have no word in common with its truth.
    """
    if text.isascii():
        return text.split()
    found: list[str] = []
    end = -1
    for match in _UNIT.finditer(text):
        if match.start() == end and unicodedata.category(match[0][0]) in _COMBINING:
            found[-1] += match[0]
        else:
            found.append(match[0])
        end = match.end()
    return found


def character_error_rate(prediction: str, truth: str) -> float:
    """CER of one text: character Levenshtein / characters of the truth. 0 is perfect, above 1 is possible.

    An empty truth gives 0 for an empty prediction and 1 for any other.
    """
    return _error_rate(prediction.strip(), truth.strip())


def word_error_rate(prediction: str, truth: str) -> float:
    """WER of one text: Levenshtein over words / words of the truth; an empty truth as in CER."""
    return _error_rate(words(prediction), words(truth))


def _error_rate(prediction: Sequence[str], truth: Sequence[str]) -> float:
    if not truth:
        return float(bool(prediction))
    return Levenshtein.distance(prediction, truth) / len(truth)


def corpus_character_error_rate(predictions: Sequence[str], truths: Sequence[str]) -> float:
    """CER of many texts: sum of distances / sum of truth lengths, so that long texts weigh more.

    Without any character of truth: 0 if nothing was predicted either, else 1.

    Raises:
        ValueError: the two sequences differ in length.
    """
    pairs = [(p.strip(), t.strip()) for p, t in zip(predictions, truths, strict=True)]
    errors = sum(Levenshtein.distance(p, t) for p, t in pairs)
    length = sum(len(t) for _, t in pairs)
    return errors / length if length else float(errors > 0)


def normalised_edit_distance(prediction: str, truth: str) -> float:
    """NED: character Levenshtein / length of the longer text, in [0, 1]; 0 when both are empty."""
    prediction, truth = prediction.strip(), truth.strip()
    longest = max(len(prediction), len(truth))
    return Levenshtein.distance(prediction, truth) / longest if longest else 0.0


def word_overlap(prediction: str, truth: str) -> float:
    """Share of the truth's words, as a multiset, that the prediction has too: a recall in [0, 1].

    A word that the truth has twice must be predicted twice; order and surplus words cost nothing. A truth
    without words gives 1 for a prediction without words and 0 for any other.
    """
    wanted, found = Counter(words(truth)), Counter(words(prediction))
    if not wanted:
        return float(not found)
    return (wanted & found).total() / wanted.total()


def word_bag_f1(prediction: str, truth: str) -> float:
    """F1 over words as multisets, for forms and scenes with an open reading order; 1 when both are empty."""
    wanted, found = Counter(words(truth)), Counter(words(prediction))
    if not wanted or not found:
        return float(wanted == found)
    return 2 * (wanted & found).total() / (wanted.total() + found.total())


def anls(prediction: str, truths: Sequence[str]) -> float:
    """ANLS of one answer (DocVQA): the best of the truths, in [0, 1].

    Both are lower-cased with white space collapsed; the distance is divided by the longer *raw* length; a
    similarity below 0.5 counts as 0, one of exactly 0.5 stays (as in lmms-eval).

    Raises:
        ValueError: there is no truth.
    """
    return max(_anls_similarity(prediction, truth) for truth in truths)


def _anls_similarity(prediction: str, truth: str) -> float:
    longest = max(len(prediction), len(truth))
    if not longest:
        return 1.0
    distance = Levenshtein.distance(*(" ".join(text.lower().split()) for text in (prediction, truth)))
    similarity = 1.0 - distance / longest
    return similarity if similarity >= 0.5 else 0.0


RELAXED_TOLERANCE = 0.05  # ChartQA forgives this relative error


def relaxed_accuracy(prediction: str, truth: str) -> float:
    """1 or 0 for one answer (ChartQA, as in lmms-eval): numbers within 5 %, other texts equal but for case.

    A trailing % divides by 100; thousands separators are not numbers; a truth of 0 is compared as text.
    """
    found, wanted = _as_number(prediction), _as_number(truth)
    if found is not None and wanted:
        return float(abs(found - wanted) / abs(wanted) <= RELAXED_TOLERANCE)
    return float(prediction.strip().lower() == truth.strip().lower())


def _as_number(text: str) -> float | None:
    text = text.strip()
    try:
        number = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def bootstrap_interval(
    values: Sequence[float], *, share: float = 0.95, draws: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Where the mean of `values` lies in `share` of `draws` resamplings: (low, high).

    Raises:
        ValueError: there are no values.
    """
    return bootstrap_interval_by_group([values], share=share, draws=draws, seed=seed)


def bootstrap_interval_by_group(
    groups: Sequence[Sequence[float]], *, share: float = 0.95, draws: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Bootstrap a mean of group means; every group is resampled within itself.

    Raises:
        ValueError: there are no groups, or one without values.
    """
    if not groups or not all(groups):
        raise ValueError("no values to resample")
    data, rng = [np.asarray(group, dtype=np.float64) for group in groups], np.random.default_rng(seed)
    means = [
        np.mean([group[rng.integers(0, len(group), len(group))].mean() for group in data])
        for _ in range(draws)
    ]
    low, high = np.quantile(means, [(1 - share) / 2, (1 + share) / 2])
    return float(low), float(high)


CATASTROPHIC = 0.5  # An error rate above this means that the text was not read at all.


@dataclass(frozen=True)
class Summary:
    """A mean, with numbers that reveal a good median beside a few catastrophes, or the reverse."""

    count: int
    mean: float
    median: float
    catastrophic: float  # share of error rates above CATASTROPHIC
    perfect: float  # share of error rates of 0
    low: float  # 95 % bootstrap interval of the mean
    high: float


def summarise_errors(rates: Sequence[float], *, catastrophic: float = CATASTROPHIC) -> Summary:
    """Summary of error rates (CER, WER, NED, 1 - F1: 0 is perfect), one per page.

    Raises:
        ValueError: there are no rates.
    """
    low, high = bootstrap_interval(rates)
    return Summary(
        count=len(rates),
        mean=fmean(rates),
        median=median(rates),
        catastrophic=fmean(rate > catastrophic for rate in rates),
        perfect=fmean(rate == 0 for rate in rates),
        low=low,
        high=high,
    )


def worst_and_median(items: Sequence[T], badness: Callable[[T], Any]) -> list[tuple[str, T]]:
    """The worst and the median item, which are worth a look; `badness` gives what they are ranked by."""
    ranked = sorted(items, key=badness)
    return [("worst", ranked[-1]), ("median", ranked[len(ranked) // 2])]


# ---------------------------------------------------------------------------------------------------------
# Degenerate outputs

# A text loops when a unit of at most LOOP_UNIT characters fills its end LOOP_COPIES times and LOOP_SPAN
# characters. The engine has the same rule for tokens (nanoocr.inference.sampling); this one is for any text.
LOOP_UNIT = 200
LOOP_COPIES = 8
LOOP_SPAN = 200
# What pages repeat by design (nanoocr/inference/forms.py) loops where it fills so many and FORM_COPIES units.
FORM_SPAN = 2000


def ends_in_loop(text: str) -> bool:
    """Whether the text, with white space collapsed, ends in many copies of one unit."""
    lines = _ends_in_equal_lines(text)
    text = " ".join(text.split())
    for unit in range(1, LOOP_UNIT + 1):
        tail = text[-max(LOOP_SPAN, LOOP_COPIES * unit) :]
        if len(tail) < max(LOOP_SPAN, LOOP_COPIES * unit):
            return False  # longer units would need an even longer tail
        if tail[unit:] == tail[:-unit]:
            form = lines or is_form(tail[-2 * unit :], tail[-3 * unit :])
            span = max(FORM_SPAN, FORM_COPIES * unit)
            longer = text[-span:]
            return not form or (len(longer) == span and longer[unit:] == longer[:-unit])
    return False


def _ends_in_equal_lines(text: str) -> bool:
    """Whether the last lines are LOOP_COPIES copies of one line, or of a few, as the rows of a ledger are."""
    lines = [" ".join(line.split()) for line in text.split("\n") if line.strip()]
    for unit in range(1, len(lines) // LOOP_COPIES + 1):
        tail = lines[-LOOP_COPIES * unit :]
        if tail[unit:] == tail[:-unit]:
            return True
    return False


def repetition_rate(texts: Sequence[str], statuses: Sequence[str] | None = None) -> float:
    """Share of outputs that end in a loop, or that the engine stopped for one (status `repetition`).

    Raises:
        ValueError: there are no texts, or the two sequences differ in length.
    """
    given = [""] * len(texts) if statuses is None else statuses
    pairs = zip(texts, given, strict=True)
    return fmean(status == "repetition" or ends_in_loop(text) for text, status in pairs)


def truncation_rate(statuses: Sequence[str]) -> float:
    """Share of outputs that were cut at the token limit (status `truncated` of the engine).

    Raises:
        ValueError: there are no statuses.
    """
    return fmean(status == "truncated" for status in statuses)


def grounding_gap(scores_right: Sequence[float], scores_wrong: Sequence[float]) -> float:
    """mean(score with the right picture) - mean(score with another sample's picture).

    Both score the same truths, higher being better (word overlap, or 1 - CER). A model that does not look
    at its picture has gap 0, whatever language it has learnt.

    Raises:
        ValueError: the two differ in length, or are empty.
    """
    return fmean(right - wrong for right, wrong in zip(scores_right, scores_wrong, strict=True))
