"""Pages of a given length: black on white, in the largest letters that fit, so more text is smaller text."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from PIL import Image

from nanoocr.data.synth.dice import Dice
from nanoocr.data.synth.fonts import Font
from nanoocr.data.synth.page import Face, Page, face
from nanoocr.pictures import Size

LARGEST, SMALLEST = 34, 8  # letter sizes in pixels, from the cards' largest to what an eye still reads
MARGIN = 6  # pixels at every side
LEADING = 2  # pixels between two lines
INK, PAPER = (0, 0, 0), (255, 255, 255)


def words_of_length(
    dice: Dice, source: Callable[[Dice], str], tokens: int, count_tokens: Callable[[str], int]
) -> list[str]:
    """Words from as many calls of `source` as it takes until one more would exceed `tokens`; at least one."""
    words: list[str] = []
    used = 0
    while True:
        for word in source(dice).split():
            used += count_tokens(f" {word}" if words else word)
            if words and used > tokens:
                return words
            words.append(word)


def draw_page(
    dice: Dice, font: Font, size: Size, words: Sequence[str], largest: int = LARGEST
) -> tuple[Image.Image, list[str]] | None:
    """The words as a block in the largest letters that fit, and its lines; None where none fit.

    Letters are at most `largest` pixels.
    """
    height, width = (side - 2 * MARGIN for side in size)
    for pixels in range(largest, SMALLEST - 1, -1):
        body = face(font, pixels)
        pitch = body.above + body.below + LEADING
        lines = wrap(words, body, width)
        if lines is not None and len(lines) * pitch - LEADING <= height:
            page = Page(size, PAPER)
            top = MARGIN + dice.whole(0, height - len(lines) * pitch + LEADING) + body.above
            for number, line in enumerate(lines):
                page.write(body, line, MARGIN, top + number * pitch)
            return page.colour(INK), lines
    return None


def wrap(words: Sequence[str], body: Face, width: float) -> list[str] | None:
    """The words in lines of at most `width` pixels; None if one of them is wider than a line."""
    lines: list[str] = []
    for word in words:
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and body.width(longer) <= width:
            lines[-1] = longer
        elif body.width(word) <= width:
            lines.append(word)
        else:
            return None
    return lines
