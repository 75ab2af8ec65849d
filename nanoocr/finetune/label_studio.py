"""Label Studio's exports of OCR projects: JSON, JSON-MIN, and the single tasks that its storages hold."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlparse

from nanoocr.document import Point
from nanoocr.errors import UsageError
from nanoocr.files import parse_json
from nanoocr.finetune.types import FoundPage, Placed, text_of
from nanoocr.folders import SUFFIXES as PICTURES
from nanoocr.tasks.common import is_file

WHOLE = (100.0, 100.0)  # places are per cent of the picture
MARKS = {"annotations", "completions", "annotation_id", "transcription"}  # one of them is in every task


def is_label_studio(path: Path) -> bool:
    """Whether a .json file holds tasks: objects with annotations, whole or in brief."""
    return any(isinstance(task, dict) and bool(MARKS & set(task)) for task in _tasks(path))


def _tasks(path: Path) -> list[Any]:
    """The tasks of an export; a storage has a file for each task, or for each annotation with its task."""
    try:
        content = parse_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: not readable JSON ({error})") from error
    if isinstance(content, dict) and isinstance(content.get("task"), dict) and "result" in content:
        return [{**content["task"], "annotations": [content]}]
    if isinstance(content, dict):
        return [content]
    return content if isinstance(content, list) else []


def label_studio_pages(path: Path) -> Iterator[tuple[str, FoundPage | str]]:
    """The name of each task, and its page or a sentence about what is wrong with it."""
    for number, task in enumerate(_tasks(path), start=1):
        name = f"{path.name}, task {number}"
        try:
            whole = "annotations" in task or "completions" in task
            pictures, lines = _full(task) if whole else _small(task)
        except (LookupError, TypeError, ValueError, AttributeError, StopIteration) as error:
            yield name, f"{name}: not of Label Studio's form ({error!r})"
            continue
        if not lines:
            yield name, f"{name}: nobody has annotated it"
            continue
        named = [_local_name(address, path.parent) for address in pictures]
        there = [one for one in named if one.startswith("data:") or is_file(path.parent / one)]
        yield name, FoundPage((there or named)[0], WHOLE, tuple(lines))


def _full(task: dict[str, Any]) -> tuple[list[str], list[Placed]]:
    """Box and text of a region are two results of one id; relations and the like have neither."""
    texts: dict[str, str] = {}
    places: dict[str, Sequence[Point]] = {}
    for result in _chosen(task.get("annotations") or task.get("completions") or []):
        value, region = result.get("value") or {}, str(result.get("id"))
        if "text" in value:
            texts[region] = _said(value["text"])
        elif said := (result.get("meta") or {}).get("text"):  # the text of a project without a field for it
            texts.setdefault(region, _said(said))
        if _is_region(value):
            places[region] = _region({**result, **value})  # the picture's size stands beside the value
    lines: list[Placed] = [(texts.get(region, ""), points) for region, points in places.items()]
    lines += [(said, ()) for region, said in texts.items() if region not in places]
    return _pictures_of(task["data"]), lines


def _chosen(annotations: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The results of the annotation that counts: the last one that is marked as true, or the last one."""
    done = [one for one in annotations if one.get("result") and not one.get("was_cancelled")]
    true = [one for one in done if one.get("ground_truth")]
    return list((true or done)[-1]["result"]) if done else []


def _small(task: dict[str, Any]) -> tuple[list[str], list[Placed]]:
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
    return _pictures_of(task), [(_said(t), _region(r)) for t, r in zip(said, regions)]


def _first_list(task: dict[str, Any], fits: Callable[[Any], bool]) -> list[Any]:
    lists = (value for value in task.values() if isinstance(value, list) and value)
    return next(value for value in lists if all(fits(one) for one in value))


def _pictures_of(data: dict[str, Any]) -> list[str]:
    """The values that end as pictures do, or all texts."""
    texts = [value for value in data.values() if isinstance(value, str)]
    if not texts:
        raise ValueError("no picture is named")
    ends = (*PICTURES, ".pdf")

    def named(one: str) -> bool:
        """Whether a name or an address is that of a picture or a PDF."""
        # A picture's name ends the address, or what stands before its query.
        return (
            one.startswith("data:")
            or one.lower().endswith(ends)
            or one.lower().partition("?")[0].endswith(ends)
        )

    return [one for one in texts if named(one)] or texts


def _said(text: Any) -> str:
    """A text, its parts, or a region with them."""
    text = text.get("text", "") if isinstance(text, dict) else text
    return " ".join(text_of(one) or "" for one in (text if isinstance(text, list) else [text]))


def _is_text(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, dict) and "text" in value)


def _is_region(value: Any) -> bool:
    return isinstance(value, dict) and ("points" in value or {"x", "y", "width", "height"} <= set(value))


def _region(value: dict[str, Any]) -> list[Point]:
    """Corners in per cent of the picture; nothing where a number of them is missing."""
    try:
        corners = [(float(x), float(y)) for x, y in value["points"]] if "points" in value else _corners(value)
        view = round(float(value.get("image_rotation") or 0)) % 360
    except (TypeError, ValueError, LookupError, ArithmeticError):
        return []
    return [_unturned(corner, view) for corner in corners]


def _unturned(point: Point, view: int) -> Point:
    """A point of the picture as it is stored, where an annotator has turned the view clockwise."""
    x, y = point
    return {90: (y, 100 - x), 180: (100 - x, 100 - y), 270: (100 - y, x)}.get(view, point)


def _corners(value: dict[str, Any]) -> list[Point]:
    """The corners of a rectangle, which may be turned clockwise about its upper left corner."""
    left, top, wide, high = (float(value[key]) for key in ("x", "y", "width", "height"))
    turn = math.radians(float(value.get("rotation") or 0))
    # Per cent of the width and of the height are different lengths where the picture is no square.
    ratio = float(value.get("original_height") or 1) / float(value.get("original_width") or 1)
    if round(float(value.get("image_rotation") or 0)) % 180:
        ratio = 1 / ratio  # the size is that of the stored picture, the place one of the turned view
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
    if address.startswith("data:"):
        return address
    parts = urlparse(address)
    path = unquote(parse_qs(parts.query).get("d", [parts.path])[0]).replace("\\", "/").lstrip("/")
    base = Path(path).name
    tries = (path, base, re.sub(r"^[0-9a-f]{8}-", "", base))
    return next((name for name in tries if is_file(root / name)), base)
