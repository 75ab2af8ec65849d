"""The glyph loss: a dense signal for an encoder that starts from nothing.

From scratch, the next-token loss alone teaches the encoder almost nothing for a long time, because the
decoder finds the language prior first. Where the data has character boxes, two linear heads name the
character whose centre lies in each half patch. One head reads SAM's patches, the other the projected vision
tokens. The heads themselves are in nanoocr/model/glyph_heads.py.

Letters: B pictures, H W grid in patches, S slots per patch, K classes.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from nanoocr.data.glyphs import EMPTY_WEIGHT, UNKNOWN
from nanoocr.model import glyph_heads
from nanoocr.model.deepencoder import VisionFeatures
from nanoocr.model.glyph_heads import CLASSES, RATIO


class GlyphLosses(glyph_heads.GlyphHeads):
    """The two heads, and the sums of their losses."""

    def of_patches(self, features: VisionFeatures, targets: Tensor) -> GlyphSums:
        """Sums of the head on SAM's patches; `targets` is (B, H, W, SLOTS) integer classes."""
        return glyph_sums(self.name_patches(features), targets.long())

    def of_tokens(self, features: VisionFeatures, targets: Tensor) -> GlyphSums:
        """Sums of the head on the projected tokens. Where SAM is frozen, this head is enough."""
        return glyph_sums(self.name_tokens(features), split_into_tokens(targets.long()))


def split_into_tokens(targets_BHWS: Tensor) -> Tensor:
    """(B, H, W, S) -> (B, H/4, W/4, 4, 4, S): the slots that each vision token answers for."""
    B, H, W, S = targets_BHWS.shape
    return targets_BHWS.view(B, H // RATIO, RATIO, W // RATIO, RATIO, S).transpose(2, 3)


class GlyphSums(NamedTuple):
    """Scalars that add up over the views of a batch, in any grouping; they are divided once, at the end."""

    nats: Tensor  # weighted cross entropy, fp32
    weight: Tensor  # known slots, empty ones counted at EMPTY_WEIGHT
    right: Tensor  # slots with a character that the head names
    present: Tensor  # slots with a character

    def plus(self, other: GlyphSums) -> GlyphSums:
        """Add two sums."""
        return GlyphSums(*(a + b for a, b in zip(self, other)))

    @property
    def loss(self) -> Tensor:
        """Nats per weighted slot; 0 where no slot is known."""
        return self.nats / self.weight.clamp_min(1.0)

    @property
    def accuracy(self) -> Tensor:
        """Share of the characters that the head names; 0 where there is no character."""
        return self.right / self.present.clamp_min(1)


def glyph_sums(logits: Tensor, targets: Tensor) -> GlyphSums:
    """Loss and accuracy of (..., CLASSES) logits over the known slots of (...) targets."""
    weight = torch.ones(CLASSES, device=logits.device)
    # Most half patches are empty: with equal weights "nothing here" would be the answer to everything.
    weight[0] = EMPTY_WEIGHT
    logits, targets = logits.flatten(0, -2).float(), targets.flatten()
    # A sum and not a mean: it is divided once per step, by the weight over all micro-batches and ranks.
    nats = F.cross_entropy(logits, targets, weight=weight, ignore_index=UNKNOWN, reduction="sum")
    # A row without character boxes says nothing about its picture, which is not the same as an empty one.
    known = targets != UNKNOWN
    with torch.no_grad():
        present = (targets > 0) & known
        right = (logits.argmax(-1) == targets) & present
    return GlyphSums(nats, weight[targets[known]].sum(), right.sum(), present.sum())
