"""Opens any picture file safely: upright, with square pixels, as RGB on white.

Every size here is (height, width), as in tensors; only Pillow's own calls take (width, height).
nanoocr/picture_header.py reads the headers.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, JpegImagePlugin, TiffImagePlugin

from nanoocr.alpha import has_deep_colours, hides_all, lifted, on_paper
from nanoocr.bare_pictures import with_end_mark
from nanoocr.errors import PictureError
from nanoocr.large_pictures import comes_in_strips, reduced
from nanoocr.picture_header import (
    DECODE_ERRORS,
    MAX_PIXELS,
    NOT_KNOWN,
    Look,
    is_deep_grey,
    is_not_known,
    mend_tiff,
    one_line,
    read_header,
    read_look,
)
from nanoocr.picture_header import FORMATS as FORMATS
from nanoocr.picture_header import Size as Size

LEAST_DPI, MOST_DPI = 20, 5000  # a page's resolution; values outside mean nothing
MAX_PAGES = 10_000  # Most frames of a TIFF: its frames are a linked chain, so finding them means walking it.

PictureSource = str | Path | bytes | BinaryIO | Image.Image

# TIFF's tag NewSubfileType, and its bits for a smaller copy or a mask of another frame.
SUBFILE_TYPE, SMALLER_OR_MASK = 254, 0b101
OLD_SUBFILE_TYPE, OLD_SMALLER = 255, 2  # the same in files of before 1992

# Possible white values of a grey whose file names none: 8 bits, scanners' 10, 12 and 14, and 16.
WHITES = (255.0, 1023.0, 4095.0, 16383.0, 65535.0)

# The rotations that undo each EXIF orientation.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


# ---------------------------------------------------------------------------------------------------
# Opening


def open_image(
    source: PictureSource, *, frame: int = 0, max_pixels: int = MAX_PIXELS, name: str | None = None
) -> Image.Image:
    """Open a picture upright, as RGB on white, from a path, bytes, a binary stream, or a Pillow image.

    The size is judged from the header, before any pixel is decoded. A large JPEG, PNG or TIFF is made
    smaller while it is decoded. Of a file with several frames the first one is read, or `frame` (see
    `page_frames`; of many frames `open_frames`). `name` is what error messages call the picture (default: the
    path). Raises PictureError with kind missing, empty, unreadable or too_large.
    """
    name = name or _name_of(source)
    if isinstance(source, Image.Image):
        return _decode(source, None, max_pixels, name)
    data = read_bytes(source, name)
    image = read_header(data, name)
    if frame:
        _go_to(image, frame, name)
    try:
        return _decode(image, data, max_pixels, name)
    except PictureError as error:
        mended = with_end_mark(data) if error.kind == "unreadable" else None
        if mended is None:
            raise
    return _decode(read_header(mended, name), mended, max_pixels, name)


def page_frames(data: bytes, name: str) -> list[int]:
    """The numbers of the frames that are pages: the first, and in a TIFF all but smaller copies and masks.

    A frame with a damaged header counts as a page, so that it does not vanish: `open_image` refuses it later.
    Raises PictureError as open_image does for the header, and for MAX_PAGES frames or more (too_large).
    """
    image = read_header(data, name)
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return [0]
    frames: list[int] = []
    for frame in range(MAX_PAGES):
        try:
            image.seek(frame)
            is_smaller = image.tag_v2.get(OLD_SUBFILE_TYPE) == OLD_SMALLER
            is_page = not (is_smaller or image.tag_v2.get(SUBFILE_TYPE, 0) & SMALLER_OR_MASK)
        except EOFError:
            return frames or [0]
        except DECODE_ERRORS:
            is_page = True
        if is_page:
            frames.append(frame)
    raise PictureError(f"{name} is too large: its pages do not end before {MAX_PAGES:,}.", kind="too_large")


def open_frames(
    data: bytes, frames: Sequence[int], names: Sequence[str]
) -> Iterator[Image.Image | PictureError]:
    """Yield frames of an encoded picture in order, or the reason why one cannot be opened.

    The file is walked along once. Opening each frame anew would walk to it from the first, which takes time
    that grows with the square of the number of frames.
    """
    image = read_header(data, names[0]) if frames else None
    for frame, name in zip(frames, names, strict=True):
        assert image is not None
        try:
            _go_to(image, frame, name)
            # A copy is needed, because the next frame is decoded into the same pixels.
            yield _decode(image, data, MAX_PIXELS, name).copy()
        except PictureError as error:
            yield error


def upright_size(source: PictureSource, *, name: str | None = None) -> Size:
    """(height, width) of `open_image(source)`, from the header alone: nothing is decoded.

    Raises PictureError as open_image does, but not for damage behind the header.
    """
    name = name or _name_of(source)
    if isinstance(source, Image.Image):
        return read_look(source).upright()
    data = read_bytes(source, name)
    return read_look(read_header(data, name), data).upright()


def find_dpi(image: Image.Image) -> float | None:
    """The resolution that a picture states, the finer one of a fax; None where no page could have it."""
    value = image.info.get("dpi")
    try:
        dpi = max(float(side) for side in value) if isinstance(value, tuple) else 0.0
    except (TypeError, ValueError, ZeroDivisionError):  # the stated value may be no number at all
        return None
    return dpi if LEAST_DPI <= dpi <= MOST_DPI else None


def _name_of(source: PictureSource) -> str:
    if isinstance(source, (str, Path)):
        return str(source)
    filename = getattr(source, "filename", None) or getattr(source, "name", None)
    return str(filename) if filename else "the picture"


def read_bytes(source: str | Path | bytes | BinaryIO, name: str) -> bytes:
    """The encoded picture. Raises PictureError if the file called `name` is missing or cannot be read."""
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
    except (OSError, ValueError) as error:  # ValueError: the path holds a NUL byte
        raise PictureError(f"{name} cannot be opened: {error}.") from error


def _go_to(image: Image.Image, frame: int, name: str) -> None:
    try:
        image.seek(frame)
    except DECODE_ERRORS as error:
        raise PictureError(f"{name} is damaged or cut off: {one_line(error)}.") from error


def _decode(image: Image.Image, data: bytes | None, max_pixels: int, name: str) -> Image.Image:
    width, height = image.size
    if width <= 0 or height <= 0:
        raise PictureError(f"{name} has no pixels ({width} x {height}).", kind="empty")
    try:
        look = read_look(image, data, max_pixels)
        if width * height > max_pixels and look.reduction == 1:
            raise PictureError(
                f"{name} is too large: {width} x {height} pixels, and the limit is {max_pixels:,} pixels "
                "(JPEG, PNG and most TIFFs may have more: they are made smaller while they are decoded).",
                kind="too_large",
            )
        return _looked_at(image, data, look, max_pixels, name)
    except DECODE_ERRORS as error:
        if is_not_known(error):
            raise PictureError(f"{name} is not a picture that can be read ({NOT_KNOWN}).") from error
        raise PictureError(f"{name} is damaged or cut off: {one_line(error)}.") from error


def _looked_at(image: Image.Image, data: bytes | None, look: Look, max_pixels: int, name: str) -> Image.Image:
    """The pixels, interpreted as `look` says."""
    in_strips = look.reduction > 1 and data is not None and comes_in_strips(image)
    turned_by_pillow = isinstance(image, TiffImagePlugin.TiffImageFile) and not in_strips
    dpi = find_dpi(image)
    mend_tiff(image)
    is_deep = has_deep_colours(image)
    pixels = reduced(image, data or b"", look.reduction) if in_strips else _loaded(image, look.reduction)
    if is_deep and hides_all(pixels):
        raise PictureError(
            f"{name} shows nothing: its colours have 16 bits, and the upper 8 are black everywhere "
            "(save it with 8 bits a sample)."
        )
    pixels = lifted(pixels) if is_deep else pixels
    seen = to_rgb(pixels, white=look.white, inverted=look.inverted, unsigned=look.unsigned)
    if not turned_by_pillow and look.orientation in TURNS:
        seen = seen.transpose(TURNS[look.orientation])
    height, width = look.upright(max_pixels)
    if seen.size != (width, height):
        seen = seen.resize((width, height), Image.Resampling.BICUBIC)
    if seen is not image:
        # After rotation the file's own statements no longer hold, except for the resolution.
        seen.info = {} if dpi is None else {"dpi": (dpi / look.reduction,) * 2}
    return seen


def _loaded(image: Image.Image, reduction: int) -> Image.Image:
    if reduction > 1 and isinstance(image, JpegImagePlugin.JpegImageFile):
        image.draft(None, (max(1, image.width // reduction), max(1, image.height // reduction)))
    with warnings.catch_warnings():
        # Pillow warns about TIFFs above its own limit on pixels; ours has already been checked.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        image.load()
    if reduction > 1 and not isinstance(image, JpegImagePlugin.JpegImageFile):
        return image.convert("L").reduce(reduction)
    return image


# ---------------------------------------------------------------------------------------------------
# From any mode to white paper


def to_rgb(
    image: Image.Image, *, white: int | None = None, inverted: bool = False, unsigned: bool = False
) -> Image.Image:
    """Convert any Pillow mode to RGB. Transparent pixels become white, 16-bit and float greys are scaled.

    For greys `white` is the value that means white, where a file says so; `inverted` says that 0 means white,
    and `unsigned` that negative values of mode I are the upper half of 32 bits.
    """
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if is_deep_grey(image.mode) or (image.mode == "L" and white is not None):
        values = np.nan_to_num(np.asarray(image, dtype=np.float64), posinf=0.0, neginf=0.0)
        values = np.where(values < 0, values + 2.0**32, values) if unsigned else values
        top = _white_of(values, white, is_float=image.mode == "F")
        return _grey_to_rgb(top - values if inverted else values, top)
    if image.has_transparency_data:
        return on_paper(image)
    return image.convert("RGB")


def _white_of(values: np.ndarray, known: int | None, is_float: bool) -> float:
    """The value that means white. If the file does not say, the largest pixel shows the scale in use."""
    peak = float(values.max())
    if known is not None and peak <= known:
        return float(known)
    scales = (1.0, *WHITES) if is_float else WHITES
    return next((scale for scale in scales if peak <= scale), peak)


def _grey_to_rgb(values_HW: np.ndarray, white: float) -> Image.Image:
    grey_HW = np.clip(np.rint(values_HW * (255.0 / white)), 0, 255).astype(np.uint8)
    return Image.fromarray(grey_HW).convert("RGB")
