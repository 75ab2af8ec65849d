"""What goes through fine-tuning: documents with their truths, and the strips that are cut out of them."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from nanoocr.data.rows import NO_BOXES
from nanoocr.document import Point, Quad

Kind = Literal["text", "boxes", "crop"]


def text_of(value: Any) -> str | None:
    """A field of a file: a text, a number as JSON writes it, "" for null; None for anything else."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return json.dumps(value)
    return "" if value is None else value if isinstance(value, str) else None


@dataclass(frozen=True)
class TrueLine:
    """A line of text with its corners, (x, y) in pixels of the upright picture, and its words where known."""

    text: str
    quad: Quad
    words: tuple[TrueLine, ...] = ()


@dataclass(frozen=True)
class TrueDocument:
    """A picture or PDF and what it says.

    `kind` says how the truth is given: `text` is that of all pages in reading order, `boxes` are lines with
    places on the single page, `crop` is a picture of one line. Documents of one `group` are never parted
    between training and measuring: the pages of a book, the lines of a page.
    """

    name: str
    source: Path | bytes
    kind: Kind
    text: str
    group: str
    lines: tuple[TrueLine, ...] = ()
    page: int = 0  # the one page of the source that is meant, from 1; 0 is all of them


# A text and the corners or outline of its line, in a file's units; no points where its place is not said.
Placed = tuple[str, Sequence[Point]]


@dataclass(frozen=True)
class FoundPage:
    """What a file with places says about one page. Places count in the file's units from the upper left."""

    picture: str  # as the file names it
    size: tuple[float, float]  # the page's (height, width) in these units; nan where the file does not say it
    lines: tuple[Placed, ...]
    number: int = 1  # its place among the pages of the file, from 1
    count: int = 1  # how many pages the file has
    of_picture: int | None = None  # its place among the pages of the picture, from 1, where the file says it
    per_inch: float = math.nan  # units to an inch; nan where they are pixels
    text: str = ""  # what it says without a place, for pages that have no lines


@dataclass(frozen=True)
class Gathered:
    """What DATA holds: documents, and a sentence for everything in it that cannot be used."""

    documents: tuple[TrueDocument, ...]
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class LineStrip:
    """A strip as the model sees it, what it says, and what the base model read there."""

    document: str
    group: str
    pixels: np.ndarray  # (64, W, 3) uint8
    used: tuple[int, int]  # the columns [x0, x1) of the ink
    truth: str
    read: str
    confidence: float
    chars: str = ""  # characters whose places are known, by their words' boxes
    boxes: np.ndarray = field(default_factory=lambda: NO_BOXES)  # (len(chars), 4) float32, strip pixels


@dataclass(frozen=True)
class CutDocument:
    """The strips of a document; `lost` counts by reason the characters of its truth that are in none."""

    document: TrueDocument
    strips: tuple[LineStrip, ...]
    read: str  # the base model's text of the whole document
    characters: int  # how many the truth has, without blanks
    lost: Counter[str] = field(default_factory=Counter)
    left_out: tuple[str, ...] = ()  # what the page shows and no truth was found for, as it was read
    contradicted: tuple[str, ...] = ()  # lines whose box says something quite different, in words

    @property
    def aligned(self) -> float:
        """The share of the truth's characters that strips have, 0 to 1."""
        found = sum(len("".join(strip.truth.split())) for strip in self.strips)
        return min(1.0, found / self.characters) if self.characters else 1.0
