"""The glyph loss: a dense signal for an encoder that starts from nothing.

From scratch, next-token loss alone tells the encoder almost nothing for a long time: the decoder finds the
language prior first. Where the data carries character boxes, two linear heads name the character whose
centre lies in each half patch (16 pixels high, 8 wide: narrow letters share a patch):
on SAM's patches, and on the projected vision tokens, each of which answers for its 4 x 4 patches.
The heads exist in training only and are never part of the model.

Letters: B pictures, H W grid in patches, S slots per patch, K classes, D width.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nanoocr.config import CELL, PATCH, ModelConfig
from nanoocr.model.deepencoder import VisionFeatures
from nanoocr.model.gpt import norm
from nanoocr.model.layers import Linear

SLOTS = 2  # half patches, left and right
UNKNOWN = 255  # target of a picture that carries no character boxes
CLASSES = 96  # 0 for "no centre here", 1 + (code - 32) for printable ASCII
EMPTY_WEIGHT = 0.2  # most slots are empty; without this the heads first learn to say nothing
RATIO = CELL // PATCH  # patches per side of a vision token


def glyph_targets(chars: str, boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W, SLOTS) uint8 classes of a picture of `size` (height, width) in pixels.

    `boxes` is (len(chars), 4) x0, y0, x1, y1 in pixels. Of two centres in one slot the later one stays;
    characters outside printable ASCII or outside the picture are left out. Without boxes all is UNKNOWN.
    """
    height, width = size[0] // PATCH, size[1] // PATCH
    targets = np.full((height, width * SLOTS), 0 if chars else UNKNOWN, dtype=np.uint8)
    codes = np.array([ord(char) for char in chars], dtype=np.int64) - 31
    columns = np.floor((boxes[:, 0] + boxes[:, 2]) / 2 / (PATCH / SLOTS)).astype(np.int64)
    rows = np.floor((boxes[:, 1] + boxes[:, 3]) / 2 / PATCH).astype(np.int64)
    good = (codes > 0) & (codes < CLASSES)
    good &= (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width * SLOTS)
    targets[rows[good], columns[good]] = codes[good]
    return targets.reshape(height, width, SLOTS)


class GlyphHeads(nn.Module):
    """Linear heads on SAM's patches and on the projected tokens."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.patch_head = Linear(config.sam.neck, SLOTS * CLASSES)
        self.token_head = Linear(config.gpt.n_embd, RATIO * RATIO * SLOTS * CLASSES)

    def of_patches(self, features: VisionFeatures, targets: Tensor) -> dict[str, Tensor]:
        """Loss and accuracy on SAM's patches; `targets` is (B, H, W, SLOTS) integer classes."""
        logits = self.patch_head(features.patches.permute(0, 2, 3, 1)).unflatten(-1, (SLOTS, CLASSES))
        return named("glyph_patch", logits, targets.long())

    def of_tokens(self, features: VisionFeatures, targets: Tensor) -> dict[str, Tensor]:
        """Loss and accuracy on the projected tokens: all that is needed where SAM is frozen."""
        # The norm is what the GPT applies to the token as well: the head sees what the GPT sees.
        logits = self.token_head(norm(features.projected))
        logits = logits.unflatten(-1, (RATIO, RATIO, SLOTS, CLASSES))
        return named("glyph_token", logits, split_into_tokens(targets.long()))


def named(name: str, logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """{name: loss in nats per weighted slot, name_accuracy: share of the characters that are named}."""
    return {name: weighted_cross_entropy(logits, targets), f"{name}_accuracy": accuracy(logits, targets)}


def split_into_tokens(targets_BHWS: Tensor) -> Tensor:
    """(B, H, W, S) -> (B, H/4, W/4, 4, 4, S): the slots that each vision token answers for."""
    B, H, W, S = targets_BHWS.shape
    return targets_BHWS.view(B, H // RATIO, RATIO, W // RATIO, RATIO, S).transpose(2, 3)


def weighted_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross entropy over known slots with empty slots counted at EMPTY_WEIGHT, in fp32; else 0."""
    weight = torch.ones(CLASSES, device=logits.device)
    weight[0] = EMPTY_WEIGHT
    logits, targets = logits.flatten(0, -2).float(), targets.flatten()
    total = F.cross_entropy(logits, targets, weight=weight, ignore_index=UNKNOWN, reduction="sum")
    known = targets[targets != UNKNOWN]
    return total / weight[known].sum().clamp_min(1.0)


@torch.no_grad()
def accuracy(logits: Tensor, targets: Tensor) -> Tensor:
    """Share of the slots with a character whose character is named; 0 where there is none."""
    present = (targets > 0) & (targets != UNKNOWN)
    right = (logits.argmax(-1) == targets) & present
    return right.sum() / present.sum().clamp_min(1)
