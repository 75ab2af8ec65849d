"""The targets of the glyph heads: which character has its centre in which half patch of a picture.

The heads are in nanoocr/model/glyph_heads.py, their loss in nanoocr/train/glyph.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nanoocr.alphabet import CLASS_OF
from nanoocr.config import PATCH, SLOTS

if TYPE_CHECKING:  # whoever draws pictures need not wait for torch
    from torch import Tensor

UNKNOWN = 255  # target of a picture without character boxes; it lies above all classes
NOTHING = "\0"  # this character, with any box, marks a picture that is known to contain no text
# Most slots are empty. At full weight the heads would first learn to answer "empty" everywhere.
EMPTY_WEIGHT = 0.2


def glyph_targets(chars: str, boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W, SLOTS) uint8 classes of a picture of `size` (height, width) in pixels.

    `boxes` is (len(chars), 4) x0, y0, x1, y1 in pixels. If two centres fall into one slot, the later one
    stays. Characters outside the alphabet or the picture are left out. Without boxes every slot is UNKNOWN.
    """
    height, width = size[0] // PATCH, size[1] // PATCH
    targets = np.full((height, width * SLOTS), 0 if chars else UNKNOWN, dtype=np.uint8)
    codes = np.array([CLASS_OF.get(char, 0) for char in chars], dtype=np.int64)
    columns = np.floor((boxes[:, 0] + boxes[:, 2]) / 2 / (PATCH / SLOTS)).astype(np.int64)
    rows = np.floor((boxes[:, 1] + boxes[:, 3]) / 2 / PATCH).astype(np.int64)
    good = codes > 0
    good &= (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width * SLOTS)
    targets[rows[good], columns[good]] = codes[good]
    return targets.reshape(height, width, SLOTS)


def total_weight(targets: Tensor) -> float:
    """The divisor of the glyph loss over integer `targets`: known slots; empty ones count EMPTY_WEIGHT."""
    known, empty = int((targets != UNKNOWN).sum()), int((targets == 0).sum())
    return known - empty + EMPTY_WEIGHT * empty
