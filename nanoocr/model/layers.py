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
        """(..., in) -> (..., out), in the dtype of x."""
        return linear(x, self.weight, self.bias)


MANY = 256  # rows of x from which a product in fp32 goes through oneDNN
LARGE = 2**20  # numbers in a weight from which it does so with any rows
ROWS = 64  # in bf16 on a CPU products have a multiple of so many rows
# Do torch's kernels for this processor use vectors of 512 bits? torch.compile cannot trace the question.
AVX512 = torch.backends.cpu.get_cpu_capability().startswith("AVX512")
FOLDS = range(16, 65)  # pictures that the rows are folded into: with one thread torch asks oneDNN from 16 on


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """F.linear in the dtype of x, (..., in) -> (..., out), by the library that is fastest at it.

    torch multiplies fp32 on a CPU by MKL, which on AMD's processors is slower than oneDNN
    (`python -m scripts.bench.linear`); oneDNN is what convolutions go through. It reorders the filters at
    every call, so these are the weights where there are many rows, and the rows where there are few.
    """
    weight, bias = weight.to(x.dtype), None if bias is None else bias.to(x.dtype)
    # Nothing to fold: an empty input takes the plain product, which returns an empty output.
    rows = x.numel() // max(1, x.size(-1))
    if x.device.type != "cpu" or not rows:
        return F.linear(x, weight, bias)
    if x.dtype != torch.float32:
        return filled_up(x, weight, bias) if is_plain_bf16(x) else F.linear(x, weight, bias)
    # Without vectors of 512 bits both are equally fast forward, and oneDNN takes 1.6 times as long backward.
    slow_gradients = torch.is_grad_enabled() and not AVX512
    if rows >= MANY and not slow_gradients and (folds_of(rows) > 1 or torch.get_num_threads() > 1):
        out = convolve(x.reshape(rows, -1), weight, bias)
    elif weight.numel() >= LARGE and (rows > 1 or AVX512):  # a single row takes half of the time by MKL
        out = convolve(weight, x.reshape(rows, -1)).T
        out = (out if bias is None else out + bias).contiguous()
    else:
        return F.linear(x, weight, bias)
    return out.view(*x.shape[:-1], -1)


def is_plain_bf16(tensor: Tensor) -> bool:
    """Whether a CPU computes with this tensor in bf16 and without gradients.

    There oneDNN makes a kernel for each new shape of a product and keeps up to 1,024 of them, half a megabyte
    each: pages, whose shapes never repeat, would fill the memory.
    """
    return tensor.dtype == torch.bfloat16 and tensor.device.type == "cpu" and not torch.is_grad_enabled()


def filled_up(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """F.linear with zeros behind the rows of x, so that there are few different numbers of them."""
    rows = x.reshape(-1, x.size(-1))
    missing = -len(rows) % (ROWS if len(rows) > ROWS else 8)
    out = F.linear(F.pad(rows, (0, 0, 0, missing)) if missing else rows, weight, bias)
    return out[: len(rows)].view(*x.shape[:-1], -1)


def folds_of(rows: int) -> int:
    """Into how many equal pictures so many rows are folded; 1 where no number of FOLDS divides them."""
    # The fewest pictures that are enough: more would only make each of them shorter.
    return next((folds for folds in FOLDS if rows % folds == 0), 1)


def convolve(pixels_PC: Tensor, filters_FC: Tensor, bias: Tensor | None = None) -> Tensor:
    """pixels @ filters.T + bias as a 1 x 1 convolution of pictures one pixel wide: (P, F)."""
    pictures_BP1C = pixels_PC.reshape(folds_of(len(pixels_PC)), -1, 1, pixels_PC.size(1))
    # Channels last in memory, as they are.
    out_BFP1 = F.conv2d(pictures_BP1C.permute(0, 3, 1, 2), filters_FC[:, :, None, None], bias)
    # Not by indices of the first picture: their gradient is a fresh tensor in another order, twice as slow.
    return out_BFP1.permute(0, 2, 3, 1).reshape(len(pixels_PC), -1)


class Conv2d(nn.Conv2d):
    """nn.Conv2d that computes in the dtype of its input, (B, C, H, W) -> (B, C', H', W')."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H', W'), in the dtype of x."""
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return self._conv_forward(x, self.weight.to(x.dtype), bias)


class LayerNorm(nn.LayerNorm):
    """nn.LayerNorm over the last axis; the kernel accumulates in fp32 whatever the input's dtype is."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C), in the dtype of x."""
        return F.layer_norm(
            x, self.normalized_shape, self.weight.to(x.dtype), self.bias.to(x.dtype), self.eps
        )


def is_fused(tensor: Tensor) -> bool:
    """Does attention run as torch's fused kernel where this tensor lies?"""
    return tensor.is_cuda or tensor.is_meta  # meta: scripts.memory_plan counts what a GPU would keep


def attend(
    q_BNTD: Tensor,
    k_BNSD: Tensor,
    v_BNSD: Tensor,
    bias: Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """softmax(scale q k' + bias) v, -> (B, N, T, D of v); `scale` is 1 / sqrt(D) unless given.

    `bias` is additive and broadcastable to (B, N, T, S); `causal` hides later keys (T == S).
    On a GPU this is torch's fused kernel. On a CPU it wins in fp32 without gradients only: its backward is
    several times slower there at our lengths (`python -m scripts.bench.train` prints the comparison). So bf16
    is computed in fp32 there; see `is_plain_bf16` too.
    """
    if is_plain_bf16(q_BNTD):
        bias = None if bias is None else bias.float()
        return attend(q_BNTD.float(), k_BNSD.float(), v_BNSD.float(), bias, causal, scale).to(q_BNTD.dtype)
    if is_fused(q_BNTD) or (q_BNTD.dtype == torch.float32 and not torch.is_grad_enabled()):
        bias = None if bias is None else bias.to(q_BNTD.dtype)
        return F.scaled_dot_product_attention(
            q_BNTD, k_BNSD, v_BNSD, attn_mask=bias, is_causal=causal, scale=scale
        )
    return plain_attention(q_BNTD, k_BNSD, v_BNSD, bias, causal, scale)


def plain_attention(
    q_BNTD: Tensor, k_BNSD: Tensor, v_BNSD: Tensor, bias: Tensor | None, causal: bool, scale: float | None
) -> Tensor:
    """`attend` by two products and a softmax."""
    scale = q_BNTD.size(-1) ** -0.5 if scale is None else scale
    scores_BNTS = (q_BNTD if scale == 1 else q_BNTD * scale) @ k_BNSD.transpose(-2, -1)
    if causal:
        length = scores_BNTS.size(-1)
        # True above the diagonal: what a query must not see lies to its right.
        hidden = torch.ones(length, length, dtype=torch.bool, device=scores_BNTS.device).triu(1)
        scores_BNTS = scores_BNTS.masked_fill_(hidden, float("-inf"))
    if bias is not None:
        scores_BNTS = scores_BNTS.add_(bias)  # in place: scores are the largest tensor of a picture
    # softmax subtracts the maximum and sums in fp32 inside the kernel, also for bf16 scores.
    return scores_BNTS.softmax(dim=-1) @ v_BNSD


def resize_grid(table_1HWC: Tensor, size: tuple[int, int]) -> Tensor:
    """A learned position table (1, H, W, C) at another (height, width): bicubic, antialiased, in fp32.

    A grid as high as the table and narrower takes its left columns as they are: a shorter line of text in
    letters of the same size, not the same line seen smaller.
    """
    if tuple(table_1HWC.shape[1:3]) == size:
        return table_1HWC
    # Stretching would say that letters are narrower, which they are not; see the docstring.
    if table_1HWC.size(1) == size[0] and table_1HWC.size(2) > size[1]:
        return table_1HWC[:, :, : size[1]]
    table = table_1HWC.permute(0, 3, 1, 2).float()
    if table.device.type == "mps":
        table = table.cpu()  # torch has no backward of this interpolation on MPS
    table = F.interpolate(table, size=size, mode="bicubic", antialias=True, align_corners=False)
    return table.permute(0, 2, 3, 1).to(table_1HWC.device)
