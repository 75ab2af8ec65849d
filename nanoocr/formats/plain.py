"""Plain text: a line for each line, a blank line between blocks, a form feed between pages."""

from __future__ import annotations

from collections.abc import Iterable

from nanoocr.document import PageLike
from nanoocr.formats.clean import clean_pages


def render(pages: Iterable[PageLike]) -> str:
    """The text of all pages. A page without text is still one between two form feeds."""
    return "\f".join(f"{page.text}\n" for page in clean_pages(pages))
