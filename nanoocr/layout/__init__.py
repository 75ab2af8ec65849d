"""From the picture of a page to its lines of text, and from a line to the strips that the model reads."""

from nanoocr.layout.page import find_page
from nanoocr.layout.sideways import turn_over
from nanoocr.layout.strips import cut_strips, stretch_strip
from nanoocr.layout.types import PageLayout, Strip, TextLine, Upright

__all__ = [
    "PageLayout",
    "Strip",
    "TextLine",
    "Upright",
    "cut_strips",
    "find_page",
    "stretch_strip",
    "turn_over",
]
