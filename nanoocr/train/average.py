"""A moving average of the weights. It is measured and saved, while the optimiser works on the raw weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from nanoocr.train.sharding import own_part, split_like


class WeightAverage:
    """Exponential moving average of those parameters of a model that train.

    The decay grows with the number of averaged steps n as (1 + n) / (10 + n) until it is the one asked for,
    so that the first weights, which are random, are soon forgotten.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        self.trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.weights = {name: own_part(p).detach().clone() for name, p in self.trained.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights of one more step."""
        # A fixed decay of 0.999 would carry the random start through a thousand steps.
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        raw = [own_part(parameter) for parameter in self.trained.values()]
        # One call for all tensors: a loop over hundreds of small ones would take longer than its arithmetic.
        torch._foreach_lerp_(list(self.weights.values()), raw, 1 - decay)
        self.steps += 1

    @contextmanager
    def in_model(self) -> Iterator[None]:
        """Put the average into the model for the `with` block, and the raw weights back afterwards."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, parameter in self.trained.items():
            # Swapped in place, because optimisers and compiled steps hold on to the very tensors of the
            # model.
            raw = own_part(parameter).clone()
            own_part(parameter).copy_(self.weights[name])
            self.weights[name].copy_(raw)

    def saved(self) -> dict[str, Any]:
        """What a checkpoint needs besides a model file that holds the average: the raw weights."""
        # The model file holds the average while this is saved, and training continues from the raw weights.
        raw = {name: parameter.detach().clone() for name, parameter in self.trained.items()}
        return {"steps": self.steps, "raw": raw}


@torch.no_grad()
def restore_raw(model: nn.Module, saved: dict[str, Any]) -> None:
    """Put the raw weights of `WeightAverage.saved` into a model that was read with the average in it."""
    parameters = dict(model.named_parameters())
    for name, raw in saved["raw"].items():
        own_part(parameters[name]).copy_(own_part(split_like(raw, parameters[name])))
