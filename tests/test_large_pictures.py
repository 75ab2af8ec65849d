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


def tiff_file(parts: list[bytes], sides: tuple[int, int], bits: tuple[int, ...], **more) -> bytes:
    """A TIFF of encoded strips or tiles; `sides` are (width, height). Pillow writes no tiles."""
    tile, compression, predictor = more.get("tile", 0), more.get("compression", 8), more.get("predictor", 1)
    shared = len(set(parts)) == 1  # equal tiles share one place
    places = [8 if shared else 8 + sum(map(len, parts[:n])) for n in range(len(parts))]
    body = parts[0] if shared else b"".join(parts)
    photometric = [2 if len(bits) > 2 else 1]
    shorts = {258: bits, 259: [compression], 262: photometric, 277: [len(bits)], 317: [predictor]}
    lengths = [len(part) for part in parts]
    longs = {256: sides[:1], 257: sides[1:], 324 if tile else 273: places, 325 if tile else 279: lengths}
    longs |= {322: [tile], 323: [tile]} if tile else {278: sides[1:]}
    packed = {tag: (3, [struct.pack(">H", one) for one in values]) for tag, values in shorts.items()}
    packed |= {tag: (4, [struct.pack(">I", one) for one in values]) for tag, values in longs.items()}
    directory, outside, behind = b"", b"", 8 + len(body) + 2 + 12 * len(packed) + 4
    for tag, (kind, values) in sorted(packed.items()):
        value = b"".join(values)
        directory += struct.pack(">HHI", tag, kind, len(values))
        directory += value.ljust(4, b"\0") if len(value) <= 4 else struct.pack(">I", behind + len(outside))
        outside += value if len(value) > 4 else b""
    head = b"MM\0*" + struct.pack(">I", 8 + len(body)) + body
    return head + struct.pack(">H", len(packed)) + directory + bytes(4) + outside


def tiff(image: Image.Image, compression: int, *, tile: int = 0, deep: bool = False, predictor: int = 1):
    """A picture as a TIFF in one strip, or in square tiles, raw (1) or packed by deflate (8)."""
    pixels = np.asarray(image)
    pixels = np.atleast_3d(pixels.astype(">u2") * 257 if deep else pixels)
    pixels = pixels.astype(">u2") if deep else pixels
    height, width, samples = pixels.shape
    across, down = (tile, tile) if tile else (width, height)
    padded = np.pad(pixels, ((0, -height % down), (0, -width % across), (0, 0)))
    if predictor == 2:
        padded[:, 1:] -= padded[:, :-1].copy()
    corners = [(y, x) for y in range(0, len(padded), down) for x in range(0, padded.shape[1], across)]
    parts = [padded[y : y + down, x : x + across].tobytes() for y, x in corners]
    parts = [zlib.compress(part) for part in parts] if compression == 8 else parts
    bits = (16 if deep else 8,) * samples
    return tiff_file(parts, image.size, bits, tile=tile, compression=compression, predictor=predictor)


@pytest.mark.parametrize("compression", [1, 8])
@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("tile", [0, 48, 64])
def test_a_tiff_in_tiles_or_in_one_strip_is_the_tiff(compression, mode, tile):
    assert_as_a_whole(tiff(picture(mode), compression, tile=tile))


@pytest.mark.parametrize("tag", [322, 323])
def test_a_tile_that_claims_to_be_huge_is_not_decoded(tag):
    data = tiff(picture("RGB"), 8, tile=48)
    place = data.rindex(struct.pack(">HHI", tag, 4, 1)) + 8
    with pytest.raises(PictureError, match="too large"):
        open_image(data[:place] + struct.pack(">I", 2**30) + data[place + 4 :], max_pixels=30_000)


@pytest.mark.parametrize("tile", [0, 48])
def test_16_bit_colours_of_a_tiff(tile):
    assert_as_a_whole(tiff(picture("RGB"), 8, tile=tile, deep=True))


def test_a_predictor_in_one_strip():
    assert_as_a_whole(tiff(picture("RGB"), 8, predictor=2))


@pytest.mark.parametrize("tile", [0, 48])
def test_a_tiff_in_tiles_or_in_one_strip_that_is_cut_off_is_damaged(tile):
    data = tiff(picture("RGB"), 8, tile=tile)
    start = data.index(b"\x78\x9c", 2000)
    with pytest.raises(PictureError, match="damaged"):
        open_image(data[:start] + bytes(3000) + data[start + 3000 :], max_pixels=30_000)


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


GIANTS = """
import resource, sys
from pathlib import Path
from nanoocr.errors import PictureError
from nanoocr.pictures import open_image, upright_size
held = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmSize")) * 1024
resource.setrlimit(resource.RLIMIT_AS, (held + 280 * 2**20,) * 2)
for path in map(Path, sys.argv[1:]):
    try:
        image = open_image(path, name=path.name)
        assert (image.height, image.width) == upright_size(path), path
        print(path.name, image.size, image.getpixel((9, 9))[0])
        del image  # before the next one is decoded
    except PictureError as error:
        assert error.kind == "too_large", error
        print(error)
"""
GIANT = (12_000, 8_000)  # 96 megapixels: decoded as a whole, their colours take 384 MB


def repeated(row: bytes, times: int) -> bytes:
    """Rows that are equal, packed."""
    packer = zlib.compressobj(1)
    return b"".join(packer.compress(row) for _ in range(times)) + packer.flush()


def giant_png(bits: int, colour: int, interlaced: bool, packed: bytes) -> bytes:
    head = struct.pack(">IIBBBBB", *GIANT, bits, colour, 0, 0, interlaced)
    chunks = ((b"IHDR", head), (b"IDAT", packed), (b"IEND", b""))
    return large_pictures.PNG_HEAD + b"".join(large_pictures._chunk(*chunk) for chunk in chunks)


def giants() -> dict[str, bytes]:
    """Four that can be read, then five of which only the header is looked at."""
    width, height = GIANT
    tiles = -(-width // 512) * -(-height // 512)
    tile, deep = (zlib.compress(b"\xc8" * (bytes_each * 512 * 512), 1) for bytes_each in (3, 6))
    # The seven passes of an interlaced picture: as many bytes as pixels, and one more for each row of a pass.
    passes = [(8, 8), (8, 8), (4, 8), (4, 4), (2, 4), (2, 2), (1, 2)]  # (pixels across, down) between two
    interlaced = sum((1 + -(-width // x)) * -(-height // y) for x, y in passes)
    progressive = bytearray(encoded(picture("RGB"), "JPEG", progressive=True))
    place = progressive.index(b"\xff\xc2") + 5
    progressive[place : place + 4] = struct.pack(">HH", 12_000, 14_000)
    return {
        "tiles.tif": tiff_file([tile] * tiles, GIANT, (8, 8, 8), tile=512),
        "deep_tiles.tif": tiff_file([deep] * tiles, GIANT, (16, 16, 16), tile=512),
        "strip.tif": tiff_file([repeated(b"\xc8" * (3 * width), height)], GIANT, (8, 8, 8)),
        "grey_interlaced.png": giant_png(8, 0, True, repeated(bytes(1000), interlaced // 1000 + 1)),
        "interlaced.png": giant_png(8, 2, True, b""),
        "deep.png": giant_png(16, 2, False, b""),
        "deep.tif": tiff_file([b"x"], GIANT, (16,)),
        "lzw.tif": tiff_file([b"x"], GIANT, (8, 8, 8), compression=5),
        "progressive.jpg": bytes(progressive),
    }


def test_giants_are_made_smaller_or_refused_within_the_memory(tmp_path):
    files = giants()
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    paths = [str(tmp_path / name) for name in files]
    done = subprocess.run([sys.executable, "-c", GIANTS, *paths], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:3] == [f"{name} (6000, 4000) 200" for name in ("tiles.tif", "deep_tiles.tif", "strip.tif")]
    assert lines[3] == "grey_interlaced.png (6000, 4000) 0"
    for name, line in zip(list(files)[4:], lines[4:], strict=True):
        assert line.startswith(f"{name} is too large: ") and line.endswith(".")
