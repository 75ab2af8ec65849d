"""What was read from one page: the record that the reader returns and that every format takes."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from nanoocr.document import Line
from nanoocr.formats.json_text import line_to_dict, rounded
from nanoocr.inference.engine import Completion, TokenCount
from nanoocr.pages import Picture, Source


@dataclass(frozen=True)
class Page:
    """What was read from one page.

    `status` is `ok`, `doubtful` (what was read is unlike the training; `doubt` says how), `truncated` (token
    limit hit), `repetition` (went in circles, cut after the first round) or `error` (then `text` is empty and
    `error` one sentence). `page` counts from 1. `seconds` is the
    wall time from opening the picture's batch to its last token. `confidence` is the mean probability of the
    tokens, None without tokens.

    A page that is read line by line has `lines` in reading order, with their words and places in pixels of
    the picture of `width` x `height`; `quarter_turns` are those clockwise that would set it upright. A page
    that is read in one view has none.
    """

    file: str
    page: int
    text: str
    status: Literal["ok", "doubtful", "truncated", "repetition", "error"]
    error: str | None
    seconds: float
    tokens: TokenCount
    confidence: float | None
    lines: tuple[Line, ...] = ()
    width: int = 0
    height: int = 0
    dpi: float | None = None
    quarter_turns: int = 0
    left_out: int = 0  # how many strips are left out because the model is not sure enough of them
    doubt: str | None = None  # why the text is not to be trusted, in one sentence

    def to_dict(self) -> dict[str, Any]:
        """Plain values in the order of the fields; a number that is not finite becomes None."""
        return {
            "file": self.file,
            "page": self.page,
            "text": self.text,
            "status": self.status,
            "error": self.error,
            "seconds": rounded(self.seconds, 4),
            # A named tuple would become a bare list in JSON.
            "tokens": self.tokens._asdict(),
            "confidence": rounded(self.confidence, 4),
            "width": self.width,
            "height": self.height,
            "quarter_turns": self.quarter_turns,
            "left_out": self.left_out,
            "doubt": self.doubt,
            "lines": [line_to_dict(line) for line in self.lines],
        }

    def to_json(self) -> str:
        """`to_dict` as one line of JSON."""
        # NaN is no JSON: an error here is better than a file that no other program can parse.
        return json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False)

    def to_hocr(self) -> str:
        """The page as hOCR 1.2."""
        return self._rendered("hocr")

    def to_alto(self) -> str:
        """The page as ALTO 4."""
        return self._rendered("alto")

    def to_page_xml(self) -> str:
        """The page as PAGE XML of 2019-07-15."""
        return self._rendered("page")

    def to_markdown(self) -> str:
        """The page as Markdown."""
        return self._rendered("md")

    def save_pdf(self, path: str | Path, source: Source | None = None) -> None:
        """Write the page as a searchable PDF: the picture as it is, its text hidden over it.

        Args:
            source: what was read (bytes, an image), where `file` is no path.

        Raises:
            UsageError: `path` is the file that was read.
            OutputError: the file cannot be written, or what was read cannot be shown.
        """
        # Imported here, because the PDF library is only for those who write one.
        from nanoocr.formats import merge_pdf

        merge_pdf([self], path, None if source is None else {self.file: source})

    def _rendered(self, name: str) -> str:
        from nanoocr.formats import render  # imported here, because reading needs none of it

        # XML comes as bytes, since it declares its own encoding.
        content = render([self], name)
        return content if isinstance(content, str) else content.decode("utf-8")


def make_page(picture: Picture, completion: Completion | None, waited: float) -> Page:
    """The record of a page read in one view; `waited` seconds passed before its batch."""
    # There is nothing to complete where a picture cannot be opened or is too large for the model.
    if completion is None:
        return error_page(picture)
    return Page(
        file=picture.file,
        page=picture.page,
        text=completion.text,
        status=completion.status,
        error=None,
        seconds=waited + completion.seconds,
        tokens=completion.tokens,
        confidence=completion.confidence,
    )


def with_doubt(page: Page, doubt: str | None) -> Page:
    """The page with the reason not to trust it; a text that is cut off keeps the status that says so."""
    if doubt is None or page.status == "error":
        return page
    # That a text is cut is certain, and a doubt is not: the certain one keeps the status.
    return replace(page, status="doubtful" if page.status == "ok" else page.status, doubt=doubt)


def error_page(picture: Picture) -> Page:
    """The record of a page that could not be read."""
    reason = str(picture.error)
    return Page(picture.file, picture.page, "", "error", reason, 0.0, TokenCount(0, 0, 0), None)
