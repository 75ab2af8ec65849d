"""Pictures whose pixels are whole and whose notes are damaged are read, and cut pixels are not."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from nanoocr.errors import PictureError
from nanoocr.pictures import open_image, upright_size
from tests.small_pictures import noise

PICTURE = noise(40, 64)
PNG_START = 8 + 25  # the signature and the header


def encoded(kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    PICTURE.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, body: bytes, checksum: int | None = None) -> bytes:
    checksum = zlib.crc32(kind + body) if checksum is None else checksum
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", checksum)


PNG_NOTES = {
    "a density that is cut short": chunk(b"pHYs", b"\0\0"),
    "a text with a wrong checksum": chunk(b"tEXt", b"a\0b", checksum=1),
    "a gamma of two bytes": chunk(b"gAMA", b"\0\0"),
    "a text that unpacks to 80 MB": chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(80_000_000))),
    "a count of frames that is cut short": chunk(b"acTL", b"\0"),
    "a transparent colour of one byte": chunk(b"tRNS", b"\0"),
}


@pytest.mark.parametrize("note", PNG_NOTES.values(), ids=PNG_NOTES)
@pytest.mark.parametrize("density", [b"", chunk(b"pHYs", struct.pack(">IIB", 2000, 1000, 1))])
def test_a_png_with_a_damaged_note_is_read(note, density):
    plain = encoded("PNG")
    data = plain[:PNG_START] + density + note + plain[PNG_START:]
    height = 80 if density else 40  # what is whole still counts
    assert upright_size(data) == open_image(data).size[::-1] == (height, 64)
    if not density:
        assert open_image(data).tobytes() == PICTURE.tobytes()


@pytest.mark.parametrize(
    ("marker", "body"),
    [(0xEE, b"Adobe"), (0xE0, b"JFIF\0"), (0xE0, b"JFIF\0\1\1"), (0xE2, b"ICC_PROFILE\0\0\0x")],
)
def test_a_jpeg_with_a_damaged_note_is_read(marker, body):
    plain = encoded("JPEG")
    data = plain[:2] + bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body + plain[2:]
    assert open_image(data).tobytes() == open_image(plain).tobytes()


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_without_its_end_mark_is_read_and_one_with_fewer_pixels_is_not(progressive):
    plain = encoded("JPEG", progressive=progressive)
    assert open_image(plain[:-2]).tobytes() == open_image(plain).tobytes()
    with pytest.raises(PictureError, match="damaged or cut off"):
        open_image(plain[: len(plain) * 9 // 10] if not progressive else plain[: len(plain) // 4])


def test_a_png_with_damaged_pixels_is_refused():
    plain = encoded("PNG")
    place = plain.index(b"IDAT") + 20
    with pytest.raises(PictureError):
        open_image(plain[:place] + bytes((plain[place] ^ 1,)) + plain[place + 1 :])
    assert np.asarray(Image.open(io.BytesIO(plain))).shape == (40, 64, 3)
