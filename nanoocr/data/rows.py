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
    """Rows of a JSON list of {id, image, prompt, answer}, each also with chars and boxes where known."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"{path}: not JSON ({error})") from error
    if not isinstance(entries, list):
        raise UsageError(f"{path}: not a list of rows")
    for number, entry in enumerate(entries):
        name = f"{path}: row {number}"
        try:
            row_id, picture = entry["id"], str(path.parent / entry["image"])
            prompt, answer, chars = entry["prompt"], entry["answer"], entry.get("chars", "")
            boxes = entry.get("boxes", [])
        except (KeyError, TypeError, AttributeError) as error:
            raise UsageError(f"{name} needs id, image, prompt and answer ({error!r})") from error
        yield checked_row(name, row_id, picture, prompt, answer, path.stem, chars, boxes)


def parquet_rows(path: Path) -> Iterator[Row]:
    """Rows of a Parquet file, read in small batches."""
    try:
        with pq.ParquetFile(path) as file:
            number = 0
            for batch in file.iter_batches(batch_size=64):
                for record in batch.to_pylist():
                    yield row_from_record(record, f"{path}: row {number}")
                    number += 1
    except (pa.ArrowException, OSError) as error:
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
        picture = images[0]["bytes"] if images else None
        marks = record.get("char_boxes") or []
        chars = "".join(mark["text"] for mark in marks)
        boxes = [[mark["x0"], mark["y0"], mark["x1"], mark["y1"]] for mark in marks]
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise UsageError(f"{name}: needs FineVision's columns images and texts ({error!r})") from error
    if images and picture is None:
        raise UsageError(f"{name}: the picture has no bytes")
    return checked_row(name, name, picture, prompt, answer, str(record.get("source") or ""), chars, boxes)


def checked_row(
    name: str, row_id: Any, picture: Any, prompt: Any, answer: Any, source: str, chars: Any, boxes: Any
) -> Row:
    """A row from untrusted parts; `picture` is a path, bytes, or None for a row of text.

    Raises:
        UsageError: a part is of another kind, the boxes do not match the characters, or the picture is
            unreadable; names the row.
    """
    for what, text in (("id", row_id), ("question", prompt), ("answer", answer), ("chars", chars)):
        if not isinstance(text, str):
            raise UsageError(f"{name}: the {what} is {text!r} and not a text")
    try:
        array = np.array(boxes, dtype=np.float32).reshape(-1, 4)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{name}: the boxes are not lists of x0, y0, x1, y1") from error
    if not np.isfinite(array).all():
        raise UsageError(f"{name}: a box has a side that is no number")
    if len(array) != len(chars):
        raise UsageError(f"{name}: {len(chars)} characters have {len(array)} boxes")
    try:
        shown = f"{name}: {picture}" if isinstance(picture, str) else name
        image = None if picture is None else open_image(picture, name=shown)
    except (PictureError, TypeError) as error:
        raise UsageError(str(error)) from error
    return Row(row_id, image, prompt, answer, source, chars, array)
