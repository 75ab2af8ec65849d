"""The moving average of the weights: its arithmetic, its start, and the swap with the raw weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nanoocr.train.average import WeightAverage, restore_raw


@pytest.fixture
def model() -> nn.Linear:
    linear = nn.Linear(2, 1, bias=True)
    nn.init.zeros_(linear.weight)
    linear.bias.requires_grad_(False)
    return linear


def walk(model: nn.Linear, average: WeightAverage, values: list[float]) -> None:
    for value in values:
        nn.init.constant_(model.weight, value)
        average.update()


def test_decay_grows_to_the_one_asked_for(model):
    average = WeightAverage(model, decay=0.15)
    walk(model, average, [1.0, 2.0, 3.0])
    expected = 0.0
    for decay, value in ((1 / 10, 1.0), (0.15, 2.0), (0.15, 3.0)):  # (1 + 1) / (10 + 1) is above 0.15 already
        expected = decay * expected + (1 - decay) * value
    with average.in_model():
        torch.testing.assert_close(model.weight, torch.full((1, 2), expected))
    assert model.weight.tolist() == [[3.0, 3.0]]


def test_what_does_not_train_is_not_kept_twice(model):
    assert list(WeightAverage(model, 0.9).weights) == ["weight"]


def test_raw_weights_return_also_after_an_error(model):
    average = WeightAverage(model, decay=0.9)
    walk(model, average, [1.0])
    with pytest.raises(ValueError, match="in the middle"), average.in_model():
        raise ValueError("in the middle")
    assert model.weight.tolist() == [[1.0, 1.0]]


def test_saved_and_restored(model):
    average = WeightAverage(model, decay=0.9)
    walk(model, average, [1.0, 2.0])
    saved = average.saved()
    with average.in_model():
        held = model.weight.detach().clone()
        assert not torch.equal(held, torch.full_like(held, 2.0))
        restore_raw(model, saved)
        assert model.weight.tolist() == [[2.0, 2.0]]
