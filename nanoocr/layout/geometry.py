"""The geometry of a row of letters: its baseline, the height of its capitals, its blanks, its outline."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from nanoocr.layout.components import Boxes
from nanoocr.layout.lines import Runs
from nanoocr.layout.types import Point, TextLine

WORD_GAP = 0.25  # cap heights of blank from which on the strip may be cut there
BEND = 0.06  # cap heights by which a baseline must leave the straight line to become a polyline


@dataclass(frozen=True)
class Frame:
    """From the level page that is analysed to the original picture, both in pixels from the top left edge."""

    to_page: np.ndarray  # (2, 3): page = to_page @ (x, y, 1)

    @property
    def scale(self) -> float:
        """Pixels of the page per pixel of the analysed copy."""
        return float(np.hypot(*self.to_page[:, 0]))

    def points(self, xy: np.ndarray) -> np.ndarray:
        """Maps points (..., 2) to pixels of the original picture whose centres are whole numbers."""
        # The copy counts from the edge of its first pixel, the picture from that pixel's centre.
        return xy @ self.to_page[:, :2].T + self.to_page[:, 2] - 0.5


@dataclass(frozen=True)
class RowShape:
    """A row on the level page."""

    baseline: np.ndarray  # (points, 2)
    cap: float
    up: float  # how far ink rises above the baseline
    down: float  # how far it hangs below
    gaps: np.ndarray  # (blanks, 2): x where they start and end


def fit_baseline(own: Boxes, marks: Boxes, row: Runs) -> np.ndarray:
    """The baseline (points, 2) of a row (one run), from the start of its ink to the end of it.

    Two points where it is straight, else one for every ten cap heights. The row's parabola is mended where
    the letters of a stretch stand off it, as on a page that is bent twice.
    """
    cap = float(row.cap[0])
    start = float(min(own.x0.min(), marks.x0.min(initial=np.inf)))
    end = float(max(own.x1.max(), marks.x1.max(initial=-np.inf)))
    edges = np.linspace(start, end, max(int((end - start) / (10 * cap)), 1) + 1)
    x = (own.x0 + own.x1) / 2
    off = own.y1 - _on_curve(row, x)
    # Letters that hang or are raised do not stand on the baseline.
    near = np.abs(off) < 0.35 * cap
    inside = [near & (x >= low) & (x < high) for low, high in itertools.pairwise(edges)]
    # The median of fewer than four letters may follow a descender.
    knots = [(_median(x[part]), _median(off[part])) for part in inside if part.sum() >= 4]
    nodes = _on_curve(row, edges)
    if len(knots) >= 3:
        nodes = nodes + np.interp(edges, *np.array(knots).T)
    chord = np.interp(edges, [start, end], [nodes[0], nodes[-1]])
    if np.abs(nodes - chord).max() < BEND * cap:
        edges, nodes = edges[[0, -1]], nodes[[0, -1]] + np.mean(nodes - chord)
    return np.stack([edges, nodes], axis=1)


def _median(values: np.ndarray) -> float:
    """That of `np.median`, several times as fast for few numbers; a page has hundreds of such stretches."""
    ordered, half = np.sort(values), len(values) // 2
    return float(ordered[half] if len(values) % 2 else (ordered[half - 1] + ordered[half]) / 2)


def _on_curve(row: Runs, x: np.ndarray) -> np.ndarray:
    return row.take(np.zeros(len(x), dtype=np.int64)).base_at(x)


def outline(own: Boxes, marks: Boxes, baseline: np.ndarray, cap: float) -> RowShape:
    """The shape of a row of letters, with the marks (dots, commas, dashes) that belong to it."""
    x0, x1 = np.concatenate([own.x0, marks.x0]), np.concatenate([own.x1, marks.x1])
    y0, y1 = np.concatenate([own.y0, marks.y0]), np.concatenate([own.y1, marks.y1])
    base = np.interp((x0 + x1) / 2, *baseline.T)
    # Accents and descenders count, but a stain above or below must not stretch the line.
    up = min(max(float((base - y0).max()), cap), 1.5 * cap)
    down = min(max(float((y1 - base).max()), 0.25 * cap), 0.5 * cap)
    return RowShape(baseline, cap, up, down, _blanks(x0, x1, WORD_GAP * cap))


def text_line(shape: RowShape, frame: Frame, block: int, foreign: np.ndarray) -> TextLine:
    """The row in pixels of the original picture; `foreign`: boxes (K, 4) x0 y0 x1 y1 of other lines' ink."""
    first, last = shape.baseline[0], shape.baseline[-1]
    # The chord moved until the baseline's middle lies on it: a bent line's outline then holds its letters.
    sag = float(
        (
            shape.baseline[:, 1] - np.interp(shape.baseline[:, 0], [first[0], last[0]], [first[1], last[1]])
        ).mean()
    )
    corners = [(first, -shape.up), (last, -shape.up), (last, shape.down), (first, shape.down)]
    quad = frame.points(np.array([(point[0], point[1] + sag + shift) for point, shift in corners]))
    start = float(first[0])
    scale = frame.scale * float(np.hypot(1.0, (last[1] - first[1]) / max(last[0] - first[0], 1e-6)))
    gaps = tuple((float(low), float(high)) for low, high in (shape.gaps - start) * scale)
    around = foreign[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)
    baseline = _points(frame.points(shape.baseline))
    top_left, top_right, bottom_right, bottom_left = _points(quad)
    outline = (top_left, top_right, bottom_right, bottom_left)
    return TextLine(outline, baseline, shape.cap * frame.scale, block, gaps, frame.points(around))


def _points(xy: np.ndarray) -> tuple[Point, ...]:
    return tuple((float(x), float(y)) for x, y in xy)


def _blanks(x0: np.ndarray, x1: np.ndarray, least: float) -> np.ndarray:
    """Where no box stands for at least `least` pixels, and much longer than between letters: (blanks, 2)."""
    order = np.argsort(x0)
    reach = np.maximum.accumulate(x1[order])[:-1]
    following = x0[order][1:]
    blank = following - reach
    # Spaced letters have wide blanks too; the lower half of a line's blanks are always between letters.
    usual = float(np.median(blank)) if len(blank) >= 6 else 0.0
    wide = blank > max(least, min(1.5 * usual, 3 * least))
    return np.stack([reach[wide], following[wide]], axis=1)
