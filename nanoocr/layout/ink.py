"""Picture to ink: which pixels are writing, whatever the ground's colour and whichever is the darker.

Around each pixel the grey values of a window are taken for a mixture of two: paper and ink. The first three
moments of the window give the mixture's midpoint and its rarer part, and the rarer part is the ink. (Tsai,
"Moment-preserving thresholding", 1985, does this for a whole picture.) So light letters on a dark bar need no
rule of their own. The smallest window that has contrast decides: its threshold follows shadows most closely,
while the inside of thick strokes, where small windows are flat, falls to a larger one.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

GRID = 3  # statistics vary slowly: they are kept for squares of 3 x 3 pixels
WINDOWS = (25, 75, 225)  # pixels; the smallest spans two to three letters of small print
LOWEST_CONTRAST, HIGHEST_FLOOR = 3.5, 10.0  # grey levels (standard deviation) that may count as flat paper
DARKER = 20  # grey levels that a ground is darker than the paper
LEAST_GROUND = (60, 15)  # pixels (width, height); smaller ones are dashes and strokes of large letters
RECTANGULAR = 0.9  # share of its box that a ground fills
UNLIKE = 30  # grey levels between a ground and what stands on it
SCARCELY, MOSTLY = 0.01, 0.45  # shares of a ground that are no letters, and that are more than letters
DARK_BIAS = 0.3  # skewness a window needs before its light part is taken for the ink


@dataclass(frozen=True)
class _Moments:
    """Mean, standard deviation and third central moment around each square of the grid, (h, w) float32."""

    mean: np.ndarray
    std: np.ndarray
    third: np.ndarray


@dataclass(frozen=True)
class Ground:
    """A dark rectangle of a page, and what stands on it."""

    edges: tuple[int, int, int, int]  # x0, y0, x1, y1 in pixels
    light_letters: bool  # what is unlike the ground is mostly lighter than it
    empty: bool  # hardly anything is unlike the ground
    threshold: int  # the grey value midway between the ground and its letters

    def box(self, less: int = 0) -> tuple[slice, slice]:
        """Its rows and columns, without `less` pixels at each side."""
        x0, y0, x1, y1 = self.edges
        return slice(y0 + less, y1 - less), slice(x0 + less, x1 - less)


def find_ink(gray: np.ndarray, floor: float) -> tuple[np.ndarray, np.ndarray]:
    """Tells the ink of a grey picture, (H, W) uint8; `floor` is what `flat_below` says of it.

    Returns a mask (H, W) uint8 of 0 and 1, and how far each pixel lies from its threshold, (H, W) uint8.
    """
    height, width = gray.shape
    threshold, light_ink, flat = _local_decisions(gray, floor)
    full = cv2.resize(threshold, (width, height))
    # Yes-or-no maps are not interpolated: half a polarity means nothing.
    light_here = cv2.resize(light_ink, (width, height), interpolation=cv2.INTER_NEAREST)
    paper_here = cv2.resize(flat, (width, height), interpolation=cv2.INTER_NEAREST)
    for ground in find_grounds(gray):
        # The rim of a ground is neither paper nor letters.
        paper_here[ground.box()] = 255
        light_here[ground.box(GRID)] = 255 * ground.light_letters
        paper_here[ground.box(GRID)] = 255 * ground.empty
        full[ground.box(GRID)] = ground.threshold
    dark = cv2.compare(gray, full, cv2.CMP_LT)
    light = cv2.compare(gray, full, cv2.CMP_GT)
    cv2.copyTo(light, light_here, dark)
    ink = cv2.bitwise_and(dark, cv2.bitwise_not(paper_here))
    return ink // np.uint8(255), cv2.absdiff(gray, full)


def find_grounds(gray: np.ndarray) -> list[Ground]:
    """The rectangles of a grey page (H, W) uint8 that are darker than its paper, as the heads of tables are.

    A ground lower than a window is rarer there than the paper around it, so that it would be taken for ink.
    """
    size = (max(gray.shape[1] // GRID, 1), max(gray.shape[0] // GRID, 1))
    small = cv2.resize(gray, size, interpolation=cv2.INTER_AREA)
    paper = int(np.bincount(small.ravel(), minlength=256).argmax())
    dark = (small < paper - DARKER).astype(np.uint8)
    # Letters of small print are thinner than two squares of the grid.
    solid = cv2.morphologyEx(dark, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    outlines, _ = cv2.findContours(solid, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    grounds = []
    for outline in outlines:
        x, y, width, height = cv2.boundingRect(outline)
        large = width * GRID >= LEAST_GROUND[0] and height * GRID >= LEAST_GROUND[1]
        low = height * GRID < WINDOWS[-1]  # within a higher one there are windows that see no paper
        # Letters are holes within the outline, or notches of it.
        if large and low and cv2.contourArea(outline) > RECTANGULAR * (width - 1) * (height - 1):
            ground = _look_at(gray, (x * GRID, y * GRID, (x + width) * GRID, (y + height) * GRID))
            grounds += [ground] if ground else []
    return grounds


def _look_at(gray: np.ndarray, edges: tuple[int, int, int, int]) -> Ground | None:
    """What stands on a ground; None where most of it is letters, and so a word that has none."""
    x0, y0, x1, y1 = edges
    rim = 2 * GRID  # soft edges, and a square of the grid that only half belongs to the ground
    inside = gray[y0 + rim : y1 - rim, x0 + rim : x1 - rim].astype(np.int16)
    away = inside - np.median(inside)
    light, deep = float((away > UNLIKE).mean()), float((away < -UNLIKE).mean())
    if light + deep > MOSTLY:
        return None
    letters = away[away > UNLIKE] if light > deep else away[away < -UNLIKE]
    midway = np.median(inside) + (np.median(letters) / 2 if letters.size else 0)
    return Ground(edges, light > deep, max(light, deep) < SCARCELY, int(midway))


def flat_below(gray: np.ndarray) -> float:
    """The standard deviation, in grey levels, below which a window of this picture is paper and noise."""
    # The median of the second differences is noise: letters cover less than half of nearly every picture.
    second = np.abs(cv2.Laplacian(gray[: 2 * (gray.shape[0] // 2)], cv2.CV_16S)[::3, ::2])
    # Whole numbers are counted, which takes a tenth of the time of sorting so many of them.
    up_to = np.bincount(second.ravel()).cumsum()
    low, high = np.searchsorted(up_to, [(second.size - 1) // 2, second.size // 2], side="right")
    noise = float(low + high) / 2 / 3.0
    return min(max(LOWEST_CONTRAST, 2.0 * noise), HIGHEST_FLOOR)


def _local_decisions(gray: np.ndarray, floor: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """On the grid: the threshold, where ink is light, where all is paper (masks of 0 and 255), all uint8."""
    powers = _grid_powers(gray)
    threshold, light_ink, contrast = _decide(_window_moments(powers, WINDOWS[-1]))
    for window in reversed(WINDOWS[:-1]):
        narrow_threshold, narrow_light, narrow_contrast = _decide(_window_moments(powers, window))
        # A third of the wider window's contrast: else a photo nearby would swallow faint print.
        use = narrow_contrast > np.maximum(floor, 0.33 * contrast)
        threshold = np.where(use, narrow_threshold, threshold)
        light_ink = np.where(use, narrow_light, light_ink)
        contrast = np.where(use, narrow_contrast, contrast)
    as_mask = np.uint8(255)
    return np.clip(threshold, 0, 255).astype(np.uint8), light_ink * as_mask, (contrast <= floor) * as_mask


def _grid_powers(gray: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means of the grey values and of their squares and cubes in each square of the grid."""
    size = (max(gray.shape[1] // GRID, 1), max(gray.shape[0] // GRID, 1))
    # Centred at 128, else float32 loses the third moment of a bright page.
    values = gray.astype(np.float32) - 128
    square = values * values
    first, second = (cv2.resize(part, size, interpolation=cv2.INTER_AREA) for part in (values, square))
    return first, second, cv2.resize(square * values, size, interpolation=cv2.INTER_AREA)


def _window_moments(powers: tuple[np.ndarray, np.ndarray, np.ndarray], window: int) -> _Moments:
    side = window // GRID
    mean, second, third = (cv2.boxFilter(part, -1, (side, side)) for part in powers)
    variance = np.maximum(second - mean * mean, 0)
    return _Moments(mean + 128, np.sqrt(variance), third - 3 * mean * second + 2 * mean**3)


def _decide(moments: _Moments) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The two-value mixture's midpoint, where its light part is the rarer one, and its contrast."""
    cube = moments.std**3 + 1
    skew = np.clip(moments.third / cube, -2.5, 2.5)
    threshold = moments.mean + 0.45 * skew * moments.std
    # Polarity is a matter of a region: at the edge of a letter a single window may be undecided.
    wide = (WINDOWS[0] // GRID, WINDOWS[0] // GRID)
    light_ink = cv2.boxFilter(moments.third, -1, wide) > DARK_BIAS * cv2.boxFilter(cube, -1, wide)
    return threshold, light_ink, moments.std
