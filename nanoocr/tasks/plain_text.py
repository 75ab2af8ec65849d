"""Plain text (FineWeb and the like): a document is the answer to an empty question.

So every token of it is supervised, in the same form as all other rows: no second way through the renderer,
and nothing to say that is not in the document. A document is as long as it is; `chars` takes its opening
instead, up to the last end of a paragraph, sentence or word within so many characters.
"""

from __future__ import annotations

import re

from nanoocr.data.rows import Row, checked_row
from nanoocr.data.shards import Shards
from nanoocr.data.task import ParquetTask
from nanoocr.errors import UsageError
from nanoocr.tasks.common import answered

REPO = "karpathy/fineweb-edu-100b-shuffle"
COLUMNS = ("text",)
ENDS = (re.compile(r"\n\s*\n"), re.compile(r"(?<=[.!?])\s"), re.compile(r"\s"))  # the best first


class PlainText(ParquetTask):
    """Column text."""

    def __init__(
        self, shards: Shards, chars: int = 0, start: int = 0, stop: int | None = None, step: int = 1
    ) -> None:
        super().__init__(shards, start, stop, step)
        if chars < 0:
            raise UsageError(f"chars={chars}: must not be negative; 0 is the whole document")
        self.chars = chars

    def read(self, index: int) -> Row:
        """One document."""
        text, name = self.shards[index]["text"], self.shards.name_of(index)
        if self.chars and isinstance(text, str):
            text = opening(text, self.chars)
        return answered(checked_row(name, (), [("", text)], "plain_text"))


def opening(text: str, chars: int) -> str:
    """At most `chars` characters from the beginning, cut where something ends; not before the middle of them
    for the sake of a whole paragraph or sentence."""
    if len(text) <= chars:
        return text
    for end in ENDS:
        places = [match.start() for match in end.finditer(text, 0, chars + 1)]
        if places and places[-1] >= chars // 2:
            return text[: places[-1]]
    return text[:chars]
