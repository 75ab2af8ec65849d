"""Damages a line as a real page does, at the page's resolution: ink, paper, light, camera, file.

The order is that of a page's life. Ink bleeds, fades or is printed in dots. It lies on a ground. The page is
scanned, with noise and a tone of its own. Then the file is thresholded or compressed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from nanoocr.data.synth import colours
from nanoocr.data.synth.degrade import add_noise, through_jpeg
from nanoocr.data.synth.dice import Dice


@dataclass(frozen=True)
class StripWear:
    """Choices for one strip on which several steps must agree."""

    cap: float  # height of capitals on the page, pixels
    filter: Image.Resampling  # the filter that shrinks the drawing to that height
    slant: float  # remaining tilt, rows per column
    # width of letters relative to the drawing: below 1 condensed, 2 the double width of receipts
    stretch: float
    dots: float  # height of capitals in printer or fax dots; 0 means that no dots are visible
    harsh: bool  # a bad scan, in which every degradation is likelier and stronger


def choose_wear(dice: Dice) -> StripWear:
    """Heights from 5.5 to 44 pixels, small ones more often; most lines lie nearly level."""
    cap = 5.5 * float(np.exp(dice.unit() ** 1.3 * 2.08))
    filters = (
        Image.Resampling.BOX,
        Image.Resampling.BILINEAR,
        Image.Resampling.HAMMING,
        Image.Resampling.LANCZOS,
    )
    slant = (
        dice.between(-0.012, 0.012)
        if dice.chance(0.25)
        else dice.between(-0.04, 0.04)
        if dice.chance(0.08)
        else 0.0
    )
    # Thermal heads, needle printers and faxes have 7 to 26 dots per capital, at whatever resolution they are
    # scanned.
    dots = dice.between(7, 26) if dice.chance(0.28) else 0.0
    return StripWear(cap, dice.pick(filters), slant, _stretch(dice), dots, dice.chance(0.3))


def _stretch(dice: Dice) -> float:
    """Condensed in three of ten lines, wide in one of six."""
    choice = dice.unit()
    if choice < 0.3:
        return dice.between(0.45, 1.0)
    return dice.between(1.0, 2.1) if choice < 0.46 else 1.0


# --- ink ------------------------------------------------------------------------------------------------


def wear_ink(dice: Dice, ink_HW: np.ndarray, wear: StripWear) -> np.ndarray:
    """Coverage (H, W) in 0 to 1 -> the same, thinned or bled, faded, dotted, blurred."""
    often = 2.0 if wear.harsh else 1.0
    if dice.chance(0.3 * often):  # thin or heavy printing; letters stay in place
        ink_HW = ink_HW ** dice.between(0.45, 2.2)
    if dice.chance(0.1 * often):
        ink_HW = _dotted(dice, ink_HW, wear.cap)
    if dice.chance(0.18 * often):
        ink_HW = _faded(dice, ink_HW, wear.cap)
    if dice.chance(0.3 * often):
        radius = dice.between(0.2, 0.055 * wear.cap + 0.25)
        soft = Image.fromarray((ink_HW * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(radius))
        ink_HW = np.asarray(soft).astype(np.float32) / 255
    return ink_HW


def in_dots(dice: Dice, ink_HW: np.ndarray) -> np.ndarray:
    """Coverage (H, W) at the resolution of a printer or fax -> 0 or 1, as a device without greys prints it.

    The edge between paper and ink is uneven where the ink was first scanned from paper (fax, copy of a copy).
    """
    uneven = dice.between(0.02, 0.16) if dice.chance(0.5) else 0.0
    cut = dice.between(0.25, 0.65) + uneven * colours.noise_window(dice, *ink_HW.shape)
    return (ink_HW > cut).astype(np.float32)


def _dotted(dice: Dice, ink_HW: np.ndarray, cap: float) -> np.ndarray:
    """Print in dots or lines, like needles or a worn thermal head, with a pitch of about `cap` / 7."""
    pitch = max(2.0, cap / dice.between(6, 10))
    y = np.cos(np.arange(ink_HW.shape[0]) * (2 * np.pi / pitch) + dice.between(0, 6.3))[:, None]
    x = np.cos(np.arange(ink_HW.shape[1]) * (2 * np.pi / pitch) + dice.between(0, 6.3))[None]
    kind = dice.whole(0, 2)
    lattice = (x + y) / 2 if kind == 0 else y if kind == 1 else x
    depth = dice.between(0.15, 0.55)
    return (ink_HW * (1 - depth + depth * lattice)).astype(np.float32).clip(0, 1)


def _faded(dice: Dice, ink_HW: np.ndarray, cap: float) -> np.ndarray:
    """Remove ink in clouds, in grains, or in streaks along or across the line."""
    kind = dice.whole(0, 3)
    keep: np.ndarray
    if kind == 0:
        cloud = colours.cloud(dice, _size(ink_HW), max(2, int(dice.between(0.2, 1.5) * cap)))
        keep = 0.75 + dice.between(0.1, 0.4) * cloud
    elif kind == 1:
        grains = colours.noise_window(dice, *ink_HW.shape) > dice.between(0.6, 1.8)
        keep = 1 - dice.between(0.2, 0.9) * grains
    else:
        across = colours.noise_window(dice, 1, ink_HW.shape[1]) if kind == 2 else None
        streaks = colours.noise_window(dice, ink_HW.shape[0], 1) if across is None else across
        keep = 1 - dice.between(0.2, 0.7) * (streaks > dice.between(0.8, 1.8))
    return (ink_HW * np.clip(keep, 0.05, 1)).astype(np.float32)


# --- paper, light, file -----------------------------------------------------------------------------------


def wear_strip(dice: Dice, ink_HW: np.ndarray, wear: StripWear, *, without_text: bool = False) -> Image.Image:
    """Put the ink on a ground, as a scan or a photo shows it: an RGB picture at the page's resolution."""
    ground_HWC, darkest, lightest = _ground(dice, _size(ink_HW), busy=without_text and dice.chance(0.4))
    least = dice.between(35, 130) if dice.chance(0.4) else 130.0
    ink = np.array(colours.ink_for(dice, darkest, lightest, least), np.float32)
    if darkest > 150 and dice.chance(0.6):
        ink = np.array(colours.dark_ink(dice), np.float32) + dice.whole(0, 70)
    if without_text and dice.chance(0.25):  # pale, like text that shines through from the back of the sheet
        ink = ink + dice.between(0.6, 0.93) * ((darkest + lightest) / 2 - ink)
    field = ground_HWC + ink_HW[..., None] * (ink - ground_HWC)
    picture = Image.fromarray(np.clip(field, 0, 255).astype(np.uint8))
    often = 1.8 if wear.harsh else 1.0
    if dice.chance(0.25 * often):
        picture = add_noise(picture, dice, dice.between(2, 22 if wear.harsh else 12))
    if dice.chance(0.12 * often):
        picture = picture.filter(ImageFilter.UnsharpMask(dice.between(0.6, 2), dice.whole(60, 220), 2))
    if dice.chance(0.08 * often):
        picture = _thresholded(dice, picture)
    if dice.chance(0.3 * often):
        picture = through_jpeg(picture, dice.whole(18 if wear.harsh else 35, 95))
    return picture


def _size(ink_HW: np.ndarray) -> tuple[int, int]:
    return ink_HW.shape[0], ink_HW.shape[1]


def _ground(dice: Dice, size: tuple[int, int], *, busy: bool) -> tuple[np.ndarray, float, float]:
    """(H, W, 3) float32, and its darkest and lightest brightness: mostly paper, sometimes any colour."""
    choice = dice.unit()
    base = colours.paper(dice) if choice < 0.62 else colours.any_ground(dice)
    if 0.55 < choice < 0.62:  # yellowed or grey paper
        shade, blue = dice.between(0.65, 0.95), dice.between(0.8, 1)
        base = (int(base[0] * shade), int(base[1] * shade * 0.98), int(base[2] * shade * blue))
    field: np.ndarray = np.broadcast_to(np.array(base, np.float32), (*size, 3))
    if busy or dice.chance(0.22):  # a shadow, a fold, a lamp
        other = tuple(max(0, min(255, value + dice.whole(-60, 40))) for value in base)
        field = colours.gradient(dice, size, base, (other[0], other[1], other[2]))
    if busy or dice.chance(0.12):
        strength = dice.between(8, 60) if busy else dice.between(2, 12)
        field = field + (colours.cloud(dice, size, dice.whole(2, 30)) * strength)[..., None]
    if busy or dice.chance(0.06):  # a texture of lines, like cloth, security paper, or the shading of a table
        field = field + (_stripes(dice, size) * dice.between(3, 40 if busy else 12))[..., None]
    field = np.clip(field, 0, 255)
    light = field @ np.array(colours.LUMA, np.float32)
    darkest, lightest = np.percentile(light, (5, 95)).tolist()
    return field, darkest, lightest


def _stripes(dice: Dice, size: tuple[int, int]) -> np.ndarray:
    """(H, W) float32 waves between -1 and 1."""
    along, across = dice.between(-1.2, 1.2), dice.between(-1.2, 1.2)
    rows, columns = np.arange(size[0], dtype=np.float32)[:, None], np.arange(size[1], dtype=np.float32)
    return np.sin(along * columns + across * rows)


def _thresholded(dice: Dice, picture: Image.Image) -> Image.Image:
    """Make the picture black and white, like a fax or a copier; the threshold is a little off the middle."""
    grey = np.asarray(picture.convert("L")).astype(np.float32)
    low, high = np.percentile(grey, (2, 98)).tolist()
    cut = low + (high - low) * dice.between(0.35, 0.7)
    return Image.fromarray(np.where(grey > cut, np.uint8(255), np.uint8(0))).convert("RGB")
