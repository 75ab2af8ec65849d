"""Boxes with text: their file format, scores of how well they are found, and word spotting.

The format is that of the ICDAR competitions, for truths and answers alike, so that answers of other systems
can be scored unchanged. Each line is a box: eight numbers and then the text, which may hold commas itself.

    38,43,920,43,920,215,38,215,TAN WOON YANN
    10,300,90,300,90,330,10,330,###              nobody can read this word, so it counts for nothing
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np

from nanoocr.document import Line, Quad

NOT_LEGIBLE = "###"
LEAST_OVERLAP = 0.5  # least intersection over union of a match, as in ICDAR 2015
LEAST_LETTERS = 3  # word spotting asks only for words of at least this many letters
GAP = 1.0  # Words further apart than this share of the line's height are two boxes.
Scores = dict[str, float]


class TextBox(NamedTuple):
    """Four corners (x, y) in pixels, and the text inside."""

    quad: Quad
    text: str


# ---------------------------------------------------------------------------------------------------
# Reading and writing


def parse_boxes(text: str) -> tuple[list[TextBox], int]:
    """The boxes of a file, and how many of its lines are no box."""
    boxes, odd = [], 0
    for line in text.splitlines():
        if not line.strip():
            continue
        *numbers, words = [*line.split(",", 8), ""][:9]
        try:
            x0, y0, x1, y1, x2, y2, x3, y3 = map(float, numbers)
        except ValueError:
            odd += 1
            continue
        boxes.append(TextBox(((x0, y0), (x1, y1), (x2, y2), (x3, y3)), words.strip()))
    return boxes, odd


def format_boxes(boxes: Iterable[TextBox]) -> str:
    """The boxes as a file, corners in whole pixels."""
    return "\n".join(
        ",".join(
            [*(f"{round(number)}" for point in box.quad for number in point), " ".join(box.text.split())]
        )
        for box in boxes
    )


def text_of_boxes(answer: str) -> str:
    """The words of an answer in boxes, one box per line. An answer without boxes is returned as it is."""
    boxes, odd = parse_boxes(answer)
    return answer if odd or not boxes else "\n".join(box.text for box in boxes)


def quads(corners: Any) -> list[Quad]:
    """Read corners in any nesting, (n, 4, 2) numbers when flat, as n quadrilaterals."""
    flat = np.asarray(corners, dtype=float).reshape(-1, 4, 2)
    return [((a, b), (c, d), (e, f), (g, h)) for (a, b), (c, d), (e, f), (g, h) in flat.tolist()]


def upright_quad(left: float, top: float, right: float, bottom: float) -> Quad:
    """The corners of an upright rectangle."""
    return ((left, top), (right, top), (right, bottom), (left, bottom))


def boxes_of_words(lines: Iterable[Line], gap: float = GAP) -> list[TextBox]:
    """Join the words of each line to one box where less than `gap` of the line's height lies between them.

    A receipt's line has an article at its left and a price at its right, and the truth has a box for each.
    """
    found = []
    for line in lines:
        words = line.words or (line,)
        group = [words[0]]
        for word in words[1:]:
            height = np.linalg.norm(np.subtract(group[-1].quad[3], group[-1].quad[0]))
            if np.linalg.norm(np.subtract(word.quad[0], group[-1].quad[1])) > gap * height:
                found.append(_joined([(one.quad, one.text) for one in group]))
                group = []
            group.append(word)
        found.append(_joined([(one.quad, one.text) for one in group]))
    return found


def _joined(words: Sequence[tuple[Quad, str]]) -> TextBox:
    """One box from the left end of the first word to the right end of the last."""
    (first, _), (last, _) = words[0], words[-1]
    return TextBox((first[0], last[1], last[2], first[3]), " ".join(text for _, text in words))


# ---------------------------------------------------------------------------------------------------
# Geometry


def _polygon(quad: Quad) -> np.ndarray:
    hull: np.ndarray = cv2.convexHull(np.asarray(quad, dtype=np.float32))  # the corners may come in any order
    return hull


def overlaps(
    first: Sequence[TextBox], second: Sequence[TextBox]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Areas of all intersections (first, second), and the areas of both lists' boxes, in square pixels."""
    polygons = [[_polygon(box.quad) for box in boxes] for boxes in (first, second)]
    areas = [np.array([abs(cv2.contourArea(one)) for one in many]) for many in polygons]
    common = np.zeros((len(first), len(second)))
    for i, j in _neighbours(*polygons):
        common[i, j] = cv2.intersectConvexConvex(polygons[0][i], polygons[1][j])[0]
    return common, areas[0], areas[1]


def _neighbours(first: list[np.ndarray], second: list[np.ndarray]) -> list[tuple[int, int]]:
    """Pairs whose upright rectangles meet, which are about one in a hundred pairs of a dense page."""
    if not first or not second:
        return []
    low, high = (np.array([getattr(p, end)(axis=(0, 1)) for p in first]) for end in ("min", "max"))
    low2, high2 = (np.array([getattr(p, end)(axis=(0, 1)) for p in second]) for end in ("min", "max"))
    meet = ((low[:, None] < high2[None]) & (low2[None] < high[:, None])).all(-1)
    return [(int(i), int(j)) for i, j in zip(*np.nonzero(meet))]


def pairs_of(found: Sequence[TextBox], wanted: Sequence[TextBox]) -> list[tuple[int, int]]:
    """One-to-one pairs whose intersection is more than half of their union, the best first."""
    common, area_found, area_wanted = overlaps(found, wanted)
    union = area_found[:, None] + area_wanted[None] - common
    iou = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    pairs: list[tuple[int, int]] = []
    while iou.size and iou.max() > LEAST_OVERLAP:
        i, j = np.unravel_index(iou.argmax(), iou.shape)
        pairs.append((int(i), int(j)))
        iou[i], iou[:, j] = 0, 0
    return pairs


# ---------------------------------------------------------------------------------------------------
# Scores


def detection_scores(answer: str, truth: str) -> Scores:
    """How well boxes are found, whatever text is read in them.

    `iou50_*` match one found box with one true box of intersection over union above 0.5. `covered` and
    `inside` forgive lines that are split or joined differently: the share of the true area that is found, and
    the share of the found area that is true. `boxes_odd` counts lines that are no box.
    """
    (found, odd), (wanted, _) = parse_boxes(answer), parse_boxes(truth)
    hits = len(pairs_of(found, wanted))
    common, area_found, area_wanted = overlaps(found, wanted)
    return {
        **_three("iou50", hits, len(found), len(wanted)),
        "covered": _share(np.minimum(common.sum(0), area_wanted).sum(), area_wanted.sum(), len(wanted)),
        "inside": _share(np.minimum(common.sum(1), area_found).sum(), area_found.sum(), len(found)),
        "boxes_odd": float(odd),
    }


def _share(part: float, whole: float, count: int) -> float:
    return float(part / whole) if whole else float(count == 0)


def _three(name: str, hits: int, found: int, wanted: int) -> Scores:
    """Precision, recall and F1; all are 1 where nothing is wanted and nothing was found."""
    if not found or not wanted:
        return dict.fromkeys((f"{name}_precision", f"{name}_recall", f"{name}_hmean"), float(found == wanted))
    precision, recall = hits / found, hits / wanted
    mean = 2 * precision * recall / (precision + recall) if hits else 0.0
    return {f"{name}_precision": precision, f"{name}_recall": recall, f"{name}_hmean": mean}


# ---------------------------------------------------------------------------------------------------
# Word spotting


_EDGES = "'!?.:,*\"()·[]/-"
_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")


def spotted_word(text: str) -> str:
    """The word in capitals, as word spotting compares it; "" where it does not count.

    Marks at both ends and an English 's are removed. The rest must be letters and hyphens alone, at least
    three characters: word spotting asks nobody for numbers, signs and short words.
    """
    word = re.sub("['’]s$", "", text.strip().strip(_EDGES), flags=re.IGNORECASE)
    return word.upper() if len(word) >= LEAST_LETTERS and _WORD.fullmatch(word) else ""


def spotting_scores(answer: str, truth: str) -> Scores:
    """Word spotting by boxes, in the style of ICDAR 2015: place and text of a word must both be right.

    A box over a word that does not count (### or no `spotted_word`) does not count itself, and neither does
    one whose text is no such word.
    """
    found = [box for box in parse_boxes(answer)[0] if spotted_word(box.text)]
    truths = parse_boxes(truth)[0]
    wanted = [box for box in truths if spotted_word(box.text)]
    ignored = [box for box in truths if not spotted_word(box.text)]
    common, areas, _ = overlaps(found, ignored)
    inside = common.max(1, initial=0) > LEAST_OVERLAP * areas
    found = [box for box, gone in zip(found, inside) if not gone]
    same = [
        1 for i, j in pairs_of(found, wanted) if spotted_word(found[i].text) == spotted_word(wanted[j].text)
    ]
    return _three("spotting_iou50", len(same), len(found), len(wanted))


def spotting_text_scores(answer: str, truth: str) -> Scores:
    """Word spotting without places, for truths that have none: the same words, compared as a multiset."""
    found, wanted = (_words(text_of_boxes(answer)), _words(truth))
    left = list(wanted)
    hits = 0
    for word in found:
        if word in left:
            left.remove(word)
            hits += 1
    return _three("spotting_text", hits, len(found), len(wanted))


def _words(text: str) -> list[str]:
    return [word for part in text.split() if (word := spotted_word(part))]
