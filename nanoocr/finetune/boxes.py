"""Lines with places out of PAGE-XML, ALTO, hOCR and Label Studio's OCR export.

Coordinates become pixels of the upright picture: files may count in tenths of millimetres, in per cent, or in
pixels of a copy of another size, so that what counts is the page's size as the file says it. A line without
text, a text without a box, and a box without an area or outside the picture are named and left out.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlparse

from lxml import etree

from nanoocr.document import Point, Quad, hull
from nanoocr.errors import PictureError, UsageError
from nanoocr.finetune.types import TrueDocument, TrueLine
from nanoocr.folders import SUFFIXES as PICTURES
from nanoocr.pages import count_pages
from nanoocr.pictures import upright_size

SUFFIXES = (".xml", ".hocr", ".html", ".htm", ".alto", ".page")
LEAST_SIDE = 3  # pixels: nothing smaller can be read, and writers turn boxes without a size into such
Found = Iterator[TrueDocument | str]
Placed = tuple[str, Sequence[Point]]  # a text and the corners or outline of its line, in the file's units
HOCR_LINES = ("ocr_line", "ocrx_line", "ocr_header", "ocr_footer", "ocr_caption", "ocr_textfloat")
Element = Any  # lxml has no types of its own


def documents_of(path: Path, root: Path) -> Found:
    """The pages of a PAGE-XML, ALTO or hOCR file.

    Raises:
        UsageError: the file cannot be read as one of the three.
    """
    tree = _parsed(path)
    kind = etree.QName(tree).localname.lower() if isinstance(tree.tag, str) else ""
    readers: dict[str, Callable[[Element, Path], Found]] = {"pcgts": _page_xml, "alto": _alto, "html": _hocr}
    if kind not in readers:
        raise UsageError(f"{path}: neither PAGE-XML nor ALTO nor hOCR (its outermost element is <{kind}>)")
    yield from readers[kind](tree, path)


def _parsed(path: Path) -> Element:
    """The root element; entities and the network are left alone, since files come from anywhere."""
    safe = {"resolve_entities": False, "no_network": True, "huge_tree": False}
    try:
        content = path.read_bytes()
        try:
            return etree.fromstring(content, etree.XMLParser(**safe))
        except etree.XMLSyntaxError:
            if path.suffix.lower() not in (".html", ".htm", ".hocr"):
                raise
            return etree.fromstring(content, etree.HTMLParser(no_network=True))
    except (OSError, etree.LxmlError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read as XML ({error})") from error


# ---------------------------------------------------------------------------------------------------
# The three XML formats


def _all(element: Element, name: str) -> list[Element]:
    """Descendants by local name, whatever version of the format the namespace says."""
    return list(element.iterfind(f".//{{*}}{name}"))


def _page_xml(tree: Element, path: Path) -> Found:
    for page in _all(tree, "Page"):
        lines: list[Placed] = []
        for line in _all(page, "TextLine"):
            coordinates, texts = line.find("{*}Coords"), line.findall("{*}TextEquiv/{*}Unicode")
            said = (texts[0].text or "") if texts else ""
            points = [] if coordinates is None else _points(coordinates)
            lines.append((said, points))
        size = (_number(page.get("imageHeight")), _number(page.get("imageWidth")))
        yield from _document(path, page.get("imageFilename") or "", size, lines)


def _points(coordinates: Element) -> list[Point]:
    """The outline of `Coords`: in its attribute since 2013, in elements before."""
    if (listed := coordinates.get("points")) is not None:
        pairs = [pair.split(",") for pair in listed.split()]
        return [(_number(x), _number(y)) for x, y in (pair for pair in pairs if len(pair) == 2)]
    return [(_number(point.get("x")), _number(point.get("y"))) for point in coordinates.findall("{*}Point")]


def _alto(tree: Element, path: Path) -> Found:
    names = _all(tree, "fileName")
    for page in _all(tree, "Page"):
        lines: list[Placed] = []
        for line in _all(page, "TextLine"):
            words = [word.get("CONTENT") or "" for word in _all(line, "String")]
            left, top, wide, high = (_number(line.get(key)) for key in ("HPOS", "VPOS", "WIDTH", "HEIGHT"))
            box = [(left, top), (left + wide, top), (left + wide, top + high), (left, top + high)]
            lines.append((" ".join(filter(None, words)), box))
        size = (_number(page.get("HEIGHT")), _number(page.get("WIDTH")))
        number = int(_number(page.get("PHYSICAL_IMG_NR")) or 1)
        yield from _document(path, (names[0].text or "") if names else "", size, lines, number)


def _hocr(tree: Element, path: Path) -> Found:
    for number, page in enumerate(_of_class(tree, ("ocr_page",)), start=1):
        title = page.get("title") or ""
        named = re.search(r"image\s+(?:\"([^\"]*)\"|'([^']*)'|([^;]+))", title)
        picture = next(filter(None, named.groups()), "").strip() if named else ""
        lines: list[Placed] = []
        for line in _of_class(page, HOCR_LINES):
            words = [" ".join("".join(word.itertext()).split()) for word in _of_class(line, ("ocrx_word",))]
            said = " ".join(filter(None, words)) or " ".join("".join(line.itertext()).split())
            lines.append((said, _bbox(line.get("title") or "")))
        corners = _bbox(title)
        size = (corners[2][1], corners[2][0]) if corners else (math.nan, math.nan)
        yield from _document(path, picture, size, lines, number)


def _of_class(element: Element, classes: Sequence[str]) -> list[Element]:
    return [one for one in element.iter() if set((one.get("class") or "").split()) & set(classes)]


def _bbox(title: str) -> list[Point]:
    found = re.search(r"\bbbox\s+(-?[\d.]+)\s+(-?[\d.]+)\s+(-?[\d.]+)\s+(-?[\d.]+)", title)
    if not found:
        return []
    left, top, right, bottom = map(_number, found.groups())
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def _number(text: str | None) -> float:
    try:
        return float(text) if text is not None else math.nan
    except ValueError:
        return math.nan


# ---------------------------------------------------------------------------------------------------
# Label Studio


def is_label_studio(path: Path) -> bool:
    """Whether a .json file is an export of tasks: a list of objects with annotations, whole or in brief."""
    tasks = _tasks(path)
    marks = {"annotations", "completions", "annotation_id", "transcription"}
    return bool(tasks) and isinstance(tasks[0], dict) and bool(marks & set(tasks[0]))


def _tasks(path: Path) -> list[Any]:
    try:
        tasks = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: not readable JSON ({error})") from error
    return tasks if isinstance(tasks, list) else []


def label_studio_documents(path: Path) -> Found:
    """Each task of an export, in its full or its small form (JSON or JSON-MIN)."""
    for number, task in enumerate(_tasks(path), start=1):
        name = f"{path.name}, task {number}"
        try:
            whole = "annotations" in task or "completions" in task
            picture, lines = _full(task) if whole else _small(task)
        except (LookupError, TypeError, ValueError, AttributeError, StopIteration) as error:
            yield f"{name}: not of Label Studio's form ({error!r})"
            continue
        if not lines:
            yield f"{name}: nobody has annotated it"
            continue
        yield from _document(path, _local_name(picture, path.parent), (100.0, 100.0), lines, name=name)


def _full(task: dict[str, Any]) -> tuple[str, list[Placed]]:
    """Box and text of a region are two results of one id; relations and the like have neither."""
    given = task["annotations"] if "annotations" in task else task["completions"]  # the name before 1.0
    done = [one for one in given if not one.get("was_cancelled")]
    texts: dict[str, str] = {}
    places: dict[str, list[Point]] = {}
    for result in done[-1]["result"] if done else []:
        value, region = result.get("value") or {}, str(result.get("id"))
        if "text" in value:
            texts[region] = _said(value["text"])
        if _is_region(value):
            places[region] = _region({**result, **value})  # the picture's size stands beside the value
    lines: list[Placed] = [(texts.get(region, ""), points) for region, points in places.items()]
    return _picture_of(task["data"]), lines + [
        (said, []) for region, said in texts.items() if region not in places
    ]


def _small(task: dict[str, Any]) -> tuple[str, list[Placed]]:
    """Regions and texts are two lists, under names that a project chooses, and only their order pairs them.

    Raises:
        ValueError: there are more regions than texts, or fewer: one that was left empty shifts all others.
    """
    said = task["transcription"] if "transcription" in task else _first_list(task, _is_text)
    said = said if isinstance(said, list) else [said]
    # A text of several parts comes as its region, so that lists of texts and of regions can look alike.
    others = {name: value for name, value in task.items() if value is not said}
    regions = _first_list(others, _is_region)
    if len(said) != len(regions):
        raise ValueError(f"{len(regions)} regions and {len(said)} texts: export JSON instead of JSON-MIN")
    return _picture_of(task), [(_said(t), _region(r)) for t, r in zip(said, regions)]


def _first_list(task: dict[str, Any], fits: Callable[[Any], bool]) -> list[Any]:
    lists = (value for value in task.values() if isinstance(value, list) and value)
    return next(value for value in lists if all(fits(one) for one in value))


def _picture_of(data: dict[str, Any]) -> str:
    """The first value that ends as pictures do, or the first text."""
    texts = [value for value in data.values() if isinstance(value, str)]
    ends = (*PICTURES, ".pdf")

    def named(one: str) -> bool:
        """Whether a name or an address is that of a picture or a PDF."""
        # A picture's name ends the address, or what stands before its query.
        return one.lower().endswith(ends) or one.lower().partition("?")[0].endswith(ends)

    return next((one for one in texts if named(one)), texts[0])


def _said(text: Any) -> str:
    """A text, its parts, or a region with them."""
    text = text.get("text", "") if isinstance(text, dict) else text
    return " ".join(map(str, text)) if isinstance(text, list) else str(text)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, dict) and "text" in value)


def _is_region(value: Any) -> bool:
    return isinstance(value, dict) and ("points" in value or {"x", "y", "width", "height"} <= set(value))


def _region(value: dict[str, Any]) -> list[Point]:
    """Corners in per cent of the picture; a rectangle may be turned clockwise about its upper left corner."""
    if "points" in value:
        return [(float(x), float(y)) for x, y in value["points"]]
    left, top, wide, high = (float(value[key]) for key in ("x", "y", "width", "height"))
    turn = math.radians(float(value.get("rotation") or 0))
    # Per cent of the width and of the height are different lengths where the picture is no square.
    ratio = float(value.get("original_height") or 1) / float(value.get("original_width") or 1)
    corners = [(0.0, 0.0), (wide, 0.0), (wide, high), (0.0, high)]
    return [
        (
            left + x * math.cos(turn) - y * ratio * math.sin(turn),
            top + x / ratio * math.sin(turn) + y * math.cos(turn),
        )
        for x, y in corners
    ]


def _local_name(address: str, root: Path) -> str:
    """The file that an address of Label Studio's server stands for: uploads get eight digits and a dash."""
    parts = urlparse(address)
    path = unquote(parse_qs(parts.query).get("d", [parts.path])[0]).lstrip("/")
    base = Path(path).name
    tries = (path, base, re.sub(r"^[0-9a-f]{8}-", "", base))
    return next((name for name in tries if (root / name).is_file()), base)


# ---------------------------------------------------------------------------------------------------
# What all have in common


def _document(
    path: Path,
    picture: str,
    size: tuple[float, float],
    lines: Sequence[Placed],
    number: int = 1,
    name: str = "",
) -> Found:
    """The document of one page; `size` is its (height, width) in the file's units."""
    source = _find_picture(path, picture)
    name = name or (path.name if number == 1 else f"{path.name}, page {number}")
    if source is None:
        yield f"{name}: its picture {picture or path.stem} is not there"
        return
    try:
        scale, pixels, page = _scale(source, size, number)
    except PictureError as error:
        yield f"{name}: {error}"
        return
    true, odd = [], 0
    for said, points in lines:
        line = _line(said, [(x * scale[0], y * scale[1]) for x, y in points], pixels)
        true += [line] if line else []
        odd += line is None
    if odd:
        yield f"{name}: {odd} of {len(lines)} lines lack a text or a box in the picture and are left out"
    text = "\n".join(line.text for line in true)
    yield TrueDocument(name, source, "boxes", text, str(source), tuple(true), page)


def _find_picture(path: Path, picture: str) -> Path | None:
    """The picture that the file names, beside it, or else the one of its own name."""
    named = Path(picture.replace("\\", "/"))
    tries = [path.parent / named, path.parent / named.name]
    stem = path.with_suffix("")
    tries += [stem.with_suffix(suffix) for suffix in sorted(PICTURES)]
    tries += [stem.with_name(stem.name.partition(".")[0] + suffix) for suffix in sorted(PICTURES)]
    return next((one for one in tries if one.name and one.is_file()), None)


def _scale(
    source: Path, size: tuple[float, float], number: int
) -> tuple[tuple[float, float], tuple[int, int], int]:
    """What x and y are multiplied with, the picture's (height, width), and the page, 0 for a single one.

    A PDF's pages are rendered when they are read; there the file's pixels are taken as they are.
    """
    pages = count_pages(source, source.name)
    if source.suffix.lower() == ".pdf" or pages > 1:
        if number > pages:
            raise PictureError(f"{source.name} has {pages} pages, so there is no page {number}.")
        return (1.0, 1.0), (0, 0), number if pages > 1 else 0
    height, width = upright_size(source, name=str(source))
    known = all(math.isfinite(side) and side > 0 for side in size)
    return ((width / size[1], height / size[0]) if known else (1.0, 1.0)), (height, width), 0


def _line(said: str, points: Sequence[Point], pixels: tuple[int, int]) -> TrueLine | None:
    """The line with its corners, or None without text or without an area inside the picture."""
    said = " ".join(said.split())
    if not said or len(points) < 2 or not all(math.isfinite(side) for point in points for side in point):
        return None
    box = hull(points)
    height, width = pixels if all(pixels) else (math.inf, math.inf)
    outside = box.right <= 0 or box.bottom <= 0 or box.left >= width or box.top >= height
    if outside or min(box.width, box.height) < LEAST_SIDE:
        return None
    four: Quad = tuple(points) if len(points) == 4 else box.quad()  # type: ignore[assignment]
    return TrueLine(said, four)
