"""Connected pieces of ink as arrays of boxes, and medians of groups of them.

All pieces of a page are handled at once as numpy arrays: a dense page has some 5,000 of them, too many for
Python loops in a twentieth of a second.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import cv2
import numpy as np

SIDE_INKED = 0.9  # least share of ink on each side of a frame
ROUNDED = 0.65  # the same of a frame with round corners
ASIDE = 0.25  # of its size: a box to tick stands at least so far from the letters beside it
MOST_SQUARES = 1000  # of one page
LEAST_SQUARE = 9  # pixels; of lower letters the ink runs together to squares as well
# Least share of ink of a solid square and of its sides. A disc has less, and bold letters have lighter sides.
SQUARE_INKED, SQUARE_SIDES = 0.8, 0.75


@dataclass(frozen=True)
class Boxes:
    """N boxes in pixels; x1 and y1 lie one after the last pixel. All arrays (N,) float64."""

    x0: np.ndarray
    y0: np.ndarray
    x1: np.ndarray
    y1: np.ndarray
    area: np.ndarray  # pixels of ink
    contrast: np.ndarray  # grey levels by which the ink lies beyond the threshold, on average
    crowd: np.ndarray  # the share of ink right above and below the box: writing has paper there
    cut: np.ndarray  # 1 where the picture's edge may cut the ink off, else 0

    def __len__(self) -> int:
        return len(self.x0)

    @property
    def width(self) -> np.ndarray:
        """(N,) pixels."""
        return self.x1 - self.x0

    @property
    def height(self) -> np.ndarray:
        """(N,) pixels."""
        return self.y1 - self.y0

    def take(self, which: np.ndarray) -> Boxes:
        """The boxes that an index or mask array names."""
        return Boxes(
            self.x0[which],
            self.y0[which],
            self.x1[which],
            self.y1[which],
            self.area[which],
            self.contrast[which],
            self.crowd[which],
            self.cut[which],
        )


def find_components(ink: np.ndarray, depth: np.ndarray) -> Boxes:
    """Boxes of the 8-connected pieces of a mask (H, W) uint8; `depth` (H, W) uint8 gives their contrast."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(ink, connectivity=8, ltype=cv2.CV_32S)
    x, y, width, height, area = stats[1:].astype(np.float64).T
    # Ink covers a small part of a page, so only its pixels are summed.
    place = np.flatnonzero(ink)
    total = np.bincount(labels.ravel()[place], depth.ravel()[place], minlength=count)[1:]
    contrast = total / np.maximum(area, 1)
    cut = (x == 0) | (y == 0) | (x + width == ink.shape[1]) | (y + height == ink.shape[0])
    crowd = _crowd(ink, stats[1:])
    return Boxes(x, y, x + width, y + height, area, contrast, crowd, cut.astype(np.float64))


def _crowd(ink: np.ndarray, stats: np.ndarray) -> np.ndarray:
    """The share of ink in two bands of a third of the box's height above and below each box (N,)."""
    # With running sums over the page the ink of any box takes four look-ups.
    sums = cv2.integral(ink)
    x0, y0, width, height = stats[:, :4].T
    x1, y1 = x0 + width, y0 + height
    band = np.maximum(height // 3, 1)
    total, pixels = np.zeros(len(stats)), np.zeros(len(stats))
    for low, high in ((np.maximum(y0 - band, 0), y0), (y1, np.minimum(y1 + band, ink.shape[0]))):
        total += sums[high, x1] - sums[low, x1] - sums[high, x0] + sums[low, x0]
        pixels += (high - low) * width
    return total / np.maximum(pixels, 1)


def find_frames(ink: np.ndarray, boxes: Boxes) -> tuple[np.ndarray, np.ndarray]:
    """Which boxes of the mask `ink` are frames or squares and no letters, and which of these hold nothing.

    These are boxes to tick, also ticked or filled ones, and the frames of buttons: two masks (N,) bool. All
    four sides and corners of a frame are ink. A D or an O lacks corners, so that a frame with round corners
    must be nearly as high as wide and empty, or much wider than high.
    """
    sums = cv2.integral(ink)
    x0, y0, x1, y1 = (side.astype(np.int64) for side in (boxes.x0, boxes.y0, boxes.x1, boxes.y1))
    width, height = x1 - x0, y1 - y0

    def inked(left: np.ndarray, top: np.ndarray, right: np.ndarray, bottom: np.ndarray) -> np.ndarray:
        """Pixels of ink in each box, by the four corners of the summed table; all arrays are (N,)."""
        return sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]

    def sides(depth: int) -> tuple[np.ndarray, np.ndarray]:
        """The share of ink on the lighter of the two level and of the two upright sides, so far inside."""
        low, high = np.minimum(depth, height - 1), np.minimum(depth, width - 1)
        level = np.minimum(inked(x0, y0 + low, x1, y0 + low + 1), inked(x0, y1 - low - 1, x1, y1 - low))
        upright = np.minimum(inked(x0 + high, y0, x0 + high + 1, y1), inked(x1 - high - 1, y0, x1 - high, y1))
        return level / width, upright / height

    level, upright = sides(0)
    # The outermost row of a frame may be its soft edge.
    soft_level, soft_upright = (np.maximum(*pair) for pair in zip((level, upright), sides(1)))
    corners = ink[y0, x0] & ink[y0, x1 - 1] & ink[y1 - 1, x0] & ink[y1 - 1, x1 - 1]
    # The area of a frame of this thickness is that of the ink.
    half = (width + height) / 2
    thick = np.ceil((half - np.sqrt(np.maximum(half**2 - boxes.area, 0))) / 2).astype(np.int64) + 1
    room = np.minimum(width, height) > 2 * thick + 1
    inside = [np.where(room, side, start) for side, start in ((x0 + thick, x0), (y0 + thick, y0))]
    ends = [np.where(room, side, start) for side, start in ((x1 - thick, x0), (y1 - thick, y0))]
    hollow = room & (inked(*inside, *ends) == 0)
    framed = (corners > 0) & (level > SIDE_INKED) & (upright > SIDE_INKED)
    square = np.abs(width - height) <= 0.2 * np.maximum(width, height)
    square &= (np.minimum(width, height) >= LEAST_SQUARE) & (level > ROUNDED) & (upright > ROUNDED)
    solid = (boxes.area > SQUARE_INKED * width * height) & (np.minimum(level, upright) > SQUARE_SIDES)
    # Two letters that touch, as in "summer", look like the frame of a button too.
    button = (width > 1.5 * height) & (boxes.area < 0.5 * width * height)
    button &= (soft_level > ROUNDED) & (soft_upright > ROUNDED)
    for shape in (square, button):
        shape[shape] = _stand_alone(boxes, np.flatnonzero(shape))
    empty = hollow & (framed | square) | (square & solid)
    return empty | (square & framed) | button, empty


def _stand_alone(boxes: Boxes, which: np.ndarray) -> np.ndarray:
    """Which boxes of an index array have nothing so near at their sides as letters of a word stand."""
    # The search is quadratic, and a page with so many squares is a texture, in which none stands alone.
    if len(which) > MOST_SQUARES:
        return np.zeros(len(which), dtype=bool)
    # A few at a time, since a raster has a hundred thousand boxes beside them.
    parts = [_alone(boxes, which[first : first + 32]) for first in range(0, len(which), 32)]
    return np.concatenate([np.zeros(0, dtype=bool), *parts])


def _alone(boxes: Boxes, which: np.ndarray) -> np.ndarray:
    own = boxes.take(which)
    near = ASIDE * np.maximum(own.width, own.height)[:, None]
    aside = np.maximum(boxes.x0[None] - own.x1[:, None], own.x0[:, None] - boxes.x1[None])
    level = np.minimum(boxes.y1[None], own.y1[:, None]) > np.maximum(boxes.y0[None], own.y0[:, None])
    # What a frame holds, or what holds the frame, is not beside it.
    beside = level & (aside >= 0) & (aside < near)
    alone: np.ndarray = ~beside.any(axis=1)
    return alone


def concatenate(parts: list[Boxes]) -> Boxes:
    """Several sets of boxes as one."""
    return Boxes(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Boxes)))


def group_quantile(values: np.ndarray, group: np.ndarray, count: int, quantile: float) -> np.ndarray:
    """The quantile of the values (N,) in each of `count` groups, numbered by `group` (N,); 0 for none."""
    # Sorted by group and then by value, each group is one stretch and its quantile a place in it.
    order = np.lexsort((values, group))
    sizes = np.bincount(group, minlength=count)
    starts = np.cumsum(sizes) - sizes
    result = np.zeros(count)
    some = sizes > 0
    place = starts[some] + np.round(quantile * (sizes[some] - 1)).astype(np.int64)
    result[some] = values[order][place]
    return result


def group_extent(boxes: Boxes, group: np.ndarray, count: int) -> Boxes:
    """The box around each group's boxes, the sum of their ink and its contrast."""
    lows = [np.full(count, np.inf), np.full(count, np.inf)]
    highs = [np.full(count, -np.inf), np.full(count, -np.inf)]
    # `minimum.at` heeds every box of a group, where plain indexing would keep the last one only.
    for low, high, first, last in zip(lows, highs, (boxes.x0, boxes.y0), (boxes.x1, boxes.y1)):
        np.minimum.at(low, group, first)
        np.maximum.at(high, group, last)
    # Means are weighted by ink, as if the pixels themselves had been averaged.
    area = np.bincount(group, boxes.area, minlength=count)
    contrast = np.bincount(group, boxes.area * boxes.contrast, minlength=count) / np.maximum(area, 1)
    crowd = np.bincount(group, boxes.area * boxes.crowd, minlength=count) / np.maximum(area, 1)
    cut = np.bincount(group, boxes.cut, minlength=count) / np.maximum(np.bincount(group, minlength=count), 1)
    return Boxes(lows[0], lows[1], highs[0], highs[1], area, contrast, crowd, cut)


def weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    """The value (N,) that half of the weights (N,) lie below."""
    order = np.argsort(values)
    total = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(total, total[-1] / 2)])


def chain_labels(follower: np.ndarray) -> tuple[np.ndarray, int]:
    """Numbers the chains of a forest in which item i points at follower[i], or at itself where it is an end.

    Returns the number of each item's chain (N,) and how many chains there are.
    """
    end = follower.copy()
    # Each round doubles the step, so that a chain of a thousand letters takes ten rounds.
    while True:
        further = end[end]
        if np.array_equal(further, end):
            break
        end = further
    _, chain = np.unique(end, return_inverse=True)
    return chain, int(chain.max(initial=-1)) + 1
