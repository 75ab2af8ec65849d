"""One row type for every source, and the readers of what lies on disk.

Parquet files follow FineVision's schema: `images` list of {bytes, path}, `texts` list of {user, assistant},
`source`, and optionally `char_boxes`, a list of {text, x0, y0, x1, y1} in pixels. JSON files (the ten
samples) are a list of {id, image, prompt, answer}, also with chars and boxes; picture paths are relative.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from nanoocr.data.synth import SynthSample
from nanoocr.errors import PictureError, UsageError
from nanoocr.image_process import open_image

NO_BOXES = np.zeros((0, 4), dtype=np.float32)


@dataclass(frozen=True)
class Row:
    """A question, its answer, and the picture they are about (None for text alone)."""

    id: str
    image: Image.Image | None
    prompt: str
    answer: str
    source: str
    chars: str = ""
    # (len(chars), 4) x0, y0, x1, y1 in pixels of `image`
    boxes: np.ndarray = field(default_factory=lambda: NO_BOXES)


def row_from_synth(sample: SynthSample, row_id: str) -> Row:
    """A generated sample as a row."""
    return Row(
        row_id, sample.image, sample.prompt, sample.answer, f"synth/{sample.kind}", sample.chars, sample.boxes
    )


def read_rows(path: str | Path, limit: int | None = None) -> list[Row]:
    """The rows of a .parquet or .json file, pictures decoded; for sets that fit in memory.

    Raises:
        UsageError: missing file, unknown suffix, or a row that is not of the schema (named by its number).
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"{path}: no such data file")
    if path.suffix not in (".parquet", ".json"):
        raise UsageError(f"{path}: data files end in .parquet or .json")
    rows: list[Row] = []
    for row in parquet_rows(path) if path.suffix == ".parquet" else json_rows(path):
        if limit is not None and len(rows) >= limit:
            break
        rows.append(row)
    if not rows:
        raise UsageError(f"{path}: holds no rows")
    return rows


def json_rows(path: Path) -> Iterator[Row]:
    """Rows of a JSON list of {id, image, prompt, answer}."""
    try:
        entries = json.loads(path.read_text())
    except ValueError as error:
        raise UsageError(f"{path}: not JSON ({error})") from error
    for number, entry in enumerate(entries):
        try:
            name, prompt, answer, row_id = entry["image"], entry["prompt"], entry["answer"], entry["id"]
            boxes = np.array(entry.get("boxes", []), dtype=np.float32).reshape(-1, 4)
            chars = str(entry.get("chars", ""))
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(
                f"{path}: row {number} needs id, image, prompt and answer ({error!r})"
            ) from error
        yield Row(row_id, open_image(path.parent / name), prompt, answer, path.stem, chars, boxes)


def parquet_rows(path: Path) -> Iterator[Row]:
    """Rows of a Parquet file, read row group by row group."""
    try:
        with pq.ParquetFile(path) as file:
            number = 0
            for batch in file.iter_batches(batch_size=64):
                for record in batch.to_pylist():
                    yield row_from_record(record, f"{path}: row {number}")
                    number += 1
    except pa.ArrowException as error:
        raise UsageError(f"{path}: not a readable Parquet file ({error})") from error


def row_from_record(record: dict[str, Any], name: str) -> Row:
    """One FineVision record; the first picture and the first turn of each.

    Raises:
        UsageError: a column is missing or null where it must not be, or the picture is unreadable.
    """
    try:
        turn = record["texts"][0]
        prompt, answer = turn["user"], turn["assistant"]
        images = record["images"] or []
        marks = record.get("char_boxes") or []
        boxes = np.array([[m["x0"], m["y0"], m["x1"], m["y1"]] for m in marks], dtype=np.float32)
    except (KeyError, TypeError, IndexError) as error:
        raise UsageError(f"{name}: needs FineVision's columns images and texts ({error!r})") from error
    if prompt is None or answer is None:
        raise UsageError(f"{name}: the question or the answer is null")
    try:
        image = open_image(images[0]["bytes"], name=name) if images else None
    except PictureError as error:
        raise UsageError(str(error)) from error
    chars = "".join(mark["text"] for mark in marks)
    return Row(name, image, prompt, answer, str(record.get("source") or ""), chars, boxes.reshape(-1, 4))
