import math

import numpy as np
import pytest
from PIL import Image

from nanoocr.layout import Strip, TextLine, cut_strips, find_page, stretch_strip
from nanoocr.layout.strips import CAP_HEIGHT, VIEW_WIDTHS, _best_cut
from tests.layout.pages import paper, prose, write


def _strips(image: Image.Image) -> list:
    return [strip for k, line in enumerate(find_page(image).lines) for strip in cut_strips(image, line, k)]


def _ink_rows(strip) -> np.ndarray:
    grey = strip.image.astype(float).mean(axis=2)
    paper_grey = np.median(grey)
    return np.flatnonzero((np.abs(grey - paper_grey) > 90).any(axis=1))


@pytest.mark.parametrize("size", [12, 16, 24, 40, 90])
def test_capitals_stand_on_row_48_and_are_32_pixels_high(size):
    image, draw = paper(14 * size, 4 * size)
    write(draw, size, 2.5 * size, "HNE HEN", size)
    (strip,) = _strips(image)
    rows = _ink_rows(strip)
    assert rows.min() == pytest.approx(48 - CAP_HEIGHT, abs=2)
    assert rows.max() == pytest.approx(47, abs=2)


def test_a_stretched_strip_shows_the_same_ink_larger():
    image, draw = paper(600, 120)
    write(draw, 24, 60, "HNE HEN", 24)
    (strip,) = _strips(image)
    larger = stretch_strip(strip, 1.25, 1.5)
    rows = _ink_rows(larger)
    assert rows.min() == pytest.approx(48 - 1.25 * CAP_HEIGHT, abs=2) and rows.max() == pytest.approx(
        47, abs=2
    )
    ink = strip.used[1] - strip.used[0]
    assert larger.used == (10, 10 + math.ceil(1.5 * ink)) and larger.image.shape[1] in VIEW_WIDTHS
    for share in (0.0, 0.4, 1.0):  # a place on one strip and on the other is the same on the page
        here = strip.to_page @ (strip.used[0] + share * ink, 20.0, 1.0)
        there = larger.to_page @ (10 + share * 1.5 * ink, 48 - 28 * 1.25, 1.0)
        np.testing.assert_allclose(here, there, atol=1e-6)


def test_a_strip_that_fills_the_widest_view_stays_in_it():
    strip = Strip(np.full((64, 768, 3), 255, np.uint8), np.eye(2, 3), (10, 700), 0)
    larger = stretch_strip(strip, 1.0, 1.5)
    assert larger.image.shape == (64, 768, 3) and larger.used == (10, 758)


@pytest.mark.parametrize("degrees", [-8, 4])
def test_strips_of_a_tilted_line_are_level(degrees):
    image, draw = paper(600, 400, "#f0e8d0")
    write(draw, 60, 200, "HNE HEN NHE HEN NEH", 28, fill="#102040")
    tilted = image.rotate(-degrees, fillcolor="#f0e8d0", resample=Image.Resampling.BICUBIC)
    rows = _ink_rows(_strips(tilted)[0])
    assert rows.min() == pytest.approx(48 - CAP_HEIGHT, abs=2.5)
    assert rows.max() == pytest.approx(47, abs=2.5)


def test_sizes_dtypes_and_margins():
    image, draw = paper(700, 500)
    prose(draw, 40, 60, 600, rows=10)
    strips = _strips(image)
    assert {strip.line for strip in strips} == set(range(10))
    for strip in strips:
        assert strip.image.dtype == np.uint8
        assert strip.image.shape[0] == 64 and strip.image.shape[1] in VIEW_WIDTHS
        assert strip.used[0] == 10
        columns = np.flatnonzero((strip.image.mean(axis=2) < 120).any(axis=0))
        assert columns.min() == pytest.approx(10, abs=3)
        assert columns.max() == pytest.approx(strip.used[1], abs=4)


def test_long_lines_are_cut_between_words_and_lose_nothing():
    image, draw = paper(1800, 120)
    text = "the wind turns west and the ferry waits for its last passenger even so"
    write(draw, 30, 70, text, 40)
    strips = _strips(image)
    assert len(strips) > 1
    # The cuts lie on paper: the first and last columns of every strip show none of a letter.
    for strip in strips:
        assert strip.image[:, :4].min() > 150
        assert strip.image[:, -4:].min() > 150
    covered = sum(strip.used[1] - strip.used[0] for strip in strips)
    ink = draw.textbbox((30, 70), text, font_size=40)
    assert covered * np.hypot(*strips[0].to_page[:, 0]) > 0.9 * (ink[2] - ink[0])


def test_far_columns_of_one_line_are_strips_of_their_own_in_order():
    image, draw = paper(600, 240)
    for k in range(5):
        write(draw, 20, 50 + 32 * k, "Rye bread", 18)
        write(draw, 500, 50 + 32 * k, f"{k}.50", 18)
    strips = _strips(image)
    assert len(strips) == 10
    assert [strip.line for strip in strips] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert all(a.to_page[0, 2] < b.to_page[0, 2] for a, b in zip(strips[::2], strips[1::2]))


def test_to_page_maps_the_baseline_back():
    image, draw = paper(500, 200)
    box = write(draw, 60, 120, "HEN", 32)
    (strip,) = _strips(image)
    x, y = strip.to_page @ np.array([strip.used[0], 48, 1.0])
    assert x == pytest.approx(box[0], abs=2)
    assert y == pytest.approx(119.5, abs=1)


def test_the_rest_of_the_width_has_the_papers_colour():
    image, draw = paper(500, 200, (200, 220, 180))
    write(draw, 60, 120, "Hen house", 32, fill=(60, 20, 20))
    (strip,) = _strips(image)
    rest = strip.image[:, strip.used[1] + 12 :]
    assert np.abs(rest.astype(int) - (200, 220, 180)).max() <= 3


def test_ink_of_close_neighbours_is_painted_over():
    image, draw = paper(500, 200)
    for k in range(3):
        write(draw, 40, 60 + 22 * k, "Hagdyp Pfluq Egypt Jump", 20)
    strips = [strip for strip in _strips(image) if strip.line == 1]
    rows = np.concatenate([_ink_rows(strip) for strip in strips])
    assert rows.min() > 8


def test_a_line_at_the_edge_gets_paper_beyond_it():
    image, draw = paper(300, 30, "#d8d8d8")
    write(draw, 0, 26, "HEN HOUSE", 24)
    (strip,) = _strips(image)
    assert np.abs(strip.image[:6].astype(int) - 0xD8).max() < 12


def test_a_large_page_gives_strips_of_its_full_sharpness():
    image, draw = paper(4000, 3000)
    for k in range(6):
        write(draw, 300, 500 + 300 * k, "HEN HOUSE", 60)
    strips = _strips(image)
    assert len(strips) == 6
    rows = _ink_rows(strips[0])
    assert rows.min() == pytest.approx(48 - CAP_HEIGHT, abs=2)
    assert rows.max() == pytest.approx(47, abs=2)


def test_a_long_line_without_blanks_is_cut_between_letters():
    image, draw = paper(2400, 120)
    write(draw, 30, 70, "H" * 70, 40)
    strips = _strips(image)
    assert len(strips) > 1
    # Every letter has two stems; a cut through one would leave a strip with an odd number of them.
    for strip in strips:
        dark = (strip.image[20:28].mean(axis=(0, 2)) < 128).astype(int)
        assert (np.diff(dark) == 1).sum() % 2 == 0


def test_a_strip_shows_nothing_of_the_next_word():
    image, draw = paper(2400, 120)
    write(draw, 30, 70, " ".join(["HHHH"] * 20), 40)
    for strip in _strips(image):
        assert strip.image[:, : strip.used[0] - 3].min() > 200
        assert strip.image[:, strip.used[1] + 3 :].min() > 200


def test_a_long_line_is_cut_between_words_and_not_at_a_loose_letter():
    """The loose letter stands where the line would best be cut, and the blank between words farther on."""
    image = Image.new("RGB", (900, 60), "white")
    gaps = ((230.0, 236.0), (422.0, 425.0), (450.0, 456.0), (640.0, 646.0))
    line = TextLine(((0, 20), (800, 20), (800, 45), (0, 45)), ((0, 40), (800, 40)), 12.0, 0, gaps)
    starts = [float((strip.to_page @ [strip.used[0], 48, 1])[0]) for strip in cut_strips(image, line)]
    assert starts[1:] == pytest.approx([236, 456, 646], abs=1)


def test_of_blanks_that_are_wide_enough_the_nearest_is_cut():
    assert _best_cut([(80.0, 87.0), (100.0, 106.0), (130.0, 150.0)], 104.0, 6.0) == (100.0, 106.0)
