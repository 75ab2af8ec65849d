"""The few layers that SAM, CLIP and the GPT share, with the dtype policy of the project.

Weights are fp32 masters; each layer casts its own weight to the dtype of its input. So the dtype of the
pixels or embeddings that enter decides the compute dtype (fp32 or bf16), and no autocast is hidden anywhere.

Letters: B batch, N heads, T queries, S keys, D width of a head.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Linear(nn.Linear):
    """nn.Linear that computes in the dtype of its input, (..., in) -> (..., out)."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


MANY = 256  # rows from which a product in fp32 goes through oneDNN


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """F.linear in the dtype of x, by the fastest library for it, (..., in) -> (..., out)."""
    weight, bias = weight.to(x.dtype), None if bias is None else bias.to(x.dtype)
    if x.dtype == torch.float32 and x.device.type == "cpu" and x.numel() >= MANY * x.size(-1):
        return linear_as_convolution(x, weight, bias)
    return F.linear(x, weight, bias)


def linear_as_convolution(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """F.linear as a 1 x 1 convolution over the rows of x, (..., in) -> (..., out).

    torch takes MKL for fp32 products on a CPU and oneDNN for convolutions; on AMD's processors oneDNN is
    about twice as fast (docs/log.md).
    """
    x_1CR1 = x.reshape(1, -1, 1, x.size(-1)).permute(0, 3, 1, 2)  # the channels last in memory, as they are
    out = F.conv2d(x_1CR1, weight[:, :, None, None], bias)
    return out.permute(0, 2, 3, 1).reshape(*x.shape[:-1], -1)


class Conv2d(nn.Conv2d):
    """nn.Conv2d that computes in the dtype of its input, (B, C, H, W) -> (B, C', H', W')."""

    def forward(self, x: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return self._conv_forward(x, self.weight.to(x.dtype), bias)


class LayerNorm(nn.LayerNorm):
    """nn.LayerNorm over the last axis; the kernel accumulates in fp32 whatever the input's dtype is."""

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(
            x, self.normalized_shape, self.weight.to(x.dtype), self.bias.to(x.dtype), self.eps
        )


def attend(
    q_BNTD: Tensor, k_BNSD: Tensor, v_BNSD: Tensor, bias: Tensor | None = None, causal: bool = False
) -> Tensor:
    """softmax(q k' / sqrt(D) + bias) v, -> (B, N, T, D).

    `bias` is additive and broadcastable to (B, N, T, S); `causal` hides later keys (T == S).
    On a GPU this is torch's fused kernel. On a CPU the plain products win: the backward of the fused kernel
    is several times slower there at our lengths (`python -m scripts.bench_train` prints the comparison).
    """
    if q_BNTD.is_cuda or q_BNTD.is_meta:  # meta: scripts.memory_plan counts what a GPU would keep
        bias = None if bias is None else bias.to(q_BNTD.dtype)
        return F.scaled_dot_product_attention(q_BNTD, k_BNSD, v_BNSD, attn_mask=bias, is_causal=causal)
    return plain_attention(q_BNTD, k_BNSD, v_BNSD, bias, causal)


def plain_attention(
    q_BNTD: Tensor, k_BNSD: Tensor, v_BNSD: Tensor, bias: Tensor | None, causal: bool
) -> Tensor:
    """`attend` by two products and a softmax."""
    scores_BNTS = (q_BNTD * q_BNTD.size(-1) ** -0.5) @ k_BNSD.transpose(-2, -1)
    if causal:
        length = scores_BNTS.size(-1)
        hidden = torch.ones(length, length, dtype=torch.bool, device=scores_BNTS.device).triu(1)
        scores_BNTS = scores_BNTS.masked_fill(hidden, float("-inf"))
    if bias is not None:
        scores_BNTS = scores_BNTS + bias
    # softmax subtracts the maximum and sums in fp32 inside the kernel, also for bf16 scores.
    return scores_BNTS.softmax(dim=-1) @ v_BNSD


def resize_grid(table_1HWC: Tensor, size: tuple[int, int]) -> Tensor:
    """A learned position table (1, H, W, C) at another (height, width): bicubic, antialiased, in fp32."""
    if tuple(table_1HWC.shape[1:3]) == size:
        return table_1HWC
    table = table_1HWC.permute(0, 3, 1, 2).float()
    if table.device.type == "mps":
        table = table.cpu()  # torch has no backward of this interpolation on MPS
    table = F.interpolate(table, size=size, mode="bicubic", antialias=True, align_corners=False)
    return table.permute(0, 2, 3, 1).to(table_1HWC.device)
