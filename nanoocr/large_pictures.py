"""Decodes large PNG and TIFF files strip by strip, and shrinks them on the way.

Pillow decodes such a picture as a whole, and 300 megapixels of colour take 900 MB. But both formats store
their rows in order. So some rows at a time are put into a small file of their own, which Pillow decodes, and
only the smaller copy is kept. Sizes are (width, height) here, as in Pillow's calls.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from io import BytesIO
from itertools import accumulate

from PIL import Image, PngImagePlugin, TiffImagePlugin

Directory = TiffImagePlugin.ImageFileDirectory_v2
STRIP_PIXELS = 4_000_000  # pixels that are decoded at once
PNG_HEAD = b"\x89PNG\r\n\x1a\n"
SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # samples per pixel, by the colour type of a PNG
# The tags of a TIFF that say how its strips are decoded.
TIFF_TAGS = (256, 258, 259, 262, 266, 277, 284, 292, 293, 317, 320, 338, 339, 347, 529, 530, 531, 532)
ROWS_PER_STRIP, STRIP_OFFSETS, STRIP_BYTES, PLANAR = 278, 273, 279, 284


def comes_in_strips(image: Image.Image) -> bool:
    """Whether a picture can be decoded in strips: a PNG or TIFF of at most 8 bits, with rows in order."""
    if isinstance(image, PngImagePlugin.PngImageFile):
        return not image.info.get("interlace") and not is_deep(image)
    if not isinstance(image, TiffImagePlugin.TiffImageFile) or is_deep(image):
        return False
    tags = image.tag_v2
    offsets, rows = tags.get(STRIP_OFFSETS), tags.get(ROWS_PER_STRIP, 2**32 - 1)
    if (
        not offsets or tags.get(PLANAR, 1) != 1 or tags.get(259) == 6
    ):  # 6 is the old kind of JPEG, which does not come in strips
        return False
    return min(rows, image.height) * image.width <= STRIP_PIXELS * 4


def is_deep(image: Image.Image) -> bool:
    """Whether a sample has more than 8 bits. The value of white is then judged from the whole picture."""
    tiles = getattr(image, "tile", ())
    return image.mode not in ("1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "YCbCr") or any(
        ";16" in str(tile[3]) for tile in tiles
    )


def reduced(image: Image.Image, data: bytes, scale: int) -> Image.Image:
    """The picture, `scale` times smaller on each side, as "L", "RGB", "LA" or "RGBA", and not rotated.

    Raises:
        OSError, ValueError, zlib.error: it is damaged or cut off.
    """
    is_png = isinstance(image, PngImagePlugin.PngImageFile)
    strips = _png_strips(image, data, scale) if is_png else _tiff_strips(image, data)
    width, height = _stored(image)
    smaller = -(-width // scale), -(-height // scale)
    made, place = None, 0
    for part in _reduced_parts(map(_plain, strips), scale):
        made = made or Image.new(part.mode, smaller)
        made.paste(part, (0, place))
        place += part.height
    if made is None or place < made.height:
        raise OSError("its rows end too early")
    return made


def _reduced_parts(strips: Iterator[Image.Image], scale: int) -> Iterator[Image.Image]:
    """Shrink the strips. Rows that do not fill one row of the copy wait for the next strip."""
    waiting: Image.Image | None = None
    for strip in strips:
        whole = strip if waiting is None else _stacked(waiting, strip)
        rows = whole.height // scale * scale
        if rows:
            yield whole.crop((0, 0, whole.width, rows)).reduce(scale)
        waiting = whole.crop((0, rows, whole.width, whole.height)) if rows < whole.height else None
    if waiting is not None:
        yield waiting.reduce(scale)


def _stored(image: Image.Image) -> tuple[int, int]:
    """(width, height) as stored. For a rotated TIFF Pillow's reader has already swapped the two."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return int(image.tag_v2[256]), int(image.tag_v2[257])
    return image.size


def _plain(strip: Image.Image) -> Image.Image:
    """Convert to a mode whose values can be averaged, without palettes and single bits."""
    if strip.mode in ("L", "RGB", "LA", "RGBA") and "transparency" not in strip.info:
        return strip
    if strip.mode == "1":
        return strip.convert("L")
    return strip.convert("RGBA" if strip.has_transparency_data else "RGB")


def _stacked(above: Image.Image, below: Image.Image) -> Image.Image:
    both = Image.new(above.mode, (above.width, above.height + below.height))
    both.paste(above, (0, 0))
    both.paste(below, (0, above.height))
    return both


# ---------------------------------------------------------------------------------------------------
# PNG


def _png_strips(image: Image.Image, data: bytes, scale: int) -> Iterator[Image.Image]:
    """Decode strips. A filtered row needs the row above, so each strip begins with the last row before it.

    That row is written without a filter. Strips are a multiple of `scale` high.
    """
    width, height = image.size
    head, before, packed = _png_parts(data)
    line = 1 + -(-width * SAMPLES[head[9]] * head[8] // 8)
    rows = max(scale, STRIP_PIXELS // width // scale * scale)
    unpack, held, done = zlib.decompressobj(), bytearray(), 0
    above = b""
    for piece in packed:
        while piece and done < height:
            held += unpack.decompress(piece, max(1, rows * line - len(held)))
            piece = unpack.unconsumed_tail
            if len(held) >= rows * line:
                yield (strip := _png_strip(head, before, above, bytes(held[: rows * line]), line))
                above, done = _last_row(strip, head), done + rows
                del held[: rows * line]
    left = min(height - done, len(held) // line)
    if left > 0:
        yield _png_strip(head, before, above, bytes(held[: left * line]), line)


def _png_parts(data: bytes) -> tuple[bytes, list[bytes], list[bytes]]:
    """The header's body, the whole chunks that define colours, and the bodies of the packed pixels."""
    head, before, packed, place = b"", list[bytes](), list[bytes](), len(PNG_HEAD)
    while place + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        kind, body = data[place + 4 : place + 8], data[place + 8 : place + 8 + length]
        if kind == b"IHDR":
            head = body
        elif kind in (b"PLTE", b"tRNS"):
            before.append(data[place : place + 12 + length])
        elif kind == b"IDAT":
            packed.append(body)
        place += 12 + length
    return head, before, packed


def _png_strip(head: bytes, before: list[bytes], above: bytes, rows: bytes, line: int) -> Image.Image:
    """Decode the rows, and cut those of `above` (one or none) off again."""
    count = len(rows) // line + bool(above)
    size = struct.pack(">II", struct.unpack(">I", head[:4])[0], count)
    packed = zlib.compress(above + rows, 0)
    chunks = [_chunk(b"IHDR", size + head[8:]), *before, _chunk(b"IDAT", packed), _chunk(b"IEND", b"")]
    strip = Image.open(BytesIO(PNG_HEAD + b"".join(chunks)), formats=("PNG",))
    strip.load()
    if not above:
        return strip
    cut = strip.crop((0, 1, strip.width, strip.height))
    cut.info = strip.info  # it says which colour is transparent
    return cut


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _last_row(strip: Image.Image, head: bytes) -> bytes:
    """The last row as a PNG holds it without a filter."""
    row = strip.crop((0, strip.height - 1, strip.width, strip.height))
    bits = head[8]
    if bits == 8:
        return b"\0" + row.tobytes()
    if row.mode == "1":
        return b"\0" + row.tobytes()
    # For two or four bits a pixel Pillow spreads greys over 8 bits, but not palette indices.
    spread = 255 // (2**bits - 1) if row.mode == "L" else 1
    values = [value // spread for value in row.tobytes()]
    per_byte = 8 // bits
    values += [0] * (-len(values) % per_byte)
    packed = bytearray()
    for place in range(0, len(values), per_byte):
        byte = 0
        for value in values[place : place + per_byte]:
            byte = byte << bits | value
        packed.append(byte)
    return b"\0" + bytes(packed)


# ---------------------------------------------------------------------------------------------------
# TIFF


def _tiff_strips(image: Image.Image, data: bytes) -> Iterator[Image.Image]:
    """Decode a few of the file's own strips at a time, each time as a TIFF that holds nothing else."""
    assert isinstance(image, TiffImagePlugin.TiffImageFile)
    tags = image.tag_v2
    width, height = _stored(image)
    per_strip = min(int(tags.get(ROWS_PER_STRIP, height)), height)
    offsets, counts = tags[STRIP_OFFSETS], tags[STRIP_BYTES]
    together = max(1, STRIP_PIXELS // (per_strip * width))
    for first in range(0, len(offsets), together):
        taken = range(first, min(first + together, len(offsets)))
        rows = min(per_strip * len(taken), height - first * per_strip)
        if rows <= 0:
            return
        content = [data[offsets[i] : offsets[i] + counts[i]] for i in taken]
        strip = TiffImagePlugin.TiffImageFile(BytesIO(_small_tiff(tags, content, rows, per_strip)))
        strip.load()
        yield strip


def _small_tiff(
    tags: TiffImagePlugin.ImageFileDirectory_v2, strips: list[bytes], rows: int, each: int
) -> bytes:
    """Build a TIFF of these strips, in the byte order of the file that they come from."""
    order = b"II*\0" if tags._endian == "<" else b"MM\0*"
    ifd = TiffImagePlugin.ImageFileDirectory_v2(ifh=order + bytes(4))
    for tag in TIFF_TAGS:
        if tag in tags:
            ifd.tagtype[tag] = tags.tagtype[tag]
            ifd[tag] = tags[tag]
    ifd[257], ifd[ROWS_PER_STRIP] = rows, each
    ifd[STRIP_BYTES] = tuple(map(len, strips))
    places = accumulate(map(len, strips[:-1]), initial=0)
    ifd.tagtype[STRIP_OFFSETS] = ifd.tagtype[STRIP_BYTES] = 4
    # Pillow counts these places from the end of the directory, and converts them to places in the file.
    ifd[STRIP_OFFSETS] = tuple(places)
    return order + struct.pack(tags._endian + "I", 8) + ifd.tobytes(8) + b"".join(strips)
