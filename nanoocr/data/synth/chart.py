"""Charts: bars, lines and pies whose labels and values are written out, so that the truth is visible."""

from __future__ import annotations

import math
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
    tint,
    write_centred,
    write_right,
)
from nanoocr.data.synth.fonts import Font
from nanoocr.data.synth.page import Colour, Face, face
from nanoocr.data.synth.sample import SynthSample

LABEL_LISTS = (words.MONTHS, words.PLACES, words.GOODS, words.FIRST_NAMES, words.NOUNS)
GAP = 4  # pixels between a mark and its text


class Style(NamedTuple):
    """How large a chart is set, and what is asked about it."""

    sizes: tuple[int, int]  # font sizes, pixels
    marks: tuple[int, int]  # how many bars, points or slices
    room: dict[str, float]  # pixels for a label, by form of chart
    read: float  # chance that the prompt asks for the whole chart, instead of one value


PAGE = Style((12, 14), (3, 5), {"bars": 42.0, "line": 42.0, "beams": 70.0, "pie": 70.0}, read=0.6)
# A poster has few labels in large type, which a small model can read in a view of 256 x 256.
POSTER = Style((16, 20), (2, 4), {"bars": 54.0, "line": 54.0, "beams": 90.0, "pie": 84.0}, read=0.0)


@dataclass(frozen=True)
class Chart:
    """What a chart shows."""

    title: str  # may be empty
    labels: tuple[str, ...]
    values: tuple[int, ...]
    room: float  # the most pixels that a label may take


def make_chart(dice: Dice, fonts: Sequence[Font]) -> SynthSample:
    """Upright bars, lying bars, a line or a pie; all labels and values, or the value of one label."""
    return _make(dice, fonts, "chart", PAGE)


def make_chart_question(dice: Dice, fonts: Sequence[Font]) -> SynthSample:
    """The value of one label of a chart in large type: an answer that only the picture gives."""
    return _make(dice, fonts, "chart_question", POSTER)


def _make(dice: Dice, fonts: Sequence[Font], kind: str, style: Style) -> SynthSample:
    guessable = dice.chance(0.5)
    font = dice.pick(fonts)
    type_face = face(font, dice.whole(*style.sizes))
    form = dice.pick(list(DRAWINGS))
    chart = _chart(dice, type_face, form, style, guessable)
    sheet = new_sheet(dice)
    top = MARGIN
    if chart.title:
        write_centred(sheet.page, type_face, chart.title, PAGE_SIZE[1] / 2, top + type_face.above)
        top += type_face.above + type_face.below + GAP
    DRAWINGS[form](sheet, dice, chart, type_face, top)
    return finish(sheet, dice, _question(dice, chart, style.read), kind, [font], guessable)


def _chart(dice: Dice, type_face: Face, form: str, style: Style, guessable: bool) -> Chart:
    count, room = dice.whole(*style.marks), style.room[form]
    if guessable:
        wanted = dice.sample(dice.pick(LABEL_LISTS), 2 * count)
        short = [label for label in wanted if type_face.width(label) < room - 2]
        wanted = (short + wanted)[:count]  # whole words first
    else:
        wanted = [_random_label(dice) for _ in range(count)]
    # Labels are cut to the room. If two became equal, the question would have no single answer.
    labels = tuple(dict.fromkeys(type_face.fit(label.capitalize(), room) for label in wanted))
    title = ""
    if dice.chance(0.5):
        title = type_face.fit(text.natural_phrase(dice) if guessable else text.random_phrase(dice), ROOM)
    values = _shares(dice, len(labels)) if form == "pie" else _values(dice, len(labels))
    return Chart(title, labels, values, room)


def _random_label(dice: Dice) -> str:
    return "".join(dice.pick(string.ascii_letters + string.digits) for _ in range(dice.whole(2, 5)))


def _values(dice: Dice, count: int) -> tuple[int, ...]:
    largest = 10 ** dice.whole(1, 3)
    return tuple(dice.whole(max(1, largest // 20), largest) for _ in range(count))


def _shares(dice: Dice, count: int) -> tuple[int, ...]:
    """Whole percentages, each at least 5, that add up to 100."""
    weights = [dice.between(1, 4) for _ in range(count)]
    shares = [max(5, int(100 * weight / sum(weights))) for weight in weights]
    shares[0] += 100 - sum(shares)
    return tuple(shares)


def _question(dice: Dice, chart: Chart, read: float) -> Question:
    if dice.chance(read):
        rows = [f"{label}: {value}" for label, value in zip(chart.labels, chart.values)]
        return Question("Read the chart.", "\n".join([chart.title, *rows] if chart.title else rows))
    which = dice.whole(0, len(chart.labels) - 1)
    return Question(f"What is the value of {chart.labels[which]}?", str(chart.values[which]))


def _mark_colours(sheet: Sheet, dice: Dice, count: int) -> list[Colour]:
    """Colours of bars or slices, all from one hue or each its own."""
    one = (dice.whole(40, 220), dice.whole(40, 220), dice.whole(40, 220))
    if dice.chance(0.5):
        return [one] * count
    return [(dice.whole(30, 230), dice.whole(30, 230), dice.whole(30, 230)) for _ in range(count)]


def _draw_bars(sheet: Sheet, dice: Dice, chart: Chart, type_face: Face, top: int) -> None:
    line_height = type_face.above + type_face.below
    floor = PAGE_SIZE[0] - MARGIN - line_height - GAP
    ceiling = top + line_height + GAP
    slot = ROOM / len(chart.labels)
    width = slot * dice.between(0.4, 0.8)
    draw = sheet.page.draw()
    fills = _mark_colours(sheet, dice, len(chart.labels))
    for i, (label, value) in enumerate(zip(chart.labels, chart.values)):
        centre = MARGIN + slot * (i + 0.5)
        height = round((floor - ceiling) * value / max(chart.values))
        draw.rectangle([(centre - width / 2, floor - height), (centre + width / 2, floor)], fill=fills[i])
        write_centred(sheet.page, type_face, label, centre, floor + GAP + type_face.above)
        write_centred(sheet.page, type_face, str(value), centre, floor - height - GAP - type_face.below)
    draw.line([(MARGIN, floor), (PAGE_SIZE[1] - MARGIN, floor)], fill=tint(sheet.ink, fills[0], 0.2))


def _draw_beams(sheet: Sheet, dice: Dice, chart: Chart, type_face: Face, top: int) -> None:
    start = MARGIN + max(type_face.width(label) for label in chart.labels) + GAP
    longest = PAGE_SIZE[1] - MARGIN - start - max(type_face.width(str(v)) for v in chart.values) - 2 * GAP
    slot = (PAGE_SIZE[0] - MARGIN - top) / len(chart.labels)
    thick = slot * dice.between(0.4, 0.8)
    draw = sheet.page.draw()
    fills = _mark_colours(sheet, dice, len(chart.labels))
    for i, (label, value) in enumerate(zip(chart.labels, chart.values)):
        middle = top + slot * (i + 0.5)
        end = start + longest * value / max(chart.values)
        draw.rectangle([(start, middle - thick / 2), (end, middle + thick / 2)], fill=fills[i])
        baseline = round(middle) + (type_face.above - type_face.below) // 2
        write_right(sheet.page, type_face, label, start - GAP, baseline)
        sheet.page.write(type_face, str(value), end + GAP, baseline)


def _draw_line(sheet: Sheet, dice: Dice, chart: Chart, type_face: Face, top: int) -> None:
    line_height = type_face.above + type_face.below
    floor = PAGE_SIZE[0] - MARGIN - line_height - 2 * GAP
    ceiling = top + line_height + 2 * GAP
    slot = ROOM / len(chart.labels)
    draw = sheet.page.draw()
    ground, colour = sheet.page.ground_colour(), _mark_colours(sheet, dice, 1)[0]
    heights = [round((floor - ceiling) * value / max(chart.values)) for value in chart.values]
    points = [(MARGIN + slot * (i + 0.5), floor - height) for i, height in enumerate(heights)]
    draw.line(points, fill=colour, width=dice.whole(1, 3))
    for (x, y), label, value in zip(points, chart.labels, chart.values):
        half = type_face.width(str(value)) / 2 + 1
        # The line must not run through a figure.
        draw.rectangle([(x - half, y - 2 * GAP - line_height), (x + half, y - GAP)], fill=ground)
        draw.ellipse([(x - 3, y - 3), (x + 3, y + 3)], fill=colour)
        write_centred(sheet.page, type_face, label, x, floor + 2 * GAP + type_face.above)
        write_centred(sheet.page, type_face, str(value), x, round(y) - GAP - 1 - type_face.below)


def _draw_pie(sheet: Sheet, dice: Dice, chart: Chart, type_face: Face, top: int) -> None:
    """The slices at the left; the legend at the right carries label and share."""
    draw = sheet.page.draw()
    fills = [(dice.whole(30, 230), dice.whole(30, 230), dice.whole(30, 230)) for _ in chart.labels]
    square = type_face.above
    share_width = max(type_face.width(str(value)) for value in chart.values)
    legend = PAGE_SIZE[1] - MARGIN - share_width - chart.room - 2 * GAP - square
    radius = min(legend - MARGIN - GAP, PAGE_SIZE[0] - MARGIN - top) / 2
    middle_x, middle_y = MARGIN + radius, (top + PAGE_SIZE[0] - MARGIN) / 2
    circle = [(middle_x - radius, middle_y - radius), (middle_x + radius, middle_y + radius)]
    pitch = min(30, math.floor((PAGE_SIZE[0] - MARGIN - top) / len(chart.labels)))
    angle = dice.between(0, 360)
    y = round(middle_y - pitch * len(chart.labels) / 2) + type_face.above
    for label, value, fill in zip(chart.labels, chart.values, fills):
        draw.pieslice(circle, angle, angle + 3.6 * value, fill=fill, outline=sheet.ink)
        angle += 3.6 * value
        draw.rectangle([(legend, y - square), (legend + square - 1, y)], fill=fill)
        sheet.page.write(type_face, label, legend + square + GAP, y)
        write_right(sheet.page, type_face, str(value), PAGE_SIZE[1] - MARGIN, y)
        y += pitch


DRAWINGS: dict[str, Callable[[Sheet, Dice, Chart, Face, int], None]] = {
    "bars": _draw_bars,
    "beams": _draw_beams,
    "line": _draw_line,
    "pie": _draw_pie,
}
