"""CLIP: positions, class token, blocks."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from nanoocr.config import preset
from nanoocr.model.clip import Clip, Embeddings, Layer, Mlp
from nanoocr.model.vlm import count_parameters


def test_d20_size():
    with torch.device("meta"):
        clip = Clip(preset("d20").clip)
    assert count_parameters(clip) == 302_575_616  # CLIP-L's 303,177,728 without its unused patch convolution


@pytest.fixture
def embeddings(tiny_config, randomise) -> Embeddings:
    module = Embeddings(tiny_config.clip)
    randomise(module)
    return module


def test_class_token_first_then_the_grid_row_by_row(embeddings):
    grid = torch.randn(2, 24, 1, 2)
    out = embeddings(grid)
    table = embeddings.position_embedding.weight
    assert out.shape == (2, 3, 24)
    torch.testing.assert_close(out[1, 0], embeddings.class_embedding + table[0])
    torch.testing.assert_close(out[1, 1], grid[1, :, 0, 0] + table[1])
    torch.testing.assert_close(out[1, 2], grid[1, :, 0, 1] + table[2])


def test_tokens_of_a_tall_grid_run_row_by_row(embeddings):
    grid = torch.randn(1, 24, 3, 2)
    moved = embeddings(grid) - embeddings(torch.zeros_like(grid))
    expected = [grid[0, :, row, column] for row in range(3) for column in range(2)]
    torch.testing.assert_close(moved[0, 1:], torch.stack(expected), atol=1e-5, rtol=1e-5)


def test_positions_at_native_size_are_the_table(embeddings):
    assert torch.equal(embeddings.positions(1, 2), embeddings.position_embedding.weight)


def test_positions_elsewhere_keep_the_class_row(embeddings):
    positions = embeddings.positions(3, 5)
    assert positions.shape == (16, 24)
    assert torch.equal(positions[0], embeddings.position_embedding.weight[0])


def test_positions_take_height_then_width(embeddings):
    """The native table is one row of two: resized to three rows of two, all rows are alike."""
    grid = embeddings.positions(3, 2)[1:].view(3, 2, 24)
    torch.testing.assert_close(grid, embeddings.position_embedding.weight[1:].expand(3, 2, 24))


def test_mlp_is_quick_gelu(randomise):
    mlp = Mlp(4)
    randomise(mlp)
    x = torch.randn(5, 4) * 3
    hidden = F.linear(x, mlp.fc1.weight, mlp.fc1.bias)
    expected = F.linear(hidden / (1 + (-1.702 * hidden).exp()), mlp.fc2.weight, mlp.fc2.bias)
    torch.testing.assert_close(mlp(x), expected, atol=1e-5, rtol=1e-5)


def test_layer_equals_the_slow_one(tiny_config, randomise):
    layer = Layer(tiny_config.clip)
    randomise(layer)
    x = torch.randn(1, 5, 24)
    normed = F.layer_norm(x[0], (24,), layer.layer_norm1.weight, layer.layer_norm1.bias, eps=1e-5)
    q, k, v = F.linear(normed, layer.self_attn.qkv_proj.weight, layer.self_attn.qkv_proj.bias).split(24, -1)
    mixed = torch.zeros(5, 24)
    for head in range(3):
        part = slice(head * 8, head * 8 + 8)
        for i in range(5):
            mixed[i, part] = (k[:, part] @ q[i, part] / 8**0.5).softmax(0) @ v[:, part]
    y = x + F.linear(mixed, layer.self_attn.out_proj.weight, layer.self_attn.out_proj.bias)
    expected = y + layer.mlp(F.layer_norm(y, (24,), layer.layer_norm2.weight, layer.layer_norm2.bias, 1e-5))
    torch.testing.assert_close(layer(x), expected, atol=1e-5, rtol=1e-5)


def test_class_token_takes_part_but_is_left_out(tiny_config, randomise):
    clip = Clip(tiny_config.clip)
    randomise(clip)
    grid = torch.randn(1, 24, 2, 2)
    before = clip(grid)
    assert before.shape == (1, 4, 24)
    with torch.no_grad():
        clip.embeddings.class_embedding.copy_(torch.randn(24))  # no constant: norms would not see it
    assert ((clip(grid) - before).abs() > 1e-4).any(-1).all()


def test_attention_is_bidirectional(tiny_config, randomise):
    clip = Clip(tiny_config.clip)
    randomise(clip)
    grid = torch.randn(1, 24, 1, 4)
    other = grid.clone()
    other[0, :, 0, -1] = torch.randn(24)
    assert ((clip(other) - clip(grid)).abs() > 1e-5).any(-1).all()
