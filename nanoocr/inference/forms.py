"""Tells what pages repeat by design from the loops of a model that has lost its way.

Forms repeat as well: empty cells, leader dots, rules to write on, rows of an answer sheet.
"""

from __future__ import annotations

import re

# A form is a loop only where it fills as much as the caller says, and has more copies than a page has rows.
FORM_COPIES = 100
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>|&#?\w+;")  # tags and entities have letters that no page shows
_LINE_END = re.compile(r"\n|</?tr\b|<br\b|</p>|</li>|\\\\", re.IGNORECASE)  # also those of HTML and LaTeX


def is_form(two: str, three: str) -> bool:
    """Whether pages repeat such a cycle by design: it has no letters outside of tags, or holds whole lines.

    The texts are two and three copies of the cycle. It may begin and end within a tag, an entity or a
    character; what such halves leave is the same in both texts, and all else is told by the third copy.
    """
    return _LINE_END.search(two) is not None or _letters(two) == _letters(three)


def _letters(text: str) -> int:
    return sum(map(str.isalpha, _TAG.sub("", text)))
