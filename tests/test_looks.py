"""What a picture says beside its pixels: which way is up, how wide a pixel is, what white is, its pages."""

import io
import os
import random
import struct
import time
import zlib

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from nanoocr.errors import PictureError
from nanoocr.image_process import fit_picture
from nanoocr.pages import count_pages, is_readable, open_source
from nanoocr.picture_header import FORMATS
from nanoocr.pictures import open_image, upright_size

ORIENTATION = 0x0112


def encoded(image: Image.Image, format_name: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_name, **options)
    return buffer.getvalue()


def size(image: Image.Image) -> tuple[int, int]:
    return image.height, image.width


def marked(height: int = 60, width: int = 100) -> Image.Image:
    """White, with a mark that no turn and no mirror maps onto itself."""
    image = Image.new("L", (width, height), 255)
    image.paste(0, (0, 0, width // 2, height // 4))
    return image


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def with_chunk(png: bytes, kind: bytes, body: bytes, behind: bool) -> bytes:
    """The chunk in front of the pixels or behind them."""
    place = png.index(b"IEND") - 4 if behind else png.index(b"IDAT") - 4
    return png[:place] + chunk(kind, body) + png[place:]


# Orientation


@pytest.mark.parametrize("format_name", FORMATS)
@pytest.mark.parametrize("orientation", range(10))
def test_the_planned_size_is_the_size_that_comes_out(format_name, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    options = {} if format_name in ("BMP", "DIB", "GIF") else {"exif": exif}
    data = encoded(marked().convert("RGB"), format_name, **options)
    turned = bool(options) and orientation in (5, 6, 7, 8)
    assert upright_size(data) == size(open_image(data)) == ((100, 60) if turned else (60, 100))
    lazy = Image.open(io.BytesIO(data))
    assert upright_size(lazy) == size(open_image(lazy)) == upright_size(data)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_tiff_is_planned_as_it_is_fitted(orientation):
    info = TiffImagePlugin.ImageFileDirectory_v2()
    info[ORIENTATION] = orientation
    stored = Image.new("L", (500, 1600) if orientation > 4 else (1600, 500), 255)
    data = encoded(stored, "TIFF", tiffinfo=info)
    assert upright_size(data) == size(open_image(data)) == (500, 1600)


XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


@pytest.mark.parametrize("format_name", ["JPEG", "TIFF", "WEBP"])
def test_an_orientation_that_only_xmp_tells(format_name):
    options = {"tiffinfo": {700: XMP}} if format_name == "TIFF" else {"xmp": XMP}
    data = encoded(marked().convert("RGB"), format_name, **options)
    assert upright_size(data) == size(open_image(data)) == (100, 60)


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("kind", ["eXIf", "XMP", "XMP, packed", "profile, packed"])
def test_the_orientation_of_a_png_before_and_behind_its_pixels(kind, behind):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    body = exif.tobytes().removeprefix(b"Exif\0\0")
    profile = b"\nexif\n%8d\n%b\n" % (len(body) + 6, (b"Exif\0\0" + body).hex().encode())
    kinds = {
        "eXIf": (b"eXIf", body),
        "XMP": (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP),
        "XMP, packed": (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(XMP)),
        "profile, packed": (b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(profile)),
    }
    data = with_chunk(encoded(marked(), "PNG"), *kinds[kind], behind)
    assert upright_size(data) == (100, 60)
    opened = open_image(data)
    assert size(opened) == (100, 60)
    assert opened.convert("L").tobytes() == marked().transpose(Image.Transpose.ROTATE_270).tobytes()


def test_planning_a_png_takes_no_pixels():
    noise = np.random.default_rng(0).integers(0, 256, (2339, 1654, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), "PNG", compress_level=0)
    cut = data[: len(data) // 2]  # nothing can be decoded to its end
    times = []
    for _ in range(10):
        started = time.perf_counter()
        assert upright_size(cut) == (2339, 1654)
        times.append(time.perf_counter() - started)
    assert min(times) < 0.001


def test_what_was_opened_is_not_turned_again():
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    opened = open_image(encoded(marked().convert("RGB"), "JPEG", exif=exif, dpi=(200, 100)))
    assert size(open_image(opened)) == upright_size(opened) == size(opened) == (100, 120)


# Pixels that are not square


def with_density(format_name: str, across: int, down: int) -> bytes:
    image = marked().convert("RGB")
    if format_name == "WEBP":
        exif = Image.Exif()
        exif[0x011A], exif[0x011B] = across, down
        return encoded(image, format_name, exif=exif)
    return encoded(image, format_name, dpi=(across, down))


@pytest.mark.parametrize("format_name", ["PNG", "JPEG", "WEBP", "TIFF", "BMP"])
@pytest.mark.parametrize(
    ("across", "down", "expected"),
    [
        (204, 98, (125, 100)),  # a fax, and
        (204, 196, (62, 100)),  # a fine one
        (204, 391, (60, 192)),
        (100, 200, (60, 200)),
        (200, 200, (60, 100)),
        (300, 30, (60, 100)),  # nobody means that
    ],
)
def test_the_page_is_stretched_to_square_pixels(format_name, across, down, expected):
    data = with_density(format_name, across, down)
    opened = open_image(data)
    assert upright_size(data) == size(opened) == expected
    ((top, left),) = [np.argwhere(np.asarray(opened.convert("L")) > 128).min(axis=0)]
    assert (top, left) == (0, 0)
    assert (
        abs((np.asarray(opened.convert("L"))[:, 0] < 128).mean() - 0.25) < 0.02
    )  # the mark, a quarter of it


@pytest.mark.parametrize("unit", [1, 2, 3])
def test_a_tiff_is_stretched_whatever_its_unit(unit):
    info = TiffImagePlugin.ImageFileDirectory_v2()
    info[282], info[283], info[296] = 80.0, 40.0, unit
    data = encoded(marked(), "TIFF", tiffinfo=info)
    assert upright_size(data) == size(open_image(data)) == (120, 100)


def test_a_png_and_a_jpeg_that_give_only_the_ratio():
    png = with_chunk(encoded(marked(), "PNG"), b"pHYs", struct.pack(">IIB", 2, 1, 0), behind=False)
    jpeg = encoded(marked(), "JPEG")
    place = jpeg.index(b"JFIF\0") + 7
    jpeg = jpeg[:place] + struct.pack(">BHH", 0, 2, 1) + jpeg[place + 5 :]
    for data in (png, jpeg):
        assert upright_size(data) == size(open_image(data)) == (120, 100)


@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "TIFF"])
def test_a_fax_that_lies_on_its_side(format_name):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    data = encoded(marked().convert("RGB"), format_name, exif=exif, dpi=(200, 100))
    assert upright_size(data) == size(open_image(data)) == (100, 120)


@pytest.mark.parametrize("values", [(0, 0), (0, 98)])
def test_a_resolution_without_meaning_is_none(values):
    info = TiffImagePlugin.ImageFileDirectory_v2()
    info[282], info[283] = (TiffImagePlugin.IFDRational(value, 1) for value in values)
    data = encoded(marked(), "TIFF", tiffinfo=info)
    assert upright_size(data) == size(open_image(data)) == (60, 100)


# Depth


def packed_tiff(values: np.ndarray, bits: int, photometric: int = 1, most: int | None = None) -> bytes:
    """A grey TIFF of 12 bits packed or of 16, little-endian."""
    height, width = values.shape
    if bits == 12:
        pairs = values.astype(int).reshape(height, -1, 2)
        first, second = pairs[..., 0], pairs[..., 1]
        parts = [first >> 4, (first & 15) << 4 | second >> 8, second & 255]
        data = np.stack(parts, -1).astype(np.uint8).tobytes()
    else:
        data = values.astype("<u2").tobytes()
    data += b"\0" * (len(data) % 2)
    tags = [(256, width), (257, height), (258, bits), (259, 1), (262, photometric), (273, 8), (277, 1)]
    tags += [(278, height), (279, len(data)), *([(281, most)] if most else [])]
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHLL", t, 4, 1, v) for t, v in tags)
    return b"II*\0" + struct.pack("<L", 8 + len(data)) + data + directory + struct.pack("<L", 0)


def grey(data: bytes) -> np.ndarray:
    return np.asarray(open_image(data).convert("L")).astype(int)


PAPER_AND_INK = np.array([[255, 255, 128, 0]] * 4)


@pytest.mark.parametrize("format_name", ["PNG", "TIFF"])
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_greys_of_every_depth_in_16_bits(format_name, bits):
    values = (PAPER_AND_INK * (2**bits - 1) // 255).astype(np.uint16)
    assert np.abs(grey(encoded(Image.fromarray(values), format_name)) - PAPER_AND_INK).max() <= 1


@pytest.mark.parametrize("kind", [np.int32, np.float32])
@pytest.mark.parametrize("bits", [10, 12, 14])
def test_greys_of_every_depth_in_32_bits(kind, bits):
    values = (PAPER_AND_INK * (2**bits - 1) // 255).astype(kind)
    assert np.abs(grey(encoded(Image.fromarray(values), "TIFF")) - PAPER_AND_INK).max() <= 1


def test_packed_12_bits_say_what_is_white():
    half = PAPER_AND_INK * 4095 // 255 // 2  # paper that is not white
    assert np.abs(grey(packed_tiff(half, 12)) - PAPER_AND_INK // 2).max() <= 1
    assert np.abs(grey(packed_tiff(half, 16, most=4095)) - PAPER_AND_INK // 2).max() <= 1


@pytest.mark.parametrize("bits", [10, 12, 16])
def test_a_deep_grey_in_which_0_is_white(bits):
    values = (255 - PAPER_AND_INK) * (2**bits - 1) // 255
    assert np.abs(grey(packed_tiff(values, 16, photometric=0)) - PAPER_AND_INK).max() <= 1


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_colours_of_every_depth_in_16_bits(bits):
    values = np.repeat(PAPER_AND_INK[..., None] * (2**bits - 1) // 255, 3, axis=2).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 16, 2, 0, 0, 0))
    data = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    seen = grey(data)
    assert (seen[:, :2] >= 250).all()
    assert (seen[:, 3] == 0).all()


# Large pictures


def test_a_large_jpeg_is_scaled_while_it_is_decoded():
    photo = encoded(marked(800, 1200), "JPEG", quality=90)
    opened = open_image(photo, max_pixels=200_000)
    assert size(opened) == (200, 300)
    assert abs((np.asarray(opened.convert("L")) < 128).mean() - 0.125) < 0.01


def test_a_photo_of_108_megapixels_is_read():
    photo = encoded(Image.new("L", (12000, 9000), 255), "JPEG", quality=50)
    assert upright_size(photo) == size(open_image(photo)) == (4500, 6000)


def test_a_jpeg_of_absurd_size_is_refused():
    photo = encoded(marked(800, 1200), "JPEG")
    with pytest.raises(PictureError, match="too large"):
        open_image(photo, max_pixels=20_000)


def test_a_large_sheet_in_black_and_white_is_scaled():
    sheet = encoded(marked(300, 400).convert("1"), "TIFF", compression="group4")
    opened = open_image(sheet, max_pixels=60_000)
    assert size(opened) == (150, 200)
    assert abs((np.asarray(opened.convert("L")) < 128).mean() - 0.125) < 0.01


# Pages and content


def tiff_of_pages(count: int) -> bytes:
    first, *others = [Image.new("L", (20 + number, 10), 255) for number in range(count)]
    return encoded(first, "TIFF", save_all=True, append_images=others)


def test_pages_of_a_tiff_take_linear_time():
    def seconds(count: int) -> float:
        data = tiff_of_pages(count)
        started = time.perf_counter()
        widths = [page.image.width for page in open_source(data, "x.tif")]
        assert widths == list(range(20, 20 + count))
        return time.perf_counter() - started

    seconds(20)
    assert seconds(400) < 4 * 2.5 * seconds(100)  # twice that and more where each page is walked to


def test_pages_do_not_share_their_pixels():
    pages = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "red")]
    data = encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    opened = [page.image for page in open_source(data)]
    assert [image.tobytes() for image in opened] == [image.tobytes() for image in pages]
    assert count_pages(data, "x") == 3


def test_content_says_what_can_be_read(tmp_path):
    (tmp_path / "photo.jfif").write_bytes(encoded(marked(), "JPEG"))
    (tmp_path / "scan").write_bytes(encoded(marked(), "PNG"))
    (tmp_path / "report.bin").write_bytes(b"%PDF-1.7\n")
    (tmp_path / "notes.png").write_text("no picture")
    readable = [name for name in sorted(os.listdir(tmp_path)) if is_readable(tmp_path / name)]
    assert readable == ["photo.jfif", "report.bin", "scan"]


def test_random_headers_are_planned_as_they_are_fitted():
    """Any mixture of orientation, density and limits: no pair of functions may differ."""
    draw = random.Random(0)
    for _ in range(60):
        exif = Image.Exif()
        exif[ORIENTATION] = draw.randrange(1, 9)
        format_name = draw.choice(["JPEG", "PNG", "TIFF"])
        image = Image.new("RGB", (draw.randrange(1, 90), draw.randrange(1, 90)), "white")
        dpi = (draw.randrange(50, 400), draw.randrange(50, 400))
        data = encoded(image, format_name, exif=exif, dpi=dpi)
        opened = open_image(data)
        assert upright_size(data) == size(opened)
        assert fit_picture(opened, [(64, 64)]).overview.shape == (64, 64, 3)


@pytest.mark.parametrize("compression", ["tiff_lzw", "jpeg", "group4"])
def test_libtiff_says_nothing_on_stderr(compression, capfd):
    image = Image.effect_noise((64, 64), 99).convert("1" if compression == "group4" else "L")
    data = bytearray(encoded(image, "TIFF", compression=compression))
    place = Image.open(io.BytesIO(data)).tag_v2[273][0]
    data[place : place + 200] = b"\xff\x13" * 100
    for damaged in (bytes(data), bytes(data[: place + 40])):
        for page in open_source(damaged, "x.tif"):
            assert page.image or page.error
    assert capfd.readouterr().err == ""
