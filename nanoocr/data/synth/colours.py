"""Colours of ground and ink that stay apart, and grounds that are not plain."""

from __future__ import annotations

import functools

import numpy as np
from PIL import Image

from nanoocr.data.synth.dice import Dice

Colour = tuple[int, int, int]

# Weights of red, green and blue in perceived brightness (ITU-R BT.601).
LUMA = (0.299, 0.587, 0.114)


def brightness(colour: Colour) -> float:
    """Perceived brightness, 0 to 255."""
    return sum(weight * value for weight, value in zip(LUMA, colour))


def paper(dice: Dice) -> Colour:
    """A nearly white sheet."""
    base = dice.whole(225, 255)
    return (base, base - dice.whole(0, 6), base - dice.whole(0, 18))


def dark_ink(dice: Dice) -> Colour:
    """Black, or nearly black, or a dark blue, red or green."""
    if dice.chance(0.6):
        grey = dice.whole(0, 60)
        return (grey, grey, grey)
    return (dice.whole(0, 80), dice.whole(0, 80), dice.whole(0, 110))


def any_ground(dice: Dice) -> Colour:
    """Any ground: half of them light, a third dark, the rest in between."""
    choice = dice.unit()
    low, high = (175, 255) if choice < 0.5 else (0, 85) if choice < 0.83 else (85, 175)
    if dice.chance(0.35):  # greys are as common as colours
        grey = dice.whole(low, high)
        return (grey, grey, grey)
    return (dice.whole(low, high), dice.whole(low, high), dice.whole(low, high))


def ink_for(dice: Dice, darkest: float, lightest: float, least: float = 95.0) -> Colour:
    """An ink at least `least` in brightness away from a ground of brightness `darkest` to `lightest`.

    Black or white, whichever is farther, when no colour in a few tries is far enough.
    """
    for _ in range(4):
        ink = (dice.whole(0, 255), dice.whole(0, 255), dice.whole(0, 255))
        if dice.chance(0.5):
            deep = (ink[0] // 4, ink[1] // 4, ink[2] // 4)
            ink = deep if darkest > 128 else (255 - deep[0], 255 - deep[1], 255 - deep[2])
        light = brightness(ink)
        if light <= darkest - least or light >= lightest + least:
            return ink
    return (0, 0, 0) if darkest > 255 - lightest else (255, 255, 255)


@functools.lru_cache(maxsize=1)
def noise_tile() -> np.ndarray:
    """(768, 1024) float32 of standard normal noise, the same in every process; used in windows."""
    return np.random.default_rng(20251).standard_normal((768, 1024), dtype=np.float32)


def noise_window(dice: Dice, height: int, width: int) -> np.ndarray:
    """A random (height, width) window of the noise tile; not to be written to."""
    tile = noise_tile()
    top, left = dice.whole(0, tile.shape[0] - height), dice.whole(0, tile.shape[1] - width)
    return tile[top : top + height, left : left + width]


def gradient(dice: Dice, size: tuple[int, int], first: Colour, last: Colour) -> np.ndarray:
    """(H, W, 3) float32 from `first` to `last` along a random direction."""
    height, width = size
    right, down = dice.between(-1, 1), dice.between(-1, 1)
    ramp = (
        right * np.linspace(0, 1, width, dtype=np.float32)
        + down * np.linspace(0, 1, height, dtype=np.float32)[:, None]
    )
    low, high = float(ramp.min()), float(ramp.max())
    ramp = (ramp - low) / max(high - low, 1e-6)
    start, end = np.array(first, np.float32), np.array(last, np.float32)
    return start + ramp[..., None] * (end - start)


def cloud(dice: Dice, size: tuple[int, int], cell: int) -> np.ndarray:
    """(H, W) float32, smooth noise of about unit spread with spots of `cell` pixels."""
    height, width = size
    coarse = noise_window(dice, height // cell + 2, width // cell + 2)
    smooth = Image.fromarray(np.ascontiguousarray(coarse)).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(smooth)
