"""Decodes large PNG and TIFF files strip by strip, and shrinks them on the way.

Pillow decodes such a picture as a whole, and 300 megapixels of colour take 900 MB. But both formats store
their rows in order, or a TIFF rows of tiles. So some rows at a time are put into a small file of their own,
which Pillow decodes, and only the smaller copy is kept. Sizes are (width, height) here, as in Pillow's calls.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from io import BytesIO
from itertools import accumulate
from typing import NamedTuple

from PIL import Image, PngImagePlugin, TiffImagePlugin

Directory = TiffImagePlugin.ImageFileDirectory_v2
STRIP_PIXELS = 4_000_000  # pixels that are decoded at once
PNG_HEAD = b"\x89PNG\r\n\x1a\n"
SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # samples per pixel, by the colour type of a PNG
# The tags of a TIFF that say how its strips are decoded.
TIFF_TAGS = (256, 258, 259, 262, 266, 277, 284, 292, 293, 317, 320, 338, 339, 347, 529, 530, 531, 532)
COMPRESSION, PHOTOMETRIC, ROWS_PER_STRIP, STRIP_OFFSETS, STRIP_BYTES, PLANAR = 259, 262, 278, 273, 279, 284
TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_BYTES = 322, 323, 324, 325
RAW, OLD_JPEG, YCBCR = 1, 6, 6  # values of the tags for compression and colours
DEFLATE = (8, 32946)  # the number of today and Adobe's


def comes_in_strips(image: Image.Image) -> bool:
    """Whether a picture can be decoded in strips: a PNG or TIFF with its rows, or rows of tiles, in order."""
    if isinstance(image, PngImagePlugin.PngImageFile):
        return not image.info.get("interlace") and not is_deep(image)
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return False
    # Of 16-bit colours Pillow keeps the upper 8 bits; of greys it keeps all, which cannot be averaged.
    if is_deep(image) and image.mode not in ("RGB", "RGBA"):
        return False
    tags = image.tag_v2
    if tags.get(PLANAR, 1) != 1 or tags.get(COMPRESSION) == OLD_JPEG:  # which does not come in strips
        return False
    bands = _bands(tags)
    if bands is None:
        return False
    return _can_be_cut(tags) or bands.rows * bands.width <= STRIP_PIXELS * 4


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


class _Bands(NamedTuple):
    """How a TIFF is stored: bands of `rows` rows, each a strip or a row of `across` tiles."""

    rows: int
    width: int  # of a band, with what the last tile has beyond the picture
    across: int
    offsets: tuple[int, ...]
    counts: tuple[int, ...]
    tiled: bool


def _bands(tags: Directory) -> _Bands | None:
    """The bands of a TIFF; None where its tags do not say where they are."""
    try:
        width, height = int(tags[256]), int(tags[257])
        if STRIP_OFFSETS in tags:
            rows = max(1, min(int(tags.get(ROWS_PER_STRIP, height)), height))
            offsets, counts = _numbers(tags[STRIP_OFFSETS]), _numbers(tags[STRIP_BYTES])
            return _Bands(rows, width, 1, offsets, counts, tiled=False)
        rows, across = int(tags[TILE_HEIGHT]), -(-width // int(tags[TILE_WIDTH]))
        if rows < 1 or across < 1:
            return None
        offsets, counts = _numbers(tags[TILE_OFFSETS]), _numbers(tags[TILE_BYTES])
        return _Bands(rows, across * int(tags[TILE_WIDTH]), across, offsets, counts, tiled=True)
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None


def _numbers(value: int | tuple[int, ...]) -> tuple[int, ...]:
    """Several numbers of a tag. Pillow gives a single one of some tags alone."""
    return value if isinstance(value, tuple) else (int(value),)


def _tiff_strips(image: Image.Image, data: bytes) -> Iterator[Image.Image]:
    """Decode a few of the file's own bands at a time, each time as a TIFF that holds nothing else."""
    assert isinstance(image, TiffImagePlugin.TiffImageFile)
    tags = image.tag_v2
    for content, rows, each in _cut_strip(tags, data) if _can_be_cut(tags) else _taken_bands(tags, data):
        strip = TiffImagePlugin.TiffImageFile(BytesIO(_small_tiff(tags, content, rows, each)))
        strip.load()
        yield strip


def _taken_bands(tags: Directory, data: bytes) -> Iterator[tuple[list[bytes], int, int]]:
    """(encoded strips or tiles, their rows, the rows of each) for some whole bands at a time."""
    bands = _bands(tags)
    assert bands is not None
    width, height = int(tags[256]), int(tags[257])
    together = max(1, STRIP_PIXELS // (bands.rows * width))
    for first in range(0, -(-height // bands.rows), together):
        taken = slice(first * bands.across, (first + together) * bands.across)
        places = list(zip(bands.offsets[taken], bands.counts[taken], strict=True))
        rows = min(bands.rows * (len(places) // bands.across), height - first * bands.rows)
        if rows <= 0:
            return
        yield [data[start : start + count] for start, count in places], rows, bands.rows


def _can_be_cut(tags: Directory) -> bool:
    """Whether the whole picture is one strip that can be cut between its rows: raw, or packed by deflate."""
    bands = _bands(tags)
    if bands is None or bands.tiled or len(bands.offsets) != 1 or tags.get(PHOTOMETRIC) == YCBCR:
        return False
    return tags.get(COMPRESSION, RAW) in (RAW, *DEFLATE)


def _cut_strip(tags: Directory, data: bytes) -> Iterator[tuple[list[bytes], int, int]]:
    """As `_taken_bands`, from a picture in one strip: some rows of it at a time, packed anew if need be.

    A predictor subtracts within a row, so rows stay what they are.
    """
    width, height = int(tags[256]), int(tags[257])
    line = -(-width * sum(_numbers(tags.get(258, 1))) // 8)
    rows = max(1, STRIP_PIXELS // width)
    bands = _bands(tags)
    assert bands is not None
    start, count = bands.offsets[0], bands.counts[0]
    content, unpack = data[start : start + count], zlib.decompressobj()
    is_raw = tags.get(COMPRESSION, RAW) == RAW
    for first in range(0, height, rows):
        here = min(rows, height - first)
        if is_raw:
            piece = content[first * line : (first + here) * line]
        else:
            piece = unpack.decompress(unpack.unconsumed_tail if first else content, here * line)
        if len(piece) < here * line:
            raise OSError("its rows end too early")
        yield [piece if is_raw else zlib.compress(piece, 0)], here, here


def _small_tiff(tags: Directory, parts: list[bytes], rows: int, each: int) -> bytes:
    """Build a TIFF of these strips or tiles, in the byte order of the file that they come from."""
    order = b"II*\0" if tags._endian == "<" else b"MM\0*"
    ifd = Directory(ifh=order + bytes(4))
    for tag in TIFF_TAGS:
        if tag in tags:
            ifd.tagtype[tag] = tags.tagtype[tag]
            ifd[tag] = tags[tag]
    ifd[257] = rows
    tiled = TILE_OFFSETS in tags
    if tiled:
        ifd[TILE_WIDTH], ifd[TILE_HEIGHT] = tags[TILE_WIDTH], each
    else:
        ifd[ROWS_PER_STRIP] = each
    offsets, counts = (TILE_OFFSETS, TILE_BYTES) if tiled else (STRIP_OFFSETS, STRIP_BYTES)
    ifd.tagtype[offsets] = ifd.tagtype[counts] = 4
    ifd[counts] = tuple(map(len, parts))
    places = tuple(accumulate(map(len, parts[:-1]), initial=0))
    ifd[offsets] = places
    # Pillow counts the places of strips from the end of the directory, those of tiles from the file's start.
    if tiled:
        behind = 8 + len(ifd.tobytes(8))
        ifd[offsets] = tuple(behind + place for place in places)
    return order + struct.pack(tags._endian + "I", 8) + ifd.tobytes(8) + b"".join(parts)
