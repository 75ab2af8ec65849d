"""A line of text becomes strips: the views of 64 pixels' height in which the model reads it.

The line is warped until its baseline is level at y = 48 and its capitals are 34 pixels high. So there is
room for accents above the capitals, and descenders end near y = 58. Training draws them 32 pixels high, give
or take a fifth; a little larger than that the model reads best (docs/log.md, 2026-11-29).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from nanoocr.layout.types import Strip, TextLine

STRIP_HEIGHT = 64
VIEW_WIDTHS = (64, 128, 192, 256, 320, 384, 448, 512, 640, 768)
BASELINE, CAP_HEIGHT = 48, 34
MARGIN = 10  # pixels of paper left and right of the ink
TARGET_WIDTH = 600  # a line that is cut gives pieces of about this width
COLUMN_GAP = 3.0  # cap heights of blank that separate two strips even of a short line
# A blank this wide, in cap heights, surely stands between words. Where there is none, the widest one is taken
# for such, and one that is much narrower than that may stand between two letters of a word.
SURE_BLANK, MUCH_NARROWER = 0.6, 0.7


@dataclass(frozen=True)
class _Piece:
    """A part of a line along its baseline, in pixels of the page, and the blanks before and behind it."""

    start: float
    end: float
    before: float = np.inf
    behind: float = np.inf


def cut_strips(image: Image.Image, line: TextLine, number: int = 0) -> list[Strip]:
    """Cuts a line out of the RGB page that `find_page` found it on; returns its strips from left to right."""
    along = lengths_along(line)
    pieces = [
        part for piece in _columns(line, float(along[-1])) for part in _shorten(piece, image, line, along)
    ]
    return [_cut(image, line, along, piece, number) for piece in pieces]


def stretch_strip(strip: Strip, high: float, wide: float) -> Strip:
    """The same piece of a line with its letters `high` times as high and `wide` times as wide.

    The baseline stays at y = 48. A strip that would become wider than the widest view is widened less.
    """
    old_width, room = strip.used[1] - strip.used[0], VIEW_WIDTHS[-1] - 2 * MARGIN
    wide = min(wide, room / max(old_width, 1))
    ink_width = min(int(np.ceil(old_width * wide)), room)
    width = _view_width(ink_width)
    to_old = np.array(
        [[1 / wide, 0.0, strip.used[0] - MARGIN / wide], [0.0, 1 / high, BASELINE - BASELINE / high]]
    )
    # warpAffine counts from the centres of pixels, and the map from their edges: x' + 1/2 = factor (x + 1/2).
    centres = to_old + np.array([[0.0, 0.0, 0.5 / wide - 0.5], [0.0, 0.0, 0.5 / high - 0.5]])
    pixels = _warp_affine(strip.image, centres, width)
    to_page = strip.to_page @ np.vstack([to_old, [0.0, 0.0, 1.0]])
    return Strip(pixels, to_page, (MARGIN, min(MARGIN + ink_width, width)), strip.line)


def lengths_along(line: TextLine) -> np.ndarray:
    """How far along the baseline each of its points lies."""
    points = np.asarray(line.baseline)
    return np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])


def _columns(line: TextLine, length: float) -> list[_Piece]:
    """The line's parts between blanks that only columns have."""
    pieces, start = [], 0.0
    for low, high in line.gaps:
        if high - low > COLUMN_GAP * line.cap_height:
            pieces.append(_Piece(start, low))
            start = high
    pieces.append(_Piece(start, length))
    return [piece for piece in pieces if piece.end > piece.start]


def _shorten(piece: _Piece, image: Image.Image, line: TextLine, along: np.ndarray) -> list[_Piece]:
    """Cuts a piece at blanks between words until each part fits the widest view."""
    scale = CAP_HEIGHT / line.cap_height
    room = (VIEW_WIDTHS[-1] - 2 * MARGIN) / scale
    parts: list[_Piece] = []
    # A loop, as a line of a hundred parts would be a hundred calls deep.
    while piece.end - piece.start > room:
        length = piece.end - piece.start
        target = length / np.ceil(length * scale / TARGET_WIDTH)
        low, high = piece.start + 0.6 * target, piece.start + min(1.3 * target, room)
        middle = piece.start + target
        blanks = [
            gap for gap in line.gaps if low < (gap[0] + gap[1]) / 2 < high and gap[0] < piece.start + room
        ]
        if blanks:
            cut = _best_cut(blanks, middle, SURE_BLANK * line.cap_height)
        else:
            cut = (_emptiest(image, line, along, _Piece(low, high)),) * 2
        parts.append(_Piece(piece.start, cut[0], piece.before, cut[1] - cut[0]))
        piece = _Piece(cut[1], piece.end, cut[1] - cut[0], piece.behind)
    return [*parts, piece]


def _best_cut(blanks: list[tuple[float, float]], middle: float, sure: float) -> tuple[float, float]:
    """The blank between words that lies nearest to the middle, or a wider one not much farther away.

    From the width `sure` on all are alike: in a very wide one a dash may stand that is too pale to be found.
    """
    widest = min(max(end - start for start, end in blanks), sure)
    between_words = [(start, end) for start, end in blanks if end - start >= MUCH_NARROWER * widest]

    def worth(blank: tuple[float, float]) -> float:
        """Its width, less what its distance from the middle costs, in pixels of the page."""
        return min(blank[1] - blank[0], sure) - 0.2 * abs(sum(blank) / 2 - middle)

    return max(between_words, key=worth)


def _emptiest(image: Image.Image, line: TextLine, along: np.ndarray, piece: _Piece) -> float:
    """Where, along the baseline, a stretch without blanks has the least ink."""
    scale = CAP_HEIGHT / line.cap_height
    width = max(int((piece.end - piece.start) * scale), 1)
    pixels, _ = _warp(image, _strip_to_page(line, along, piece, scale), width + MARGIN)
    letters = pixels[BASELINE - CAP_HEIGHT - 8 : BASELINE + 8, MARGIN:].astype(np.float32)
    contrast = letters.std(axis=0).sum(axis=1)
    # The mean of a few columns finds the middle of a blank, where the columns alone would find its rim.
    smooth = cv2.blur(contrast[None], (5, 1))[0]
    return piece.start + (float(smooth.argmin()) + 0.5) / scale


def _cut(image: Image.Image, line: TextLine, along: np.ndarray, piece: _Piece, number: int) -> Strip:
    scale = CAP_HEIGHT / line.cap_height
    ink_width = int(np.ceil((piece.end - piece.start) * scale))
    width = _view_width(ink_width)
    used = (MARGIN, min(MARGIN + ink_width, width))
    to_page = _strip_to_page(line, along, piece, scale)
    pixels, inside = _warp(image, to_page, width)
    foreign = _foreign(line, to_page, width)
    paper = _paper_colour(pixels, inside & ~foreign, used)
    pixels[~inside | foreign] = paper
    # The next words of the line stand behind narrow blanks, within the margins.
    soft = max(0.8 * scale, 1.0)
    left = np.clip(np.ceil(MARGIN - piece.before * scale + soft), 0, MARGIN)
    right = used[1] + min(piece.behind * scale - soft, MARGIN)
    pixels[:, : int(left)] = paper
    pixels[:, max(int(right), used[1]) :] = paper
    return Strip(pixels, to_page, used, number)


def _strip_to_page(line: TextLine, along: np.ndarray, piece: _Piece, scale: float) -> np.ndarray:
    """The affine map from strip to page that lays the piece's stretch of the baseline on y = 48."""
    points = np.asarray(line.baseline)
    start, end = (
        np.array([np.interp(at, along, points[:, 0]), np.interp(at, along, points[:, 1])])
        for at in (piece.start, piece.end)
    )
    direction = (end - start) / max(float(np.hypot(*(end - start))), 1e-6)
    down = np.array([-direction[1], direction[0]])
    origin = start - direction * MARGIN / scale - down * BASELINE / scale
    return np.stack([direction / scale, down / scale, origin], axis=1)


def _warp(image: Image.Image, to_page: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The strip's pixels (64, W, 3) uint8, and which of them lie on the page (64, W) bool."""
    corners = np.array([[0, 0, 1], [width, 0, 1], [0, STRIP_HEIGHT, 1], [width, STRIP_HEIGHT, 1]])
    on_page = corners @ to_page.T
    low = np.maximum(np.floor(on_page.min(axis=0)).astype(int) - 3, 0)
    high = np.minimum(np.ceil(on_page.max(axis=0)).astype(int) + 4, image.size)
    region = np.asarray(image.crop((*low, *np.maximum(high, low + 1))))
    matrix = to_page.copy()
    matrix[:, 2] -= low
    shrink = float(np.hypot(*to_page[:, 0]))  # page pixels per strip pixel
    if shrink > 1.3:
        # Bicubic interpolation alone would skip pixels of large letters, so the region is averaged first.
        size = (max(round(region.shape[1] / shrink), 1), max(round(region.shape[0] / shrink), 1))
        factors = np.array([size[0] / region.shape[1], size[1] / region.shape[0]])
        region = cv2.resize(region, size, interpolation=cv2.INTER_AREA)
        # Pixel centres: x' + 1/2 = factor (x + 1/2).
        matrix = matrix * factors[:, None]
        matrix[:, 2] += 0.5 * factors - 0.5
    pixels = _warp_affine(region, matrix, width)
    return pixels, _on_page(to_page, on_page, (width, STRIP_HEIGHT), image.size)


def _warp_affine(pixels: np.ndarray, to_pixels: np.ndarray, width: int) -> np.ndarray:
    """A strip (64, W, 3) uint8 out of pixels; `to_pixels` (2, 3) leads from the strip to them."""
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    shape = (width, STRIP_HEIGHT)
    red, green, blue = (cv2.extractChannel(pixels, number) for number in range(3))
    grey = np.array_equal(red, green) and np.array_equal(red, blue)
    pixels = red if grey else pixels  # a third of the work, the same result
    warped = cv2.warpAffine(pixels, to_pixels, shape, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return cv2.merge([warped] * 3) if grey else warped


def _view_width(ink_width: int) -> int:
    """The narrowest view that holds ink of this width and its margins, or the widest one."""
    return next((view for view in VIEW_WIDTHS if view >= ink_width + 2 * MARGIN), VIEW_WIDTHS[-1])


def _on_page(
    to_page: np.ndarray, corners: np.ndarray, strip: tuple[int, int], page: tuple[int, int]
) -> np.ndarray:
    """Which pixels of a strip lie on the page, bool; sizes are (width, height)."""
    if corners.min() > 0 and (corners < np.array(page) - 1).all():
        return np.ones(strip[::-1], dtype=bool)
    x, y = np.arange(strip[0])[None], np.arange(strip[1])[:, None]
    page_x, page_y = (row[0] * x + row[1] * y + row[2] for row in to_page)
    return (page_x > -0.5) & (page_y > -0.5) & (page_x < page[0] - 0.5) & (page_y < page[1] - 0.5)


def _paper_colour(pixels: np.ndarray, inside: np.ndarray, used: tuple[int, int]) -> np.ndarray:
    """The median colour of the rim around the line's ink, (3,) uint8."""
    rim = inside.copy()
    rim[12:54, used[0] : used[1]] = False
    rim[:, used[1] + MARGIN :] = False
    # A quarter of the pixels tells the median as well.
    thin, sample = rim[::2, ::2], pixels[::2, ::2]
    chosen = sample[thin] if thin.any() else sample.reshape(-1, 3)
    return np.array([_median(channel) for channel in chosen.T], dtype=np.uint8)


def _median(values: np.ndarray) -> int:
    """The median of bytes, rounded down: counting them is several times as fast as sorting them."""
    up_to = np.bincount(values, minlength=256).cumsum()
    low, high = np.searchsorted(up_to, [(len(values) - 1) // 2, len(values) // 2], side="right")
    return int(low + high) // 2


def _foreign(line: TextLine, to_page: np.ndarray, width: int) -> np.ndarray:
    """Which of the strip's pixels (64, W) show ink that is known to belong to other lines, bool."""
    mask = np.zeros((STRIP_HEIGHT, width), dtype=bool)
    inverse = np.linalg.inv(to_page[:, :2])
    corners = (line.foreign - to_page[:, 2]) @ inverse.T
    # Ink has soft edges of about a pixel of the page.
    soft = 0.9 / float(np.hypot(*to_page[:, 0]))
    low = np.maximum(np.floor(corners.min(axis=1) - soft).astype(int), 0)
    high = np.maximum(np.ceil(corners.max(axis=1) + soft).astype(int), 0)
    for (x0, y0), (x1, y1) in zip(low, high):
        mask[y0:y1, x0:x1] = True
    return mask
