"""Mends an encoded PNG or JPEG whose pixels are whole, and whose other parts are damaged.

Pillow refuses a picture for a note that is cut short or has a wrong checksum, and for a missing end mark, but
every viewer shows it.
Sources: PNG 1.2, chapter 3 and 4; ITU-T T.81, annex B.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from io import BytesIO

from PIL import JpegImagePlugin

PNG_HEAD, JPEG_HEAD = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"
# Chunks of a PNG, with the shortest body that means anything: what pixels need, and what says how to look at
# them. eXIf and texts are not needed here, because picture_header.py finds them in the file itself.
NEEDED = {b"IHDR": 13, b"PLTE": 3, b"IDAT": 0, b"IEND": 0, b"tRNS": 0, b"pHYs": 9}
# Markers of a JPEG: JFIF's header, EXIF and XMP, Adobe's colours, and the start of the scan.
JFIF, EXIF, ADOBE, COMMENT, SCAN = 0xE0, 0xE1, 0xEE, 0xFE, 0xDA
JFIF_BYTES, ADOBE_BYTES = 14, 12
END_MARK = b"\xff\xd9"
FILLING = b"\x5a\xa5\x33" * 400  # codes that no picture goes on with by chance
TRANSPARENT = {0: (2,), 2: (6,), 3: range(1, 257)}  # lengths of tRNS, by the colour type of a PNG


def bare_copies(data: bytes) -> Iterator[bytes]:
    """Copies of a picture with less and less beside its pixels; none for other formats, or for damage."""
    if data.startswith(PNG_HEAD):
        yield PNG_HEAD + b"".join(_needed_chunks(data))
    elif data.startswith(JPEG_HEAD):
        for kept in ((JFIF, EXIF, ADOBE), (JFIF, ADOBE)):
            yield JPEG_HEAD + b"".join(_needed_segments(data, kept))


def _needed_chunks(data: bytes) -> Iterator[bytes]:
    place, colours = len(PNG_HEAD), data[25:26]
    while place + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        kind, end = data[place + 4 : place + 8], place + 12 + length
        if kind in NEEDED and length >= NEEDED[kind]:
            is_note = kind in (b"tRNS", b"pHYs")
            fits = kind != b"tRNS" or (colours and length in TRANSPARENT.get(colours[0], ()))
            (told,) = struct.unpack_from(">I", data[end - 4 : end].ljust(4, b"\0"))
            if not is_note or (fits and told == zlib.crc32(data[place + 4 : end - 4])):
                yield data[place:end]
        place = end


def _needed_segments(data: bytes, kept: tuple[int, ...]) -> Iterator[bytes]:
    """The segments before the scan that pixels need, and then everything from the scan on."""
    place = len(JPEG_HEAD)
    while place + 4 <= len(data) and data[place] == 0xFF:
        kind = data[place + 1]
        if kind == 0xFF:  # a marker may have fill bytes before it
            place += 1
            continue
        if kind == SCAN:
            break
        (length,) = struct.unpack_from(">H", data, place + 2)
        shortest = {JFIF: JFIF_BYTES, ADOBE: ADOBE_BYTES}.get(kind, 0)
        is_note = JFIF <= kind <= 0xEF or kind == COMMENT
        if not is_note or (kind in kept and length >= shortest):
            yield data[place : place + 2 + length]
        place += 2 + length
    yield data[place:]


def with_end_mark(data: bytes) -> bytes | None:
    """A JPEG with its end mark, if nothing else is missing; else None.

    The decoder goes on with whatever comes next as long as pixels are missing. So if they are all there, it
    makes no difference what stands between them and the end.
    """
    if not data.startswith(JPEG_HEAD):
        return None
    with_end, filled = (_smallest(data + more + END_MARK) for more in (b"", FILLING))
    return data + END_MARK if with_end is not None and with_end == filled else None


def _smallest(data: bytes) -> bytes | None:
    """The pixels of a JPEG at an eighth of its size; None where it cannot be decoded."""
    try:
        image = JpegImagePlugin.JpegImageFile(BytesIO(data))
        image.draft(None, (1, 1))
        return image.tobytes()
    except (OSError, SyntaxError, ValueError, TypeError, IndexError, struct.error):
        return None
