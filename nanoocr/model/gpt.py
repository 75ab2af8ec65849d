"""nanochat's GPT (the original architecture, October 2025), key by key.

Rotary positions before QK-norm, weightless RMSNorm, ReLU squared, no biases, untied output, softcap 15,
grouped key/value heads possible. The rotary table is computed from positions on the fly: there are no
buffers, so a model built on the meta device needs nothing but its weights.

Letters: B batch, T new tokens, S tokens in the cache after them, C width, N heads, K key/value heads,
D head width, V vocabulary.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nanoocr.config import GPTConfig
from nanoocr.model.cache import KVCache, Packed
from nanoocr.model.layers import Linear, attend

ROPE_BASE = 10_000.0
SOFTCAP = 15.0


def norm(x: Tensor) -> Tensor:
    """RMS norm over the last axis without a weight, in fp32, returned in the dtype of x."""
    # nanochat names no eps; this is what torch takes in fp32, where we compute.
    eps = torch.finfo(torch.float32).eps
    return F.rms_norm(x.float(), (x.size(-1),), eps=eps).to(x.dtype)


def rotary_table(positions: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """cos and sin, each (..., width/2) fp32, for integer `positions` (...)."""
    # In fp32 always: in bf16 the angles of neighbouring positions beyond 256 would be the same.
    exponents = torch.arange(0, width, 2, device=positions.device, dtype=torch.float32) / width
    angles = positions[..., None].float() * ROPE_BASE**-exponents
    return angles.cos(), angles.sin()


def rotate(x_BTND: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Half-split rotary: the halves of a head are the two coordinates, turned by minus the angle."""
    # nanochat turns by minus the angle. The sign cancels in products of queries and keys, but not against
    # weights that were trained with it.
    first, second = x_BTND.float().chunk(2, dim=-1)
    if torch.is_grad_enabled():
        turned = torch.cat([first * cos + second * sin, second * cos - first * sin], dim=-1)
        return turned.to(x_BTND.dtype)
    # The same without gradients, written where it belongs: every tensor less is a pass over memory less.
    turned = torch.empty_like(x_BTND, dtype=torch.float32)
    left, right = turned.chunk(2, dim=-1)
    torch.mul(first, cos, out=left).addcmul_(second, sin)
    torch.mul(second, cos, out=right).addcmul_(first, sin, value=-1)
    return turned.to(x_BTND.dtype)


class CachedPass(NamedTuple):
    """What every layer needs of one forward pass over a cache."""

    cache: KVCache
    positions: Tensor  # (B, T) of the new tokens
    bias: Tensor  # (B, 1, T, S): hides from each of them what comes later
    packed: Packed | None = None
    asked: Tensor | None = (
        None  # which of the packed tokens are asked for: the others give keys and values only
    )


class Documents(NamedTuple):
    """Where several documents stand in one sequence of the batch: they must not see each other.

    Attention then runs per document instead of per sequence, those of similar length together: no mask of
    T x T, and no work for pairs of which one may not see the other. `nanoocr.data.batch` makes it.
    """

    positions: Tensor  # (B, T) int64, from 0 in every document
    groups: tuple[Tensor, ...]  # (n, L) int64 each: places in B * T of n documents, padded behind their end
    inverse: Tensor  # (B * T,) int64: the place of every position in the concatenated groups


class CausalSelfAttention(nn.Module):
    """Grouped-query attention with rotary positions, then QK-norm."""

    def __init__(self, config: GPTConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.n_head, self.n_kv_head = config.n_head, config.n_kv_head
        self.head_dim = config.n_embd // config.n_head
        # Three matrices and not one, since there may be fewer heads of keys and values than of queries.
        self.c_q = Linear(config.n_embd, self.n_head * self.head_dim, bias=False)
        self.c_k = Linear(config.n_embd, self.n_kv_head * self.head_dim, bias=False)
        self.c_v = Linear(config.n_embd, self.n_kv_head * self.head_dim, bias=False)
        self.c_proj = Linear(config.n_embd, config.n_embd, bias=False)

    def forward(
        self,
        x_BTC: Tensor,
        rotary: tuple[Tensor, Tensor],
        cached: CachedPass | None = None,
        documents: Documents | None = None,
    ) -> Tensor:
        """(B, T, C) -> (B, T, C); of packed tokens only those that are asked for."""
        if cached is not None and cached.packed is not None:
            return self.attend_packed(x_BTC, rotary, cached, cached.packed)
        B, T, C = x_BTC.shape
        q = self.c_q(x_BTC).view(B, T, self.n_head, self.head_dim)
        k = self.c_k(x_BTC).view(B, T, self.n_kv_head, self.head_dim)
        v = self.c_v(x_BTC).view(B, T, self.n_kv_head, self.head_dim)
        # QK-norm bounds the scores, whatever the weights do. It comes after the rotation, as in nanochat; a
        # rotation changes no length, so the two could be swapped but for rounding.
        q, k = norm(rotate(q, *rotary)), norm(rotate(k, *rotary))
        if documents is not None:
            return self.c_proj(attend_documents(q, k, v, documents).reshape(B, T, C))
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
        if cached is not None:
            k, v = cached.cache.insert(self.layer, k, v, cached.positions)
        out = attend_grouped(q, k, v, bias=None if cached is None else cached.bias)
        return self.c_proj(out.transpose(1, 2).reshape(B, T, C))

    def attend_packed(
        self, x_1PC: Tensor, rotary: tuple[Tensor, Tensor], cached: CachedPass, packed: Packed
    ) -> Tensor:
        """Attention over the cache of those packed tokens that are asked for, (1, A, C)."""
        k_PKD = norm(rotate(self.c_k(x_1PC).unflatten(2, (self.n_kv_head, -1)), *rotary))[0]
        v_PKD = self.c_v(x_1PC).unflatten(2, (self.n_kv_head, -1))[0]
        keys, values = cached.cache.insert_packed(self.layer, k_PKD, v_PKD, packed)
        if cached.asked is not None:
            x_1PC, packed = x_1PC[:, cached.asked], packed.only(cached.asked)
            rotary = (rotary[0][:, cached.asked], rotary[1][:, cached.asked])
        q_AND = norm(rotate(self.c_q(x_1PC).unflatten(2, (self.n_head, -1)), *rotary))[0]
        out_BNTD = attend_grouped(packed.padded(q_AND).transpose(1, 2), keys, values, bias=cached.bias)
        out_AC = out_BNTD.transpose(1, 2).flatten(0, 1)[packed.places].flatten(1)
        return self.c_proj(out_AC[None])


def attend_grouped(q_BNTD: Tensor, k_BKSD: Tensor, v_BKSD: Tensor, bias: Tensor | None = None) -> Tensor:
    """Attention with N / K consecutive query heads to a key/value head; causal without a bias."""
    groups = q_BNTD.size(1) // k_BKSD.size(1)
    if groups > 1:
        # Each key/value head serves `groups` consecutive query heads, which is the order of nanochat's
        # weights.
        k_BKSD, v_BKSD = k_BKSD.repeat_interleave(groups, 1), v_BKSD.repeat_interleave(groups, 1)
    return attend(q_BNTD, k_BKSD, v_BKSD, bias=bias, causal=bias is None)


def attend_documents(q_BTND: Tensor, k_BTKD: Tensor, v_BTKD: Tensor, documents: Documents) -> Tensor:
    """Causal attention within every document, (B, T, N, D) like the queries.

    The padding behind a document's end is later than all of it, so that being causal hides it as well.
    """
    flat = [x.flatten(0, 1) for x in (q_BTND, k_BTKD, v_BTKD)]
    parts = []
    for places in documents.groups:
        n, L = places.shape
        q, k, v = (x[places.flatten()].unflatten(0, (n, L)).transpose(1, 2) for x in flat)
        parts.append(attend_grouped(q, k, v).transpose(1, 2).flatten(0, 1))
    return torch.cat(parts)[documents.inverse].view_as(q_BTND)


def hide_later_keys(positions: Tensor, S: int, dtype: torch.dtype) -> Tensor:
    """(B, 1, T, S) additive mask: a query at position p sees the keys 0..p of its own row."""
    # It compares positions and not places, because rows of a cache have different lengths.
    later = torch.arange(S, device=positions.device) > positions[:, None, :, None]
    return torch.zeros(later.shape, dtype=dtype, device=later.device).masked_fill(later, float("-inf"))


class MLP(nn.Module):
    """C -> 4C -> C with squared ReLU."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.c_fc = Linear(config.n_embd, 4 * config.n_embd, bias=False)
        self.c_proj = Linear(4 * config.n_embd, config.n_embd, bias=False)

    def forward(self, x_BTC: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C), token by token."""
        hidden = self.c_fc(x_BTC)
        if not torch.is_grad_enabled():
            hidden = hidden.relu_()  # in place: fresh memory of this size costs as much as the product
            return self.c_proj(hidden.mul_(hidden))
        # With gradients nothing may happen in place: backward needs what went into the square.
        return self.c_proj(F.relu(hidden).square())


class Block(nn.Module):
    """x += attn(norm(x)); x += mlp(norm(x))."""

    def __init__(self, config: GPTConfig, layer: int) -> None:
        super().__init__()
        self.attn = CausalSelfAttention(config, layer)
        self.mlp = MLP(config)

    def forward(
        self,
        x_BTC: Tensor,
        rotary: tuple[Tensor, Tensor],
        cached: CachedPass | None = None,
        documents: Documents | None = None,
    ) -> Tensor:
        """(B, T, C) -> (B, T, C); of packed tokens only those that are asked for."""
        attended = self.attn(norm(x_BTC), rotary, cached, documents)
        if cached is not None and cached.asked is not None:
            x_BTC = x_BTC[:, cached.asked]
        x_BTC = x_BTC + attended
        return x_BTC + self.mlp(norm(x_BTC))


class Transformer(nn.Module):
    """The embedding table and the blocks, under the names that nanochat's checkpoints use."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.h = nn.ModuleList(Block(config, layer) for layer in range(config.n_layer))


class GPT(nn.Module):
    """Embeddings in, hidden states out; `embed` and `logits` are the two ends."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.transformer = Transformer(config)
        self.lm_head = Linear(config.n_embd, config.vocab_size, bias=False)

    def embed(self, ids: Tensor) -> Tensor:
        """(B, T) ids -> (B, T, C) embeddings in fp32, before the first norm."""
        return self.transformer.wte(ids)

    def forward(
        self,
        x_BTC: Tensor,
        cache: KVCache | None = None,
        documents: Documents | None = None,
        packed: Packed | None = None,
        asked: Tensor | None = None,
    ) -> Tensor:
        """Embeddings (B, T, C), before the first norm -> hidden states (B, T, C), after the last norm.

        Computes in the dtype of `x_BTC`. With a cache the T tokens follow what each row of it holds; the
        caller moves `cache.lengths` on by the number of *real* tokens of each row. With `documents` a line
        holds several texts that do not see each other (training; never together with a cache). With `packed`,
        of `cache.pack`, B is 1 and the line holds the new tokens of all rows of the cache; `asked` are the
        indices of those whose hidden states are wanted, (1, A, C).
        """
        T = x_BTC.size(1)
        cached: CachedPass | None = None
        # Without a cache every row starts at 0; packed documents each start at 0 again.
        positions = torch.arange(T, device=x_BTC.device)[None] if documents is None else documents.positions
        if cache is not None and packed is not None:
            positions = packed.positions[None]
            # The mask is for the padded layout (B, T), in which attention runs; its padding is dropped
            # afterwards.
            queries = cache.lengths[:, None] + torch.arange(packed.shape[1], device=x_BTC.device)
            bias = hide_later_keys(queries, cache.used, x_BTC.dtype)
            cached = CachedPass(cache, positions, bias, packed)
        elif cache is not None:
            positions = cache.positions(T)
            cached = CachedPass(cache, positions, hide_later_keys(positions, cache.used, x_BTC.dtype))
        # One table for all layers: it depends on the positions alone.
        cos, sin = rotary_table(positions, self.config.n_embd // self.config.n_head)
        rotary = (cos[:, :, None], sin[:, :, None])  # (1 or B, T, 1, D/2): the same for every head
        x_BTC = norm(x_BTC)
        *blocks, last = self.transformer.h
        for block in blocks:
            x_BTC = block(x_BTC, rotary, cached, documents)
        # Of what nobody asks for, the last block needs no more than keys and values.
        if cached is not None and asked is not None:
            cached = cached._replace(asked=asked)
        return norm(last(x_BTC, rotary, cached, documents))

    def logits(self, x: Tensor) -> Tensor:
        """Hidden states (..., C) -> soft-capped logits (..., V) in fp32."""
        # The cap keeps a single logit from running away early in training. It is applied in fp32, because
        # near the cap bf16 has only two or three digits to tell logits apart.
        return SOFTCAP * torch.tanh(self.lm_head(x).float() / SOFTCAP)

    def init_weights(self, generator: torch.Generator | None = None) -> None:
        """nanochat's: wte std 1, matrices fan_in^-0.5 * min(1, (fan_out/fan_in)^0.5), outputs zero."""
        nn.init.normal_(self.transformer.wte.weight, std=1.0, generator=generator)
        for name, layer in self.named_modules():
            if not isinstance(layer, nn.Linear):
                continue
            # Every block starts as the identity, and the first prediction is uniform: a loss of ln V.
            if name.endswith("c_proj") or name == "lm_head":
                nn.init.zeros_(layer.weight)
            else:
                fan_out, fan_in = layer.weight.shape
                std = fan_in**-0.5 * min(1.0, (fan_out / fan_in) ** 0.5)
                nn.init.normal_(layer.weight, std=std, generator=generator)
