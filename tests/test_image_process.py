"""Pictures of every kind become the same views; bad files become named errors."""

import gc
import io
import struct
import time
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps, TiffImagePlugin

from nanoocr.errors import PictureError, UsageError
from nanoocr.image_process import (
    choose_view,
    contained_size,
    count_vision_tokens,
    expand_image_tokens,
    normalise,
    process_image,
    to_pixels,
)
from nanoocr.pictures import FORMATS, SUBFILE_TYPE, open_image, page_frames

MODES = ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"]
MODES += ["I;16", "I;16L", "I;16B", "I;16N", "I", "F"]


def encoded(image: Image.Image, format_name: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_name, **options)
    return buffer.getvalue()


def noise(height: int, width: int, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


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


# Opening: sources and formats


@pytest.mark.parametrize("format_name", FORMATS)
def test_every_format_opens_as_rgb(format_name, tmp_path):
    path = tmp_path / f"x.{format_name.lower()}"
    path.write_bytes(encoded(Image.new("RGB", (30, 20), (200, 40, 90)), format_name))
    image = open_image(path)
    assert (image.mode, image.size) == ("RGB", (30, 20))
    assert np.abs(np.array(corner(image)) - (200, 40, 90)).max() <= 30  # GIF has a palette, JPEG is lossy


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


# Opening: modes


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


# Opening: bad input


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


# Views


def test_a_picture_of_the_right_size_passes_untouched():
    image = noise(64, 128)
    view = process_image(image, (64, 128))
    assert view.shape == (3, 64, 128)
    assert view.dtype == torch.float32
    expected = (torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255 - 0.5) / 0.5
    torch.testing.assert_close(view, expected, atol=1e-6, rtol=0)
    assert torch.equal(to_pixels(view), torch.from_numpy(np.array(image)))


@pytest.mark.parametrize("image_size", [(100, 100), (37, 210), (301, 57), (640, 641), (3, 300), (63, 127)])
@pytest.mark.parametrize("size", [(128, 128), (128, 256), (192, 64)])
def test_contain_and_pad_as_the_released_model(image_size, size):
    image = noise(*image_size)
    expected = ImageOps.pad(image, size[::-1], method=Image.Resampling.BICUBIC, color=(127, 127, 127))
    assert np.array_equal(to_pixels(process_image(image, size)).numpy(), np.asarray(expected))


def test_stretch_fills_the_view():
    image = noise(30, 200)
    expected = image.resize((128, 64), Image.Resampling.BICUBIC)
    view = process_image(image, (64, 128), stretch=True)
    assert np.array_equal(to_pixels(view).numpy(), np.asarray(expected))


def test_padding_is_grey_127_and_centred():
    view = process_image(Image.new("RGB", (100, 50), "white"), (128, 128))
    assert view[:, :32].unique().item() == pytest.approx(-0.0039, abs=1e-4)
    assert view[:, 96:].unique().item() == pytest.approx(-0.0039, abs=1e-4)
    assert torch.equal(view[:, 32:96], torch.ones(3, 64, 128))


@pytest.mark.parametrize("image_size", [(1, 20_000), (20_000, 1), (1, 1)])
def test_extreme_ratios_keep_at_least_one_pixel(image_size):
    view = process_image(Image.new("RGB", image_size[::-1]), (64, 64))
    assert (view == -1).any()
    assert min(contained_size(image_size, (64, 64))) >= 1


def test_process_image_takes_any_mode():
    image = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    assert torch.equal(process_image(image, (64, 64)), torch.ones(3, 64, 64))


def test_process_image_refuses_other_sides():
    with pytest.raises(UsageError, match="100 x 64"):
        process_image(noise(8, 8), (100, 64))


def test_normalise_maps_all_bytes_into_the_range_and_back():
    pixels = torch.arange(256, dtype=torch.uint8)[None, None, :, None].expand(2, 1, 256, 3)
    views = normalise(pixels)
    assert views.shape == (2, 3, 1, 256)
    assert views.is_contiguous()
    assert (views.min().item(), views.max().item()) == (-1.0, 1.0)
    assert torch.equal(to_pixels(views[1]), pixels[1])


def test_a_batch_is_bit_equal_to_single_pictures():
    images = [noise(64, 128, seed) for seed in range(3)]
    batch = normalise(torch.from_numpy(np.stack([np.array(image) for image in images])))
    assert torch.equal(batch, torch.stack([process_image(image, (64, 128)) for image in images]))


@pytest.mark.parametrize("bad", [torch.zeros(1, 4, 4, 3), torch.zeros(1, 3, 4, 4, dtype=torch.uint8)])
def test_normalise_refuses_other_layouts(bad):
    with pytest.raises(UsageError, match="uint8"):
        normalise(bad)


def test_choose_view_wastes_least():
    views = [(128, 256), (256, 128), (256, 256)]
    assert choose_view((100, 200), views) == (128, 256)
    assert choose_view((1500, 1240), views) == (256, 256)
    assert choose_view((200, 90), views) == (256, 128)
    assert choose_view((50, 50), views) == (256, 256)


def test_choose_view_ties_go_to_the_smallest_that_need_not_shrink_the_picture():
    for views in ([(512, 512), (256, 256)], [(256, 256), (512, 512)]):
        assert choose_view((200, 256), views) == (256, 256)
        assert choose_view((333, 333), views) == (512, 512)
        assert choose_view((257, 100), views) == (512, 512)
        assert choose_view((2000, 2000), views) == (512, 512)  # none is large enough: the largest


def test_choose_view_without_views():
    with pytest.raises(UsageError, match="no view"):
        choose_view((10, 10), [])


# Tokens


@pytest.mark.parametrize(
    ("size", "tokens"),
    [
        ((512, 512), 73),
        ((640, 640), 111),
        ((1024, 1024), 273),
        ((1280, 1280), 421),
        ((128, 256), 11),
        ((256, 128), 13),
        ((64, 64), 3),
    ],
)
def test_count_vision_tokens(size, tokens):
    assert count_vision_tokens(size) == tokens


@pytest.mark.parametrize("size", [(0, 64), (64, -64), (65, 64), (64, 32)])
def test_count_vision_tokens_refuses_other_sides(size):
    with pytest.raises(UsageError, match=f"{size[0]} x {size[1]}"):
        count_vision_tokens(size)


def test_expand_image_tokens():
    assert expand_image_tokens([1, 9, 2, 9], 9, [3, 1]) == [1, 9, 9, 9, 2, 9]
    assert expand_image_tokens([1, 2], 9, []) == [1, 2]


@pytest.mark.parametrize("counts", [[], [2], [2, 2, 2]])
def test_expand_image_tokens_mismatch_names_both_numbers(counts):
    with pytest.raises(UsageError, match=rf"2 .*placeholders for {len(counts)} pictures"):
        expand_image_tokens([9, 9], 9, counts)


def test_expand_image_tokens_refuses_empty_blocks():
    with pytest.raises(UsageError, match="at least one"):
        expand_image_tokens([9], 9, [0])


def test_opening_a_path_leaves_no_open_file(tmp_path):
    path = Path(tmp_path / "x.png")
    path.write_bytes(encoded(noise(8, 8), "PNG"))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        open_image(path)
        gc.collect()  # a forgotten file speaks up when it is collected
    assert [str(one.message) for one in caught if one.category is ResourceWarning] == []
