"""Puts the lines of PAGE-XML, ALTO, hOCR and Label Studio's exports on their pictures.

Coordinates become pixels of the upright picture: files may count in tenths of millimetres, in per cent, in
pixels of a copy of another size, or of the picture as it is stored. So what counts is the page's size as the
file says it. A line without text, a text without a box, and a box without an area or outside the picture are
counted and left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from nanoocr.data.entries import picture_of
from nanoocr.document import Point, Quad, hull
from nanoocr.errors import PictureError
from nanoocr.finetune.label_studio import label_studio_pages
from nanoocr.finetune.types import FoundPage, TrueDocument, TrueLine
from nanoocr.finetune.xml_pages import pages_of
from nanoocr.folders import SUFFIXES as PICTURES
from nanoocr.pages import PageRanges, count_pages, is_single, open_source
from nanoocr.picture_header import read_header, read_look
from nanoocr.pictures import find_dpi, read_bytes
from nanoocr.tasks.common import is_file

LEAST_SIDE = 3  # pixels: nothing smaller can be read, and writers turn boxes without a size into such
ALIKE = 0.02  # two ratios of width and height that differ by less are the same
Found = Iterator[TrueDocument | str]
# Where a point of the stored picture is seen, both in shares of width and height, by the orientation of EXIF.
SEEN: dict[int, Callable[[float, float], Point]] = {
    5: lambda x, y: (y, x),
    6: lambda x, y: (1 - y, x),
    7: lambda x, y: (1 - y, 1 - x),
    8: lambda x, y: (y, 1 - x),
}


def documents_of(path: Path, root: Path) -> Found:
    """The pages of a PAGE-XML, ALTO or hOCR file below the folder `root`.

    Raises:
        UsageError: the file cannot be read as one of the three.
    """
    for page in pages_of(path):
        name = path.name if page.number == 1 else f"{path.name}, page {page.number}"
        yield from _document(path, page, name, root)


def label_studio_documents(path: Path) -> Found:
    """The tasks of an export of Label Studio.

    Raises:
        UsageError: the file is not JSON.
    """
    for name, page in label_studio_pages(path):
        if isinstance(page, str):
            yield page
        else:
            yield from _document(path, page, name, path.parent)


def _document(path: Path, page: FoundPage, name: str, root: Path) -> Found:
    """The document of one page, or why there is none."""
    try:
        source = find_picture(path, page.picture, root)
    except ValueError as error:
        yield f"{name}: {error}"
        return
    yield from document_of(source, page, name)


def document_of(source: Path | bytes, page: FoundPage, name: str) -> Found:
    """The document of a page whose picture is known, or why there is none."""
    try:
        place = _placement(source, page)
    except PictureError as error:
        yield f"{name}: {error}"
        return
    lines = [_line(said, [place.put(point) for point in points], place.size) for said, points in page.lines]
    true = tuple(line for line in lines if line)
    if odd := len(lines) - len(true):
        yield f"{name}: {odd} of {len(lines)} lines lack a text or a box in the picture and are left out"
    group = str(source) if isinstance(source, Path) else name
    text = "\n".join(line.text for line in true)
    if true or not page.text:
        yield TrueDocument(name, source, "boxes", text, group, true, place.page)
    else:
        yield TrueDocument(name, source, "text", page.text, group, page=place.page)


# ---------------------------------------------------------------------------------------------------
# The picture


def find_picture(path: Path, picture: str, root: Path) -> Path | bytes:
    """The picture that a file names, or that has the file's own name, or the bytes of a data: URL.

    It lies beside the file, in the folder above, or below `root` in a sister folder, as in page/ and images/.

    Raises:
        ValueError: there is no such picture, or more than one.
    """
    if picture.startswith("data:"):
        found = picture_of(picture)
        assert isinstance(found, bytes)
        return found
    named = Path(picture.replace("\\", "/"))
    plain = Path(unquote(named.as_posix()))
    names = [named.name, plain.name]
    for stem in (path.stem, path.name.partition(".")[0]):
        names += [stem + suffix for suffix in sorted(PICTURES)]
    names = [name for name in dict.fromkeys(names) if name]
    folders = [path.parent, path.parent.parent]
    near = [folder / one for folder in folders for one in (named, plain) if one.name]
    near += [folder / name for folder in folders for name in names]
    if found_near := next((one for one in near if is_file(one)), None):
        return found_near
    sisters = sorted(path.parent.parent.iterdir()) if root in path.parent.parents else []
    sisters = [one for one in sisters if one.is_dir() and one.name[0] != "."]
    for name in names:
        held = [one / name for one in sisters if is_file(one / name)]
        if len(held) > 1:
            raise ValueError(f"its picture may be {held[0]} or {held[1]}: put one of them beside {path.name}")
        if held:
            return held[0]
    raise ValueError(f"its picture {picture or path.stem} is not there")


@dataclass(frozen=True)
class _Placement:
    """How points of a file become pixels of a page of (height, width) `size`."""

    size: tuple[int, int]
    units: tuple[float, float]  # the (height, width) of the page in the file's units
    page: int  # the page of a source of several pages, from 1; 0 for the only one
    seen: Callable[[float, float], Point] | None = None  # where the file counts in a stored, turned picture

    def put(self, point: Point) -> Point:
        """The pixel at which a point of the file is seen."""
        share = point[0] / self.units[1], point[1] / self.units[0]
        x, y = self.seen(*share) if self.seen else share
        return x * self.size[1], y * self.size[0]


def _placement(source: Path | bytes, page: FoundPage) -> _Placement:
    """Compare the page's size in the file with that of the picture.

    Raises:
        PictureError: the picture cannot be read, has no such page, or the file's units say nothing about it.
    """
    name = source.name if isinstance(source, Path) else "the picture"
    data = read_bytes(source, name)
    pages = count_pages(source, name)
    number = _page_number(page, pages, name)
    orientation = 1
    if number or not is_single(data, name):
        (picture,) = open_source(source, name, PageRanges(((number or 1, number or 1),)))
        if picture.image is None:
            raise picture.error or PictureError(f"{name} cannot be read.")
        size, dpi = (picture.image.height, picture.image.width), find_dpi(picture.image)
    else:
        header = read_header(data, name)
        look = read_look(header, data)
        size, dpi, orientation = look.upright(), find_dpi(header), look.orientation
    if not all(math.isfinite(side) and side > 0 for side in page.size):
        return _Placement(size, _size_in_units(page, size, dpi, name), number)
    ratio, own = page.size[0] / page.size[1], size[0] / size[1]
    if orientation in SEEN and not _alike(ratio, own) and _alike(ratio, 1 / own):
        return _Placement(size, page.size, number, SEEN[orientation])
    return _Placement(size, page.size, number)


def _alike(one: float, other: float) -> bool:
    return abs(one / other - 1) < ALIKE


def _page_number(page: FoundPage, pages: int, name: str) -> int:
    """Which page of a picture of several pages is meant, from 1; 0 where there is only one.

    Raises:
        PictureError: there is no such page.
    """
    if pages == 1:
        return 0
    # A file about all pages has them in order; one about some of them has to say which they are.
    number = page.number if page.count == pages else page.of_picture or page.number
    if number > pages:
        raise PictureError(f"{name} has {pages} pages, so there is no page {number}.")
    return number


def _size_in_units(
    page: FoundPage, size: tuple[int, int], dpi: float | None, name: str
) -> tuple[float, float]:
    """The size of a page whose file does not say it: in pixels, or by the picture's resolution.

    Raises:
        PictureError: the file counts in another unit, and the picture has no resolution.
    """
    if math.isnan(page.per_inch):
        return size
    if dpi is None:
        raise PictureError(
            f"its places are not in pixels, and neither the size of the page nor the resolution of {name} is "
            "known: write WIDTH and HEIGHT of the page into the file"
        )
    return size[0] / dpi * page.per_inch, size[1] / dpi * page.per_inch


def _line(said: str, points: Sequence[Point], size: tuple[int, int]) -> TrueLine | None:
    """The line with its corners, or None without text or without an area inside the picture."""
    said = " ".join(said.split())
    if not said or len(points) < 2 or not all(math.isfinite(side) for point in points for side in point):
        return None
    box = hull(points)
    height, width = size
    outside = box.right <= 0 or box.bottom <= 0 or box.left >= width or box.top >= height
    if outside or min(box.width, box.height) < LEAST_SIDE:
        return None
    four: Quad = tuple(points) if len(points) == 4 else box.quad()  # type: ignore[assignment]
    return TrueLine(said, four)
