"""What the five page kinds share: a sheet, rows set on it, and the finishing of a sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from nanoocr.data.synth import colours
from nanoocr.data.synth.degrade import PAGE_WEAR, wear_page, wear_picture
from nanoocr.data.synth.dice import Dice
from nanoocr.data.synth.fonts import Font
from nanoocr.data.synth.page import Colour, Face, Page
from nanoocr.data.synth.sample import SynthSample, joined_families

PAGE_SIZE = (256, 256)  # height, width in pixels
MARGIN = 10  # pixels at every side that no ink enters
ROOM = PAGE_SIZE[1] - 2 * MARGIN  # pixels a row may be wide


class Sheet(NamedTuple):
    """An empty page and the ink that can be read on it."""

    page: Page
    ink: Colour


class Question(NamedTuple):
    """What the user asks about a page, and the true answer."""

    prompt: str
    answer: str


def new_sheet(dice: Dice) -> Sheet:
    """White paper with dark ink mostly, any readable pair of colours at times."""
    if dice.chance(0.75):
        return Sheet(Page(PAGE_SIZE, colours.paper(dice)), colours.dark_ink(dice))
    ground = colours.any_ground(dice)
    light = colours.brightness(ground)
    return Sheet(Page(PAGE_SIZE, ground), colours.ink_for(dice, light, light, least=120.0))


def row_pitch(dice: Dice, face: Face, rows: int, most: int = 8) -> int:
    """Pixels from one baseline to the next so that `rows` rows fit the sheet; 0 to `most` more than tight."""
    tight = face.above + face.below
    spare = PAGE_SIZE[0] - 2 * MARGIN - tight * rows
    return tight + dice.whole(0, max(0, min(most, spare // max(rows, 1))))


def rows_that_fit(face: Face) -> int:
    """How many tightly set rows the sheet holds."""
    return (PAGE_SIZE[0] - 2 * MARGIN) // (face.above + face.below)


def write_right(page: Page, face: Face, text: str, right: float, baseline: int) -> None:
    """Sets `text` so that it ends at `right`."""
    page.write(face, text, right - face.width(text), baseline)


def write_centred(page: Page, face: Face, text: str, centre: float, baseline: int) -> None:
    """Sets `text` around `centre`."""
    page.write(face, text, centre - face.width(text) / 2, baseline)


def tint(colour: Colour, towards: Colour, share: float) -> Colour:
    """`colour` moved by `share` (0 to 1) of the way to `towards`."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(colour, towards))
    return (red, green, blue)


def finish(
    sheet: Sheet, dice: Dice, question: Question, kind: str, fonts: Sequence[Font], guessable: bool
) -> SynthSample:
    """Wears the page, colours its ink and packs the sample."""
    page = sheet.page
    wear_page(page, dice, PAGE_WEAR)
    picture = wear_picture(page.colour(sheet.ink), dice, PAGE_WEAR)
    return SynthSample(
        image=picture,
        prompt=question.prompt,
        answer=question.answer,
        kind=kind,
        font=joined_families(fonts),
        chars="".join(page.chars),
        boxes=page.box_array(),
        guessable=guessable,
    )
