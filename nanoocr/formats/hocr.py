"""hOCR 1.2: the page as XHTML with boxes in `title` (http://kba.cloud/hocr-spec/1.2/).

Readers differ from the specification, so the file keeps to what all of them take: page > area > paragraph >
line > word without gaps, `bbox` first in every title, whole numbers, headings as plain lines.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version

from lxml import etree

from nanoocr.document import Line, PageLike, TextPage, Word, blocks
from nanoocr.formats.clean import clean_pages
from nanoocr.formats.shapes import baseline_of, pixel, pixels, quarter, slope

XHTML = "http://www.w3.org/1999/xhtml"
DOCTYPE = (
    '<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Transitional//EN" '
    '"http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd">'
)
# Some checkers refuse a class that this list lacks.
CAPABILITIES = "ocr_page ocr_carea ocr_par ocr_line ocrx_word"


def render(pages: Iterable[PageLike]) -> bytes:
    """One XHTML file for all the pages, UTF-8."""
    html = etree.Element(f"{{{XHTML}}}html", nsmap={None: XHTML})
    head = etree.SubElement(html, f"{{{XHTML}}}head")
    cleaned = clean_pages(pages)
    etree.SubElement(head, f"{{{XHTML}}}title").text = cleaned[0].file if cleaned else "no pages"
    for attributes in (
        {"http-equiv": "Content-Type", "content": "text/html; charset=utf-8"},
        {"name": "ocr-system", "content": software()},
        {"name": "ocr-capabilities", "content": CAPABILITIES},
        {"name": "ocr-number-of-pages", "content": str(len(cleaned))},
    ):
        etree.SubElement(head, f"{{{XHTML}}}meta", attributes)
    body = etree.SubElement(html, f"{{{XHTML}}}body")
    for number, page in enumerate(cleaned, 1):
        _add_page(body, page, number)
    etree.indent(html, space=" ")
    return etree.tostring(html, encoding="utf-8", xml_declaration=True, doctype=DOCTYPE)


def software() -> str:
    """Name and version of this package, as files name what wrote them."""
    try:
        return f"nanoocr {version('nano-deepseek-ocr')}"
    except PackageNotFoundError:  # run from a folder that was never installed
        return "nanoocr"


def _add_page(body: etree._Element, page: TextPage, number: int) -> None:
    # A quotation mark would end the file name within the title.
    name = page.file.replace('"', "'")
    title = f'bbox 0 0 {page.width} {page.height}; image "{name}"; ppageno {page.page - 1}'
    if page.dpi is not None:
        title += f"; scan_res {pixel(page.dpi)} {pixel(page.dpi)}"
    element = _add(body, "div", "ocr_page", f"page_{number}", title)
    if page.error is not None:
        element.append(etree.Comment(f" {page.error.replace('--', '- -').rstrip('-')} "))
    lines = 0
    for order, block in enumerate(blocks(page.lines), 1):
        _add_block(element, block, f"{number}_{order}", lines)
        lines += len(block)


def _add_block(page: etree._Element, block: Sequence[Line], name: str, before: int) -> None:
    box = "bbox " + _numbers(pixels(*(line.quad for line in block)))
    area = _add(page, "div", "ocr_carea", f"block_{name}", box)
    paragraph = _add(area, "p", "ocr_par", f"par_{name}", box)
    number = name.split("_")[0]
    for order, line in enumerate(block, before + 1):
        element = _add(paragraph, "span", "ocr_line", f"line_{number}_{order}", _line_title(line))
        for place, word in enumerate(line.words, 1):
            title = _word_title(word)
            _add(element, "span", "ocrx_word", f"word_{number}_{order}_{place}", title).text = word.text


def _line_title(line: Line) -> str:
    box = pixels(line.quad)
    parts = [f"bbox {_numbers(box)}"]
    turned = quarter(line.quad)
    if turned:
        # Counted counter-clockwise: 90 is text that runs upwards.
        parts.append(f"textangle {(-90 * turned) % 360}")
    else:
        baseline = baseline_of(line)
        fall = slope(baseline)
        # The height at the left edge of the box, measured from its lower edge, downwards.
        offset = baseline[0][1] + (box.left - baseline[0][0]) * fall - box.bottom
        parts.append(f"baseline {fall:.4g} {pixel(offset)}")
    if line.cap_height:
        # x_size is the height of a line without leading; capitals take about 0.7 of it.
        parts.append(f"x_size {line.cap_height / 0.7:.1f}")
    return "; ".join(parts)


def _word_title(word: Word) -> str:
    title = f"bbox {_numbers(pixels(word.quad))}"
    return title if word.confidence is None else f"{title}; x_wconf {pixel(word.confidence * 100)}"


def _numbers(values: Iterable[int]) -> str:
    return " ".join(map(str, values))


def _add(parent: etree._Element, tag: str, kind: str, name: str, title: str) -> etree._Element:
    return etree.SubElement(parent, f"{{{XHTML}}}{tag}", {"class": kind, "id": name, "title": title})
