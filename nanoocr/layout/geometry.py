"""The geometry of a row of letters: its baseline, the height of its capitals, its blanks, its outline."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from nanoocr.layout.components import Boxes
from nanoocr.layout.types import Point, TextLine

WORD_GAP = 0.25  # cap heights of blank from which on the strip may be cut there
BEND = 0.06  # cap heights by which a baseline must leave the straight line to become a polyline


@dataclass(frozen=True)
class Frame:
    """From the level page that is analysed to the original picture, both in pixels from the top left edge."""

    to_page: np.ndarray  # (2, 3): page = to_page @ (x, y, 1)
    fall: float  # by which y grows per x before that: the rest of the tilt

    @property
    def scale(self) -> float:
        """Pixels of the page per pixel of the analysed copy."""
        return float(np.hypot(*self.to_page[:, 0]))

    def points(self, xy: np.ndarray) -> np.ndarray:
        """Maps points (..., 2) to pixels of the original picture whose centres are whole numbers."""
        level = np.stack([xy[..., 0], xy[..., 1] + self.fall * xy[..., 0]], axis=-1)
        return level @ self.to_page[:, :2].T + self.to_page[:, 2] - 0.5


@dataclass(frozen=True)
class RowShape:
    """A row on the level page."""

    baseline: np.ndarray  # (points, 2)
    cap: float
    up: float  # how far ink rises above the baseline
    down: float  # how far it hangs below
    gaps: np.ndarray  # (blanks, 2): x where they start and end


def fit_baseline(own: Boxes, marks: Boxes, cap: float) -> np.ndarray:
    """The baseline (points, 2) of a row of letters, from the start of its ink to the end of it."""
    line = _fit_line((own.x0 + own.x1) / 2, own.y1, 0.15 * cap)
    start = min(own.x0.min(), marks.x0.min(initial=np.inf))
    end = max(own.x1.max(), marks.x1.max(initial=-np.inf))
    return _polyline(own, line, cap, float(start), float(end))


def outline(own: Boxes, marks: Boxes, baseline: np.ndarray, cap: float) -> RowShape:
    """The shape of a row of letters, with the marks (dots, commas, dashes) that belong to it."""
    x0, x1 = np.concatenate([own.x0, marks.x0]), np.concatenate([own.x1, marks.x1])
    y0, y1 = np.concatenate([own.y0, marks.y0]), np.concatenate([own.y1, marks.y1])
    base = np.interp((x0 + x1) / 2, *baseline.T)
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


def _fit_line(x: np.ndarray, y: np.ndarray, tolerance: float) -> tuple[float, float]:
    """Slope and height at x = 0 of the line through most points; those off it, like descenders, drop out."""
    slope, offset = 0.0, float(np.median(y))
    if len(x) < 4:
        return slope, offset
    near = np.abs(y - offset) < 3 * tolerance
    for _ in range(3):
        if near.sum() < 4 or np.ptp(x[near]) < 1:
            break
        centre = x[near].mean()
        away = x[near] - centre
        slope = float((away * y[near]).sum() / max((away**2).sum(), 1e-6))
        offset = float(np.median(y[near] - slope * x[near]))
        near = np.abs(y - offset - slope * x) < tolerance
    return slope, offset


def _polyline(own: Boxes, line: tuple[float, float], cap: float, start: float, end: float) -> np.ndarray:
    """The baseline from start to end: two points where it is straight, else one for every ten cap heights."""
    slope, offset = line
    straight = np.array([(x, offset + slope * x) for x in (start, end)])
    count = int((end - start) / (10 * cap))
    if count < 2 or len(own) < 12:
        return straight
    x, above = (own.x0 + own.x1) / 2, own.y1 - offset
    rest = above - slope * x
    near = np.abs(rest) < 0.4 * cap
    edges = np.linspace(start, end, count + 1)
    inside = [near & (x >= low) & (x < high) for low, high in itertools.pairwise(edges)]
    knots = [(np.median(x[part]), np.median(rest[part])) for part in inside if part.sum() >= 4]
    if len(knots) < 3 or max(abs(height) for _, height in knots) < BEND * cap:
        return straight
    at, height = np.array(knots).T
    # A parabola carries the bend to the line's two ends better than the last knots do.
    bend = np.polyfit(at, height, 2)
    nodes = np.linspace(start, end, count + 1)
    return np.stack([nodes, offset + slope * nodes + np.polyval(bend, nodes)], axis=1)


def _blanks(x0: np.ndarray, x1: np.ndarray, least: float) -> np.ndarray:
    """Where no box stands for at least `least` pixels: (blanks, 2)."""
    order = np.argsort(x0)
    reach = np.maximum.accumulate(x1[order])[:-1]
    following = x0[order][1:]
    wide = following - reach > least
    return np.stack([reach[wide], following[wide]], axis=1)
