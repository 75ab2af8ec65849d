"""Reads a picture's header: its size, which way is up, the shape of a pixel, which value is white.

Nothing here decodes a pixel. `open_image` and `upright_size` both call `read_look`, so the planned size is
the size that results. Sizes are (height, width) in pixels.
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
    ImagePalette,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from nanoocr.bare_pictures import bare_copies
from nanoocr.errors import PictureError
from nanoocr.large_pictures import comes_in_strips

MAX_PIXELS = 50_000_000  # A4 at 600 dpi has 35 million

Size = tuple[int, int]  # (height, width)

# The list is short on purpose: decoders read foreign bytes, and rare decoders are the least tested.
# Importing a plugin registers it in Image.OPEN under its name.
_REGISTERED_PLUGINS = (
    PngImagePlugin,
    JpegImagePlugin,
    WebPImagePlugin,
    TiffImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
)
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "DIB")  # a DIB is a BMP without its file header
# Left out on purpose: whether Pillow has their decoders depends on what else is installed. The brand
# of a file of boxes (ISO/IEC 14496-12) stands behind "ftyp".
NOT_READ = {b"jP  ": "JPEG 2000", b"avif": "AVIF", b"heic": "HEIC", b"heix": "HEIC", b"mif1": "HEIF"}

# Pillow's decoders raise these on damaged bytes.
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

UNKNOWN_KIND = ("unknown pixel mode", "unknown raw mode")  # what Pillow says of a TIFF that is whole
NOT_KNOWN = "a TIFF whose kind of pixels is not known: save it as grey or RGB with 8 bits a sample"
# A value of a TIFF's tag MaxSampleValue that is a scale; others merely count the lightest pixel.
MAX_SAMPLE, SAMPLE_SCALES = 281, (1, 3, 7, 15, 31, 63, 127)
PLANAR, SEPARATE = 284, 2  # the tag for planes, and its value where each colour has one of its own
COLOUR_MAP, COLOUR_STEPS = 320, 257  # the tag, and how many of 65,536 steps make one of 256

TURNED = (5, 6, 7, 8)  # the orientations that swap width and height
# Pixels count as square within the first ratio; a ratio above the second is taken for a mistake.
SQUARE_WITHIN, MOST_STRETCHED = 1.01, 4.0
# The factors by which a decoder, or the step after it, can shrink a picture.
JPEG_SCALES, TIFF_SCALES, STRIP_SCALES = (1, 2, 4, 8), (1, 2), (1, 2, 3, 4)
# A JPEG is scaled block by block, so its size matters little; but a progressive one is held whole, at 3 to 6
# bytes a pixel. Of pictures that come in strips (large_pictures.py) only the smaller copy is held. A grey
# TIFF or interlaced PNG without strips takes one byte a pixel until it is reduced, and colours take four.
SCALED_LIMITS = {"baseline": 8, "progressive": 3, "strips": 8, "grey": 3}  # multiples of the limit on pixels
TEXT_LIMIT = 2**20  # at most this many bytes of a compressed text chunk are looked at


class Look(NamedTuple):
    """How to interpret the pixels of a picture."""

    stored: Size  # size as stored in the file
    orientation: int = 1  # EXIF's, 1 to 8
    density_ratio: float = 1.0  # pixels per inch across, divided by those down, as stored
    reduction: int = 1  # it is shrunk by this factor while it is decoded
    white: int | None = None  # the grey value that means white, where the file says so
    inverted: bool = False  # True for a grey of more than 8 bits in which 0 means white
    unsigned: bool = False  # True for a grey of 32 bits without a sign, which Pillow takes for signed

    def upright(self, max_pixels: int = MAX_PIXELS) -> Size:
        """(height, width) after scaling, with square pixels, and rotated upright."""
        height, width = (-(-side // self.reduction) for side in self.stored)
        height, width = squared((height, width), self.density_ratio, max_pixels)
        return (width, height) if self.orientation in TURNED else (height, width)


def read_header(data: bytes, name: str) -> Image.Image:
    """The undecoded picture: its size and mode are known, its pixels are not.

    Raises:
        PictureError: it is empty, unreadable, or has more pixels than Pillow's readers open.
    """
    if not data:
        raise PictureError(f"{name} is empty: it has zero bytes.", kind="empty")
    # Image.open would warn or refuse by Pillow's own, process-wide pixel limit before we can ask for the
    # size. The format's reader is called directly instead, so that max_pixels alone decides.
    reason = f"none of {', '.join(FORMATS)}"
    for format_name in formats_of(data):
        if format_name == "TIFF":
            silence_libtiff()
        try:
            return _opened(format_name, data)
        # raised for WebP, and for GIF frames larger than their screen
        except Image.DecompressionBombError as error:
            message = f"{name} is too large: it claims more pixels than Pillow opens."
            raise PictureError(message, kind="too_large") from error
        except DECODE_ERRORS as error:
            reason = NOT_KNOWN if is_not_known(error) else f"damaged {format_name}: {one_line(error)}"
    brand = data[8:12] if data[4:8] == b"ftyp" else data[4:8]
    if brand in NOT_READ:
        raise PictureError(f"{name} holds {NOT_READ[brand]}, which is not read: convert it to PNG or JPEG.")
    raise PictureError(f"{name} is not a picture that can be read ({reason}).")


def _opened(format_name: str, data: bytes) -> Image.Image:
    """The undecoded picture; what is damaged beside its pixels does not count."""
    open_it = Image.OPEN[format_name][0]
    try:
        return open_it(BytesIO(data), "")
    except DECODE_ERRORS:
        for bare in bare_copies(data):
            with contextlib.suppress(*DECODE_ERRORS):
                return open_it(BytesIO(bare), "")
        raise


@functools.cache
def silence_libtiff() -> None:
    """Keep libtiff from writing complaints to stderr; Pillow raises them as exceptions anyway.

    Pillow offers no way to do this, so libtiff itself is called, in the library that Pillow has loaded.
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
    """The formats whose signatures match the first 16 bytes."""
    for format_name in FORMATS:
        accept = Image.OPEN[format_name][1]
        # Some of Pillow's tests read numbers, and raise where a file is shorter than these.
        if accept is not None and accept(head[:16].ljust(16, b"\0")) is True:
            yield format_name


def is_not_known(error: BaseException) -> bool:
    """Whether Pillow does not know the kind of a file's pixels, which is no damage."""
    return str(error).startswith(UNKNOWN_KIND)


def one_line(error: BaseException) -> str:
    """An exception's message, for the end of a sentence."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


# ---------------------------------------------------------------------------------------------------
# Reading it


def read_look(image: Image.Image, data: bytes | None = None, max_pixels: int = MAX_PIXELS) -> Look:
    """Read from the header how to look at a picture; `data` is the file that it was opened from, if any.

    Damaged or implausible information counts as absent.
    """
    if isinstance(image, PngImagePlugin.PngImageFile):
        if data is None:
            image.load()  # metadata after the pixels is only found while they are decoded
        else:
            image.info.update(png_metadata(data))
    exif = _exif(image)
    told = exif.get(ExifTags.Base.Orientation)
    orientation = told if isinstance(told, int) and 1 <= told <= 8 else 1
    stored = (image.height, image.width)
    # Pillow's reader of TIFFs has already swapped the sides, if the tag (and not XMP) says so.
    tags = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
    if tags.get(ExifTags.Base.Orientation) in TURNED:
        stored = (image.width, image.height)
    white, inverted = _grey_scale(image)
    # A picture made in memory may still carry the density of the file that it was made from; ignore that.
    ratio = _density_ratio(image, exif) if isinstance(image, ImageFile.ImageFile) else 1.0
    reduction = _reduction(image, max_pixels, data is not None)
    return Look(stored, orientation, ratio, reduction, white, inverted, _is_unsigned(image))


def _exif(image: Image.Image) -> Image.Exif | dict[int, object]:
    try:
        return Image.Image.getexif(image)  # PngImageFile's own method would decode the whole picture
    except DECODE_ERRORS:
        return {}  # a damaged EXIF block says nothing about the pixels


def png_metadata(data: bytes) -> dict[str, object]:
    """EXIF and XMP of a PNG, from before or after the pixels, which are skipped by their lengths."""
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
    """The text of a chunk, after its keyword."""
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
    """Pixels per inch across over those down; 1.0 where equal, absent, or implausible."""
    for across, down in _densities(image, exif):
        try:
            ratio = float(across) / float(down)  # type: ignore[arg-type]
        except (*DECODE_ERRORS, ArithmeticError):
            continue
        if math.isfinite(ratio) and 1 / MOST_STRETCHED <= ratio <= MOST_STRETCHED:
            return ratio if max(ratio, 1 / ratio) > SQUARE_WITHIN else 1.0
    return 1.0


def _densities(image: Image.Image, exif: Image.Exif | dict[int, object]) -> Iterator[tuple[object, object]]:
    """The resolutions (across, down) that a file states, the more reliable source first."""
    info = image.info
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        tags = image.tag_v2
        yield tags.get(TiffImagePlugin.X_RESOLUTION), tags.get(TiffImagePlugin.Y_RESOLUTION)
        return
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        density = info.get("jfif_density", (1, 1))
        # 1:1 without a unit means that nobody has set it
        if info.get("jfif_unit") or density[0] != density[1]:
            yield density
    for key in ("dpi", "aspect"):
        if key in info and not isinstance(image, JpegImagePlugin.JpegImageFile):
            yield info[key]
    yield exif.get(ExifTags.Base.XResolution), exif.get(ExifTags.Base.YResolution)


def _grey_scale(image: Image.Image) -> tuple[int | None, bool]:
    """(value that means white, whether 0 does) for a TIFF's grey, where it is not 255 and not 0."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return None, False
    tags = image.tag_v2
    bits, most = _first(tags.get(TiffImagePlugin.BITSPERSAMPLE)), _first(tags.get(MAX_SAMPLE))
    inverted = tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0
    if image.mode == "L":
        # Pillow has inverted this one already, so that its own 255 is white.
        return (most if bits == 8 and most in SAMPLE_SCALES and not inverted else None), False
    if not is_deep_grey(image.mode):
        return None, False
    if bits is not None and 8 < bits < 16:
        return 2**bits - 1, inverted
    # Writers put 65,535 there by default, so it says no more than that there are 16 bits.
    return (most if most is not None and 255 <= most < 65535 else None), inverted


def _is_unsigned(image: Image.Image) -> bool:
    """Whether a picture of mode I comes from a TIFF that counts from 0 to 2**32 - 1."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile) or image.mode != "I":
        return False
    bits = _first(image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE))
    return bits == 32 and _first(image.tag_v2.get(TiffImagePlugin.SAMPLEFORMAT, 1)) == 1


def mend_tiff(image: Image.Image) -> None:
    """Mend what Pillow has misread in the header of a TIFF, before its pixels are decoded."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        _mend_planes(image)
        _mend_palette(image)


def _mend_planes(image: TiffImagePlugin.TiffImageFile) -> None:
    """Name how each plane of an uncompressed TIFF is stored, where Pillow keeps only the plane's letter.

    Colours of 16 bits would be read as noise, and greys in which 0 is white the wrong way round.
    """
    tags = image.tag_v2
    if tags.get(PLANAR) != SEPARATE or any(tile.codec_name != "raw" for tile in image.tile):
        return
    if tags.get(TiffImagePlugin.SAMPLESPERPIXEL, 1) == 1:
        tags[PLANAR] = 1  # A single plane is no separate one.
        image._setup()
    elif _first(tags.get(TiffImagePlugin.BITSPERSAMPLE)) == 16:
        order = ";16L" if tags.prefix == b"II" else ";16B"
        # A plane that is no colour has no letter.
        planes = [(tile, tile.args) for tile in image.tile if isinstance(tile.args, tuple)]
        image.tile = [
            tile._replace(args=(args[0] + order, *args[1:])) for tile, args in planes if args[0] != ";"
        ]


def _mend_palette(image: TiffImagePlugin.TiffImageFile) -> None:
    """Mend the palette of a TIFF whose writer took 255 for the highest value, and not 65,535.

    Pillow keeps the upper 8 of 16 bits, so that such a picture would be black.
    """
    colours = image.tag_v2.get(COLOUR_MAP, ()) if image.mode == "P" else ()
    if not colours or max(colours) > 255:
        return
    image.tag_v2[COLOUR_MAP] = tuple(colour * COLOUR_STEPS for colour in colours)
    image.palette = ImagePalette.raw("RGB;L", bytes(colours))


def is_deep_grey(mode: str) -> bool:
    """Whether a Pillow mode is a grey of more than 8 bits."""
    return mode.startswith("I;16") or mode in ("I", "F")


def _first(value: object) -> int | None:
    value = value[0] if isinstance(value, tuple) and value else value
    return value if isinstance(value, int) else None


# ---------------------------------------------------------------------------------------------------
# Sizes


def _reduction(image: Image.Image, max_pixels: int, has_data: bool) -> int:
    """The smallest factor that brings a large picture below the limit; 1 if it fits, or if nothing helps."""
    pixels = image.width * image.height
    if pixels <= max_pixels:
        return 1
    scales: tuple[int, ...]
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        kind, scales = "progressive" if image.info.get("progressive") else "baseline", JPEG_SCALES
    elif has_data and comes_in_strips(image):
        kind, scales = "strips", STRIP_SCALES
    elif (
        isinstance(image, (TiffImagePlugin.TiffImageFile, PngImagePlugin.PngImageFile))
        and image.mode in ("1", "L")
        and "transparency" not in image.info
    ):
        kind, scales = "grey", TIFF_SCALES
    else:
        return 1
    if pixels > SCALED_LIMITS[kind] * max_pixels:
        return 1
    fitting = (s for s in scales if -(-image.width // s) * -(-image.height // s) <= max_pixels)
    return next(fitting, 1)


def squared(size: Size, ratio: float, max_pixels: int) -> Size:
    """`size` with square pixels, for `ratio` times as many pixels per inch across as down.

    The side with fewer pixels grows, so that nothing is lost. If that is too large, the other one shrinks.
    """
    height, width = size
    if ratio == 1.0:
        return size
    grown = (round(height * ratio), width) if ratio > 1 else (height, round(width / ratio))
    if grown[0] * grown[1] <= max_pixels:
        return grown
    return (height, max(1, round(width / ratio))) if ratio > 1 else (max(1, round(height * ratio)), width)
