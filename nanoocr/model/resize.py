"""Reading at other picture sizes than before: small views first, which train quickly, then larger ones.

The weights stay and the position tables are resized, as for a ViT that is tuned at a higher resolution
(arXiv 2010.11929, section 3.2).
"""

from __future__ import annotations

import re
from dataclasses import replace

import torch

from nanoocr.config import CELL, PATCH, ModelConfig
from nanoocr.errors import UsageError
from nanoocr.model.layers import resize_grid
from nanoocr.model.sam import cut_distances, resize_distances
from nanoocr.model.vlm import VLM

SAM_POSITIONS = "encoder.sam_model.pos_embed"
CLIP_POSITIONS = "encoder.vision_model.embeddings.position_embedding.weight"
DISTANCES = ("rel_pos_h", "rel_pos_w")


def parse_views(text: str) -> tuple[tuple[int, int], ...]:
    """`192x384,256x256` -> ((192, 384), (256, 256)), heights and widths in pixels; no text: none.

    Raises:
        UsageError: the text is not such a list.
    """
    # Five digits at most: longer numbers are typing errors, and the check of sizes names the limit.
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


@torch.no_grad()
def with_views(model: VLM, views: tuple[tuple[int, int], ...]) -> VLM:
    """A model of the same weights for other views; its position tables fit the first of them.

    At that view it computes what `model` does there, which resizes its tables in every pass. But for a model
    of whole views that becomes one of lines: letters keep their size in pixels there, so that the relative
    distances are cut or continued instead.

    Raises:
        UsageError: a side is not a multiple of 64 pixels, or is above 4,096.
    """
    sizes = resized_config(model.config, views)
    # A fresh model of the new sizes knows every shape; the old weights are fitted to it.
    other = VLM(sizes, image_id=model.image_id, compute_dtype=model.compute_dtype)
    wanted = other.state_dict()
    # The first view's height says what a model reads; see `ModelConfig.reads_lines`.
    to_lines = sizes.reads_lines and not model.config.reads_lines
    other_distances = cut_distances if to_lines else resize_distances
    weights = {
        name: other_distances(tensor, len(wanted[name])) if name.endswith(DISTANCES) else tensor
        for name, tensor in model.state_dict().items()
    }
    sam, clip = model.encoder.sam_model, model.encoder.vision_model
    weights[SAM_POSITIONS] = resize_grid(sam.pos_embed, sizes.sam.grid)
    weights[CLIP_POSITIONS] = clip.embeddings.positions(*sizes.clip.grid)
    other.load_state_dict(weights)
    return other.to(sam.pos_embed.device)


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
