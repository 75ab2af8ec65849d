"""Pages with lines out of PAGE-XML, ALTO and hOCR, in the files' own units.

Each tool writes these formats in its own way: a namespace of another year, texts of words without one of
their line, an outline without a box, tenths of millimetres. So elements go by their local names, and what a
line lacks is taken from its words.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from lxml import etree

from nanoocr.document import Point, hull
from nanoocr.errors import UsageError
from nanoocr.finetune.types import FoundPage, Placed

SUFFIXES = (".xml", ".hocr", ".html", ".htm", ".xhtml", ".alto", ".page")
HEAD = 2048  # bytes in which an hOCR file says <html, whatever its name ends in
HOCR_LINES = ("ocr_line", "ocrx_line", "ocr_header", "ocr_footer", "ocr_caption", "ocr_textfloat")
HOCR_WORDS = ("ocrx_word", "ocr_word")
UNITS = {"mm10": 254.0, "inch1200": 1200.0}  # ALTO's units to an inch; the third one is the pixel
BREAKS = {"\u00ad": "-", "¬": "-"}  # the signs that ALTO has for a printed hyphen
Element = Any  # lxml has no types of its own


def pages_of(path: Path) -> list[FoundPage]:
    """The pages of a PAGE-XML, ALTO or hOCR file.

    Raises:
        UsageError: the file cannot be read as one of the three.
    """
    tree = _parsed(path)
    kind = etree.QName(tree).localname.lower() if isinstance(tree.tag, str) else ""
    readers: dict[str, Callable[[Element], list[FoundPage]]] = {
        "pcgts": _page_xml,
        "alto": _alto,
        "html": _hocr,
    }
    if kind not in readers:
        raise UsageError(f"{path}: neither PAGE-XML nor ALTO nor hOCR (its outermost element is <{kind}>)")
    return readers[kind](tree)


def _parsed(path: Path) -> Element:
    """The root element. A file may define entities of its own, but nothing outside of it is opened."""
    try:
        content = path.read_bytes()
        try:
            return etree.fromstring(content, etree.XMLParser(resolve_entities="internal", no_network=True))
        except etree.XMLSyntaxError:
            if b"<html" not in content[:HEAD].lower():
                raise
            # Without a word about it, the parser takes HTML for Latin-1.
            encoding = "utf-8" if _is_utf8(content) else None
            return etree.fromstring(content, etree.HTMLParser(no_network=True, encoding=encoding))
    except (OSError, etree.LxmlError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read as XML ({error})") from error


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def _all(element: Element, name: str) -> list[Element]:
    """Descendants by local name, whatever version of the format the namespace says."""
    return list(element.iterfind(f".//{{*}}{name}"))


def _text(element: Element) -> str:
    """All text of an element. HTML's named characters are still names where a DTD defines them."""
    parts = [element.text or ""]
    for child in element:
        if isinstance(child.tag, str):
            parts.append(_text(child))
        elif child.tag is etree.Entity:
            parts.append(html.unescape(child.text))
        parts.append(child.tail or "")
    return "".join(parts)


def _number(text: str | None) -> float:
    try:
        return float(text) if text is not None else math.nan
    except ValueError:
        return math.nan


def _around(boxes: Sequence[Sequence[Point]]) -> list[Point]:
    """The corners of what holds all boxes; nothing where there are none."""
    points = [point for box in boxes for point in box if all(map(math.isfinite, point))]
    return list(hull(points).quad()) if points else []


# ---------------------------------------------------------------------------------------------------
# PAGE-XML


def _page_xml(tree: Element) -> list[FoundPage]:
    found = []
    pages = _all(tree, "Page")
    for number, page in enumerate(pages, start=1):
        lines = tuple(_page_line(line) for line in _all(page, "TextLine"))
        # A region may have a text without lines: one without places.
        regions = [
            one
            for one in _all(page, "TextRegion")
            if not _all(one, "TextLine") and not _all(one, "TextRegion")
        ]
        said = [text for text in map(_page_text, regions) if text.strip()]
        if any(text.strip() for text, _ in lines):
            lines += tuple((text, ()) for text in said)
        found.append(
            FoundPage(
                picture=page.get("imageFilename") or "",
                size=(_number(page.get("imageHeight")), _number(page.get("imageWidth"))),
                lines=lines,
                number=number,
                count=len(pages),
                text="\n".join(said),
            )
        )
    return found


def _page_line(line: Element) -> Placed:
    """A line's text and outline, or those of its words."""
    words = line.findall("{*}Word")
    text = _page_text(line) or " ".join(filter(None, map(_page_text, words)))
    return text, _outline(line) or _around([_outline(word) for word in words])


def _page_text(element: Element) -> str:
    """The text of a region, line or word: that of the lowest index, or that of its glyphs."""
    equivalents = element.findall("{*}TextEquiv")
    # Of several readings the one with the lowest index is the best, by the format's documentation.
    equivalents.sort(key=lambda one: _index(one.get("index")))
    for one in equivalents:
        written = one.find("{*}Unicode")
        if written is not None and (text := _text(written)).strip():
            return text
    return "".join(map(_page_text, element.findall("{*}Glyph")))


def _index(text: str | None) -> float:
    number = _number(text)
    return number if math.isfinite(number) else 0.0


def _outline(element: Element) -> list[Point]:
    """The outline of `Coords`: in its attribute since 2013, in elements before."""
    coordinates = element.find("{*}Coords")
    if coordinates is None:
        return []
    if (listed := coordinates.get("points")) is not None:
        return _pairs(listed)
    return [(_number(point.get("x")), _number(point.get("y"))) for point in coordinates.findall("{*}Point")]


def _pairs(listed: str) -> list[Point]:
    """`1,2 3,4` and `1 2 3 4` as points; a point that is no number stays, and spoils its line."""
    pairs = [pair.split(",") for pair in listed.split()]
    if pairs and all(len(pair) == 1 for pair in pairs):
        single = [pair[0] for pair in pairs]
        pairs = [list(pair) for pair in zip(single[::2], single[1::2])]
    return [(_number(pair[0]), _number(pair[1]) if len(pair) == 2 else math.nan) for pair in pairs]


# ---------------------------------------------------------------------------------------------------
# ALTO


def _alto(tree: Element) -> list[FoundPage]:
    names = [_text(name) for name in _all(tree, "fileName")]
    units = [_text(unit).strip().lower() for unit in _all(tree, "MeasurementUnit")]
    pages = _all(tree, "Page")
    return [
        FoundPage(
            picture=names[0] if names else "",
            size=_alto_size(page),
            lines=tuple(_alto_line(line) for line in _all(page, "TextLine")),
            number=number,
            count=len(pages),
            of_picture=_whole(page.get("PHYSICAL_IMG_NR")),
            per_inch=UNITS.get(units[0], math.nan) if units else math.nan,
        )
        for number, page in enumerate(pages, start=1)
    ]


def _alto_size(page: Element) -> tuple[float, float]:
    """(height, width) of a page, or of a print space that begins at its corner."""
    spaces = [
        one for one in page.findall("{*}PrintSpace") if (one.get("HPOS"), one.get("VPOS")) == ("0", "0")
    ]
    sizes = [(_number(one.get("HEIGHT")), _number(one.get("WIDTH"))) for one in (page, *spaces)]
    return next((size for size in sizes if all(side > 0 for side in size)), (math.nan, math.nan))


def _alto_line(line: Element) -> Placed:
    """A line's text with the hyphen that ends it, and its box, its outline, or the box around its words."""
    words = _all(line, "String")
    box = _alto_box(line)
    if not box:
        outlines = [_pairs(one.get("POINTS") or "") for one in line.findall("{*}Shape/{*}Polygon")]
        box = _around(outlines) or _around([_alto_box(word) for word in words])
    return _alto_text(line), box


def _alto_text(line: Element) -> str:
    """Words are parted by SP. Writers that leave all of them out mean a blank between any two words."""
    spaced = bool(line.findall("{*}SP"))
    text = ""
    for part in line:
        kind = etree.QName(part).localname if isinstance(part.tag, str) else ""
        said = part.get("CONTENT") or ""
        if kind == "SP":
            text += " "
        elif kind == "String":
            text += said if spaced or not (text and said) else f" {said}"
        elif kind == "HYP":
            # Some writers also end the word with its hyphen.
            text = text.rstrip("-\u00ad¬") + BREAKS.get(said, said or "-")
    return text


def _alto_box(element: Element) -> list[Point]:
    left, top, wide, high = (_number(element.get(key)) for key in ("HPOS", "VPOS", "WIDTH", "HEIGHT"))
    if not math.isfinite(left + top + wide + high):
        return []
    return [(left, top), (left + wide, top), (left + wide, top + high), (left, top + high)]


def _whole(text: str | None) -> int | None:
    return int(text) if text is not None and text.strip().isdecimal() else None


# ---------------------------------------------------------------------------------------------------
# hOCR


def _hocr(tree: Element) -> list[FoundPage]:
    pages = _of_class(tree, ("ocr_page",))
    titles = [page.get("title") or "" for page in pages]
    numbers = [re.search(r"\bppageno\s+(\d+)", title) for title in titles]
    given = [int(one[1]) + 1 if one else None for one in numbers]  # the format counts from 0
    found = []
    for number, (page, title) in enumerate(zip(pages, titles), start=1):
        named = re.search(r"image\s+(?:\"([^\"]*)\"|'([^']*)'|([^;]+))", title)
        corners = _bbox(title)
        found.append(
            FoundPage(
                picture=next(filter(None, named.groups()), "").strip() if named else "",
                size=(corners[2][1], corners[2][0]) if corners else (math.nan, math.nan),
                lines=tuple(_hocr_lines(page)),
                number=number,
                count=len(pages),
                of_picture=given[number - 1] if len(set(given)) == len(given) else None,
            )
        )
    return found


def _hocr_lines(page: Element) -> Iterator[Placed]:
    """Yield the innermost lines, since a caption may hold lines, and the words that are in no line."""
    lines = [line for line in _of_class(page, HOCR_LINES) if len(_of_class(line, HOCR_LINES)) == 1]
    inside = set()
    for line in lines:
        words = _of_class(line, HOCR_WORDS)
        inside.update(words)
        said = " ".join(filter(None, (" ".join(_text(word).split()) for word in words)))
        box = _bbox(line.get("title") or "") or _around([_bbox(word.get("title") or "") for word in words])
        yield said or _text(line), box
    for word in _of_class(page, HOCR_WORDS):
        if word not in inside:
            yield _text(word), _bbox(word.get("title") or "")


def _of_class(element: Element, classes: Sequence[str]) -> list[Element]:
    """The element and its descendants that are of one of the classes."""
    return [one for one in element.iter("*") if set((one.get("class") or "").split()) & set(classes)]


def _bbox(title: str) -> list[Point]:
    found = re.search(r"\bbbox\s+(-?[\d.]+)\s+(-?[\d.]+)\s+(-?[\d.]+)\s+(-?[\d.]+)", title)
    if not found:
        return []
    left, top, right, bottom = map(_number, found.groups())
    return [(left, top), (right, top), (right, bottom), (left, bottom)]
