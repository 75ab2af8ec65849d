"""Transparent pixels: the letters are seen wherever a file has put them."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageDraw

from nanoocr.pictures import open_image, upright_size

SIZE = (200, 60)  # (width, height)


def letters() -> Image.Image:
    """255 where the letters are."""
    mask = Image.new("L", SIZE, 0)
    ImageDraw.Draw(mask).text((10, 15), "Total 4.50", fill=255, font_size=28)
    return mask


def opened(image: Image.Image, format_name: str = "PNG", **options) -> np.ndarray:
    """(height, width) uint8 of what is seen."""
    buffer = io.BytesIO()
    image.save(buffer, format_name, **options)
    assert upright_size(buffer.getvalue()) == SIZE[::-1]
    return np.asarray(open_image(buffer.getvalue()).convert("L"))


def coloured(colour: tuple[int, ...], alpha: Image.Image, mode: str = "RGBA") -> Image.Image:
    image = Image.new(mode, SIZE, (*colour, 255))
    image.putalpha(alpha)
    return image


def assert_dark_on_light(seen: np.ndarray) -> None:
    ink = np.asarray(letters()) > 200
    assert np.median(seen) > 200
    assert np.median(seen[ink]) < 128
    assert seen[np.asarray(letters()) == 0].min() > 200


@pytest.mark.parametrize("format_name", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("grey", [0, 60, 240, 255])
def test_letters_that_only_alpha_shows(format_name, grey):
    options = {"lossless": True, "exact": True} if format_name == "WEBP" else {}
    assert_dark_on_light(opened(coloured((grey,) * 3, letters()), format_name, **options))


def test_white_letters_in_grey_with_alpha_and_in_a_palette():
    assert_dark_on_light(opened(coloured((255,), letters(), "LA")))
    palette = Image.new("P", SIZE, 0)
    palette.putpalette([255] * 6 + [0] * 762)
    palette.paste(1, mask=letters().point(lambda v: 255 * (v > 128)))
    seen = opened(palette, transparency=0)
    assert np.median(seen) == 255 and seen.min() == 0


def test_letters_that_are_holes_in_white_paper():
    holes = letters().point(lambda v: 255 - v)
    assert_dark_on_light(opened(coloured((255, 255, 255), holes)))


@pytest.mark.parametrize("alpha", [0, 1, 20])
@pytest.mark.parametrize("format_name", ["PNG", "TIFF"])
def test_an_alpha_that_means_nothing(format_name, alpha):
    page = letters().point(lambda v: 255 - v).convert("RGBA")
    page.putalpha(alpha)
    assert_dark_on_light(opened(page, format_name))


def test_faint_letters_and_blank_pages_stay_as_they_are():
    faint = Image.new("RGBA", SIZE, (255, 255, 255, 255))
    faint.paste((230, 230, 230, 255), mask=letters())
    assert np.array_equal(opened(faint), np.asarray(faint.convert("L")))
    assert opened(Image.new("RGBA", SIZE, (255, 255, 255, 0))).min() == 255


def png_of_16_bits(samples: np.ndarray) -> bytes:
    """(height, width, bands) uint16 as a PNG of grey and alpha, or of colours and alpha."""
    height, width, bands = samples.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    head = struct.pack(">IIBBBBB", width, height, 16, {2: 4, 4: 6}[bands], 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    packed = (
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


@pytest.mark.parametrize("bands", [2, 4])
@pytest.mark.parametrize("bits", [10, 12, 14, 16])
@pytest.mark.parametrize("alpha_bits", [None, 16])
def test_colours_of_every_depth_beside_an_alpha(bands, bits, alpha_bits):
    grey = (255 - np.asarray(letters(), np.uint32)) * (2**bits - 1) // 255
    alpha = np.full_like(grey, 2 ** (alpha_bits or bits) - 1)
    seen = open_image(png_of_16_bits(np.stack([*[grey] * (bands - 1), alpha], axis=-1)))
    assert_dark_on_light(np.asarray(seen.convert("L")))
