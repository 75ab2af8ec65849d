"""Lists of pictures and their texts: tables of line crops, rows of JSON, and PaddleOCR's Label.txt.

A table has a picture and its text on each line, parted by tabs, commas, semicolons, or (in a .txt) a blank
behind the picture's name. With a heading it may have more columns. Paths are relative to the list.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nanoocr.errors import UsageError
from nanoocr.files import decode_text, parse_json
from nanoocr.files import read_text as read_file
from nanoocr.finetune.boxes import Found, document_of
from nanoocr.finetune.types import FoundPage, TrueDocument, text_of
from nanoocr.folders import is_document
from nanoocr.tasks.common import is_file

SUFFIXES = (".tsv", ".csv", ".lst")
# What programs call both columns, in small letters and with _ for blanks.
PICTURES = (
    "file_name", "filename", "file", "path", "image_path", "img_path", "image", "img", "picture", "name",
)  # fmt: skip
TEXTS = (
    "text", "label", "transcription", "transcript", "words", "word", "ground_truth", "gt", "sentence",
    "value",
)  # fmt: skip
DONUT = '{"gt_parse"'  # how a text begins that is JSON for Donut
QUOTED = re.compile(r'"((?:[^"]|"")*)"')
SHOWN = 60  # a sentence shows this many characters of a wrong value
HEAD = 2**16  # bytes of a JSON file that show what its rows are


@dataclass(frozen=True)
class _Entry:
    """One line of a list: its number from 1, and its cells."""

    number: int
    cells: tuple[str, ...]


def list_documents(path: Path) -> Found:
    """The documents that a table lists, and a sentence for each line that lists none.

    Raises:
        UsageError: the file is not UTF-8.
    """
    content, problem = read_file(path)
    if "\ufffd" in content:
        raise UsageError(f"{path}: cannot be read as UTF-8: save it as UTF-8 ({problem})")
    entries = _entries(path, content)
    columns = _columns(entries[0].cells) if entries and not _names_picture(path, entries[0].cells) else None
    for entry in entries[1:] if columns else entries:
        yield from _of_cells(path, f"{path.name}, line {entry.number}", entry.cells, columns)


def _of_cells(path: Path, name: str, cells: Sequence[str], columns: tuple[int, int] | None) -> Found:
    """The document of one line of a table."""
    if columns is None and len(cells) != 2:
        yield f"{name}: needs a picture and its text, and a heading where there are more columns"
    elif columns is not None and len(cells) <= max(columns):
        yield f"{name}: has {len(cells)} columns, fewer than the heading"
    else:
        picture, text = (cells[i] for i in columns or (0, 1))
        yield from _listed(path, name, picture, text)


def _listed(path: Path, name: str, picture: str, text: str) -> Found:
    """The crop that a list names, or the page with lines of one of PaddleOCR's."""
    picture = picture.strip().replace("\\", "/")
    source = path.parent / picture
    if not is_file(source):
        yield f"{name}: there is no picture {picture[:200]}"
    elif not is_document(source):
        yield f"{name}: {picture} is no picture"
    elif (lines := _paddle(text)) is not None:
        yield from document_of(source, FoundPage(picture, (float("nan"),) * 2, lines), picture)
    else:
        yield TrueDocument(picture, source, "crop", text.strip(), group_of(picture))


def _paddle(text: str) -> tuple[tuple[str, list[tuple[float, float]]], ...] | None:
    """The lines of PaddleOCR's label, a JSON list with transcriptions and points; None for any other text.

    What its annotators could not read is written as ### and counts as a line without a text.
    """
    if not text.lstrip().startswith("[{"):
        return None
    try:
        lines = [
            (text_of(one["transcription"]) or "", [(float(x), float(y)) for x, y in one["points"]])
            for one in parse_json(text)
        ]
    except (ValueError, TypeError, LookupError):
        return None
    return tuple(("" if set(said) == {"#"} else said, points) for said, points in lines)


def group_of(name: str) -> str:
    """Crops of one page are called PAGE_NN or lie in a folder of the page's name."""
    parts = Path(name)
    cut = re.sub(r"[-_.](line|l)?[-_.]?\d+$", "", parts.stem)
    return str(parts.with_name(cut)) if cut != parts.stem else str(parts)


# ---------------------------------------------------------------------------------------------------
# Tables


def _entries(path: Path, content: str) -> list[_Entry]:
    """The lines of a table, cut by the separator with which most of them begin with a picture."""
    commas = (",", ";", "\t") if path.suffix.lower() == ".csv" else ("\t", ",", ";", " ")
    tables = [list(_cut(path, content, comma)) for comma in commas]
    return max(tables, key=lambda table: sum(_names_picture(path, entry.cells) for entry in table))


def _names_picture(path: Path, cells: Iterable[str]) -> bool:
    named = (cell.strip().replace("\\", "/") for cell in cells)
    cells = list(cells)
    return len(cells) > 1 and any(one and is_file(path.parent / one) for one in named)


def _columns(heading: Sequence[str]) -> tuple[int, int] | None:
    """Which columns hold the picture and the text, if the line is a heading."""
    names = [re.sub(r"[\s-]+", "_", cell.strip().lower()) for cell in heading]
    found = [next((names.index(one) for one in known if one in names), None) for known in (PICTURES, TEXTS)]
    picture, text = found
    return None if picture is None or text is None else (picture, text)


def _cut(path: Path, content: str, comma: str) -> Iterator[_Entry]:
    if comma in ",;":
        yield from _csv(path, content, comma)
        return
    for number, line in enumerate(content.split("\n"), start=1):
        cells = line.split(None, 1) if comma == " " else _tabbed(line)
        if cells:
            yield _Entry(number, tuple(cells))


def _tabbed(line: str) -> list[str]:
    """The cells of a line with tabs.

    Programs quote a cell that holds quotes, and double these; others quote all cells. Quotes around the text
    alone stand in the picture.
    """
    if not line.strip():
        return []
    cells = line.rstrip("\t ").split("\t")
    quoted = [QUOTED.fullmatch(cell) for cell in cells]
    plain = []
    for number, (cell, match) in enumerate(zip(cells, quoted)):
        by_program = match and (all(quoted) or number == 0 or '""' in match[1])
        plain.append(match[1].replace('""', '"') if match and by_program else cell)
    return plain


def _csv(path: Path, content: str, comma: str) -> Iterator[_Entry]:
    """The rows of a .csv. A quote that is never closed would take the lines behind it into its cell."""
    try:
        reader = csv.reader(io.StringIO(content, newline=""), delimiter=comma, strict=True)
        rows, number = [], 1
        for row in reader:
            rows.append(_Entry(number, tuple(row)))
            number = reader.line_num + 1
        inner = [line for entry in rows for cell in entry.cells for line in cell.split("\n")[1:]]
        if not any(_names_picture(path, line.split(comma)) for line in inner):
            yield from (entry for entry in rows if any(cell.strip() for cell in entry.cells))
            return
    except csv.Error:
        pass
    for number, line in enumerate(content.split("\n"), start=1):
        try:
            cells = next(csv.reader([line], delimiter=comma, strict=True), [])
        except csv.Error:
            cells = [line]
        if any(cell.strip() for cell in cells):
            yield _Entry(number, tuple(cells))


# ---------------------------------------------------------------------------------------------------
# JSON


def lists_pictures(path: Path) -> bool:
    """Whether a .json or .jsonl lists pictures and texts, as metadata.jsonl of an image folder does."""
    try:
        if path.suffix.lower() == ".json":
            rows = parse_json(path.read_bytes())
            first = rows[0] if isinstance(rows, list) and rows else None
        else:
            with path.open("rb") as file:
                first = parse_json(next((line for line in file if line.strip()), b"null")[:HEAD])
    except (OSError, ValueError):
        return False  # The reader of the file says why.
    return (
        isinstance(first, dict)
        and _columns(list(first)) is not None
        and not {"messages", "conversations"} & set(first)
    )


def json_documents(path: Path) -> Found:
    """The documents of a list of objects with a picture and a text each."""
    for number, row in enumerate(_objects(path), start=1):
        name = f"{path.name}, row {number}"
        columns = _columns(list(row)) if isinstance(row, dict) else None
        picture, said = [list(row.values())[i] for i in columns] if columns else (None, None)
        text = _text_of(said)
        if columns is None:
            yield f"{name}: needs a picture and its text"
        elif not isinstance(picture, str):
            yield f"{name}: its picture is named by {str(picture)[:SHOWN]} and not by a path"
        elif text is None:
            yield f"{name}: its text is {str(said)[:SHOWN]} and not a text"
        else:
            yield from _listed(path, name, picture, text)


def _text_of(value: Any) -> str | None:
    """The text of a row; None where it has none."""
    is_donut = isinstance(value, str) and value.lstrip().startswith(DONUT)
    return _of_donut(value) if is_donut else text_of(value)


def _of_donut(text: str) -> str | None:
    """Donut's rows hold JSON in a text: that of SynthDoG is what the page says, others are fields."""
    try:
        said = parse_json(text)["gt_parse"]["text_sequence"]
    except (ValueError, LookupError, TypeError):
        return None
    return said if isinstance(said, str) else None


def _objects(path: Path) -> list[Any]:
    text, _ = decode_text(path.read_bytes(), path.name)
    if path.suffix.lower() == ".json":
        return list(parse_json(text))
    rows: list[Any] = []
    for line in filter(str.strip, text.split("\n")):
        try:
            rows.append(parse_json(line))
        except json.JSONDecodeError:
            rows.append(None)
    return rows
