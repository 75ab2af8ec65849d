"""Finds the resolution at which a PDF page is drawn: that of its scan and of its letters, within limits.

The size that a page claims says little about its content. Programs that mistake a unit write scans of 600
pixels on pages of a third of an inch, pages may count in a unit of their own (/UserUnit), and a wall map may
have the letters of an ordinary page.
"""

from __future__ import annotations

import contextlib
import math
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from nanoocr.errors import PictureError
from nanoocr.picture_header import MAX_PIXELS

if TYPE_CHECKING:
    from pypdfium2 import PdfImage, PdfObject, PdfPage

PDF_DPI = 200  # scanned text usually has 200 to 300
LEAST_DPI = 30  # Letters of 12 points are 5 pixels high at this resolution; a page below it is refused.
POINTS_PER_INCH = 72  # the unit of PDF page sizes
# The longer side gets at least this many pixels, however small the page claims to be; and more pixels where
# its letters may be lines or patterns, whose height nobody knows.
LEAST_SIDE, LEAST_SIDE_OF_DRAWING = 200, 600
SCAN_PIXELS = 16_000_000  # A page is enlarged for its content up to this many pixels; no view shows more.
# Pictures that cover together at least this share of the page count as its scan; on a page with fewer than
# SMALL_PAGE pixels at PDF_DPI, whose size is to be doubted, the smaller share is enough.
MAIN_PICTURE, PICTURE_OF_SMALL_PAGE, SMALL_PAGE = 0.25, 0.02, 500_000
SAME_SCALE = 1.2  # Strips of one scan differ less in scale, because their sides are rounded to pixels.
LETTER_PIXELS = 12  # Most lines of text get at least this height.
TALLER = 0.75  # The share of lines that are lower than the one that LETTER_PIXELS is meant for.
MOST_OBJECTS = 50_000  # At most this many objects are looked at, which takes a third of a second.
MOST_FORMS = 8  # At most this many forms are entered that stand within each other.


class Content(NamedTuple):
    """What a page shows, measured on the page."""

    pictures: list[tuple[float, float]]  # (area in square points, pixels per point)
    heights: list[float]  # of the ink of each visible text, in points
    is_drawing: bool  # there are lines or areas, and no text


def scale_of(page: PdfPage, name: str) -> float:
    """Pixels per point: PDF_DPI, or more where the page holds more, or less where that is too many pixels.

    Raises:
        PictureError: even with MAX_PIXELS it would have less than LEAST_DPI.
    """
    width, height = page.get_size()
    if not (width > 0 and height > 0 and math.isfinite(width * height)):
        raise PictureError(f"{name} has no size ({width:g} x {height:g} points).", kind="empty")
    area = width * height
    # Sides are rounded up, so each may gain a pixel: (width * most + 1) * (height * most + 1) is the limit.
    around = width + height
    most = (math.sqrt(around**2 + 4 * area * (MAX_PIXELS - 1)) - around) / (2 * area)
    if most < LEAST_DPI / POINTS_PER_INCH:
        raise PictureError(
            f"{name} is too large: {width:.0f} x {height:.0f} points are more than {MAX_PIXELS:,} pixels at "
            f"{LEAST_DPI} dpi.",
            kind="too_large",
        )
    usual = PDF_DPI / POINTS_PER_INCH
    content = _measure(page)
    least = LEAST_SIDE_OF_DRAWING if content.is_drawing else LEAST_SIDE
    wanted = max(scan_scale(content, area), _letter_scale(content), least / max(width, height))
    return min(max(usual, min(wanted, math.sqrt(SCAN_PIXELS / area))), most)


def scan_scale(content: Content, area: float) -> float:
    """Pixels per point of the finest pictures that cover enough of a page of `area`; 0 where none do.

    A scan may be cut into strips or tiles, so pictures of one scale count together.
    """
    is_small = area * (PDF_DPI / POINTS_PER_INCH) ** 2 < SMALL_PAGE
    enough = area * (PICTURE_OF_SMALL_PAGE if is_small else MAIN_PICTURE)
    pictures = sorted(content.pictures, key=lambda picture: -picture[1])
    covered, end = 0.0, 0  # by the pictures from `finest` up to `end`
    for place, finest in pictures:
        while end < len(pictures) and pictures[end][1] * SAME_SCALE >= finest:
            covered += pictures[end][0]
            end += 1
        # The sum of many areas is a little less than the whole.
        if covered >= enough * (1 - 1e-6):
            # A little less, because sides are rounded up, and one extra pixel would blur them all.
            return finest * (1 - 1e-6)
        covered -= place
    return 0.0


def _letter_scale(content: Content) -> float:
    """Pixels per point at which most of the text is legible; 0 where there is none."""
    if not content.heights:
        return 0.0
    return LETTER_PIXELS / sorted(content.heights)[int(TALLER * (len(content.heights) - 1))]


def _measure(page: PdfPage) -> Content:
    from pypdfium2 import PdfImage, PdfiumError, PdfTextObj
    from pypdfium2.raw import FPDF_TEXTRENDERMODE_INVISIBLE, FPDFTextObj_GetTextRenderMode

    pictures, heights, lines = list[tuple[float, float]](), list[float](), 0
    for item in islice(page.get_objects(max_depth=MOST_FORMS), MOST_OBJECTS):
        with contextlib.suppress(PdfiumError):
            if isinstance(item, PdfImage):
                pictures.append(_measure_picture(item))
            elif not isinstance(item, PdfTextObj):
                lines += 1
            # Text that a scanner has hidden behind its picture is not what is to be seen.
            elif FPDFTextObj_GetTextRenderMode(item) != FPDF_TEXTRENDERMODE_INVISIBLE:
                left, bottom, right, top = item.get_bounds()
                height = min(right - left, top - bottom) * math.sqrt(_enlargement(item.container))
                if height > 0:
                    heights.append(height)
    return Content(pictures, heights, lines > 0 and not heights)


def _measure_picture(item: PdfImage) -> tuple[float, float]:
    """(area on the page in square points, pixels per point along the side that has more of them)."""
    width, height = item.get_px_size()
    a, b, c, d, _, _ = item.get_matrix().get()
    around = _enlargement(item.container)
    place = abs(a * d - b * c) * around
    if place <= 0 or width <= 0 or height <= 0:
        return 0.0, 0.0
    finer = max(width / math.hypot(a, b), height / math.hypot(c, d)) / math.sqrt(around)
    # A fax has up to four times as many pixels along one side; a shade of one column has no letters.
    return place, min(finer, 2 * math.sqrt(width * height / place))


def _enlargement(item: PdfObject | None) -> float:
    """By how much an object's matrix, and those of the forms around it, enlarge an area.

    A picture is a square of one point in its own coordinates, so for it this is its area on the page.
    """
    area = 1.0
    while item is not None:
        a, b, c, d, _, _ = item.get_matrix().get()
        area *= abs(a * d - b * c)
        item = item.container
    return area
