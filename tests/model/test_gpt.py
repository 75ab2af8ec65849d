"""The GPT: keys, causality, rotary positions, and the cache against the full forward."""

from __future__ import annotations

import pytest
import torch

from nanoocr.config import preset
from nanoocr.model.cache import KVCache
from nanoocr.model.gpt import GPT, hide_later_keys, norm, rotary_table, rotate
from nanoocr.model.vlm import count_parameters


@pytest.fixture
def make_gpt(make_config, randomise):
    def make(n_kv_head: int = 4) -> GPT:
        gpt = GPT(make_config(n_kv_head=n_kv_head).gpt)
        randomise(gpt)
        return gpt.requires_grad_(False)

    return make


def cache_for(gpt: GPT, *, batch: int, capacity: int) -> KVCache:
    return KVCache(gpt.config, batch=batch, capacity=capacity, dtype=torch.float32, device="cpu")


# ---------------------------------------------------------------------------------------------------------
# keys and sizes


def test_d20_keys_and_size():
    with torch.device("meta"):
        gpt = GPT(preset("d20").gpt)
        original = GPT(preset("d20", vocab_size=65536).gpt)
    shapes = {name: tuple(tensor.shape) for name, tensor in gpt.state_dict().items()}
    expected = {"transformer.wte.weight": (65537, 1280), "lm_head.weight": (65537, 1280)}
    for i in range(20):
        block = f"transformer.h.{i}"
        expected |= {f"{block}.attn.{name}.weight": (1280, 1280) for name in ("c_q", "c_k", "c_v", "c_proj")}
        expected |= {f"{block}.mlp.c_fc.weight": (5120, 1280), f"{block}.mlp.c_proj.weight": (1280, 5120)}
    assert shapes == expected and len(expected) == 122
    assert count_parameters(gpt) == 560_990_720
    assert count_parameters(original) == 560_988_160  # the released base-d20, without `<|image|>`


def test_d20_has_ten_heads_of_128():
    with torch.device("meta"):
        attention = GPT(preset("d20").gpt).transformer.h[0].attn
    assert (attention.n_head, attention.n_kv_head, attention.head_dim) == (10, 10, 128)


def test_input_and_output_embeddings_are_not_tied(make_gpt):
    gpt = make_gpt()
    assert gpt.transformer.wte.weight is not gpt.lm_head.weight


# ---------------------------------------------------------------------------------------------------------
# parts


def test_norm_has_unit_rms_and_no_weight():
    x = torch.randn(3, 32) * torch.tensor([[0.1], [1.0], [1e4]])
    torch.testing.assert_close(norm(x).square().mean(-1), torch.ones(3), atol=1e-3, rtol=0)
    assert norm(x.bfloat16()).dtype == torch.bfloat16
    assert norm(torch.zeros(4)).isfinite().all()


def test_rotary_is_half_split_by_minus_the_angle():
    x = torch.randn(1, 5, 1, 8)
    cos, sin = rotary_table(torch.arange(5)[None], 8)
    turned = rotate(x, cos[:, :, None], sin[:, :, None])
    for position in range(5):
        for pair in range(4):
            angle = torch.tensor(-position * 10_000 ** (-pair / 4))
            a, b = x[0, position, 0, pair], x[0, position, 0, pair + 4]
            expected = torch.stack([a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()])
            got = turned[0, position, 0, [pair, pair + 4]]
            torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


def test_rotary_scores_depend_on_the_distance_alone():
    q, k = torch.randn(2, 1, 1, 1, 16)

    def score(i: int, j: int) -> torch.Tensor:
        tables = [rotary_table(torch.tensor([[p]]), 16) for p in (i, j)]
        turned = [rotate(x, cos[:, :, None], sin[:, :, None]) for x, (cos, sin) in zip((q, k), tables)]
        return (turned[0] * turned[1]).sum()

    torch.testing.assert_close(score(7, 3), score(107, 103), atol=1e-4, rtol=1e-4)
    assert not torch.isclose(score(7, 3), score(7, 4), atol=1e-3)


def test_logits_are_soft_capped_at_15_in_fp32(make_gpt):
    gpt = make_gpt()
    x = torch.randn(4, 32)
    raw = x @ gpt.lm_head.weight.T
    torch.testing.assert_close(gpt.logits(x), 15 * (raw / 15).tanh(), atol=1e-5, rtol=1e-5)
    assert gpt.logits(x * 1e4).abs().max() <= 15
    assert gpt.logits(x.bfloat16()).dtype == torch.float32


def test_mlp_is_squared_relu(make_gpt):
    mlp = make_gpt().transformer.h[0].mlp
    x = torch.randn(3, 32)
    expected = (x @ mlp.c_fc.weight.T).clamp_min(0) ** 2 @ mlp.c_proj.weight.T
    torch.testing.assert_close(mlp(x), expected, atol=1e-5, rtol=1e-5)


def test_fresh_weights_are_nanochats(tiny_config):
    gpt = GPT(tiny_config.gpt)
    gpt.init_weights(torch.Generator().manual_seed(0))
    weights = gpt.state_dict()
    assert all((w == 0).all() for name, w in weights.items() if "c_proj" in name or "lm_head" in name)
    assert 0.95 < weights["transformer.wte.weight"].std() < 1.05
    assert 0.9 < weights["transformer.h.0.attn.c_q.weight"].std() * 32**0.5 < 1.1
    assert (gpt.logits(gpt(gpt.embed(torch.arange(5)[None]))) == 0).all()


# ---------------------------------------------------------------------------------------------------------
# causality


@pytest.mark.parametrize("n_kv_head", [4, 2, 1])
def test_later_tokens_do_not_influence_earlier_ones(make_gpt, n_kv_head):
    gpt = make_gpt(n_kv_head)
    x = torch.randn(1, 9, 32)
    before = gpt(x)
    for t in range(1, 9):
        other = x.clone()
        other[:, t:] = torch.randn(1, 9 - t, 32)
        after = gpt(other)
        assert torch.equal(after[:, :t], before[:, :t])
        assert (after[:, t:] != before[:, t:]).any(-1).all()


def test_rows_do_not_influence_each_other(make_gpt):
    gpt = make_gpt(2)
    x = torch.randn(3, 6, 32)
    alone = torch.cat([gpt(row[None]) for row in x])
    torch.testing.assert_close(gpt(x), alone, atol=1e-5, rtol=1e-5)


def test_positions_matter(make_gpt):
    """The same two tokens in another order, before the same last one."""
    gpt = make_gpt()
    a, b, c = torch.randn(3, 1, 1, 32)
    one, two = gpt(torch.cat([a, b, c], 1))[0, -1], gpt(torch.cat([b, a, c], 1))[0, -1]
    assert (one - two).abs().max() > 1e-2


# ---------------------------------------------------------------------------------------------------------
# cache


@pytest.mark.parametrize("n_kv_head", [4, 2, 1])
def test_token_by_token_equals_the_full_forward(make_gpt, n_kv_head):
    gpt = make_gpt(n_kv_head)
    x = torch.randn(2, 12, 32)
    cache = cache_for(gpt, batch=2, capacity=12)
    steps = []
    for t in range(12):
        steps.append(gpt(x[:, t : t + 1], cache))
        cache.lengths += 1
    torch.testing.assert_close(torch.cat(steps, 1), gpt(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("n_kv_head", [4, 2])
@pytest.mark.parametrize("chunks", [(12,), (5, 7), (1, 1, 10), (4, 4, 3, 1)])
def test_chunked_prefill_equals_the_full_forward(make_gpt, n_kv_head, chunks):
    gpt = make_gpt(n_kv_head)
    x = torch.randn(2, 12, 32)
    cache = cache_for(gpt, batch=2, capacity=20)
    outputs = []
    for chunk in x.split(chunks, dim=1):
        outputs.append(gpt(chunk, cache))
        cache.lengths += chunk.size(1)
    torch.testing.assert_close(torch.cat(outputs, 1), gpt(x), atol=1e-5, rtol=1e-5)


def test_rows_of_different_lengths_decode_as_if_alone(make_gpt):
    """Right-padded prompts: what lies behind a row's end is neither seen nor kept."""
    gpt = make_gpt(2)
    rows = [torch.randn(1, length + 5, 32) for length in (3, 8, 1)]
    lengths = torch.tensor([3, 8, 1])
    prompts = torch.full((3, 8, 32), 99.0)  # the padding is loud, so that a leak shows
    for prompt, row, length in zip(prompts, rows, lengths):
        prompt[:length] = row[0, :length]
    cache = cache_for(gpt, batch=3, capacity=13)
    prefill = gpt(prompts, cache)
    cache.lengths = lengths.clone()
    outputs = [[prefill[i, :length]] for i, length in enumerate(lengths)]
    for t in range(5):
        token = torch.stack([row[0, length + t] for row, length in zip(rows, lengths)])[:, None]
        hidden = gpt(token, cache)
        cache.lengths += 1
        for i in range(3):
            outputs[i].append(hidden[i])
    for row, output in zip(rows, outputs):
        torch.testing.assert_close(torch.cat(output), gpt(row)[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("rows", [[1, 3], [0, 1], [2], [0, 1, 2, 3]])
def test_keep_rows_keeps_exactly_these(make_gpt, rows):
    gpt = make_gpt(2)
    x = torch.randn(4, 7, 32)
    cache = cache_for(gpt, batch=4, capacity=10)
    gpt(x[:, :5], cache)
    cache.lengths += 5
    cache.keep_rows(rows)
    assert cache.lengths.tolist() == [5] * len(rows) and cache.keys.size(1) == len(rows)
    for t in (5, 6):
        hidden = gpt(x[rows, t : t + 1], cache)
        cache.lengths += 1
        torch.testing.assert_close(hidden[:, 0], gpt(x[rows])[:, t], atol=1e-5, rtol=1e-5)


def test_capacity_may_be_filled_but_not_exceeded(make_gpt):
    gpt = make_gpt()
    x = torch.randn(2, 6, 32)
    cache = cache_for(gpt, batch=2, capacity=5)
    gpt(x[:, :4], cache)
    cache.lengths += 4
    gpt(x[:, 4:5], cache)
    cache.lengths += 1
    before = cache.keys.clone()
    with pytest.raises(ValueError, match=r"capacity 5 cannot hold 6"):
        gpt(x[:, 5:], cache)
    assert torch.equal(cache.keys, before)


def test_the_longest_row_decides_about_the_capacity(make_gpt):
    gpt = make_gpt()
    cache = cache_for(gpt, batch=2, capacity=6)
    cache.lengths = torch.tensor([0, 5])
    with pytest.raises(ValueError, match="cannot hold 7"):
        gpt(torch.randn(2, 2, 32), cache)


def test_the_mask_of_a_cached_pass_is_made_once_for_all_layers(make_gpt, monkeypatch):
    gpt, made = make_gpt(1), []
    monkeypatch.setattr("nanoocr.model.gpt.hide_later_keys", lambda *a: made.append(a) or hide_later_keys(*a))
    gpt(torch.randn(2, 3, 32), cache_for(gpt, batch=2, capacity=6))
    assert len(gpt.transformer.h) == 2 and len(made) == 1


def test_cache_is_as_large_as_its_key_value_heads(make_gpt):
    cache = cache_for(make_gpt(1), batch=3, capacity=9)
    assert cache.keys.shape == cache.values.shape == (2, 3, 1, 9, 8)
