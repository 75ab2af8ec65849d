"""Marks of doubt where the doubtful words stand, as transcribers write them: `Total [17.50?]`.

Only the formats for people get them, text and Markdown. The others hold the confidence of every word.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import groupby

from nanoocr.document import Line, PageLike, TextPage, Word, join_lines, words_with_blanks
from nanoocr.errors import UsageError
from nanoocr.formats.clean import clean

MARKED = ("txt", "md")  # the formats that are marked


def mark_pages(pages: Iterable[PageLike], below: float) -> list[TextPage]:
    """The pages with marks around what has a confidence below `below` (0 to 1)."""
    return [mark_page(page, below) for page in pages]


def mark_page(page: PageLike, below: float) -> TextPage:
    """The page, its doubtful words in `[...?]`: one mark around neighbours in a line, one for each word.

    A page that was not read by lines knows no confidence of its words, and stays as it is.
    """
    cleaned = clean(page).page
    if not cleaned.lines:
        return cleaned
    lines = tuple(mark_line(line, below) for line in cleaned.lines)
    return replace(cleaned, lines=lines, text=join_lines(lines))


def mark_line(line: Line, below: float) -> Line:
    """The line with marks in its text and in its words."""
    text = ""
    for doubtful, group in groupby(words_with_blanks(line), lambda pair: _is_doubtful(pair[0], below)):
        said = "".join(f"{word.text}{' ' * blank}" for word, blank in group)
        # The blank behind the last word belongs to the line and not to the mark.
        text += f"[{said.rstrip()}?]{' ' * said.endswith(' ')}" if doubtful else said
    # Tables are put together from words, so each one has a mark of its own.
    words = tuple(
        replace(word, text=f"[{word.text}?]") if _is_doubtful(word, below) else word for word in line.words
    )
    return replace(line, text=text.rstrip(), words=words)


def _is_doubtful(word: Word, below: float) -> bool:
    return word.confidence is not None and word.confidence < below


def check_marks(below: float | None, by_lines: bool) -> None:
    """Refuse marks for a model that has no confidence of words.

    Raises:
        UsageError: `below` is given, and the model reads whole pictures.
    """
    if below is not None and not by_lines:
        raise UsageError("--mark_below is for models that read lines; this one reads whole pictures")


def check_formats(below: float | None, names: Iterable[str]) -> None:
    """Refuse marks where none of the formats called `names` takes them.

    Raises:
        UsageError: `below` is given, and there is neither text nor Markdown.
    """
    given = tuple(names)
    if below is not None and not set(given) & set(MARKED):
        raise UsageError(
            f"--mark_below marks words in {' and '.join(MARKED)}; {', '.join(given) or 'the table of pages'} "
            "has the confidence of each word: leave it out, or add --format=txt"
        )
