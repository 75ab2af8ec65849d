"""What is text and what is not, and letters that touch the line below."""

from __future__ import annotations

import numpy as np

from nanoocr.layout.components import Boxes, group_quantile
from nanoocr.layout.lines import Runs

TALLEST = 1.5  # times the usual letter height: a taller piece of ink may hold letters of two lines


def plausible(letters: Boxes, run_of: np.ndarray, runs: Runs) -> np.ndarray:
    """Which runs are text: (runs,) bool. Texture and pictures have no common baseline and no common height."""
    count = len(runs)
    base, cap = runs.base[run_of], runs.cap[run_of]
    on_base = np.abs(letters.y1 - base) < 0.2 * cap + 1
    descends = np.abs(letters.y1 - base - 0.3 * cap) < 0.15 * cap
    tall = (letters.height > 0.45 * cap) & (letters.height < 1.7 * cap)
    regular = np.bincount(run_of, (on_base | descends) & tall, minlength=count) / runs.letters
    filled = group_quantile(letters.area / (letters.width * letters.height), run_of, count, 0.5)
    words = (runs.letters >= 2) | (runs.box.width > 1.5 * runs.cap)
    text = words & (regular > 0.55) & (filled > 0.12) & (filled < 0.9)
    return text | _single_letters(runs, text)


def _single_letters(runs: Runs, text: np.ndarray) -> np.ndarray:
    """Single letters that stand in one row with text of their size; or, without any text, on their own."""
    single = ~text & (runs.letters == 1) & (runs.box.width > 0.15 * runs.cap)
    if not text.any():
        return single & (runs.cap > 0.6 * runs.cap.max()) & (len(runs) <= 3)
    alone, sure = runs.take(single), runs.take(text)
    same_row = np.abs(alone.base[:, None] - sure.base[None]) < 0.25 * sure.cap[None]
    ratio = alone.cap[:, None] / sure.cap[None]
    result = single.copy()
    result[single] = (same_row & (ratio > 0.7) & (ratio < 1.4)).any(axis=1)
    return result


def split_touching(letters: Boxes, run_of: np.ndarray, runs: Runs) -> Boxes:
    """Cuts pieces of ink that reach over two lines into a part for each.

    A piece is cut below the baseline of a run on either side of it, where another run lies lower.
    """
    usual = group_quantile(letters.height, run_of, len(runs), 0.5)[run_of]
    typical = float(np.median(letters.height))
    tall = np.flatnonzero(letters.height > TALLEST * np.minimum(np.maximum(usual, typical), 1.2 * typical))
    long = runs.take(runs.letters >= 4)
    parts = [letters.take(np.setdiff1d(np.arange(len(letters)), tall))]
    for number in tall[:500]:
        cuts = _cuts(letters.take(np.array([number])), long)
        parts.append(_cut_at(letters.take(np.array([number])), cuts))
    parts.append(letters.take(tall[500:]))
    return Boxes(
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("x0", "y0", "x1", "y1", "area")
        )
    )


def _cuts(box: Boxes, runs: Runs) -> list[float]:
    """The heights at which one box is cut: under each baseline that crosses it and has a line below it."""
    reach = 4 * runs.cap
    beside = (runs.box.x0 - reach < box.x1) & (runs.box.x1 + reach > box.x0)
    smaller = runs.cap < 0.75 * box.height
    # Both lines must have the most of a letter inside the box.
    inside = beside & smaller & (runs.base > box.y0 + 0.5 * runs.cap) & (runs.base < box.y1 + 0.4 * runs.cap)
    bases = np.unique(np.round(runs.base[inside]))
    if len(bases) < 2:
        return []
    cap = float(np.median(runs.cap[inside]))
    bases = bases[np.concatenate([[True], np.diff(bases) > 0.9 * cap])]
    return [float(base + 0.25 * cap) for base in bases[:-1]]


def _cut_at(box: Boxes, cuts: list[float]) -> Boxes:
    edges = np.array([box.y0[0], *cuts, box.y1[0]])
    count = len(edges) - 1
    share = np.diff(edges) / (edges[-1] - edges[0])
    return Boxes(
        np.repeat(box.x0, count), edges[:-1], np.repeat(box.x1, count), edges[1:], box.area[0] * share
    )
