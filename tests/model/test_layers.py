"""Attention, dtype-following layers, and the resizing of position tables."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from nanoocr.model import layers
from nanoocr.model.layers import MANY, Conv2d, LayerNorm, Linear, attend, resize_grid

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="GPU"))]


def qkv(T: int, S: int, device: str = "cpu") -> list[torch.Tensor]:
    return [torch.randn(2, 3, n, 8, device=device, requires_grad=True) for n in (T, S, S)]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("shape", [(2, 3, 5, 7), (2, 1, 5, 7), (1, 3, 1, 7)])
def test_attend_with_bias_is_scaled_dot_product_attention(device, shape):
    q, k, v = qkv(5, 7, device)
    bias = torch.randn(shape, device=device)
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    torch.testing.assert_close(attend(q, k, v, bias=bias), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("causal", [False, True])
def test_attend_and_its_gradient(device, causal):
    q, k, v = qkv(6, 6, device)
    ours = attend(q, k, v, causal=causal)
    expected = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)
    weight = torch.randn_like(ours)
    grads = torch.autograd.grad((ours * weight).sum(), (q, k, v))
    wanted = torch.autograd.grad((expected * weight).sum(), (q, k, v))
    for grad, want in zip(grads, wanted):
        torch.testing.assert_close(grad, want, atol=1e-5, rtol=1e-5)


def test_attend_gives_the_bias_a_gradient():
    q, k, v = qkv(4, 4)
    bias = torch.zeros(2, 3, 4, 4, requires_grad=True)
    attend(q, k, v, bias=bias).square().sum().backward()
    assert bias.grad is not None and bias.grad.abs().max() > 1e-4


def test_attend_does_not_overflow_at_huge_scores():
    q, k, v = (tensor.detach() * 1000 for tensor in qkv(5, 5))
    assert attend(q, k, v).isfinite().all()


def test_attend_keeps_bf16_and_stays_close():
    q, k, v = (tensor.detach() for tensor in qkv(40, 40))
    low = attend(q.bfloat16(), k.bfloat16(), v.bfloat16(), causal=True)
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.float(), attend(q, k, v, causal=True), atol=0.03, rtol=0.03)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (Linear(4, 6), (2, 4)),
        (Linear(4, 6, bias=False), (2, 4)),
        (Conv2d(4, 6, kernel_size=3, stride=2, padding=1), (2, 4, 8, 8)),
        (Conv2d(4, 6, kernel_size=3, bias=False), (2, 4, 8, 8)),
        (LayerNorm(4, eps=1e-6), (2, 4)),
    ],
)
def test_layers_compute_in_the_dtype_of_their_input(layer, shape, dtype, randomise):
    randomise(layer)
    x = torch.randn(shape)
    out = layer(x.to(dtype))
    assert out.dtype == dtype
    assert all(parameter.dtype == torch.float32 for parameter in layer.parameters())  # the masters
    plain = type(layer).__mro__[1]  # torch's own layer
    tolerance = 1e-6 if dtype == torch.float32 else 0.05
    torch.testing.assert_close(out.float(), plain.forward(layer, x), atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("rows", [(0,), (1,), (MANY - 1,), (MANY,), (2, 3, MANY // 4)])
@pytest.mark.parametrize("large", [0, 10**9])  # of no weight, of every weight
@pytest.mark.parametrize("wide", [False, True])  # vectors of 256 bits, of 512
def test_linear_and_its_gradient_through_any_library(rows, biased, large, wide, monkeypatch):
    monkeypatch.setattr(layers, "LARGE", large)
    monkeypatch.setattr(layers, "AVX512", wide)
    x = torch.randn(*rows, 2, 5)[..., 0, :].requires_grad_()
    weight, bias = torch.randn(7, 5, requires_grad=True), torch.randn(7, requires_grad=True)
    leaves = (x, weight, bias) if biased else (x, weight)
    ours, wanted = (
        function(x, weight, bias if biased else None).sin() for function in (layers.linear, F.linear)
    )
    assert ours.is_contiguous()
    torch.testing.assert_close(ours, wanted)
    for grad, want in zip(torch.autograd.grad(ours.sum(), leaves), torch.autograd.grad(wanted.sum(), leaves)):
        torch.testing.assert_close(grad, want, atol=1e-4, rtol=1e-4)


def test_resize_grid_at_native_size_changes_nothing():
    table = torch.randn(1, 4, 6, 3)
    assert resize_grid(table, (4, 6)) is table


def test_resize_grid_takes_height_then_width():
    rows = torch.arange(8.0).view(1, 8, 1, 1).expand(1, 8, 4, 2)  # varies along the height alone
    out = resize_grid(rows, (16, 4))
    assert out.shape == (1, 16, 4, 2)
    assert torch.allclose(out, out[:, :, :1, :1].expand_as(out), atol=1e-5)
    steps = out[0, 4:-4, 0, 0].diff()  # away from the border a bicubic resize of a ramp is a ramp
    torch.testing.assert_close(steps, torch.full_like(steps, 0.5), atol=0.02, rtol=0)


def test_resize_grid_is_antialiased():
    """Down by four, a checkerboard averages out; a plain bicubic sample would still see it."""
    board = ((torch.arange(32)[:, None] + torch.arange(32)) % 2).float().view(1, 32, 32, 1)
    inner = resize_grid(board, (8, 8))[0, 1:-1, 1:-1, 0]
    torch.testing.assert_close(inner, torch.full_like(inner, 0.5), atol=0.01, rtol=0)


def test_resize_grid_is_bicubic():
    """Upwards, a single peak overshoots below zero around itself: bilinear never would."""
    peak = torch.zeros(1, 7, 7, 1)
    peak[0, 3, 3] = 1
    assert resize_grid(peak, (14, 14)).min() < -0.01


def test_resize_grid_computes_in_fp32_and_has_a_gradient():
    table = torch.randn(1, 4, 4, 3, dtype=torch.bfloat16, requires_grad=True)
    out = resize_grid(table, (6, 2))
    assert out.dtype == torch.float32
    out.square().sum().backward()
    assert table.grad is not None and (table.grad != 0).all()


@pytest.mark.skipif(not torch.backends.mps.is_available(), reason="needs a Mac's GPU")
def test_resize_grid_has_a_gradient_on_mps():
    table = torch.randn(1, 4, 4, 3, device="mps", requires_grad=True)
    out = resize_grid(table, (6, 2))
    assert out.device.type == "mps"
    torch.testing.assert_close(out.cpu(), resize_grid(table.detach().cpu(), (6, 2)))
    out.square().sum().backward()
    assert table.grad is not None and (table.grad != 0).all()
