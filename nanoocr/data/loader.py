"""Rows -> batches: tokenise, fit the picture into a view, pad, and do it in worker processes.

A training batch is a pure function of (seed, step). Workers prepare a pool of batches at a time, so that rows
of similar length share a batch; the position of the loader is the step, and resuming is starting there.

Letters: B rows, T tokens, V pictures of the batch in the order of their runs in `ids`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from nanoocr.config import PATCH
from nanoocr.data.rows import NO_BOXES, Row, Turn, row_from_synth
from nanoocr.data.synth import make_sample
from nanoocr.data.synth.card import MAX_LINES
from nanoocr.data.synth.fonts import Font
from nanoocr.errors import NanoOCRError, UsageError
from nanoocr.image_process import (
    MODES,
    Mode,
    PictureViews,
    contained_size,
    count_picture_tokens,
    fit_picture,
    padding_before,
)
from nanoocr.model.vlm import IGNORE
from nanoocr.tokenizer import Tokenizer, render_conversation
from nanoocr.train.glyph import glyph_targets

POOL = 4  # batches of drawn rows that a worker prepares and sorts by length together


class Example(NamedTuple):
    """One row, ready to be batched."""

    ids: list[int]
    mask: list[int]  # 1 where the token is supervised
    pixels: PictureViews | None  # uint8, channels last
    glyphs: PictureViews | None  # the same views as uint8 classes: (H/16, W/16, slots), tiles (R, K, ...)


class Views(NamedTuple):
    """The equally sized views of a batch; uint8 until they are on the device."""

    indices: tuple[int, ...]  # places among all views of the batch: picture by picture, tiles first
    pixels: Tensor  # (k, H, W, 3) uint8
    glyphs: Tensor  # (k, H/16, W/16, slots) uint8


class Batch(NamedTuple):
    """Padded rows and their pictures."""

    ids: Tensor  # (B, T) int64
    targets: Tensor  # (B, T) int64, shifted by one, IGNORE where not supervised
    views: tuple[Views, ...]  # one entry per size
    grids: tuple[tuple[int, int], ...]  # rows and columns of tiles of every picture, (0, 0) without
    skipped: int = 0  # drawn rows that did not fit and are not in the batch

    @property
    def num_supervised(self) -> int:
        return int((self.targets != IGNORE).sum())

    @property
    def num_pictures(self) -> int:
        return len(self.grids)

    @property
    def num_views(self) -> int:
        return sum(len(group.indices) for group in self.views)


class TooLongError(UsageError):
    """A row that needs more tokens than it may have."""


def prepare(
    row: Row,
    tokenizer: Tokenizer,
    views: Sequence[tuple[int, int]],
    max_length: int,
    mode: Mode | None = None,
) -> Example:
    """Tokenise a row and fit its picture into the best of `views` (height, width), or as `mode` says.

    Raises:
        TooLongError: the conversation has more than `max_length` tokens; nothing is cut. Names the row.
    """
    pixels, glyphs, counts = None, None, []
    content = [{"type": "text", "text": row.prompt}]
    if row.image is not None:
        pixels = fit_picture(row.image, views, mode)
        glyphs = picture_glyphs(row, pixels, mode)
        counts = [count_picture_tokens(pixels)]
        content.insert(0, {"type": "image"})
    messages = [{"role": "user", "content": content}, {"role": "assistant", "content": row.answer}]
    ids, mask = render_conversation({"messages": messages}, tokenizer, image_token_counts=counts)
    if len(ids) > max_length:
        raise TooLongError(f"{row.id}: {len(ids)} tokens, max_length is {max_length}")
    return Example(ids, mask, pixels, glyphs)


def picture_glyphs(row: Row, pixels: PictureViews, mode: Mode | None) -> PictureViews:
    """The glyph targets of a picture's views: one for the overview, one for every tile."""
    assert row.image is not None
    size = (row.image.height, row.image.width)
    view = (pixels.overview.size(0), pixels.overview.size(1))
    boxes = boxes_in_view(row.boxes, size, view, stretch=mode is not None and mode.stretch)
    overview = torch.from_numpy(glyph_targets(row.chars, boxes, view))
    if pixels.tiles is None:
        return PictureViews(overview)
    (R, K), (h, w) = pixels.grid, pixels.tiles.shape[2:4]
    boxes = boxes_in_view(row.boxes, size, (R * h, K * w), stretch=True)
    mosaic = torch.from_numpy(glyph_targets(row.chars, boxes, (R * h, K * w)))
    tiles = mosaic.view(R, h // PATCH, K, w // PATCH, -1).transpose(1, 2).contiguous()
    return PictureViews(overview, tiles)


def boxes_in_view(
    boxes: np.ndarray, size: tuple[int, int], view: tuple[int, int], *, stretch: bool = False
) -> np.ndarray:
    """Character boxes of a picture of `size` after the resize and padding of `fit_image`."""
    if size == view:
        return boxes
    height, width = view if stretch else contained_size(size, view)
    scale = np.array([width / size[1], height / size[0]] * 2, dtype=np.float32)
    left, top = padding_before(width, view[1]), padding_before(height, view[0])
    offset = np.array([left, top] * 2, dtype=np.float32)
    return boxes * scale + offset


def collate(examples: Sequence[Example], pad_id: int) -> Batch:
    """Right-pad to the longest row and shift the targets by one."""
    length = max(len(example.ids) for example in examples) - 1
    ids = torch.full((len(examples), length), pad_id, dtype=torch.long)
    targets = torch.full((len(examples), length), IGNORE, dtype=torch.long)
    for i, example in enumerate(examples):
        row = torch.tensor(example.ids)
        supervised = torch.tensor(example.mask[1:], dtype=torch.bool)
        ids[i, : len(row) - 1] = row[:-1]
        targets[i, : len(row) - 1] = torch.where(supervised, row[1:], IGNORE)
    grids = tuple(example.pixels.grid for example in examples if example.pixels is not None)
    return Batch(ids, targets, group_views(examples), grids)


def group_views(examples: Sequence[Example]) -> tuple[Views, ...]:
    """Stack the views size by size: few large tensors travel fast between processes."""
    pairs = [
        pair
        for example in examples
        if example.pixels is not None and example.glyphs is not None
        for pair in zip(example.pixels.flat(), example.glyphs.flat(), strict=True)
    ]
    sizes: dict[tuple[int, ...], list[int]] = {}
    for i, (pixels, _) in enumerate(pairs):
        sizes.setdefault(tuple(pixels.shape), []).append(i)
    return tuple(
        Views(
            tuple(indices),
            torch.stack([pairs[i][0] for i in indices]),
            torch.stack([pairs[i][1] for i in indices]),
        )
        for indices in sizes.values()
    )


# ---------------------------------------------------------------------------------------------------------
# where training rows come from: a Source is a function (index, progress) -> Row

Source = Callable[[int, float], Row]


@dataclass(frozen=True)
class SynthMix:
    """Drawn live: kinds by weight, cards with as many lines as the curriculum says, some rows text alone."""

    kinds: dict[str, float]
    fonts: tuple[Font, ...]
    seed: int
    curriculum: tuple[tuple[float, int], ...] = ((0.0, 3),)  # (progress from, most lines of a card)
    text_ratio: float = 0.0

    def __call__(self, index: int, progress: float) -> Row:
        rng = np.random.default_rng([self.seed, index])
        names = list(self.kinds)
        weights = np.array([self.kinds[name] for name in names])
        kind = names[rng.choice(len(names), p=weights / weights.sum())]
        max_lines = [lines for start, lines in self.curriculum if progress >= start][-1]
        sample = make_sample(kind, self.seed, index, fonts=self.fonts, max_lines=max_lines)
        row = row_from_synth(sample, f"{kind}/{self.seed}/{index}")
        return as_text_row(row) if rng.random() < self.text_ratio else row


def as_text_row(row: Row) -> Row:
    """A row without a picture: the text is given and must be repeated (keeps language in the mixture)."""
    turn = Turn(f"Repeat: {row.answer}", row.answer)
    return replace(row, pictures=(), turns=(turn,), source="synth/text", chars="", boxes=NO_BOXES)


def draw_from_rows(index: int, progress: float, *, rows: Sequence[Row], seed: int) -> Row:
    """A fixed set, permuted anew in every epoch."""
    epoch, position = divmod(index, len(rows))
    return rows[epoch_order(len(rows), seed, epoch)[position]]


@lru_cache(maxsize=2)  # a pool may span two epochs
def epoch_order(count: int, seed: int, epoch: int) -> list[int]:
    """The order of `count` rows in an epoch."""
    return np.random.default_rng([seed, epoch]).permutation(count).tolist()


def rows_source(rows: Sequence[Row], seed: int) -> Source:
    """`draw_from_rows` over a fixed set."""
    return partial(draw_from_rows, rows=rows, seed=seed)


# ---------------------------------------------------------------------------------------------------------
# the loader


@dataclass(frozen=True)
class BatchMaker(Dataset[list[Batch] | NanoOCRError]):
    """Item g is the `pool` batches of the steps g * pool ...: what a worker makes in one go.

    A small fixed set needs pool 1: sorted, the same few rows would fill whole batches. Rows longer than
    `max_length` are skipped and counted where `skip_long` holds, else they are an error.
    """

    source: Source
    tokenizer: Tokenizer
    views: tuple[tuple[int, int], ...]
    batch_size: int
    steps: int
    seed: int
    max_length: int
    pool: int = POOL
    skip_long: bool = False
    modes: tuple[tuple[str, float], ...] = ()  # resolution modes and weights; empty: the model's views

    def __len__(self) -> int:
        return -(-self.steps // self.pool)

    def __getitem__(self, group: int) -> list[Batch] | NanoOCRError:
        # A worker's exception reaches the parent as a text with a traceback; a value arrives as it is.
        try:
            return self.batches(group)
        except NanoOCRError as error:
            return error

    def batches(self, group: int) -> list[Batch]:
        """The batches of the pool `group`, not always the short rows before the long ones."""
        examples = list(self.examples(group))
        drawn = self.pool * self.batch_size
        skipped = drawn - len(examples)
        if not examples:
            raise UsageError(
                f"none of {drawn} rows fits into {self.max_length} tokens: "
                "change --max_length, --mix or --modes"
            )
        while len(examples) < self.pool:  # no batch may be empty
            examples += examples[: self.pool - len(examples)]
        examples.sort(key=lambda example: len(example.ids))
        cuts = [len(examples) * i // self.pool for i in range(self.pool + 1)]
        batches = [collate(examples[a:b], self.tokenizer.assistant_end_id) for a, b in pairwise(cuts)]
        order = np.random.default_rng([self.seed, group]).permutation(self.pool)
        first, *others = (batches[i] for i in order)
        return [first._replace(skipped=skipped), *others]

    def examples(self, group: int) -> Iterator[Example]:
        """The rows of the pool `group` that fit."""
        count = self.pool * self.batch_size
        progress = group * self.pool / self.steps
        for index in range(group * count, (group + 1) * count):
            row = self.source(index, progress)
            try:
                yield prepare(row, self.tokenizer, self.views, self.max_length, self.mode_of(index))
            except TooLongError:
                if not self.skip_long:
                    raise

    def mode_of(self, index: int) -> Mode | None:
        """The resolution mode that row `index` is seen in; None without modes."""
        if not self.modes:
            return None
        weights = np.array([weight for _, weight in self.modes])
        place = np.random.default_rng([self.seed, index, 1]).choice(len(weights), p=weights / weights.sum())
        return MODES[self.modes[place][0]]


def training_batches(maker: BatchMaker, *, start: int, workers: int) -> Iterator[Batch]:
    """The batches of steps start, start + 1, ... , steps - 1, made ahead in `workers` processes (0: here).

    Raises:
        NanoOCRError: what went wrong with a row, as the worker found it.
    """
    groups = range(start // maker.pool, len(maker))
    loader: DataLoader[list[Batch] | NanoOCRError] = DataLoader(
        maker,
        sampler=groups,
        batch_size=None,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        multiprocessing_context="fork" if workers else None,
        worker_init_fn=leave_signals_to_the_parent,
        generator=torch.Generator(),  # its own, so that making a loader leaves the run's generator alone
    )
    step = start // maker.pool * maker.pool
    for batches in loader:
        if isinstance(batches, NanoOCRError):
            raise batches
        for batch in batches:
            if start <= step < maker.steps:
                yield batch
            step += 1


def leave_signals_to_the_parent(worker: int) -> None:
    """Ctrl-C reaches a process group: leave it. The parent finishes its step, saves, ends the workers."""
    os.setpgrp()


def parse_curriculum(text: str) -> tuple[tuple[float, int], ...]:
    """`0:1,0.1:2,0.3:3` -> ((0.0, 1), (0.1, 2), (0.3, 3)): from that share of the steps, that many lines.

    Raises:
        UsageError: not of that form, not rising from 0, or more than 4 lines.
    """
    try:
        pairs = tuple((float(a), int(b)) for a, b in (item.split(":") for item in text.split(",")))
    except ValueError as error:
        raise UsageError(f"--curriculum={text}: write SHARE:LINES pairs such as 0:1,0.1:2,0.3:3") from error
    shares = [share for share, _ in pairs]
    if shares[0] != 0 or shares[-1] > 1 or any(a >= b for a, b in pairwise(shares)):
        raise UsageError(f"--curriculum={text}: the shares start at 0 and rise, none is above 1")
    if not all(1 <= lines <= MAX_LINES for _, lines in pairs):
        raise UsageError(f"--curriculum={text}: a card has 1 to {MAX_LINES} lines")
    return pairs


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
