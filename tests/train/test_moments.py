"""Moments in bf16: what rounding costs, that they are saved exactly, and that training loses little."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from nanoocr.data.batch import collate
from nanoocr.data.example import prepare
from nanoocr.data.loader import Delivery, StreamState
from nanoocr.model.vlm import VLM
from nanoocr.train.config import TrainConfig
from nanoocr.train.optim import AdamW, Muon
from nanoocr.train.recipes import recipe
from nanoocr.train.run import Run
from nanoocr.train.state import build_state
from nanoocr.train.step import train_step


def test_adamw_is_torchs_adamw():
    ours, theirs = (nn.Parameter(torch.ones(6, 5)) for _ in range(2))
    one = AdamW([{"params": [ours], "lr": 0.01, "weight_decay": 0.1}], moments=torch.float32)
    other = torch.optim.AdamW([theirs], lr=0.01, betas=(0.9, 0.95), weight_decay=0.1)
    for _ in range(20):
        ours.grad = torch.randn(6, 5)
        theirs.grad = ours.grad.clone()
        one.step()
        other.step()
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)


# ---------------------------------------------------------------------------------------------------------
# what rounding does to the root of the second moment, which divides the update


def off(beta: float, steps: int, gradient: Callable[[], Tensor], kept_as_root: bool = False) -> Tensor:
    """Relative errors of the root after `steps`, where the moment is rounded to bf16 at each."""
    exact, rounded = torch.zeros(4000), torch.zeros(4000)
    for _ in range(steps):
        square = gradient().square()
        exact = exact * beta + square * (1 - beta)
        rounded = rounded * beta + square * (1 - beta)
        rounded = rounded.sqrt().bfloat16().float().square() if kept_as_root else rounded.bfloat16().float()
    return (rounded / exact).sqrt() - 1


def noise() -> Tensor:
    return torch.randn(4000)


def size(errors: Tensor) -> float:
    return float(errors.square().mean().sqrt())


def test_the_second_moment_follows_in_bf16_at_a_beta_of_095():
    constant = torch.rand(4000) + 0.1
    assert size(off(0.95, 200, noise)) < 0.005
    assert size(off(0.95, 200, lambda: constant)) < 0.04  # it stops short of what stays the same
    assert size(off(0.95, 200, noise, kept_as_root=True)) > 1.5 * size(off(0.95, 200, noise))
    assert size(off(0.99, 800, noise)) > 0.015
    with pytest.raises(ValueError, match=r"beta2=0\.99"):
        AdamW([{"params": [nn.Parameter(torch.ones(2))]}], betas=(0.9, 0.99))


# ---------------------------------------------------------------------------------------------------------
# saved and read


@pytest.mark.parametrize("kind", [Muon, AdamW])
def test_moments_in_bf16_go_on_from_a_file_bit_for_bit(kind):
    a, b = (nn.Parameter(torch.ones(4, 8)) for _ in range(2))
    one, other = (kind([{"params": [p], "lr": 0.02}], moments=torch.bfloat16) for p in (a, b))
    for _ in range(3):
        a.grad = torch.randn(4, 8)
        one.step()
    buffer = io.BytesIO()
    torch.save(copy.deepcopy(one.state_dict()), buffer)
    other.load_state_dict(torch.load(io.BytesIO(buffer.getvalue()), weights_only=True))
    with torch.no_grad():
        b.copy_(a)
    for _ in range(3):
        a.grad = torch.randn(4, 8)
        b.grad = a.grad.clone()
        one.step()
        other.step()
    assert torch.equal(a, b)
    moments = [value for state in other.state.values() for name, value in state.items() if name != "step"]
    assert moments and all(moment.dtype == torch.bfloat16 for moment in moments)


# ---------------------------------------------------------------------------------------------------------
# training


def test_training_loses_little(tiny_config, byte_tokenizer, make_row):
    """Four pictures with the same question: after 60 steps the loss is the same to a few per cent."""
    rows = [make_row(i, answer=word, chars="abc") for i, word in enumerate(["apple", "red", "12.5 kg", "x"])]
    batch = collate([prepare(row, byte_tokenizer, tiny_config.views, 128) for row in rows], 0)
    chosen, ends = recipe("scratch", 1), []
    for moments in ("float32", "bfloat16"):
        torch.manual_seed(0)
        model, config = VLM(tiny_config), TrainConfig(steps=60, moments=moments)
        model.init_weights(0)
        state = build_state(Run(config, chosen), model)
        delivered = [Delivery(batch, 0, StreamState(0, ()), {}, {})]
        losses = [train_step(Run(config, chosen), state, delivered).losses["total"] for _ in range(60)]
        ends.append((float(losses[0]), sum(map(float, losses[-5:])) / 5))
        kept = [v for o in state.optimizers for s in o.state.values() for n, v in s.items() if n != "step"]
        assert {str(value.dtype) for value in kept} == {f"torch.{moments}"} and len(state.optimizers) == 2
    (first, plain), (also_first, rounded) = ends
    assert first == also_first and plain < 0.5 * first
    assert rounded == pytest.approx(plain, rel=0.1) and rounded != plain
