"""A picture as a PDF image without loss: the bytes of a JPEG as they are, everything else deflated as in PNG.

Sources: ISO 32000-1, 8.9 (images) and 7.4.4 (Flate with PNG predictors); PNG 1.2 for its chunks.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageOps

from nanoocr.errors import PictureError
from nanoocr.picture_header import DECODE_ERRORS
from nanoocr.pictures import find_dpi

if TYPE_CHECKING:
    import pikepdf

PictureSource = str | Path | bytes | Image.Image
Matrix = tuple[float, float, float, float, float, float]

PNG_HEAD = b"\x89PNG\r\n\x1a\n"
ORIENTATION, SUBFILE_TYPE, SMALLER_OR_MASK = 274, 254, 1 | 4
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
    size: tuple[int, int]  # (width, height)
    dpi: float | None


def embed(pdf: pikepdf.Pdf, source: PictureSource, page: int, name: str) -> Embedded:
    """The picture as an image object of `pdf`; `page` counts the pages of a TIFF from 1.

    Raises:
        PictureError: the picture cannot be opened.
    """
    try:
        content = source if isinstance(source, bytes | Image.Image) else Path(source).read_bytes()
        image = content if isinstance(content, Image.Image) else Image.open(io.BytesIO(content))
        image.seek(_frames(image)[page - 1])
        dpi = find_dpi(image)
        # MPO is what phones write: a JPEG with further pictures behind it.
        if image.format in ("JPEG", "MPO") and isinstance(content, bytes) and image.mode in SPACES:
            return _embed_jpeg(pdf, content, image, dpi)
        return _embed_pixels(pdf, content, image, dpi)
    except FileNotFoundError as error:
        message = f"{name} is not to be found, so it cannot be put into a PDF."
        raise PictureError(message, kind="missing") from error
    except DECODE_ERRORS as error:
        raise PictureError(f"{name} cannot be put into a PDF: {error}.") from error


def _frames(image: Image.Image) -> list[int]:
    """The frames that are pages: of a TIFF all but smaller copies and masks, else the first."""
    if image.format != "TIFF":
        return [0]
    frames = []
    for frame in range(getattr(image, "n_frames", 1)):
        image.seek(frame)
        tags = getattr(image, "tag_v2", {})
        if not tags.get(SUBFILE_TYPE, 0) & SMALLER_OR_MASK:
            frames.append(frame)
    return frames or [0]


def _embed_jpeg(pdf: pikepdf.Pdf, content: bytes, image: Image.Image, dpi: float | None) -> Embedded:
    from pikepdf import Array, Name, Stream

    stream = Stream(pdf, content)
    stream.Filter = Name.DCTDecode
    _describe(stream, image.width, image.height, 8)
    stream.ColorSpace = Name(SPACES[image.mode])
    if image.mode == "CMYK" and "adobe" in image.info:
        stream.Decode = Array([1, 0] * 4)  # Adobe's programs store the inverse of each ink
    orientation = image.getexif().get(ORIENTATION, 1)
    turned = orientation in (5, 6, 7, 8)
    size = (image.height, image.width) if turned else image.size
    return Embedded(pdf.make_indirect(stream), UPRIGHT.get(orientation, UPRIGHT[1]), size, dpi)


def _embed_pixels(
    pdf: pikepdf.Pdf, content: bytes | Image.Image, image: Image.Image, dpi: float | None
) -> Embedded:
    """The picture as the compressed rows of a PNG, which PDF takes as they are."""
    untouched = (
        isinstance(content, bytes)
        and image.format == "PNG"
        and not image.info.get("interlace")
        and not _has_alpha(image)
        and image.getexif().get(ORIENTATION, 1) == 1
    )
    png = content if untouched and isinstance(content, bytes) else _as_png(image)
    stream = _png_stream(pdf, png)
    return Embedded(pdf.make_indirect(stream), UPRIGHT[1], (int(stream.Width), int(stream.Height)), dpi)


def _has_alpha(image: Image.Image) -> bool:
    return image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info


def _as_png(image: Image.Image) -> bytes:
    """The picture upright on white, in the smallest form that holds all its pixels."""
    image.load()
    upright = ImageOps.exif_transpose(image)
    if _has_alpha(upright):
        layered = upright.convert("RGBA")
        white = Image.new("RGBA", layered.size, "white")
        upright = Image.alpha_composite(white, layered).convert("RGB")
    elif upright.mode not in ("1", "L", "P", "RGB", "I;16"):
        upright = upright.convert("RGB")
    file = io.BytesIO()
    upright.save(file, format="PNG", optimize=True)
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
