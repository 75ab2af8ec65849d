"""DeepEncoder: pictures -> vision tokens in the language model's width.

SAM -> 16x compressor -> CLIP -> concat (CLIP first) -> linear projector -> newline column and separator
(DeepSeek-OCR, arXiv 2510.18234, section 3.2). `view_seperator` keeps the spelling of the released checkpoint.

Letters: V views, H W grid of vision tokens, C channels, D width of the language model,
N = H * (W + 1) + 1 tokens of one view in the sequence.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from nanoocr.config import ModelConfig
from nanoocr.model.clip import Clip
from nanoocr.model.layers import Linear
from nanoocr.model.row import clip_in_row, fits_in_row, sam_in_row
from nanoocr.model.sam import Sam


class VisionFeatures(NamedTuple):
    """What the encoder saw, stage by stage, for equally sized views: for losses and collapse monitors."""

    patches: Tensor  # (V, neck, 4H, 4W) SAM after the neck, one vector per 16-pixel patch
    sam: Tensor  # (V, H*W, C) compressed SAM features
    clip: Tensor  # (V, H*W, C) CLIP's output
    projected: Tensor  # (V, H, W, D) after the projector
    tokens: Tensor  # (V, N, D) as the language model gets them


Groups = Sequence[tuple[Sequence[int], VisionFeatures]]  # (indices of the views, their features)


class Projector(nn.Module):
    """A single linear map, (..., 2C) -> (..., D)."""

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        self.layers = Linear(width_in, width_out)

    def forward(self, x: Tensor) -> Tensor:
        """(..., 2C) -> (..., D), in the dtype of x."""
        return self.layers(x)


class DeepEncoder(nn.Module):
    """The whole vision side; its state-dict keys are DeepSeek-OCR's without their `model.` prefix."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.sam_model = Sam(config.sam)
        self.vision_model = Clip(config.clip)
        self.projector = Projector(2 * config.clip.width, config.gpt.n_embd)
        self.image_newline = nn.Parameter(torch.zeros(config.gpt.n_embd))
        self.view_seperator = nn.Parameter(torch.zeros(config.gpt.n_embd))

    def forward(self, views: Tensor) -> VisionFeatures:
        """Encode equally sized views (V, 3, 64H, 64W), normalised to [-1, 1], in the dtype of `views`."""
        patches, grid = self.sam_model(views)
        clip = self.vision_model(grid)
        # The projector gets both: what CLIP made of a cell in its surroundings, and SAM's feature of that
        # cell.
        sam = grid.flatten(2).transpose(1, 2)
        projected = self.projector(torch.cat([clip, sam], dim=-1)).unflatten(1, grid.shape[-2:])
        return VisionFeatures(patches, sam, clip, projected, tokens=self.arrange(projected))

    def arrange(self, projected_VHWD: Tensor) -> Tensor:
        """Lay a grid out as the sequence sees it: newline after every row, separator last -> (V, N, D)."""
        V, _, _, D = projected_VHWD.shape
        separator = self.view_seperator.to(projected_VHWD.dtype).expand(V, 1, D)
        return torch.cat([self.rows(projected_VHWD), separator], dim=1)

    def rows(self, projected_VHWD: Tensor) -> Tensor:
        """(V, H, W, D) -> (V, H * (W + 1), D): the newline vector behind every row."""
        V, H, _, D = projected_VHWD.shape
        newline = self.image_newline.to(projected_VHWD.dtype).expand(V, H, 1, D)
        return torch.cat([projected_VHWD, newline], dim=2).flatten(1, 2)

    def encode_groups(self, views: Tensor | Sequence[Tensor]) -> Groups:
        """Encode views of any sizes, equally sized ones together: [(their indices, their features)].

        `views` is (V, 3, H, W), or a sequence of (3, H_i, W_i).
        """
        # A batch holds one size only, so views are sorted by size; the indices lead back to the text's order.
        groups: dict[tuple[int, ...], list[int]] = {}
        for i, view in enumerate(views):
            groups.setdefault(tuple(view.shape), []).append(i)
        stacks = [torch.stack([views[i] for i in indices]) for indices in groups.values()]
        sizes = [(stack.size(2), stack.size(3)) for stack in stacks]
        if len(stacks) > 1 and not torch.is_grad_enabled() and fits_in_row(self.sam_model, sizes):
            return list(zip(groups.values(), self.encode_in_row(stacks), strict=True))
        return [(indices, self(stack)) for indices, stack in zip(groups.values(), stacks, strict=True)]

    def encode_in_row(self, stacks: Sequence[Tensor]) -> list[VisionFeatures]:
        """`forward` of each stack of views, which have one height, without gradients."""
        seen = sam_in_row(self.sam_model, stacks)
        clips = clip_in_row(self.vision_model, [one.grid for one in seen])
        found = []
        for (patches, grid), clip in zip(seen, clips, strict=True):
            sam = grid.flatten(2).transpose(1, 2)
            projected = self.projector(torch.cat([clip, sam], dim=-1)).unflatten(1, grid.shape[-2:])
            found.append(VisionFeatures(patches, sam, clip, projected, tokens=self.arrange(projected)))
        return found

    def picture_tokens(self, groups: Groups, grids: Sequence[tuple[int, int]]) -> Tensor:
        """The vision tokens of all pictures, one behind the other: (sum of their N, D).

        `grids` are each picture's (rows, columns) of tiles, (0, 0) without. Its views stand together in the
        order of the groups' indices: the tiles in reading order, then the overview. A tiled picture's
        tokens are [mosaic of the tiles, overview, separator], with one newline behind every row of each.
        """
        # Groups are by size and the text is by picture: look both up by the view's index.
        tokens = {i: one for indices, features in groups for i, one in zip(indices, features.tokens)}
        projected = {i: one for indices, features in groups for i, one in zip(indices, features.projected)}
        parts, first = [], 0
        for R, K in grids:
            # A picture without tiles has the grid (0, 0), and its only view is the overview.
            if R * K:
                tiles_THWD = torch.stack([projected[i] for i in range(first, first + R * K)])
                # The tiles become one mosaic before newlines are set, so that a text line runs across tiles.
                parts.append(self.rows(stitch(tiles_THWD, (R, K))[None])[0])
            parts.append(tokens[first + R * K])  # the overview's tokens, with the separator at the end
            first += R * K + 1
        return torch.cat(parts)

    def init_weights(self, generator: torch.Generator | None = None) -> None:
        """Fresh weights for every part; the special vectors are normal with std D^-0.5."""
        self.sam_model.init_weights(generator)
        self.vision_model.init_weights(generator)
        weight = self.projector.layers.weight
        nn.init.normal_(weight, std=weight.size(1) ** -0.5, generator=generator)
        nn.init.zeros_(self.projector.layers.bias)
        for vector in (self.image_newline, self.view_seperator):
            nn.init.normal_(vector, std=vector.numel() ** -0.5, generator=generator)


def stitch(tiles_THWD: Tensor, grid: tuple[int, int]) -> Tensor:
    """R * K tiles in reading order -> one mosaic (R * H, K * W, D)."""
    R, K = grid
    return tiles_THWD.unflatten(0, (R, K)).transpose(1, 2).flatten(0, 1).flatten(1, 2)
