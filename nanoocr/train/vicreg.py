"""The feature regulariser: keeps the pictures of a micro-batch apart where no character boxes can.

Variance and covariance of VICReg (arXiv 2105.04906, section 4.1): a hinge on the standard deviation of every
feature over the pictures, and the squared covariance of all pairs of features. What it looks at is the vector
that the collapse monitor measures, of the projected tokens, normalised as the GPT normalises them: a larger
scale is no way out.

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

SPREAD = 0.5  # standard deviation that is asked of a feature; a normalised token has a mean square of 1
COVARIANCE = 0.04  # weight of the covariance beside the hinge: 1 to 25, as in the paper
EPSILON = 1e-4  # under the root, as in the paper


def compared_pictures(batch: Batch) -> list[list[int]]:
    """Of every group of equally sized views the rows that are whole pictures; none where it is only one.

    Tiles are left out: the white margins of a page may look alike.
    """
    # A picture's views stand together with the overview last, so its index is the end of its run less one.
    overviews = {end - 1 for end in accumulate(R * K + 1 for R, K in batch.grids)}
    rows = [[row for row, i in enumerate(group.indices) if i in overviews] for group in batch.views]
    return [places if len(places) > 1 else [] for places in rows]


def feature_sum(features: VisionFeatures, places: list[int]) -> Tensor:
    """The regulariser of the pictures at `places`, times their number: sums add up over a step's groups.

    A step's loss is the sum of these over all micro-batches and ranks, divided by the number of pictures in
    them. Pictures are compared within a micro-batch only: unlike the other losses this one depends on how a
    step is cut into micro-batches.
    """
    tokens_VNC = norm(features.projected[places].flatten(1, 2).float())
    # Times their number, so that the sums of several groups can be divided by all pictures at the end.
    return len(places) * variance_covariance(picture_vector(tokens_VNC))


def variance_covariance(vectors_VD: Tensor) -> Tensor:
    """Hinge and covariance of (V, D) vectors, V >= 2, a scalar: 0 where all features spread and none follows
    another.

    Of V pictures the covariance has V - 1 directions at most, so that with D above that it cannot vanish, and
    the paper's mean would grow with D until it shrinks the features instead of spreading them. It is divided
    by D / (V - 1) there: 1 where all directions weigh the same, V - 1 where all is one direction.
    The unit of a standard deviation is SPREAD.
    """
    V, D = vectors_VD.shape
    # In units of SPREAD, so that the hinge below has its corner at 1.
    centred = (vectors_VD - vectors_VD.mean(dim=0)) / SPREAD
    variance = centred.square().sum(dim=0) / (V - 1)
    hinge = F.relu(1 - (variance + EPSILON).sqrt()).mean()
    gram = centred @ centred.T / (V - 1)  # has the squares of the D x D covariance, and is small
    pairs = gram.square().sum() - variance.square().sum()
    return hinge + COVARIANCE * torch.clamp_min(pairs, 0.0) / (D * max(1.0, D / (V - 1)))
