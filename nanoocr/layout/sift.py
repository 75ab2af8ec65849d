"""What is text and what is not, and letters that touch the line below."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nanoocr.layout.components import (
    Boxes,
    chain_labels,
    concatenate,
    group_extent,
    group_quantile,
    weighted_median,
)
from nanoocr.layout.lines import Runs, measure_runs

LEAST_CONTRAST = 5.0  # grey levels beyond the threshold
FAINTEST = 0.3  # of the usual contrast of a page: fainter runs are stains and the print of the other side
TALLEST = 1.5  # times the usual letter height: a taller piece of ink may hold letters of two lines


def plausible(letters: Boxes, run_of: np.ndarray, runs: Runs) -> np.ndarray:
    """Which runs are text: (runs,) bool.

    Texture has no common baseline and height, and it goes on above and below. Four letters that pass are text of
    their own; fewer could be chance, so they need such text nearby, or a picture with hardly anything else.
    """
    count = len(runs)
    filled = group_quantile(letters.area / (letters.width * letters.height), run_of, count, 0.5)
    crowd = group_quantile(letters.crowd, run_of, count, 0.5)
    # Close lines crowd each other and thin strokes fill little, so neither alone decides.
    quality = runs.regular - 1.5 * np.maximum(crowd - 0.03, 0) - 2 * np.maximum(0.3 - filled, 0)
    least = np.select([runs.letters >= 8, runs.letters >= 4], [0.65, 0.7], 0.8)
    fits = (quality > least) & (filled < 0.92) & (runs.box.contrast > LEAST_CONTRAST)
    sure = fits & (runs.letters >= 4) & (quality > 0.8)
    if not sure.any():
        return fits & _fills_picture(runs, fits)
    usual_cap = weighted_median(runs.cap[sure], runs.letters[sure])
    usual_contrast = weighted_median(runs.box.contrast[sure], runs.letters[sure])
    dashes = (runs.cap < 0.6 * usual_cap) & (filled > 0.6)
    fits &= (runs.box.contrast > FAINTEST * usual_contrast) & ~dashes
    several = runs.letters >= 4
    few = fits & ~several & ((runs.letters >= 2) | (runs.box.width > 1.5 * runs.cap))
    return (fits & several) | _has_company(runs, few, several & fits)


def rescue(letters: Boxes, run_of: np.ndarray, runs: Runs, text: np.ndarray) -> np.ndarray:
    """Which letters are text: (letters,) bool. Those of text runs, and single ones that stand in a row with them.

    Without this a speck of dirt beside a price would take the price with it.
    """
    kept = text[run_of]
    rest = np.flatnonzero(~kept)
    sure = runs.take(text)
    for part in np.array_split(rest, len(rest) // 2000 + 1):
        kept[part] = _in_row_with(letters.take(part), sure)
    return kept


def _fills_picture(runs: Runs, fits: np.ndarray) -> bool:
    """Whether the runs that fit hold the most of the ink, as in the picture of one short word."""
    return bool(runs.box.area[fits].sum() > 0.6 * runs.box.area.sum())


def _has_company(runs: Runs, few: np.ndarray, sure: np.ndarray) -> np.ndarray:
    """Which of the runs `few` have a run of `sure` nearby whose letters are as high and as dark: (runs,) bool."""
    short, text = runs.take(few), runs.take(sure)
    if not len(short) or not len(text):
        return np.zeros(len(runs), dtype=bool)
    cap = np.maximum(short.cap[:, None], text.cap[None])
    aside = np.maximum(text.box.x0[None] - short.box.x1[:, None], short.box.x0[:, None] - text.box.x1[None])
    away = np.abs(short.base[:, None] - text.base[None])
    same_row = away < 0.5 * cap
    near = ((aside < 10 * cap) & (away < 8 * cap)) | (same_row & (aside < 40 * cap))
    near &= cap < 2.2 * np.minimum(short.cap[:, None], text.cap[None])
    near &= short.box.contrast[:, None] > 0.5 * text.box.contrast[None]
    result = few.copy()
    result[few] = near.any(axis=1)
    return result


def _in_row_with(alone: Boxes, sure: Runs) -> np.ndarray:
    """Which letters stand on the baseline of text of their size and darkness: (letters,) bool."""
    if not len(alone) or not len(sure):
        return np.zeros(len(alone), dtype=bool)
    aside = np.maximum(sure.box.x0[None] - alone.x1[:, None], alone.x0[:, None] - sure.box.x1[None])
    # The text's slope is drawn on, but not further than a few letters.
    reach = ((alone.x0 + alone.x1)[:, None] - (sure.box.x0 + sure.box.x1)[None]) / 2
    reach = np.clip(reach, -sure.box.width, sure.box.width)
    away = np.abs(alone.y1[:, None] - sure.base[None] - sure.slope[None] * reach)
    ratio = alone.height[:, None] / sure.cap[None]
    fits = (away < 0.2 * sure.cap[None] + 1) & (aside < 25 * sure.cap[None]) & (ratio > 0.62) & (ratio < 1.25)
    fits &= alone.contrast[:, None] > 0.5 * sure.box.contrast[None]
    return fits.any(axis=1)


def absorb(letters: Boxes, run_of: np.ndarray, runs: Runs) -> tuple[np.ndarray, Runs]:
    """Joins runs that lie inside longer ones: pieces of broken letters, quotes, the dots of a faint print.

    Returns the number of each letter's run and the runs, as `find_runs` does.
    """
    # The search is quadratic; a page with so many runs is texture, or has none broken.
    if len(runs) > 3000:
        return run_of, runs
    size = runs.box.width * runs.cap
    small = np.flatnonzero((runs.letters <= 3) | ((runs.letters <= 12) & (runs.regular < 0.65)))
    large = np.flatnonzero((runs.letters >= 3) & (runs.regular > 0.5))
    inner, outer = runs.take(small), runs.take(large)
    top, bottom = outer.base - 1.1 * outer.cap, outer.base + 0.35 * outer.cap
    low = np.maximum(inner.box.y0[:, None], top[None])
    high = np.minimum(inner.box.y1[:, None], bottom[None])
    within = (high - low) > 0.7 * inner.box.height[:, None]
    reach = 0.3 * outer.cap
    within &= (inner.box.x0[:, None] > outer.box.x0 - reach) & (inner.box.x1[:, None] < outer.box.x1 + reach)
    within &= size[small][:, None] < 0.5 * size[large][None]
    target = np.arange(len(runs))
    some = within.any(axis=1)
    target[small[some]] = large[np.where(within, size[large][None], 0).argmax(axis=1)[some]]
    chain, count = chain_labels(target)
    joined = chain[run_of]
    return joined, measure_runs(letters, joined, count)


def merge_broken(letters: Boxes, run_of: np.ndarray) -> tuple[Boxes, np.ndarray]:
    """Joins the pieces of a run that stand above each other to one letter each; returns letters and their runs."""
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
    return concatenate(parts)


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
    share = np.diff(edges) / (edges[-1] - edges[0])
    parts = box.take(np.zeros(len(share), dtype=np.int64))
    return replace(parts, y0=edges[:-1], y1=edges[1:], area=parts.area * share)
