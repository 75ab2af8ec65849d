"""How well words are placed: IoU of the words' boxes with the ink of synthetic pages that hold their truth.

OMP_NUM_THREADS=1 python -m scripts.bench.boxes --pages=40

The pages are held-out ones of the kinds `paragraph`, `receipt`, `form` and `table`, enlarged twice, so that
their letters are as high as on scans of 150 dpi. The truth of a word is the hull of the ink of its letters. A
found box counts once, best pairs first, whatever text it holds. Pages of which a question asks for one field
are passed over, because nobody knows where their other words part. JSON on the last line.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
from PIL import Image

from nanoocr.commandline import parse, run
from nanoocr.data.synth import VALIDATION_SEED, SynthSample, find_fonts, make_sample
from nanoocr.document import Line
from nanoocr.inference.reader import Reader
from nanoocr.machine import machine, use_threads
from scripts.bench.lines import intersection_over_union
from scripts.common import refuse_below

KINDS = ("paragraph", "receipt", "form", "table")
TABLE_MARKS = ("|", "---")  # the answer has these marks, but nobody drew them


@dataclass(frozen=True)
class BoxesConfig:
    """Measures how well the boxes of words fit on synthetic pages."""

    pages: int = 40  # synthetic pages
    model: str = ""  # model folder; empty is the one in the package
    enlarged: int = 2  # draw the pages this many times as large
    threads: int = 1  # torch threads
    list_pages: bool = False  # print a row for each page too

    def __post_init__(self) -> None:
        """Refuse numbers that make no sense."""
        refuse_below(self, pages=1, enlarged=1, threads=1)


@dataclass(frozen=True)
class Overlaps:
    """One page: the IoU of each true word with its found box, 0 where there is none."""

    kind: str
    ious: np.ndarray  # (true words,) float
    found: int
    joined: bool  # the words of each line, joined, are its text, and lie within its box


def main(argv: list[str] | None = None) -> int:
    """Print a row for each kind, and one line of JSON."""
    config = parse(BoxesConfig, argv)
    use_threads(config.threads)
    reader = Reader(config.model or None)
    fonts = find_fonts()
    pages: list[Overlaps] = []
    for index in count():
        if len(pages) == config.pages:
            break
        sample = make_sample(KINDS[index % len(KINDS)], VALIDATION_SEED, index, fonts=fonts)
        if not len(true_words(sample)):
            continue
        pages.append(measure(reader, sample, config.enlarged))
        if config.list_pages:
            row = pages[-1]
            print(f"{index} {row.kind}: {np.round(row.ious, 2).tolist()}, {row.found} found", flush=True)
    for kind in KINDS:
        print(kind, summary([page for page in pages if page.kind == kind]))
    print(json.dumps({"pages": len(pages), **summary(pages), "machine": machine()}))
    return 0


def measure(reader: Reader, sample: SynthSample, enlarged: int) -> Overlaps:
    """Read one page and hold its words against the truth."""
    size = (sample.image.width * enlarged, sample.image.height * enlarged)
    page = reader.read(sample.image.resize(size, Image.Resampling.BICUBIC))
    assert not isinstance(page, list)
    found = np.array([word.box for line in page.lines for word in line.words]).reshape(-1, 4)
    truth = true_words(sample) * enlarged
    return Overlaps(sample.kind, best_pairs(truth, found), len(found), all(map(fits, page.lines)))


def true_words(sample: SynthSample) -> np.ndarray:
    """The hull of each word's ink, (words, 4): the answer says where the drawn letters part into words.

    No word for a page whose answer is not all that is drawn on it, as where one of its fields is asked for.
    """
    hulls, at = [], 0
    for word in sample.answer.split():
        if word in TABLE_MARKS:
            continue
        end = at + len(word)
        if sample.chars[at:end] != word:
            return np.zeros((0, 4))
        boxes = sample.boxes[at:end]
        hulls.append([*boxes[:, :2].min(axis=0), *boxes[:, 2:].max(axis=0)])
        at = end
    return np.array(hulls, dtype=float).reshape(-1, 4) if at == len(sample.chars) else np.zeros((0, 4))


def best_pairs(truth: np.ndarray, found: np.ndarray) -> np.ndarray:
    """The IoU of each true box (N, 4) with the found one (M, 4) that it is paired with: (N,)."""
    ious = np.zeros(len(truth))
    if not len(truth) or not len(found):
        return ious
    overlap = intersection_over_union(truth, found)
    while overlap.max() > 0:
        row, column = np.unravel_index(int(overlap.argmax()), overlap.shape)
        ious[row] = overlap[row, column]
        overlap[row, :] = overlap[:, column] = 0
    return ious


def fits(line: Line) -> bool:
    """Whether the line's text is that of its words."""
    return " ".join(word.text for word in line.words) == line.text


def summary(pages: Sequence[Overlaps]) -> dict[str, float | int | bool]:
    """Shares over all words of the pages, rounded."""
    ious = np.concatenate([page.ious for page in pages]) if pages else np.zeros(0)
    if not len(ious):
        return {"words": 0}
    hit = int((ious >= 0.5).sum())
    return {
        "words": len(ious),
        "recall": round(hit / len(ious), 4),
        "precision": round(hit / max(sum(page.found for page in pages), 1), 4),
        "mean_iou": round(float(ious.mean()), 4),
        "mean_iou_of_matched": round(float(ious[ious >= 0.5].mean()), 4) if hit else 0.0,
        "texts_join": all(page.joined for page in pages),
    }


if __name__ == "__main__":
    sys.exit(run(main))
