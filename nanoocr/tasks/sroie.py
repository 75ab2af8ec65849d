"""SROIE (ICDAR 2019): scanned receipts with the text of every box and four key fields.

FOLDER/img/NAME.jpg (or another picture), FOLDER/box/NAME.txt (or .csv) with lines
x1,y1,x2,y2,x3,y3,x4,y4,text, and FOLDER/entities/NAME.txt (or key/NAME.json) with a JSON object. A row asks
for the text (boxes side by side make one line), for the fields as JSON, or for both in turn.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from nanoocr.config import PROMPT
from nanoocr.data.rows import BadRowError, Row, checked_row
from nanoocr.data.task import Task
from nanoocr.errors import UsageError
from nanoocr.files import parse_json
from nanoocr.folders import SUFFIXES
from nanoocr.tasks.common import answered, existing, file_bytes, read_text

FIELDS = ("company", "date", "address", "total")
FIELDS_PROMPT = f"Give {', '.join(FIELDS)} as JSON."
ASKED = {"text": ("text",), "fields": ("fields",), "both": ("text", "fields")}


class Box(NamedTuple):
    """A text and where it stands, in pixels."""

    left: float
    top: float
    bottom: float
    text: str


class Sroie(Task):
    """The receipts of a folder, in the order of their names."""

    def __init__(
        self, path: str | Path, ask: str = "text", start: int = 0, stop: int | None = None, step: int = 1
    ) -> None:
        super().__init__(start, stop, step)
        self.root = existing(path, "folder")
        if ask not in ASKED:
            raise UsageError(f"ask={ask}: choose one of {', '.join(ASKED)}")
        self.ask = ASKED[ask]
        found = (path for path in (self.root / "img").glob("*") if path.name[0] != ".")
        self.pictures = sorted(path for path in found if path.suffix.lower() in SUFFIXES)
        if not self.pictures:
            raise UsageError(f"{self.root / 'img'}: holds no .jpg or other pictures")

    def num_rows(self) -> int:
        """How many receipts there are."""
        return len(self.pictures)

    def marks(self) -> Iterable[object]:
        """The file names."""
        return [picture.name for picture in self.pictures]

    def read(self, index: int) -> Row:
        """One receipt."""
        picture = self.pictures[index]
        name = str(picture)
        asks = {"text": (PROMPT, self._text), "fields": (FIELDS_PROMPT, self._fields)}
        turns = [(asks[ask][0], asks[ask][1](picture.stem, name)) for ask in self.ask]
        return answered(checked_row(name, [file_bytes(picture, name)], turns, "sroie"))

    def _text(self, stem: str, name: str) -> str:
        lines = read_text(self._file(stem, name, "box/{}.txt", "box/{}.csv"), name).split("\n")
        return "\n".join(lines_of([_box(line, name) for line in lines if line.strip()]))

    def _fields(self, stem: str, name: str) -> str:
        text = read_text(self._file(stem, name, "entities/{}.txt", "key/{}.json"), name)
        try:
            values = parse_json(text)
            fields = {field: values[field] for field in FIELDS if field in values}
        except (ValueError, TypeError) as error:
            raise BadRowError(f"{name}: its key fields are no JSON object ({error})") from error
        return json.dumps(fields, ensure_ascii=False) if fields else ""

    def _file(self, stem: str, name: str, *patterns: str) -> Path:
        files = [self.root / pattern.format(stem) for pattern in patterns]
        for file in files:
            if file.is_file():
                return file
        raise BadRowError(f"{name}: neither {files[0]} nor {files[1]} is there")


def _box(line: str, name: str) -> Box:
    """Parse one box. The text follows the eighth comma, and may hold commas itself."""
    *corners, text = line.split(",", 8)
    try:
        xs, ys = [float(x) for x in corners[::2]], [float(y) for y in corners[1::2]]
        if len(corners) != 8:
            raise ValueError("not eight numbers and a text")
    except ValueError as error:
        raise BadRowError(f"{name}: box {line[:60]!r} ({error})") from error
    return Box(min(xs), min(ys), max(ys), text.strip())


def lines_of(boxes: list[Box]) -> list[str]:
    """Join boxes to lines, top to bottom: a box whose middle lies within a line's first box belongs to it."""
    lines: list[list[Box]] = []
    for box in sorted(boxes, key=lambda box: box.top + box.bottom):
        first = lines[-1][0] if lines else None
        if first is not None and first.top <= (box.top + box.bottom) / 2 <= first.bottom:
            lines[-1].append(box)
        else:
            lines.append([box])
    return [" ".join(box.text for box in sorted(line)) for line in lines]
