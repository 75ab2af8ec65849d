"""Pictures above the limit on pixels: decoded strip by strip, they come out as if made smaller as a whole."""

import io
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from nanoocr import large_pictures
from nanoocr.errors import PictureError
from nanoocr.pictures import TURNS, open_image

SIDES = (317, 211)  # (width, height): no multiples of anything
SHORT_STRIPS = {278: 8}  # RowsPerStrip of a TIFF


@pytest.fixture(autouse=True)
def small_strips(monkeypatch):
    monkeypatch.setattr(large_pictures, "STRIP_PIXELS", 317 * 20)


def picture(mode: str) -> Image.Image:
    """Soft shapes and hard edges, so that every filter of a PNG is used."""
    y, x = np.mgrid[: SIDES[1], : SIDES[0]]
    bands = [(x * k + y * y // (40 * k)) % 256 for k in (1, 2, 3)]
    image = Image.fromarray(np.stack(bands, axis=-1).astype(np.uint8))
    image.paste((0, 0, 0), (30, 50, 200, 90))
    if mode in ("RGBA", "LA"):
        made = image.convert(mode)
        made.putalpha(Image.fromarray((x % 256).astype(np.uint8)))
        return made
    return image.convert(mode)


def encoded(image: Image.Image, format_name: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_name, **options)
    return buffer.getvalue()


def assert_as_a_whole(data: bytes, tolerance: float = 1.0) -> None:
    """Within the limit the picture is read whole; above it the same picture comes out, at half the size."""
    whole = open_image(data)
    limit = whole.width * whole.height // 3
    small = open_image(data, max_pixels=limit)
    assert small.size == (-(-whole.width // 2), -(-whole.height // 2))
    expected = np.asarray(whole.reduce(2), np.float32)
    assert np.abs(np.asarray(small, np.float32) - expected).mean() < tolerance


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA", "P", "1"])
def test_a_png_in_strips_is_the_png(mode):
    # A palette and a grey with alpha are averaged as colours on paper, not as they are seen: nearly the same.
    assert_as_a_whole(encoded(picture(mode), "PNG"), tolerance=4.0 if mode in ("RGBA", "LA") else 1.0)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_a_png_of_few_colours(bits):
    image = picture("RGB").quantize(2**bits)
    assert_as_a_whole(encoded(image, "PNG", bits=bits))


@pytest.mark.parametrize("bits", [2, 4])
def test_a_png_of_few_greys(bits):
    """Pillow writes none: a palette of greys of that depth, declared to be grey."""
    levels = 2**bits
    grey = picture("L").point(lambda v: v * levels // 256)
    palette = Image.frombytes("P", grey.size, grey.tobytes())
    palette.putpalette([value * 255 // (levels - 1) for value in range(levels) for _ in range(3)])
    data = bytearray(encoded(palette, "PNG", bits=bits))
    start = data.index(b"PLTE") - 4
    del data[start : start + 12 + int.from_bytes(data[start : start + 4], "big")]
    data[25] = 0  # the colour type
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    assert_as_a_whole(bytes(data))


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_deflate", "packbits", "jpeg"])
@pytest.mark.parametrize("mode", ["RGB", "L", "P"])
def test_a_tiff_in_strips_is_the_tiff(compression, mode):
    if (compression, mode) == ("jpeg", "P"):
        pytest.skip("JPEG holds no palettes")
    data = encoded(picture(mode), "TIFF", compression=compression, tiffinfo=SHORT_STRIPS)
    assert_as_a_whole(data, tolerance=3.0)


@pytest.mark.parametrize("compression", ["group3", "group4", "raw", "packbits"])
def test_a_tiff_of_black_and_white(compression):
    assert_as_a_whole(encoded(picture("1"), "TIFF", compression=compression, tiffinfo=SHORT_STRIPS))


def test_a_tiff_with_a_predictor():
    data = encoded(picture("RGB"), "TIFF", compression="tiff_lzw", tiffinfo={**SHORT_STRIPS, 317: 2})
    assert_as_a_whole(data)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format_name", ["PNG", "TIFF"])
def test_large_pictures_are_turned(format_name, orientation):
    exif = Image.Exif()
    exif[274] = orientation
    options = {"tiffinfo": {274: orientation, **SHORT_STRIPS}} if format_name == "TIFF" else {"exif": exif}
    data = encoded(picture("L"), format_name, **options)
    small = open_image(data, max_pixels=SIDES[0] * SIDES[1] // 3)
    expected = picture("L").reduce(2)
    expected = expected.transpose(TURNS[orientation]) if orientation > 1 else expected
    assert np.array_equal(np.asarray(small.convert("L")), np.asarray(expected))


@pytest.mark.parametrize("format_name", ["PNG", "TIFF"])
def test_a_large_picture_that_is_cut_off_is_damaged(format_name):
    data = encoded(picture("RGB"), format_name, tiffinfo=SHORT_STRIPS)
    with pytest.raises(PictureError, match="damaged"):
        open_image(data[: len(data) // 2], max_pixels=30_000)


BIG = """
import io, resource, sys
from PIL import Image
resource.setrlimit(resource.RLIMIT_AS, (2**30 + 2**29, 2**30 + 2**29))
from nanoocr.pictures import open_image, upright_size
data = open(sys.argv[1], "rb").read()
image = open_image(data)
assert (image.height, image.width) == upright_size(data), image.size
print(image.size, image.getpixel((image.width // 2, image.height // 2)))
"""


def test_300_megapixels_of_colour_stay_within_the_memory(tmp_path):
    """Decoded as a whole, they would be 900 MB, and twice that while they are made smaller."""
    width, height = 20_000, 15_000
    packer = zlib.compressobj(1)
    row = b"\0" + b"\xc8" * (3 * width)
    packed = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", packed), (b"IEND", b""))
    path = tmp_path / "map.png"
    path.write_bytes(large_pictures.PNG_HEAD + b"".join(large_pictures._chunk(*chunk) for chunk in chunks))
    done = subprocess.run([sys.executable, "-c", BIG, str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "(6667, 5000) (200, 200, 200)\n"
