"""The glyph loss: a dense signal for an encoder that starts from nothing.

From scratch, next-token loss alone tells the encoder almost nothing for a long time: the decoder finds the
language prior first. Where the data carries character boxes, two linear heads name the character whose
centre lies in each half patch (16 pixels high, 8 wide: narrow letters share a patch):
on SAM's patches, and on the projected vision tokens, each of which answers for its 4 x 4 patches.
The heads exist in training only and are never part of the model.

Letters: B pictures, H W grid in patches, S slots per patch, K classes, D width.
"""

from __future__ import annotations

from typing import NamedTuple

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

    def of_patches(self, features: VisionFeatures, targets: Tensor) -> GlyphSums:
        """On SAM's patches; `targets` is (B, H, W, SLOTS) integer classes."""
        logits = self.patch_head(features.patches.permute(0, 2, 3, 1)).unflatten(-1, (SLOTS, CLASSES))
        return glyph_sums(logits, targets.long())

    def of_tokens(self, features: VisionFeatures, targets: Tensor) -> GlyphSums:
        """On the projected tokens: all that is needed where SAM is frozen."""
        # The norm is what the GPT applies to the token as well: the head sees what the GPT sees.
        logits = self.token_head(norm(features.projected))
        logits = logits.unflatten(-1, (RATIO, RATIO, SLOTS, CLASSES))
        return glyph_sums(logits, split_into_tokens(targets.long()))


def total_weight(targets: Tensor) -> float:
    """What the loss over integer `targets` is a mean over: known slots, empty ones at EMPTY_WEIGHT."""
    known, empty = int((targets != UNKNOWN).sum()), int((targets == 0).sum())
    return known - empty + EMPTY_WEIGHT * empty


def split_into_tokens(targets_BHWS: Tensor) -> Tensor:
    """(B, H, W, S) -> (B, H/4, W/4, 4, 4, S): the slots that each vision token answers for."""
    B, H, W, S = targets_BHWS.shape
    return targets_BHWS.view(B, H // RATIO, RATIO, W // RATIO, RATIO, S).transpose(2, 3)


class GlyphSums(NamedTuple):
    """Scalars that add up over the views of a batch, however these are grouped; divided once, at the end."""

    nats: Tensor  # weighted cross entropy, fp32
    weight: Tensor  # known slots, empty ones counted at EMPTY_WEIGHT
    right: Tensor  # slots with a character that is named
    present: Tensor  # slots with a character

    def plus(self, other: GlyphSums) -> GlyphSums:
        """The sums over both."""
        return GlyphSums(*(a + b for a, b in zip(self, other)))

    @property
    def loss(self) -> Tensor:
        """Nats per weighted slot; 0 where nothing is known."""
        return self.nats / self.weight.clamp_min(1.0)

    @property
    def accuracy(self) -> Tensor:
        """Share of the characters that are named; 0 where there is none."""
        return self.right / self.present.clamp_min(1)


def glyph_sums(logits: Tensor, targets: Tensor) -> GlyphSums:
    """Loss and accuracy of (..., CLASSES) logits over the known slots of (...) targets."""
    weight = torch.ones(CLASSES, device=logits.device)
    weight[0] = EMPTY_WEIGHT
    logits, targets = logits.flatten(0, -2).float(), targets.flatten()
    nats = F.cross_entropy(logits, targets, weight=weight, ignore_index=UNKNOWN, reduction="sum")
    known = targets != UNKNOWN
    with torch.no_grad():
        present = (targets > 0) & known
        right = (logits.argmax(-1) == targets) & present
    return GlyphSums(nats, weight[targets[known]].sum(), right.sum(), present.sum())
