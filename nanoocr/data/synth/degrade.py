"""Degrades a picture as cameras, scanners and archives do: tilt, blur, noise, tone, compression.

It is kept cheap, because it runs on the processor cores that also train. Each kind of page has its own
chances.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from nanoocr.data.synth.colours import noise_window
from nanoocr.data.synth.dice import Dice
from nanoocr.data.synth.page import Page


@dataclass(frozen=True)
class Wear:
    """How likely and how strong each degradation is."""

    tilt: float = 0.2  # chance
    degrees: float = 3.0  # largest tilt either way
    blur: float = 0.2  # chance
    radius: float = 0.9  # largest blur, pixels
    noise: float = 0.2  # chance
    sigma: float = 14.0  # largest spread of the noise, of 255
    tone: float = 0.2  # chance of another brightness and contrast
    jpeg: float = 0.15  # chance
    quality: tuple[int, int] = (40, 95)


# With these chances .8^4 * .85 = 35 % of the cards stay clean.
CARD_WEAR = Wear()
# Small type does not survive strong blur or tilt.
PAGE_WEAR = Wear(
    tilt=0.2, degrees=1.5, blur=0.12, radius=0.5, noise=0.2, sigma=9.0, jpeg=0.15, quality=(60, 95)
)
SCENE_WEAR = Wear(tilt=0.7, degrees=8.0, blur=0.25, radius=1.2, noise=0.35, sigma=18.0, tone=0.3, jpeg=0.3)


def wear_page(page: Page, dice: Dice, wear: Wear, turn_ground: bool = True) -> None:
    """Tilt and blur, which happen to the page before it has its colours. Boxes move along."""
    if dice.chance(wear.tilt):
        degrees = dice.between(-wear.degrees, wear.degrees)
        _ = page.tilt(degrees, turn_ground) or page.tilt(degrees / 3, turn_ground)
    if dice.chance(wear.blur):
        page.soften(dice.between(0.3, wear.radius))


def wear_picture(picture: Image.Image, dice: Dice, wear: Wear) -> Image.Image:
    """Noise, tone and compression of the finished RGB picture; positions stay."""
    if dice.chance(wear.tone):
        picture = picture.point(_tone_curve(dice.between(0.75, 1.2), dice.between(-25, 25)))
    if dice.chance(wear.noise):
        picture = add_noise(picture, dice, dice.between(2, wear.sigma))
    if dice.chance(wear.jpeg):
        picture = through_jpeg(picture, dice.whole(*wear.quality))
    return picture


def add_noise(picture: Image.Image, dice: Dice, sigma: float) -> Image.Image:
    """The RGB picture plus grey Gaussian noise of spread `sigma` (of 255)."""
    noise = noise_window(dice, picture.height, picture.width) * sigma
    noisy = np.asarray(picture).astype(np.int16)
    noisy += noise.astype(np.int16)[..., None]
    np.clip(noisy, 0, 255, out=noisy)
    return Image.fromarray(noisy.astype(np.uint8))


def through_jpeg(picture: Image.Image, quality: int) -> Image.Image:
    """The RGB picture after being saved and read as JPEG."""
    stored = io.BytesIO()
    picture.save(stored, "JPEG", quality=quality)
    again = Image.open(stored)
    again.load()
    return again


def _tone_curve(contrast: float, shift: float) -> list[int]:
    """A look-up table for three channels: contrast about mid grey, then a shift in brightness."""
    curve = np.clip((np.arange(256) - 128) * contrast + 128 + shift, 0, 255).astype(int).tolist()
    return curve * 3
