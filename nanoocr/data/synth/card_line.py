"""Lines of cards as reading cuts them out of a card: strips 64 pixels high with capitals of some 33 pixels.

They are what `runs/hour.sh` learns from, in less than an hour. strip.py draws the lines of real pages, which
are harder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from PIL import Image

from nanoocr.data.synth.card import CARD_SIZE, Card, draw_card
from nanoocr.data.synth.degrade import CARD_WEAR
from nanoocr.data.synth.dice import Dice
from nanoocr.data.synth.fonts import Font
from nanoocr.data.synth.sample import SynthSample
from nanoocr.data.synth.strip import BASELINE, HEIGHT, ROOM, WIDTHS, continued, inside, mostly_low

CAP = 33  # height of capitals in pixels of the strip; the line finder makes it 34, give or take its errors
SPREAD = 0.05  # of these errors: strips are larger or smaller by some such share
LEVEL_WEAR = replace(CARD_WEAR, tilt=0.5, degrees=0.6)  # reading levels a line before it cuts it out


def make_card_line(dice: Dice, fonts: Sequence[Font]) -> SynthSample:
    """One line of a card of one to three lines; the prompt is "Read.", the answer is the line."""
    card = draw_card(dice, fonts, 1, 3, LEVEL_WEAR)
    number = dice.whole(0, len(card.lines) - 1)
    left, top, scale, width = _window(dice, card, number)
    strip = _cut(card.picture, left, top, scale, width)
    first, last = _characters_of(card, number)
    moved = (card.boxes[first:last] - np.array([left, top] * 2, np.float32)) * scale
    return SynthSample(
        image=continued(strip),
        prompt="Read.",
        answer=card.lines[number].text,
        kind="card_line",
        font=card.fonts[number].family,
        chars=card.chars[first:last],
        boxes=inside(moved, strip.width),
        guessable=card.guessable,
    )


def _characters_of(card: Card, number: int) -> tuple[int, int]:
    """Where the characters of a line begin and end among those of the card, which has none for blanks."""
    counts = [len(line.text.replace(" ", "")) for line in card.lines]
    return sum(counts[:number]), sum(counts[: number + 1])


def _window(dice: Dice, card: Card, number: int) -> tuple[float, float, float, int]:
    """Left and top of what the strip shows, in pixels of the card; its scale; its width in its own pixels."""
    line, (x, baseline) = card.lines[number], card.starts[number]
    letters = line.face
    # Where hardly a letter rises above an x, a finder mistakes the height of an x for that of capitals.
    low = mostly_low(line.text) and dice.chance(0.7)
    seen = -letters.glyph("x" if low else "H").top
    errors = dice.unit() + dice.unit() + dice.unit() - 1.5
    before, behind = (max(1.0, ROOM + dice.between(-8, 8)) for _ in range(2))
    scale = min(CAP / seen * float(np.exp(SPREAD * 2 * errors)), (WIDTHS[-1] - before - behind) / line.width)
    rise = BASELINE + (dice.unit() + dice.unit() - 1) * 3
    width = round(line.width * scale + before + behind)
    return x - before / scale, baseline - rise / scale, scale, min(max(16, width), WIDTHS[-1])


def _cut(picture: Image.Image, left: float, top: float, scale: float, width: int) -> Image.Image:
    """A part of the card as a strip. Beyond the card its outermost pixels go on."""
    high, wide = CARD_SIZE
    over = HEIGHT  # pixels; no window reaches farther beyond a card
    padded = np.pad(np.asarray(picture), ((over, over), (over, over), (0, 0)), mode="edge")
    box = (left + over, top + over, left + over + width / scale, top + over + HEIGHT / scale)
    box = (max(0.0, box[0]), max(0.0, box[1]), min(wide + 2.0 * over, box[2]), min(high + 2.0 * over, box[3]))
    return Image.fromarray(padded).resize((width, HEIGHT), Image.Resampling.BICUBIC, box=box)
