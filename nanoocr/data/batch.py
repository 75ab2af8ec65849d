"""Turns examples into one batch: one example per sequence, padded, or several packed into each sequence.

Letters: B sequences, T positions, V pictures of the batch in the order of their runs in `ids`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from nanoocr.data.example import Example
from nanoocr.data.glyphs import total_weight
from nanoocr.data.packing import cut_by_length
from nanoocr.model.gpt import Documents
from nanoocr.model.vlm import IGNORE

# Attention runs as this many products per layer. More would pad less, and fewer would start fewer kernels.
GROUPS = 4


class Views(NamedTuple):
    """The views of a batch that have one size. They stay uint8 until they are on the device."""

    # which views of the batch these are; views count picture by picture, tiles before the overview
    indices: tuple[int, ...]
    pixels: Tensor  # (k, H, W, 3) uint8
    glyphs: Tensor  # (k, H/16, W/16, slots) uint8


class Batch(NamedTuple):
    """Token sequences and the pictures in them."""

    ids: Tensor  # (B, T) int64
    targets: Tensor  # (B, T) int64, shifted by one, IGNORE where not supervised
    views: tuple[Views, ...]  # one entry for each view size
    # rows and columns of tiles of every picture; (0, 0) where a picture is not tiled
    grids: tuple[tuple[int, int], ...]
    documents: Documents | None  # None means that every sequence is one document
    num_documents: int
    num_positions: int  # positions that are not padding
    num_supervised: int
    num_pairs: int  # the sum of the squared document lengths
    glyph_weight: float  # the weight that the glyph loss of the batch is divided by

    @property
    def num_pictures(self) -> int:
        """How many pictures the batch holds, each counted once however many tiles it has."""
        return len(self.grids)

    @property
    def num_views(self) -> int:
        """How many views go through the encoder: every tile and every global view counts."""
        return sum(len(group.indices) for group in self.views)


def collate(examples: Sequence[Example], pad_id: int) -> Batch:
    """Put one example into each sequence, right-padded to the longest."""
    length = max(len(example.ids) for example in examples) - 1
    return collate_packed([[example] for example in examples], length, pad_id)


def collate_packed(sequences: Sequence[Sequence[Example]], length: int, pad_id: int) -> Batch:
    """Put the documents of every sequence one behind the other, right-padded to `length` positions.

    Targets are shifted within each document, so that no document has to predict the first token of the next.
    """
    ids = np.full((len(sequences), length), pad_id, dtype=np.int64)
    targets = np.full((len(sequences), length), IGNORE, dtype=np.int64)
    spans: list[tuple[int, int]] = []  # the first place in B * T, and the length, of every document
    for i, sequence in enumerate(sequences):
        start = 0
        for example in sequence:
            tokens, size = np.array(example.ids), len(example.ids) - 1
            supervised = np.array(example.mask[1:], dtype=bool)
            ids[i, start : start + size] = tokens[:-1]
            targets[i, start : start + size] = np.where(supervised, tokens[1:], IGNORE)
            spans.append((i * length + start, size))
            start += size
    examples = [example for sequence in sequences for example in sequence]
    views = group_views(examples)
    return Batch(
        torch.from_numpy(ids),
        torch.from_numpy(targets),
        views,
        tuple(picture.grid for example in examples for picture in example.pixels),
        None if len(examples) == len(sequences) else place_documents(spans, ids.shape),
        num_documents=len(examples),
        num_positions=sum(size for _, size in spans),
        num_supervised=int((targets != IGNORE).sum()),
        num_pairs=sum(size * size for _, size in spans),
        glyph_weight=sum(total_weight(group.glyphs) for group in views),
    )


def place_documents(spans: Sequence[tuple[int, int]], shape: tuple[int, ...]) -> Documents:
    """Build the index tables of documents at `spans` (first place, length) in sequences of `shape` (B, T)."""
    positions = np.zeros(shape[0] * shape[1], dtype=np.int64)
    # Padding points to place 0: its output is never used.
    inverse = np.zeros(shape[0] * shape[1], dtype=np.int64)
    ascending = sorted(spans, key=lambda span: span[1])
    groups, offset = [], 0
    for run in cut_by_length([size for _, size in ascending], GROUPS):
        longest = ascending[run[-1]][1]
        places = np.empty((len(run), longest), dtype=np.int64)
        for row, k in enumerate(run):
            first, size = ascending[k]
            places[row, :size] = np.arange(first, first + size)
            places[row, size:] = first + size - 1  # Padding repeats the last token; causality hides it.
            positions[first : first + size] = np.arange(size)
            inverse[first : first + size] = offset + row * longest + np.arange(size)
        offset += places.size
        groups.append(torch.from_numpy(places))
    return Documents(torch.from_numpy(positions).view(shape), tuple(groups), torch.from_numpy(inverse))


def group_views(examples: Sequence[Example]) -> tuple[Views, ...]:
    """Stack the views by size: a few large tensors travel faster between processes than many small ones."""
    pairs = [
        pair
        for example in examples
        for pixels, glyphs in zip(example.pixels, example.glyphs, strict=True)
        for pair in zip(pixels.flat(), glyphs.flat(), strict=True)
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
