"""A picture as a PDF image without loss: the bytes of a JPEG as they are, everything else deflated as in PNG.

Sources: ISO 32000-1, 8.9 (images) and 7.4.4 (Flate with PNG predictors); PNG 1.2 for its chunks.
"""

from __future__ import annotations

import io
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageOps, JpegImagePlugin, PngImagePlugin

from nanoocr.alpha import has_deep_colours
from nanoocr.errors import PictureError
from nanoocr.picture_header import DECODE_ERRORS, Look, mend_tiff, one_line, read_header, read_look
from nanoocr.pictures import find_dpi, open_image, page_frames, read_bytes

if TYPE_CHECKING:
    import pikepdf

PictureSource = str | Path | bytes | Image.Image
Matrix = tuple[float, float, float, float, float, float]

PNG_HEAD = b"\x89PNG\r\n\x1a\n"
PLAIN = ("1", "L", "P", "RGB")  # modes that PDF shows as they are
SPACES = {"L": "/DeviceGray", "RGB": "/DeviceRGB", "CMYK": "/DeviceCMYK"}
# How the unit square of a picture, y upwards, has to be turned so that each EXIF orientation stands upright.
UPRIGHT: dict[int, Matrix] = {
    1: (1, 0, 0, 1, 0, 0),
    2: (-1, 0, 0, 1, 1, 0),
    3: (-1, 0, 0, -1, 1, 1),
    4: (1, 0, 0, -1, 0, 1),
    5: (0, -1, -1, 0, 1, 1),
    6: (0, -1, 1, 0, 0, 1),
    7: (0, 1, 1, 0, 0, 0),
    8: (0, 1, -1, 0, 1, 0),
}


@dataclass(frozen=True)
class Embedded:
    """An image object and how to draw it: `matrix` turns its unit square upright, `size` is then its size."""

    image: pikepdf.Stream
    matrix: Matrix
    size: tuple[int, int]  # (width, height) in square pixels
    dpi: float | None


def embed(pdf: pikepdf.Pdf, source: PictureSource, page: int, name: str) -> Embedded:
    """The picture as an image object of `pdf`; `page` counts the pages of a TIFF from 1.

    Raises:
        PictureError: the picture cannot be opened.
    """
    try:
        if isinstance(source, Image.Image):
            image = open_image(source, name=name)
            return _embed_png(pdf, _as_png(image), Look((image.height, image.width)), find_dpi(image))
        return _embed_file(pdf, read_bytes(source, name), page, name)
    except PictureError as error:
        if error.kind == "missing":
            message = f"{name} is not to be found, so it cannot be put into a PDF."
            raise PictureError(message, kind="missing") from error
        raise PictureError(f"{name} cannot be put into a PDF: {error}", kind=error.kind) from error
    except DECODE_ERRORS as error:
        raise PictureError(f"{name} cannot be put into a PDF: {one_line(error)}.") from error


def _embed_file(pdf: pikepdf.Pdf, content: bytes, page: int, name: str) -> Embedded:
    """As `embed`, from an encoded picture; decoders raise whatever they like."""
    image = read_header(content, name)
    frame = page_frames(content, name)[page - 1]
    image.seek(frame)
    mend_tiff(image)
    look, dpi = read_look(image, content), find_dpi(image)
    if isinstance(image, JpegImagePlugin.JpegImageFile) and image.mode in SPACES:
        return _embed_jpeg(pdf, content, image, look, dpi)
    if _is_plain_png(image, look):
        return _embed_png(pdf, content, look, dpi)
    if look.reduction == 1 and image.mode in PLAIN and not _needs_a_look(image, look):
        image.load()
        return _embed_png(pdf, _as_png(ImageOps.exif_transpose(image)), look, dpi)
    return _embed_png(pdf, _as_png(open_image(content, frame=frame, name=name)), look, dpi)


def _embed_jpeg(
    pdf: pikepdf.Pdf, content: bytes, image: Image.Image, look: Look, dpi: float | None
) -> Embedded:
    from pikepdf import Array, Name, Stream

    # What stands behind the first picture of a phone's file is passed over by all viewers.
    stream = Stream(pdf, content)
    stream.Filter = Name.DCTDecode
    _describe(stream, image.width, image.height, 8)
    stream.ColorSpace = Name(SPACES[image.mode])
    if image.mode == "CMYK" and "adobe" in image.info:
        stream.Decode = Array([1, 0] * 4)  # Adobe's programs store the inverse of each ink
    return Embedded(pdf.make_indirect(stream), UPRIGHT[look.orientation], _shown(look), dpi)


def _embed_png(pdf: pikepdf.Pdf, png: bytes, look: Look, dpi: float | None) -> Embedded:
    """The upright picture as the compressed rows of a PNG, which PDF takes as they are."""
    return Embedded(pdf.make_indirect(_png_stream(pdf, png)), UPRIGHT[1], _shown(look), dpi)


def _shown(look: Look) -> tuple[int, int]:
    """(width, height) upright and with square pixels: a fax is stretched by its page and keeps its pixels."""
    height, width = look._replace(reduction=1).upright(sys.maxsize)
    return width, height


def _is_plain_png(image: Image.Image, look: Look) -> bool:
    """Whether the rows of a file show, as they are, what is to be seen."""
    return (
        isinstance(image, PngImagePlugin.PngImageFile)
        and image.mode in PLAIN
        and look.orientation == 1
        and not image.info.get("interlace")
        and not _needs_a_look(image, look)
    )


def _needs_a_look(image: Image.Image, look: Look) -> bool:
    """Whether a PDF would not show the pixels as `open_image` does: for their alpha, depth or scale."""
    return image.has_transparency_data or has_deep_colours(image) or look.white is not None


def _as_png(image: Image.Image) -> bytes:
    """An upright picture without alpha, in the smallest form that holds all its pixels."""
    if image.mode == "RGB":
        red, green, blue = image.split()
        if red.tobytes() == green.tobytes() == blue.tobytes():
            image = red
    file = io.BytesIO()
    image.save(file, format="PNG", optimize=True)
    return file.getvalue()


def _png_stream(pdf: pikepdf.Pdf, png: bytes) -> pikepdf.Stream:
    from pikepdf import Array, Dictionary, Name, Stream, String

    width = height = depth = kind = 0
    palette, rows = b"", []
    for tag, chunk in _chunks(png):
        if tag == b"IHDR":
            width, height, depth, kind = struct.unpack(">IIBB", chunk[:10])
        elif tag == b"PLTE":
            palette = chunk
        elif tag == b"IDAT":
            rows.append(chunk)
    colors = 3 if kind == 2 else 1
    stream = Stream(pdf, b"".join(rows))
    stream.Filter = Name.FlateDecode
    stream.DecodeParms = Dictionary(Predictor=15, Colors=colors, BitsPerComponent=depth, Columns=width)
    _describe(stream, width, height, depth)
    if kind == 3:
        last = len(palette) // 3 - 1
        stream.ColorSpace = Array([Name.Indexed, Name.DeviceRGB, last, String(palette)])
    else:
        stream.ColorSpace = Name.DeviceRGB if kind == 2 else Name.DeviceGray
    return stream


def _chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = len(PNG_HEAD)
    while at + 8 <= len(png):
        (size,) = struct.unpack_from(">I", png, at)
        yield png[at + 4 : at + 8], png[at + 8 : at + 8 + size]
        at += size + 12  # the size, the tag and the checksum are four bytes each


def _describe(stream: pikepdf.Stream, width: int, height: int, bits: int) -> None:
    from pikepdf import Name

    stream.Type, stream.Subtype = Name.XObject, Name.Image
    stream.Width, stream.Height, stream.BitsPerComponent = width, height, bits
