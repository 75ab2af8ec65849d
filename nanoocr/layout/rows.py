"""Rows of letters get their marks, the height of their capitals, and the ink of other rows nearby."""

from __future__ import annotations

import itertools

import numpy as np

from nanoocr.layout.components import Boxes, group_quantile
from nanoocr.layout.geometry import RowShape, fit_baseline, outline
from nanoocr.layout.lines import Runs, measure_runs

MARK_ASIDE, MARK_CONTRAST = 1.0, 0.4  # cap heights from a row's ink to its marks; share of its contrast
FAR_ASIDE, FAINT_CONTRAST = 3.0, 0.1  # the same for marks whose shape and place say what they are
COLON_CONTRAST = 0.2  # two dots make sure of it
MOST_MARKS = 100  # of one row
PALE_CAP = 15  # pixels of cap height below which a dash is thinner than a pixel
DASH_ASIDE = 1.5  # cap heights from a row's ink to a dash that belongs to it
TALL, TALLEST = 1.2, 1.7  # heights of low letters between which capitals and letters such as "h" are
FEW, MANY = 8, 12  # letters with which a row's capitals are uncertain, or certain enough to lend their height


def shape_rows(letters: Boxes, row_of: np.ndarray, marks: Boxes, block_of: np.ndarray) -> list[RowShape]:
    """The shape of each row on the level page. `row_of` is each letter's row, `block_of` each row's block."""
    count = len(block_of)
    rows = measure_runs(letters, row_of, count)
    mark_row = _rows_of_marks(marks, rows)
    own_letters, own_marks = _by_group(row_of, count), _by_group(mark_row, count)
    baselines, rise, hang = [], np.zeros(len(letters)), np.zeros(len(letters))
    for k in range(count):
        own, with_marks = letters.take(own_letters[k]), marks.take(own_marks[k])
        baselines.append(fit_baseline(own, with_marks, rows.take(np.array([k]))))
        base = np.interp((own.x0 + own.x1) / 2, *baselines[k].T)
        rise[own_letters[k]], hang[own_letters[k]] = base - own.y0, own.y1 - base
    # Not the highest letter of all: brackets and accents rise above the capitals.
    high = np.maximum(group_quantile(rise, row_of, count, 0.85), 3.0)
    low = group_quantile(rise, row_of, count, 0.2)
    flat = high < TALL * low
    for k in np.flatnonzero(flat).tolist():
        cap_of_few = _cap_of_few(rise[own_letters[k]] / low[k], hang[own_letters[k]] / low[k])
        if cap_of_few:
            high[k], flat[k] = cap_of_few * low[k], False
    cap = _borrow_caps(high, flat, rows.letters, block_of)
    return [
        outline(letters.take(own_letters[k]), marks.take(own_marks[k]), baselines[k], float(cap[k]))
        for k in range(count)
    ]


def _cap_of_few(rise: np.ndarray, hang: np.ndarray) -> float:
    """The height of a row's few tall letters, where nearly all others are low; 0 where there are none.

    `rise` and `hang` (letters,) say how far letters reach above and below the baseline, in heights of most of
    them. "vacuum seals" has one tall letter in eleven. Beside capitals only what has an accent is tall, so
    that one of a few letters is no witness.
    """
    # Brackets are tall beside capitals, but they hang as well.
    tall = (rise > TALL) & (rise < TALLEST) & (hang < 0.12)
    hanging = ((hang > 0.2) & (hang < 0.6) & (rise < TALL)).any()
    enough = tall.sum() > 1 or (tall.any() and (hanging or len(rise) >= FEW))
    return float(np.median(rise[tall])) if enough else 0.0


def _by_group(group: np.ndarray, count: int) -> list[np.ndarray]:
    """The indices of the members of each group."""
    order = np.argsort(group, kind="stable")
    edges = np.searchsorted(group[order], np.arange(count + 1))
    return [order[low:high] for low, high in itertools.pairwise(edges)]


def _borrow_caps(cap: np.ndarray, flat: np.ndarray, letters: np.ndarray, block_of: np.ndarray) -> np.ndarray:
    """Cap heights (rows,), mended in short rows whose low letters were taken for capitals.

    "sauce" has no capital: its letters are as high as the low ones of the rows around it.
    """
    result = cap.copy()
    lends = (letters >= MANY) | (~flat & (letters >= 4))
    index = np.arange(len(cap))
    for k in np.flatnonzero(flat & (letters <= FEW)):
        near = lends & ((block_of == block_of[k]) | (np.abs(index - k) <= 3)) & (index != k)
        near &= (cap > 0.9 * cap[k]) & (cap < 1.7 * cap[k])
        if not near.any():
            continue
        usual = float(np.median(cap[near]))
        ratio = cap[k] / usual
        # In most faces low letters have two thirds to four fifths of the height of capitals.
        if 0.6 < ratio < 0.83:
            result[k] = usual
        elif letters[k] <= 3 and ratio > 0.87:
            result[k] = (cap[k] + usual) / 2
    return result


def _rows_of_marks(marks: Boxes, rows: Runs) -> np.ndarray:
    """The row each mark belongs to, or -1: one that has ink beside it, at a height where rows have marks."""
    result = _nearest_rows(marks, rows, MARK_ASIDE, MARK_CONTRAST)
    far = _nearest_rows(marks, rows, FAR_ASIDE, FAINT_CONTRAST)
    for row in np.unique(far[(far >= 0) & (result < 0)]):
        members = np.flatnonzero((far == row) & ((result == row) | (result < 0)))
        near, own = marks.take(members), rows.take(np.array([row]))
        # The search for colons is quadratic, and so many marks beside one row are dirt.
        if len(near) <= MOST_MARKS:
            result[members[_in_colons(near, own) | _dashes(near, own)]] = row
    return result


def _nearest_rows(marks: Boxes, rows: Runs, farthest: float, contrast: float) -> np.ndarray:
    """The row that each mark may belong to, or -1 (marks,).

    `farthest` is how many cap heights it may stand off the row's ink, and `contrast` the least share of the
    row's contrast that it has.
    """
    result = np.full(len(marks), -1, dtype=np.int64)
    if not len(marks):
        return result
    x, y = (marks.x0 + marks.x1) / 2, (marks.y0 + marks.y1) / 2
    by_base = np.argsort(rows.base)
    near = np.searchsorted(rows.base[by_base], y)
    best = np.full(len(marks), np.inf)
    # In pages of columns the six rows above and below hold those of every column.
    for step in range(-6, 7):
        row = by_base[np.clip(near + step, 0, len(rows) - 1)]
        own = rows.take(row)
        above = (own.base_at(x) - y) / own.cap
        aside = np.maximum(np.maximum(own.box.x0 - marks.x1, marks.x0 - own.box.x1), 0) / own.cap
        fits = (above > -0.35) & (above < 1.35) & (aside < farthest) & (marks.height < 0.8 * own.cap)
        fits &= (marks.contrast > contrast * own.box.contrast) & (marks.area > 0.006 * own.cap**2)
        distance = np.abs(above - 0.5) + aside
        better = fits & (distance < best)
        result[better], best[better] = row[better], distance[better]
    return result


def _in_colons(marks: Boxes, row: Runs) -> np.ndarray:
    """Which marks near a row (one run) are two dots above each other, the lower one on the line: (N,) bool.

    A colon often stands off its word, and its small dots are faint.
    """
    cap = float(row.cap[0])
    x = (marks.x0 + marks.x1) / 2
    foot = (_base_at(row, x) - marks.y1) / cap
    dots = (marks.height < 0.35 * cap + 1) & (marks.width < 0.35 * cap + 1)
    dots &= marks.contrast > COLON_CONTRAST * row.box.contrast
    low = dots & (np.abs(foot) < 0.15 + 1.0 / cap)
    high = dots & (foot > 0.25) & (foot < 0.75 + 1.0 / cap)
    pairs = low[:, None] & high[None] & (np.abs(x[:, None] - x[None]) < 0.1 * cap + 1)
    ratio = marks.area[:, None] / marks.area[None]
    pairs &= (ratio > 0.4) & (ratio < 2.5)
    return pairs.any(axis=0) | pairs.any(axis=1)


def _dashes(marks: Boxes, row: Runs) -> np.ndarray:
    """Which marks near a row (one run) are dashes, or the bullet in front of an item: (N,) bool.

    The dash of small print is paler than its letters, because it is thinner than a pixel. Between two words
    it leaves a wide blank, at which the line may be cut, and then nobody would read it.
    """
    cap = float(row.cap[0])
    x, y = (marks.x0 + marks.x1) / 2, (marks.y0 + marks.y1) / 2
    above = (_base_at(row, x) - y) / cap
    width, height = marks.width / cap, marks.height / cap
    least = FAINT_CONTRAST if cap < PALE_CAP else MARK_CONTRAST
    middle = (above > 0.2) & (above < 0.6) & (marks.contrast > least * row.box.contrast)
    middle &= marks.area > 0.6 * marks.width * marks.height
    dash = middle & (width > 0.3) & (width < 1.4) & (height < 0.2 + 1 / cap) & (width > 2 * height)
    near = (marks.x1 > row.box.x0 - DASH_ASIDE * cap) & (marks.x0 < row.box.x1 + DASH_ASIDE * cap)
    dot = (
        middle
        & (np.minimum(width, height) > 0.28)
        & (width < 0.7)
        & (np.abs(width - height) < 0.2 * width + 1 / cap)
    )
    dot &= marks.contrast > MARK_CONTRAST * row.box.contrast
    in_front = marks.x1 <= row.box.x0
    # Dirt comes in crowds, and the sign of an item stands alone.
    return (dash & near) | ((dash | dot) & in_front & (in_front.sum() == 1))


def _base_at(row: Runs, x: np.ndarray) -> np.ndarray:
    """The height of the baseline of a row (one run) at each x (N,)."""
    return row.take(np.zeros(len(x), dtype=np.int64)).base_at(x)


def foreign_ink(letters: Boxes, row_of: np.ndarray, shapes: list[RowShape]) -> list[np.ndarray]:
    """For each row the boxes (K, 4) of other rows' letters that its strips would show."""
    corners = np.stack([letters.x0, letters.y0, letters.x1, letters.y1], axis=1)
    result = []
    for row, shape in enumerate(shapes):
        base = shape.baseline[:, 1]
        # A strip shows 1.5 capitals above the baseline and half a one below; a little more is kept.
        low, high = base.min() - 1.7 * shape.cap, base.max() + 0.7 * shape.cap
        start, end = shape.baseline[0, 0] - shape.cap, shape.baseline[-1, 0] + shape.cap
        shown = (letters.y1 > low) & (letters.y0 < high) & (letters.x1 > start) & (letters.x0 < end)
        other = corners[shown & (row_of != row)]
        own = corners[shown & (row_of == row)]
        result.append(_clear_of(other, own))
    return result


def _clear_of(other: np.ndarray, own: np.ndarray) -> np.ndarray:
    """The boxes (K, 4), less their parts at the height of own letters that they overlap."""
    if not len(other) or not len(own):
        return other
    beside = (other[:, None, 0] < own[None, :, 2] + 1) & (other[:, None, 2] > own[None, :, 0] - 1)
    # A box is trimmed and not dropped: the tail of a letter may reach down between own letters.
    above = other[:, 1] + other[:, 3] < float(np.median(own[:, 1] + own[:, 3]))
    result = other.copy()
    top = np.where(beside, own[None, :, 1], np.inf).min(axis=1) - 1
    bottom = np.where(beside, own[None, :, 3], -np.inf).max(axis=1) + 1
    result[above, 3] = np.minimum(other[above, 3], top[above])
    result[~above, 1] = np.maximum(other[~above, 1], bottom[~above])
    return result[result[:, 3] > result[:, 1]]
