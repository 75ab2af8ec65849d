"""The feature regulariser. It keeps the pictures of a micro-batch apart where there are no character boxes.

It has VICReg's variance and covariance terms (arXiv 2105.04906, section 4.1): a hinge on the standard
deviation of every feature over the pictures, and the squared covariance of all pairs of features. Its input
is the vector that the collapse monitor measures, made of the projected tokens. They are normalised as the GPT
does it, so that the model cannot satisfy the loss with a larger scale.

Letters: V pictures of one size, N tokens of a picture, C width, D = N * C.
"""

from __future__ import annotations

from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor

from nanoocr.data.batch import Batch
from nanoocr.eval.feature_health import picture_vector
from nanoocr.model.deepencoder import VisionFeatures
from nanoocr.model.gpt import norm

SPREAD = 0.5  # wanted standard deviation of a feature; a normalised token has a mean square of 1
COVARIANCE = 0.04  # weight of the covariance relative to the hinge: 1 to 25, as in the paper
EPSILON = 1e-4  # added under the root, as in the paper


def compared_pictures(batch: Batch) -> list[list[int]]:
    """For every group of equally sized views, the rows that are overviews; none where there is only one.

    Tiles are left out, because the white margins of a page may rightly look alike.
    """
    # A picture's views are adjacent, with the overview last. So its index is the end of its run minus one.
    overviews = {end - 1 for end in accumulate(R * K + 1 for R, K in batch.grids)}
    rows = [[row for row, i in enumerate(group.indices) if i in overviews] for group in batch.views]
    return [places if len(places) > 1 else [] for places in rows]


def feature_sum(features: VisionFeatures, places: list[int]) -> Tensor:
    """The regulariser of the pictures at `places`, times their number, so that sums add up over groups.

    A step's loss is the sum of these over all micro-batches and ranks, divided by the number of pictures.
    Pictures are compared only within a micro-batch. So, unlike the other losses, this one depends on how a
    step is cut into micro-batches.
    """
    tokens_VNC = norm(features.projected[places].flatten(1, 2).float())
    # Multiply by the number, so that the sums of several groups can be divided by all pictures at the end.
    return len(places) * variance_covariance(picture_vector(tokens_VNC))


def variance_covariance(vectors_VD: Tensor) -> Tensor:
    """Hinge plus covariance of (V, D) vectors, V >= 2, as a scalar.

    It is 0 where every feature spreads and no feature follows another.

    V pictures give the covariance at most V - 1 directions. With D above that it cannot vanish, and the
    paper's mean would grow with D until it shrinks the features instead of spreading them. So it is divided
    by D / (V - 1) there. It is then 1 where all directions weigh the same, and V - 1 where all is one
    direction. The unit of a standard deviation is SPREAD.
    """
    V, D = vectors_VD.shape
    # In units of SPREAD, so that the hinge below has its corner at 1.
    centred = (vectors_VD - vectors_VD.mean(dim=0)) / SPREAD
    variance = centred.square().sum(dim=0) / (V - 1)
    hinge = F.relu(1 - (variance + EPSILON).sqrt()).mean()
    # (V, V): it has the same squared sum as the D x D covariance, and is small
    gram = centred @ centred.T / (V - 1)
    pairs = gram.square().sum() - variance.square().sum()
    return hinge + COVARIANCE * torch.clamp_min(pairs, 0.0) / (D * max(1.0, D / (V - 1)))
