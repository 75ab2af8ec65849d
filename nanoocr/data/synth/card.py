"""Cards: one to four short lines on a plain ground, the kind that a small model learns to read from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from nanoocr.data.synth import colours, text
from nanoocr.data.synth.degrade import CARD_WEAR, Wear, wear_page, wear_picture
from nanoocr.data.synth.dice import Dice
from nanoocr.data.synth.fonts import Font
from nanoocr.data.synth.page import Face, Page, face
from nanoocr.data.synth.sample import SynthSample, joined_families

CARD_SIZE = (128, 256)  # height, width in pixels
MAX_LINES = 4
MARGIN = 6  # pixels at every side that no ink enters
SIZES = {1: (18, 34), 2: (18, 34), 3: (18, 28), 4: (18, 22)}  # font sizes in pixels by number of lines


class Line(NamedTuple):
    """One line of text, before it has a place on the card."""

    text: str
    face: Face
    tracking: float
    width: float  # pixels


class Card(NamedTuple):
    """A drawn card, and where its lines stand."""

    picture: Image.Image
    lines: list[Line]
    starts: list[tuple[float, int]]  # the pen's x and the baseline of each line, before any tilt
    chars: str
    boxes: np.ndarray  # (len(chars), 4) float32, pixels
    fonts: list[Font]
    guessable: bool


def make_card(dice: Dice, fonts: Sequence[Font], min_lines: int = 1, max_lines: int = 3) -> SynthSample:
    """A card of `min_lines` to `max_lines` lines; its prompt is "Read.", its answer the lines."""
    card = draw_card(dice, fonts, min_lines, max_lines, CARD_WEAR)
    return SynthSample(
        image=card.picture,
        prompt="Read.",
        answer="\n".join(line.text for line in card.lines),
        kind="card",
        font=joined_families(card.fonts),
        chars=card.chars,
        boxes=card.boxes,
        guessable=card.guessable,
    )


def draw_card(dice: Dice, fonts: Sequence[Font], min_lines: int, max_lines: int, wear: Wear) -> Card:
    """A card of `min_lines` to `max_lines` lines, worn like that."""
    guessable = dice.chance(0.5)
    lines, used = _lines(dice, fonts, dice.whole(min_lines, max_lines), guessable)
    ground = colours.any_ground(dice)
    light = colours.brightness(ground)
    page = Page(CARD_SIZE, ground)
    starts = _place(page, dice, lines)
    wear_page(page, dice, wear)
    picture = wear_picture(page.colour(colours.ink_for(dice, light, light)), dice, wear)
    return Card(picture, lines, starts, "".join(page.chars), page.box_array(), used, guessable)


def _lines(dice: Dice, fonts: Sequence[Font], count: int, guessable: bool) -> tuple[list[Line], list[Font]]:
    low, high = SIZES[count]
    font, size = dice.pick(fonts), dice.whole(low, high)
    tracking = dice.pick([0.5, 1.0, 2.0]) if dice.chance(0.15) else 0.0
    chosen = [(font, size)] * count
    if count > 1 and dice.chance(0.2):  # a heading in another face
        chosen[0] = (dice.pick(fonts), dice.whole(low, high))
    lines = [_line(dice, face(*pair), tracking, guessable) for pair in chosen]
    return lines, [font for font, _ in chosen]


def _line(dice: Dice, line_face: Face, tracking: float, guessable: bool) -> Line:
    room = CARD_SIZE[1] - 2 * MARGIN
    words = text.natural_phrase(dice) if guessable else text.random_phrase(dice)
    fitted = line_face.fit(words, room, tracking)
    if len(fitted) < len(words) and words[len(fitted)] != " " and dice.chance(0.8):
        fitted = fitted.rpartition(" ")[0] or fitted  # Cut between words where that is possible.
    return Line(fitted, line_face, tracking, line_face.width(fitted, tracking))


def _place(page: Page, dice: Dice, lines: Sequence[Line]) -> list[tuple[float, int]]:
    """Sets the lines under each other, flush left, right or centred, with random spacing; returns where."""
    heights = [line.face.above + line.face.below for line in lines]
    spare = page.height - 2 * MARGIN - sum(heights)
    gap = dice.whole(0, min(12, max(spare // len(lines), 0)))
    y = MARGIN + dice.whole(0, max(spare - gap * (len(lines) - 1), 0))
    align = dice.pick(["left", "left", "centre", "right"])
    indent = dice.unit()
    starts = []
    for line, height in zip(lines, heights):
        x = MARGIN + _start(align, indent, page.width - 2 * MARGIN - line.width)
        starts.append((x, y + line.face.above))
        page.write(line.face, line.text, *starts[-1], line.tracking)
        y += height + gap
    return starts


def _start(align: str, indent: float, spare: float) -> float:
    """Pixels to the left of a line that leaves `spare` pixels of the width; `indent` in [0, 1)."""
    if align == "centre":
        return spare / 2
    edge = min(indent * 40, spare)
    return edge if align == "left" else spare - edge
