"""Fox's page scores: word sets and edit distance, with the official direction and the true one.

Fox (ucaslcl/Fox) scores sets of words: order and repeats do not count. Its script passes ground truth and
output in swapped places, so what it prints as precision is the share of the *truth's* words that were found.
DeepSeek-OCR's "precision" on Fox is believed to be that number. Both directions stand here, under names that
cannot be mixed up.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from statistics import fmean

from rapidfuzz.distance import Levenshtein

from nanoocr.errors import UsageError

CHINESE = re.compile("[\u4e00-\u9fa5]")  # Fox's own range


@dataclass(frozen=True)
class FoxScores:
    """Scores of one page, or their means over many pages; all in [0, 1]."""

    fox_precision_official: float  # |truth & output| / |truth|: recall in the usual sense
    precision: float  # |truth & output| / |output|
    recall: float  # |truth & output| / |truth|, the same number as the official "precision"
    f1: float
    ned: float  # character Levenshtein / longer text; lower is better


def fox_words(truth: str, output: str) -> tuple[set[str], set[str]]:
    """The word sets of both texts: by white space, or by jieba where either holds Chinese.

    Raises:
        UsageError: there is Chinese and jieba is not installed.
    """
    if not CHINESE.search(truth) and not CHINESE.search(output):
        return set(truth.split()), set(output.split())
    try:
        import jieba
    except ImportError as error:
        raise UsageError(
            "scoring Chinese pages needs the extra: pip install 'nano-deepseek-ocr[eval]'"
        ) from error
    return set(jieba.cut(truth)), set(jieba.cut(output))


def fox_scores(output: str, truth: str) -> FoxScores:
    """Scores of one page. No normalisation: case, punctuation and line breaks stay as they are.

    Where the official script fails, these are defined: an empty output scores 0 in all word scores and NED 1;
    an empty truth is met by an empty output alone.
    """
    wanted, found = fox_words(truth, output)
    if not wanted and not found:
        return FoxScores(1.0, 1.0, 1.0, 1.0, 0.0)
    common = len(wanted & found)
    precision = common / len(found) if found else 0.0
    recall = common / len(wanted) if wanted else 0.0
    f1 = 2 * precision * recall / (precision + recall) if common else 0.0
    ned = Levenshtein.distance(output, truth) / max(len(output), len(truth))
    return FoxScores(recall, precision, recall, f1, ned)


def mean_scores(pages: Sequence[FoxScores]) -> FoxScores:
    """The mean of every score over the pages, as Fox averages.

    Raises:
        ValueError: there are no pages.
    """
    if not pages:
        raise ValueError("no pages to average over")
    return FoxScores(*(fmean(getattr(page, field.name) for page in pages) for field in fields(FoxScores)))
