"""Renders the pages of a PDF as pictures, with filled form fields.

pdfium is not thread-safe, so use one thread, or a lock around it.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from nanoocr.errors import PictureError
from nanoocr.picture_header import MAX_PIXELS

if TYPE_CHECKING:
    from pypdfium2 import PdfDocument, PdfPage

PDF_DPI = 200  # scanned text usually has 200 to 300
LEAST_DPI = 30  # Letters of 12 points are 5 pixels high at this resolution; a page below it is refused.
POINTS_PER_INCH = 72  # the unit of PDF page sizes
LEAST_SIDE = 200  # The longer side gets at least this many pixels, however small the page claims to be.
SCAN_PIXELS = 16_000_000  # A page is enlarged for the scan on it up to this many pixels; no view shows more.
MAIN_PICTURE = 0.25  # A picture that covers at least this share of the page counts as its scan.
MOST_OBJECTS = 1000  # At most this many objects are searched for the scan, which is one of the first.


def open_pdf(source: str | Path | bytes | Image.Image, name: str) -> PdfDocument:
    """Open the document, and prepare pdfium to draw filled form fields.

    Raises:
        PictureError: it is encrypted, damaged, without pages, or cannot be opened.
    """
    from pypdfium2 import PdfDocument, PdfiumError
    from pypdfium2.raw import FPDF_LoadMemDocument

    # pdfium says the error of an earlier file again where a document merely has no pages. An empty file's
    # error, which is that of a damaged file, takes its place.
    FPDF_LoadMemDocument(b"", 0, None)
    if isinstance(source, str | Path):
        # pypdfium2 would take the ~ in ~draft.pdf for somebody's home folder
        source = os.path.abspath(source)
    try:
        document = PdfDocument(source)
    except PdfiumError as error:
        # pdfium names a missing password or an unknown encryption scheme; other messages mean damage.
        if re.search("password|security", str(error), re.IGNORECASE):
            message = f"{name} is encrypted: remove the password first."
            raise PictureError(message, kind="encrypted") from error
        raise PictureError(
            f"{name} is a PDF that cannot be opened: it is damaged or has no pages."
        ) from error
    except OSError as error:
        raise PictureError(f"{name} cannot be opened: {error}.") from error
    with contextlib.suppress(PdfiumError):  # a damaged form must not cost the page that it is on
        document.init_forms()  # before the first page, because pdfium draws form fields only then
    return document


def render_page(document: PdfDocument, number: int, name: str) -> Image.Image:
    """Page `number` (from 1) as RGB, at the resolution that `scale_of` finds.

    Raises:
        PictureError: it is too large to be shown legibly, or cannot be rendered.
    """
    from pypdfium2 import PdfiumError

    try:
        page = document[number - 1]
        scale = scale_of(page, f"{name}, page {number},")
        image = page.render(scale=scale).to_pil().convert("RGB")
        image.info["dpi"] = (scale * POINTS_PER_INCH,) * 2
        return image
    except (PdfiumError, ValueError) as error:
        raise PictureError(f"{name}, page {number}, cannot be rendered: {error}.") from error


def scale_of(page: PdfPage, name: str) -> float:
    """Pixels per point: PDF_DPI, or more where the page holds more, or less where that is too many pixels.

    The size that a page claims says little about its content. Programs that mistake a unit write scans of 600
    pixels on pages of a third of an inch, and a wall map may have the letters of an ordinary page.

    Raises:
        PictureError: even with MAX_PIXELS it would have less than LEAST_DPI.
    """
    width, height = page.get_size()
    if not (width > 0 and height > 0 and math.isfinite(width * height)):
        raise PictureError(f"{name} has no size ({width:g} x {height:g} points).", kind="empty")
    most = math.sqrt(MAX_PIXELS / (width * height))
    if most < LEAST_DPI / POINTS_PER_INCH:
        raise PictureError(
            f"{name} is too large: {width:.0f} x {height:.0f} points are more than {MAX_PIXELS:,} pixels at "
            f"{LEAST_DPI} dpi.",
            kind="too_large",
        )
    usual = PDF_DPI / POINTS_PER_INCH
    of_scan = min(_scan_scale(page, width * height), math.sqrt(SCAN_PIXELS / (width * height)))
    of_view = min(LEAST_SIDE / max(width, height), math.sqrt(SCAN_PIXELS / (width * height)))
    return min(max(usual, of_scan, of_view), most)


def _scan_scale(page: PdfPage, area: float) -> float:
    """Pixels per point of the picture that covers most of the page; 0 where none covers much of it."""
    from pypdfium2 import PdfiumError
    from pypdfium2.raw import FPDF_PAGEOBJ_IMAGE

    covered, scale = MAIN_PICTURE * area, 0.0
    for seen, item in enumerate(page.get_objects(max_depth=3)):
        if seen >= MOST_OBJECTS:
            break
        if item.type != FPDF_PAGEOBJ_IMAGE:
            continue
        try:
            (left, bottom, right, top), pixels = item.get_bounds(), item.get_px_size()
        except PdfiumError:
            continue
        # A picture may be rotated and extend beyond the page, but the ratio of its two areas still gives the
        # scale.
        place = (right - left) * (top - bottom)
        if place >= covered and min(pixels) > 0:
            # A little less, because sides are rounded up, and one extra pixel would blur them all.
            covered, scale = place, math.sqrt(pixels[0] * pixels[1] / place) * (1 - 1e-6)
    return scale
