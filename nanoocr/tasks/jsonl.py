"""Chat rows as other trainers write them, one JSON object a line (or a .json file with a list of them).

{"messages": [{"role": "user", "content": "<image>Read."}, {"role": "assistant", "content": "Hi"}],
 "images": ["a.png"]}                              ms-swift, LLaMA-Factory; content may be a list of parts
{"conversations": [{"from": "human", "value": "<image>\\nRead."}, {"from": "gpt", "value": "Hi"}],
 "image": "a.png"}                                 ShareGPT, LLaVA

Paths are relative to the file; file: and data: URLs and base64 bytes are read too (nanoocr/tasks/chat.py).
There must be as many <image> marks as pictures. All pages of a PDF or TIFF count as one picture. The pictures
stand before the first question, in the order of their marks. A system text joins the first question.
"""

from __future__ import annotations

import codecs
import json
from array import array
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nanoocr.data.rows import BadRowError, Row, checked_row
from nanoocr.data.task import Task
from nanoocr.errors import UsageError
from nanoocr.files import parse_json, read_json_list
from nanoocr.tasks.chat import read_messages
from nanoocr.tasks.common import answered, existing, file_bytes, is_file, turns_of

# The first bytes of what people name instead, and the mend.
PACKED = {
    b"\x1f\x8b": "compressed by gzip: unpack it",
    b"(\xb5/\xfd": "compressed by Zstandard: unpack it",
    b"PK\x03\x04": "a ZIP archive: unpack it",
    b"BZh": "compressed by bzip2: unpack it",
    b"\xfd7zXZ": "compressed by xz: unpack it",
    b"PAR1": "a Parquet file: name it as parquet:FILE",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"%PDF-": "a PDF",
}
HEAD = 2**20  # a file's first bytes are checked before it is read by lines


class Jsonl(Task):
    """Rows of a file. Only the offsets of its lines stay in memory; for a .json list the lines themselves."""

    source = "jsonl"

    def __init__(
        self,
        path: str | Path,
        images: str = "",
        start: int = 0,
        stop: int | None = None,
        step: int = 1,
    ) -> None:
        """`images` is the folder of the pictures, where it is not the file's own folder."""
        super().__init__(start, stop, step)
        self.path = existing(path, "file of chat rows")
        self.root = existing(images, "folder of pictures") if images else self.path.parent
        self.listed = json_list(self.path) if self.path.suffix.lower() == ".json" else None
        self.begins, self.numbers = (
            (array("Q"), array("Q")) if self.listed is not None else line_starts(self.path)
        )
        if not self.num_rows():
            raise UsageError(f"{self.path}: holds no rows")

    def num_rows(self) -> int:
        """How many lines are not blank."""
        return len(self.begins) if self.listed is None else len(self.listed)

    def marks(self) -> Iterable[object]:
        """The file's name and size in bytes."""
        return [self.path.name, self.path.stat().st_size, self.num_rows()]

    def read(self, index: int) -> Row:
        """One row, its pictures still encoded."""
        name = self._name(index)
        try:
            record = parse_json(self._line(index))
        except ValueError as error:
            raise BadRowError(f"{name}: not JSON ({error})") from error
        if not isinstance(record, dict):
            raise BadRowError(f"{name}: not a JSON object")
        return chat_row(record, name, self.root, self.source)

    def _name(self, index: int) -> str:
        return f"{self.path}: row {index}" if self.listed else f"{self.path}: line {self.numbers[index]}"

    def _line(self, index: int) -> bytes:
        if self.listed is not None:
            return self.listed[index]
        # Opened anew for each row, because workers must not share a file position.
        with open(self.path, "rb") as file:
            file.seek(self.begins[index])
            return file.readline()


def chat_row(record: dict[str, Any], name: str, folder: Path, source: str) -> Row:
    """Make a row of a record with messages. Paths of pictures are relative to `folder`.

    Raises:
        BadRowError: the record cannot be used; the error says why.
    """
    messages = read_messages(record, name)
    turns = turns_of([(message.role, message.text) for message in messages], name)
    pictures = [_bytes_of(picture, folder, name) for message in messages for picture in message.pictures]
    return answered(checked_row(name, pictures, turns, str(record.get("source") or source)))


def _bytes_of(picture: str | bytes, folder: Path, name: str) -> bytes:
    if isinstance(picture, bytes):
        return picture
    path = folder / picture
    if "\\" in picture and not is_file(path):  # the path was written on Windows
        path = folder / picture.replace("\\", "/")
    return file_bytes(path, name)


def line_starts(path: Path) -> tuple[array[int], array[int]]:
    """The byte offsets of the lines that are not blank, and their numbers from 1."""
    begins, numbers, position = array("Q"), array("Q"), 0
    check_lines(path)
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                begins.append(position)
                numbers.append(number)
            position += len(line)
    return begins, numbers


def check_lines(path: Path) -> None:
    """Look at the beginning of a file, and refuse it unless it is UTF-8 text with one JSON object a line.

    Raises:
        UsageError: the file cannot be read, is compressed, UTF-16 or UTF-32, ends its lines with CR alone, is
            a JSON list, or has objects of several lines.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(HEAD)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from error
    # Without a byte order mark, every other byte of the first brackets and quotes is zero.
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)) or b"\0" in head[:2]:
        raise UsageError(f"{path}: is UTF-16 or UTF-32; save it as UTF-8")
    if packed := next((kind for magic, kind in PACKED.items() if head.startswith(magic)), None):
        raise UsageError(f"{path}: is {packed}, and chat rows are lines of text")
    if head.partition(b"\n")[0].strip() == b"{":
        raise UsageError(f"{path}: an object takes several lines; write each on one line")
    if b"\r" in head and b"\n" not in head:
        raise UsageError(f"{path}: its lines end in CR alone; save it with line feeds")
    if head.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"["):
        raise UsageError(f"{path}: is a JSON list; call it {path.with_suffix('.json').name}")


def json_list(path: Path) -> list[bytes]:
    """The entries of a JSON list, each as JSON: forked workers share bytes, but not objects."""
    entries = read_json_list(path, "rows; one object a line belongs into a .jsonl file")
    return [json.dumps(entry).encode() for entry in entries]
