"""The way from a page's picture to its lines of text."""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image

from nanoocr.layout.components import Boxes, find_components
from nanoocr.layout.ink import find_ink
from nanoocr.layout.lines import Runs, find_runs, letter_like
from nanoocr.layout.types import PageLayout, TextLine

LONGEST_SIDE = 2000  # larger pages are analysed on a reduced copy


def find_page(image: Image.Image) -> PageLayout:
    """Finds the lines of text of an RGB picture, in reading order."""
    gray, scale = _working_copy(image)
    boxes, _ = find_components(find_ink(gray))
    letters = boxes.take(letter_like(boxes, gray.shape[0]))
    lines: list[TextLine] = []
    if len(letters):
        run_of, runs = find_runs(letters)
        keep = runs.letters >= 2
        lines = [_text_line(letters, run_of, runs, k, scale) for k in np.flatnonzero(keep)]
    lines.sort(key=lambda line: line.baseline[0][1])
    return PageLayout((image.height, image.width), 0, 0.0, True, tuple(lines))


def _working_copy(image: Image.Image) -> tuple[np.ndarray, float]:
    """The grey copy that is analysed, and how many pixels of the page one of its pixels spans."""
    scale = max(max(image.size) / LONGEST_SIDE, 1.0)
    gray = np.asarray(image.convert("L"))
    if scale > 1:
        size = (max(round(image.width / scale), 1), max(round(image.height / scale), 1))
        gray = cv2.resize(gray, size, interpolation=cv2.INTER_AREA)
    return gray, scale


def _text_line(letters: Boxes, run_of: np.ndarray, runs: Runs, number: int, scale: float) -> TextLine:
    own = letters.take(run_of == number)
    order = np.argsort(own.x0)
    start, end = own.x0.min(), own.x1.max()
    base, cap = runs.base[number], runs.cap[number]
    reach = np.maximum.accumulate(own.x1[order])[:-1]
    following = own.x0[order][1:]
    wide = following - reach > 0.3 * cap
    gaps = tuple((scale * (a - start), scale * (b - start)) for a, b in zip(reach[wide], following[wide]))
    top, bottom = min(own.y0.min(), base - cap), max(own.y1.max(), base)
    x0, y0, x1, y1 = (float(scale * value) for value in (start, top, end, bottom))
    baseline = ((x0, float(scale * base)), (x1, float(scale * base)))
    return TextLine(((x0, y0), (x1, y0), (x1, y1), (x0, y1)), baseline, float(scale * cap), 0, gaps)
