"""Where training rows come from: a Source gives the row of a draw by its number.

A draw is a pure function of its number, so the position in the data is a single number, whoever asks: for
pictures that are drawn (`SynthMix`), for weighted data sets (`Mixture`), and for a small fixed set (a
`Mixture` of one).
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


class Source(Protocol):
    """(number of the draw, progress from 0 to 1) -> Row."""

    def __call__(self, draw: int, progress: float, /) -> Row:
        """Row of the draw."""

    def fingerprint(self) -> dict[str, str]:
        """By data set: what stays while the same draws give the same rows, and changes with the data."""


@dataclass(frozen=True)
class SynthMix:
    """Drawn live: kinds by weight, cards with as many lines as the curriculum says, some rows text alone."""

    kinds: dict[str, float]
    fonts: tuple[Font, ...]
    seed: int
    curriculum: tuple[tuple[float, int, int], ...] = ((0.0, 1, 3),)  # (progress from, least lines, most)
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
        """Of the fonts; everything else is a flag."""
        return {"synth": digest([(font.family, font.style) for font in self.fonts])}


def as_text_row(row: Row) -> Row:
    """A row without a picture: the text is given and must be repeated (keeps language in the mixture)."""
    turn = Turn(f"Repeat: {row.answer}", row.answer)
    return replace(row, pictures=(), turns=(turn,), source="synth/text", chars="", boxes=NO_BOXES)


# ---------------------------------------------------------------------------------------------------------
# data sets

BLOCK = 1000  # draws in which every task comes as often as its weight says
WINDOW = 2  # fetched files that are read at a time: what a disk budget must hold, and as many that come next


@dataclass(frozen=True)
class Mixture:
    """Tasks by weight. Every block of draws holds each task's share, in an order of its own.

    Each task goes through all of its rows, in another order every time (`EpochOrder`).
    """

    tasks: tuple[tuple[str, Task], ...]
    weights: tuple[float, ...]  # shares of the draws, in any unit
    seed: int
    orders: tuple[EpochOrder, ...] = field(init=False, repr=False)
    counts: tuple[int, ...] = field(init=False, repr=False)  # draws of each task in a block

    def __post_init__(self) -> None:
        """Refuse a task without rows: it could never be drawn."""
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
        """The name of the task that draw `draw` takes."""
        return self.tasks[self.place(draw)[0]][0]

    def fingerprint(self) -> dict[str, str]:
        """Of every task."""
        return {name: task.fingerprint() for name, task in self.tasks}

    def place(self, draw: int) -> tuple[int, int]:
        """(number of the task, how many of its rows came before)."""
        block, offset = divmod(draw, BLOCK)
        order = block_order(self.counts, self.seed, block)
        which = int(order[offset])
        before = int((order[:offset] == which).sum())
        return which, block * self.counts[which] + before


def apportion(weights: Sequence[float], total: int) -> tuple[int, ...]:
    """Whole numbers that add up to `total` in proportion to `weights`: largest remainders, none below 1."""
    shares = np.array(weights) / sum(weights) * total
    counts = np.maximum(1, np.floor(shares)).astype(int)
    while counts.sum() < total:
        counts[np.argmax(shares - counts)] += 1
    while counts.sum() > total:
        counts[np.argmax(np.where(counts > 1, counts - shares, -np.inf))] -= 1
    return tuple(counts.tolist())


@lru_cache(maxsize=64)  # readers stand in different blocks
def block_order(counts: tuple[int, ...], seed: int, block: int) -> np.ndarray:
    """The task of every draw of a block, (BLOCK,)."""
    order = np.repeat(np.arange(len(counts)), counts)
    return np.random.default_rng([seed, block]).permutation(order)


class EpochOrder:
    """Endless positions -> indices of a task, every row once per epoch, every epoch in another order.

    Units that are cheap to read together (row groups) come in turn, permuted, and so do the rows of each. Of
    files that must be fetched, permuted too, WINDOW at a time give all of their units before the next ones:
    each is fetched once per epoch, also where they do not all fit on the disk. Files on disk are one window.
    """

    def __init__(self, task: Task, seed: tuple[int, ...]) -> None:
        self.units, self.seed, self.length = task.units(), seed, len(task)
        files: dict[int, list[int]] = {}
        for number, unit in enumerate(self.units):
            files.setdefault(bisect_right(task.files(), task.indices[unit[0]]), []).append(number)
        self.files = list(files.values())  # the units of each
        self._epochs: dict[int, tuple[list[int], list[int]]] = {}  # the two used last

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
        """All of them."""
        return len(self.rows)

    def marks(self) -> Iterable[object]:
        """What the rows say; they are few."""
        return [row.turns for row in self.rows]

    def read(self, index: int) -> Row:
        """Row `index`."""
        return self.rows[index]


def rows_source(rows: Sequence[Row], seed: int) -> Mixture:
    """A fixed set, permuted anew in every epoch."""
    return Mixture((("rows", RowsTask(rows)),), (1.0,), seed)


# ---------------------------------------------------------------------------------------------------------
# flags


def parse_curriculum(text: str) -> tuple[tuple[float, int, int], ...]:
    """`0:1,0.1:2,0.3:2-3` -> ((0.0, 1, 1), (0.1, 1, 2), (0.3, 2, 3)): (share of the steps, lines from, to).

    Raises:
        UsageError: not of that form, not rising from 0, or more than 4 lines.
    """
    try:
        pairs = [item.split(":") for item in text.split(",")]
        stages = tuple((float(share), *_lines_of_card(lines)) for share, lines in pairs)
    except ValueError as error:
        raise UsageError(f"--curriculum={text}: write SHARE:LINES pairs such as 0:1,0.1:2,0.3:2-3") from error
    shares = [share for share, _, _ in stages]
    # Written so that nan, of which no comparison is true, is refused.
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
    """`card:0.8,scene:0.2` -> weights; a bare name weighs 1. `flag` is what errors call it.

    Raises:
        UsageError: an unknown kind or a weight that is not a positive number.
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
