"""ALTO 4.2: blocks, lines and words with their places, in pixels (https://www.loc.gov/standards/alto/).

One file per page, as editors want it. Blocks stand directly in the print space and every line has a
baseline, without which some readers find no line at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import PurePath

from lxml import etree

from nanoocr.document import Line, PageLike, Quad, TextPage, Word, angle, blocks, words_with_blanks
from nanoocr.formats.clean import clean
from nanoocr.formats.hocr import software
from nanoocr.formats.shapes import PixelBox, baseline_of, pixel_points, pixels

NAMESPACE = "http://www.loc.gov/standards/alto/ns-v4#"
SCHEMA = "http://www.loc.gov/standards/alto/v4/alto-4-2.xsd"
XSI = "http://www.w3.org/2001/XMLSchema-instance"
UPRIGHT = 2.0  # degrees; for a word or line that leans less than this the box is enough


def render(pages: Sequence[PageLike]) -> bytes:
    """The ALTO of one page, UTF-8. Takes a list as all formats do; several pages make one file."""
    root = etree.Element(f"{{{NAMESPACE}}}alto", nsmap={None: NAMESPACE, "xsi": XSI})
    root.set(f"{{{XSI}}}schemaLocation", f"{NAMESPACE} {SCHEMA}")
    root.set("SCHEMAVERSION", "4.2")
    cleaned = [clean(page).page for page in pages]
    _add_description(root, cleaned)
    layout = _add(root, "Layout")
    for number, page in enumerate(cleaned, 1):
        _add_page(layout, page, f"p{number}")
    etree.indent(root, space=" ")
    return etree.tostring(root, encoding="utf-8", xml_declaration=True)


def _add_description(root: etree._Element, pages: Sequence[TextPage]) -> None:
    description = _add(root, "Description")
    _add(description, "MeasurementUnit").text = "pixel"
    source = _add(description, "sourceImageInformation")
    # Editors find the picture by its name alone, beside the file.
    _add(source, "fileName").text = PurePath(pages[0].file).name if pages else ""
    step = _add(description, "Processing", ID="reading")
    _add(step, "processingCategory").text = "contentGeneration"
    for page in pages:
        if page.error is not None:
            _add(step, "processingStepDescription").text = page.error
    name, _, number = software().partition(" ")
    made_by = _add(step, "processingSoftware")
    _add(made_by, "softwareName").text = name
    _add(made_by, "softwareVersion").text = number


def _add_page(layout: etree._Element, page: TextPage, name: str) -> None:
    size = {"WIDTH": str(page.width), "HEIGHT": str(page.height)}
    number = str(page.page)
    element = _add(layout, "Page", ID=name, PHYSICAL_IMG_NR=number, PROCESSINGREFS="reading", **size)
    space = _add(element, "PrintSpace", HPOS="0", VPOS="0", **size)
    lines = 0
    for order, block in enumerate(blocks(page.lines), 1):
        box = pixels(*(line.quad for line in block))
        block_element = _add(space, "TextBlock", ID=f"{name}_b{order}", **_place(box))
        for line in block:
            lines += 1
            _add_line(block_element, line, f"{name}_l{lines}")


def _add_line(block: etree._Element, line: Line, name: str) -> None:
    baseline = _points(pixel_points(baseline_of(line)))
    element = _add(block, "TextLine", ID=name, BASELINE=baseline, **_place(pixels(line.quad)))
    # kraken takes a line's outline from here alone, not from its box.
    _add_polygon(element, line.quad)
    pairs = words_with_blanks(line)
    _add_word(element, pairs[0][0], f"{name}_w1")
    for place, ((before, blank), (word, _)) in enumerate(pairwise(pairs), 2):
        if blank:
            _add(element, "SP", **_gap(pixels(before.quad), pixels(word.quad)))
        _add_word(element, word, f"{name}_w{place}")


def _add_word(line: etree._Element, word: Word, name: str) -> None:
    confidence = {} if word.confidence is None else {"WC": f"{word.confidence:.4f}"}
    element = _add(line, "String", ID=name, CONTENT=word.text, **_place(pixels(word.quad)), **confidence)
    _add_shape(element, word.quad)


def _add_shape(element: etree._Element, quad: Quad) -> None:
    """Add the quad itself, if it is more than its upright box."""
    if abs(angle(quad)) >= UPRIGHT:
        _add_polygon(element, quad)


def _add_polygon(element: etree._Element, quad: Quad) -> None:
    _add(_add(element, "Shape"), "Polygon", POINTS=_points(pixel_points(quad)))


def _gap(before: PixelBox, after: PixelBox) -> dict[str, str]:
    """The place of a blank, between one word and the next. It has no width where words touch."""
    width = max(0, after.left - before.right)
    return {"HPOS": str(before.right), "VPOS": str(before.top), "WIDTH": str(width)}


def _place(box: PixelBox) -> dict[str, str]:
    return {
        "HPOS": str(box.left),
        "VPOS": str(box.top),
        "WIDTH": str(box.width),
        "HEIGHT": str(box.height),
    }


def _points(points: Sequence[tuple[int, int]]) -> str:
    return " ".join(f"{x} {y}" for x, y in points)


def _add(parent: etree._Element, tag: str, **attributes: str) -> etree._Element:
    return etree.SubElement(parent, f"{{{NAMESPACE}}}{tag}", attributes)
