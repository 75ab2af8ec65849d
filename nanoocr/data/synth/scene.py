"""Scenes: a few large words on coloured, textured, noisy ground, as on signs, covers and shop fronts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageFilter

from nanoocr.data.synth import colours, text, words
from nanoocr.data.synth.card import CARD_SIZE, MARGIN
from nanoocr.data.synth.degrade import SCENE_WEAR, wear_page, wear_picture
from nanoocr.data.synth.dice import Dice
from nanoocr.data.synth.fonts import Font
from nanoocr.data.synth.page import Page, face
from nanoocr.data.synth.sample import SynthSample, joined_families

SIZES = {1: (30, 60), 2: (24, 40), 3: (20, 28)}  # font sizes in pixels by number of lines
SMALLEST = 16


def make_scene(dice: Dice, fonts: Sequence[Font]) -> SynthSample:
    """One to three lines of one or two words; prompt "Read.", answer the lines."""
    guessable = dice.chance(0.5)
    count = dice.whole(1, 3)
    lines = [_words(dice, guessable) for _ in range(count)]
    font = dice.pick(fonts)
    ground, darkest, lightest = _ground(dice)
    page = Page(CARD_SIZE, ground)
    answer = _set(page, dice, font, lines, dice.whole(*SIZES[count]))
    wear_page(page, dice, SCENE_WEAR, turn_ground=False)
    ink = colours.ink_for(dice, darkest, lightest, least=80.0)
    _rim(page, dice, ink)
    return SynthSample(
        image=wear_picture(page.colour(ink), dice, SCENE_WEAR),
        prompt="Read.",
        answer="\n".join(answer),
        kind="scene",
        font=joined_families([font]),
        chars="".join(page.chars),
        boxes=page.box_array(),
        guessable=guessable,
    )


def _words(dice: Dice, guessable: bool) -> str:
    if not guessable:
        return text.random_token(dice)
    if dice.chance(0.5):
        return " ".join(dice.sample(words.SIGNS, dice.whole(1, 2)))
    source = dice.pick((words.NOUNS, words.ADJECTIVES, words.PLACES, words.SHOPS, words.LAST_NAMES))
    word = dice.pick(source)
    return word.upper() if dice.chance(0.5) else word.capitalize()


def _ground(dice: Dice) -> tuple[Image.Image, float, float]:
    """A ground of a colour gradient, clouds and grain, with its darkest and lightest brightness."""
    base = colours.any_ground(dice)
    other = tuple(max(0, min(255, value + dice.whole(-50, 50))) for value in base)
    field = colours.gradient(dice, CARD_SIZE, base, (other[0], other[1], other[2]))
    if dice.chance(0.5):
        field += (colours.cloud(dice, CARD_SIZE, dice.whole(4, 40)) * dice.between(3, 14))[..., None]
    if dice.chance(0.3):
        field += (_stripes(dice) * dice.between(4, 14))[..., None]
    if dice.chance(0.4):
        field += (colours.noise_window(dice, *CARD_SIZE) * dice.between(2, 10))[..., None]
    np.clip(field, 0, 255, out=field)
    light = field[::4, ::4] @ np.array(colours.LUMA, np.float32)
    # Ignore the few brightest and darkest grains: nobody reads against them.
    darkest, lightest = np.percentile(light, (5, 95)).tolist()
    return Image.fromarray(field.astype(np.uint8)), darkest, lightest


def _stripes(dice: Dice) -> np.ndarray:
    """(H, W) float32 waves between -1 and 1: planks, blinds, corrugated metal."""
    height, width = CARD_SIZE
    along, across = dice.between(-0.6, 0.6), dice.between(-0.6, 0.6)
    phase = along * np.arange(width, dtype=np.float32) + across * np.arange(height, dtype=np.float32)[:, None]
    return np.sin(phase)


def _set(page: Page, dice: Dice, font: Font, lines: Sequence[str], size: int) -> list[str]:
    """Sets the lines around the middle, smaller when they are too wide; returns what was really set."""
    room = page.width - 2 * MARGIN
    while size > SMALLEST and max(face(font, size).width(line) for line in lines) > room:
        size = max(SMALLEST, int(size * 0.85))
    type_face = face(font, size)
    height = type_face.above + type_face.below
    spare = page.height - 2 * MARGIN - height * len(lines)
    gap = dice.whole(0, min(10, max(spare // len(lines), 0)))
    y = MARGIN + round(dice.between(0.2, 0.8) * max(spare - gap * (len(lines) - 1), 0))
    fitted = [type_face.fit(line, room) for line in lines]
    for line in fitted:
        x = MARGIN + dice.unit() * (room - type_face.width(line))
        page.write(type_face, line, x, y + type_face.above)
        y += height + gap
    return fitted


def _rim(page: Page, dice: Dice, ink: colours.Colour) -> None:
    """Sometimes lays an outline or a shadow of the ink onto the ground, in the opposite tone."""
    choice = dice.unit()
    if choice > 0.45:
        return
    tone = dice.whole(0, 60) if colours.brightness(ink) > 127 else dice.whole(195, 255)
    if choice < 0.2:
        rim = Image.fromarray(page.ink).filter(ImageFilter.MaxFilter(3))
    else:
        down, right = dice.whole(1, 3), dice.whole(1, 3)
        shadow = np.zeros_like(page.ink)
        shadow[down:, right:] = page.ink[:-down, :-right]
        rim = Image.fromarray(shadow)
    page.ground.paste((tone, tone, tone), mask=rim)
