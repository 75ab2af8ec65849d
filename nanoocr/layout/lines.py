"""Pieces of ink become runs of letters, and runs that lie on one baseline become lines.

Everything here happens on an upright, level page. A letter is linked with its nearest neighbour to the right
when both choose each other; so a row never branches into the row below.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from nanoocr.layout.components import Boxes, chain_labels, group_extent, group_quantile

SMALLEST = 5  # pixels of height below which a piece of ink is a mark and starts no line
LETTER_GAP = 1.1  # widest blank inside a run of letters, as a share of the taller letter's height
NARROWEST_GUTTER = 1.2  # cap heights between columns; loose lines of one column may have such blanks too
ABOVE = 0.2  # quantile of the letters' feet that lies on the baseline even where most letters hang
CLEARLY = 0.1  # share of a run's letters that another baseline must fit in addition to be taken
REGULAR = 0.9  # share of regular letters that it needs
NEIGHBOURS = 3  # letters on each side of one that are as large as it is
HANGS = 0.3  # by how much a letter that hangs fits a baseline less than one that stands
SHORT = 25  # letters; in longer runs those that hang are few and lie everywhere
RUN_GAP = 1.5  # widest blank between two runs of a line, as a share of the cap height


@dataclass(frozen=True)
class Runs:
    """N runs of letters. All arrays (N,)."""

    box: Boxes
    base: np.ndarray  # y of the baseline in the middle of the box
    slope: np.ndarray  # by how much the baseline falls there per pixel to the right
    bend: np.ndarray  # and by how much more with the square of the distance: a curved page
    cap: np.ndarray  # height of the taller letters above it
    letters: np.ndarray  # how many
    regular: np.ndarray  # the share of the letters that stand and end where letters do, 0 to 1

    def __len__(self) -> int:
        return len(self.base)

    def take(self, which: np.ndarray) -> Runs:
        """The runs that an index or mask array names."""
        return Runs(
            self.box.take(which),
            self.base[which],
            self.slope[which],
            self.bend[which],
            self.cap[which],
            self.letters[which],
            self.regular[which],
        )

    def base_at(self, x: np.ndarray) -> np.ndarray:
        """The height of each run's baseline at x (N,); beyond the run's ends it goes on straight."""
        away = x - (self.box.x0 + self.box.x1) / 2
        inside = np.clip(away, -self.box.width / 2, self.box.width / 2)
        at_end = self.base + self.slope * inside + self.bend * inside**2
        return at_end + (self.slope + 2 * self.bend * inside) * (away - inside)


def letter_like(boxes: Boxes, page_height: int) -> np.ndarray:
    """Which boxes may be letters, or words whose letters touch: (N,) bool. Marks, rules, pictures are not."""
    width, height = boxes.width, boxes.height
    typical = typical_height(boxes)
    # The bounds are wide, because what passes wrongly is sifted out later with its run.
    fits = (height >= SMALLEST) & (height < 0.5 * page_height + 20) & (height < 12 * typical)
    shape = (width < 15 * height) & (height < 15 * width)
    solid = boxes.area > 0.06 * width * height
    return fits & shape & solid


def typical_height(boxes: Boxes) -> float:
    """The height of most letters of a page, in pixels."""
    likely = (boxes.height >= SMALLEST) & (boxes.width < 3 * boxes.height) & (boxes.height < 6 * boxes.width)
    return float(np.median(boxes.height[likely])) if likely.any() else float(SMALLEST)


def find_chains(letters: Boxes) -> tuple[np.ndarray, Runs]:
    """Joins letters that follow each other without a wide blank: the run of each (N,), and the runs."""
    left, right = neighbours(letters, letters.height)
    gap = letters.x0[right] - letters.x1[left]
    taller = np.maximum(letters.height[left], letters.height[right])
    shorter = np.minimum(letters.height[left], letters.height[right])
    overlap = np.minimum(letters.y1[left], letters.y1[right]) - np.maximum(
        letters.y0[left], letters.y0[right]
    )
    centre = (letters.y0 + letters.y1) / 2
    fits = (gap <= LETTER_GAP * taller) & (gap > -0.7 * taller) & (letters.x1[right] > letters.x1[left])
    # Letters of one line share most of their height, and those of two lines hardly any.
    fits &= (overlap > 0.4 * shorter) & (taller < 2.6 * shorter)
    fits &= np.abs(centre[left] - centre[right]) < 0.5 * taller
    # A step between the feet weighs more than distance, so that no row branches into the next.
    cost = np.maximum(gap, 0) + 1.5 * np.abs(letters.y1[left] - letters.y1[right])
    chain, count = choose(left[fits], right[fits], cost[fits], len(letters))
    return chain, measure_runs(letters, chain, count)


def find_runs(letters: Boxes, largest_gap: float = RUN_GAP) -> tuple[np.ndarray, Runs]:
    """Joins letters to runs, then runs across blanks between words: the run of each letter, and the runs."""
    chain, runs = find_chains(letters)
    # Longer runs have surer slopes, which let the second round join what the first could not.
    for _ in range(2):
        joined, count = _link_runs(runs, largest_gap, largest_ratio=1.8)
        chain = joined[chain]
        runs = measure_runs(letters, chain, count)
    return chain, runs


def with_two_sizes(letters: Boxes, run_of: np.ndarray, runs: Runs) -> Runs:
    """The runs, of which long irregular ones are as regular as their letters are among their neighbours.

    "Total 118.40" may have its number in letters twice as high, beside which the others end nowhere.
    """
    doubtful = (runs.regular < REGULAR) & (runs.letters >= 2 * NEIGHBOURS)
    own = np.flatnonzero(doubtful[run_of])
    if not len(own):
        return runs
    own = own[np.lexsort((letters.x0[own], run_of[own]))]
    part, part_of = letters.take(own), run_of[own]
    base = runs.take(part_of).base_at((part.x0 + part.x1) / 2)
    rise, hang = base - part.y0, part.y1 - base
    cap = np.maximum(rise, 3.0)
    for step in range(1, NEIGHBOURS + 1):
        same = part_of[step:] == part_of[:-step]
        cap[step:] = np.where(same, np.maximum(cap[step:], rise[:-step]), cap[step:])
        cap[:-step] = np.where(same, np.maximum(cap[:-step], rise[step:]), cap[:-step])
    regular = _regular_share(rise / cap, hang / cap, part, part_of, runs.cap)
    return replace(runs, regular=np.where(doubtful, np.maximum(runs.regular, regular), runs.regular))


def link_rows(runs: Runs) -> tuple[np.ndarray, int]:
    """Joins runs that stand beside each other at any distance: the row of each run, and how many rows."""
    return _link_runs(runs, np.inf, largest_ratio=1.9)


def _link_runs(runs: Runs, largest_gap: float, largest_ratio: float) -> tuple[np.ndarray, int]:
    """Chains of runs whose baselines meet, when each is drawn on to the middle of the blank between them."""
    left, right = neighbours(runs.box, runs.cap)
    box = runs.box
    gap = box.x0[right] - box.x1[left]
    taller, shorter = (pick(runs.cap[left], runs.cap[right]) for pick in (np.maximum, np.minimum))
    fits = (gap <= largest_gap * taller) & (gap > -0.7 * taller) & (box.x1[right] > box.x1[left])
    # A short run's slope is not trusted far from it.
    middle = np.clip(gap / 2, 0, 3 * taller)
    end = runs.take(left).base_at(box.x1[left] + middle)
    start = runs.take(right).base_at(box.x0[right] - middle)
    step = np.abs(end - start)
    fits &= (step < 0.45 * taller) & (taller < largest_ratio * shorter)
    cost = np.maximum(gap, 0) + 2 * step
    return choose(left[fits], right[fits], cost[fits], len(runs))


def measure_runs(letters: Boxes, chain: np.ndarray, count: int) -> Runs:
    """Baseline and letter height of each run; descenders and dots do not move them."""
    runs, misfit = _measured(letters, chain, count, level=False, quantile=0.5)
    # "see also egg, gap" hangs at its end, which looks like a tilt. In "page" as many letters hang as stand.
    # So a short run may also be level, and stand on the feet that lie above most others.
    short = np.flatnonzero(runs.letters < SHORT)
    own = (runs.letters < SHORT)[chain]
    place = np.zeros(count, np.int64)
    place[short] = np.arange(len(short))
    part, part_of = letters.take(own), place[chain[own]]
    for level, quantile in ((True, 0.5), (False, ABOVE), (True, ABOVE)):
        other, other_misfit = _measured(part, part_of, len(short), level, quantile)
        # Dirt fits one baseline as badly as another.
        better = (other_misfit < misfit[short] - CLEARLY) & (other.regular > REGULAR)
        misfit[short[better]] = other_misfit[better]
        runs = _exchanged(runs, short[better], other.take(better))
    return runs


def _exchanged(runs: Runs, which: np.ndarray, others: Runs) -> Runs:
    """The runs with those of an index array exchanged for as many others."""
    values = {name: getattr(runs, name).copy() for name in ("base", "slope", "bend", "cap", "regular")}
    for name, value in values.items():
        value[which] = getattr(others, name)
    return replace(runs, **values)


def _measured(
    letters: Boxes, chain: np.ndarray, count: int, level: bool, quantile: float
) -> tuple[Runs, np.ndarray]:
    """Runs whose baseline is at first `level` or runs as their middles do, and how badly they fit.

    The baseline is that quantile of the letters' feet. The misfit (runs,) is 0 where every letter stands on
    it and ends where letters do, and up to 2.
    """
    number = np.bincount(chain, minlength=count)
    extent = group_extent(letters, chain, count)
    half = np.maximum(extent.width / 2, 1)
    place = ((letters.x0 + letters.x1) / 2 - ((extent.x0 + extent.x1) / 2)[chain]) / half[chain]
    tallness = np.bincount(chain, letters.height, minlength=count) / number
    # Slopes of short runs are noise, and so are bends of runs that are not long.
    free = (number >= 5) & (half > 2 * tallness)
    bendable = (number >= 12) & (half > 6 * tallness)
    middles = (letters.y0 + letters.y1) / 2
    even = np.ones(len(letters))
    curve = np.zeros((count, 2)) if level else _fit_curves(place, middles, even, chain, free, bendable)
    near = 0.12 * tallness[chain] + 1
    for _ in range(2):
        # Middles only point the way, as tall and hanging letters shift them; feet on the baseline are exact.
        feet = letters.y1 - _shape_at(curve, place, chain)
        base = group_quantile(feet, chain, count, quantile)
        stand = (np.abs(feet - base[chain]) < near).astype(np.float64)
        curve = _fit_curves(place, letters.y1, stand, chain, free, bendable)
    shape = _shape_at(curve, place, chain)
    base = group_quantile(letters.y1 - shape, chain, count, quantile)
    hang, rise = letters.y1 - shape - base[chain], base[chain] + shape - letters.y0
    cap = np.maximum(group_quantile(rise, chain, count, 0.8), 3.0)
    regular = _regular_share(rise / cap[chain], hang / cap[chain], letters, chain, cap)
    away = np.minimum(np.abs(hang) / (0.05 * tallness[chain] + 0.7), 1.0)
    away[(hang > 0.15 * tallness[chain]) & (hang < 0.5 * tallness[chain])] = HANGS
    misfit = np.bincount(chain, away, minlength=count) / number + 1 - regular
    runs = Runs(extent, base, curve[:, 0] / half, curve[:, 1] / half**2, cap, number, regular)
    return runs, misfit


def _shape_at(curve: np.ndarray, place: np.ndarray, chain: np.ndarray) -> np.ndarray:
    """How far each letter's run has fallen at `place` (-1 at its start, 1 at its end) from its middle."""
    return curve[chain, 0] * place + curve[chain, 1] * place**2


def _fit_curves(
    place: np.ndarray,
    y: np.ndarray,
    weight: np.ndarray,
    chain: np.ndarray,
    free: np.ndarray,
    bendable: np.ndarray,
) -> np.ndarray:
    """Least squares of y = a + b place + c place^2 in each run: (runs, 2) b and c, zero where not allowed."""
    count = len(free)
    result = np.zeros((count, 2))
    some = np.flatnonzero(free)
    if not len(some):
        return result
    matrix, right = np.empty((len(some), 3, 3)), np.empty((len(some), 3, 1))
    term = weight
    for power in range(5):
        total = np.bincount(chain, term, minlength=count)[some]
        for row in range(max(power - 2, 0), min(power, 2) + 1):
            matrix[:, row, power - row] = total
        if power < 3:
            right[:, power, 0] = np.bincount(chain, term * y, minlength=count)[some]
        term = term * place
    matrix[:, [0, 1], [0, 1]] += 1e-3
    # A heavy penalty holds the bend of short runs at zero.
    matrix[:, 2, 2] += np.where(bendable[some], 1e-3, 1e9)
    result[some] = np.linalg.solve(matrix, right)[:, 1:, 0]
    return result


def _regular_share(
    rise: np.ndarray, hang: np.ndarray, letters: Boxes, chain: np.ndarray, cap: np.ndarray
) -> np.ndarray:
    """The share of each run's letters, by height, whose tops and bottoms are where letters have them.

    `rise` and `hang` are (N,) cap heights above and below the baseline.
    """
    # One pixel more: small letters are measured no better than that.
    slack = 0.12 + 1.0 / cap[chain]
    # In a run with few capitals `cap` is the height of the low letters, of which most are equal. Capitals
    # rise above it, and letters hang lower, measured by it.
    equal = np.abs(rise - 1) < slack / 2
    low_run = (np.bincount(chain, equal, len(cap)) > 0.6 * np.bincount(chain, minlength=len(cap)))[chain]
    foot = (np.abs(hang) < slack) | ((hang > 0.27 - slack) & (hang < 0.27 + 0.13 * low_run + slack))
    above = np.abs(rise - 1.36 - 0.06 * low_run) < slack + 0.06 * low_run
    head = (np.abs(rise - 1) < slack) | (np.abs(rise - 0.72) < slack) | above
    votes = np.bincount(chain, letters.height, minlength=len(cap))
    return np.bincount(chain, letters.height * (foot & head), minlength=len(cap)) / np.maximum(votes, 1e-6)


def choose(left: np.ndarray, right: np.ndarray, cost: np.ndarray, count: int) -> tuple[np.ndarray, int]:
    """Chains of the items that choose each other as the cheapest neighbour: the chain of each, how many."""
    best_right = _cheapest(left, right, cost, count)
    best_left = _cheapest(right, left, cost, count)
    index = np.arange(count)
    mutual = (best_right >= 0) & (best_left[best_right] == index)
    return chain_labels(np.where(mutual, best_right, index))


def _cheapest(own: np.ndarray, other: np.ndarray, cost: np.ndarray, count: int) -> np.ndarray:
    """For each item the other one of its cheapest pair, or -1."""
    best = np.full(count, -1, dtype=np.int64)
    order = np.argsort(-cost, kind="stable")
    best[own[order]] = other[order]  # the cheapest pair is written last and stays
    return best


def neighbours(boxes: Boxes, height: np.ndarray, reach: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (left, right) of boxes that share a row of the page and stand among the next `reach` of it."""
    if len(boxes) < 2:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    # Rows of half a letter: two letters of one line surely share one of them.
    row_height = max(float(np.median(height)) / 2, 3.0)
    first = (boxes.y0 // row_height).astype(np.int64)
    # Tall boxes are entered in 40 rows at most: pictures must not fill the memory.
    rows = np.minimum((boxes.y1 // row_height).astype(np.int64) - first + 1, 40)
    index = np.repeat(np.arange(len(boxes)), rows)
    row = np.repeat(first, rows) + np.arange(len(index)) - np.repeat(np.cumsum(rows) - rows, rows)
    order = np.lexsort((boxes.x0[index], row))
    index, row = index[order], row[order]
    pairs = [
        (index[:-step][same], index[step:][same])
        for step in range(1, min(reach, len(index) - 1) + 1)
        for same in [row[:-step] == row[step:]]
    ]
    return np.concatenate([pair[0] for pair in pairs]), np.concatenate([pair[1] for pair in pairs])
