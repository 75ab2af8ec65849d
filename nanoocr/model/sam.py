"""SAM-style ViT and the 16x compressor: pixels -> (patch features, compressed grid).

Layers, names and order are those of DeepSeek-OCR's released encoder (paper arXiv 2510.18234, section 3.2;
SAM: arXiv 2304.02643), so that its weights load key by key. Sizes come from SamConfig.

Letters: B pictures, H W grid in patches, C channels, N heads, T S tokens of one attention, D head width,
P Q windows per column and row, Y X side of a window.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nanoocr.config import PATCH, SamConfig
from nanoocr.model.layers import (
    Conv2d,
    LayerNorm,
    Linear,
    attend,
    is_fused,
    is_plain_bf16,
    linear,
    resize_grid,
)

# Attention scores of a block that are computed together: on a CPU what its cache holds, which is measured
# (`python -m scripts.bench.attention`).
SCORES_AT_ONCE = 2**22
# The same on a GPU, half a gigabyte of bias in bf16, and the form in which its fused kernel gets the
# positions: as a bias (`mask`), or as further coordinates of queries and keys, for which no bias is ever
# written. Neither is measured yet: `bash runs/gpu.sh speed` compares the two and says what belongs here.
GPU_SCORES_AT_ONCE = 2**28
GPU_POSITIONS: Literal["mask", "coordinates"] = "mask"
WIDEST_HEAD = 256  # that the fused kernels of GPUs take


class SamFeatures(NamedTuple):
    """What SAM saw: its patches, which losses look at, and the compressed grid, which CLIP continues from."""

    patches: Tensor  # (B, neck, H, W), one vector per 16-pixel patch, after the neck
    grid: Tensor  # (B, compressor[1], H/4, W/4), one vector per 64-pixel cell


class PatchEmbed(nn.Module):
    """Non-overlapping 16 x 16 patches: (B, 3, 16H, 16W) -> (B, H, W, C), the channels last in memory too."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = Conv2d(3, width, kernel_size=PATCH, stride=PATCH)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, 16H, 16W) pixels in [-1, 1] -> (B, H, W, C), in the dtype of the pixels."""
        if not torch.is_grad_enabled() and is_grey(pixels):
            return self.of_grey(pixels[:, 0])
        # Every block adds to this tensor and keeps its order in memory: the order that products want.
        return self.proj(pixels).permute(0, 2, 3, 1).contiguous()

    def of_grey(self, pixels: Tensor) -> Tensor:
        """`forward` of one channel (B, 16H, 16W) of grey pixels, but for rounding: a third of the product."""
        patches = pixels.unflatten(2, (-1, PATCH)).unflatten(1, (-1, PATCH)).transpose(2, 3).flatten(3)
        return linear(patches, self.proj.weight.sum(1).flatten(1), self.proj.bias)


def is_grey(pixels: Tensor) -> bool:
    """Whether the channels of (B, 3, H, W) on a CPU are equal. A GPU would have to be waited for."""
    if pixels.device.type != "cpu":
        return False
    return torch.equal(pixels[:, 0], pixels[:, 1]) and torch.equal(pixels[:, 0], pixels[:, 2])


# SAM was trained at one resolution. At another the released code stretches its tables, so we do the same;
# lines of text are the exception, see `cut_distances`.
def resize_distances(table: Tensor, rows: int) -> Tensor:
    """A relative-position table (2*native - 1, D) with `rows` rows: resized linearly in fp32, as in SAM."""
    if table.size(0) == rows:
        return table
    return F.interpolate(table.float().T[None], size=rows, mode="linear")[0].T


def cut_distances(table: Tensor, rows: int) -> Tensor:
    """The middle `rows` rows of a relative-position table: short distances; longer ones repeat the last."""
    # The middle row is distance 0: keeping the middle keeps what every distance means, in patches.
    first = (table.size(0) - rows) // 2
    places = torch.arange(first, first + rows, device=table.device)
    return table[places.clamp(0, table.size(0) - 1)]


def relative_table(table: Tensor, length: int, *, cut: bool = False) -> Tensor:
    """Rows of a relative-position table for every (query, key) pair of one axis.

    (2*native - 1, D) -> (length, length, D): entry [i, j] is the row for distance i - j. A table of another
    native length is resized, as in SAM, or `cut` to the shorter distances.
    """
    table = cut_distances(table, 2 * length - 1) if cut else resize_distances(table, 2 * length - 1)
    # Distances run from -(length - 1) to length - 1, while rows of a table are counted from 0.
    index = torch.arange(length, device=table.device)
    return table[index[:, None] - index[None, :] + length - 1]


class Attention(nn.Module):
    """Self-attention over a grid, or over its windows, with decomposed relative positions (MViTv2)."""

    def __init__(self, width: int, heads: int, grid: tuple[int, int], window: int = 0) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        # One product for queries, keys and values, in this order: the released weights are stored so.
        self.qkv = Linear(width, 3 * width)
        self.proj = Linear(width, width)
        # There is one table for all heads, and one for each axis: H + W rows instead of H * W.
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * grid[0] - 1, width // heads))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * grid[1] - 1, width // heads))

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C). Only real patches go through the two products with weights."""
        if not self.window:
            return self.proj(self.attend_grid(self.qkv(x_BHWC)))
        return self.proj(window_unpartition(self.attend_grid(self.window_qkv(x_BHWC)), x_BHWC.shape[1:3]))

    def window_qkv(self, x_BHWC: Tensor) -> Tensor:
        """Queries, keys and values window by window, (B*P*Q, Y, X, 3C).

        Padded positions are zeros to the released weights, so that the qkv bias gives them keys and values,
        and no mask hides them: padding with the bias behind the product is the same, with fewer rows in it.
        """
        if x_BHWC.size(1) % self.window == 0 and x_BHWC.size(2) % self.window == 0:
            return window_partition(self.qkv(x_BHWC), self.window)
        # The bias is added behind the partition, so that padded positions get it too, without being
        # multiplied.
        qkv = linear(x_BHWC, self.qkv.weight)
        return window_partition(qkv, self.window) + self.qkv.bias.to(x_BHWC.dtype)

    def attend_grid(self, qkv_BHWC: Tensor) -> Tensor:
        """(B, H, W, 3C) -> (B, H, W, C): attention of every position of a grid to all of it."""
        if is_plain_bf16(qkv_BHWC):
            return self.attend_grid(qkv_BHWC.float()).to(qkv_BHWC.dtype)
        B, H, W, C = qkv_BHWC.shape
        C //= 3
        # A grid that is one window high comes as a view of the picture whose memory is not in one piece.
        qkv = qkv_BHWC.reshape(B, H * W, 3, self.heads, C // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)  # each (B, N, T, D) with T = H * W
        by_row, by_column = self.position_scores(q.unflatten(2, (H, W)))
        # A head and its coordinates must fit into the widest head that the fused kernels know.
        if is_fused(q) and GPU_POSITIONS == "coordinates" and q.size(-1) + H + W <= WIDEST_HEAD:
            out = attend_by_coordinates(q, k, v, by_row, by_column)
        else:
            out = self.attend_by_rows(q, k, v, by_row, by_column)
        return out.transpose(1, 2).reshape(B, H, W, C)

    def attend_by_rows(
        self, q_BNTD: Tensor, k_BNTD: Tensor, v_BNTD: Tensor, by_row: Tensor, by_column: Tensor
    ) -> Tensor:
        """Attention of all positions of a grid (H, W), some rows of queries at a time: (B, N, T, D).

        The bias of all queries at once is 201 million numbers in a global block at 1024 pixels: some rows at
        a time bound it, and keep the scores in the cache of a CPU. (With gradients each part keeps its
        softmax for the backward pass; `--recompute` is the lever there.)
        """
        B, _, H, W = by_row.shape[:4]
        # Wider than a head, the coordinates would cost more than the bias that they save.
        as_coordinates = q_BNTD.device.type == "cpu" and q_BNTD.size(-1) >= H + W
        if as_coordinates:
            q_BNTD, k_BNTD = with_coordinates(q_BNTD, k_BNTD, by_row, by_column)
        scores = B * self.heads * (H * W) ** 2
        most = GPU_SCORES_AT_ONCE if is_fused(v_BNTD) else SCORES_AT_ONCE
        # Whole rows of queries, since the scores by column belong to a row; at least one, however wide.
        step = H if scores <= most else max(1, most * H // scores)
        parts = []
        for y in range(0, H, step):
            queries = q_BNTD[:, :, y * W : (y + step) * W]
            if as_coordinates:
                parts.append(attend(queries, k_BNTD, v_BNTD, scale=1.0))
            else:
                bias = position_bias(by_row[:, :, y : y + step], by_column[:, :, y : y + step])
                parts.append(attend(queries, k_BNTD, v_BNTD, bias=bias))
        # Concatenating a single part would copy it.
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)

    def position_scores(self, q_BNHWD: Tensor) -> tuple[Tensor, Tensor]:
        """q . R_h[row of key] (B, N, H, W, H) and q . R_w[column of key] (B, N, H, W, W); q is unscaled."""
        H, W = q_BNHWD.shape[2:4]
        rows = relative_table(self.rel_pos_h, H).to(q_BNHWD.dtype)  # (H, H, D)
        # See `resize_grid`: in a view as high as the native one letters have the size that they have there.
        narrower = self.rel_pos_h.size(0) == 2 * H - 1 and self.rel_pos_w.size(0) > 2 * W - 1
        columns = relative_table(self.rel_pos_w, W, cut=narrower).to(q_BNHWD.dtype)  # (W, W, D)
        # The axis of the table comes first, all that shares a row of it behind: broadcast products would copy
        # the table for every picture and head.
        by_row = along_first(q_BNHWD.permute(2, 0, 1, 3, 4), rows).permute(1, 2, 0, 3, 4)
        by_column = along_first(q_BNHWD.permute(3, 0, 1, 2, 4), columns).permute(1, 2, 3, 0, 4)
        return by_row, by_column


def along_first(q_LBNMD: Tensor, table_LKD: Tensor) -> Tensor:
    """Queries at each place of an axis times that place's rows of a table: (L, B, N, M, K)."""
    scores = q_LBNMD.flatten(1, 3) @ table_LKD.transpose(1, 2)
    return scores.unflatten(1, q_LBNMD.shape[1:4])


def position_bias(by_row: Tensor, by_column: Tensor) -> Tensor:
    """Position scores (B, N, Y, W, H) and (B, N, Y, W, W) of Y rows of queries -> (B, N, Y * W, H * W)."""
    # Decomposed positions: the score of a pair is one of its rows plus one of its columns.
    return (by_row[..., :, None] + by_column[..., None, :]).flatten(4).flatten(2, 3)


def with_coordinates(
    q_BNTD: Tensor, k_BNTD: Tensor, by_row: Tensor, by_column: Tensor
) -> tuple[Tensor, Tensor]:
    """Scaled queries, and keys, (B, N, T, D + H + W) each, whose product holds the position scores too.

    These, (B, N, H, W, H) and (B, N, H, W, W), become further coordinates of the queries, and a key gets a
    one at its row and its column: no bias of T x T is written. It pays on a CPU up to H + W = D.
    """
    B, N, H, W, _ = by_row.shape
    positions = torch.cat([by_row, by_column], dim=-1).flatten(2, 3)
    queries = torch.cat([q_BNTD * q_BNTD.size(-1) ** -0.5, positions], dim=-1)
    # Keys count row by row, so a row's mark repeats W times, and the columns' marks repeat H times.
    rows = torch.eye(H, dtype=k_BNTD.dtype, device=k_BNTD.device).repeat_interleave(W, dim=0)
    columns = torch.eye(W, dtype=k_BNTD.dtype, device=k_BNTD.device).repeat(H, 1)
    marks = torch.cat([rows, columns], dim=-1).expand(B, N, -1, -1)
    return queries, torch.cat([k_BNTD, marks], dim=-1)


def attend_by_coordinates(
    q_BNTD: Tensor, k_BNTD: Tensor, v_BNTD: Tensor, by_row: Tensor, by_column: Tensor
) -> Tensor:
    """Attention with the positions as coordinates, (B, N, T, D): one width, a multiple of 8, for q, k and v.

    What the fused kernels of GPUs want: a few products more, and neither a bias nor its gradient in memory.
    """
    queries, keys = with_coordinates(q_BNTD, k_BNTD, by_row, by_column)
    # The fused kernels take widths that are multiples of 8 only; zeros change no product.
    D, missing = v_BNTD.size(-1), -queries.size(-1) % 8
    queries, keys = F.pad(queries, (0, missing)), F.pad(keys, (0, missing))
    values = F.pad(v_BNTD, (0, queries.size(-1) - D))
    return attend(queries, keys, values, scale=1.0)[..., :D]


class Mlp(nn.Module):
    """width -> 4 * width -> width with the exact (erf) GELU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.lin1 = Linear(width, 4 * width)
        self.lin2 = Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C), position by position."""
        return self.lin2(F.gelu(self.lin1(x)))


def window_partition(x_BHWC: Tensor, side: int) -> Tensor:
    """Cut a grid into side x side windows, zero-padded right and bottom: -> (B*P*Q, Y, X, C)."""
    B, H, W, C = x_BHWC.shape
    # F.pad counts axes from the last: nothing for the channels, then right, then bottom.
    x_BHWC = F.pad(x_BHWC, (0, 0, 0, -W % side, 0, -H % side))
    P, Q = x_BHWC.size(1) // side, x_BHWC.size(2) // side
    x = x_BHWC.view(B, P, side, Q, side, C).transpose(2, 3)
    return x.reshape(B * P * Q, side, side, C)


def window_unpartition(windows: Tensor, grid: Sequence[int]) -> Tensor:
    """Undo `window_partition` for a (height, width) grid and drop the padding: -> (B, H, W, C)."""
    (H, W), side = grid, windows.size(1)
    # Minus floor of minus is the quotient rounded up: the padded grid has whole windows only.
    P, Q = -(-H // side), -(-W // side)
    x = windows.view(-1, P, Q, side, side, windows.size(-1)).transpose(2, 3)
    return x.reshape(-1, P * side, Q * side, windows.size(-1))[:, :H, :W]


class Block(nn.Module):
    """Pre-norm transformer block; `window` 0 attends over the whole picture."""

    def __init__(self, config: SamConfig, window: int) -> None:
        super().__init__()
        self.norm1 = LayerNorm(config.width, eps=1e-6)
        # A windowed block has tables for a window, a global one for the native grid.
        self.attn = Attention(config.width, config.heads, (window, window) if window else config.grid, window)
        self.norm2 = LayerNorm(config.width, eps=1e-6)
        self.mlp = Mlp(config.width)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        x_BHWC = x_BHWC + self.attn(self.norm1(x_BHWC))
        return x_BHWC + self.mlp(self.norm2(x_BHWC))


class LayerNorm2d(LayerNorm):
    """LayerNorm over the channels of (B, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        # torch normalises the last axis only, so the channels go there and back.
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Sam(nn.Module):
    """Patches -> blocks -> neck -> two stride-2 convolutions (net_2, net_3)."""

    def __init__(self, config: SamConfig) -> None:
        super().__init__()
        self.config = config
        middle, last = config.compressor
        self.patch_embed = PatchEmbed(config.width)
        self.pos_embed = nn.Parameter(torch.zeros(1, *config.grid, config.width))
        self.blocks = nn.ModuleList(
            Block(config, window=0 if i in config.global_blocks else config.window)
            for i in range(config.depth)
        )
        # SAM's neck has no biases, since a norm follows every convolution.
        self.neck = nn.Sequential(
            Conv2d(config.width, config.neck, kernel_size=1, bias=False),
            LayerNorm2d(config.neck, eps=1e-6),
            Conv2d(config.neck, config.neck, kernel_size=3, padding=1, bias=False),
            LayerNorm2d(config.neck, eps=1e-6),
        )
        self.net_2 = Conv2d(config.neck, middle, kernel_size=3, stride=2, padding=1, bias=False)
        self.net_3 = Conv2d(middle, last, kernel_size=3, stride=2, padding=1, bias=False)

    def forward(self, pixels: Tensor) -> SamFeatures:
        """(B, 3, 16H, 16W) -> patches (B, neck, H, W) and grid (B, compressor[1], H/4, W/4)."""
        x_BHWC = self.patch_embed(pixels)
        x_BHWC = x_BHWC + resize_grid(self.pos_embed, (x_BHWC.size(1), x_BHWC.size(2))).to(x_BHWC.dtype)
        for block in self.blocks:
            x_BHWC = block(x_BHWC)
        # Convolutions want the channels in front.
        patches = self.neck(x_BHWC.permute(0, 3, 1, 2))
        return SamFeatures(patches=patches, grid=self.net_3(self.net_2(patches)))

    def init_weights(self, generator: torch.Generator | None = None) -> None:
        """Fresh weights: normal(0.02) matrices and positions, zero biases and relative positions.

        The patches start as cosines: see `init_patches`.
        """
        init_transformer(self, generator)
        init_patches(self.patch_embed.proj.weight)
        nn.init.normal_(self.pos_embed, std=0.02, generator=generator)
        for part in (self.neck, self.net_2, self.net_3):
            for conv in part.modules():
                if isinstance(conv, Conv2d):
                    # No norm and no activation follow net_2 and net_3: keep the variance through them.
                    nn.init.normal_(conv.weight, std=conv.weight[0].numel() ** -0.5, generator=generator)


@torch.no_grad()
def init_patches(weight: Tensor) -> None:
    """Let the first filters of a patch embedding (C, 3, 16, 16) be the cosine transform of its grey values.

    Low frequencies come first, up to all 256; filters beyond stay as they are. Random filters mostly tell how
    bright the ground is, which is why the constant filter counts for a sixteenth here: what ink makes of a
    patch is as large as its ground, and nothing of it is lost.
    """
    n = weight.size(-1)
    middles = (torch.arange(n) + 0.5) * torch.pi / n
    cosines = torch.stack([torch.cos(k * middles) for k in range(n)]) * (2 / n) ** 0.5  # (frequency, pixel)
    cosines[0] *= 0.5**0.5  # now orthonormal
    # Sorted by their length; the pair itself breaks ties, so that the order is the same everywhere.
    frequencies = sorted(itertools.product(range(n), repeat=2), key=lambda pair: (math.hypot(*pair), pair))
    for out, (vertical, horizontal) in zip(weight, frequencies):
        out[:] = torch.outer(cosines[vertical], cosines[horizontal]) / 3  # the mean of the three colours
    weight[0] /= n


def init_transformer(module: nn.Module, generator: torch.Generator | None) -> None:
    """Linear and patch weights normal(0.02), biases 0, norms 1: the usual ViT initialisation."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            nn.init.normal_(layer.weight, std=0.02, generator=generator)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.LayerNorm):
            nn.init.ones_(layer.weight)
            nn.init.zeros_(layer.bias)
        elif isinstance(layer, Attention):
            nn.init.zeros_(layer.rel_pos_h)
            nn.init.zeros_(layer.rel_pos_w)
