"""Forms: rows of `key: value`, as on delivery notes, badges and registration sheets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from nanoocr.data.synth import text, words
from nanoocr.data.synth.dice import Dice
from nanoocr.data.synth.document import (
    MARGIN,
    PAGE_SIZE,
    ROOM,
    Question,
    Sheet,
    finish,
    new_sheet,
    row_pitch,
    rows_that_fit,
    tint,
)
from nanoocr.data.synth.fonts import Font
from nanoocr.data.synth.page import Face, face
from nanoocr.data.synth.sample import SynthSample

Value = Callable[[Dice], str]


def _street(dice: Dice) -> str:
    return f"{dice.whole(1, 250)} {dice.pick(words.PLACES)} {dice.pick(['Road', 'Street', 'Lane', 'Way'])}"


def _city(dice: Dice) -> str:
    return dice.pick(words.PLACES)


def _year(dice: Dice) -> str:
    return str(dice.whole(1930, 2040))


FIELDS: dict[str, Value] = {
    "Name": text.full_name, "Customer": text.full_name, "Contact": text.full_name,
    "Signed by": text.full_name, "Address": _street, "Street": _street, "City": _city, "From": _city,
    "To": _city, "Branch": _city,
    "Date": text.date, "Due date": text.date, "Date of birth": text.date, "Valid until": text.date,
    "Time": text.clock_time, "Start": text.clock_time, "Phone": text.phone, "Fax": text.phone,
    "Email": text.email, "Web": text.web_address, "Year": _year, "Amount": text.price, "Balance": text.price,
    "Fee": text.price, "Invoice No": text.code, "Order": text.code, "Ref": text.code, "Serial": text.code,
    "Ticket": text.code, "Room": text.number, "Quantity": text.number, "Weight": text.number,
    "Discount": text.percentage, "Rate": text.percentage, "Subject": text.natural_phrase,
    "Item": text.natural_phrase, "Note": text.natural_phrase, "Title": text.natural_phrase,
}  # fmt: skip


class Style(NamedTuple):
    """How large a form is set, and what is asked about it."""

    sizes: tuple[int, int]  # font sizes, pixels
    rows: tuple[int, int]
    read: float  # chance that the prompt asks for the whole form, instead of one value


PAGE = Style((12, 16), (4, 9), read=0.5)
POSTER = Style((16, 20), (3, 6), read=0.0)  # large type, as in chart.py


def make_form(dice: Dice, fonts: Sequence[Font]) -> SynthSample:
    """Four to nine rows; either "Read." with every row, or "What is the KEY?" with one value."""
    return _make(dice, fonts, "form", PAGE)


def make_form_question(dice: Dice, fonts: Sequence[Font]) -> SynthSample:
    """One value of a form in large type: an answer that only the picture gives."""
    return _make(dice, fonts, "form_question", POSTER)


def _make(dice: Dice, fonts: Sequence[Font], kind: str, style: Style) -> SynthSample:
    guessable = dice.chance(0.5)
    key_font = dice.pick(fonts)
    value_font = dice.pick(fonts) if dice.chance(0.4) else key_font
    size = dice.whole(*style.sizes)
    keys_face, values_face = face(key_font, size), face(value_font, size)
    count = min(dice.whole(*style.rows), rows_that_fit(keys_face), rows_that_fit(values_face))
    fields = _fields(dice, count, guessable, keys_face, values_face)
    sheet = new_sheet(dice)
    _set(sheet, dice, fields, keys_face, values_face)
    return finish(sheet, dice, _question(dice, fields, style.read), kind, [key_font, value_font], guessable)


def _fields(
    dice: Dice, count: int, guessable: bool, keys_face: Face, values_face: Face
) -> list[tuple[str, str]]:
    """Keys with values cut to the room that the widest key leaves, so that they can stand in a column."""
    keys = dice.sample(list(FIELDS), count)
    room = ROOM - max(keys_face.width(f"{key}: ") for key in keys) - 4
    fields = []
    for key in keys:
        value = FIELDS[key](dice) if guessable else text.random_phrase(dice)
        fields.append((key, values_face.fit(value, room)))
    return fields


def _set(
    sheet: Sheet, dice: Dice, fields: Sequence[tuple[str, str]], keys_face: Face, values_face: Face
) -> None:
    page = sheet.page
    taller = keys_face if keys_face.above >= values_face.above else values_face
    pitch = row_pitch(dice, taller, len(fields), most=10)
    below = max(keys_face.below, values_face.below)
    used = pitch * (len(fields) - 1) + taller.above + below
    y = MARGIN + dice.whole(0, max(0, PAGE_SIZE[0] - 2 * MARGIN - used)) + taller.above
    column = max(keys_face.width(f"{key}: ") for key, _ in fields)
    aligned, ruled = dice.chance(0.6), dice.chance(0.4)
    rule_colour = tint(page.ground_colour(), sheet.ink, 0.35)
    for number, (key, value) in enumerate(fields):
        baseline = y + number * pitch
        after = page.write(keys_face, f"{key}: ", MARGIN, baseline)
        page.write(values_face, value, MARGIN + column if aligned else after, baseline)
        rule = baseline + below
        if ruled and rule < page.height - 1:
            page.draw().line([(MARGIN, rule), (page.width - MARGIN, rule)], fill=rule_colour)


def _question(dice: Dice, fields: Sequence[tuple[str, str]], read: float) -> Question:
    if dice.chance(read):
        return Question("Read.", "\n".join(f"{key}: {value}" for key, value in fields))
    key, value = dice.pick(fields)
    return Question(f"What is the {key}?", value)
