"""Plain text (FineWeb and the like): a document is the answer to an empty question.

So every token of it is supervised, and it has the same form as all other rows: the renderer needs no second
path, and the model says nothing that is not in the document. Documents keep their length. With `chars` only
their opening is used, up to the last end of a paragraph, sentence or word within that many characters.
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
# places to cut at, the best first
ENDS = (re.compile(r"\n\s*\n"), re.compile(r"(?<=[.!?])\s"), re.compile(r"\s"))


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
    """At most `chars` characters from the beginning, cut at the end of a paragraph, sentence or word.

    For a whole paragraph or sentence, never more than half of the characters are given up.
    """
    if len(text) <= chars:
        return text
    for end in ENDS:
        places = [match.start() for match in end.finditer(text, 0, chars + 1)]
        if places and places[-1] >= chars // 2:
            return text[: places[-1]]
    return text[:chars]
