"""nanoocr: train, measure and run your own optical-compression OCR model.

`from nanoocr import Reader, Page` loads torch only when one of the two names is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nanoocr.inference.reader import Page, Reader

__all__ = ["Page", "Reader"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from nanoocr.inference import reader

    return getattr(reader, name)
