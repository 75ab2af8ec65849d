"""Pictures in: open any file safely, upright, as RGB on white.

Every size here is (height, width), as in tensors; only Pillow's own calls take (width, height).
"""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import (
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    Image,
    ImageOps,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from nanoocr.errors import PictureError

MAX_PIXELS = 50_000_000  # A4 at 600 dpi has 35 million
MAX_PAGES = 10_000  # of a TIFF: its frames are a chain, found by walking along it

Size = tuple[int, int]  # (height, width)
PictureSource = str | Path | bytes | BinaryIO | Image.Image

# TIFF's tag NewSubfileType and those of its bits that say: a smaller copy, or a mask, of another frame.
SUBFILE_TYPE, SMALLER_OR_MASK = 254, 0b101

# A short list on purpose: every decoder reads foreign bytes, and rare ones are the least tested.
# Importing a plugin registers it in Image.OPEN under its name.
_REGISTERED_PLUGINS = (
    PngImagePlugin,
    JpegImagePlugin,
    WebPImagePlugin,
    TiffImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
)
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF")

# What Pillow's decoders raise on damaged bytes.
_DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    EOFError,
    OverflowError,
    struct.error,
    zlib.error,
)


# ---------------------------------------------------------------------------------------------------
# Opening


def open_image(
    source: PictureSource, *, frame: int = 0, max_pixels: int = MAX_PIXELS, name: str | None = None
) -> Image.Image:
    """Opens a picture upright, as RGB on white: path, bytes, binary stream, or a Pillow image.

    The size is judged from the header, before any pixel is decoded. Of a file with several frames the
    first one is read, or `frame` (see `page_frames`). `name` is what error messages call the picture
    (default: the path). Raises PictureError with kind missing, empty, unreadable or too_large.
    """
    name = name or _name_of(source)
    if isinstance(source, Image.Image):
        return _decode(source, max_pixels, name)
    image = _read_header(read_bytes(source, name), name)
    if frame:
        _go_to(image, frame, name)
    return _decode(image, max_pixels, name)


def page_frames(data: bytes, name: str) -> list[int]:
    """Which frames of an encoded picture are pages: the first; of a TIFF all but smaller copies and masks.

    A frame whose header is damaged is a page too, which `open_image` then refuses: it must not vanish.
    Raises PictureError as open_image does for the header, and for MAX_PAGES frames or more (too_large).
    """
    image = _read_header(data, name)
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return [0]
    frames: list[int] = []
    for frame in range(MAX_PAGES):
        try:
            image.seek(frame)
            is_page = not image.tag_v2.get(SUBFILE_TYPE, 0) & SMALLER_OR_MASK
        except EOFError:
            return frames or [0]
        except _DECODE_ERRORS:
            is_page = True
        if is_page:
            frames.append(frame)
    raise PictureError(f"{name} is too large: its pages do not end before {MAX_PAGES:,}.", kind="too_large")


def upright_size(source: PictureSource, *, name: str | None = None) -> Size:
    """(height, width) of `open_image(source)`, from the header alone: nothing is decoded.

    Raises PictureError as open_image does, but not for damage behind the header.
    """
    name = name or _name_of(source)
    if isinstance(source, Image.Image):
        image = source
    else:
        image = _read_header(read_bytes(source, name), name)
    try:
        turned = image.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
    except _DECODE_ERRORS:
        turned = False
    return (image.width, image.height) if turned else (image.height, image.width)


def _name_of(source: PictureSource) -> str:
    if isinstance(source, (str, Path)):
        return str(source)
    filename = getattr(source, "filename", None) or getattr(source, "name", None)
    return str(filename) if filename else "the picture"


def read_bytes(source: str | Path | bytes | BinaryIO, name: str) -> bytes:
    """The encoded picture. Raises PictureError where the file called `name` is missing or cannot be read."""
    if isinstance(source, bytes):
        return source
    if not isinstance(source, (str, Path)):
        return source.read()
    try:
        return Path(source).read_bytes()
    except FileNotFoundError:
        raise PictureError(f"{name} does not exist.", kind="missing") from None
    except IsADirectoryError:
        raise PictureError(f"{name} is a folder, not a picture.") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the path
        raise PictureError(f"{name} cannot be opened: {error}.") from error


def _read_header(data: bytes, name: str) -> Image.Image:
    """Returns the undecoded picture: size and mode are known, pixels are not."""
    if not data:
        raise PictureError(f"{name} is empty: it has zero bytes.", kind="empty")
    # Image.open would warn or refuse by Pillow's own, process-wide pixel limit before we can ask for the
    # size; calling the format's reader directly leaves the judgement to max_pixels alone.
    reason = f"none of {', '.join(FORMATS)}"
    for format_name in FORMATS:
        reader, accept = Image.OPEN[format_name]
        if accept is None or accept(data[:16]) is not True:
            continue
        try:
            return reader(BytesIO(data), "")
        except Image.DecompressionBombError as error:  # WebP, and GIF frames larger than their screen
            message = f"{name} is too large: it claims more pixels than Pillow opens."
            raise PictureError(message, kind="too_large") from error
        except _DECODE_ERRORS as error:
            reason = f"damaged {format_name}: {_one_line(error)}"
    raise PictureError(f"{name} is not a picture that can be read ({reason}).")


def _go_to(image: Image.Image, frame: int, name: str) -> None:
    try:
        image.seek(frame)
    except _DECODE_ERRORS as error:
        raise PictureError(f"{name} is damaged or cut off: {_one_line(error)}.") from error


def _decode(image: Image.Image, max_pixels: int, name: str) -> Image.Image:
    width, height = image.size
    if width <= 0 or height <= 0:
        raise PictureError(f"{name} has no pixels ({width} x {height}).", kind="empty")
    if width * height > max_pixels:
        message = f"{name} is too large: {width} x {height} pixels, and the limit is {max_pixels:,} pixels."
        raise PictureError(message, kind="too_large")
    try:
        image.load()
        return to_rgb(_upright(image))
    except _DECODE_ERRORS as error:
        raise PictureError(f"{name} is damaged or cut off: {_one_line(error)}.") from error


def _upright(image: Image.Image) -> Image.Image:
    """Applies the EXIF orientation (8 values: rotations and mirror images)."""
    try:
        return ImageOps.exif_transpose(image)
    except _DECODE_ERRORS:
        return image  # a damaged EXIF block says nothing about the pixels, so the picture stays as stored


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


# ---------------------------------------------------------------------------------------------------
# Any mode onto white


def to_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow mode as RGB; transparent pixels show white paper, 16-bit and float greys are scaled."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I;16"):
        return _grey_to_rgb(np.asarray(image), white=65535)
    if image.mode in ("I", "F"):
        values = np.nan_to_num(np.asarray(image, dtype=np.float64), posinf=0.0, neginf=0.0)
        return _grey_to_rgb(values, _white_of(values, is_float=image.mode == "F"))
    if image.has_transparency_data:
        return _on_white(image)
    return image.convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    # Premultiplied modes have only one conversion, to their plain sibling.
    image = image.convert({"La": "LA", "RGBa": "RGBA"}.get(image.mode, image.mode)).convert("RGBA")
    paper = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return Image.alpha_composite(paper, image).convert("RGB")


def _white_of(values: np.ndarray, is_float: bool) -> float:
    """The value that means white. The modes do not say; the largest pixel tells the scale in use."""
    peak = float(values.max())
    scales = (1.0, 255.0, 65535.0) if is_float else (255.0, 65535.0)
    return next((scale for scale in scales if peak <= scale), peak)


def _grey_to_rgb(values_HW: np.ndarray, white: float) -> Image.Image:
    grey_HW = np.clip(np.rint(values_HW * (255.0 / white)), 0, 255).astype(np.uint8)
    return Image.fromarray(grey_HW).convert("RGB")
