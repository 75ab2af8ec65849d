"""Muon's orthogonalisation and steps, and the schedules' values."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from nanoocr.train import optim
from nanoocr.train.optim import Muon, is_hidden_matrix, learning_rate_factor, orthogonalise


def with_singular_values(values: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    u, _, v = torch.linalg.svd(torch.randn(rows, columns), full_matrices=False)
    return u @ torch.diag(values) @ v


@pytest.mark.parametrize("shape", [(32, 128), (128, 32), (64, 63), (1, 8), (8, 1), (200, 3)])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e6])
def test_singular_values_come_near_one(shape, scale):
    values = torch.logspace(0, -1.5, min(shape)) * scale
    matrix = with_singular_values(values, *shape)
    out = orthogonalise(matrix[None])[0].float()
    assert out.shape == shape
    found = torch.linalg.svdvals(out)
    assert found.min() > 0.7 and found.max() < 1.3


@pytest.mark.parametrize("shape", [(24, 96), (96, 24)])
def test_it_is_the_nearest_orthogonal_matrix(shape):
    """Same singular vectors: not just any orthogonal matrix."""
    matrix = torch.randn(3, *shape)
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    nearest = u @ v
    assert (orthogonalise(matrix).float() - nearest).norm() < 0.15 * nearest.norm()


@pytest.mark.parametrize(("steps", "low", "high"), [(3, 0.12, 1.88), (4, 0.41, 1.58), (5, 0.85, 1.15)])
def test_fewer_steps_are_rougher(steps, low, high):
    """The ranges that the docstring gives, for singular values that differ by a factor of thirty."""
    matrix = with_singular_values(torch.logspace(0, -1.5, 32), 32, 128)
    found = torch.linalg.svdvals(orthogonalise(matrix[None], steps)[0].float())
    assert low < found.min() and found.max() < high


def test_matrices_of_a_stack_do_not_mix():
    a, b = torch.randn(2, 16, 40)
    both = orthogonalise(torch.stack([a, 1000 * b])).float()
    torch.testing.assert_close(both[0], orthogonalise(a[None])[0].float(), atol=0.02, rtol=0)
    torch.testing.assert_close(both[1], orthogonalise(b[None])[0].float(), atol=0.02, rtol=0)


@pytest.mark.parametrize("fast", [False, True])
def test_the_products_are_in_bf16_only_where_the_device_has_them(fast, monkeypatch):
    """Emulated, those of one step of nano take twenty seconds on two cores; the result looks the same."""
    monkeypatch.setattr(optim, "has_fast_bf16", lambda device: fast)
    seen = []
    real = torch.baddbmm
    monkeypatch.setattr(torch, "baddbmm", lambda x, *a, **k: seen.append(x.dtype) or real(x, *a, **k))
    matrix = torch.randn(2, 8, 12)
    assert orthogonalise(matrix).dtype == torch.bfloat16
    assert set(seen) == {torch.bfloat16 if fast else torch.float32}


def test_zero_stays_zero():
    assert (orthogonalise(torch.zeros(1, 4, 8)) == 0).all()


def muon(*parameters: nn.Parameter, lr: float = 0.05) -> Muon:
    return Muon([{"params": list(parameters), "lr": lr}])


def test_first_step_moves_by_the_rate_along_the_orthogonalised_gradient():
    weight = nn.Parameter(torch.randn(8, 32))
    before = weight.detach().clone()
    weight.grad = torch.randn(8, 32)
    expected = orthogonalise(weight.grad[None])[0].float()
    muon(weight).step()
    torch.testing.assert_close((before - weight) / 0.05, expected, atol=0.05, rtol=0)


def test_tall_matrices_move_by_the_root_of_their_shape():
    tall, wide = nn.Parameter(torch.zeros(64, 16)), nn.Parameter(torch.zeros(16, 64))
    tall.grad = torch.randn(64, 16)
    wide.grad = tall.grad.T.clone()
    muon(tall, wide).step()
    torch.testing.assert_close(tall, 2 * wide.T, atol=2e-3, rtol=0.02)


def test_convolution_counts_as_the_matrix_of_its_outputs():
    conv, matrix = nn.Parameter(torch.zeros(4, 3, 3, 3)), nn.Parameter(torch.zeros(4, 27))
    conv.grad = torch.randn(4, 3, 3, 3)
    matrix.grad = conv.grad.flatten(1).clone()
    muon(conv).step()
    muon(matrix).step()
    torch.testing.assert_close(conv.flatten(1), matrix)


def test_momentum_is_nesterovs():
    weight = nn.Parameter(torch.zeros(6, 6))
    optimizer = muon(weight)
    g1, g2 = torch.randn(2, 6, 6)
    for g in (g1, g2):
        before = weight.detach().clone()
        weight.grad = g
        optimizer.step()
    buffer = 0.95 * (0.05 * g1) + 0.05 * g2
    expected = orthogonalise((0.05 * g2 + 0.95 * buffer)[None])[0].float()
    torch.testing.assert_close((before - weight) / 0.05, expected, atol=0.05, rtol=0)


def test_parameters_of_one_shape_are_updated_as_if_alone():
    grads = torch.randn(3, 6, 10)
    together = [nn.Parameter(torch.zeros(6, 10)) for _ in grads]
    for parameter, grad in zip(together, grads):
        parameter.grad = grad.clone()
    muon(*together).step()
    for parameter, grad in zip(together, grads):
        alone = nn.Parameter(torch.zeros(6, 10))
        alone.grad = grad.clone()
        muon(alone).step()
        torch.testing.assert_close(parameter, alone, atol=1e-3, rtol=0)


def test_parameter_without_a_gradient_stays():
    still, moved = nn.Parameter(torch.ones(4, 4)), nn.Parameter(torch.ones(4, 4))
    moved.grad = torch.randn(4, 4)
    muon(still, moved).step()
    assert (still == 1).all() and not (moved == 1).any()


def test_muon_lowers_a_quadratic():
    target, inputs = torch.randn(12, 20), torch.randn(200, 20)
    weight = nn.Parameter(torch.zeros(12, 20))
    optimizer = muon(weight, lr=0.1)
    losses = []
    for step in range(100):
        loss = (inputs @ (weight - target).T).square().mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - step / 100)
        optimizer.step()
    assert losses[1] < losses[0]
    assert losses[-1] < 0.02 * losses[0]


def test_state_survives_a_round_trip_bit_for_bit():
    a, b = (nn.Parameter(torch.ones(4, 8)) for _ in range(2))
    one, other = muon(a), muon(b)
    a.grad = torch.randn(4, 8)
    one.step()
    with torch.no_grad():
        b.copy_(a)
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    grad = torch.randn(4, 8)
    a.grad, b.grad = grad.clone(), grad.clone()
    one.step()
    other.step()
    assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("gpt.transformer.h.0.attn.c_q.weight", (8, 8), True),
        ("gpt.transformer.h.0.mlp.c_proj.weight", (8, 32), True),
        ("gpt.transformer.wte.weight", (266, 8), False),
        ("gpt.lm_head.weight", (266, 8), False),
        ("encoder.sam_model.patch_embed.proj.weight", (8, 3, 16, 16), False),
        ("encoder.sam_model.blocks.0.attn.qkv.weight", (24, 8), True),
        ("encoder.sam_model.blocks.0.attn.qkv.bias", (24,), False),
        ("encoder.sam_model.blocks.0.attn.rel_pos_h", (7, 4), False),
        ("encoder.sam_model.pos_embed", (1, 4, 8, 8), False),
        ("encoder.sam_model.neck.2.weight", (8, 8, 3, 3), True),
        ("encoder.sam_model.net_3.weight", (16, 8, 3, 3), True),
        ("encoder.vision_model.embeddings.position_embedding.weight", (9, 8), False),
        ("encoder.vision_model.embeddings.class_embedding", (8,), False),
        ("encoder.projector.layers.weight", (8, 16), True),
        ("encoder.image_newline", (8,), False),
    ],
)
def test_hidden_matrices(name, shape, expected):
    assert is_hidden_matrix(name, torch.empty(shape)) is expected


# ---------------------------------------------------------------------------------------------------------
# schedules


def factors(schedule: str, steps: int = 100, warmup: int = 10, **options: float) -> list[float]:
    return [
        learning_rate_factor(step, steps, schedule=schedule, warmup=warmup, **options)
        for step in range(steps)
    ]


@pytest.mark.parametrize("schedule", ["cosine", "trapezoid", "step", "constant"])
def test_warm_up_rises_to_one_in_equal_steps(schedule):
    assert factors(schedule)[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert factors(schedule)[10] == pytest.approx(1.0)
    assert factors(schedule, warmup=0)[0] == pytest.approx(1.0)


def test_cosine():
    values = factors("cosine")
    assert values[55] == pytest.approx(0.5)
    assert values[99] == pytest.approx(0.5 * (1 + math.cos(math.pi * 89 / 90)))
    assert 0 < values[99] < 1e-3
    assert values[10:] == sorted(values[10:], reverse=True)


def test_trapezoid():
    values = factors("trapezoid", cooldown=0.4)
    assert values[10:61] == pytest.approx([1.0] * 51)
    assert values[61:] == pytest.approx([(100 - step) / 40 for step in range(61, 100)])
    assert values[99] == pytest.approx(1 / 40)


def test_trapezoid_without_cooldown_stays_up():
    assert factors("trapezoid", cooldown=0.0)[10:] == pytest.approx([1.0] * 90)


def test_step():
    values = factors("step", warmup=0, step_every=30, step_factor=0.1)
    assert [values[i] for i in (0, 29, 30, 59, 60, 89, 90)] == pytest.approx(
        [1, 1, 0.1, 0.1, 0.01, 0.01, 0.001]
    )


def test_constant():
    assert factors("constant")[10:] == [1.0] * 90


@pytest.mark.parametrize("schedule", ["cosine", "trapezoid", "step", "constant"])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_the_shortest_runs_train_too(schedule, steps):
    assert all(0 < factor <= 1 for factor in factors(schedule, steps=steps, warmup=0))
