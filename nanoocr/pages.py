"""Opens everything that can be read: pictures and the pages of PDFs and TIFFs, one at a time, within limits.

A page that cannot be opened becomes a Picture with an error instead of pixels. So nothing is lost on the way:
as many records come out as pages went in.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from nanoocr.errors import PictureError, UsageError
from nanoocr.pdf import open_pdf
from nanoocr.pdf import render_page as _render
from nanoocr.picture_header import formats_of
from nanoocr.pictures import open_frames, open_image, page_frames, read_bytes

MAX_BYTES = 512 * 1024 * 1024  # a larger file is refused without being read
PDF_HEAD = 1024  # readers accept a PDF whose signature stands anywhere in its first 1024 bytes

Source = str | Path | bytes | Image.Image


class Picture(NamedTuple):
    """One page: upright RGB pixels, or the reason why there are none. `page` counts from 1."""

    file: str
    page: int
    image: Image.Image | None = None
    error: PictureError | None = None


# ---------------------------------------------------------------------------------------------------
# Page ranges


@dataclass(frozen=True)
class PageRanges:
    """Which pages of a PDF or TIFF to read, as (first, last) from 1; 0 stands for its last page."""

    ranges: tuple[tuple[int, int], ...] = ((1, 0),)

    def select(self, count: int, name: str) -> list[int]:
        """The page numbers in the order asked for, with repeats.

        Raises:
            PictureError: the file called `name` has only `count` pages, and lacks one that is asked for.
        """
        selected: list[int] = []
        for first, last in self.ranges:
            first, last = first or count, last or count
            if max(first, last) > count:
                has = f"{count} page{'s' * (count != 1)}"
                raise PictureError(f"{name} has {has}, so there is no page {max(first, last)}.")
            selected.extend(range(first, last + 1))
        return selected


ALL_PAGES = PageRanges()
_RANGE = re.compile(r"(end|[1-9][0-9]{0,5})(?:-(end|[1-9][0-9]{0,5}))?")


def parse_pages(text: str) -> PageRanges:
    """Parse `1-3,7,end` or `3-end`. Pages count from 1, and order and repeats are kept.

    Raises:
        UsageError: the text has another form.
    """
    ranges = []
    for part in text.split(","):
        match = _RANGE.fullmatch(part.strip())
        sides = (match[1], match[2] or match[1]) if match else ("end", "1")
        first, last = (0 if side == "end" else int(side) for side in sides)
        if last and not 0 < first <= last:
            raise UsageError(f"pages {text!r}: write numbers from 1, rising ranges and end, as in 1-3,7,end")
        ranges.append((first, last))
    return PageRanges(tuple(ranges))


# ---------------------------------------------------------------------------------------------------
# Opening


def open_source(source: Source, name: str | None = None, pages: PageRanges = ALL_PAGES) -> Iterator[Picture]:
    """Yield the pages of a PDF or a picture; its content decides which it is.

    A picture is one page, except for a TIFF of several frames. `pages` matters for TIFFs and PDFs only. A
    page is rendered when it is asked for, and one at a time.
    """
    name = name or name_of(source)
    try:
        source = _within_limits(source, name)
        if _is_pdf(source, name):
            yield from _pdf_pages(source, name, pages)
        else:
            yield from _picture_pages(source, name, pages)
    except PictureError as error:
        yield Picture(name, 1, error=error)


def count_pages(source: str | Path | bytes, name: str) -> int:
    """How many pages a picture or PDF has.

    Raises:
        PictureError: as for the pages of `open_source`, except for faults that only rendering would show.
    """
    known = _within_limits(source, name)
    if not _is_pdf(known, name):
        assert not isinstance(known, Image.Image)
        return len(page_frames(read_bytes(known, name), name))
    document = open_pdf(known, name)
    try:
        return len(document)
    finally:
        document.close()


def is_single(data: bytes, name: str) -> bool:
    """Whether encoded bytes are a picture whose first frame is its only page: `open_image` then opens it all.

    PDFs, TIFFs of several pages, and TIFFs that begin with a smaller copy of their page need `open_source`.

    Raises:
        PictureError: a TIFF's frames cannot be walked.
    """
    return not _is_pdf(data, name) and ("TIFF" not in formats_of(data) or page_frames(data, name) == [0])


def is_readable(path: Path) -> bool:
    """Whether a file starts like a picture or PDF that can be read, whatever its name ends in."""
    try:
        head = _head(path)
    except OSError:
        return False
    return b"%PDF-" in head or any(formats_of(head))


def is_pdf(path: Path) -> bool:
    """Whether a file's content is a PDF; False where it cannot be read."""
    try:
        return _is_pdf(path, str(path))
    except PictureError:
        return False


def check_source(source: object) -> None:
    """Raise UsageError for what cannot be a source: an open file, a generator, a bytearray."""
    if not isinstance(source, Source):
        kind = type(source).__name__
        raise UsageError(f"read takes a path, bytes, a Pillow image, or a list of them, not {kind}")


def name_of(source: Source) -> str:
    """The name of a source in records and messages; it is always valid UTF-8."""
    if isinstance(source, str | Path):
        return os.fsencode(source).decode("utf-8", "replace")
    return str(getattr(source, "filename", "") or "the picture")


def _within_limits(source: Source, name: str) -> Source:
    """The source itself, or for a pipe its bytes, because a pipe gives them only once.

    Raises:
        PictureError: the file is missing or a folder, cannot be opened, or is too large.
    """
    if isinstance(source, Image.Image):
        return source
    if isinstance(source, bytes):
        _check_length(len(source), name)
        return source
    path = Path(source)
    try:
        if path.is_dir():
            raise PictureError(f"{name} is a folder, not a picture.")
        _check_length(path.stat().st_size, name)
        if path.is_file():
            return path
        with path.open("rb") as pipe:
            content = pipe.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise PictureError(f"{name} does not exist.", kind="missing") from None
    except (OSError, ValueError) as error:  # ValueError: the path holds a NUL byte
        raise PictureError(f"{name} cannot be opened: {error}.") from error
    _check_length(len(content), name)
    return content


def _check_length(count: int, name: str) -> None:
    if count > MAX_BYTES:
        raise PictureError(f"{name} is larger than {MAX_BYTES // 2**20} MiB.", kind="too_large")


def _is_pdf(source: Source, name: str) -> bool:
    """Whether the content starts like a PDF, and not like a picture that mentions one."""
    if isinstance(source, Image.Image):
        return False
    try:
        head = source[:PDF_HEAD] if isinstance(source, bytes) else _head(Path(source))
    except OSError as error:
        raise PictureError(f"{name} cannot be opened: {error}.") from error
    return b"%PDF-" in head and not any(formats_of(head))


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(PDF_HEAD)


def _picture_pages(source: Source, name: str, pages: PageRanges) -> Iterator[Picture]:
    """Yield the page of a picture, or the selected ones of a TIFF; a broken page spoils only itself."""
    if isinstance(source, Image.Image):
        yield Picture(name, 1, open_image(source, name=name))
        return
    data = read_bytes(source, name)
    frames = page_frames(data, name)
    if "TIFF" not in formats_of(data):
        yield Picture(name, 1, open_image(data, frame=frames[0], name=name))
        return
    numbers = pages.select(len(frames), name)
    names = [f"{name}, page {number}," if len(frames) > 1 else name for number in numbers]
    opened = open_frames(data, [frames[number - 1] for number in numbers], names)
    for number, found in zip(numbers, opened, strict=True):
        if isinstance(found, PictureError):
            yield Picture(name, number, error=found)
        else:
            yield Picture(name, number, found)


def _pdf_pages(source: Source, name: str, pages: PageRanges) -> Iterator[Picture]:
    """Render the selected pages one by one; a broken page spoils only itself."""
    document = open_pdf(source, name)
    try:
        for number in pages.select(len(document), name):
            try:
                yield Picture(name, number, image=_render(document, number, name))
            except PictureError as error:
                yield Picture(name, number, error=error)
    finally:
        document.close()
