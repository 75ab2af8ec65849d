"""Simple tables from the places of words: rows that break at the same columns of white."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from nanoocr.document import Box, Line, Word, angle, height, hull, words_with_blanks

WIDE_GAP = 1.2  # gaps above this share of the line's height are no blanks, even in justified text
MIN_FILLED = 0.6  # a block with more empty cells than this leaves is no table
UPRIGHT = 5.0  # degrees; columns are looked for in upright text only


class _Cell(NamedTuple):
    text: str
    box: Box


def find_table(block: Sequence[Line]) -> list[list[str]] | None:
    """The cells of a block, row by row, or None if it is no table.

    A table has at least two rows and two columns, each column is set off by white through all its rows and
    is filled in two of them or more, and most of its cells are filled.
    """
    if any(abs(angle(line.quad)) > UPRIGHT for line in block):
        return None
    rows = _rows([cell for line in block for cell in _cells(line)])
    columns = _columns([cell for row in rows for cell in row])
    if len(rows) < 2 or len(columns) < 2:
        return None
    table = [[""] * len(columns) for _ in rows]
    for row, texts in zip(rows, table, strict=True):
        for cell in row:
            index = next(i for i, column in enumerate(columns) if cell.box.left < column[1])
            texts[index] = f"{texts[index]} {cell.text}".strip()
    if any(sum(map(bool, column)) < 2 for column in zip(*table, strict=True)):
        return None  # the gaps of justified text, which fall together by chance
    filled = sum(bool(text) for texts in table for text in texts)
    in_columns = sum(sum(map(bool, texts)) > 1 for texts in table)
    # A paragraph with one wide gap is none: more than half of the rows must have cells side by side.
    if filled < MIN_FILLED * len(rows) * len(columns) or in_columns * 2 <= len(rows):
        return None
    return table


def _cells(line: Line) -> list[_Cell]:
    """The line's words, put together wherever the gap between two is that of a blank."""
    wide = WIDE_GAP * height(line.quad)
    groups: list[list[tuple[Word, bool]]] = []
    for word, blank in words_with_blanks(line):
        if groups and hull(word.quad).left - hull(groups[-1][-1][0].quad).right < wide:
            groups[-1].append((word, blank))
        else:
            groups.append([(word, blank)])
    return [
        _Cell(
            "".join(f"{word.text}{' ' if blank else ''}" for word, blank in group).strip(),
            hull(point for word, _ in group for point in word.quad),
        )
        for group in groups
    ]


def _rows(cells: Sequence[_Cell]) -> list[list[_Cell]]:
    """The cells from top to bottom, those at the same height in one row."""
    rows: list[list[_Cell]] = []
    for cell in sorted(cells, key=lambda cell: cell.box.top + cell.box.bottom):
        middle = (cell.box.top + cell.box.bottom) / 2
        # Measured against the first cell of the row: so leaning rows do not grow into each other.
        if rows and rows[-1][0].box.top < middle < rows[-1][0].box.bottom:
            rows[-1].append(cell)
        else:
            rows.append([cell])
    return [sorted(row, key=lambda cell: cell.box.left) for row in rows]


def _columns(cells: Sequence[_Cell]) -> list[tuple[float, float]]:
    """The ranges of x that cells cover, from left to right, with white between them in every row."""
    columns: list[tuple[float, float]] = []
    for cell in sorted(cells, key=lambda cell: cell.box.left):
        if columns and cell.box.left < columns[-1][1]:
            columns[-1] = (columns[-1][0], max(columns[-1][1], cell.box.right))
        else:
            columns.append((cell.box.left, cell.box.right))
    return columns
