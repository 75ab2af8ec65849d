"""How well the page's lines are found: recall and precision of boxes, characters covered, seconds per page.

Usage: python -m scripts.bench.lines [--data=../shared/data] [--pages=25]

The truth is a JSONL file of receipts with the boxes of their lines. A truth box often holds one column of a
row, so a found line counts as the pieces that remain when it is parted at wide blanks; or, "as the truth", as
the runs of its words that the truth's boxes hold. All boxes are taken as upright rectangles. The truth leaves
paper beside the ink, so found boxes are grown by GROWN cap heights at both ends.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from nanoocr.commandline import parse, run
from nanoocr.errors import UsageError
from nanoocr.layout import PageLayout, find_page
from nanoocr.pictures import open_image
from scripts.common import refuse_below

GROWN = 0.2
# Cap heights of blank at which found lines are parted for the comparison; 0 parts them as the truth does.
COLUMN_GAPS = (0.0, 1.0, 1.5, 2.0, 3.0)


@dataclass(frozen=True)
class LinesConfig:
    """Measures how well the lines of pages are found."""

    data: str = "../shared/data"  # folder of the pages with true lines
    truth: str = "sroie_receipts_lines.jsonl"  # file in it: a page with its lines in each line
    pages: int = 1000  # at most this many
    list_pages: bool = False  # print a row for each page too

    def __post_init__(self) -> None:
        """Refuse numbers that make no sense."""
        refuse_below(self, pages=1)


@dataclass(frozen=True)
class PageScore:
    """Counts of one page."""

    name: str
    truth: int
    found: int
    matched: int
    covered: float  # characters under found lines
    characters: int
    seconds: float


def boxes_of(layout: PageLayout, column_gap: float) -> np.ndarray:
    """Upright boxes (N, 4) x0 y0 x1 y1 of the found lines, parted at blanks wider than `column_gap` caps."""
    boxes = []
    for line in layout.lines:
        quad = np.asarray(line.quad)
        edge = quad[1] - quad[0]
        length = max(float(np.hypot(*edge)), 1e-6)
        start = 0.0
        wide = [gap for gap in line.gaps if gap[1] - gap[0] > column_gap * line.cap_height]
        for low, high in [*wide, (length, length)]:
            if low > start:
                ends = [corner + edge * at / length for corner in (quad[0], quad[3]) for at in (start, low)]
                grown = np.array([GROWN * line.cap_height, 0.0])
                boxes.append([*(np.min(ends, axis=0) - grown), *(np.max(ends, axis=0) + grown)])
            start = high
    return np.array(boxes).reshape(-1, 4)


def intersection_over_union(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """IoU of each of N boxes with each of M: (N, M)."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    common = np.prod(np.maximum(high - low, 0), axis=2)
    area = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (first, second)]
    return common / np.maximum(area[0][:, None] + area[1][None] - common, 1e-9)


def matches(truth: np.ndarray, found: np.ndarray, least: float = 0.5) -> int:
    """How many pairs of truth and found box there are, each used once, best pairs first."""
    if not len(truth) or not len(found):
        return 0
    overlap = intersection_over_union(truth, found)
    count = 0
    while overlap.max() >= least:
        row, column = np.unravel_index(int(overlap.argmax()), overlap.shape)
        overlap[row, :] = overlap[:, column] = 0
        count += 1
    return count


def parted_as(truth: np.ndarray, layout: PageLayout) -> np.ndarray:
    """The found lines' words, joined where one truth box holds the most of each; words in none stay alone."""
    joined: list[np.ndarray] = []
    for line in layout.lines:
        words = boxes_of(replace(layout, lines=(line,)), 0.0)
        low = np.maximum(words[:, None, :2], truth[None, :, :2])
        high = np.minimum(words[:, None, 2:], truth[None, :, 2:])
        share = (
            np.prod(np.maximum(high - low, 0), axis=2) / np.prod(words[:, 2:] - words[:, :2], axis=1)[:, None]
        )
        owner = np.where(share.max(axis=1) > 0.3, share.argmax(axis=1), -1)
        # Words outside of every truth box count as one wrong box where they stand together.
        new = np.flatnonzero(np.diff(owner, prepend=-2))
        for start, end in itertools.pairwise([*new, len(words)]):
            run = words[start:end]
            joined.append(np.concatenate([run[:, :2].min(axis=0), run[:, 2:].max(axis=0)]))
    return np.array(joined).reshape(-1, 4)


def covered_share(box: np.ndarray, found: np.ndarray) -> float:
    """The share of a box's width under found boxes that overlap it vertically by half of the lower one."""
    height = np.minimum(box[3] - box[1], found[:, 3] - found[:, 1])
    common = np.minimum(box[3], found[:, 3]) - np.maximum(box[1], found[:, 1])
    columns = np.zeros(max(round(box[2] - box[0]), 1), dtype=bool)
    for other in found[common >= 0.5 * height]:
        columns[max(round(other[0] - box[0]), 0) : max(round(other[2] - box[0]), 0)] = True
    return float(columns.mean())


def measure(path: Path, truth_lines: list[dict[str, Any]]) -> list[PageScore]:
    """The page's scores, one for each of COLUMN_GAPS."""
    image = open_image(path)
    started = time.process_time()
    layout = find_page(image)
    seconds = time.process_time() - started
    quads = np.array([line["quad"] for line in truth_lines]).reshape(-1, 4, 2)
    truth = np.concatenate([quads.min(axis=1), quads.max(axis=1)], axis=1)
    lengths = np.array([len(line["text"]) for line in truth_lines])
    # Coverage does not hang on where lines are parted, so the whole lines are taken.
    whole = boxes_of(layout, 1e9)
    covered = sum(covered_share(box, whole) * n for box, n in zip(truth, lengths))
    scores = []
    for gap in COLUMN_GAPS:
        found = boxes_of(layout, gap) if gap else parted_as(truth, layout)
        counts = (len(truth), len(found), matches(truth, found))
        scores.append(PageScore(path.stem, *counts, float(covered), int(lengths.sum()), seconds))
    return scores


def read_truth(config: LinesConfig) -> list[dict[str, Any]]:
    """The rows of the truth's file: a picture's name (`image`) with its `lines`.

    Raises:
        UsageError: the file is missing, is none of such rows, or has none.
    """
    path = Path(config.data, config.truth)
    try:
        rows = [json.loads(row) for row in path.read_text().splitlines()]
        if rows and all(row["image"] and row["lines"] for row in rows):
            return rows
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}): name the folder by --data") from error
    except (ValueError, KeyError, TypeError):
        pass
    raise UsageError(f"{path}: write a JSON object with image and lines in each line")


def main(argv: list[str] | None = None) -> None:
    """Print one line per column gap, and with --list_pages one per page."""
    config = parse(LinesConfig, argv)
    cv2.setNumThreads(1)
    rows = read_truth(config)
    pages = [measure(Path(config.data, row["image"]), row["lines"]) for row in rows[: config.pages]]
    if config.list_pages:
        for scores in pages:
            page = min(scores, key=lambda score: -score.matched)
            print(
                f"{page.name}: recall {page.matched / page.truth:.2f} precision "
                f"{page.matched / max(page.found, 1):.2f} covered {page.covered / page.characters:.3f} "
                f"in {page.seconds:.3f} s"
            )
    for k, gap in enumerate(COLUMN_GAPS):
        scores = [page[k] for page in pages]
        truth, found, matched = (
            sum(getattr(s, key) for s in scores) for key in ("truth", "found", "matched")
        )
        label = f"parted at {gap:.1f} caps" if gap else "parted as the truth"
        print(f"{label}: recall {matched / truth:.3f}, precision {matched / max(found, 1):.3f}")
    covered = sum(page[0].covered for page in pages) / sum(page[0].characters for page in pages)
    seconds = np.array([page[0].seconds for page in pages])
    print(f"characters covered {covered:.4f}; {seconds.mean():.3f} s/page, at most {seconds.max():.3f} s")


if __name__ == "__main__":
    sys.exit(run(main))
