"""Reads chat rows in the forms that other trainers write: messages, parts and pictures.

Every form becomes messages of (role, text, pictures). A picture is named by a path, or by a file: or data:
URL, or lies in the row as base64 bytes. In a content that is a string, and wherever a row lists its pictures
beside the messages, <image> stands for one of them. Elsewhere it is ordinary text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from nanoocr.data.entries import PACKED_KEYS, PICTURE_KEYS, picture_of
from nanoocr.data.rows import BadRowError
from nanoocr.files import parse_json
from nanoocr.tasks.common import ANY_MARK, without_marks

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
# Trainers write one of these beside an answer, where it says whether, or how much, the answer counts.
LEARNT_KEYS = (
    "loss", "weight", "train", "training", "trainable", "learn", "supervise", "train_on_turn", "loss_weight",
    "loss_scale", "loss_mask", "step_loss_mask", "train_detail",
)  # fmt: skip
# Others say the opposite: the answer is only context.
UNLEARNT_KEYS = ("masked", "is_masked", "ignore_loss", "no_loss", "skip_loss")
YES, NO = ("true", "yes", "1", "1.0"), ("false", "no", "0", "0.0")


@dataclass(frozen=True)
class Message:
    """One speaker's message. `pictures` are paths or bytes, in the order of the text."""

    role: str
    text: str
    pictures: tuple[str | bytes, ...]


def read_messages(record: dict[str, Any], name: str) -> list[Message]:
    """The messages of a row, each with the pictures that it is about and without their marks.

    Raises:
            BadRowError: there are no messages, the form is unknown, marks and pictures differ in number, a
            picture is given by http, or an answer is marked as not to be learnt, or as counting in part.
    """
    listed = _listed(record)
    waiting = iter(listed)
    messages, marks, own = [], 0, []
    for role, content in _spoken(record, name):
        parts = _parts(content, name)
        # If a message has picture parts, <image> in its text is a mark only where the row also lists
        # pictures.
        counts = role == "user" and (isinstance(content, str) or bool(listed))
        pictures: list[Any] = []
        for part in parts:
            if part["type"] not in PICTURE_PARTS:
                wanted = len(ANY_MARK.findall(_text(part, name))) if counts else 0
            elif any(part.get(key) for key in PICTURE_KEYS):
                held = next(
                    (part[key] for key in PICTURE_KEYS if key not in PACKED_KEYS and part.get(key)), part
                )
                pictures.append(held)
                own.append(held)
                continue
            else:
                wanted = 1
            marks += wanted
            pictures += [picture for _, picture in zip(range(wanted), waiting)]
        text = "".join(_text(part, name) for part in parts if part["type"] not in PICTURE_PARTS)
        text = without_marks(text) if counts else text
        messages.append(Message(role, text, tuple(_picture(picture, name) for picture in pictures)))
    # Some trainers name a picture twice, in its part and in the list.
    twice = marks == 0 and len(listed) == len(own)
    if marks != len(listed) and not (twice and all(_same(*pair, name) for pair in zip(listed, own))):
        raise BadRowError(
            f"{name}: {marks} {MARK} marks for {len(listed)} pictures: list all pictures, and write {MARK} "
            "where each belongs"
        )
    return messages


def _same(one: Any, other: Any, name: str) -> bool:
    return _picture(one, name) == _picture(other, name)


def _listed(record: dict[str, Any]) -> list[Any]:
    """The pictures listed beside the messages, without nulls; lists within the list are joined."""

    def flat(value: Any) -> Iterator[Any]:
        """Yield what is in a list and the lists within."""
        for one in value if isinstance(value, list) else [value]:
            yield from flat(one) if isinstance(one, list) else [one]

    return [one for one in flat(record.get("images") or record.get("image")) if one is not None]


def _spoken(record: dict[str, Any], name: str) -> Iterator[tuple[str, Any]]:
    """Yield (role, content) in order, whatever the form. A `system` beside the messages comes first."""
    if record.get("system"):
        yield "system", record["system"]
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
        yield role, content


def decoded(value: Any) -> Any:
    """A list as it is, and one that stands as JSON in a column of texts."""
    if not isinstance(value, str) or not value.lstrip().startswith("["):
        return value
    try:
        return parse_json(value)
    except ValueError:
        return value


def refuse_unlearnt(message: dict[str, Any], name: str) -> None:
    """Raise BadRowError if an answer, or a part of one, is only context, or counts otherwise than once."""
    for key in (*LEARNT_KEYS, *UNLEARNT_KEYS):
        said = str(message.get(key)).strip().lower()
        if message.get(key) is None or said in (NO if key in UNLEARNT_KEYS else YES):
            continue
        if said in (*YES, *NO):
            raise BadRowError(f"{name}: {key} says not to learn an answer; here all of a row are learnt")
        raise BadRowError(
            f"{name}: {key} is {message[key]!r}, and here every answer counts once: write true or false"
        )


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
    return text


def _picture(entry: Any, name: str) -> str | bytes:
    """A path, or the bytes of a picture that lies in the row itself."""
    try:
        return picture_of(entry)
    except ValueError as error:
        raise BadRowError(f"{name}: {error}") from error
