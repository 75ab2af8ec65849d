"""Scores of whole pages. Each score's name says its protocol.

Two texts are compared in two ways: as strings, where order counts, and as words, where it does not. Scores
that end in `_free` ignore case: both sides are case-folded by Unicode's rules, which also split ligatures
into letters. SROIE's truth is all capitals, so scores with case mean nothing there.

Words are separated by white space, on every page. Fox's script uses jieba's words wherever a Chinese
character occurs. Then an English page with one word misread as Chinese would be counted in other units than
its neighbours (nanoocr/eval/fox.py has that rule).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from statistics import fmean, median

from rapidfuzz.distance import Levenshtein

from nanoocr.eval.metrics import character_error_rate, word_bag_f1


@dataclass(frozen=True)
class PageScores:
    """Scores of one page. Error rates are 0 or more, and 0 is perfect. Others lie in [0, 1]; 1 is perfect."""

    cer_free: float  # errors / characters of the truth, both case-folded and with white space as one space
    cer_strict: float  # the same, but case and every line end count
    bag_f1_free: float  # words as multisets, case-folded
    set_precision: float  # right words / words read, as sets
    set_recall: float  # right words / words of the truth, which Fox's own script prints as precision
    set_f1: float
    set_precision_free: float  # the same three numbers, case-folded
    set_recall_free: float
    set_f1_free: float
    turbo_set_f1: float  # TurboOCR's score: sets of lower-cased tokens of two or more characters


SCORES = tuple(field.name for field in fields(PageScores))


def flat(text: str) -> str:
    """Case-fold the text and turn all white space into one space."""
    return " ".join(text.casefold().split())


def page_scores(output: str, truth: str) -> PageScores:
    """All scores of one page.

    If the truth is empty, an empty output is perfect, and any other has error rates of 1 and scores of 0.
    """
    free_output, free_truth = flat(output), flat(truth)
    return PageScores(
        character_error_rate(free_output, free_truth),
        character_error_rate(output, truth),
        word_bag_f1(free_output, free_truth),
        *_set_scores(set(output.split()), set(truth.split())),
        *_set_scores(set(free_output.split()), set(free_truth.split())),
        turbo_set_f1(output, truth),
    )


def _set_scores(found: set[str], wanted: set[str]) -> tuple[float, float, float]:
    """Precision, recall and F1 of a set of words; all 1 when both sets are empty."""
    if not found or not wanted:
        return (float(found == wanted),) * 3
    common = len(found & wanted)
    return common / len(found), common / len(wanted), 2 * common / (len(found) + len(wanted))


def turbo_set_f1(output: str, truth: str) -> float:
    """F1 over sets of lower-cased tokens of two or more characters; 1 when both sets are empty."""
    found, wanted = ({word for word in text.lower().split() if len(word) > 1} for text in (output, truth))
    return _set_scores(found, wanted)[2]


@dataclass(frozen=True)
class SetScores:
    """Scores of a set of pages."""

    pages: int
    mean: PageScores
    median: PageScores
    # Errors / characters of all pages together, for cer_free: single lines are too short for a mean of rates.
    cer_free_together: float
    control: PageScores  # the means again, with each answer scored against the truth of another page


def score_set(outputs: Sequence[str], truths: Sequence[str]) -> SetScores:
    """Score a set; the two sequences go page by page.

    Raises:
        ValueError: there are no pages, or the two differ in length.
    """
    pairs = list(zip(outputs, truths, strict=True))
    if not pairs:
        raise ValueError("no pages to score")
    pages = [page_scores(output, truth) for output, truth in pairs]
    others = [page_scores(output, truth) for output, truth in _shifted(pairs)]
    return SetScores(
        pages=len(pages),
        mean=_mean(pages),
        median=PageScores(*(median(getattr(page, name) for page in pages) for name in SCORES)),
        cer_free_together=_together(pairs),
        control=_mean(others) if others else page_scores("", "x"),
    )


def _mean(pages: Sequence[PageScores]) -> PageScores:
    return PageScores(*(fmean(getattr(page, name) for page in pages) for name in SCORES))


def _shifted(pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Pair every answer with the next truth that differs; answers without such a truth are left out."""
    truths = [truth for _, truth in pairs]
    found = []
    for i, (output, truth) in enumerate(pairs):
        other = next((text for text in (*truths[i + 1 :], *truths[:i]) if text != truth), None)
        found += [] if other is None else [(output, other)]
    return found


def _together(pairs: Sequence[tuple[str, str]]) -> float:
    flattened = [(flat(output), flat(truth)) for output, truth in pairs]
    errors = sum(Levenshtein.distance(output, truth) for output, truth in flattened)
    characters = sum(len(truth) for _, truth in flattened)
    return errors / characters if characters else float(errors > 0)


@dataclass(frozen=True)
class Invented:
    """Counts of what was read on pictures without text. Blanks are not counted."""

    pictures: int
    silent: float  # share of pictures on which nothing was read
    characters: int  # sum over all pictures
    most: int  # largest number on one picture
    by_kind: dict[str, int]  # characters by kind of picture; silent kinds are left out


def invented(outputs: Sequence[str], kinds: Sequence[str]) -> Invented:
    """Count what was read where there is no text; `kinds` names the kind of each picture.

    Raises:
        ValueError: there are no pictures, or the two differ in length.
    """
    counts = [(kind, len("".join(output.split()))) for output, kind in zip(outputs, kinds, strict=True)]
    if not counts:
        raise ValueError("no pictures to count in")
    numbers = [number for _, number in counts]
    by_kind = {kind: sum(n for other, n in counts if other == kind) for kind in dict.fromkeys(kinds)}
    return Invented(
        pictures=len(counts),
        silent=fmean(number == 0 for number in numbers),
        characters=sum(numbers),
        most=max(numbers),
        by_kind={kind: number for kind, number in by_kind.items() if number},
    )
