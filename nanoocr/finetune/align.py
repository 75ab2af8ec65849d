"""Which words of a text stand on which strip: an alignment of what was read with what is true.

Both are in reading order, so that each strip takes a run of words, behind those of the strip before it. Of
all ways to deal the words out, the one with the fewest edits is taken, as Levenshtein's distance is computed,
but with cuts between words only. What a change of columns has put out of order is looked for once more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rapidfuzz.distance import Levenshtein

# A strip may begin this many words before or behind its place in an alignment of all characters.
BAND = 30
# A strip's words have at most LONGEST times as many characters as its reading, and SPARE more.
LONGEST, SPARE = 2.0, 8
SURELY = 0.34  # A run of words out of its order is believed up to this many errors per character.
FAR = 10**9
# Costs of an edit, and of passing over a character of the truth: a strip shall not take in what it lacks only
# because both would cost the same.
EDIT, PASSED = 10, 9


@dataclass(frozen=True)
class Run:
    """The words [start, end) of a text."""

    start: int
    end: int


def errors(read: str, truth: str) -> float:
    """Edits per character of the longer of both texts, 0 to 1; blanks and case count."""
    longest = max(len(read), len(truth))
    return Levenshtein.distance(read, truth) / longest if longest else 0.0


def align(readings: Sequence[str], words: Sequence[str], most_errors: float) -> list[Run | None]:
    """For every strip the run of words that it shows, or None where nothing fits it.

    `readings` are what was read on the strips in reading order, `words` those of the truth. A run that
    differs from its reading by more than `most_errors` per character is none. Case does not count: whether a
    truth keeps that of the print is what there is to learn, and no reason to leave a line out.
    """
    readings, words = [read.casefold() for read in readings], [word.casefold() for word in words]
    runs = _monotone(readings, words)
    found: list[Run | None] = [
        run if run.end > run.start and errors(read, _said(words, run)) <= most_errors else None
        for read, run in zip(readings, runs, strict=True)
    ]
    return _elsewhere(readings, words, found)


def _said(words: Sequence[str], run: Run) -> str:
    return " ".join(words[run.start : run.end])


def _monotone(readings: Sequence[str], words: Sequence[str]) -> list[Run]:
    """The cheapest way to deal the words out; words may be passed over between strips."""
    lengths = np.cumsum([0, *(len(word) + 1 for word in words)])
    wide = _places(readings, words)
    # cost[j]: the cheapest way to have dealt with the first j words after the strips so far.
    cost = PASSED * lengths.astype(np.int64)
    steps: list[dict[int, Run]] = []
    for number, read in enumerate(readings):
        low, high = wide[number]
        new = np.full(len(words) + 1, FAR, dtype=np.int64)
        step: dict[int, Run] = {}
        most = LONGEST * len(read) + SPARE
        for start in range(low, high + 1):
            if cost[start] >= FAR:
                continue
            for end in range(start, len(words) + 1):
                length = int(lengths[end] - lengths[start])
                if length > most and end > start + 1:
                    break
                own = EDIT * Levenshtein.distance(read, _said(words, Run(start, end)))
                if cost[start] + own < new[end]:
                    new[end], step[end] = cost[start] + own, Run(start, end)
        cost = _pass_over(new, lengths, step)
        steps.append(step)
    runs, end = [], int(np.argmin(cost + PASSED * (lengths[-1] - lengths)))
    for step in reversed(steps):
        run = step[end]
        runs.append(run)
        end = run.start
    return runs[::-1]


def _pass_over(cost: np.ndarray, lengths: np.ndarray, step: dict[int, Run]) -> np.ndarray:
    """The costs after words behind a strip may be passed over."""
    for end in range(1, len(cost)):
        skipped = cost[end - 1] + PASSED * (lengths[end] - lengths[end - 1])
        if skipped < cost[end]:
            cost[end] = skipped
            step[end] = step[end - 1]
    return cost


def _places(readings: Sequence[str], words: Sequence[str]) -> list[tuple[int, int]]:
    """Between which words every strip may begin: around where an alignment of all characters puts it."""
    whole, text = " ".join(readings), " ".join(words)
    blocks = Levenshtein.opcodes(whole, text)
    ends = [0, *(code.src_end for code in blocks)]
    there = [0, *(code.dest_end for code in blocks)]
    begins = np.cumsum([0, *(len(read) + 1 for read in readings)])[:-1]
    word_begins = np.cumsum([0, *(len(word) + 1 for word in words)])
    at = np.searchsorted(word_begins, np.interp(begins, ends, there))
    # The first strip may begin anywhere in the band, and each band overlaps the next.
    return [(max(0, int(place) - BAND), min(len(words), int(place) + BAND)) for place in at]


def _elsewhere(
    readings: Sequence[str], words: Sequence[str], found: Sequence[Run | None]
) -> list[Run | None]:
    """Strips that are out of order take the run of free words that is surely theirs."""
    free = np.ones(len(words), dtype=bool)
    for run in found:
        if run is not None:
            free[run.start : run.end] = False
    result = list(found)
    for number, read in enumerate(readings):
        if result[number] is not None or len(read) < SPARE:
            continue
        run = _best_run(read, words, free)
        if run is not None:
            result[number] = run
            free[run.start : run.end] = False
    return result


def _best_run(read: str, words: Sequence[str], free: np.ndarray) -> Run | None:
    best, least = None, SURELY
    for start in np.flatnonzero(free):
        end, length = int(start), 0
        while end < len(words) and free[end] and length <= LONGEST * len(read):
            length += len(words[end]) + 1
            end += 1
            if length < len(read) / LONGEST:
                continue
            wrong = errors(read, _said(words, Run(int(start), end)))
            if wrong < least:
                best, least = Run(int(start), end), wrong
    return best
