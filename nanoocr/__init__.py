"""nanoocr: train, measure and run your own optical-compression OCR model.

`from nanoocr import Reader` loads torch only when the name is asked for. `draw(page)` shows what was read
where, `merge_pdf(pages, path)` makes one searchable PDF of many pages.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nanoocr.formats import merge_pdf
    from nanoocr.formats.overlay import draw
    from nanoocr.inference.page import Page
    from nanoocr.inference.reader import Reader

__all__ = ["Page", "Reader", "draw", "merge_pdf"]

_HOMES = {
    "Page": "nanoocr.inference.page",
    "Reader": "nanoocr.inference.reader",
    "draw": "nanoocr.formats.overlay",
    "merge_pdf": "nanoocr.formats",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
