"""TSV with the columns that tesseract writes: a row for each page, block, paragraph, line and word."""

from __future__ import annotations

from collections.abc import Iterable

from nanoocr.document import PageLike, TextPage, blocks
from nanoocr.formats.clean import clean_pages
from nanoocr.formats.shapes import PixelBox, pixels

COLUMNS = (
    *("level", "page_num", "block_num", "par_num", "line_num", "word_num"),
    *("left", "top", "width", "height", "conf", "text"),
)
NO_CONFIDENCE = -1
PAGE, BLOCK, PARAGRAPH, LINE, WORD = range(1, 6)


def render(pages: Iterable[PageLike]) -> str:
    """One table for all pages. `conf` is from 0 to 100, -1 where there is none."""
    rows: list[list[object]] = [list(COLUMNS)]
    for number, page in enumerate(clean_pages(pages), 1):
        rows += _page_rows(page, number)
    return "".join("\t".join(map(str, row)) + "\n" for row in rows)


def _page_rows(page: TextPage, number: int) -> Iterable[list[object]]:
    yield _row(PAGE, [number, 0, 0, 0, 0], PixelBox(0, 0, page.width, page.height))
    for block_number, block in enumerate(blocks(page.lines), 1):
        box = pixels(*(line.quad for line in block))
        yield _row(BLOCK, [number, block_number, 0, 0, 0], box)
        yield _row(PARAGRAPH, [number, block_number, 1, 0, 0], box)
        for line_number, line in enumerate(block, 1):
            yield _row(LINE, [number, block_number, 1, line_number, 0], pixels(line.quad))
            for word_number, word in enumerate(line.words, 1):
                place = [number, block_number, 1, line_number, word_number]
                conf = NO_CONFIDENCE if word.confidence is None else round(word.confidence * 100, 4)
                yield _row(WORD, place, pixels(word.quad), conf, word.text)


def _row(
    level: int, place: list[int], box: PixelBox, conf: float = NO_CONFIDENCE, text: str = ""
) -> list[object]:
    return [level, *place, box.left, box.top, box.width, box.height, conf, text]
