"""Reads chat rows in the forms that other trainers write: messages, parts and pictures.

Every form becomes messages of (role, text, pictures). A picture is named by a path, or by a file: or data:
URL, or lies in the row as base64 bytes. In a content that is a string, and wherever a row lists its pictures
beside the messages, <image> stands for one of them. Elsewhere it is ordinary text.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, unquote_to_bytes, urlsplit

from nanoocr.data.rows import BadRowError
from nanoocr.tasks.common import without_marks

MARK = "<image>"
# ShareGPT's names for the speakers, and OpenAI's newer one for the system.
ROLES = {"human": "user", "gpt": "assistant", "developer": "system"}
PICTURE_PARTS = ("image", "image_url", "input_image")
TEXT_PARTS = ("text", "input_text", "output_text")
# The keys that may hold a picture: in a part, in the list of pictures, or in Anthropic's `source`.
PICTURE_KEYS = ("image", "image_url", "url", "path", "file_name", "bytes", "base64", "data", "source")
PACKED_KEYS = ("bytes", "base64", "data")  # the values of these keys are base64
# Trainers write one of these beside an answer that is only context: the answer counts unless it is false or
# 0.
LEARNT_KEYS = ("loss", "weight", "train", "training", "train_on_turn", "step_loss_mask")
SHOWN = 60  # an error message shows this many characters of a wrong value
LONGEST_PATH = 4096  # characters; Linux opens no longer path


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
            picture is given by http, or an answer is marked as not to be learnt.
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
                wanted = _text(part, name).count(MARK) if counts else 0
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
    if marks != len(listed) and not (marks == 0 and listed == own):
        raise BadRowError(f"{name}: {marks} {MARK} marks for {len(listed)} pictures")
    return messages


def _listed(record: dict[str, Any]) -> list[Any]:
    """The pictures listed beside the messages, without nulls."""
    listed = record.get("images") or record.get("image") or []
    return [picture for picture in (listed if isinstance(listed, list) else [listed]) if picture is not None]


def _spoken(record: dict[str, Any], name: str) -> Iterator[tuple[str, Any]]:
    """Yield (role, content) in order, whatever the form. A `system` beside the messages comes first."""
    if record.get("system"):
        yield "system", record["system"]
    found = next(
        (
            record[key]
            for key in ("messages", "conversations", "conversation")
            if isinstance(record.get(key), list)
        ),
        None,
    )
    if found is None:
        raise BadRowError(f"{name}: has neither messages nor conversations")
    for message in found:
        keys = ("role", "from"), ("content", "value")
        known = isinstance(message, dict) and all(any(key in message for key in either) for either in keys)
        if not known:
            raise BadRowError(f"{name}: a message without role and content, or from and value")
        speaker, content = (next(message[key] for key in either if key in message) for either in keys)
        role = ROLES.get(str(speaker), str(speaker))
        unlearnt = [key for key in LEARNT_KEYS if key in message and message[key] in (False, 0, "0")]
        if role == "assistant" and unlearnt:
            raise BadRowError(
                f"{name}: {unlearnt[0]} says not to learn an answer; here all of a row are learnt"
            )
        yield role, content


def _parts(content: Any, name: str) -> Sequence[dict[str, Any]]:
    """A content as parts with types. Qwen's parts have no type, but their keys tell what they are."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        raise BadRowError(f"{name}: a content is neither a string nor a list of parts")
    parts = [part if part.get("type") else {**part, "type": _type_of(part)} for part in content]
    known = (*TEXT_PARTS, *PICTURE_PARTS)
    if unknown := [part["type"] for part in parts if part["type"] not in known]:
        raise BadRowError(f"{name}: a part of type {unknown[0]!r}; known are text, image and image_url")
    return parts


def _type_of(part: dict[str, Any]) -> str | None:
    return "text" if "text" in part else next((key for key in PICTURE_PARTS if key in part), None)


def _text(part: dict[str, Any], name: str) -> str:
    text = part.get("text")
    if not isinstance(text, str):
        raise BadRowError(f"{name}: a part of type {part['type']} without a text")
    return text


# ---------------------------------------------------------------------------------------------------------
# pictures


def _picture(entry: Any, name: str) -> str | bytes:
    """A path, or the bytes of a picture that lies in the row itself."""
    while isinstance(entry, dict):  # {"url": ...} in an image_url, {"bytes": ..., "path": ...} of the hub
        if packed := next((entry[key] for key in PACKED_KEYS if entry.get(key)), None):
            return _packed(packed, name)
        entry = next((entry[key] for key in PICTURE_KEYS if entry.get(key)), None)
    if not isinstance(entry, str) or not entry:
        raise BadRowError(f"{name}: a picture is named by {entry!r} and not by a path")
    kind, _, rest = entry.partition(":")
    if kind.lower() == "data":
        return _packed(entry, name)
    if kind.lower() == "file":
        named = urlsplit(entry)
        # People write file://a.png for a file beside the row, though by the rules a.png names a computer.
        host = "" if named.netloc.lower() == "localhost" else named.netloc
        return unquote(host + named.path)
    if rest.startswith("//"):
        raise BadRowError(f"{name}: {entry[:SHOWN]} is no file; fetch it and give its path")
    if len(entry) > LONGEST_PATH:  # No other text is that long, and no file can have such a name.
        return _from_base64(entry, name)
    return entry


def _packed(data: Any, name: str) -> bytes:
    """The bytes of a data URL, or of plain base64."""
    if not isinstance(data, str) or data[:5].lower() != "data:":
        return _from_base64(data, name)
    about, _, body = data.partition(",")
    if about.rstrip().lower().endswith(";base64"):
        return _from_base64(unquote(body), name)
    return unquote_to_bytes(body)


def _from_base64(data: Any, name: str) -> bytes:
    """Decode base64 in either alphabet, with or without padding and line ends, as programs write it."""
    try:
        plain = "".join(data.split()).rstrip("=").replace("-", "+").replace("_", "/")
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError, AttributeError) as error:
        raise BadRowError(f"{name}: the bytes of a picture are not base64 ({error})") from error
