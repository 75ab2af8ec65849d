"""SAM: windows, relative positions and the compressor, against slow code that shares nothing with it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nanoocr.config import preset
from nanoocr.model import sam
from nanoocr.model.layers import attend
from nanoocr.model.sam import (
    Attention,
    Block,
    PatchEmbed,
    Sam,
    attend_by_coordinates,
    init_patches,
    relative_table,
    window_partition,
    window_unpartition,
    with_coordinates,
)
from nanoocr.model.vlm import count_parameters

# ---------------------------------------------------------------------------------------------------------
# windows


@pytest.mark.parametrize("grid", [(6, 6), (4, 8), (7, 5), (2, 9), (1, 1)])
def test_window_round_trip(grid):
    x = torch.randn(2, *grid, 5)
    windows = window_partition(x, 3)
    assert windows.shape == (2 * -(-grid[0] // 3) * -(-grid[1] // 3), 3, 3, 5)
    assert torch.equal(window_unpartition(windows, grid), x)


def test_windows_run_row_by_row_and_padding_is_right_and_bottom():
    x = torch.arange(1.0, 21).view(1, 4, 5, 1)
    windows = window_partition(x, 3)[..., 0]
    assert windows[0].tolist() == [[1, 2, 3], [6, 7, 8], [11, 12, 13]]
    assert windows[1].tolist() == [[4, 5, 0], [9, 10, 0], [14, 15, 0]]
    assert windows[2].tolist() == [[16, 17, 18], [0, 0, 0], [0, 0, 0]]


def test_windows_of_two_pictures_do_not_mix():
    a, b = torch.randn(2, 4, 8, 3)
    both = window_partition(torch.stack([a, b]), 3)
    assert torch.equal(both, torch.cat([window_partition(a[None], 3), window_partition(b[None], 3)]))


# ---------------------------------------------------------------------------------------------------------
# relative positions


def test_positions_as_coordinates_are_the_bias():
    """Output and all five gradients of attention equal those with the written-out bias."""
    H, W, D = 3, 5, 8
    shapes = [(2, 2, H * W, D)] * 3 + [(2, 2, H, W, H), (2, 2, H, W, W)]
    inputs = [torch.randn(*shape, requires_grad=True) for shape in shapes]
    q, k, v, by_row, by_column = inputs
    bias = (by_row[..., :, None] + by_column[..., None, :]).flatten(4).flatten(2, 3)
    expected = (q @ k.mT / D**0.5 + bias).softmax(-1) @ v
    ours = attend(*with_coordinates(q, k, by_row, by_column), v, scale=1.0)
    torch.testing.assert_close(ours, expected)
    seed = torch.randn_like(ours)
    for found, wanted in zip(
        torch.autograd.grad(ours, inputs, seed), torch.autograd.grad(expected, inputs, seed), strict=True
    ):
        torch.testing.assert_close(found, wanted)


def test_the_way_of_gpus_is_the_bias_too():
    """One width for q, k and v, a multiple of 8, as fused kernels want it: 8 + 3 + 6 is 17."""
    H, W, D = 3, 6, 8
    shapes = [(2, 2, H * W, D)] * 3 + [(2, 2, H, W, H), (2, 2, H, W, W)]
    q, k, v, by_row, by_column = (torch.randn(*shape) for shape in shapes)
    bias = (by_row[..., :, None] + by_column[..., None, :]).flatten(4).flatten(2, 3)
    expected = (q @ k.mT / D**0.5 + bias).softmax(-1) @ v
    torch.testing.assert_close(attend_by_coordinates(q, k, v, by_row, by_column), expected)


@pytest.mark.parametrize("positions", ["mask", "coordinates"])
def test_what_a_gpu_would_run_has_the_shapes_of_what_a_cpu_runs(monkeypatch, positions):
    """The meta device goes the way of GPUs: both forms of the positions, forward and backward."""
    monkeypatch.setattr(sam, "GPU_POSITIONS", positions)
    monkeypatch.setattr(sam, "GPU_SCORES_AT_ONCE", 1000)  # several parts
    attention = sam.Attention(32, 2, (8, 8))
    x = torch.randn(2, 8, 6, 32)
    assert attention.to("meta")(x.to("meta")).shape == x.shape
    attention(x.to("meta")).sum().backward()
    assert attention.rel_pos_h.grad is not None and attention.rel_pos_h.grad.shape == (15, 16)


@pytest.mark.parametrize("width", [4, 64])
def test_both_ways_of_attention_are_the_same(width):
    """A head of 64 takes positions as coordinates, one of 4 takes a bias: against a slow formula."""
    torch.manual_seed(0)
    layer = Attention(width, 1, (3, 5))
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x = torch.randn(1, 3, 5, width)
    q, k, v = layer.qkv(x).view(15, 3, width).unbind(1)
    expected = torch.empty(15, width)
    for i in range(15):
        scores = torch.empty(15)
        for j in range(15):
            row, column = i // 5 - j // 5 + 2, i % 5 - j % 5 + 4
            position = q[i] @ (layer.rel_pos_h[row] + layer.rel_pos_w[column])
            scores[j] = q[i] @ k[j] / width**0.5 + position
        expected[i] = scores.softmax(0) @ v
    torch.testing.assert_close(layer(x).view(15, width), layer.proj(expected), atol=1e-5, rtol=1e-4)


def test_relative_table_indices():
    table = torch.arange(9.0)[:, None].expand(9, 2)  # native length 5: row r stands for the distance r - 4
    looked_up = relative_table(table, 5)
    assert looked_up.shape == (5, 5, 2)
    for i in range(5):
        for j in range(5):
            assert looked_up[i, j, 0] == i - j + 4


@pytest.mark.parametrize("length", [2, 3, 8, 20])
def test_relative_table_of_another_length_is_resized_linearly(length):
    """Against the definition of linear interpolation with half-pixel centres, entry by entry."""
    table = torch.randn(9, 3)
    looked_up = relative_table(table, length)
    assert looked_up.shape == (length, length, 3)
    for i in range(length):
        for j in range(length):
            place = (i - j + length - 1 + 0.5) * 9 / (2 * length - 1) - 0.5
            low = int(min(max(place, 0), 8))
            share = min(max(place, 0.0), 8.0) - low
            expected = (1 - share) * table[low] + share * table[min(low + 1, 8)]
            torch.testing.assert_close(looked_up[i, j], expected, atol=1e-5, rtol=0)


def slow_attention(layer: Attention, x_HWC: torch.Tensor) -> torch.Tensor:
    """One picture, one query and one head at a time, in float64; tables must be of native length."""
    H, W, C = x_HWC.shape
    D = C // layer.heads
    weights = {name: tensor.double() for name, tensor in layer.state_dict().items()}
    qkv = x_HWC.double().reshape(H * W, C) @ weights["qkv.weight"].T + weights["qkv.bias"]
    out = torch.zeros(H * W, C, dtype=torch.float64)
    for head in range(layer.heads):
        q, k, v = (qkv[:, part * C + head * D : part * C + (head + 1) * D] for part in range(3))
        for i in range(H * W):
            scores = k @ q[i] * D**-0.5
            for j in range(H * W):
                scores[j] += q[i] @ weights["rel_pos_h"][i // W - j // W + H - 1]
                scores[j] += q[i] @ weights["rel_pos_w"][i % W - j % W + W - 1]
            out[i, head * D : (head + 1) * D] = scores.softmax(0) @ v
    return (out @ weights["proj.weight"].T + weights["proj.bias"]).view(H, W, C).float()


@pytest.mark.parametrize("grid", [(3, 3), (2, 5), (4, 3)])
def test_attention_equals_the_slow_one(grid, randomise):
    layer = Attention(8, heads=2, grid=grid)
    randomise(layer)
    x = torch.randn(2, *grid, 8)
    expected = torch.stack([slow_attention(layer, picture) for picture in x])
    torch.testing.assert_close(layer(x), expected, atol=1e-5, rtol=1e-5)


def test_windowed_block_equals_the_slow_one_padding_included(tiny_config, randomise):
    """Padded positions are zeros before the qkv layer and take part in attention with its bias."""
    block = Block(tiny_config.sam, window=3)
    randomise(block)
    x = torch.randn(1, 4, 5, 16)
    normed = F.pad(block.norm1(x)[0], (0, 0, 0, 1, 0, 2))
    attended = torch.zeros(6, 6, 16)
    for top in (0, 3):
        for left in (0, 3):
            window = normed[top : top + 3, left : left + 3]
            attended[top : top + 3, left : left + 3] = slow_attention(block.attn, window)
    y = x + attended[None, :4, :5]
    hidden = F.layer_norm(y, (16,), block.norm2.weight, block.norm2.bias, eps=1e-6)
    hidden = F.gelu(hidden @ block.mlp.lin1.weight.T + block.mlp.lin1.bias)
    expected = y + hidden @ block.mlp.lin2.weight.T + block.mlp.lin2.bias
    torch.testing.assert_close(block(x), expected, atol=2e-5, rtol=1e-5)


def test_windowed_block_sees_its_window_and_a_global_one_the_picture(tiny_config, randomise):
    for window in (3, 0):
        block = Block(tiny_config.sam, window=window)
        randomise(block)
        x = torch.randn(1, 4, 8, 16)
        other = x.clone()
        other[0, 0, 0] = torch.randn(16)  # no constant: a norm would not see it
        changed = (block(x) != block(other)).any(-1)[0]
        inside = torch.zeros(4, 8, dtype=torch.bool)
        inside[:3, :3] = True
        assert torch.equal(changed, inside if window else torch.ones_like(inside))


# ---------------------------------------------------------------------------------------------------------
# the whole


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_grey_pixels_need_one_channel(dtype, randomise, monkeypatch):
    embed = PatchEmbed(4)
    randomise(embed)
    grey = (torch.rand(2, 1, 32, 48) * 2 - 1).expand(-1, 3, -1, -1).to(dtype)
    wanted = embed(grey).detach()  # with gradients all channels take part
    taken = []
    monkeypatch.setattr(embed, "of_grey", lambda pixels: taken.append(1) or PatchEmbed.of_grey(embed, pixels))
    with torch.inference_mode():
        tolerance = 1e-5 if dtype == torch.float32 else 0.05
        torch.testing.assert_close(embed(grey), wanted, atol=tolerance, rtol=tolerance)
        assert taken == [1]
        tinted = grey.clone()
        tinted[1, 2, 31, 47] = 0.5  # a single value of blue
        torch.testing.assert_close(embed(tinted)[0], wanted[0], atol=tolerance, rtol=tolerance)
        assert taken == [1]


def test_patches_are_cut_row_by_row(randomise):
    embed = PatchEmbed(4)
    randomise(embed)
    pixels = torch.randn(1, 3, 32, 48)
    for row in range(2):
        for column in range(3):
            patch = pixels[0, :, row * 16 : row * 16 + 16, column * 16 : column * 16 + 16]
            expected = (embed.proj.weight * patch).sum((1, 2, 3)) + embed.proj.bias
            torch.testing.assert_close(embed(pixels)[0, row, column], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("grid", [(4, 8), (8, 4), (8, 8), (12, 4)])
def test_shapes_of_any_view(tiny_config, randomise, grid):
    sam = Sam(tiny_config.sam)
    randomise(sam)
    patches, compressed = sam(torch.randn(2, 3, grid[0] * 16, grid[1] * 16))
    assert patches.shape == (2, 8, *grid)
    assert compressed.shape == (2, 24, grid[0] // 4, grid[1] // 4)
    assert compressed.isfinite().all()


def test_nothing_stands_between_neck_and_compressor(tiny_config, randomise):
    """The compressor is linear and without bias: no norm, no activation."""
    sam = Sam(tiny_config.sam)
    randomise(sam)
    patches, compressed = sam(torch.randn(1, 3, 64, 128))
    torch.testing.assert_close(sam.net_3(sam.net_2(3 * patches)), 3 * compressed, atol=1e-4, rtol=1e-4)
    assert sam.net_2.bias is None and sam.net_3.bias is None


def test_windows_and_global_blocks_are_where_the_config_puts_them(tiny_config):
    sam = Sam(tiny_config.sam)
    assert [block.attn.window for block in sam.blocks] == [3, 0]
    assert sam.blocks[0].attn.rel_pos_h.shape == sam.blocks[0].attn.rel_pos_w.shape == (5, 8)
    assert sam.blocks[1].attn.rel_pos_h.shape == (7, 8)
    assert sam.blocks[1].attn.rel_pos_w.shape == (15, 8)


def test_d20_size_with_the_compressor():
    with torch.device("meta"):
        sam = Sam(preset("d20").sam)
    assert count_parameters(sam) == 95_569_152
    assert count_parameters(sam.net_2) == 1_179_648 and count_parameters(sam.net_3) == 4_718_592
    assert sam.blocks[0].attn.rel_pos_h.shape == (27, 64)
    assert sam.blocks[2].attn.rel_pos_h.shape == (127, 64)


def test_fresh_weights_let_the_picture_through(tiny_config):
    """Of a fresh encoder different pictures give different features, of a size that training can use."""
    sam = Sam(tiny_config.sam)
    sam.init_weights(torch.Generator().manual_seed(0))
    a, b = sam(torch.rand(2, 3, 64, 128) * 2 - 1).grid
    assert 0.1 < a.std() < 10
    assert (a - b).norm() > 0.05 * a.norm()
    assert all(parameter.isfinite().all() for parameter in sam.parameters())


def test_patches_start_as_the_cosine_transform_of_grey_pixels():
    """Orthonormal filters, low frequencies first; the constant one tells a sixteenth of its ground."""
    conv = nn.Conv2d(3, 300, 16, 16)
    kept = conv.weight[256:].clone()
    init_patches(conv.weight)
    filters = conv.weight[:256].sum(1).flatten(1)
    expected = torch.eye(256)
    expected[0, 0] = 1 / 256
    torch.testing.assert_close(filters @ filters.T, expected, atol=1e-5, rtol=0)
    assert torch.equal(conv.weight[256:], kept)
    ramp = torch.linspace(-1, 1, 16).expand(1, 3, 16, 16)  # from left to right, one dark half
    said = (filters @ ramp[0].mean(0).flatten()).abs()
    assert said.argmax() == 1 and abs(said[0]) < 1e-5
