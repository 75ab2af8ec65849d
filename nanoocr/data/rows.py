"""The row type that every source produces, and the readers of row files on disk.

Parquet files follow FineVision's schema: `images` list of {bytes, path}, `texts` list of {user, assistant},
`source`, and optionally `char_boxes`, a list of {text, x0, y0, x1, y1} in pixels of the first picture. JSON
files (the ten samples) are a list of {id, image, prompt, answer}, also with chars and boxes; their picture
paths are relative.
"""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from nanoocr.data.columns import record_maker
from nanoocr.data.entries import picture_of
from nanoocr.data.synth import SynthSample
from nanoocr.errors import PictureError, UsageError
from nanoocr.files import lines_as_lf, parse_json, read_json_list
from nanoocr.pages import PageRanges, is_single, name_of, open_source
from nanoocr.picture_header import formats_of
from nanoocr.pictures import open_image, read_bytes

NOT_UTF8 = "a text is not UTF-8: write the file again with its texts in UTF-8"
NO_BOXES = np.zeros((0, 4), dtype=np.float32)
HALF = re.compile("[\ud800-\udfff]")  # a lone surrogate: JSON can escape one, but no tokenizer can encode it
# A PDF in a row may have this many pages, as many as a packed sequence has pictures
# (`DataPlan.max_pictures`).
MAX_PAGES = 64
RowPicture = bytes | Image.Image  # an encoded file, or its decoded image


class Turn(NamedTuple):
    """One question and its answer."""

    user: str
    assistant: str


@dataclass(frozen=True)
class Row:
    """A conversation and its pictures (none where it is text alone).

    Pictures come before the first question. They stay encoded, as they lie on disk, until `decoded` is
    called.
    """

    id: str
    pictures: tuple[RowPicture, ...]
    turns: tuple[Turn, ...]
    source: str
    chars: str = ""  # characters whose places in the first picture are known
    # (len(chars), 4) x0, y0, x1, y1 in pixels of the first picture
    boxes: np.ndarray = field(default_factory=lambda: NO_BOXES)

    @property
    def prompt(self) -> str:
        """The first question."""
        return self.turns[0].user

    @property
    def answer(self) -> str:
        """The first answer."""
        return self.turns[0].assistant

    @property
    def image(self) -> Image.Image | None:
        """The first picture, decoded; None for text alone."""
        return self.images()[0] if self.pictures else None

    def images(self) -> tuple[Image.Image, ...]:
        """All pictures, decoded.

        Raises:
            PictureError: a picture is unreadable; names the row.
        """
        return tuple(
            picture if isinstance(picture, Image.Image) else open_image(picture, name=self.picture_name(i))
            for i, picture in enumerate(self.pictures)
        )

    def picture_name(self, i: int) -> str:
        """How errors call the i-th picture."""
        return self.id if len(self.pictures) == 1 else f"{self.id}, picture {i}"

    def decoded(self) -> Row:
        """A copy with decoded pictures, so that several users do not decode them again."""
        return replace(self, pictures=self.images())


class BadRowError(UsageError):
    """A row cannot be used: it does not follow the schema, or a picture is unreadable. It names the row."""


class FilteredRowError(BadRowError):
    """The user's filter leaves this row out. It is skipped and counted, whatever is done about bad rows."""


def row_from_synth(sample: SynthSample, row_id: str) -> Row:
    """A generated sample as a row."""
    turn = Turn(sample.prompt, sample.answer)
    return Row(row_id, (sample.image,), (turn,), f"synth/{sample.kind}", sample.chars, sample.boxes)


def read_rows(path: str | Path, limit: int | None = None) -> list[Row]:
    """Read all rows of a .parquet or .json file and decode their pictures, for sets that fit in memory.

    Raises:
        UsageError: the file is missing or of an unknown type, or a row (named) breaks the schema.
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
        try:
            rows.append(row.decoded())
        except PictureError as error:
            raise BadRowError(str(error)) from error
    if not rows:
        raise UsageError(f"{path}: holds no rows")
    return rows


def json_rows(path: Path) -> Iterator[Row]:
    """Rows of a JSON list of {id, image, prompt, answer}, each also with chars and boxes where known."""
    for number, entry in enumerate(read_json_list(path)):
        name = f"{path}: row {number}"
        try:
            row_id, picture = entry["id"], path.parent / entry["image"]
            turn = Turn(entry["prompt"], entry["answer"])
            chars, boxes = entry.get("chars", ""), entry.get("boxes", [])
        except (KeyError, TypeError, AttributeError) as error:
            raise BadRowError(f"{name} needs id, image, prompt and answer ({error!r})") from error
        if not isinstance(row_id, str):
            raise BadRowError(f"{name}: the id is {row_id!r} and not a text")
        called = f"{name}: {picture}"
        try:
            pages = all_pages(read_bytes(picture, called), called)
            pictures = [open_image(page, name=called) for page in pages]
        except PictureError as error:
            raise BadRowError(str(error)) from error
        yield replace(checked_row(name, pictures, (turn,), path.stem, chars, boxes), id=row_id)


def parquet_rows(path: Path) -> Iterator[Row]:
    """Rows of a Parquet file, read in small batches."""
    try:
        with pq.ParquetFile(path) as file:
            number, mended = 0, record_maker(file.schema_arrow)
            for batch in file.iter_batches(batch_size=64):
                for record in batch.to_pylist():
                    yield row_from_record(mended(record), f"{path}: row {number}", path.parent)
                    number += 1
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: {NOT_UTF8}") from error
    except (pa.ArrowException, OSError) as error:
        raise UsageError(f"{path}: not a readable Parquet file ({error})") from error


def row_from_record(record: dict[str, Any], name: str, beside: Path | None = None) -> Row:
    """Make a row from one FineVision record, with all its pictures and turns.

    Forms that other programs store are accepted too: a list may be its JSON, a single picture may stand
    without a list, a picture may be a path relative to the folder `beside`, labels may be numbers, and texts
    may be UTF-8 bytes.

    Raises:
        BadRowError: a column is missing, or null where it must not be; it names the row.
    """
    try:
        listed: list[Any] = [None] if record["texts"] is None else _listed(record["texts"])
        if None in listed:
            raise BadRowError(f"{name}: its texts are null, or one of them is")
        turns = tuple(
            Turn(_text_of(turn["user"], name), _text_of(turn["assistant"], name)) for turn in listed
        )
        pictures = tuple(_bytes_of(image, name, beside) for image in _flat(record["images"] or []))
        marks = record.get("char_boxes") or []
        chars = "".join(mark["text"] for mark in marks)
        boxes = [[mark["x0"], mark["y0"], mark["x1"], mark["y1"]] for mark in marks]
    except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
        if isinstance(error, BadRowError):
            raise
        raise BadRowError(f"{name}: needs FineVision's columns images and texts ({error!r})") from error
    return checked_row(name, pictures, turns, str(record.get("source") or ""), chars, boxes)


def _listed(value: Any) -> list[Any]:
    """Return a list as it is, decode a JSON list, and put a single picture or turn into a list."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        value = parse_json(value)
    return value if isinstance(value, list) else [value]


def _flat(value: Any) -> Iterator[Any]:
    """The pictures of a column; lists within the list are joined."""
    for one in _listed(value):
        yield from _flat(one) if isinstance(one, list) else [one]


def _text_of(value: Any, name: str) -> Any:
    """Return a text; numbers become text as JSON writes them, since labels are often integers."""
    if isinstance(value, float) and not math.isfinite(value):
        return None  # pandas writes nan where a label is missing
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, Decimal):
        return str(value)
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise BadRowError(f"{name}: {NOT_UTF8}") from error


def _bytes_of(image: Any, name: str, beside: Path | None) -> bytes:
    """The encoded picture: the bytes of a {bytes, path} struct, given bytes, or those of a file on disk."""
    if image is None or (isinstance(image, dict) and not any(image.values())):
        raise BadRowError(f"{name}: one of its images has neither bytes nor a path")
    try:
        found = picture_of(image)
    except ValueError as error:
        raise BadRowError(f"{name}: {error}") from error
    if isinstance(found, bytes):
        held = image.get("bytes") if isinstance(image, dict) else image
        # Nearly every word is base64 of something, so what was packed has to look like a picture.
        if not isinstance(held, bytes) and not (any(formats_of(found)) or b"%PDF-" in found[:1024]):
            raise BadRowError(f"{name}: a picture has no bytes that begin as pictures do")
        return found
    file = (beside or Path()) / found
    try:
        if "\\" in found and not file.exists():  # the path was written on Windows
            file = (beside or Path()) / found.replace("\\", "/")
        return file.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: the path holds a NUL byte
        raise BadRowError(
            f"{name}: the picture is not in the row, and its path {file} cannot be read: put the pictures "
            "there, or write the set with its pictures embedded, as push_to_hub and save_to_disk do"
        ) from error


def checked_row(
    name: str,
    pictures: Sequence[Any],
    turns: Sequence[Any],
    source: str,
    chars: Any = "",
    boxes: Any = (),
) -> Row:
    """Make a row called `name` from untrusted parts; pictures are bytes or decoded images.

    Line ends become \\n, as those of text files do: a model would learn to write the CR of one data set.

    Raises:
        BadRowError: a part has a wrong type, there is no turn, or boxes and characters differ in number.
    """
    if not turns:
        raise BadRowError(f"{name}: holds no question and answer")
    named = [pair for turn in turns for pair in (("question", turn[0]), ("answer", turn[1]))]
    for what, text in (*named, ("chars", chars)):
        if not isinstance(text, str):
            raise BadRowError(f"{name}: the {what} is {text!r} and not a text")
        if HALF.search(text):
            raise BadRowError(f"{name}: the {what} holds half a character, a lone surrogate")
    encoded = [picture for picture in pictures if not isinstance(picture, Image.Image)]
    if not all(isinstance(picture, bytes) and picture for picture in encoded):
        raise BadRowError(f"{name}: a picture has no bytes")
    pages = tuple(page for picture in pictures for page in all_pages(picture, name))
    try:
        array = np.array(boxes, dtype=np.float32).reshape(-1, 4)
    except (TypeError, ValueError) as error:
        raise BadRowError(f"{name}: the boxes are not lists of x0, y0, x1, y1") from error
    if not np.isfinite(array).all():
        raise BadRowError(f"{name}: a box has a side that is no number")
    if len(array) != len(chars):
        raise BadRowError(f"{name}: {len(chars)} characters have {len(array)} boxes")
    return Row(name, pages, tuple(Turn(*map(lines_as_lf, turn)) for turn in turns), source, chars, array)


# ---------------------------------------------------------------------------------------------------
# Pages


@dataclass(frozen=True)
class FewPages(PageRanges):
    """Select all pages of a PDF, but refuse one of more than MAX_PAGES pages before any is rendered."""

    def select(self, count: int, name: str) -> list[int]:
        """Select all pages, or refuse the document."""
        if count > MAX_PAGES:
            raise PictureError(
                f"{name} has {count} pages, and a row has {MAX_PAGES} at most: split it and its text"
            )
        return super().select(count, name)


FEW_PAGES = FewPages()


def page_pictures(
    source: Path | bytes, name: str, pages: PageRanges = FEW_PAGES, turn: Image.Transpose | None = None
) -> tuple[bytes, ...]:
    """Render the pages of a PDF, or turn a picture; the result is encoded, since hundreds of rows wait.

    Raises:
        BadRowError: a page cannot be read, or there are too many.
    """
    pictures = []
    for picture in open_source(source, name_of(source) if isinstance(source, Path) else name, pages):
        if picture.image is None:
            raise BadRowError(f"{name}: {picture.error}")
        pictures.append(encoded(picture.image if turn is None else picture.image.transpose(turn)))
    return tuple(pictures)


def all_pages(picture: RowPicture, name: str) -> tuple[RowPicture, ...]:
    """The picture; for a PDF or a TIFF of several pages all pages, since the answer covers them all.

    Raises:
        BadRowError: a page cannot be read, or they are too many.
    """
    try:
        if isinstance(picture, Image.Image) or is_single(picture, name):
            return (picture,)
    except PictureError as error:
        raise BadRowError(f"{name}: {error}") from error
    return page_pictures(picture, name)


def encoded(image: Image.Image) -> bytes:
    """Without loss, so that training sees a page as reading renders it; in little time rather than space."""
    stored = io.BytesIO()
    image.save(stored, "PNG", compress_level=1)
    return stored.getvalue()
