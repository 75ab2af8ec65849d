"""Writes examples/: small delivery notes in the input formats of `nanoocr finetune`, one folder for each.

python -m scripts.dev.make_examples

scripts/dev/make_style.py draws everything, in a font that matplotlib contains, so no content is anybody's
property.
"""

from __future__ import annotations

import io
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw, ImageFont

from nanoocr.commandline import parse, run
from nanoocr.data.synth.dice import Dice
from nanoocr.data.synth.parquet import SCHEMA
from nanoocr.document import Box, Line, TextPage, Word
from nanoocr.files import write_file
from nanoocr.formats import render
from scripts.dev.make_samples import matplotlib_fonts
from scripts.dev.make_style import INK, PAPER, rows_of

ROOT = Path(__file__).resolve().parents[2]
SIZE, PITCH, WIDTH = 20, 32, 560
DOCUMENTS = 5  # of a format: with fewer, too few lines are left to train on


@dataclass(frozen=True)
class MakeExamplesConfig:
    """Draws the examples."""

    out: Path = ROOT / "examples"  # folder that gets one folder for each format


@dataclass(frozen=True)
class Note:
    """One drawn delivery note: its name, picture, and lines with boxes."""

    name: str
    image: Image.Image
    lines: tuple[Line, ...]

    @property
    def text(self) -> str:
        """The note's lines as one text."""
        return "\n".join(line.text for line in self.lines) + "\n"

    def encoded(self) -> bytes:
        """The picture as a JPEG file."""
        stored = io.BytesIO()
        self.image.save(stored, "JPEG", quality=50, optimize=True)
        return stored.getvalue()


def draw(number: int) -> Note:
    """Draw note `number`."""
    path = next(f.path for f in matplotlib_fonts() if f.family == "DejaVu Serif")
    font = ImageFont.truetype(path, SIZE, layout_engine=ImageFont.Layout.BASIC)
    rows = [" ".join(filter(None, row)) for row in rows_of(Dice.for_sample("example", 0, number), 4)]
    page = Image.new("RGB", (WIDTH, PITCH * (len(rows) + 1)), PAPER)
    pen, lines = ImageDraw.Draw(page), []
    for i, said in enumerate(rows):
        at = (16, PITCH * i + PITCH // 2)
        pen.text(at, said, INK, font)
        quad = Box(*map(float, pen.textbbox(at, said, font))).quad()
        lines.append(Line(said, quad, words=(Word(said, quad),)))
    return Note(f"note{number}", page, tuple(lines))


def write_text(folder: Path, note: Note) -> None:
    """Write a picture with a .txt beside it."""
    write_file(folder / f"{note.name}.jpg", note.encoded())
    write_file(folder / f"{note.name}.txt", note.text.encode())


def write_boxes(folder: Path, note: Note, kind: str, suffix: str) -> None:
    """Write a picture with PAGE-XML, ALTO or hOCR beside it."""
    name = f"{note.name}.jpg"
    write_file(folder / name, note.encoded())
    page = TextPage(name, 1, note.image.width, note.image.height, note.lines)
    written = render([page], kind)
    write_file(folder / f"{note.name}{suffix}", written.encode() if isinstance(written, str) else written)


def write_crops(folder: Path, note: Note) -> None:
    """Write a picture of every line, with a .gt.txt beside it."""
    for i, line in enumerate(note.lines):
        (left, top), _, (right, bottom), _ = line.quad
        crop = note.image.crop((round(left) - 8, round(top) - 8, round(right) + 8, round(bottom) + 8))
        stored = io.BytesIO()
        crop.save(stored, "PNG", optimize=True)
        write_file(folder / f"{note.name}_{i}.png", stored.getvalue())
        write_file(folder / f"{note.name}_{i}.gt.txt", line.text.encode())


def write_list(folder: Path, notes: list[Note]) -> None:
    """Write the same line pictures as a list of pictures and texts."""
    rows = [f"{note.name}_{i}.png\t{line.text}\n" for note in notes for i, line in enumerate(note.lines)]
    write_file(folder / "list.tsv", "".join(rows).encode())


def label_studio_task(note: Note) -> dict[str, Any]:
    """A task of Label Studio's export, with boxes in per cent."""
    result = []
    for i, line in enumerate(note.lines):
        (left, top), _, (right, bottom), _ = line.quad
        place = {
            "x": 100 * left / note.image.width,
            "y": 100 * top / note.image.height,
            "width": 100 * (right - left) / note.image.width,
            "height": 100 * (bottom - top) / note.image.height,
            "rotation": 0,
        }
        result.append({"id": f"r{i}", "type": "rectangle", "value": place})
        result.append({"id": f"r{i}", "type": "textarea", "value": {**place, "text": [line.text]}})
    size = {"original_width": note.image.width, "original_height": note.image.height, "image_rotation": 0}
    done = [{"result": [{**size, **one} for one in result]}]
    return {"data": {"ocr": f"/data/upload/1/0123abcd-{note.name}.jpg"}, "annotations": done}


def label_studio_brief(task: dict[str, Any]) -> dict[str, Any]:
    """The same task in JSON-MIN, with regions and texts as two lists."""
    result = task["annotations"][0]["result"]
    size = {key: result[0][key] for key in ("original_width", "original_height")}
    return {
        "ocr": task["data"]["ocr"],
        "bbox": [{**one["value"], **size} for one in result if one["type"] == "rectangle"],
        "transcription": [one["value"]["text"][0] for one in result if one["type"] == "textarea"],
        "annotation_id": 1,
    }


def write_rows(out: Path, notes: list[Note]) -> None:
    """Write Label Studio, chat rows and Parquet, each as one file for all documents."""
    for note in notes:
        for folder in ("label_studio", "label_studio_min", "jsonl"):
            write_file(out / folder / f"{note.name}.jpg", note.encoded())
    tasks = [label_studio_task(note) for note in notes]
    brief = [label_studio_brief(task) for task in tasks]
    for folder, export in (("label_studio", tasks), ("label_studio_min", brief)):
        write_file(out / folder / "export.json", json.dumps(export, indent=1).encode())
    rows = [
        {
            "messages": [
                {"role": "user", "content": "<image>Read."},
                {"role": "assistant", "content": note.text.strip()},
            ],
            "images": [f"{note.name}.jpg"],
        }
        for note in notes
    ]
    write_file(out / "jsonl" / "rows.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())
    records = [
        {
            "images": [{"bytes": note.encoded(), "path": None}],
            "texts": [{"user": "Read.", "assistant": note.text.strip()}],
            "source": "example",
        }
        for note in notes
    ]
    stored = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(records, SCHEMA), stored)
    write_file(out / "parquet" / "rows.parquet", stored.getvalue())


def main(argv: list[str] | None = None) -> None:
    """Write all formats."""
    out = parse(MakeExamplesConfig, argv).out
    notes = [draw(number) for number in range(DOCUMENTS)]
    for note in notes:
        write_text(out / "text", note)
        write_crops(out / "crops", note)
        for kind, suffix in (("page", ".xml"), ("alto", ".xml"), ("hocr", ".hocr")):
            write_boxes(out / kind, note, kind, suffix)
    write_list(out / "crops", notes)
    write_rows(out, notes)
    print(f"the examples are in {out}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(run(main))
