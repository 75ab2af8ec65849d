"""Text metrics with their exact definitions. No hidden normalisation: only what each docstring states.

Characters are Unicode code points. Every text is stripped at both ends first; inside it every character
counts as it is, and a newline is one character. Words are what `str.split()` gives. Distances are
Levenshtein: insertions, deletions and substitutions cost 1 each.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from statistics import fmean

import numpy as np
from rapidfuzz.distance import Levenshtein


def character_error_rate(prediction: str, truth: str) -> float:
    """CER of one text: character Levenshtein / characters of the truth. 0 is perfect, above 1 is possible.

    An empty truth gives 0 for an empty prediction and 1 for any other.
    """
    return _error_rate(prediction.strip(), truth.strip())


def word_error_rate(prediction: str, truth: str) -> float:
    """WER of one text: Levenshtein over words / words of the truth; an empty truth as in CER."""
    return _error_rate(prediction.split(), truth.split())


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
    wanted, found = Counter(truth.split()), Counter(prediction.split())
    if not wanted:
        return float(not found)
    return (wanted & found).total() / wanted.total()


def word_bag_f1(prediction: str, truth: str) -> float:
    """F1 over words as multisets, for forms and scenes with an open reading order; 1 when both are empty."""
    wanted, found = Counter(truth.split()), Counter(prediction.split())
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


RELAXED_TOLERANCE = 0.05  # relative error that ChartQA forgives


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
    if not values:
        raise ValueError("no values to resample")
    data, rng = np.asarray(values, dtype=np.float64), np.random.default_rng(seed)
    means = [data[rng.integers(0, len(data), len(data))].mean() for _ in range(draws)]
    low, high = np.quantile(means, [(1 - share) / 2, (1 + share) / 2])
    return float(low), float(high)


def grounding_gap(scores_right: Sequence[float], scores_wrong: Sequence[float]) -> float:
    """mean(score with the right picture) - mean(score with another sample's picture).

    Both score the same truths, higher being better (word overlap, or 1 - CER). A model that does not look
    at its picture has gap 0, whatever language it has learnt.

    Raises:
        ValueError: the two differ in length, or are empty.
    """
    return fmean(right - wrong for right, wrong in zip(scores_right, scores_wrong, strict=True))
