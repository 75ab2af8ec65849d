"""JSON: everything that is known about the pages, with quads as four [x, y] each."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

from nanoocr.document import Line, PageLike, Point, TextPage, Word
from nanoocr.formats.clean import clean_pages


def render(pages: Iterable[PageLike]) -> str:
    """One object `{"pages": [...]}`, a page on each line so that tools can compare files."""
    rows = ",\n".join(_dump(page_to_dict(page)) for page in clean_pages(pages))
    return f'{{"pages": [\n{rows}\n]}}\n'


def page_to_dict(page: TextPage) -> dict[str, Any]:
    """Plain values of one page, in the order of the fields."""
    return {
        "file": page.file,
        "page": page.page,
        "width": page.width,
        "height": page.height,
        "dpi": page.dpi,
        "quarter_turns": page.quarter_turns,
        "error": page.error,
        "text": page.text,
        "lines": [line_to_dict(line) for line in page.lines],
    }


def line_to_dict(line: Line) -> dict[str, Any]:
    """Plain values of a line and its words."""
    return {
        "text": line.text,
        "quad": _points(line.quad),
        "confidence": rounded(line.confidence, 4),
        "block": line.block,
        "baseline": None if line.baseline is None else _points(line.baseline),
        "cap_height": rounded(line.cap_height, 1),
        "words": [_word_to_dict(word) for word in line.words],
    }


def _word_to_dict(word: Word) -> dict[str, Any]:
    return {
        "text": word.text,
        "quad": _points(word.quad),
        "confidence": rounded(word.confidence, 4),
    }


def _points(points: Sequence[Point]) -> list[list[float]]:
    # A tenth of a pixel is finer than any reader knows.
    return [[round(x, 1), round(y, 1)] for x, y in points]


def rounded(number: float | None, digits: int) -> float | None:
    """A number for JSON; None for a missing number or one that is not finite."""
    # JSON has no word for what is not finite.
    return round(number, digits) if number is not None and math.isfinite(number) else None


def _dump(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
