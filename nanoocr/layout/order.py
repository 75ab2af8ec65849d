"""Reading order: runs of letters become regions, regions hold rows, rows close together are a block.

The page is cut recursively (an XY cut, Nagy and Seth 1984) with two additions. Runs that cross a gutter, such
as a headline above two columns, do not hide it: the page is cut above and below them. And a gutter
parts only what is read apart: the columns of a table stand row beside row and stay together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nanoocr.layout.lines import Runs, link_rows

DEEPEST = 12  # cuts inside cuts; pages have three or four
FULL_ROWS = 0.4  # share of the rows of running text that reach from edge to edge
PARAGRAPH_GAP = 1.45  # times the usual distance of baselines: from here on a new block begins


@dataclass(frozen=True)
class Arrangement:
    """Which row each run belongs to, rows counted in reading order, and which block each row."""

    row_of: np.ndarray  # (runs,) int
    block_of: np.ndarray  # (rows,) int


def arrange(runs: Runs) -> Arrangement:
    """Puts runs into rows, and rows into blocks and reading order."""
    row_of = np.zeros(len(runs), dtype=np.int64)
    blocks: list[int] = []
    block = 0
    for region in _regions(runs, np.arange(len(runs)), DEEPEST):
        row, count = link_rows(runs.take(region))
        base = np.array([np.average(runs.base[region][row == k]) for k in range(count)])
        cap = np.array([runs.cap[region][row == k].max() for k in range(count)])
        order = np.argsort(base)
        place = np.empty(count, dtype=np.int64)
        place[order] = np.arange(count)
        row_of[region] = len(blocks) + place[row]
        inner = _blocks(base[order], cap[order])
        blocks.extend(block + inner)
        block = blocks[-1] + 1
    return Arrangement(row_of, np.array(blocks, dtype=np.int64))


def _blocks(base: np.ndarray, cap: np.ndarray) -> np.ndarray:
    """Numbers the paragraphs of rows that are given from top to bottom."""
    if len(base) < 2:
        return np.zeros(len(base), dtype=np.int64)
    pitch = np.diff(base)
    smaller = np.minimum(cap[1:], cap[:-1])
    # Distances count in letter heights, so that large and small print are judged alike.
    usual = float(np.median(np.minimum(pitch / smaller, 4.0)))
    far = pitch / smaller > max(PARAGRAPH_GAP * usual, 1.8)
    other_size = np.maximum(cap[1:], cap[:-1]) > 1.5 * smaller
    return np.concatenate([[0], np.cumsum(far | other_size)])


def _regions(runs: Runs, members: np.ndarray, depth: int) -> list[np.ndarray]:
    """Parts a set of runs (indices) into regions without columns, in reading order."""
    # Fewer than four runs show no columns, and the depth bounds the time on any input.
    if len(members) < 4 or depth == 0:
        return [members]
    own = runs.take(members)
    for middle in _gutters(own):
        crossing = (own.box.x0 < middle) & (own.box.x1 > middle)
        left = own.box.x1 <= middle
        bands = _bands(own, crossing)
        parted = [_are_columns(own.take(band & left), own.take(band & ~left)) for band in bands]
        if len(bands) == 1 and not crossing.any():
            if parted[0]:
                return _regions(runs, members[left], depth - 1) + _regions(runs, members[~left], depth - 1)
        elif any(parted):
            pieces = _in_order(own, bands, crossing)
            return [part for piece in pieces for part in _regions(runs, members[piece], depth - 1)]
    pieces = _split_at_blank_rows(own)
    if len(pieces) == 1:
        return [members]
    return [part for piece in pieces for part in _regions(runs, members[piece], depth - 1)]


def _gutters(own: Runs) -> list[float]:
    """Where columns may part: the middles of upright stripes that few runs cross, the emptiest first."""
    # Stripes of half a letter are narrow enough to find every gutter.
    unit = max(float(np.median(own.cap)) / 2, 1.0)
    start = own.box.x0.min()
    first = ((own.box.x0 - start) // unit).astype(np.int64)
    last = np.ceil((own.box.x1 - start) / unit).astype(np.int64)
    cover = np.zeros(int(last.max()) + 1)
    np.add.at(cover, first, own.cap)
    np.add.at(cover, last, -own.cap)
    cover = np.cumsum(cover)[:-1]
    # A stripe is empty in comparison with the fuller of what stands on its two sides.
    before, behind = np.maximum.accumulate(cover), np.maximum.accumulate(cover[::-1])[::-1]
    thin = cover <= 0.3 * np.minimum(before, behind)
    edges = np.diff(np.concatenate([[0], thin.astype(np.int8), [0]]))
    found = []
    for low, high in zip(np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)):
        emptiest = low + np.flatnonzero(cover[low:high] == cover[low:high].min())
        if high - low >= 2:
            middle = emptiest[len(emptiest) // 2] + 0.5
            found.append((float(cover[low:high].min()), -(high - low), float(start + middle * unit)))
    # Each try costs a pass over all runs, and a true gutter is among the emptiest.
    return [middle for _, _, middle in sorted(found)[:8]]


def _bands(own: Runs, crossing: np.ndarray) -> list[np.ndarray]:
    """Masks of the runs between rows that cross a gutter, from top to bottom."""
    bounds = np.sort(own.base[crossing])
    level = np.searchsorted(bounds, own.base)
    return [(level == k) & ~crossing for k in np.unique(level[~crossing])]


def _in_order(own: Runs, bands: list[np.ndarray], crossing: np.ndarray) -> list[np.ndarray]:
    """Bands and the crossing runs between them, from top to bottom."""
    pieces: list[np.ndarray] = []
    rest = crossing.copy()
    for band in bands:
        above = rest & (own.base < own.base[band].max())
        if above.any():
            pieces.append(above)
        pieces.append(band)
        rest &= ~above
    return [*pieces, rest] if rest.any() else pieces


def _are_columns(left: Runs, right: Runs) -> bool:
    """Whether two sides of a gutter are read one after the other, and not row by row."""
    if min(len(left), len(right)) < 2:
        return False
    top = max(left.base.min(), right.base.min())
    bottom = min(left.base.max(), right.base.max())
    lower = min(np.ptp(left.base), np.ptp(right.base))
    # Sides that share hardly any height do not stand beside each other.
    if bottom - top < 0.3 * lower:
        return False
    if _is_prose(left) and _is_prose(right):
        return True
    fewer, more = (left, right) if len(left) < len(right) else (right, left)
    distance = np.abs(fewer.base[:, None] - more.base[None]).min(axis=1)
    return len(fewer) >= 3 and float((distance < 0.3 * fewer.cap).mean()) < 0.5


def _is_prose(side: Runs) -> bool:
    """Whether many rows fill a column from edge to edge, as running text does."""
    # Times or amounts side by side fill their rows as well, but none of their own columns holds text.
    return _is_full(side) and any(_is_full(side.take(column)) for column in _own_columns(side))


def _own_columns(side: Runs) -> list[np.ndarray]:
    """Index arrays of the columns, from left to right, that upright blanks part which no run crosses."""
    order = np.argsort(side.box.x0)
    reach = np.maximum.accumulate(side.box.x1[order])[:-1]
    parted = side.box.x0[order][1:] - reach > 0.5 * float(np.median(side.cap))
    return [order[part] for part in np.split(np.arange(len(order)), np.flatnonzero(parted) + 1)]


def _is_full(column: Runs) -> bool:
    """Whether many rows of a column are long and fill most of its width."""
    row, count = link_rows(column)
    # Blanks do not count: the cells of a table span its width and leave most of it empty.
    inked = np.bincount(row, column.box.width, minlength=count)
    width = column.box.x1.max() - column.box.x0.min()
    full = (inked > 0.6 * width) & (inked > 8 * float(np.median(column.cap)))
    # A column may hold a table, headings and short lines as well.
    return int(full.sum()) >= 3 and float(full.mean()) > FULL_ROWS


def _split_at_blank_rows(own: Runs) -> list[np.ndarray]:
    """Index arrays of the parts between level blanks that are higher than the usual ones."""
    order = np.argsort(own.box.y0)
    reach = np.maximum.accumulate(own.box.y1[order])[:-1]
    blank = own.box.y0[order][1:] - reach
    far = blank > 1.5 * float(np.median(own.cap))
    return [order[part] for part in np.split(np.arange(len(order)), np.flatnonzero(far) + 1)]
