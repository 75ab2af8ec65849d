"""Tables: a header and rows of short cells, with or without rules; the answer is a Markdown pipe table."""

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
    write_right,
)
from nanoocr.data.synth.fonts import Font
from nanoocr.data.synth.page import Face, face
from nanoocr.data.synth.sample import SynthSample

CELL_WIDTH = 90  # pixels a cell's text may be wide
CELL_GAP = 8  # pixels between a column's text and its neighbour's at least


class Column(NamedTuple):
    """One column: its header, its cells, and whether they are figures (set flush right)."""

    header: str
    cells: list[str]
    figures: bool
    width: float  # pixels of the widest text


def _amount(dice: Dice) -> str:
    return f"{dice.whole(0, 10 ** dice.whole(1, 4))}.{dice.whole(0, 99):02d}"


def _count(dice: Dice) -> str:
    return str(dice.whole(0, 10 ** dice.whole(1, 5)))


def _hour(dice: Dice) -> str:
    return f"{dice.whole(0, 23)}:{dice.whole(0, 59):02d}"


def _word(dice: Dice) -> str:
    return dice.pick(words.NOUNS).capitalize()


NATURAL: dict[str, Callable[[Dice], str]] = {
    "City": lambda dice: dice.pick(words.PLACES), "Name": lambda dice: dice.pick(words.FIRST_NAMES),
    "Item": lambda dice: dice.pick(words.GOODS), "Team": lambda dice: dice.pick(words.LAST_NAMES),
    "Type": _word, "Topic": _word, "Month": lambda dice: dice.pick(words.MONTHS),
}  # fmt: skip
FIGURES: dict[str, Callable[[Dice], str]] = {
    "Price": _amount, "Cost": _amount, "Qty": _count, "Total": _count, "Score": _count,
    "Share": text.percentage, "Year": lambda dice: str(dice.whole(1950, 2040)), "Time": _hour,
    "No.": _count, "Rate": text.percentage,
}  # fmt: skip


def make_table(dice: Dice, fonts: Sequence[Font]) -> SynthSample:
    """Two to four columns, two to seven rows; prompt "Read the table.", answer in Markdown."""
    guessable = dice.chance(0.5)
    font = dice.pick(fonts)
    body = face(font, dice.whole(12, 16))
    count = min(dice.whole(2, 7), rows_that_fit(body) * 3 // 4 - 1)
    columns = _columns(dice, body, count, guessable)
    sheet = new_sheet(dice)
    _set(sheet, dice, columns, body)
    answer = markdown([column.header for column in columns], list(zip(*(column.cells for column in columns))))
    return finish(sheet, dice, Question("Read the table.", answer), "table", [font], guessable)


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A pipe table; no cell may contain a pipe."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _columns(dice: Dice, body: Face, rows: int, guessable: bool) -> list[Column]:
    """As many columns as were rolled and fit the sheet; at least one of words or figures."""
    columns: list[Column] = []
    used = 0.0
    names = dice.sample(list(NATURAL), 2) + dice.sample(list(FIGURES), 3)
    for name in [names[0], *dice.sample(names[1:], dice.whole(1, 3))]:
        column = _column(dice, body, name, rows, guessable)
        used += column.width + CELL_GAP
        if columns and used > ROOM:
            break
        columns.append(column)
    return columns


def _column(dice: Dice, body: Face, name: str, rows: int, guessable: bool) -> Column:
    figures = name in FIGURES
    fill: Callable[[Dice], str] = FIGURES[name] if figures else NATURAL[name] if guessable else _random_cell
    header = name if guessable else _random_cell(dice)
    header, *cells = (body.fit(cell, CELL_WIDTH) for cell in [header, *(fill(dice) for _ in range(rows))])
    return Column(header, cells, figures, max(body.width(cell) for cell in [header, *cells]))


def _random_cell(dice: Dice) -> str:
    return text.random_token(dice).replace("|", "/")  # a pipe would end the Markdown cell


def _set(sheet: Sheet, dice: Dice, columns: Sequence[Column], body: Face) -> None:
    """Draws rules and cells, row by row as a reader goes."""
    page, rows = sheet.page, len(columns[0].cells) + 1
    slack = (ROOM - sum(column.width + CELL_GAP for column in columns)) / len(columns)
    widths = [column.width + CELL_GAP + slack * dice.between(0.0, 1.0) for column in columns]
    pitch = row_pitch(dice, body, rows, most=14)
    left = MARGIN + dice.unit() * (ROOM - sum(widths))
    top = MARGIN + dice.whole(0, PAGE_SIZE[0] - 2 * MARGIN - pitch * rows)
    edges = [left + sum(widths[:i]) for i in range(len(widths) + 1)]
    _rules(sheet, dice, [round(edge) for edge in edges], [top + pitch * i for i in range(rows + 1)])
    lift = (pitch - body.above - body.below) // 2 + body.above
    for row in range(rows):
        baseline = top + row * pitch + lift
        for column, start, end in zip(columns, edges, edges[1:]):
            cell = column.cells[row - 1] if row else column.header
            if column.figures:
                write_right(page, body, cell, end - CELL_GAP / 2, baseline)
            else:
                page.write(body, cell, start + CELL_GAP / 2, baseline)


def _rules(sheet: Sheet, dice: Dice, xs: Sequence[int], ys: Sequence[int]) -> None:
    """A full grid, horizontal rules, a rule under the header, a shaded header, or nothing."""
    style = dice.pick(["grid", "grid", "rows", "header", "shade", "none"])
    if style == "none":
        return
    ground = sheet.page.ground_colour()
    draw = sheet.page.draw()
    line = tint(ground, sheet.ink, dice.between(0.3, 0.9))
    if style in ("shade", "grid") and dice.chance(0.6 if style == "grid" else 1.0):
        draw.rectangle([(xs[0], ys[0]), (xs[-1], ys[1])], fill=tint(ground, sheet.ink, 0.15))
    for y in {"grid": ys, "rows": ys, "header": ys[1:2], "shade": ()}[style]:
        draw.line([(xs[0], y), (xs[-1], y)], fill=line)
    for x in xs if style == "grid" else ():
        draw.line([(x, ys[0]), (x, ys[-1])], fill=line)
