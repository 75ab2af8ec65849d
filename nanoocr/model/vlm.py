"""The vision-language model: where the picture meets the text.

Vision tokens replace the embeddings of the `<|image|>` positions *before* the norm that follows the
embedding. That norm has no weight, so the projector's scale cannot drown the text (nor be drowned by it).

Letters: B batch, T tokens, C width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from nanoocr.config import ModelConfig
from nanoocr.errors import UsageError
from nanoocr.image_process import PictureViews, as_picture, normalised
from nanoocr.model.cache import KVCache
from nanoocr.model.deepencoder import DeepEncoder, Groups
from nanoocr.model.gpt import GPT

IGNORE = -1  # target of a position that is not supervised (nanochat's value)

LOGITS_AT_ONCE = 2**26  # fp32 logits that a loss holds: 268 MB, and as much again for their gradient

Views = Tensor | Sequence[Tensor | PictureViews]  # (V, 3, H, W), or one by one, (3, H_i, W_i) or tiled


class Loss(NamedTuple):
    """Cross entropy over the supervised tokens of a batch: divide by the *global* count, not by this one."""

    total: Tensor  # scalar fp32, sum over supervised tokens, nats
    num_tokens: int  # supervised ones

    @property
    def mean(self) -> Tensor:
        """Nats per supervised token of this batch, a scalar."""
        return self.total / self.num_tokens


class VLM(nn.Module):
    """DeepEncoder and GPT under one roof; `image_id`, of `<|image|>`, is the last id unless given."""

    def __init__(
        self, config: ModelConfig, image_id: int | None = None, compute_dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        self.config = config
        self.compute_dtype = compute_dtype
        # Our tokenizers put the special ids last, and this one behind all.
        self.image_id = config.gpt.vocab_size - 1 if image_id is None else image_id
        self.encoder = DeepEncoder(config)
        self.gpt = GPT(config.gpt)

    def forward(
        self, ids: Tensor, targets: Tensor | None = None, views: Views | None = None
    ) -> Tensor | Loss:
        """Logits (B, T, V) in fp32, or with `targets` the loss over their supervised positions.

        Args:
            ids: (B, T) int64; every picture stands as a run of `<|image|>` ids.
            targets: (B, T) int64, already shifted; IGNORE where nothing is supervised.
            views: the pictures in the order in which their runs stand in `ids`, normalised to [-1, 1] or as
                uint8 pixels. None for a batch of text.

        Raises:
            UsageError: the number of `<|image|>` ids differs from the number of vision tokens, or no target
                is supervised.
        """
        vision = None if views is None or len(views) == 0 else self.encode(views)
        hidden = self.gpt(self.embed(ids, vision))
        return self.logits(hidden) if targets is None else self.loss(hidden, targets)

    def encode(self, views: Views) -> Tensor:
        """All vision tokens of `views` one behind the other, (sum of N_i, C), in the compute dtype."""
        return self.encode_with_features(views)[0]

    def encode_with_features(self, views: Views) -> tuple[Tensor, Groups]:
        """As `encode`, and what the encoder saw on the way, group by group of equally sized views."""
        # As they are to the device, where pixels are bytes: a quarter of the numbers that they become.
        pictures = [normalised(as_picture(view).to(self.device)) for view in views]
        flat = [view.to(self.device, self.compute_dtype) for picture in pictures for view in picture.flat()]
        groups = self.encoder.encode_groups(flat)
        return self.encoder.picture_tokens(groups, [picture.grid for picture in pictures]), groups

    def embed(self, ids: Tensor, vision: Tensor | None = None) -> Tensor:
        """(B, T) ids and (number of `<|image|>` ids, C) vision tokens -> (B, T, C) in the compute dtype."""
        x_BTC = self.gpt.embed(ids).to(self.compute_dtype)
        is_image = ids == self.image_id
        # A mismatch must stop here: masked_scatter would shift every feature after it and say nothing.
        wanted, found = int(is_image.sum()), 0 if vision is None else vision.size(0)
        if wanted != found:
            raise UsageError(
                f"the text holds {wanted} <|image|> tokens but the pictures give {found} vision tokens"
            )
        return x_BTC if vision is None else x_BTC.masked_scatter(is_image[..., None], vision)

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., C) -> (..., V) fp32 with `<|image|>` at -inf: it can never be generated."""
        logits = self.gpt.logits(hidden)
        # A generated picture token would have no picture behind it.
        logits[..., self.image_id] = float("-inf")
        return logits

    def loss(self, hidden: Tensor, targets: Tensor) -> Loss:
        """Sum of cross entropy over supervised positions; only their rows reach the output matrix.

        Where the logits would be many, they are made chunk by chunk, and once more in backward: of (rows, V)
        in fp32 there is never more than one chunk.
        """
        # Most positions of a batch are prompt or picture: their rows would be the larger part of the product.
        supervised = targets != IGNORE
        rows, wanted = hidden[supervised], targets[supervised]
        if wanted.numel() == 0:
            raise UsageError("no token of this batch is supervised: every answer in it is empty")
        chunk = max(1, LOGITS_AT_ONCE // self.config.gpt.vocab_size)
        if len(rows) <= chunk:
            return Loss(self._sum_of_nats(rows, wanted), len(rows))
        pairs = zip(rows.split(chunk), wanted.split(chunk))
        # Nothing here draws random numbers, so no generator's state has to be kept for the second pass.
        again = partial(checkpoint, self._sum_of_nats, use_reentrant=False, preserve_rng_state=False)
        nats = [again(*pair) for pair in pairs]
        return Loss(torch.stack(nats).sum(), len(rows))

    def _sum_of_nats(self, rows: Tensor, wanted: Tensor) -> Tensor:
        """Cross entropy of (n, C) hidden rows and (n,) targets, summed, in fp32."""
        return F.cross_entropy(self.gpt.logits(rows), wanted, reduction="sum")

    @property
    def device(self) -> torch.device:
        """Where the weights lie; all of them lie on one device, or are split over equal ones."""
        return self.gpt.lm_head.weight.device

    def new_cache(self, *, batch: int, capacity: int) -> KVCache:
        """An empty KV cache for `batch` rows of at most `capacity` tokens, on the model's device."""
        return KVCache(
            self.config.gpt, batch=batch, capacity=capacity, dtype=self.compute_dtype, device=self.device
        )

    def blocks(self) -> list[nn.Module]:
        """All transformer blocks, in the order in which the data goes through them."""
        encoder = self.encoder
        return [
            *encoder.sam_model.blocks,
            *encoder.vision_model.transformer.layers,
            *self.gpt.transformer.h,
        ]

    def init_weights(self, seed: int = 0) -> None:
        """Fresh weights everywhere, the same for the same seed."""
        # A generator of our own, so that building a model draws nothing from torch's global one.
        generator = torch.Generator().manual_seed(seed)
        self.encoder.init_weights(generator)
        self.gpt.init_weights(generator)


def count_parameters(module: nn.Module) -> int:
    """Number of scalars in all parameters."""
    return sum(parameter.numel() for parameter in module.parameters())
