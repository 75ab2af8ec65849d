"""Reading at other picture sizes than before: small views first, which train quickly, then larger ones.

The weights stay and the position tables are resized, as for a ViT that is tuned at a higher resolution
(arXiv 2010.11929, section 3.2).
"""

from __future__ import annotations

import re
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from nanoocr.config import CELL, PATCH, ModelConfig
from nanoocr.errors import UsageError
from nanoocr.model.layers import resize_grid
from nanoocr.model.vlm import VLM

CLIP_POSITIONS = "vision_model.embeddings.position_embedding.weight"
SAM_POSITIONS = "sam_model.pos_embed"
RELATIVE_POSITIONS = ("rel_pos_h", "rel_pos_w")


def parse_views(text: str) -> tuple[tuple[int, int], ...]:
    """`192x384,256x256` -> ((192, 384), (256, 256)), heights and widths in pixels; no text: none.

    Raises:
        UsageError: the text is not such a list.
    """
    size = r"[1-9]\d{0,4}x[1-9]\d{0,4}"
    if not text:
        return ()
    if not re.fullmatch(rf"{size}(,{size})*", text):
        raise UsageError(f"--views={text}: give heights x widths in pixels, as 192x384,256x256")
    height_and_width = (view.split("x") for view in text.split(","))
    return tuple((int(height), int(width)) for height, width in height_and_width)


def format_views(views: tuple[tuple[int, int], ...]) -> str:
    """The text that `parse_views` reads."""
    return ",".join(f"{height}x{width}" for height, width in views)


def with_views(model: VLM, views: tuple[tuple[int, int], ...]) -> VLM:
    """A model of the same weights for other views; its position tables fit the first of them.

    At that view it computes what `model` does there, which resizes its tables in every pass.

    Raises:
        UsageError: a side is not a multiple of 64 pixels, or is above 4,096.
    """
    sizes = resized_config(model.config, views)
    other = VLM(sizes, image_id=model.image_id, compute_dtype=model.compute_dtype)
    other.load_state_dict(
        {name: resized(name, tensor, model.config, sizes) for name, tensor in model.state_dict().items()}
    )
    return other.to(next(model.parameters()).device)


def resized_config(config: ModelConfig, views: tuple[tuple[int, int], ...]) -> ModelConfig:
    """`config` with other views and the grids of the first one; as it is where there are none.

    Raises:
        UsageError: a side is not a multiple of 64 pixels, or is above 4,096.
    """
    if not views:
        return config
    height, width = views[0]
    sam = replace(config.sam, grid=(height // PATCH, width // PATCH))
    clip = replace(config.clip, grid=(height // CELL, width // CELL))
    return replace(config, views=views, sam=sam, clip=clip)


def resized(name: str, tensor: Tensor, before: ModelConfig, after: ModelConfig) -> Tensor:
    """A weight for other grids: position tables are resized as in a forward pass, all else stays."""
    if name.endswith(SAM_POSITIONS):  # (1, H, W, C)
        return resize_grid(tensor, after.sam.grid)
    if name.endswith(CLIP_POSITIONS):  # (1 + H*W, C): the class token's row, then the grid
        grid = resize_grid(tensor[1:].view(1, *before.clip.grid, -1), after.clip.grid)
        return torch.cat((tensor[:1], grid.flatten(0, 2)))
    block = re.search(r"blocks\.(\d+)\.attn\.", name)
    if name.endswith(RELATIVE_POSITIONS) and block and int(block[1]) in before.sam.global_blocks:
        length = after.sam.grid[RELATIVE_POSITIONS.index(name.rsplit(".", 1)[-1])]
        return F.interpolate(tensor.float().T[None], size=2 * length - 1, mode="linear")[0].T
    return tensor
