"""Renders the pages of a PDF as pictures, with filled form fields.

pdfium is not thread-safe, so use one thread, or a lock around it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from nanoocr.errors import PictureError
from nanoocr.pdf_scale import POINTS_PER_INCH, scale_of

if TYPE_CHECKING:
    from pypdfium2 import PdfDocument


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
    try:
        _open_forms(document, name)
    except PictureError:
        document.close()
        raise
    return document


def _open_forms(document: PdfDocument, name: str) -> None:
    """Prepare pdfium to draw form fields. This has to happen before the first page is opened.

    Raises:
        PictureError: the document's pages are a placeholder for a form that only Adobe's programs draw.
    """
    from pypdfium2 import PdfFormEnv, PdfiumError
    from pypdfium2.raw import FORMTYPE_XFA_FULL, FPDF_FORMFILLINFO, FPDFDOC_InitFormFillEnvironment

    if document.get_formtype() == FORMTYPE_XFA_FULL:
        document_is = f"{name} is an XFA form, whose fields only Adobe's programs show"
        raise PictureError(f"{document_is}: print it into a new PDF there, and read that.")
    logging.getLogger("pypdfium2").setLevel(logging.ERROR)  # it would explain how to build pypdfium2 with XFA
    with contextlib.suppress(PdfiumError):  # a damaged form must not cost the page that it is on
        document.init_forms()
    if document.formenv is None:
        # Programs that join PDFs often drop the document's list of fields and keep the fields on the pages.
        # pypdfium2 prepares nothing without such a list.
        config = FPDF_FORMFILLINFO(version=2)
        if handle := FPDFDOC_InitFormFillEnvironment(document, config):
            document.formenv = PdfFormEnv(handle, config)


def render_page(document: PdfDocument, number: int, name: str) -> Image.Image:
    """Page `number` (from 1) as RGB, at the resolution that `scale_of` finds.

    Raises:
        PictureError: it is too large to be shown legibly, or cannot be rendered.
    """
    from pypdfium2 import PdfiumError

    try:
        page = document[number - 1]
        if not all(page.get_size()):
            page.set_cropbox(*page.get_mediabox())  # a crop box beside the page shows nothing of it
        scale = scale_of(page, f"{name}, page {number},")
        image = page.render(scale=scale).to_pil().convert("RGB")
        image.info["dpi"] = (scale * POINTS_PER_INCH,) * 2
        return image
    except (PdfiumError, ValueError) as error:
        raise PictureError(f"{name}, page {number}, cannot be rendered: {error}.") from error
