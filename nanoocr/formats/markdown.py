"""Markdown: paragraphs, headings by the height of their capitals, lists, and tables from aligned columns.

Only what the places of the words show is marked up. Lines stay lines: Markdown shows them as one paragraph,
and nobody has to guess whether a hyphen at a line's end belongs to the word.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from nanoocr.document import Line, PageLike, TextPage, blocks, height
from nanoocr.formats.clean import clean_pages
from nanoocr.formats.tables import find_table

HEADING = 1.25  # a heading's capitals are at least this many times as high as those of the running text
HEADING_LINES = 3  # a longer block in large letters is text
LEVELS = 6  # Markdown has no deeper heading
BULLET = re.compile(r"[•·●▪◦‣∙○*–—-]\s+(?=\S)")
NUMBER = re.compile(r"(\d{1,3})[.)]\s+(?=\S)")
# What Markdown would take for markup in the middle of a text, and at the start of a line.
SPECIAL = re.compile(r"([\\`*_\[\]<>|])")
SPECIAL_START = re.compile(r"^(#{1,6}(?=\s|$)|[-+](?=\s|$)|=+$|-+$|~~~|\d{1,9}[.)](?=\s|$))")


def render(pages: Iterable[PageLike]) -> str:
    """One text for all pages, with a rule between them."""
    return "\n---\n\n".join(_page(page) for page in clean_pages(pages))


def _page(page: TextPage) -> str:
    if not page.lines:
        # No places, so nothing is known but the text itself.
        return f"{page.text}\n" if page.text else ""
    members = list(blocks(page.lines))
    levels = _heading_levels(members)
    return "\n".join(_block(block, level) for block, level in zip(members, levels, strict=True))


def _block(block: Sequence[Line], level: int) -> str:
    if level:
        return f"{'#' * level} {' '.join(_escape(line.text) for line in block)}\n"
    table = find_table(block)
    if table is not None:
        return _table(table)
    if _opens_item(block[0].text):
        return _list(block)
    return "".join(f"{_escape_line(line.text)}\n" for line in block)


# ---------------------------------------------------------------------------------------------------
# Headings


def _heading_levels(members: Sequence[Sequence[Line]]) -> list[int]:
    """0 for text, else the depth of the heading: the largest letters of the page are level 1."""
    sizes = [_size(block) for block in members]
    body = _body_size(members, sizes)
    headings = [size > HEADING * body and len(block) <= HEADING_LINES for block, size in zip(members, sizes)]
    steps: list[float] = []
    for size in sorted((size for size, is_heading in zip(sizes, headings) if is_heading), reverse=True):
        # Sizes within a tenth of each other are one size, measured twice.
        if not steps or size < 0.9 * steps[-1]:
            steps.append(size)
    return [
        min(LEVELS, sum(size < 0.95 * step for step in steps) + 1) if is_heading else 0
        for size, is_heading in zip(sizes, headings)
    ]


def _size(block: Sequence[Line]) -> float:
    """The mean height of the block's capitals in pixels, guessed from the line's where it is unknown."""
    return sum(line.cap_height or 0.6 * height(line.quad) for line in block) / len(block)


def _body_size(members: Sequence[Sequence[Line]], sizes: Sequence[float]) -> float:
    """The size in which most of the page's letters are set."""
    weighed = sorted((size, sum(len(line.text) for line in block)) for block, size in zip(members, sizes))
    half, total = sum(count for _, count in weighed) / 2, 0
    for size, count in weighed:
        total += count
        if total >= half:
            return size
    return 0.0


# ---------------------------------------------------------------------------------------------------
# Lists and tables


def _opens_item(text: str) -> bool:
    return bool(BULLET.match(text) or NUMBER.match(text))


def _list(block: Sequence[Line]) -> str:
    """Each line with a mark opens an item; the others go on with the one before."""
    rows = []
    for line in block:
        bullet, number = BULLET.match(line.text), NUMBER.match(line.text)
        if bullet:
            rows.append(f"- {_escape_line(line.text[bullet.end() :])}")
        elif number:
            rows.append(f"{number[1]}. {_escape_line(line.text[number.end() :])}")
        else:
            rows.append(f"  {_escape_line(line.text)}")
    return "".join(f"{row}\n" for row in rows)


def _table(rows: Sequence[Sequence[str]]) -> str:
    """A pipe table; its first row is the head, because Markdown knows no table without one."""
    head, *body = ([_escape(cell) for cell in row] for row in rows)
    lines = [head, ["---"] * len(head), *body]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _escape(text: str) -> str:
    return SPECIAL.sub(r"\\\1", text)


def _escape_line(text: str) -> str:
    """A line of text, with a backslash where Markdown would see a heading, a list or a rule."""
    escaped = _escape(text)
    found = SPECIAL_START.match(escaped)
    if found is None:
        return escaped
    # In a number the mark is the dot behind it; everywhere else it is the first character.
    at = len(found[0]) - 1 if found[0][0].isdigit() else 0
    return f"{escaped[:at]}\\{escaped[at:]}"
