"""Pictures of one height and any widths through the encoder together: they lie side by side in one row.

A page of print has strips of ten widths, a few of each. Width by width that is ten passes of small products,
and for each new shape of a product the library under torch builds a new kernel. In a row every product is
one. Only attention over whole pictures goes width by width, and convolutions get blank columns between the
pictures. The numbers are those of `Sam` and `Clip` but for rounding; there are no gradients.

Letters: n pictures of a group, H W its grid in patches, R columns of the row, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from nanoocr.config import CELL, PATCH
from nanoocr.model.clip import Clip, Layer
from nanoocr.model.layers import attend, resize_grid
from nanoocr.model.sam import Attention, Block, Sam, SamFeatures

Shapes = Sequence[tuple[int, int]]  # of each group: how many pictures, how many columns each

STEP = 32  # columns: rows are filled up to multiples, since each length has kernels of its own
RATIO = CELL // PATCH  # columns of patches to one of vision tokens


def fits_in_row(sam: Sam, sizes: Sequence[tuple[int, int]]) -> bool:
    """Whether pictures of these (height, width) in pixels may lie in a row: no window may hold two."""
    attentions = [module for module in sam.blocks.modules() if isinstance(module, Attention)]
    sides = [attention.window for attention in attentions if attention.window]
    grids = [(height // PATCH, width // PATCH) for height, width in sizes]
    even = all(side % window == 0 for grid in grids for side in grid for window in sides)
    return even and len({height for height, _ in sizes}) == 1


def sam_in_row(sam: Sam, groups: Sequence[Tensor]) -> list[SamFeatures]:
    """`sam` of each group of pictures (n, 3, 16H, 16W), all of one H."""
    shapes = [(len(group), group.size(3) // PATCH) for group in groups]
    used = sum(count * width for count, width in shapes)
    blank = -used % STEP
    pixels = torch.cat([group.permute(1, 2, 0, 3).flatten(2) for group in groups], dim=2)
    x_1HRC = sam.patch_embed(F.pad(pixels[None], (0, blank * PATCH)))
    tables = [
        resize_grid(sam.pos_embed, (x_1HRC.size(1), width)).repeat(1, 1, count, 1) for count, width in shapes
    ]
    x_1HRC[:, :, :used] += torch.cat(tables, dim=2).to(x_1HRC.dtype)
    for block in sam.blocks:
        assert isinstance(block, Block)
        x_1HRC = block_in_row(block, x_1HRC, shapes)
    return compressed(sam, x_1HRC[:, :, :used], shapes)


def block_in_row(block: Block, x_1HRC: Tensor, shapes: Shapes) -> Tensor:
    """`block` of every picture of the row."""
    attn: Attention = block.attn
    if attn.window:
        return block.forward(x_1HRC)  # pictures are as wide as whole windows
    qkv_1HRC = attn.qkv(block.norm1(x_1HRC))
    parts, at = [], 0
    for count, width in shapes:
        own = qkv_1HRC[:, :, at : at + count * width]
        parts.append(joined(attn.attend_grid(pictures_of(own, count))))
        at += count * width
    attended = F.pad(torch.cat(parts, dim=2), (0, 0, 0, x_1HRC.size(2) - at))
    x_1HRC = x_1HRC + attn.proj(attended)
    return x_1HRC + block.mlp(block.norm2(x_1HRC))


def compressed(sam: Sam, x_1HRC: Tensor, shapes: Shapes) -> list[SamFeatures]:
    """Neck and compressor: blank columns keep each picture from seeing its neighbours, as zeros would."""
    widths = [width for count, width in shapes for _ in range(count)]
    first, norm, second, last_norm = sam.neck
    narrow = norm(first(x_1HRC.permute(0, 3, 1, 2)))
    patches = last_norm(second(apart(narrow, widths, RATIO)))
    patches = patches[..., places(widths, RATIO)]
    half = sam.net_2(apart(patches, widths, RATIO))[..., places([width // 2 for width in widths], RATIO // 2)]
    grid = sam.net_3(apart(half, [width // 2 for width in widths], RATIO // 2))
    grid = grid[..., places([width // RATIO for width in widths], 1)]
    found, at = [], 0
    for count, width in shapes:
        end = at + count * width
        own = pictures_of(patches[..., at:end].permute(0, 2, 3, 1), count)
        cells = pictures_of(grid[..., at // RATIO : end // RATIO].permute(0, 2, 3, 1), count)
        found.append(SamFeatures(own.permute(0, 3, 1, 2), cells.permute(0, 3, 1, 2)))
        at = end
    return found


def apart(x_1CHR: Tensor, widths: Sequence[int], blank: int) -> Tensor:
    """The pictures of a row with so many columns of zeros behind each, and zeros up to a whole length."""
    columns: list[int] = []
    at = 0
    for width in widths:
        columns += [*range(at, at + width), *[x_1CHR.size(3)] * blank]
        at += width
    columns += [x_1CHR.size(3)] * (-len(columns) % (STEP * blank // RATIO))
    # In memory the channels stay last, as convolutions want them.
    x_1HRC = F.pad(x_1CHR.permute(0, 2, 3, 1), (0, 0, 0, 1))
    return x_1HRC[:, :, torch.tensor(columns, device=x_1HRC.device)].permute(0, 3, 1, 2)


def places(widths: Sequence[int], blank: int) -> Tensor:
    """Where the columns of the pictures lie in a row with so many blank columns behind each."""
    columns: list[int] = []
    at = 0
    for width in widths:
        columns += range(at, at + width)
        at += width + blank
    return torch.tensor(columns)


def pictures_of(row_1HRC: Tensor, count: int) -> Tensor:
    """A piece of the row that holds equally wide pictures -> (count, H, W, C), a view."""
    return row_1HRC[0].unflatten(1, (count, -1)).transpose(0, 1)


def joined(x_nHWC: Tensor) -> Tensor:
    """Pictures -> a piece of the row, (1, H, n * W, C)."""
    return x_nHWC.transpose(0, 1).flatten(1, 2)[None]


def clip_in_row(clip: Clip, grids: Sequence[Tensor]) -> list[Tensor]:
    """`clip` of each group of grids (n, C, h, w): (n, h * w, C) each."""
    tokens = [clip.embeddings(grid) for grid in grids]
    shapes = [(one.size(0), one.size(1)) for one in tokens]
    x_PC = clip.pre_layrnorm(torch.cat([one.flatten(0, 1) for one in tokens]))
    for layer in clip.transformer.layers:
        assert isinstance(layer, Layer)
        attn = layer.self_attn
        qkv_PC = attn.qkv_proj(layer.layer_norm1(x_PC))
        pieces = qkv_PC.split([count * length for count, length in shapes])
        attended = []
        for piece, shape in zip(pieces, shapes, strict=True):
            q, k, v = piece.unflatten(1, (3, attn.heads, -1)).unflatten(0, shape).permute(2, 0, 3, 1, 4)
            attended.append(attend(q, k, v).transpose(1, 2).flatten(2).flatten(0, 1))
        x_PC = x_PC + attn.out_proj(torch.cat(attended))
        x_PC = x_PC + layer.mlp(layer.layer_norm2(x_PC))
    pieces = x_PC.split([count * length for count, length in shapes])
    return [piece.unflatten(0, shape)[:, 1:] for piece, shape in zip(pieces, shapes, strict=True)]
