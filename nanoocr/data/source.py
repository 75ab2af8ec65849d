"""Where training rows come from: a `RowSource` returns the row for the number of a draw.

A draw is a pure function of its number. So one number is the whole position in the data, whoever asks. There
are two kinds: pictures drawn on the fly (`SynthMix`), and weighted data sets (`Mixture`, of which a small
fixed set is the case with one).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import Protocol

import numpy as np

from nanoocr.data.rows import NO_BOXES, Row, Turn, row_from_synth
from nanoocr.data.synth import make_sample
from nanoocr.data.synth.card import MAX_LINES
from nanoocr.data.synth.fonts import Font
from nanoocr.data.task import Task, digest
from nanoocr.errors import UsageError


class RowSource(Protocol):
    """(number of the draw, progress from 0 to 1) -> Row."""

    def __call__(self, draw: int, progress: float, /) -> Row:
        """The row of the draw."""

    def fingerprint(self) -> dict[str, str]:
        """Map each data set to a text that changes only when the same draws would give other rows."""


@dataclass(frozen=True)
class SynthMix:
    """Draws pictures live: kinds by weight, cards as long as the curriculum says, some rows as text alone."""

    kinds: dict[str, float]
    fonts: tuple[Font, ...]
    seed: int
    # (from this share of the run on, fewest lines, most lines)
    curriculum: tuple[tuple[float, int, int], ...] = ((0.0, 1, 3),)
    text_ratio: float = 0.0

    def __call__(self, index: int, progress: float) -> Row:
        rng = np.random.default_rng([self.seed, index])
        ends = list(accumulate(self.kinds.values()))
        kind = list(self.kinds)[bisect_right(ends, rng.random() * ends[-1], hi=len(ends) - 1)]
        least, most = [lines for start, *lines in self.curriculum if progress >= start][-1]
        sample = make_sample(kind, self.seed, index, fonts=self.fonts, min_lines=least, max_lines=most)
        row = row_from_synth(sample, f"{kind}/{self.seed}/{index}")
        return as_text_row(row) if rng.random() < self.text_ratio else row

    def fingerprint(self) -> dict[str, str]:
        """Covers the fonts; flags cover everything else."""
        return {"synth": digest([(font.family, font.style) for font in self.fonts])}


def as_text_row(row: Row) -> Row:
    """A row without a picture: the text is given and must be repeated. It keeps language in the mixture."""
    turn = Turn(f"Repeat: {row.answer}", row.answer)
    return replace(row, pictures=(), turns=(turn,), source="synth/text", chars="", boxes=NO_BOXES)


# ---------------------------------------------------------------------------------------------------------
# Data sets

BLOCK = 1000  # In this many draws every data set comes as often as its weight says.
WINDOW = 2  # Fetched files read at a time. Keep room on disk for twice this many.


@dataclass(frozen=True)
class Mixture:
    """Mixes data sets by weight. Every block of draws holds each one's share, in an order of its own.

    Each data set goes through all of its rows, in another order in every epoch (`EpochOrder`).
    """

    tasks: tuple[tuple[str, Task], ...]
    weights: tuple[float, ...]  # shares of the draws, in any unit
    seed: int
    orders: tuple[EpochOrder, ...] = field(init=False, repr=False)
    counts: tuple[int, ...] = field(init=False, repr=False)  # how many draws of a block each data set gets

    def __post_init__(self) -> None:
        """Refuse a data set without rows, since no row of it could ever be drawn."""
        for name, task in self.tasks:
            if not len(task):
                raise UsageError(f"{name}: holds no rows")
        if len(self.tasks) > BLOCK:
            raise UsageError(f"{len(self.tasks)} data sets are more than the {BLOCK} that can be mixed")
        orders = tuple(EpochOrder(task, (self.seed, i)) for i, (_, task) in enumerate(self.tasks))
        object.__setattr__(self, "orders", orders)
        object.__setattr__(self, "counts", apportion(self.weights, BLOCK))

    def __call__(self, draw: int, progress: float) -> Row:
        which, position = self.place(draw)
        return self.tasks[which][1][self.orders[which][position]]

    def name_of(self, draw: int) -> str:
        """The name of the data set that draw `draw` takes its row from."""
        return self.tasks[self.place(draw)[0]][0]

    def fingerprint(self) -> dict[str, str]:
        """Covers every data set."""
        return {name: task.fingerprint() for name, task in self.tasks}

    def place(self, draw: int) -> tuple[int, int]:
        """(number of the data set, how many of its rows came before) for a draw."""
        block, offset = divmod(draw, BLOCK)
        order = block_order(self.counts, self.seed, block)
        which = int(order[offset])
        before = int((order[:offset] == which).sum())
        return which, block * self.counts[which] + before


def apportion(weights: Sequence[float], total: int) -> tuple[int, ...]:
    """Split `total` into whole numbers in proportion to `weights`, by largest remainders, none below 1."""
    shares = np.array(weights) / sum(weights) * total
    counts = np.maximum(1, np.floor(shares)).astype(int)
    while counts.sum() < total:
        counts[np.argmax(shares - counts)] += 1
    while counts.sum() > total:
        counts[np.argmax(np.where(counts > 1, counts - shares, -np.inf))] -= 1
    return tuple(counts.tolist())


@lru_cache(maxsize=64)  # row streams stand in different blocks, so several are in use
def block_order(counts: tuple[int, ...], seed: int, block: int) -> np.ndarray:
    """The data set of every draw of a block, (BLOCK,)."""
    order = np.repeat(np.arange(len(counts)), counts)
    return np.random.default_rng([seed, block]).permutation(order)


class EpochOrder:
    """Maps endless positions to row indices: every row once per epoch, every epoch in another order.

    Units (row groups) are cheap to read as a whole, so they come one after the other, permuted, and so do the
    rows within each. Files that must be fetched are permuted too. WINDOW of them at a time give all of their
    units before the next ones come, so each is fetched once per epoch, even where they do not all fit on the
    disk. Files on disk count as one window.
    """

    def __init__(self, task: Task, seed: tuple[int, ...]) -> None:
        self.units, self.seed, self.length = task.units(), seed, len(task)
        files: dict[int, list[int]] = {}
        for number, unit in enumerate(self.units):
            files.setdefault(bisect_right(task.files(), task.indices[unit[0]]), []).append(number)
        self.files = list(files.values())  # the units of each file
        self._epochs: dict[int, tuple[list[int], list[int]]] = {}  # the two epochs used last

    def __getitem__(self, position: int) -> int:
        epoch, offset = divmod(position, self.length)
        units, bounds = self._epoch(epoch)
        place = bisect_right(bounds, offset) - 1
        unit = self.units[units[place]]
        within = unit_order(len(unit), (*self.seed, epoch, units[place]))
        return unit[int(within[offset - bounds[place]])]

    def _epoch(self, epoch: int) -> tuple[list[int], list[int]]:
        """The permuted units of an epoch, and the positions at which they begin."""
        if epoch not in self._epochs:
            while len(self._epochs) > 1:
                self._epochs.pop(min(self._epochs))
            units = self._permuted_units(np.random.default_rng([*self.seed, epoch]))
            self._epochs[epoch] = (units, [0, *accumulate(len(self.units[unit]) for unit in units)])
        return self._epochs[epoch]

    def _permuted_units(self, rng: np.random.Generator) -> list[int]:
        files = rng.spawn(1)[0].permutation(len(self.files))
        units: list[int] = []
        for i in range(0, len(files), WINDOW):
            window = sorted(unit for file in files[i : i + WINDOW] for unit in self.files[file])
            units += rng.permutation(window).tolist()
        return units


@lru_cache(maxsize=64)
def unit_order(count: int, seed: tuple[int, ...]) -> np.ndarray:
    """The order of the rows within a unit."""
    return np.random.default_rng(seed).permutation(count)


class RowsTask(Task):
    """Rows that are in memory already."""

    def __init__(self, rows: Sequence[Row]) -> None:
        super().__init__()
        self.rows = rows

    def num_rows(self) -> int:
        """How many rows there are."""
        return len(self.rows)

    def marks(self) -> Iterable[object]:
        """The contents of the rows; there are few of them."""
        return [row.turns for row in self.rows]

    def read(self, index: int) -> Row:
        """Row `index`."""
        return self.rows[index]


def rows_source(rows: Sequence[Row], seed: int) -> Mixture:
    """A source that permutes a fixed set of rows anew in every epoch."""
    return Mixture((("rows", RowsTask(rows)),), (1.0,), seed)


# ---------------------------------------------------------------------------------------------------------
# Flags


def parse_curriculum(text: str) -> tuple[tuple[float, int, int], ...]:
    """`0:1,0.1:2,0.3:2-3` -> ((0.0, 1, 1), (0.1, 1, 2), (0.3, 2, 3)): (share of the steps, lines from, to).

    Raises:
        UsageError: the text has another form, does not rise from 0, or asks for more than 4 lines.
    """
    try:
        pairs = [item.split(":") for item in text.split(",")]
        stages = tuple((float(share), *_lines_of_card(lines)) for share, lines in pairs)
    except ValueError as error:
        raise UsageError(f"--curriculum={text}: write SHARE:LINES pairs such as 0:1,0.1:2,0.3:2-3") from error
    shares = [share for share, _, _ in stages]
    # Comparisons with nan are false, so the conditions are written such that nan is refused.
    if shares[0] != 0 or not shares[-1] <= 1 or not all(a < b for a, b in pairwise(shares)):
        raise UsageError(f"--curriculum={text}: the shares start at 0 and rise, none is above 1")
    if not all(1 <= least <= most <= MAX_LINES for _, least, most in stages):
        raise UsageError(
            f"--curriculum={text}: a card has 1 to {MAX_LINES} lines, and no more at least than at most"
        )
    return stages


def _lines_of_card(text: str) -> tuple[int, int]:
    """`3` -> (1, 3); `2-3` -> (2, 3)."""
    least, dash, most = text.partition("-")
    return (int(least), int(most)) if dash else (1, int(least))


def parse_mix(text: str, known: Sequence[str], flag: str = "--mix") -> dict[str, float]:
    """Parse `card:0.8,scene:0.2` into weights; a bare name weighs 1. Errors call the text `flag`.

    Raises:
        UsageError: a kind is unknown, or a weight is not a positive number.
    """
    mix: dict[str, float] = {}
    for item in text.split(","):
        name, _, weight = item.partition(":")
        if name in mix:
            raise UsageError(f"{flag}={text}: {name} stands there twice")
        try:
            mix[name] = float(weight or 1)
        except ValueError as error:
            raise UsageError(f"{flag}={text}: {weight!r} is not a number") from error
        if name not in known or not 0 < mix[name] < math.inf:
            raise UsageError(f"{flag}={text}: choose positive weights of {', '.join(known)}")
    return mix
