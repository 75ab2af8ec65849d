"""What the header of a picture says beside its size: which way is up, how wide a pixel is, what means white.

Nothing here decodes a pixel. `open_image` and `upright_size` both ask `read_look`, so that the size that is
planned is the size that comes out. Sizes are (height, width) in pixels.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import math
import struct
import zlib
from collections.abc import Iterator
from io import BytesIO
from typing import NamedTuple

from PIL import (
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from nanoocr.errors import PictureError
from nanoocr.large_pictures import comes_in_strips

MAX_PIXELS = 50_000_000  # A4 at 600 dpi has 35 million

Size = tuple[int, int]  # (height, width)

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
DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    EOFError,
    OverflowError,
    ZeroDivisionError,
    struct.error,
    zlib.error,
)

TURNED = (5, 6, 7, 8)  # the orientations that swap width and height
SQUARE_WITHIN, MOST_STRETCHED = 1.01, 4.0  # pixels whose sides differ by more than the second are a mistake
# By which a decoder, or the step behind it, makes it smaller.
JPEG_SCALES, TIFF_SCALES, STRIP_SCALES = (1, 2, 4, 8), (1, 2), (1, 2, 3, 4)
# A JPEG is scaled block by block, so its size matters little; a progressive one is held whole, at 3 to 6
# bytes a pixel. Of what comes in strips (large_pictures.py) only the smaller copy is held. A grey TIFF that
# does not takes one byte a pixel until it is reduced, where colours take four.
SCALED_LIMITS = {"baseline": 8, "progressive": 3, "strips": 8, "grey": 3}  # times the limit on pixels
TEXT_LIMIT = 2**20  # bytes of a compressed text chunk that are looked at


class Look(NamedTuple):
    """How the pixels of a picture are to be looked at."""

    stored: Size  # as the file holds them
    orientation: int = 1  # EXIF's, 1 to 8
    density_ratio: float = 1.0  # pixels per inch across, divided by those down, as stored
    reduction: int = 1  # by which it is made smaller while it is decoded
    white: int | None = None  # the grey value that means white, where the file says so
    inverted: bool = False  # a grey of more than 8 bits in which 0 means white

    def upright(self, max_pixels: int = MAX_PIXELS) -> Size:
        """(height, width) after scaling, with square pixels, and turned."""
        height, width = (-(-side // self.reduction) for side in self.stored)
        height, width = squared((height, width), self.density_ratio, max_pixels)
        return (width, height) if self.orientation in TURNED else (height, width)


def read_header(data: bytes, name: str) -> Image.Image:
    """The undecoded picture: size and mode are known, pixels are not.

    Raises:
        PictureError: empty, unreadable, or of more pixels than Pillow's readers open.
    """
    if not data:
        raise PictureError(f"{name} is empty: it has zero bytes.", kind="empty")
    # Image.open would warn or refuse by Pillow's own, process-wide pixel limit before we can ask for the
    # size; calling the format's reader directly leaves the judgement to max_pixels alone.
    reason = f"none of {', '.join(FORMATS)}"
    for format_name in formats_of(data):
        if format_name == "TIFF":
            silence_libtiff()
        try:
            return Image.OPEN[format_name][0](BytesIO(data), "")
        except Image.DecompressionBombError as error:  # WebP, and GIF frames larger than their screen
            message = f"{name} is too large: it claims more pixels than Pillow opens."
            raise PictureError(message, kind="too_large") from error
        except DECODE_ERRORS as error:
            reason = f"damaged {format_name}: {one_line(error)}"
    raise PictureError(f"{name} is not a picture that can be read ({reason}).")


@functools.cache
def silence_libtiff() -> None:
    """Keep libtiff from writing its complaints to stderr; Pillow raises them as exceptions anyway.

    It must be asked by itself, in the file that Pillow has loaded: Pillow has no way to do it.
    """
    with contextlib.suppress(OSError, AttributeError):
        loaded = {line.split()[-1] for line in open("/proc/self/maps") if "libtiff" in line}  # noqa: SIM115
        for path in loaded:
            library = ctypes.CDLL(path)
            for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
                setter = getattr(library, name)
                setter.argtypes, setter.restype = [ctypes.c_void_p], ctypes.c_void_p
                setter(None)


def formats_of(head: bytes) -> Iterator[str]:
    """The formats whose signature the first 16 bytes bear."""
    for format_name in FORMATS:
        accept = Image.OPEN[format_name][1]
        if accept is not None and accept(head[:16]) is True:
            yield format_name


def one_line(error: BaseException) -> str:
    """What an exception says, for the end of a sentence."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


# ---------------------------------------------------------------------------------------------------
# Reading it


def read_look(image: Image.Image, data: bytes | None = None, max_pixels: int = MAX_PIXELS) -> Look:
    """How to look at a picture, from its header; `data` is the file that it was opened from, if there is one.

    What is damaged or not believable counts as not said.
    """
    if isinstance(image, PngImagePlugin.PngImageFile):
        if data is None:
            image.load()  # what stands behind the pixels is found on the way only
        else:
            image.info.update(png_metadata(data))
    exif = _exif(image)
    told = exif.get(ExifTags.Base.Orientation)
    orientation = told if isinstance(told, int) and 1 <= told <= 8 else 1
    stored = (image.height, image.width)
    # Pillow's reader of TIFFs has swapped the sides already, where the tag (and not XMP) says so.
    tags = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
    if tags.get(ExifTags.Base.Orientation) in TURNED:
        stored = (image.width, image.height)
    white, inverted = _grey_scale(image)
    # The density of a picture that was made in memory is what remains of a file that it was made from.
    ratio = _density_ratio(image, exif) if isinstance(image, ImageFile.ImageFile) else 1.0
    return Look(stored, orientation, ratio, _reduction(image, max_pixels, data is not None), white, inverted)


def _exif(image: Image.Image) -> Image.Exif | dict[int, object]:
    try:
        return Image.Image.getexif(image)  # not PngImageFile's own, which decodes the whole picture
    except DECODE_ERRORS:
        return {}  # a damaged EXIF block says nothing about the pixels


def png_metadata(data: bytes) -> dict[str, object]:
    """EXIF and XMP of a PNG, before or behind the pixels, which are stepped over by their lengths."""
    found: dict[str, object] = {}
    place = 8
    while place + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        kind, body = data[place + 4 : place + 8], slice(place + 8, place + 8 + length)
        if kind == b"eXIf":
            found["exif"] = data[body] if data[body].startswith(b"Exif\0\0") else b"Exif\0\0" + data[body]
        elif kind in (b"tEXt", b"zTXt", b"iTXt"):
            keyword, _, rest = data[body].partition(b"\0")
            if keyword in (b"XML:com.adobe.xmp", b"Raw profile type exif"):
                found[keyword.decode()] = _png_text(kind, rest)
        elif kind == b"IEND":
            break
        place = body.stop + 4
    return found


def _png_text(kind: bytes, rest: bytes) -> str:
    """The text of a chunk, from behind its keyword."""
    packed = kind == b"zTXt"
    if kind == b"iTXt":
        packed, rest = rest[:1] == b"\1", rest[2:].split(b"\0", 2)[-1]
    elif packed:
        rest = rest[1:]
    try:
        text = zlib.decompressobj().decompress(rest, TEXT_LIMIT) if packed else rest
    except zlib.error:
        return ""
    return text.decode("utf-8" if kind == b"iTXt" else "latin-1", "replace")


def _density_ratio(image: Image.Image, exif: Image.Exif | dict[int, object]) -> float:
    """Pixels per inch across over those down; 1.0 where they are equal, not said, or not believable."""
    for across, down in _densities(image, exif):
        try:
            ratio = float(across) / float(down)  # type: ignore[arg-type]
        except (*DECODE_ERRORS, ArithmeticError):
            continue
        if math.isfinite(ratio) and 1 / MOST_STRETCHED <= ratio <= MOST_STRETCHED:
            return ratio if max(ratio, 1 / ratio) > SQUARE_WITHIN else 1.0
    return 1.0


def _densities(image: Image.Image, exif: Image.Exif | dict[int, object]) -> Iterator[tuple[object, object]]:
    """What a file says about its resolution, across and down, the better witness first."""
    info = image.info
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        tags = image.tag_v2
        yield tags.get(TiffImagePlugin.X_RESOLUTION), tags.get(TiffImagePlugin.Y_RESOLUTION)
        return
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        density = info.get("jfif_density", (1, 1))
        if info.get("jfif_unit") or density[0] != density[1]:  # 1:1 without a unit is what nobody has set
            yield density
    for key in ("dpi", "aspect"):
        if key in info and not isinstance(image, JpegImagePlugin.JpegImageFile):
            yield info[key]
    yield exif.get(ExifTags.Base.XResolution), exif.get(ExifTags.Base.YResolution)


def _grey_scale(image: Image.Image) -> tuple[int | None, bool]:
    """(what means white, whether it is 0 that does) of a TIFF's grey of more than 8 bits."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile) or not is_deep_grey(image.mode):
        return None, False
    tags = image.tag_v2
    inverted = tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0
    bits, most = _first(tags.get(TiffImagePlugin.BITSPERSAMPLE)), _first(tags.get(281))  # MaxSampleValue
    if bits is not None and 8 < bits < 16:
        return 2**bits - 1, inverted
    # 65,535 is what writers put there unasked: it says no more than that there are 16 bits.
    return (most if most is not None and 255 <= most < 65535 else None), inverted


def is_deep_grey(mode: str) -> bool:
    """Whether a Pillow mode is a grey of more than 8 bits."""
    return mode.startswith("I;16") or mode in ("I", "F")


def _first(value: object) -> int | None:
    value = value[0] if isinstance(value, tuple) and value else value
    return value if isinstance(value, int) else None


# ---------------------------------------------------------------------------------------------------
# Sizes


def _reduction(image: Image.Image, max_pixels: int, has_data: bool) -> int:
    """The least scale at which a large picture fits the limit; 1 where it fits, or where nothing helps."""
    pixels = image.width * image.height
    if pixels <= max_pixels:
        return 1
    scales: tuple[int, ...]
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        kind, scales = "progressive" if image.info.get("progressive") else "baseline", JPEG_SCALES
    elif has_data and comes_in_strips(image):
        kind, scales = "strips", STRIP_SCALES
    elif isinstance(image, TiffImagePlugin.TiffImageFile) and image.mode in ("1", "L"):
        kind, scales = "grey", TIFF_SCALES
    else:
        return 1
    if pixels > SCALED_LIMITS[kind] * max_pixels:
        return 1
    fitting = (s for s in scales if -(-image.width // s) * -(-image.height // s) <= max_pixels)
    return next(fitting, 1)


def squared(size: Size, ratio: float, max_pixels: int) -> Size:
    """`size` with square pixels, where `ratio` times as many lie across an inch as down.

    The side with fewer pixels grows, so that nothing is lost; where that is too large, the other one shrinks.
    """
    height, width = size
    if ratio == 1.0:
        return size
    grown = (round(height * ratio), width) if ratio > 1 else (height, round(width / ratio))
    if grown[0] * grown[1] <= max_pixels:
        return grown
    return (height, max(1, round(width / ratio))) if ratio > 1 else (max(1, round(height * ratio)), width)
