"""Documents become strips: the finder sees lines, the model reads them, and the truth is dealt out to them.

Training must show what reading will see, so that strips are cut as `nanoocr read` cuts them, also where boxes
are known: a box only says which text belongs to the strips that lie in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from nanoocr.data.rows import NO_BOXES
from nanoocr.data.synth.strip import inside as inside_strip
from nanoocr.document import hull
from nanoocr.finetune.agreement import contradicts, mostly_unseen
from nanoocr.finetune.align import align, errors
from nanoocr.finetune.types import CutDocument, LineStrip, TrueDocument, TrueLine
from nanoocr.inference.assemble import StripReading
from nanoocr.inference.lines import LineReader
from nanoocr.layout import Strip
from nanoocr.pages import ALL_PAGES, PageRanges, open_source

# Up to here a strip's words are believed to be its words: two texts of one language that have nothing to do
# with each other differ by some 0.75 edits a character.
MOST_ERRORS = 0.5
MOST_ERRORS_IN_BOX = 0.8  # a box says what belongs to it, so that the reading may be worse
INSIDE = 0.5  # share of a strip's ink that must lie in a box, or of a box that must lie in a strip
COVERED = 0.8  # share of a box's width that the strips in it must show


def cut_document(reader: LineReader, document: TrueDocument) -> CutDocument:
    """The strips of a document with their truths.

    Raises:
        PictureError: the document or one of its pages cannot be opened.
    """
    return dealt_document(document, read_document(reader, document))


def read_document(reader: LineReader, document: TrueDocument) -> list[StripReading]:
    """What the model reads on all strips of a document's pages, in reading order.

    Raises:
        PictureError: the document or one of its pages cannot be opened.
    """
    return [reading for image in _images(document) for reading in _read_page(reader, image)]


def dealt_document(document: TrueDocument, readings: Sequence[StripReading]) -> CutDocument:
    """The strips of a document with what its truth says about each; nothing is read."""
    read = " ".join(reading.completion.text for reading in readings if reading.completion.text)
    wrong: list[str] = []
    if document.lines:
        pairs, wrong = _by_boxes(readings, document.lines)
    elif document.kind == "crop" and len(readings) == 1 and mostly_unseen(document.text):
        pairs = [(readings[0], " ".join(document.text.split()))]
    else:
        pairs = _by_text(readings, document.text)
    words = [word for line in document.lines for word in line.words]
    strips, left_out = [], []
    for reading, truth in pairs:
        if truth is None:
            left_out += [reading.completion.text] if reading.completion.text.strip() else []
            continue
        chars, boxes = glyph_boxes(reading.strip, truth, words)
        strips.append(_line_strip(document, reading, truth, chars, boxes))
    characters = len("".join(document.text.split()))
    missing = characters - sum(len("".join(strip.truth.split())) for strip in strips)
    lost = Counter({"without a strip that says it": missing} if missing > 0 else {})
    contradicted = tuple(f"{document.name}: {sentence}" for sentence in wrong)
    return CutDocument(document, tuple(strips), read, characters, lost, tuple(left_out), contradicted)


def _images(document: TrueDocument) -> Iterator[Image.Image]:
    pages = PageRanges(((document.page, document.page),)) if document.page else ALL_PAGES
    for picture in open_source(document.source, document.name, pages):
        if picture.error is not None:
            raise picture.error
        assert picture.image is not None
        yield picture.image


def _read_page(reader: LineReader, image: Image.Image) -> list[StripReading]:
    return reader.read_lines(image, reader.upright_layout(image))


def _line_strip(
    document: TrueDocument, reading: StripReading, truth: str, chars: str, boxes: np.ndarray
) -> LineStrip:
    return LineStrip(
        document=document.name,
        group=document.group,
        pixels=reading.strip.image,
        used=reading.strip.used,
        truth=truth,
        read=reading.completion.text,
        confidence=reading.confidence,
        chars=chars,
        boxes=boxes,
    )


def glyph_boxes(strip: Strip, truth: str, words: Sequence[TrueLine]) -> tuple[str, np.ndarray]:
    """Characters of a strip and their boxes (n, 4) float32, each word's box shared evenly among its letters.

    ("", no boxes) where the words in the strip are not those of its truth: half a truth would teach the
    glyph heads that nothing stands where a letter does.
    """
    inverse = np.linalg.inv(strip.to_page[:, :2])
    inside: list[tuple[float, float, float, float, str]] = []
    for word in words:
        corners = (np.asarray(word.quad) - strip.to_page[:, 2]) @ inverse.T
        (x0, y0), (x1, y1) = corners.min(axis=0), corners.max(axis=0)
        middle_x, middle_y = (x0 + x1) / 2, (y0 + y1) / 2
        if strip.used[0] <= middle_x <= strip.used[1] and 12 <= middle_y <= 56:
            inside.append((float(x0), float(y0), float(x1), float(y1), "".join(word.text.split())))
    inside.sort()
    chars = "".join(word for *_, word in inside)
    if not chars or chars != "".join(truth.split()):
        return "", NO_BOXES
    boxes = [
        (x0 + (x1 - x0) * k / len(word), y0, x0 + (x1 - x0) * (k + 1) / len(word), y1)
        for x0, y0, x1, y1, word in inside
        for k in range(len(word))
    ]
    return chars, inside_strip(np.asarray(boxes, dtype=np.float32), strip.image.shape[1])


# ---------------------------------------------------------------------------------------------------
# Text without places


def _by_text(readings: Sequence[StripReading], text: str) -> list[tuple[StripReading, str | None]]:
    """Each strip with the run of the text's words that it shows."""
    words = text.split()
    runs = align([reading.completion.text for reading in readings], words, MOST_ERRORS)
    return [
        (reading, None if run is None else " ".join(words[run.start : run.end]))
        for reading, run in zip(readings, runs, strict=True)
    ]


# ---------------------------------------------------------------------------------------------------
# Lines with boxes


@dataclass(frozen=True)
class _Extent:
    """An upright box in pixels of the page."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def area(self) -> float:
        """In square pixels; 0 where nothing is left."""
        return max(0.0, self.right - self.left) * max(0.0, self.bottom - self.top)

    def common(self, other: _Extent) -> _Extent:
        """What lies in both; its area is 0 where nothing does."""
        return _Extent(
            max(self.left, other.left),
            max(self.top, other.top),
            min(self.right, other.right),
            min(self.bottom, other.bottom),
        )


def _by_boxes(
    readings: Sequence[StripReading], lines: Sequence[TrueLine]
) -> tuple[list[tuple[StripReading, str | None]], list[str]]:
    """Each strip with what the boxes say that it shows, and a sentence for every line that is contradicted.

    Strips and boxes that share an area belong together: a line may be cut into several strips, and a strip
    may show several boxes, as where each word has its own.
    """
    strips = [_extent_of_strip(reading.strip) for reading in readings]
    boxes = [_Extent(*hull(line.quad)) for line in lines]
    result: list[tuple[StripReading, str | None]] = []
    wrong: list[str] = []
    for own, inside in _groups(strips, boxes):
        in_order = sorted(own, key=lambda i: strips[i].left)
        words = " ".join(lines[j].text for j in sorted(inside, key=lambda j: boxes[j].left)).split()
        told = [readings[i] for i in in_order]
        if not words or not _all_shown([strips[i] for i in own], [boxes[j] for j in inside]):
            result += [(reading, None) for reading in told]
            continue
        read, sure = " ".join(one.completion.text for one in told), min(one.confidence for one in told)
        if contradicts(read, sure, " ".join(words)):
            wrong.append(f"the text says {' '.join(words)!r}, the picture {read!r}")
            result += [(reading, None) for reading in told]
        else:
            result += _dealt(told, words)
    return result, wrong


def _dealt(told: Sequence[StripReading], words: Sequence[str]) -> list[tuple[StripReading, str | None]]:
    """The words of one line to its strips."""
    if len(told) == 1:
        truth = " ".join(words)
        wrong = errors(told[0].completion.text.casefold(), truth.casefold())
        # In a script that the model does not know, the box alone says what belongs to it.
        believed = wrong <= MOST_ERRORS_IN_BOX or mostly_unseen(truth)
        return [(told[0], truth if believed else None)]
    runs = align([reading.completion.text for reading in told], words, MOST_ERRORS)
    return [
        (reading, None if run is None else " ".join(words[run.start : run.end]))
        for reading, run in zip(told, runs, strict=True)
    ]


def _extent_of_strip(strip: Strip) -> _Extent:
    """Where the ink of a strip lies on the page: from the tops of its capitals to its baseline."""
    corners = np.array([[x, y, 1.0] for x in strip.used for y in (20.0, 48.0)]) @ strip.to_page.T
    (left, top), (right, bottom) = corners.min(axis=0), corners.max(axis=0)
    return _Extent(float(left), float(top), float(right), float(bottom))


def _groups(strips: Sequence[_Extent], boxes: Sequence[_Extent]) -> Iterator[tuple[list[int], list[int]]]:
    """Strips and boxes that lie on each other; a strip without a box comes alone."""
    root = list(range(len(strips) + len(boxes)))

    def find(i: int) -> int:
        """The representative of the group that i is in."""
        while root[i] != i:
            i = root[i]
        return i

    for j, box in enumerate(boxes):
        for i, strip in enumerate(strips):
            shared = strip.common(box)
            least = INSIDE * min(strip.area, box.area)
            if shared.right > shared.left and shared.bottom > shared.top and shared.area > least:
                root[find(len(strips) + j)] = find(i)
    members: dict[int, tuple[list[int], list[int]]] = {}
    for k in range(len(root)):
        own, inside = members.setdefault(find(k), ([], []))
        (own if k < len(strips) else inside).append(k if k < len(strips) else k - len(strips))
    yield from (pair for pair in members.values() if pair[0])


def _all_shown(strips: Iterable[_Extent], boxes: Sequence[_Extent]) -> bool:
    """Do the strips show the boxes' whole width? A strip must not answer for ink that it does not show."""
    strips = list(strips)
    wanted = sum(box.right - box.left for box in boxes)
    shown = sum(
        max(0.0, min(strip.right, box.right) - max(strip.left, box.left))
        for box in boxes
        for strip in strips
        if min(strip.bottom, box.bottom) > max(strip.top, box.top)
    )
    return shown >= COVERED * wanted
