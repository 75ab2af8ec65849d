"""Heads that name characters: which one has its centre in which half patch of a picture.

Two linear maps, one on SAM's patches and one on the projected vision tokens, each of which answers for its
4 x 4 patches. A half patch is 16 pixels high and 8 wide, since narrow letters share a patch. Training takes a
loss from both (nanoocr/train/glyph.py). Reading takes the draft of a line from the first, which the language
model then checks (nanoocr/inference/draft.py).

Letters: B pictures, H W grid in patches, h w grid in vision tokens, S slots per patch, K classes.
"""

from __future__ import annotations

from torch import Tensor, nn

from nanoocr.alphabet import CHARACTERS
from nanoocr.config import CELL, PATCH, SLOTS, ModelConfig
from nanoocr.model.deepencoder import VisionFeatures
from nanoocr.model.gpt import norm
from nanoocr.model.layers import Linear

CLASSES = 1 + len(CHARACTERS)  # 0 for "no centre here", then the alphabet
RATIO = CELL // PATCH  # patches per side of a vision token


class PatchHead(nn.Module):
    """The head on SAM's patches: all that reading needs."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.patch_head = Linear(config.sam.neck, SLOTS * CLASSES)

    def name_patches(self, features: VisionFeatures) -> Tensor:
        """(B, H, W, S, K) logits, in the dtype of the features."""
        return self.patch_head(features.patches.permute(0, 2, 3, 1)).unflatten(-1, (SLOTS, CLASSES))


class GlyphHeads(PatchHead):
    """Both heads, as training has them."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        # A vision token stands for 4 x 4 patches, so its head names the characters of all of them at once.
        self.token_head = Linear(config.gpt.n_embd, RATIO * RATIO * SLOTS * CLASSES)

    def name_tokens(self, features: VisionFeatures) -> Tensor:
        """(B, h, w, 4, 4, S, K) logits of the patches of every vision token."""
        # The norm is what the GPT applies to the token as well: the head sees what the GPT sees.
        logits = self.token_head(norm(features.projected))
        return logits.unflatten(-1, (RATIO, RATIO, SLOTS, CLASSES))
