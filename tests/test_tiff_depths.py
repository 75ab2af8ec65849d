"""How many bits of a TIFF's samples and of its palette are in use, where the file's form does not tell."""

from __future__ import annotations

import io
import struct

import numpy as np
import pypdfium2 as pdfium
import pytest

from nanoocr.document import TextPage
from nanoocr.errors import PictureError
from nanoocr.formats import pdf
from nanoocr.pictures import open_image


def tiff_of(pixels: np.ndarray, bits: int, white_is: int, order: str = "<", **tags: tuple[int, ...]) -> bytes:
    """A TIFF with one strip of bytes as they are. Further tags are t281=(15,) and such."""
    height, width = pixels.shape
    data = pixels.tobytes()
    numbers = {
        256: (width,), 257: (height,), 258: (bits,), 259: (1,), 262: (white_is,), 273: (8,), 277: (1,),
        278: (height,), 279: (len(data),), **{int(name[1:]): values for name, values in tags.items()},
    }  # fmt: skip
    at = 8 + len(data) + len(data) % 2
    entries, far, place = b"", b"", at + 2 + 12 * len(numbers) + 4
    for tag, values in sorted(numbers.items()):
        body = struct.pack(f"{order}{len(values)}H", *values)
        if len(body) > 4:
            body, far = struct.pack(f"{order}I", place + len(far)), far + body
        entries += struct.pack(f"{order}HHI", tag, 3, len(values)) + body.ljust(4, b"\0")
    sign = b"II*\0" if order == "<" else b"MM\0*"
    head = sign + struct.pack(f"{order}I", at) + data + b"\0" * (len(data) % 2)
    return head + struct.pack(f"{order}H", len(numbers)) + entries + bytes(4) + far


@pytest.mark.parametrize(("most", "expected"), [(1, [0, 255]), (15, [0, 255]), (200, [0, 200])])
def test_eight_bits_of_which_a_tiff_uses_fewer_are_scaled(most, expected):
    opened = open_image(tiff_of(np.array([[0, most]], np.uint8), 8, 1, t281=(most,)))
    assert np.asarray(opened)[0, :, 0].tolist() == expected


def test_the_scale_of_a_tiff_is_not_believed_where_pixels_exceed_it():
    opened = open_image(tiff_of(np.array([[0, 15, 255]], np.uint8), 8, 1, t281=(15,)))
    assert np.asarray(opened)[0, :, 0].tolist() == [0, 15, 255]


@pytest.mark.parametrize(("step", "expected"), [(1, [0, 100, 255]), (257, [0, 100, 255])])
def test_a_palette_of_a_tiff_may_count_to_255(step, expected):
    colours = tuple(value * step for value in range(256)) * 3
    opened = open_image(tiff_of(np.array([[0, 100, 255]], np.uint8), 8, 3, t320=colours))
    assert np.asarray(opened)[0, :, 0].tolist() == expected


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("samples", "more"), [(3, {}), (4, {}), (4, {"t258": (16,) * 4, "t338": (0,)})])
def test_colours_of_16_bits_in_planes_of_their_own(order, samples, more):
    """A row of three pixels in each plane: red, black and white; a fourth hides nothing."""
    planes = np.array([[65535, 0, 65535], [0, 0, 65535], [0, 0, 65535], [65535] * 3], f"{order}u2")[:samples]
    opened = open_image(tiff_of(planes, 16, 2, order, **planes_of(samples, 6), **more))
    assert np.asarray(opened)[0].tolist() == [[255, 0, 0], [0, 0, 0], [255, 255, 255]]


def planes_of(samples: int, size: int) -> dict[str, tuple[int, ...]]:
    """The tags of so many planes of `size` bytes, each of one row."""
    places = tuple(8 + size * plane for plane in range(samples))
    return {
        "t257": (1,), "t273": places, "t277": (samples,), "t278": (1,), "t279": (size,) * samples,
        "t284": (2,),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("bits", "kind", "white_is", "values"),
    [(8, "u1", 0, [255, 155, 0]), (16, "<u2", 1, [0, 25700, 65535]), (32, "<f4", 1, [0, 100 / 255, 1])],
)
def test_a_grey_whose_only_plane_is_called_separate(bits, kind, white_is, values):
    more = {"t339": (3,)} if "f" in kind else {}
    opened = open_image(tiff_of(np.array([values], kind), bits, white_is, t284=(2,), **more))
    assert np.asarray(opened)[0, :, 0].tolist() == [0, 100, 255]


def test_a_tiff_of_an_unknown_depth_is_not_called_damaged():
    with pytest.raises(PictureError, match="kind of pixels is not known: save it as grey or RGB") as error:
        open_image(tiff_of(np.zeros((1, 5), np.uint8), 10, 1))
    assert "damaged" not in str(error.value)


def test_inks_of_16_bits_in_planes_of_their_own_are_not_known():
    with pytest.raises(PictureError, match="kind of pixels is not known: save it as grey or RGB") as error:
        open_image(tiff_of(np.zeros((4, 3), "<u2"), 16, 5, **planes_of(4, 6)))
    assert "damaged" not in str(error.value)


@pytest.mark.parametrize(("most", "step"), [(2**32 - 1, 16843009), (2**31 - 1, 8421504)])
def test_a_grey_of_32_bits_without_a_sign(most, step):
    opened = open_image(tiff_of(np.array([[0, 100 * step, most]], "<u4"), 32, 1))
    assert np.asarray(opened)[0, :, 0].tolist() == [0, 100, 255]


@pytest.mark.parametrize("peak", [255, 0])
def test_colours_of_which_only_the_lower_8_of_16_bits_are_used_are_refused(peak):
    """Not those whose alpha shows the letters."""
    planes = np.array([[0, peak, peak]] * 4, "<u2")
    with pytest.raises(PictureError, match=r"the upper 8 are black everywhere \(save it with 8 bits"):
        open_image(tiff_of(planes[:3], 16, 2, **planes_of(3, 6)))
    planes[3] = [0, 65535, 0]
    more = {"t258": (16,) * 4, "t338": (2,)}
    opened = open_image(tiff_of(planes, 16, 2, **planes_of(4, 6), **more))
    assert np.asarray(opened)[0, :, 0].tolist() == [255, 0, 255]


@pytest.mark.parametrize(
    ("white_is", "tags"),
    [(1, {"t281": (15,)}), (3, {"t320": tuple(min(255, 17 * step) for step in range(256)) * 3})],
)
def test_a_pdf_shows_the_white_that_is_read(white_is, tags):
    source = tiff_of(np.full((40, 60), 15, np.uint8), 8, white_is, **tags)
    assert open_image(source).getextrema() == ((255, 255),) * 3
    made = pdf.render([TextPage("a.tif", 1, 60, 40, dpi=72.0)], {"a.tif": source})
    with pdfium.PdfDocument(io.BytesIO(made)) as document:
        assert document[0].render(scale=1).to_pil().convert("L").getextrema() == (255, 255)
