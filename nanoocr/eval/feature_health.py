"""Checks that the encoder has not collapsed: centred cosine, effective rank, place of a blank picture.

A collapsed encoder gives every picture nearly the same features. The plain cosine cannot show this, because
healthy features share a large mean and have a cosine near one too. So the mean is removed first.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class FeatureHealth(NamedTuple):
    """Statistics of one feature per picture over a set of pictures."""

    centred_cosine: float  # mean |cosine| of pairs after the mean is removed: 1 = collapsed to a line
    effective_rank: float  # exp(entropy of the covariance spectrum): 1 = one direction, at most min(n - 1, d)
    spread: float  # std around the mean, relative to the mean's length: 0 = all pictures the same
    blank_distance: float  # distance of the blank picture from the mean, in units of the mean distance


@torch.no_grad()
def feature_health(features: Tensor, blank: Tensor) -> FeatureHealth:
    """Health of (n, d) features of n >= 3 different pictures and (d,) features of a blank one."""
    features, blank = features.double(), blank.double()
    mean = features.mean(dim=0)
    centred = features - mean
    lengths = centred.norm(dim=1)
    unit = centred / lengths.clamp_min(1e-12)[:, None]
    pairs = ~torch.eye(len(features), dtype=torch.bool, device=features.device)
    spectrum = torch.linalg.svdvals(centred).square()
    share = spectrum / spectrum.sum().clamp_min(1e-24)
    entropy = -(share * share.clamp_min(1e-24).log()).sum()
    return FeatureHealth(
        centred_cosine=float((unit @ unit.T)[pairs].abs().mean()),
        effective_rank=float(entropy.exp()),
        spread=float(lengths.square().mean().sqrt() / mean.norm().clamp_min(1e-12)),
        blank_distance=float((blank - mean).norm() / lengths.mean().clamp_min(1e-12)),
    )


def picture_vector(tokens_VNC: Tensor) -> Tensor:
    """One vector per picture, (V, N, C) -> (V, N*C). Positions are kept apart, so that layout counts."""
    return tokens_VNC.flatten(1)
