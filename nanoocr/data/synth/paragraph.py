"""Paragraphs: four to eight wrapped lines of one face."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nanoocr.data.synth import text
from nanoocr.data.synth.dice import Dice
from nanoocr.data.synth.document import (
    MARGIN,
    PAGE_SIZE,
    ROOM,
    Question,
    finish,
    new_sheet,
    row_pitch,
    rows_that_fit,
    write_centred,
)
from nanoocr.data.synth.fonts import Font
from nanoocr.data.synth.page import Face, face
from nanoocr.data.synth.sample import SynthSample


def make_paragraph(dice: Dice, fonts: Sequence[Font]) -> SynthSample:
    """Four to eight lines; prompt "Read.", answer the lines as they are wrapped."""
    guessable = dice.chance(0.5)
    font = dice.pick(fonts)
    body = face(font, dice.whole(12, 18))
    source = text.sentence if guessable else text.random_token
    rows = min(dice.whole(4, 8), rows_that_fit(body))
    lines = wrapped(dice, source, body, dice.between(0.6, 1.0) * ROOM, rows)
    sheet = new_sheet(dice)
    pitch = row_pitch(dice, body, len(lines), most=14)
    used = pitch * (len(lines) - 1) + body.above + body.below
    y = MARGIN + dice.whole(0, PAGE_SIZE[0] - 2 * MARGIN - used) + body.above
    left = MARGIN + dice.unit() * (ROOM - max(body.width(line) for line in lines))
    centred = dice.chance(0.15)
    for number, line in enumerate(lines):
        baseline = y + number * pitch
        if centred:
            write_centred(sheet.page, body, line, PAGE_SIZE[1] / 2, baseline)
        else:
            sheet.page.write(body, line, left, baseline)
    return finish(sheet, dice, Question("Read.", "\n".join(lines)), "paragraph", [font], guessable)


def wrapped(dice: Dice, source: Callable[[Dice], str], body: Face, width: float, rows: int) -> list[str]:
    """`rows` lines of at most `width` pixels, filled with words from as many calls of `source` as needed."""
    lines: list[str] = []
    line = ""
    while True:
        for word in source(dice).split(" "):
            longer = f"{line} {word}" if line else word
            if body.width(longer) <= width:
                line = longer
                continue
            if line:
                lines.append(line)
            if len(lines) == rows:
                return lines
            line = body.fit(word, width)  # a single word wider than the line loses its end
