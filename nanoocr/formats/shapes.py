"""Quads in the ways that files write them: whole pixels, angles, baselines. For pages from `clean`."""

from __future__ import annotations

import math
from typing import NamedTuple

from nanoocr.document import Baseline, Line, Point, Quad, angle, hull


class PixelBox(NamedTuple):
    """An upright box in whole pixels, at least one pixel wide and high."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        """From left to right, in pixels."""
        return self.right - self.left

    @property
    def height(self) -> int:
        """From top to bottom, in pixels."""
        return self.bottom - self.top


def pixel(value: float) -> int:
    """The nearest whole pixel; halves go up, so that sides of a pixel or more never shrink to nothing."""
    return math.floor(value + 0.5)


def pixels(*quads: Quad) -> PixelBox:
    """The box around the quads in whole pixels."""
    box = hull(point for quad in quads for point in quad)
    return PixelBox(pixel(box.left), pixel(box.top), pixel(box.right), pixel(box.bottom))


def pixel_points(points: tuple[Point, ...]) -> list[tuple[int, int]]:
    """The points in whole pixels."""
    return [(pixel(x), pixel(y)) for x, y in points]


def quarter(quad: Quad) -> int:
    """The quarter turns clockwise, 0 to 3, that come nearest to the text's angle."""
    return round(angle(quad) / 90) % 4


def baseline_of(line: Line) -> Baseline:
    """The line's baseline, or a guess where it has none: a fifth of the height above the lower edge.

    Letters such as g reach about that far below the line they stand on.
    """
    if line.baseline is not None:
        return line.baseline
    (top_left, top_right, bottom_right, bottom_left) = line.quad
    return (_toward(bottom_left, top_left), _toward(bottom_right, top_right))


def _toward(start: Point, end: Point, share: float = 0.2) -> Point:
    return (start[0] + (end[0] - start[0]) * share, start[1] + (end[1] - start[1]) * share)


def slope(baseline: Baseline) -> float:
    """How far the baseline falls for each pixel to the right; negative where it rises."""
    (x0, y0), (x1, y1) = baseline
    return (y1 - y0) / (x1 - x0) if x1 != x0 else 0.0
