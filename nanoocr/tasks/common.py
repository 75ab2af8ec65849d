"""Helpers that the data sets share: prompts, picture marks in texts, conversations."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nanoocr.data.rows import BadRowError, Row, Turn, checked_row
from nanoocr.errors import UsageError
from nanoocr.files import decode_text

FREE_OCR = "Free OCR."  # DeepSeek-OCR's prompts (arXiv 2510.18234 and its released code)
TO_MARKDOWN = "Convert the document to markdown."
PARSE_FIGURE = "Parse the figure."

# Data sets leave these in their texts where a picture was: <image>, <|image|>, <image_1>, <|image_1|>.
ANY_MARK = re.compile(r"<\|?image(?:_?\d+)?\|?>")
# Before these no blank is left where a picture was.
CLOSING = "\n.,;:!?)]"


def without_marks(text: str) -> str:
    """Remove literal picture marks from a text as `around_pictures` does."""
    return around_pictures(ANY_MARK.split(text))


def around_pictures(pieces: Sequence[str]) -> str:
    """Join the pieces of a text that stand before, between and behind pictures; one alone stays as it is.

    A line that holds only pictures is removed whole. Other pictures leave one blank where words would be
    joined.
    """
    text, *others = pieces
    for piece in others:
        before, behind = text.rstrip(" \t"), piece.lstrip(" \t")
        if not before or before[-1] == "\n":
            text = before + behind.removeprefix("\n")
        else:
            blank = "" if not behind or behind[0] in CLOSING else " "
            text = before + blank + behind
    return text.removesuffix("\n") if others else text


def without_marks_of(turns: Sequence[Turn], pictures: int) -> list[Turn]:
    """The turns without the marks of the row's pictures.

    In an answer <image> is ordinary text. The exception is a row whose questions have too few marks for its
    pictures, while its answers have just the missing number.
    """
    asked, said = (sum(len(ANY_MARK.findall(turn[side])) for turn in turns) for side in (0, 1))
    of_answers = said > 0 and asked < pictures == asked + said
    return [
        Turn(without_marks(user), without_marks(answer) if of_answers else answer) for user, answer in turns
    ]


def picture_bytes(image: Any, name: str) -> bytes:
    """The encoded picture in a {bytes, path} struct.

    Raises:
        BadRowError: the struct is null, or its bytes are not in the file.
    """
    data = image.get("bytes") if isinstance(image, dict) else None
    if not isinstance(data, bytes) or not data:
        raise BadRowError(f"{name}: has no picture in the row: write the set with its pictures embedded")
    return data


def answered(row: Row) -> Row:
    """The row, if every answer says something; a blank answer would teach silence.

    Raises:
        BadRowError: an answer is blank.
    """
    if any(not turn.assistant.strip() for turn in row.turns):
        raise BadRowError(f"{row.id}: an answer is blank")
    return row


def question_row(name: str, image: Any, question: Any, answer: Any, source: str) -> Row:
    """A row with one question about one picture {bytes, path}.

    Raises:
        BadRowError: there is no picture, or the question or the answer is null or blank.
    """
    return answered(checked_row(name, [picture_bytes(image, name)], [(question, answer)], source))


def turns_of(messages: Sequence[tuple[str, Any]], name: str) -> tuple[Turn, ...]:
    """Turn (role, text) messages into turns. A leading system text joins the first question, as in nanochat.

    Raises:
        BadRowError: roles do not alternate, a question has no answer, or a content is no text.
    """
    pairs = list(messages)
    for role, text in pairs:
        if not isinstance(text, str):
            raise BadRowError(f"{name}: what {role} says is {text!r} and not a text")
    if pairs and pairs[0][0] == "system" and not pairs[0][1].strip():
        del pairs[0]  # Forms for all rows leave it empty where a row has none.
    if len(pairs) > 1 and (pairs[0][0], pairs[1][0]) == ("system", "user"):
        pairs[:2] = [("user", f"{pairs[0][1]}\n\n{pairs[1][1]}")]
    roles = [role for role, _ in pairs]
    if not pairs or len(pairs) % 2 or roles != ["user", "assistant"] * (len(pairs) // 2):
        listed = ", ".join(map(str, roles)) or "none"
        raise BadRowError(f"{name}: user and assistant must take turns, the roles are {listed}")
    texts = [text for _, text in pairs]
    return tuple(Turn(*pair) for pair in zip(texts[::2], texts[1::2], strict=True))


def texts_of(listed: Any, name: str, what: str) -> list[str]:
    """Check a list of texts from an untrusted column.

    Raises:
        BadRowError: it is null or no list, or an item is no text. A single text is refused too, because
        it would pass for the list of its letters.
    """
    if not isinstance(listed, list) or not all(isinstance(text, str) for text in listed):
        raise BadRowError(f"{name}: has no {what}, or they are not a list of texts")
    return listed


def read_text(path: Path, name: str) -> str:
    """Read a text file and strip blanks at both ends. It is UTF-8, or UTF-16 or 32 with a mark of its order.

    Raises:
        BadRowError: the file is missing, or has another encoding.
    """
    try:
        text, problem = decode_text(path.read_bytes(), path.name)
    except OSError as error:
        raise BadRowError(f"{name}: {path.name} cannot be read ({error.strerror})") from error
    if "\ufffd" in text and problem:
        raise BadRowError(f"{name}: {path.name} cannot be read as UTF-8: save it as UTF-8 ({problem})")
    return text.strip()


def file_bytes(path: Path, name: str) -> bytes:
    """Read an encoded picture from disk.

    Raises:
        BadRowError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: the path holds a NUL byte
        raise BadRowError(f"{name}: {path} cannot be read ({error})") from error


def is_file(path: Path) -> bool:
    """Whether a file is there; False for what cannot be a path, as a text that took the place of one."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # longer than a name may be, or with a NUL byte
        return False


def existing(path: str | Path, what: str) -> Path:
    """The path, if it exists. `what` says what it should be, as `folder` or `file of chat rows`.

    Raises:
        UsageError: it does not exist, or it is a file where a folder is wanted, or the other way round.
    """
    path = Path(path)
    if not path.exists():
        raise UsageError(f"{path}: no such {what}")
    kind = what.partition(" ")[0]
    if path.is_dir() and kind == "file":
        raise UsageError(f"{path}: is a folder; name a {what}")
    if kind == "folder" and " or " not in what and not path.is_dir():
        raise UsageError(f"{path}: is no folder; name a {what}")
    return path
