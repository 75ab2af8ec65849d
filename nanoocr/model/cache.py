"""Keys and values of what a decoder has read, and new tokens of several rows without padding between them.

Letters: B rows, T new tokens, S tokens in the cache after them, P packed tokens, N heads, K key/value heads,
D head width.
"""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from nanoocr.config import GPTConfig

ROOM = 64  # positions that a cache begins with: most strips never need more


class KVCache:
    """Keys and values of every layer; each row has its own length.

    `keys` and `values` are (layers, B, K, room, D). Rows are right-padded: row b holds valid entries at
    0 .. lengths[b]-1, whatever lies behind is hidden by the mask and overwritten by later tokens. The room
    grows up to the capacity, since most texts end long before they must.
    """

    def __init__(
        self, config: GPTConfig, *, batch: int, capacity: int, dtype: torch.dtype, device: torch.device | str
    ) -> None:
        width = config.n_embd // config.n_head
        shape = (config.n_layer, batch, config.n_kv_head, min(ROOM, capacity), width)
        self.capacity = capacity
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)
        self.lengths = torch.zeros(batch, dtype=torch.long, device=device)
        self.used = 0  # longest row after the forward pass under way: bounds what attention reads

    def reserve(self, used: int) -> None:
        """Make room for rows of `used` positions.

        Raises:
            ValueError: that is more than the capacity.
        """
        if used > self.capacity:
            raise ValueError(f"KV cache of capacity {self.capacity} cannot hold {used} positions")
        room = self.keys.size(3)
        if used > room:
            # Some steps at once: growing by one token at a time would copy the whole cache at every step.
            missing = min(max(used, room + room // 4), self.capacity) - room
            # Behind a row's end there must be numbers: hidden ones are multiplied by zero.
            self.keys = F.pad(self.keys, (0, 0, 0, missing))
            self.values = F.pad(self.values, (0, 0, 0, missing))

    def add_rows(self, count: int, capacity: int) -> None:
        """Put `count` empty rows behind the others; rows may hold `capacity` positions, or more as before."""
        self.capacity = max(self.capacity, capacity)
        layers, rows, heads, room, width = self.keys.shape
        shape = (layers, rows + count, heads, room, width)
        for name, old in (("keys", self.keys), ("values", self.values)):
            # Zeros, for the same reason as in `reserve`; only what is used is worth copying.
            new = old.new_zeros(shape)
            new[:, :rows, :, : self.used] = old[:, :, :, : self.used]
            setattr(self, name, new)
        self.lengths = F.pad(self.lengths, (0, count))

    def part(self, first: int, end: int) -> KVCache:
        """The rows first .. end-1 of it, in the same memory as long as neither grows."""
        part = copy.copy(self)
        part.keys, part.values = self.keys[:, first:end], self.values[:, first:end]
        part.lengths = self.lengths[first:end]
        return part

    def positions(self, T: int) -> Tensor:
        """(B, T) positions of the next T tokens of each row; refuses to run over the capacity."""
        positions = self.lengths[:, None] + torch.arange(T, device=self.lengths.device)
        self.used = int(positions.max()) + 1
        self.reserve(self.used)
        return positions

    def insert(self, layer: int, k_BKTD: Tensor, v_BKTD: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Write T new entries per row at `positions` (B, T); return what may be read, (B, K, S, D) each."""
        # Rows have different lengths, so each one writes at places of its own: a slice cannot say that.
        rows = torch.arange(positions.size(0), device=positions.device)[:, None]
        self.keys[layer][rows, :, positions] = k_BKTD.transpose(1, 2)
        self.values[layer][rows, :, positions] = v_BKTD.transpose(1, 2)
        return self.keys[layer, :, :, : self.used], self.values[layer, :, :, : self.used]

    def insert_packed(
        self, layer: int, k_PKD: Tensor, v_PKD: Tensor, packed: Packed
    ) -> tuple[Tensor, Tensor]:
        """As `insert`, of rows that get different numbers of tokens."""
        self.keys[layer][packed.rows, :, packed.positions] = k_PKD
        self.values[layer][packed.rows, :, packed.positions] = v_PKD
        return self.keys[layer, :, :, : self.used], self.values[layer, :, :, : self.used]

    def pack(self, counts: list[int]) -> Packed:
        """Where `counts[b]` new tokens of every row b go; refuses to run over the capacity."""
        device, longest = self.lengths.device, max(counts)
        counts_B = torch.tensor(counts, device=device)
        rows = torch.repeat_interleave(torch.arange(len(counts), device=device), counts_B)
        # Sums before a row, not including it: where its tokens start in the packed sequence.
        starts_B = counts_B.cumsum(0) - counts_B
        places = torch.arange(len(rows), device=device) - starts_B[rows]  # within their rows
        positions = self.lengths[rows] + places
        self.used = int(positions.max()) + 1
        self.reserve(self.used)
        return Packed(rows, positions, rows * longest + places, (len(counts), longest))

    def keep_rows(self, rows: list[int]) -> None:
        """Drop all rows but `rows` (indices, ascending).

        Only the used part of the rows that move is copied: copying the whole capacity whenever a row ends
        would cost more than the decoding itself.
        """
        # Ascending order makes it safe to move rows in place: a row only moves to where nobody is any more.
        for new, old in enumerate(rows):
            if new != old:
                self.keys[:, new, :, : self.used] = self.keys[:, old, :, : self.used]
                self.values[:, new, :, : self.used] = self.values[:, old, :, : self.used]
        self.keys, self.values = self.keys[:, : len(rows)], self.values[:, : len(rows)]
        self.lengths = self.lengths[rows]


class Packed(NamedTuple):
    """P new tokens of rows that get different numbers of them, one behind the other, without padding.

    Only attention, whose share is small at the lengths of a strip, pads them to (B, T).
    """

    rows: Tensor  # (P,) int64
    positions: Tensor  # (P,) int64 in their rows
    places: Tensor  # (P,) int64 in B * T
    shape: tuple[int, int]  # B, T

    def only(self, asked: Tensor) -> Packed:
        """Of the P tokens those at these indices."""
        return Packed(self.rows[asked], self.positions[asked], self.places[asked], self.shape)

    def padded(self, x_PND: Tensor) -> Tensor:
        """(P, N, D) -> (B, T, N, D), zeros between."""
        B, T = self.shape
        # Zeros and not empty memory: NaN times a softmax weight of zero would still be NaN.
        out = x_PND.new_zeros(B * T, *x_PND.shape[1:])
        out[self.places] = x_PND
        return out.unflatten(0, (B, T))
