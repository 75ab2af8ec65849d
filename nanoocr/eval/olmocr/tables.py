"""Reads the tables of a text, markdown or HTML, as grids of cells with their neighbours and headings.

The olmOCR-style tests use them. The rules of headings and spans are those of allenai/olmocr's benchmark.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Literal

from nanoocr.errors import UsageError

Direction = Literal["up", "down", "left", "right"]
LARGEST_SPAN = 100  # colspan="100000" is a mistake, and would take that many slots


@dataclass(frozen=True)
class Cell:
    """A cell by its top left slot and its size in slots."""

    text: str
    heading: bool
    row: int
    column: int
    rows: int = 1
    columns: int = 1


@dataclass(frozen=True)
class Grid:
    """A table: cells in reading order, and for every covered slot (row, column) the number of its cell."""

    cells: tuple[Cell, ...]
    slots: dict[tuple[int, int], int]
    height: int
    width: int

    def neighbours(self, number: int, direction: Direction) -> set[int]:
        """The cells next to a cell on one side. Free slots are skipped."""
        cell = self.cells[number]
        down, right = cell.row + cell.rows, cell.column + cell.columns
        if direction in ("up", "down"):
            lines = range(cell.row - 1, -1, -1) if direction == "up" else range(down, self.height)
            paths = (((line, column) for line in lines) for column in range(cell.column, right))
        else:
            lines = range(cell.column - 1, -1, -1) if direction == "left" else range(right, self.width)
            paths = (((row, line) for line in lines) for row in range(cell.row, down))
        return {first for path in paths if (first := self._first(path, number)) != number}

    def _first(self, path: Iterable[tuple[int, int]], otherwise: int) -> int:
        return next((self.slots[slot] for slot in path if slot in self.slots), otherwise)

    def headings(self, number: int, direction: Direction) -> set[int]:
        """The heading cells between a cell and the edge; the cells at the edge if there are none."""
        seen, waiting = {number}, [number]
        at_edge: set[int] = set()
        while waiting:
            current = waiting.pop()
            following = self.neighbours(current, direction)
            if not following:
                at_edge.add(current)
            waiting += following - seen
            seen |= following
        found = {other for other in seen if self.cells[other].heading}
        return (found - {number}) or (at_edge - {number})


def read_tables(text: str) -> list[Grid]:
    """All tables of a text, first the markdown ones.

    Raises:
        UsageError: beautifulsoup4 is not installed.
    """
    return [*markdown_tables(text), *html_tables(text)]


def markdown_tables(text: str) -> list[Grid]:
    """Read pipe tables: at least two adjacent lines with a bar. The first row and column are headings."""
    grids = []
    for lines in _runs(text.strip().split("\n"), lambda line: "|" in line):
        rows = pipe_rows(lines)
        if len(lines) > 1 and rows:
            headed = [
                [(cell, r == 0 or c == 0, 1, 1) for c, cell in enumerate(row)] for r, row in enumerate(rows)
            ]
            grids.append(_lay_out(headed))
    return grids


def pipe_rows(lines: Sequence[str]) -> list[list[str]]:
    """The cells of pipe rows, without the outer bars and the rule below the header."""
    rows = []
    for line in lines:
        if line.strip() and set(line.strip()) <= set("- :|"):
            continue
        cells = [cell.strip() for cell in line.split("|")]
        cells = cells[1:] if cells and not cells[0] else cells
        cells = cells[:-1] if cells and not cells[-1] else cells
        if cells:
            rows.append(cells)
    return rows


def pipe_table_to_html(markdown: str) -> str:
    """Convert one pipe table to HTML: the first row is the head, texts are escaped, short rows stay short."""
    rows: list[str] = []
    for cells in pipe_rows(markdown.strip().split("\n")):
        tag = "td" if rows else "th"
        rows.append("".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells))
    return "<table>" + "".join(f"<tr>{row}</tr>" for row in rows) + "</table>"


def html_tables(text: str) -> list[Grid]:
    """Read HTML tables. Headings are th cells and all cells in a thead.

    Raises:
        UsageError: beautifulsoup4 is not installed.
    """
    if "<table" not in text.lower():
        return []
    try:
        from bs4 import BeautifulSoup
    except ImportError as error:
        raise UsageError("reading tables needs the extra: pip install 'nano-deepseek-ocr[eval]'") from error
    # the rows of each table, and whether they are in its head
    by_table: dict[int, list[tuple[Any, bool]]] = {}
    for row in BeautifulSoup(text, "html.parser").find_all("tr"):
        frame = list(takewhile(lambda tag: tag.name not in ("table", "tr"), row.parents))
        table = frame[-1].parent if frame else row.parent
        if table is not None and table.name == "table":
            by_table.setdefault(id(table), []).append((row, any(tag.name == "thead" for tag in frame)))
    grids = []
    for rows in by_table.values():
        described = [_html_row(row, in_head, len(rows) - i) for i, (row, in_head) in enumerate(rows)]
        grids += [_lay_out(described)] if any(described) else []
    return grids


# (a cell's text, whether it is a heading, rowspan, colspan)
_Described = tuple[str, bool, int, int]


def _html_row(row: Any, in_head: bool, rows_left: int) -> list[_Described]:
    cells = []
    for cell in row.find_all(["th", "td"], recursive=False):
        for line_break in cell.find_all("br"):
            line_break.replace_with("\n")
        heading = cell.name == "th" or in_head
        # rowspan="0" means: down to the end of the table.
        rows = rows_left if str(cell.get("rowspan")).strip() == "0" else _span(cell.get("rowspan"))
        cells.append((cell.get_text().strip(), heading, min(rows, rows_left), _span(cell.get("colspan"))))
    return cells


def _span(value: Any) -> int:
    try:
        return min(max(1, int(value)), LARGEST_SPAN)
    except (TypeError, ValueError):
        return 1


def _lay_out(rows: Sequence[Sequence[_Described]]) -> Grid:
    """Place cells into the first free slots of their rows. A spanning cell gets no slot that is taken."""
    cells: list[Cell] = []
    slots: dict[tuple[int, int], int] = {}
    for r, described in enumerate(rows):
        c = 0
        for text, heading, height, width in described:
            while (r, c) in slots:
                c += 1
            for slot in ((r + down, c + right) for down in range(height) for right in range(width)):
                slots.setdefault(slot, len(cells))
            cells.append(Cell(text, heading, r, c, height, width))
            c += width
    last_row = max((row for row, _ in slots), default=-1)
    last_column = max((column for _, column in slots), default=-1)
    return Grid(tuple(cells), slots, last_row + 1, last_column + 1)


def _runs(lines: Sequence[str], fits: Callable[[str], bool]) -> Iterator[list[str]]:
    """The longest runs of adjacent lines that fit."""
    run: list[str] = []
    for line in lines:
        if fits(line):
            run.append(line)
        elif run:
            yield run
            run = []
    if run:
        yield run
