"""Rules, borders and underlines are taken out of the ink, and what they touch falls apart into letters."""

from __future__ import annotations

import cv2
import numpy as np

SHORTEST = 60  # pixels of the page; a stroke of a letter is shorter or thicker
THICKEST = 5  # pixels of the page; a thicker bar is part of a large letter or of a picture


def remove_rules(ink: np.ndarray, enlarged: float = 1.0) -> np.ndarray:
    """The ink (H, W) uint8 without long thin level and upright strokes.

    `enlarged` says how many pixels of the mask a pixel of the page is wide.
    """
    length = max(round(SHORTEST * enlarged), max(ink.shape) // 25)
    thick = round(THICKEST * enlarged) + 1
    rules = _strokes(ink, (length, 1), (1, thick))
    rules |= _strokes(ink, (1, length), (thick, 1))
    return ink & (1 - rules)


def _strokes(ink: np.ndarray, along: tuple[int, int], across: tuple[int, int]) -> np.ndarray:
    """The strokes that hold a bar of size `along` and none of size `across`, with their soft edges."""
    long = cv2.morphologyEx(ink, cv2.MORPH_OPEN, np.ones(along[::-1], np.uint8))
    # Most pages have no rules, and what follows costs more than this look.
    if not long.any():
        return long
    thick = cv2.morphologyEx(ink, cv2.MORPH_OPEN, np.ones(across[::-1], np.uint8))
    # Where letters stand on an underline the ink is thick too; that must not save the rest of the rule.
    bars = cv2.morphologyEx(cv2.bitwise_and(long, thick), cv2.MORPH_OPEN, np.ones(along[::-1], np.uint8))
    edge = (1, 3) if along[1] == 1 else (3, 1)
    return cv2.dilate(cv2.subtract(long, bars), np.ones(edge[::-1], np.uint8))
