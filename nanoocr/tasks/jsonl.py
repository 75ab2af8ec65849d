"""Chat rows as other trainers write them, one JSON object a line (or a .json file with a list of them).

{"messages": [{"role": "user", "content": "<image>Read."}, {"role": "assistant", "content": "Hi"}],
 "images": ["a.png"]}                              ms-swift, LLaMA-Factory; content may be a list of parts
{"conversations": [{"from": "human", "value": "<image>\\nRead."}, {"from": "gpt", "value": "Hi"}],
 "image": "a.png"}                                 ShareGPT, LLaVA

Paths are relative to the file. There must be as many <image> marks as pictures. The pictures stand before
the first question, in the order of their marks. A system text joins the first question.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from nanoocr.data.rows import BadRowError, Row, Turn, checked_row
from nanoocr.data.task import Task
from nanoocr.errors import UsageError
from nanoocr.files import read_json_list
from nanoocr.tasks.common import answered, existing, file_bytes, turns_of, without_marks

MARK = "<image>"
ROLES = {"human": "user", "gpt": "assistant"}  # ShareGPT's names
PICTURE_PARTS = ("image", "image_url")


class Jsonl(Task):
    """Rows of a file; only where its lines begin is kept in memory, of a .json list the lines themselves."""

    source = "jsonl"

    def __init__(
        self,
        path: str | Path,
        images: str = "",
        start: int = 0,
        stop: int | None = None,
        step: int = 1,
    ) -> None:
        """`images` is the folder of the pictures where that is not the file's own."""
        super().__init__(start, stop, step)
        self.path = existing(path, "file of chat rows")
        self.root = existing(images, "folder of pictures") if images else self.path.parent
        self.listed = json_list(self.path) if self.path.suffix == ".json" else None
        self.begins, self.numbers = (array("Q"), array("Q")) if self.listed else line_starts(self.path)
        if not self.num_rows():
            raise UsageError(f"{self.path}: holds no rows")

    def num_rows(self) -> int:
        """Lines that are not blank."""
        return len(self.begins) if self.listed is None else len(self.listed)

    def marks(self) -> Iterable[object]:
        """The file's name and bytes."""
        return [self.path.name, self.path.stat().st_size, self.num_rows()]

    def read(self, index: int) -> Row:
        """One row, its pictures still encoded."""
        name = self._name(index)
        try:
            record = json.loads(self._line(index))
        except ValueError as error:
            raise BadRowError(f"{name}: not JSON ({error})") from error
        if not isinstance(record, dict):
            raise BadRowError(f"{name}: not a JSON object")
        messages = list(_messages(record, name))
        paths = _pictures(record, messages, name)
        turns = turns_of([(role, _text(content, name)) for role, content in messages], name)
        pictures = [self._picture(path, name) for path in paths]
        cleaned = [Turn(without_marks(user), assistant) for user, assistant in turns]
        return answered(checked_row(name, pictures, cleaned, str(record.get("source") or self.source)))

    def _name(self, index: int) -> str:
        return f"{self.path}: row {index}" if self.listed else f"{self.path}: line {self.numbers[index]}"

    def _line(self, index: int) -> bytes:
        if self.listed is not None:
            return self.listed[index]
        with open(self.path, "rb") as file:  # opened anew: workers must not share a position
            file.seek(self.begins[index])
            return file.readline()

    def _picture(self, path: str, name: str) -> bytes:
        if "://" in path or path.startswith("data:"):
            raise BadRowError(f"{name}: {path[:60]} is no file; fetch it and give its path")
        return file_bytes(self.root / path, name)


def line_starts(path: Path) -> tuple[array[int], array[int]]:
    """Where the lines that are not blank begin, in bytes, and their numbers from 1."""
    begins, numbers, position = array("Q"), array("Q"), 0
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                begins.append(position)
                numbers.append(number)
            position += len(line)
    return begins, numbers


def json_list(path: Path) -> list[bytes]:
    """The entries of a JSON list, each as JSON: workers that are forked share bytes, not objects."""
    entries = read_json_list(path, "rows; one object a line belongs into a .jsonl file")
    return [json.dumps(entry).encode() for entry in entries]


# ---------------------------------------------------------------------------------------------------------
# what a record holds


def _messages(record: dict[str, Any], name: str) -> Iterator[tuple[str, Any]]:
    """(role, content) in order, whatever the form; a `system` beside the messages comes first."""
    if record.get("system"):
        yield "system", record["system"]
    forms = {"messages": ("role", "content"), "conversations": ("from", "value")}
    found = [form for form in forms if isinstance(record.get(form), list)]
    if not found:
        raise BadRowError(f"{name}: has neither messages nor conversations")
    role, content = forms[found[0]]
    for message in record[found[0]]:
        if not isinstance(message, dict) or role not in message or content not in message:
            raise BadRowError(f"{name}: a message without {role} and {content}")
        speaker = str(message[role])
        yield ROLES.get(speaker, speaker), message[content]


def _parts(content: Any, name: str) -> Sequence[dict[str, Any]]:
    """A content as parts; a string may hold marks."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        raise BadRowError(f"{name}: a content is neither a string nor a list of parts")
    return content


def _text(content: Any, name: str) -> str:
    """The text of a content."""
    parts = _parts(content, name)
    known = ("text", *PICTURE_PARTS)
    if unknown := [part.get("type") for part in parts if part.get("type") not in known]:
        raise BadRowError(f"{name}: a part of type {unknown[0]!r}; known are {', '.join(known)}")
    texts = [part.get("text") for part in parts if part.get("type") == "text"]
    if not all(isinstance(text, str) for text in texts):
        raise BadRowError(f"{name}: a part of type text without a text")
    return "".join(str(text) for text in texts)


def _pictures(record: dict[str, Any], messages: Sequence[tuple[str, Any]], name: str) -> list[str]:
    """The pictures' paths: those in the parts where they stand, the listed ones for marks without a path."""
    listed = record.get("images") or record.get("image") or []
    listed = listed if isinstance(listed, list) else [listed]
    waiting = iter(listed)
    paths: list[Any] = []
    marks = 0
    for role, content in messages:
        for part in _parts(content, name) if role == "user" else ():
            own = part.get("image") or part.get("image_url")
            if part.get("type") not in PICTURE_PARTS:
                count = str(part.get("text")).count(MARK)
            elif own:
                paths.append(own)
                continue
            else:
                count = 1
            marks += count
            paths += [path for _, path in zip(range(count), waiting)]
    if marks != len(listed):
        raise BadRowError(f"{name}: {marks} {MARK} marks for {len(listed)} pictures")
    return [_path(path, name) for path in paths]


def _path(entry: Any, name: str) -> str:
    if isinstance(entry, dict):
        entry = entry.get("path") or entry.get("url")
    if not isinstance(entry, str):
        raise BadRowError(f"{name}: a picture is named by {entry!r} and not by a path")
    return entry
