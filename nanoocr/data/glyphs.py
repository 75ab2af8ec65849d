"""What a glyph head is asked for: which character has its centre in which half patch of a picture.

The heads and their loss are in nanoocr/train/glyph.py; the data needs the targets only.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from nanoocr.config import PATCH

SLOTS = 2  # half patches, left and right
UNKNOWN = 255  # target of a picture that carries no character boxes
CLASSES = 96  # 0 for "no centre here", 1 + (code - 32) for printable ASCII
EMPTY_WEIGHT = 0.2  # most slots are empty; without this the heads first learn to say nothing


def glyph_targets(chars: str, boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W, SLOTS) uint8 classes of a picture of `size` (height, width) in pixels.

    `boxes` is (len(chars), 4) x0, y0, x1, y1 in pixels. Of two centres in one slot the later one stays;
    characters outside printable ASCII or outside the picture are left out. Without boxes all is UNKNOWN.
    """
    height, width = size[0] // PATCH, size[1] // PATCH
    targets = np.full((height, width * SLOTS), 0 if chars else UNKNOWN, dtype=np.uint8)
    codes = np.array([ord(char) for char in chars], dtype=np.int64) - 31
    columns = np.floor((boxes[:, 0] + boxes[:, 2]) / 2 / (PATCH / SLOTS)).astype(np.int64)
    rows = np.floor((boxes[:, 1] + boxes[:, 3]) / 2 / PATCH).astype(np.int64)
    good = (codes > 0) & (codes < CLASSES)
    good &= (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width * SLOTS)
    targets[rows[good], columns[good]] = codes[good]
    return targets.reshape(height, width, SLOTS)


def total_weight(targets: Tensor) -> float:
    """What the loss over integer `targets` is a mean over: known slots, empty ones at EMPTY_WEIGHT."""
    known, empty = int((targets != UNKNOWN).sum()), int((targets == 0).sum())
    return known - empty + EMPTY_WEIGHT * empty
