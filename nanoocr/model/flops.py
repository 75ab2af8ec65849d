"""Floating-point operations of a forward pass, component by component, from the sizes alone.

A multiply-add counts as two. Element-wise work (norms, softmax, activations) is left out, as everywhere in
the field. The text formula 6 * parameters * tokens is wrong here: SAM sees a picture as 4096 patches, CLIP as
256 tokens, the GPT as 273; so each component counts its own.

Training costs one pass more for gradients of weights and one for gradients of inputs. What is frozen has no
gradient of its weights, and none of its inputs either where nothing in front of it trains.

Letters: H W grid in patches, T tokens of one attention, C width.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from nanoocr.config import CELL, PATCH, ClipConfig, GPTConfig, ModelConfig, SamConfig


class EncoderFlops(NamedTuple):
    """Forward operations for one view."""

    sam: int  # with the compressor
    clip: int
    projector: int

    @property
    def total(self) -> int:
        """Operations of the whole encoder."""
        return sum(self)


def encoder_flops(config: ModelConfig, view: tuple[int, int]) -> EncoderFlops:
    """Operations of the DeepEncoder for one view of (height, width) pixels."""
    tokens = (view[0] // CELL) * (view[1] // CELL)
    return EncoderFlops(
        sam=sam_flops(config.sam, (view[0] // PATCH, view[1] // PATCH)),
        clip=clip_flops(config.clip, tokens),
        projector=2 * tokens * 2 * config.clip.width * config.gpt.n_embd,
    )


def sam_flops(config: SamConfig, grid: tuple[int, int]) -> int:
    """SAM and the compressor; the padding of windows counts in attention, where it takes part."""
    (H, W), C = grid, config.width
    patches = H * W
    # The patch embedding is a product of 3 * 16 * 16 pixels with C filters.
    total = 2 * patches * C * 3 * PATCH**2
    for block in range(config.depth):
        # Windows at the border are padded to their full size, and the padding attends as well.
        side = 0 if block in config.global_blocks else config.window
        windows, h, w = (1, H, W) if not side else (-(-H // side) * -(-W // side), side, side)
        T = h * w
        # Scores and their product with the values, then the two tables of relative positions.
        total += windows * (4 * T * T * C + 2 * T * (h + w) * C)
        total += 2 * patches * (4 + 8) * C * C  # products with weights: qkv, proj and the MLP
    total += 2 * patches * config.neck * (C + 9 * config.neck)
    return total + compressor_flops(config, grid)


def compressor_flops(config: SamConfig, grid: tuple[int, int]) -> int:
    """The two convolutions behind SAM's neck."""
    patches, (middle, last) = grid[0] * grid[1], config.compressor
    return 2 * (patches // 4) * 9 * config.neck * middle + 2 * (patches // 16) * 9 * middle * last


def clip_flops(config: ClipConfig, tokens: int) -> int:
    """CLIP's blocks over `tokens` and the class token."""
    T, C = tokens + 1, config.width
    # Twelve C * C matrices in a block: four in attention, eight in the MLP.
    return config.depth * (2 * T * 12 * C * C + 4 * T * T * C)


def gpt_flops(config: GPTConfig, tokens: int, logits: int | None = None, pairs: int | None = None) -> int:
    """The GPT over a row of `tokens`, with logits at `logits` positions (None: at all of them).

    Attention counts in full, though it is causal: what is skipped depends on the kernel. `pairs` is the sum
    of the squared lengths where the tokens are several documents.
    """
    C, K = config.n_embd, config.n_kv_head * (config.n_embd // config.n_head)
    per_token = 2 * (2 * C * C + 2 * C * K + 8 * C * C)
    linear = config.n_layer * tokens * per_token
    attention = config.n_layer * 4 * (tokens * tokens if pairs is None else pairs) * C
    return linear + attention + 2 * (tokens if logits is None else logits) * C * config.vocab_size


def training_flops(
    config: ModelConfig,
    trained: Collection[str],
    views: Mapping[tuple[int, int], int],
    *,
    tokens: int,
    pairs: int,
    logits: int,
    recompute: bool = False,
) -> dict[str, float]:
    """Operations of a training step by component.

    Args:
        trained: the components whose weights have gradients, as in nanoocr/train/recipes.py.
        views: how many views of each (height, width) in pixels.
        tokens: positions of the text with its pictures, as `gpt_flops` takes them, like the next two.
        pairs: sum of the squared lengths, where the tokens are several documents.
        logits: positions that get logits.
        recompute: whether blocks run a second time in backward.
    """
    vision = [(count, encoder_flops(config, view)) for view, count in views.items()]
    grids = [(count, (height // PATCH, width // PATCH)) for (height, width), count in views.items()]
    compressor = sum(count * compressor_flops(config.sam, grid) for count, grid in grids)
    forward = {
        "sam": sum(count * flops.sam for count, flops in vision) - compressor,
        "compressor": compressor,
        "clip": sum(count * flops.clip for count, flops in vision),
        "projector": sum(count * flops.projector for count, flops in vision),
        "gpt": gpt_flops(config.gpt, tokens, logits, pairs),
    }
    total, before = {}, False  # does something in front of this component train?
    for name, flops in forward.items():
        own = name in trained
        # Forward; then gradients of the weights if they train, and of the inputs if anything up to here does.
        passes = 1 + own + (own or before) + (recompute and (own or before))
        total[name] = float(passes * flops)
        before = before or own
    return total
