"""olmOCR-mix: pages of PDFs with the text that a large model read from them.

The tables hold no pictures. Those of olmOCR-mix-0225 have id and `response`, a JSON string; those of
olmOCR-mix-1025 have flat columns and pdf_relpath. Unpack the repository's pdf_tarballs into one folder and
name it: ID.pdf lies in it directly, or CHUNK/PATH.pdf for a pdf_relpath CHUNK.tar.gz:PATH.pdf. On disk the
same data is a folder of .md files, a few lines of front matter on top, with a PDF of the same name beside.

A page that lies on its side (is_rotation_valid is false) is turned clockwise by rotation_correction, because
the labelling model saw it that way. Where there was nothing to read (natural_text is null) the answer is
empty, which is the truth about that page.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from nanoocr.config import PROMPT
from nanoocr.data.rows import BadRowError, Row, checked_row, page_pictures
from nanoocr.data.shards import Shards
from nanoocr.data.task import ParquetTask
from nanoocr.errors import PictureError
from nanoocr.files import parse_json
from nanoocr.pages import PageRanges
from nanoocr.tasks.common import existing, read_text
from nanoocr.tasks.folder import Folder

REPO = "allenai/olmOCR-mix-0225"
COLUMNS_0225 = ("id", "response", "page_number")
COLUMNS_1025 = ("pdf_relpath", "natural_text", "is_rotation_valid", "rotation_correction", "page_number")
TURNS = {90: Image.Transpose.ROTATE_270, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_90}


@dataclass(frozen=True)
class OnePage(PageRanges):
    """Selects the page of a row. Tarballs hold single pages; in a whole document `number` says which."""

    number: Any = 1

    def select(self, count: int, name: str) -> list[int]:
        """Select the one page."""
        if count > 1 and self.number not in range(1, count + 1):
            raise PictureError(f"{name} has {count} pages, and page_number is {self.number!r}")
        return [self.number if count > 1 else 1]


class OlmOcrMix(ParquetTask):
    """The tables, and the unpacked PDFs in the folder `pdfs`."""

    def __init__(
        self,
        shards: Shards,
        pdfs: str | Path,
        prompt: str = PROMPT,
        start: int = 0,
        stop: int | None = None,
        step: int = 1,
    ) -> None:
        super().__init__(shards, start, stop, step)
        self.pdfs = existing(pdfs, "folder of PDFs, the unpacked pdf_tarballs (pdfs=FOLDER)")
        self.prompt = prompt

    def read(self, index: int) -> Row:
        """The page, upright, and its text."""
        record, name = self.shards[index], self.shards.name_of(index)
        about = _response(record, name)
        path, page = self.pdfs / _pdf_name(record, name), OnePage(number=record["page_number"])
        pictures = page_pictures(path, name, page, turn_of(about, name))
        text = about["natural_text"]
        text = "" if text is None else text
        return checked_row(name, pictures, [(self.prompt, text)], "olmocr_mix")


def _response(record: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The fields natural_text, is_rotation_valid and rotation_correction, from either table."""
    if "response" not in record:
        return record
    try:
        about = parse_json(record["response"])
    except (TypeError, ValueError) as error:
        raise BadRowError(f"{name}: response is not JSON ({error})") from error
    if not isinstance(about, dict):
        raise BadRowError(f"{name}: response is not a JSON object")
    return about


def _pdf_name(record: Mapping[str, Any], name: str) -> str:
    """The path of the PDF within the folder."""
    if record.get("id"):
        return f"{record['id']}.pdf"
    tarball, colon, path = str(record.get("pdf_relpath")).partition(".tar.gz:")
    if not colon:
        raise BadRowError(f"{name}: neither an id nor a pdf_relpath TARBALL.tar.gz:PATH names its PDF")
    return f"{Path(tarball).name}/{path}"


def turn_of(about: Mapping[str, Any], name: str) -> Image.Transpose | None:
    """The rotation that sets the page upright, according to `about`.

    Raises:
        BadRowError: the rotation is not a multiple of 90 degrees.
    """
    angle = 0 if about.get("is_rotation_valid", True) else about.get("rotation_correction", 0)
    if angle not in [0, *TURNS]:
        raise BadRowError(f"{name}: rotation_correction is {angle!r}, not 0, 90, 180 or 270")
    return TURNS.get(angle)


class OlmOcrFolder(Folder):
    """The same data as .md files with front matter beside PDFs."""

    source = "olmocr_mix"

    def read(self, index: int) -> Row:
        """The page, upright, and the text below the front matter."""
        picture, text = self.pairs[index]
        about, body = front_matter(read_text(text, str(text)))
        pictures = page_pictures(picture, str(picture), turn=turn_of(about, str(text)))
        return checked_row(str(picture), pictures, [(self.prompt, body)], self.source)


def front_matter(text: str) -> tuple[dict[str, Any], str]:
    """The `key: value` lines between two lines of three dashes, and what follows; {} without such a block."""
    opening, _, rest = text.partition("\n")
    lines = rest.split("\n")  # A text may hold other separators of lines, which are its own.
    if opening.rstrip() != "---" or "---" not in lines:
        return {}, text
    end = lines.index("---")
    pairs = (line.partition(":") for line in lines[:end])
    values = {key.strip(): _value(value.strip()) for key, _, value in pairs}
    return values, "\n".join(lines[end + 1 :]).strip()


def _value(text: str) -> Any:
    known: dict[str, Any] = {"true": True, "false": False, "none": None, "null": None, "": None}
    return known.get(text.lower(), int(text) if text.isdecimal() else text)
