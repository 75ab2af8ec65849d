"""Shards of nvidia/OCR-Synthetic-Multilingual-v1 (CC BY 4.0): HDF5 pages with boxes of words and lines.

A shard holds data sets of equal length, of which these are read: `images` (encoded pictures), `annotations`
(JSON with `word_bboxes` and `line_bboxes`, each a text with a `bbox` of x, y, width, height or a `quad`,
lines with the indices of their words) and `dimensions` (height and width that the boxes count in).
The data set's own card describes them. h5py is the extra `hdf5`, imported when a shard is opened.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nanoocr.document import Box, Quad
from nanoocr.errors import PictureError, UsageError
from nanoocr.finetune.types import TrueDocument, TrueLine, text_of
from nanoocr.pictures import upright_size

# So many pages are taken from a shard. Memory holds them all, and a run does not see all their lines.
MOST_PAGES = 500
NEEDED = ("images", "annotations")
Found = Iterator[TrueDocument | str]


def hdf5_documents(path: Path, most: int = MOST_PAGES) -> Found:
    """The first `most` pages of a shard.

    Raises:
        UsageError: h5py is not installed, or the file is no shard of this schema.
    """
    try:
        import h5py
    except ImportError as error:
        raise UsageError(f"{path} needs the extra: pip install 'nano-deepseek-ocr[hdf5]'") from error
    try:
        with h5py.File(path) as shard:
            if missing := [name for name in NEEDED if name not in shard]:
                raise UsageError(f"{path}: has no data set {missing[0]!r}: no shard of pages with boxes")
            count = len(shard["images"])
            for i in range(min(count, most)):
                yield _page(shard, i, f"{path.name}/{i}")
    except OSError as error:
        raise UsageError(f"{path}: not a readable HDF5 file ({error})") from error
    if count > most:
        yield f"{path.name}: {count - most} of {count} pages are left out, since {most} of a shard are enough"


def _page(shard: Any, i: int, name: str) -> TrueDocument | str:
    try:
        picture = bytes(shard["images"][i])
        about = json.loads(shard["annotations"][i])
        lines = _lines(about)
        height, width = upright_size(picture, name=name)
        if "dimensions" in shard:
            rows, columns = (float(side) for side in shard["dimensions"][i])
            lines = [_scaled(line, width / columns, height / rows) for line in lines]
    except PictureError as error:
        return str(error)
    except (LookupError, TypeError, ValueError, ZeroDivisionError) as error:
        return f"{name}: not of the schema ({error!r})"
    text = "\n".join(line.text for line in lines)
    return TrueDocument(name, picture, "boxes", text, name, tuple(lines))


def _lines(about: dict[str, Any]) -> list[TrueLine]:
    """The lines of a page with their words, in the order that the page gives them."""
    words = [TrueLine(text_of(word["text"]) or "", _quad(word)) for word in about.get("word_bboxes", [])]
    lines = []
    for line in about["line_bboxes"]:
        own = tuple(words[k] for k in line.get("word_indices", []) if words[k].text.strip())
        text = " ".join((text_of(line["text"]) or "").split())
        if text:
            lines.append(TrueLine(text, _quad(line), own))
    return lines


def _quad(entry: dict[str, Any]) -> Quad:
    if entry.get("quad"):
        a, b, c, d = ((float(x), float(y)) for x, y in entry["quad"])
        return (a, b, c, d)
    left, top, wide, high = map(float, entry["bbox"])
    return Box(left, top, left + wide, top + high).quad()


def _scaled(line: TrueLine, x: float, y: float) -> TrueLine:
    if (x, y) == (1.0, 1.0):
        return line
    a, b, c, d = ((px * x, py * y) for px, py in line.quad)
    return TrueLine(line.text, (a, b, c, d), tuple(_scaled(word, x, y) for word in line.words))
