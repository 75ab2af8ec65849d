"""Pictures of every kind open as upright RGB on white; bad files become named errors."""

import gc
import io
import struct
import time
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from nanoocr.errors import PictureError
from nanoocr.folders import looks_readable
from nanoocr.pictures import FORMATS, SUBFILE_TYPE, open_image, page_frames
from tests.small_pictures import noise

MODES = ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"]
MODES += ["I;16", "I;16L", "I;16B", "I;16N", "I", "F"]


def encoded(image: Image.Image, format_name: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_name, **options)
    return buffer.getvalue()


def corner(image: Image.Image) -> tuple[int, ...]:
    return image.getpixel((0, 0))


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to no pixels."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0"))


def refusal(source, **options) -> PictureError:
    with pytest.raises(PictureError) as caught:
        open_image(source, **options)
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("format_name", FORMATS)
def test_every_format_opens_as_rgb(format_name, tmp_path):
    path = tmp_path / f"x.{format_name.lower()}"
    path.write_bytes(encoded(Image.new("RGB", (30, 20), (200, 40, 90)), format_name))
    image = open_image(path)
    assert (image.mode, image.size) == ("RGB", (30, 20))
    assert np.abs(np.array(corner(image)) - (200, 40, 90)).max() <= 30  # GIF has a palette, JPEG is lossy


@pytest.mark.parametrize(
    ("head", "what"),
    [
        (b"\0\0\0\x0cjP  \r\n\x87\n", "holds JPEG 2000, which is not read: convert it"),
        (b"\0\0\0\x1cftypavif\0\0\0\0", "holds AVIF, which is not read: convert it"),
        (b"\0\0\0\x1cftypheic\0\0\0\0", "holds HEIC, which is not read: convert it"),
        (b"\0\0\0\x1cftypmp42\0\0\0\0", "is not a picture that can be read"),
    ],
)
def test_formats_that_are_not_read_by_design_are_named(head, what):
    with pytest.raises(PictureError, match=what):
        open_image(head + bytes(64))


def test_a_bitmap_without_its_file_header_is_read(tmp_path):
    path = tmp_path / "x.dib"
    Image.new("RGB", (40, 20), (255, 0, 0)).save(path)
    assert looks_readable(path)
    assert open_image(path).getpixel((5, 5)) == (255, 0, 0)


def test_all_sources_give_the_same_picture(tmp_path):
    data = encoded(noise(20, 30), "PNG")
    path = tmp_path / "x.png"
    path.write_bytes(data)
    with path.open("rb") as stream:
        sources = [str(path), path, data, io.BytesIO(data), stream, Image.open(io.BytesIO(data))]
        opened = [open_image(source).tobytes() for source in sources]
    assert set(opened) == {noise(20, 30).tobytes()}


def test_the_format_is_judged_by_content_not_by_suffix(tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(encoded(noise(8, 8), "PNG"))
    assert open_image(path).tobytes() == noise(8, 8).tobytes()


@pytest.mark.parametrize("format_name", ["GIF", "TIFF", "WEBP"])
def test_the_first_frame_is_read(format_name):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("white", "black", "red")]
    options = {"lossless": True} if format_name == "WEBP" else {}
    data = encoded(frames[0], format_name, save_all=True, append_images=frames[1:], **options)
    assert corner(open_image(data)) == (255, 255, 255)


def frames(*, subfile_types: tuple[int, ...] = (0, 0, 0), **options) -> bytes:
    """A TIFF of frames 10, 11, 12 ... pixels wide, each with the tag NewSubfileType."""
    buffer = io.BytesIO()
    with TiffImagePlugin.AppendingTiffWriter(buffer) as file:
        for number, kind in enumerate(subfile_types):
            Image.new("RGB", (10 + number, 8)).save(file, "TIFF", tiffinfo={SUBFILE_TYPE: kind}, **options)
            file.newFrame()
    return buffer.getvalue()


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "jpeg"])
def test_every_frame_of_a_tiff_can_be_opened(compression):
    data = frames(compression=compression)
    assert page_frames(data, "x") == [0, 1, 2]
    assert [open_image(data, frame=frame).width for frame in range(3)] == [10, 11, 12]


def test_a_frame_is_laid_upright_by_its_own_orientation():
    buffer = io.BytesIO()
    with TiffImagePlugin.AppendingTiffWriter(buffer) as file:
        for orientation in (1, 6):
            noise(8, 10).save(file, "TIFF", tiffinfo={0x0112: orientation})
            file.newFrame()
    upright, turned = (open_image(buffer.getvalue(), frame=frame) for frame in range(2))
    assert turned.tobytes() == upright.transpose(Image.Transpose.ROTATE_270).tobytes()


def test_smaller_copies_and_masks_are_no_pages():
    """Pyramids and thumbnails: the same page again."""
    assert page_frames(frames(subfile_types=(2, 1, 4, 2)), "x") == [0, 3]
    assert page_frames(frames(subfile_types=(1, 0)), "x") == [1]
    assert page_frames(frames(subfile_types=(1, 1)), "x") == [0]
    old = io.BytesIO()  # the tag of before 1992
    with TiffImagePlugin.AppendingTiffWriter(old, True) as file:
        for kind in (1, 2):
            Image.new("RGB", (10, 8)).save(file, "TIFF", tiffinfo={255: kind})
            file.newFrame()
    assert page_frames(old.getvalue(), "x") == [0]


@pytest.mark.parametrize("format_name", ["GIF", "WEBP", "PNG"])
def test_an_animation_is_one_page(format_name):
    first, second = noise(8, 8), noise(8, 8, seed=1)
    assert page_frames(encoded(first, format_name, save_all=True, append_images=[second]), "x") == [0]


def test_a_damaged_frame_is_a_page_that_cannot_be_opened():
    data = frames()
    where = data.index(struct.pack("<HHII", 0x0100, 4, 1, 11))  # the width of the second frame
    damaged = data[:where] + b"\0" * 12 + data[where + 12 :]
    assert page_frames(damaged, "x") == [0, 1, 2]
    assert [open_image(damaged, frame=frame).width for frame in (0, 2)] == [10, 12]
    assert refusal(damaged, frame=1, name="x").kind == "unreadable"
    assert page_frames(data[:-150], "x") == [0, 1, 2]  # cut off within the last frame's pixels
    assert "cut off" in str(refusal(data[:-150], frame=2))


def test_an_endless_chain_of_frames_is_refused(monkeypatch):
    monkeypatch.setattr("nanoocr.pictures.MAX_PAGES", 3)
    with pytest.raises(PictureError, match="x is too large: its pages do not end before 3") as caught:
        page_frames(frames(), "x")
    assert caught.value.kind == "too_large"


@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(format_name, orientation):
    upright = Image.new("L", (48, 32), 255)
    upright.paste(0, (0, 0, 24, 8))  # a mark that no rotation or mirror image maps onto itself
    # The inverse of each orientation is what a camera held that way stores.
    store = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(store[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = open_image(encoded(stored.convert("RGB"), format_name, exif=exif))
    assert image.size == (48, 32)
    difference = np.asarray(image.convert("L"), int) - np.asarray(upright, int)
    assert np.abs(difference).mean() < 3  # lossy formats


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_a_damaged_exif_block_does_not_lose_the_picture():
    data = encoded(noise(8, 8), "PNG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff")
    assert open_image(data).tobytes() == noise(8, 8).tobytes()


@pytest.mark.parametrize(
    "mode",
    MODES,
)
def test_black_stays_black_and_white_stays_white_in_every_mode(mode):
    for value in (0, 255):
        plain = Image.new("RGB", (8, 8), (value,) * 3)
        if mode.startswith("I;16"):
            image = Image.new(mode, (8, 8), value * 257)
        elif mode in ("La", "RGBa"):
            image = plain.convert({"La": "LA", "RGBa": "RGBA"}[mode]).convert(mode)
        elif mode == "LAB":
            image = Image.merge("LAB", [Image.new("L", (8, 8), v) for v in (value, 128, 128)])
        elif mode == "PA":
            image = plain.convert("P").convert("PA")
        else:
            image = plain.convert(mode)
        assert image.mode == mode
        opened = open_image(image)
        assert opened.mode == "RGB"
        assert np.abs(np.array(corner(opened)) - value).max() <= 3, (mode, value, corner(opened))


@pytest.mark.parametrize("mode", ["LA", "La", "PA", "RGBA", "RGBa"])
def test_transparent_pixels_show_white_paper(mode):
    black = Image.new("RGBA", (2, 1), (0, 0, 0, 255))
    black.putpixel((1, 0), (0, 0, 0, 0))
    if mode == "PA":
        image = Image.new("P", (2, 1), 0)
        image.putpalette([0, 0, 0] * 256)
        image = image.convert("PA")
        image.putalpha(black.getchannel("A"))
    else:
        image = black.convert({"La": "LA", "RGBa": "RGBA"}.get(mode, mode)).convert(mode)
    opened = open_image(image)
    assert image.mode == mode
    assert opened.getpixel((0, 0)) == (0, 0, 0)
    assert opened.getpixel((1, 0)) == (255, 255, 255)


def test_half_transparent_black_is_grey():
    assert corner(open_image(Image.new("RGBA", (4, 4), (0, 0, 0, 128)))) == (127, 127, 127)


@pytest.mark.parametrize("mode", ["P", "L", "RGB"])
@pytest.mark.parametrize("format_name", ["PNG", "GIF"])
def test_a_transparent_colour_shows_white_paper(mode, format_name):
    if format_name == "GIF" and mode != "P":
        pytest.skip("GIF stores palettes only")
    image = Image.new(mode, (2, 1), 0)
    if mode == "P":
        image.putpalette([0, 0, 0, 9, 9, 9])
    image.putpixel((0, 0), (9, 9, 9) if mode == "RGB" else 9 if mode == "L" else 1)
    transparency = (0, 0, 0) if mode == "RGB" else 0
    opened = open_image(encoded(image, format_name, transparency=transparency))
    assert opened.getpixel((0, 0)) == (9, 9, 9)
    assert opened.getpixel((1, 0)) == (255, 255, 255)


def test_palette_with_an_alpha_table():
    image = Image.new("P", (2, 1), 1)
    image.putpalette([0, 0, 0, 200, 100, 0])
    image.putpixel((0, 0), 0)
    opened = open_image(encoded(image, "PNG", transparency=bytes([0, 255])))
    assert opened.getpixel((0, 0)) == (255, 255, 255)
    assert opened.getpixel((1, 0)) == (200, 100, 0)


@pytest.mark.parametrize("format_name", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_not_clipped(format_name):
    values = np.array([[0, 257, 32896, 65535]], dtype=np.uint16)
    opened = open_image(encoded(Image.fromarray(values), format_name))
    assert np.asarray(opened)[0, :, 0].tolist() == [0, 1, 128, 255]


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        ([0, 100, 255], np.int32, [0, 100, 255]),
        ([0, 25700, 65535], np.int32, [0, 100, 255]),
        ([-5, 1_000_000, 2_000_000], np.int32, [0, 128, 255]),
        ([0.0, 0.5, 1.0], np.float32, [0, 128, 255]),
        ([0.0, 100.4, 255.0], np.float32, [0, 100, 255]),
        ([0.0, np.nan, 65535.0], np.float32, [0, 0, 255]),
        ([-np.inf, 0.0, np.inf], np.float32, [0, 0, 0]),
    ],
)
def test_integer_and_float_greys(values, dtype, expected):
    image = Image.fromarray(np.array([values], dtype=dtype))
    assert image.mode in ("I", "F")
    assert np.asarray(open_image(image))[0, :, 0].tolist() == expected


@pytest.mark.parametrize("format_name", ["JPEG", "TIFF"])
def test_cmyk_files(format_name):
    image = Image.new("RGB", (16, 16), (255, 0, 0)).convert("CMYK")
    assert np.abs(np.array(corner(open_image(encoded(image, format_name)))) - (255, 0, 0)).max() <= 4


def test_missing_file(tmp_path):
    error = refusal(tmp_path / "nowhere.png")
    assert error.kind == "missing"
    assert "nowhere.png" in str(error)


def test_folder(tmp_path):
    error = refusal(tmp_path)
    assert error.kind == "unreadable"
    assert "folder" in str(error)


def test_zero_bytes(tmp_path):
    path = tmp_path / "empty.png"
    path.touch()
    assert refusal(path).kind == "empty"
    assert "empty.png" in str(refusal(path))
    assert refusal(b"").kind == "empty"


@pytest.mark.parametrize("content", [b"a", b"ab", b"abc"])
def test_a_file_shorter_than_a_signature_is_no_picture(content):
    assert "is not a picture" in str(refusal(content))


def test_text_with_a_picture_suffix(tmp_path):
    path = tmp_path / "note.png"
    path.write_text("not a picture at all, only text")
    error = refusal(path)
    assert error.kind == "unreadable"
    assert "note.png" in str(error)
    assert "PNG" in str(error)


def test_a_format_outside_the_list_is_refused():
    assert refusal(encoded(noise(8, 8), "PPM")).kind == "unreadable"


def test_the_given_name_is_used():
    assert "page 3 of x.pdf" in str(refusal(b"junk", name="page 3 of x.pdf"))


@pytest.mark.parametrize("format_name", FORMATS)
@pytest.mark.parametrize("kept", [0.05, 0.5, 0.9])
def test_truncated_files(format_name, kept):
    data = encoded(noise(64, 64), format_name)
    error = refusal(data[: int(len(data) * kept)], name="half.bin")
    assert error.kind == "unreadable"
    assert "half.bin" in str(error)


@pytest.mark.parametrize("side", [21_000, 60_000])
def test_a_huge_picture_is_refused_by_its_header(side):
    started = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Pillow would raise
        error = refusal(png_header(side, side), name="huge.png")
    assert error.kind == "too_large"
    assert f"{side} x {side}" in str(error)
    assert "huge.png" in str(error)
    assert time.perf_counter() - started < 1


def test_the_limit_is_a_parameter_and_inclusive():
    data = encoded(noise(10, 20), "PNG")
    assert open_image(data, max_pixels=200).size == (20, 10)
    assert open_image(data, max_pixels=199).size == (10, 5)  # what a decoder can make smaller on its way
    assert refusal(data, max_pixels=20).kind == "too_large"
    assert refusal(noise(10, 20), max_pixels=199).kind == "too_large"


def test_opening_a_path_leaves_no_open_file(tmp_path):
    path = Path(tmp_path / "x.png")
    path.write_bytes(encoded(noise(8, 8), "PNG"))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        open_image(path)
        gc.collect()  # a forgotten file speaks up when it is collected
    assert [str(one.message) for one in caught if one.category is ResourceWarning] == []
