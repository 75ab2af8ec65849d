"""Rules, borders and underlines are taken out of the ink, and what they touch falls apart into letters."""

from __future__ import annotations

import cv2
import numpy as np

SHORTEST = 60  # pixels of the page; a stroke of a letter is shorter or thicker
THICKEST = 5  # pixels of the page; a thicker bar is part of a large letter or of a picture
HAIRLINE = 2  # pixels of the page that a pale rule is thick at most; the letters of small print are higher
PALE = 1.5  # times the floor of flat paper: a rule of this contrast is told from noise by its length


def remove_rules(gray: np.ndarray, ink: np.ndarray, floor: float, enlarged: float = 1.0) -> np.ndarray:
    """The ink (H, W) uint8 of a grey picture (H, W) uint8 without long thin level and upright strokes.

    `floor` is the standard deviation of flat paper in grey levels, and `enlarged` says how many pixels of the
    mask a pixel of the page is wide.
    """
    length = max(round(SHORTEST * enlarged), max(ink.shape) // 25)
    thick = round(THICKEST * enlarged) + 1
    rules = _strokes(ink, (length, 1), (1, thick))
    rules |= _strokes(ink, (1, length), (thick, 1))
    # Beside dark letters a pale rule is no ink, and what is left of it elsewhere would look like letters.
    thin = round(HAIRLINE * enlarged) + 2
    rules |= _hairlines(gray, ink, (length, 1), (1, thin), PALE * floor)
    rules |= _hairlines(gray, ink, (1, length), (thin, 1), PALE * floor)
    return ink & (1 - rules)


def _hairlines(
    gray: np.ndarray, ink: np.ndarray, along: tuple[int, int], across: tuple[int, int], contrast: float
) -> np.ndarray:
    """The strokes as long as `along` and thinner than `across` that are darker than both their sides."""
    sides = cv2.morphologyEx(gray, cv2.MORPH_CLOSE, np.ones(across[::-1], np.uint8))
    darker = (cv2.subtract(sides, gray) > contrast).view(np.uint8)
    # A letter that stands on a rule hides that the rule goes on.
    long = cv2.morphologyEx(cv2.bitwise_or(darker, ink), cv2.MORPH_OPEN, np.ones(along[::-1], np.uint8))
    long = cv2.bitwise_and(long, darker)
    return _with_edges(long, along) if long.any() else long


def _strokes(ink: np.ndarray, along: tuple[int, int], across: tuple[int, int]) -> np.ndarray:
    """The strokes that hold a bar of size `along` and none of size `across`, with their soft edges."""
    long = cv2.morphologyEx(ink, cv2.MORPH_OPEN, np.ones(along[::-1], np.uint8))
    # Most pages have no rules, and what follows costs more than this look.
    if not long.any():
        return long
    thick = cv2.morphologyEx(ink, cv2.MORPH_OPEN, np.ones(across[::-1], np.uint8))
    # Where letters stand on an underline the ink is thick too; that must not save the rest of the rule.
    bars = cv2.morphologyEx(cv2.bitwise_and(long, thick), cv2.MORPH_OPEN, np.ones(along[::-1], np.uint8))
    return _with_edges(cv2.subtract(long, bars), along)


def _with_edges(strokes: np.ndarray, along: tuple[int, int]) -> np.ndarray:
    """Strokes and the pixel on either side of them."""
    edge = (1, 3) if along[1] == 1 else (3, 1)
    return cv2.dilate(strokes, np.ones(edge[::-1], np.uint8))
