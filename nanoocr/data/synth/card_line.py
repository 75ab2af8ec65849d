"""Lines of cards as reading cuts them out of a card: strips 64 pixels high with capitals of some 33 pixels.

They are what `runs/hour.sh` learns from, in less than an hour. strip.py draws the lines of real pages, which
are harder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from PIL import Image

from nanoocr.data.synth.card import Card, draw_card
from nanoocr.data.synth.degrade import CARD_WEAR
from nanoocr.data.synth.dice import Dice
from nanoocr.data.synth.fonts import Font
from nanoocr.data.synth.sample import SynthSample
from nanoocr.data.synth.strip import (
    HEIGHT,
    ROOM,
    Window,
    continued,
    low_for_capitals,
    size_error,
    window_at,
)

CAP = 33  # height of capitals in pixels of the strip; the line finder makes it 34, give or take its errors
SPREAD = 0.05  # of these errors: strips are larger or smaller by some such share
LEVEL_WEAR = replace(CARD_WEAR, tilt=0.5, degrees=0.6)  # reading levels a line before it cuts it out


def make_card_line(dice: Dice, fonts: Sequence[Font]) -> SynthSample:
    """One line of a card of one to three lines; the prompt is "Read.", the answer is the line."""
    card = draw_card(dice, fonts, 1, 3, LEVEL_WEAR)
    number = dice.whole(0, len(card.lines) - 1)
    window = _window(dice, card, number)
    strip = _cut(card.picture, window)
    first, last = _characters_of(card, number)
    return SynthSample(
        image=continued(strip),
        prompt="Read.",
        answer=card.lines[number].text,
        kind="card_line",
        font=card.fonts[number].family,
        chars=card.chars[first:last],
        boxes=window.boxes_in(card.boxes[first:last], strip.width),
        guessable=card.guessable,
    )


def _characters_of(card: Card, number: int) -> tuple[int, int]:
    """Where the characters of a line begin and end among those of the card, which has none for blanks."""
    counts = [len(line.text.replace(" ", "")) for line in card.lines]
    return sum(counts[:number]), sum(counts[: number + 1])


def _window(dice: Dice, card: Card, number: int) -> Window:
    """Where a line is cut out of its card, with errors like those of a finder."""
    line = card.lines[number]
    low = low_for_capitals(dice, line.text)
    seen = -line.face.glyph("x" if low else "H").top
    scale = CAP / seen * size_error(dice, SPREAD)
    margins = max(1.0, ROOM + dice.between(-8, 8)), max(1.0, ROOM + dice.between(-8, 8))
    return window_at(dice, card.starts[number], line.width, scale, margins, shift=3)


def _cut(picture: Image.Image, window: Window) -> Image.Image:
    """A part of the card as a strip. Beyond the card its outermost pixels go on."""
    over = HEIGHT  # pixels; no window reaches farther beyond a card
    padded = np.pad(np.asarray(picture), ((over, over), (over, over), (0, 0)), mode="edge")
    x0, y0, x1, y1 = (side + over for side in window.box)
    size = window.width, HEIGHT
    return Image.fromarray(padded).resize(size, Image.Resampling.BICUBIC, box=(x0, y0, x1, y1))
