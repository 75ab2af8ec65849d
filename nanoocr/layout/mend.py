"""Letters that broke into pieces, and letters of two lines that touch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nanoocr.layout.components import (
    Boxes,
    chain_labels,
    concatenate,
    group_extent,
)
from nanoocr.layout.lines import Runs, measure_runs, typical_height

TALLEST = 1.5  # times the usual letter height: a taller piece of ink may hold letters of two lines


def absorb(letters: Boxes, run_of: np.ndarray, runs: Runs) -> tuple[np.ndarray, Runs]:
    """Joins runs that lie inside longer ones: pieces of broken letters, quotes, the dots of a faint print.

    Returns the number of each letter's run and the runs, as `find_runs` does.
    """
    size = runs.box.width * runs.cap
    small = np.flatnonzero((runs.letters <= 3) | ((runs.letters <= 12) & (runs.regular < 0.65)))
    large = np.flatnonzero((runs.letters >= 3) & (runs.regular > 0.5))
    # The search is quadratic; a page with so many runs is texture, or has none broken.
    if not len(small) or not len(large) or len(runs) > 3000:
        return run_of, runs
    inner, outer = runs.take(small), runs.take(large)
    top, bottom = outer.base - 1.1 * outer.cap, outer.base + 0.35 * outer.cap
    low = np.maximum(inner.box.y0[:, None], top[None])
    high = np.minimum(inner.box.y1[:, None], bottom[None])
    within = (high - low) > 0.7 * inner.box.height[:, None]
    reach = 0.3 * outer.cap
    within &= (inner.box.x0[:, None] > outer.box.x0 - reach) & (inner.box.x1[:, None] < outer.box.x1 + reach)
    # Only the smaller one of two joins the other, so that no circle arises.
    within &= size[small][:, None] < 0.5 * size[large][None]
    target = np.arange(len(runs))
    some = within.any(axis=1)
    target[small[some]] = large[np.where(within, size[large][None], 0).argmax(axis=1)[some]]
    chain, count = chain_labels(target)
    joined = chain[run_of]
    return joined, measure_runs(letters, joined, count)


def merge_broken(letters: Boxes, run_of: np.ndarray) -> tuple[Boxes, np.ndarray]:
    """Joins pieces of a run that stand above each other to one letter; returns letters and their runs."""
    if not len(letters):
        return letters, run_of
    order = np.lexsort((letters.x0, run_of))
    # One shift for each run, wider than the page, lets a single running maximum serve all runs.
    shift = run_of[order] * (2.0 * (letters.x1.max() - letters.x0.min()) + 10)
    start, end = letters.x0[order] + shift, letters.x1[order] + shift
    reach = np.maximum.accumulate(end)
    common = reach[:-1] - start[1:]
    narrower = np.minimum(np.diff(end, prepend=0)[1:] + common, end[1:] - start[1:])
    new = common < np.maximum(0.5 * narrower, 1.0)
    character = np.empty(len(letters), dtype=np.int64)
    character[order] = np.concatenate([[0], np.cumsum(new)])
    count = int(character.max()) + 1
    run = np.zeros(count, dtype=np.int64)
    run[character] = run_of
    return group_extent(letters, character, count), run


def split_touching(letters: Boxes, runs: Runs) -> Boxes:
    """Cuts pieces of ink that reach over two lines into a part for each.

    A piece is cut below the baseline of a run on either side of it, where another run lies lower.
    """
    typical = typical_height(letters)
    long = runs.take(runs.letters >= 4)
    # A photo may have any number of tall pieces, and each of them costs a search.
    tall = np.flatnonzero(letters.height > TALLEST * typical)[:1000]
    if not len(tall) or not len(long):
        return letters
    inside = _baselines_inside(letters.take(tall), long)
    several = inside.sum(axis=1) >= 2
    parts = [letters.take(np.setdiff1d(np.arange(len(letters)), tall[several]))]
    for number, rows in zip(tall[several], inside[several]):
        parts.append(_cut_at(letters.take(np.array([number])), _cuts(long.take(rows))))
    return concatenate(parts)


def _baselines_inside(boxes: Boxes, runs: Runs) -> np.ndarray:
    """Whether each run stands beside a box and has the most of a letter inside it: (boxes, runs) bool."""
    reach = 4 * runs.cap
    beside = (runs.box.x0 - reach < boxes.x1[:, None]) & (runs.box.x1 + reach > boxes.x0[:, None])
    smaller = runs.cap < 0.75 * boxes.height[:, None]
    below_top = runs.base > boxes.y0[:, None] + 0.5 * runs.cap
    return beside & smaller & below_top & (runs.base < boxes.y1[:, None] + 0.4 * runs.cap)


def _cuts(runs: Runs) -> list[float]:
    """The heights at which a box over these runs is cut: under each baseline that has another line below."""
    cap = float(np.median(runs.cap))
    bases = np.sort(runs.base)
    # Runs of one line differ by a pixel or two and count as one baseline.
    bases = bases[np.concatenate([[True], np.diff(bases) > 0.9 * cap])]
    return [float(base + 0.25 * cap) for base in bases[:-1]]


def _cut_at(box: Boxes, cuts: list[float]) -> Boxes:
    edges = np.array([box.y0[0], *cuts, box.y1[0]])
    share = np.diff(edges) / (edges[-1] - edges[0])
    parts = box.take(np.zeros(len(share), dtype=np.int64))
    return replace(parts, y0=edges[:-1], y1=edges[1:], area=parts.area * share)


def split_double_rows(
    letters: Boxes, run_of: np.ndarray, runs: Runs, ink: np.ndarray, turn: np.ndarray
) -> Boxes:
    """Cuts runs that are two lines grown together: level across their middle there is hardly any ink.

    The boxes are levelled by the matrix `turn` (2, 2), the ink (H, W) is not.
    """
    usual = typical_height(letters)
    double = (runs.cap > TALLEST * usual) & (runs.cap < 3.2 * usual) & (runs.letters >= 3)
    parts = [letters.take(~double[run_of])]
    for number in np.flatnonzero(double)[:200]:
        own = letters.take(run_of == number)
        row = _emptiest_row(own, runs.take(np.array([number])), ink, turn)
        if row is None:
            parts.append(own)
            continue
        for index in range(len(own)):
            one = own.take(np.array([index]))
            inside = one.y0[0] + 2 < row < one.y1[0] - 2
            parts.append(_cut_at(one, [row] if inside else []))
    return concatenate(parts)


def _emptiest_row(own: Boxes, run: Runs, ink: np.ndarray, turn: np.ndarray) -> float | None:
    """The height, in the middle of the run, at which its two lines part; None where it is one line."""
    rows = np.arange(int(run.base[0] - run.cap[0]), int(run.base[0]) + 1)
    # The run's own slope is none: where one of the two lines ends early, the middles step aside.
    level_y, level_x = np.meshgrid(rows, np.arange(int(own.x0.min()), int(own.x1.max())), indexing="ij")
    x, y = np.rint(np.tensordot(turn.T, np.stack([level_x, level_y]), axes=1)).astype(np.int64)
    profile = ink[np.clip(y, 0, ink.shape[0] - 1), np.clip(x, 0, ink.shape[1] - 1)].mean(axis=1)
    # Two lines that have grown together part near the middle.
    low, high = int(0.3 * len(rows)), int(0.7 * len(rows)) + 1
    if high - low < 3:
        return None
    best = low + int(profile[low:high].argmin())
    usual = min(float(profile[:best].mean()), float(profile[best + 1 :].mean()))
    return float(rows[best]) + 0.5 if profile[best] < 0.3 * usual else None
