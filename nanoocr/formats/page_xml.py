"""PAGE XML of 2019-07-15, the exchange format of transcription editors (PRImA).

One file per page. Regions stand directly under the page, every line has a baseline, and lines as well as
words carry their text: readers take one or the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import PurePath

from lxml import etree

from nanoocr.document import Line, PageLike, Quad, TextPage, Word, blocks, join_lines
from nanoocr.errors import UsageError
from nanoocr.formats.clean import clean
from nanoocr.formats.hocr import software
from nanoocr.formats.shapes import PixelBox, baseline_of, pixel_points, pixels

NAMESPACE = "http://schema.primaresearch.org/PAGE/gts/pagecontent/2019-07-15"
XSI = "http://www.w3.org/2001/XMLSchema-instance"


def render(pages: Sequence[PageLike]) -> bytes:
    """The PAGE XML of one page, UTF-8.

    Raises:
        UsageError: not exactly one page, which is what the format holds.
    """
    if len(pages) != 1:
        raise UsageError(f"PAGE XML holds one page, found {len(pages)}: write a file for each page")
    page = clean(pages[0]).page
    root = etree.Element(f"{{{NAMESPACE}}}PcGts", nsmap={None: NAMESPACE, "xsi": XSI})
    # One editor refuses files that do not name their schema.
    root.set(f"{{{XSI}}}schemaLocation", f"{NAMESPACE} {NAMESPACE}/pagecontent.xsd")
    _add_metadata(root, page)
    _add_page(root, page)
    etree.indent(root, space=" ")
    return etree.tostring(root, encoding="utf-8", xml_declaration=True)


def _add_metadata(root: etree._Element, page: TextPage) -> None:
    now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    metadata = _add(root, "Metadata")
    for tag, text in (("Creator", software()), ("Created", now), ("LastChange", now)):
        _add(metadata, tag).text = text
    if page.error is not None:
        _add(metadata, "Comments").text = page.error


def _add_page(root: etree._Element, page: TextPage) -> None:
    attributes = {
        # Editors find the picture by its name alone, beside the file.
        "imageFilename": PurePath(page.file).name or "picture",
        "imageWidth": str(page.width),
        "imageHeight": str(page.height),
    }
    if page.dpi is not None:
        attributes |= {
            "imageXResolution": f"{page.dpi:.2f}",
            "imageYResolution": f"{page.dpi:.2f}",
            "imageResolutionUnit": "PPI",
        }
    if page.quarter_turns:
        # The angle by which the page must be turned clockwise, from above -180 to 180.
        attributes["orientation"] = str({1: 90, 2: 180, 3: -90}[page.quarter_turns])
    element = _add(root, "Page", **attributes)
    regions = list(blocks(page.lines))
    if regions:  # an order without a region is not allowed
        order = _add(_add(element, "ReadingOrder"), "OrderedGroup", id="order")
        for index in range(len(regions)):
            _add(order, "RegionRefIndexed", index=str(index), regionRef=f"r{index + 1}")
    for index, region in enumerate(regions, 1):
        _add_region(element, region, f"r{index}")


def _add_region(page: etree._Element, block: Sequence[Line], name: str) -> None:
    element = _add(page, "TextRegion", id=name)
    box = pixels(*(line.quad for line in block))
    _add(element, "Coords", points=_points(_corners(box)))
    for index, line in enumerate(block, 1):
        _add_line(element, line, f"{name}l{index}")
    _add_text(element, join_lines(block), None)


def _add_line(region: etree._Element, line: Line, name: str) -> None:
    element = _add(region, "TextLine", id=name)
    _add(element, "Coords", points=_outline(line.quad))
    _add(element, "Baseline", points=_points(pixel_points(baseline_of(line))))
    for index, word in enumerate(line.words, 1):
        _add_word(element, word, f"{name}w{index}")
    _add_text(element, line.text, line.confidence)


def _add_word(line: etree._Element, word: Word, name: str) -> None:
    element = _add(line, "Word", id=name)
    _add(element, "Coords", points=_outline(word.quad))
    _add_text(element, word.text, word.confidence)


def _add_text(element: etree._Element, text: str, confidence: float | None) -> None:
    attributes = {} if confidence is None else {"conf": f"{confidence:.4f}"}
    _add(_add(element, "TextEquiv", **attributes), "Unicode").text = text


def _outline(quad: Quad) -> str:
    return _points(pixel_points(quad))


def _corners(box: PixelBox) -> list[tuple[int, int]]:
    left, top, right, bottom = box
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def _points(points: Sequence[tuple[int, int]]) -> str:
    return " ".join(f"{x},{y}" for x, y in points)


def _add(parent: etree._Element, tag: str, **attributes: str) -> etree._Element:
    return etree.SubElement(parent, f"{{{NAMESPACE}}}{tag}", attributes)
