"""CLIP-style transformer that takes the compressed grid as its patch embeddings.

Names and order follow DeepSeek-OCR's released encoder (CLIP: arXiv 2103.00020): class token, position table,
pre_layrnorm (spelled so there), pre-norm blocks with quick GELU; no post-norm, no visual projection. CLIP's
own patch convolution is never used there and does not exist here.

Letters: B pictures, H W grid of vision tokens, C width, T = 1 + H*W, N heads, D head width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nanoocr.config import ClipConfig
from nanoocr.model.layers import LayerNorm, Linear, attend, resize_grid
from nanoocr.model.sam import init_transformer


class Embeddings(nn.Module):
    """Class token in front, then the grid row by row, plus positions: (B, C, H, W) -> (B, 1 + H*W, C)."""

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        self.grid = config.grid
        self.class_embedding = nn.Parameter(torch.zeros(config.width))
        self.position_embedding = nn.Embedding(1 + config.grid[0] * config.grid[1], config.width)

    def forward(self, grid_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 1 + H*W, C), in the dtype of the grid."""
        B, C, H, W = grid_BCHW.shape
        tokens = grid_BCHW.flatten(2).transpose(1, 2)
        # The class token has no place in a page. It stays because the released weights attend to it.
        cls = self.class_embedding.to(tokens.dtype).expand(B, 1, C)
        return torch.cat([cls, tokens], dim=1) + self.positions(H, W).to(tokens.dtype)

    def positions(self, H: int, W: int) -> Tensor:
        """(1 + H*W, C): the row of the class token as it is, the grid resized when it is not native."""
        table = self.position_embedding.weight
        # Row 0 belongs to the class token and has no place in the grid, so it is not resized with it.
        grid = resize_grid(table[1:].view(1, *self.grid, -1), (H, W))
        return torch.cat([table[:1].to(grid.dtype), grid.reshape(H * W, -1)])


class SelfAttention(nn.Module):
    """Bidirectional attention over all tokens, (B, T, C) -> (B, T, C)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv_proj = Linear(width, 3 * width)
        self.out_proj = Linear(width, width)

    def forward(self, x_BTC: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C), every token attending to all."""
        B, T, C = x_BTC.shape
        # DeepSeek's checkpoint stores the three projections as one matrix, queries first.
        qkv = self.qkv_proj(x_BTC).view(B, T, 3, self.heads, C // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        return self.out_proj(attend(q, k, v).transpose(1, 2).reshape(B, T, C))


class Mlp(nn.Module):
    """width -> 4 * width -> width with quick GELU, x * sigmoid(1.702 x)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = Linear(width, 4 * width)
        self.fc2 = Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C), token by token."""
        # CLIP was trained with this approximation of GELU; the exact one would shift every activation.
        x = self.fc1(x)
        return self.fc2(x * torch.sigmoid(1.702 * x))


class Layer(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        self.layer_norm1 = LayerNorm(config.width, eps=1e-5)
        self.self_attn = SelfAttention(config.width, config.heads)
        self.layer_norm2 = LayerNorm(config.width, eps=1e-5)
        self.mlp = Mlp(config.width)

    def forward(self, x_BTC: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        x_BTC = x_BTC + self.self_attn(self.layer_norm1(x_BTC))
        return x_BTC + self.mlp(self.layer_norm2(x_BTC))


class Transformer(nn.Module):
    """The blocks, under the name that the released checkpoint uses."""

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.depth))


class Clip(nn.Module):
    """Compressed grid (B, C, H, W) -> contextual tokens (B, H*W, C), the class token left out."""

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.pre_layrnorm = LayerNorm(config.width, eps=1e-5)
        self.transformer = Transformer(config)

    def forward(self, grid_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, H*W, C), in the dtype of the grid."""
        x_BTC = self.pre_layrnorm(self.embeddings(grid_BCHW))
        for layer in self.transformer.layers:
            x_BTC = layer(x_BTC)
        # Only the grid's tokens go on to the projector: each stands beside SAM's feature of the same cell.
        return x_BTC[:, 1:]

    def init_weights(self, generator: torch.Generator | None = None) -> None:
        """Fresh weights: normal(0.02) matrices, positions and class token, zero biases."""
        init_transformer(self, generator)
        nn.init.normal_(self.embeddings.class_embedding, std=0.02, generator=generator)
        nn.init.normal_(self.embeddings.position_embedding.weight, std=0.02, generator=generator)
