"""Converts DocTags and OTSL, the markup of docling's data sets, to markdown with HTML tables.

text -> `parse` (a tree of elements) -> `_blocks` (markdown paragraphs) and `_table` (HTML).

Vocabulary and meaning follow docling-core (types/doc/tokens.py, its DocTags serializer) and the cards of
DoclingMatix, SynthChartNet, SynthFormulaNet and SynthCodeNet. In the last three the question opens the
element ("<chart>") and the answer begins inside it. OTSL is arXiv 2305.03393: one token for each cell of the
grid, of which lcel, ucel and xcel belong to the cell to the left, above, or both.

Locations, picture classes, page headers and page footers are dropped. What remains is the text that a person
would read, as in olmOCR-mix. Words that look like markup but are not in the vocabulary stay text.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

CELLS = ("fcel", "ecel", "lcel", "ucel", "xcel", "ched", "rhed", "srow", "nl")
HEADERS = ("ched", "rhed", "srow")
CONTINUED = ("lcel", "ucel", "xcel")
VERBATIM = ("code", "formula", "smiles")  # nothing inside these elements is markup
DROPPED = ("page_header", "page_footer", "version")
PARAGRAPHS = ("text", "paragraph", "caption", "footnote", "reference", "smiles")
LISTS = ("ordered_list", "unordered_list")
BOXES = {"checkbox_selected": "- [x] ", "checkbox_unselected": "- [ ] "}
# each of these becomes one paragraph
SINGLE = (*PARAGRAPHS, *BOXES, "inline", "title", "list_item", "formula")
CONTAINERS = (
    "doctag", "otsl", "chart", "picture", "document_index", "list_item", "inline", "title", "form",
    "key_value_region",
)  # fmt: skip
PICTURE_CLASSES = (
    "other", "picture_group", "pie_chart", "bar_chart", "stacked_bar_chart", "line_chart", "flow_chart",
    "scatter_chart", "heatmap", "remote_sensing", "natural_image", "chemistry_molecular_structure",
    "chemistry_markush_structure", "icon", "logo", "signature", "stamp", "qr_code", "bar_code", "screenshot",
    "map", "stratigraphic_chart", "cad_drawing", "electrical_diagram",
)  # fmt: skip
_FIELD = r"(?:key|value)_\d+"
_SECTION = r"section_header_level_\d"
_ELEMENT = "|".join([*CONTAINERS, *PARAGRAPHS, *LISTS, *VERBATIM, *DROPPED, *BOXES, _SECTION, _FIELD])
_VOID = "|".join([*CELLS, *PICTURE_CLASSES, "page_break", r"loc_\d+", r"link_\d+", "_[^<>\\s]+_"])
_TAG = re.compile(rf"<(?P<close>/?)(?:(?P<element>{_ELEMENT})|(?P<void>{_VOID}))\s*(?P<empty>/?)>")
_LOCATIONS = re.compile(r"(?:\s*<loc_\d+\s*/?>)+")
_LANGUAGE = re.compile(r"\s*<_([^<>\s]+)_>")
_LAST = re.compile(rf"</(?P<element>{_ELEMENT})>\s*$")
_BULLET = re.compile(r"[•·▪◦‣●○■–—*-]\s+")
_NUMBER = re.compile(r"\(?(?:\d{1,3}|[A-Za-z]|[ivxIVX]{1,5})[.)]\s")
INDENT = " " * 4  # the indentation of a list within a list
DEEPEST = 50  # elements may be nested this deep


class DocTagsError(ValueError):
    """The markup is cut off, or closes an element that was never opened."""


@dataclass
class Element:
    """A tag and its content. Cells and other void tags have none: their text follows them."""

    tag: str
    content: list[str | Element] = field(default_factory=list)


def is_doctags(text: str) -> bool:
    """Whether a text begins like DocTags, or closes an element at its end that its question opened."""
    return _TAG.match(text.lstrip()) is not None or _LAST.search(text) is not None


def doctags_to_markdown(text: str) -> str:
    """Convert a document, or a single element that its question opened, to markdown with HTML tables.

    Raises:
        DocTagsError: the markup is cut off, elements cross, or nesting is deeper than in any document.
    """
    return "\n\n".join(block for block in _blocks(parse(_opened(text.strip()))) if block)


def _opened(text: str) -> str:
    """Put the opening tag in front of a text whose question holds it."""
    last = _LAST.search(text)
    if last is None:
        return text
    tag = last["element"]
    locations = _LOCATIONS.match(text)
    first = _TAG.match(text, locations.end() if locations else 0)
    begins = first is not None and first["element"] is not None
    return text if begins or (tag not in VERBATIM and f"<{tag}>" in text) else f"<{tag}>{text}"


# ---------------------------------------------------------------------------------------------------------
# From text to tree


def parse(text: str) -> Element:
    """The tree under a root called "doctag"."""
    root = Element("doctag")
    stack, end = [root], 0
    while match := _TAG.search(text, end):
        stack[-1].content.append(text[end : match.start()])
        end = match.end()
        tag = match["element"] or match["void"]
        if match["close"] and match["void"]:
            continue  # Some writers close their cells, which needs no closing tag.
        if match["close"]:
            _close(stack, tag)
        elif match["void"] or match["empty"]:
            stack[-1].content.append(Element(tag))
        elif tag in VERBATIM:
            inside, end = _verbatim(text, tag, end)
            stack[-1].content.append(Element(tag, [inside]))
        else:
            stack.append(Element(tag))
            stack[-2].content.append(stack[-1])
            if len(stack) > DEEPEST:
                raise DocTagsError(f"elements lie {DEEPEST} deep in each other")
    stack[-1].content.append(text[end:])
    if len(stack) > 1:
        raise DocTagsError(f"<{stack[-1].tag}> is never closed")
    return root


def _close(stack: list[Element], tag: str) -> None:
    if len(stack) == 1:
        raise DocTagsError(f"</{tag}> closes nothing")
    if stack[-1].tag != tag:
        raise DocTagsError(f"</{tag}> closes <{stack[-1].tag}>")
    stack.pop()


def _verbatim(text: str, tag: str, start: int) -> tuple[str, int]:
    """The content of a verbatim element, and where the text goes on.

    A single element at the end of the text may contain its own closing tag, because HTML is code too.
    """
    closing = f"</{tag}>"
    alone = text.startswith(f"<{tag}>") and text.endswith(closing)
    end = text.rfind(closing) if alone else text.find(closing, start)
    if end < start:
        raise DocTagsError(f"<{tag}> is never closed")
    inside = text[start:end]
    locations = _LOCATIONS.match(inside)
    return inside[locations.end() if locations else 0 :], end + len(closing)


# ---------------------------------------------------------------------------------------------------------
# From tree to markdown


def _blocks(element: Element) -> Iterator[str]:
    """The paragraphs of an element."""
    tag = element.tag
    if tag in DROPPED:
        return
    if any(isinstance(part, Element) and part.tag in CELLS for part in element.content):
        yield from _table(element)
    elif tag in LISTS:
        yield "\n".join(_items(element))
    elif tag == "code":
        yield _code(element)
    elif tag in ("form", "key_value_region"):
        yield "\n".join(line for part in element.content if (line := _line(part)))
    elif tag in SINGLE or re.fullmatch(_SECTION, tag):
        if text := _inline(element, display=True):
            yield _marked(text, 0) if tag == "list_item" else _heading(tag) + text
    else:
        for part in element.content:
            if isinstance(part, Element):
                yield from _blocks(part)
            elif part.strip():
                yield part.strip()


def _heading(tag: str) -> str:
    """The marks before a heading. As in docling, a section of level 1 is one level below the title."""
    if tag.startswith("section_header"):
        return "#" * (int(tag[-1]) + 1) + " "
    return {"title": "# ", **BOXES}.get(tag, "")


def _inline(element: Element, *, display: bool = False) -> str:
    """The text of an element. Formulas stand between dollars, or two dollars where they stand alone."""
    if element.tag == "formula":
        mark = "$$" if display else "$"
        text = _plain(element)
        return f"{mark}{text}{mark}" if text else ""
    if element.tag == "code":
        text = _LANGUAGE.sub("", _plain(element), count=1).strip()
        return f"`{text}`" if text else ""
    return " ".join(line for part in element.content if (line := _line(part)))


def _line(part: str | Element) -> str:
    return part.strip() if isinstance(part, str) else _inline(part)


def _plain(element: Element) -> str:
    return "".join(part for part in element.content if isinstance(part, str)).strip()


def _code(element: Element) -> str:
    """A fenced code block, with the language where it is known."""
    text = "".join(part for part in element.content if isinstance(part, str))
    language = _LANGUAGE.match(text)
    body = text[language.end() if language else 0 :].strip("\n").rstrip()
    name = language[1].lower() if language and language[1] != "unknown" else ""
    fence = "```"
    while fence in body:
        fence += "`"
    return f"{fence}{name}\n{body}\n{fence}"


def _items(element: Element, indent: str = "") -> Iterator[str]:
    """The lines of a list. Numbers in the text stay; items without a number are counted."""
    number = 0
    for part in element.content:
        if isinstance(part, str):
            part = Element("list_item", [part])
        if part.tag in LISTS:
            yield from _items(part, indent + INDENT)
            continue
        nested = [inner for inner in part.content if isinstance(inner, Element) and inner.tag in LISTS]
        rest = [inner for inner in part.content if not (isinstance(inner, Element) and inner.tag in LISTS)]
        if text := _inline(Element(part.tag, rest)):
            number += 1
            yield indent + _marked(text, number if element.tag == "ordered_list" else 0)
        for inner in nested:
            yield from _items(inner, indent + INDENT)


def _marked(text: str, number: int) -> str:
    if number:
        return text if _NUMBER.match(text) else f"{number}. {text}"
    return f"- {_BULLET.sub('', text, count=1) if _BULLET.match(text) else text}"


# ---------------------------------------------------------------------------------------------------------
# From OTSL to HTML


@dataclass
class Cell:
    """One place of a table's grid."""

    tag: str
    text: str = ""


def _table(element: Element) -> Iterator[str]:
    """Yield the text before the first cell, the captions, and then the table."""
    rows: list[list[Cell]] = [[]]
    before: list[str] = []
    for part in element.content:
        if isinstance(part, Element) and part.tag == "nl":
            rows.append([])
        elif isinstance(part, Element) and part.tag in CELLS:
            rows[-1].append(Cell(part.tag))
        elif isinstance(part, Element) and part.tag == "caption":
            before.append(_inline(part))
        elif text := _line(part):
            if not rows[-1]:
                before.append(text)
                continue
            cell = rows[-1][-1]
            cell.text = f"{cell.text} {text}".strip()
            if cell.tag in CONTINUED:  # A cell with a text of its own does not continue another.
                cell.tag = "fcel"
    yield from (text for text in before if text)
    if grid := [row for row in rows if row]:
        yield _html(grid)


def _html(grid: list[list[Cell]]) -> str:
    """The grid as one line of HTML. Short rows are filled up; cells that continue nothing become empty."""
    width = max(len(row) for row in grid)
    grid = [row + [Cell("ecel") for _ in range(width - len(row))] for row in grid]
    covered: set[tuple[int, int]] = set()
    lines = []
    for r, row in enumerate(grid):
        line = ""
        for c, cell in enumerate(row):
            if (r, c) not in covered:
                height, span = _span(grid, r, c)
                covered |= {(r + i, c + j) for i in range(height) for j in range(span)}
                line += _cell(cell, height, span)
        lines.append(f"<tr>{line}</tr>")
    return f"<table>{''.join(lines)}</table>"


def _span(grid: list[list[Cell]], r: int, c: int) -> tuple[int, int]:
    """(rows, columns) of the cell whose upper left corner is at (r, c)."""
    if grid[r][c].tag in CONTINUED:
        return 1, 1
    columns = 1
    while c + columns < len(grid[r]) and grid[r][c + columns].tag == "lcel":
        columns += 1
    rows = 1
    while r + rows < len(grid):
        first, *others = grid[r + rows][c : c + columns]
        if first.tag != "ucel" or any(cell.tag not in ("xcel", "ucel") for cell in others):
            break
        rows += 1
    return rows, columns


def _cell(cell: Cell, rows: int, columns: int) -> str:
    name = "th" if cell.tag in HEADERS else "td"
    spans = (f' rowspan="{rows}"' if rows > 1 else "") + (f' colspan="{columns}"' if columns > 1 else "")
    return f"<{name}{spans}>{html.escape(' '.join(cell.text.split()), quote=False)}</{name}>"
