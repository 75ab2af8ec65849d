"""Reads chat rows in the forms that other trainers write: messages, parts and pictures.

Every form becomes messages of (role, text, pictures). A picture is named by a path, or by a file: or data:
URL, or lies in the row as base64 bytes. In a content that is a string, and wherever a row or a message lists
its pictures beside the text, <image> stands for one of them. Elsewhere it is ordinary text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

from nanoocr.data.entries import PACKED_KEYS, PICTURE_KEYS, picture_of
from nanoocr.data.rows import BadRowError
from nanoocr.files import lines_as_lf, parse_json
from nanoocr.tasks.common import ANY_MARK, around_pictures
from nanoocr.tasks.unread import refuse_unlearnt, refuse_unread, unread_pictures

MARK = "<image>"
# ShareGPT's names for the speakers, those of other collections, and OpenAI's newer one for the system.
ROLES = {
    **dict.fromkeys(("human", "prompter"), "user"),
    **dict.fromkeys(("gpt", "chatgpt", "model", "ai"), "assistant"),
    "developer": "system",
}
FORMS = ("messages", "conversations", "conversation")  # the keys under which the messages stand
PICTURE_PARTS = ("image", "image_url", "input_image")
TEXT_PARTS = ("text", "input_text", "output_text")
# Qwen-VL's first trainer wrote a picture's path into the text.
PATH_IN_TEXT = re.compile(r"<img>[^<>]+</img>")


@dataclass(frozen=True)
class Message:
    """One speaker's message. `pictures` are paths or bytes, in the order of the text."""

    role: str
    text: str
    pictures: tuple[str | bytes, ...]


class _Said(NamedTuple):
    """What one speaker says, as the row holds it: the content, and pictures beside it."""

    role: str
    content: Any
    beside: list[Any]


class _Placed(NamedTuple):
    """A message with its pictures in their places, and how many of them came from where."""

    message: Message
    marks: int  # how many stand for a picture in the row's list
    own: list[Any]  # pictures that the message itself has
    indices: list[Any]  # which pictures of a list its parts say that they mean, where they say it


def read_messages(record: dict[str, Any], name: str) -> list[Message]:
    """The messages of a row, each with the pictures that it is about and without their marks.

    Raises:
        BadRowError: there are no messages, the form is unknown, marks and pictures differ in number, a
        picture is given by http, or the row asks for what is not done here (nanoocr/tasks/unread.py).
    """
    refuse_unread(record, name)
    listed = _listed(record)
    waiting = iter(listed)
    placed = [_place(said, bool(listed), waiting, name) for said in _spoken(record, name)]
    marks, own = sum(one.marks for one in placed), [picture for one in placed for picture in one.own]
    if not (listed or own) and (key := unread_pictures(record)):
        raise BadRowError(f"{name}: its picture stands under {key}: name that images, and write {MARK}")
    if (indices := [index for one in placed for index in one.indices]) != list(range(len(indices))):
        raise BadRowError(f"{name}: its parts name pictures {indices}: list them in the order of the parts")
    # Some trainers name a picture twice, in its part and in the list.
    twice = marks == 0 and len(listed) == len(own)
    if marks != len(listed) and not (twice and all(_same(*pair, name) for pair in zip(listed, own))):
        raise _miscounted(marks, len(listed), name)
    return [one.message for one in placed]


def _place(said: _Said, row_lists: bool, waiting: Iterator[Any], name: str) -> _Placed:
    """Give a message its pictures: those of its parts, and for each mark the next one of a list.

    The list is the message's own, where it has one, and else what waits in that of the row.
    """
    parts = _parts(said.content, name)
    # If a message has picture parts, <image> in its text is a mark only where the row or the message also
    # lists pictures.
    has_marks = said.role == "user" and (isinstance(said.content, str) or row_lists or bool(said.beside))
    listed = iter(said.beside) if said.beside else waiting
    pieces, pictures, own, indices, marks = [""], list[Any](), list[Any](), list[Any](), 0
    for part in parts:
        if part["type"] not in PICTURE_PARTS:
            first, *others = ANY_MARK.split(_text(part, name)) if has_marks else [_text(part, name)]
            pieces[-1] += first
            pieces += others
            wanted = len(others)
        elif (held := _held(part)) is not None:
            pieces.append("")
            pictures.append(held)
            own.append(held)
            continue
        else:
            pieces.append("")
            wanted = 1
            indices += [part["index"]] if part.get("index") is not None else []
        marks += wanted
        pictures += islice(listed, wanted)
    text = around_pictures(pieces)
    if said.role == "user" and PATH_IN_TEXT.search(text):
        raise BadRowError(f"{name}: names a picture within its text: list it, and write {MARK} there")
    if said.beside:
        if marks not in (0, len(said.beside)):
            raise _miscounted(marks, len(said.beside), name)
        pictures = pictures if marks else [*said.beside, *pictures]  # without marks they come before the text
        own, marks = own + said.beside, 0
    shown = tuple(_picture(picture, name) for picture in pictures)
    return _Placed(Message(said.role, text, shown), marks, own, indices)


def _miscounted(marks: int, pictures: int, name: str) -> BadRowError:
    return BadRowError(
        f"{name}: {marks} {MARK} marks for {pictures} pictures: list all pictures, and write {MARK} where "
        "each belongs"
    )


def _held(part: dict[str, Any]) -> Any:
    """What a part says about its picture; None where the picture is one of those in the row's list."""
    if not any(part.get(key) for key in PICTURE_KEYS):
        return None
    return next((part[key] for key in PICTURE_KEYS if key not in PACKED_KEYS and part.get(key)), part)


def _same(one: Any, other: Any, name: str) -> bool:
    return _picture(one, name) == _picture(other, name)


def _listed(record: dict[str, Any]) -> list[Any]:
    """The pictures listed in a row or a message, without nulls; lists within the list are joined."""

    def flat(value: Any) -> Iterator[Any]:
        """Yield what is in a list and the lists within."""
        for one in value if isinstance(value, list) else [value]:
            yield from flat(one) if isinstance(one, list) else [one]

    value = decoded(record.get("images") or record.get("image"))
    return [one for one in flat(value) if one is not None]


def _spoken(record: dict[str, Any], name: str) -> Iterator[_Said]:
    """Yield what is said in order, whatever the form. A `system` beside the messages comes first."""
    if record.get("system"):
        yield _Said("system", record["system"], [])
    found = next((said for key in FORMS if isinstance(said := decoded(record.get(key)), list)), None)
    if found is None:
        raise BadRowError(f"{name}: has neither messages nor conversations, a list of role and content")
    for message in found:
        if not isinstance(message, dict):
            raise BadRowError(f"{name}: a message without role and content, or from and value")
        # A table has all keys in all rows, with null where a form does not use them.
        speaker = next((message[key] for key in ("role", "from") if message.get(key) is not None), None)
        content = next((message[key] for key in ("content", "value") if message.get(key) is not None), None)
        if speaker is None or not {"content", "value"} & set(message):
            raise BadRowError(f"{name}: a message without role and content, or from and value")
        called = str(speaker).strip().lower()
        role = ROLES.get(called, called)
        if role == "assistant":
            parts = content if isinstance(content, list) else []
            for one in (message, *(part for part in parts if isinstance(part, dict))):
                refuse_unlearnt(one, name)
        yield _Said(role, content, _listed(message))


def decoded(value: Any) -> Any:
    """A list as it is, and one that stands as JSON in a column of texts."""
    if not isinstance(value, str) or not value.lstrip().startswith("["):
        return value
    try:
        return parse_json(value)
    except ValueError:
        return value


def _parts(content: Any, name: str) -> Sequence[dict[str, Any]]:
    """A content as parts with types. Qwen's parts have no type, but their keys tell what they are."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    content = [content] if isinstance(content, dict) else content
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        raise BadRowError(f"{name}: a content is neither a string nor a list of parts")
    parts = [part if part.get("type") else {**part, "type": _type_of(part)} for part in content]
    known = (*TEXT_PARTS, *PICTURE_PARTS)
    if unknown := [part["type"] for part in parts if part["type"] not in known]:
        raise BadRowError(f"{name}: a part of type {unknown[0]!r}; known are text, image and image_url")
    return parts


def _type_of(part: dict[str, Any]) -> str | None:
    """The type of a part that does not say it: by its key, or by the one that is not null."""
    known = [key for key in ("text", *PICTURE_PARTS) if key in part]
    return next((key for key in known if part[key] is not None), known[0] if known else None)


def _text(part: dict[str, Any], name: str) -> str:
    text = part.get("text")
    if not isinstance(text, str):
        raise BadRowError(f"{name}: a part of type {part['type']} without a text")
    return lines_as_lf(text)  # so that a mark on a line of its own is seen as one


def _picture(entry: Any, name: str) -> str | bytes:
    """A path, or the bytes of a picture that lies in the row itself."""
    try:
        return picture_of(entry)
    except ValueError as error:
        raise BadRowError(f"{name}: {error}") from error
