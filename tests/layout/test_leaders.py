"""Leaders between items and prices, buttons, and tables whose cells fill their rows."""

import tracemalloc

import numpy as np
import pytest
from PIL import Image, ImageDraw

from nanoocr.layout import cut_strips, find_page
from nanoocr.layout.components import find_components, find_frames
from tests.layout.pages import found_order, hull, paper, write


def dots(draw: ImageDraw.ImageDraw, start: int, end: int, y: int, size: int, step: int) -> None:
    """A row of square dots."""
    for x in range(start, end, step):
        draw.rectangle((x, y, x + size - 1, y + size - 1), fill="black")


@pytest.mark.parametrize(("size", "step"), [(2, 5), (3, 6), (3, 14)])
def test_an_item_and_its_price_are_one_line_whose_leader_is_a_blank(size, step):
    image, draw = paper(900, 260)
    for row in range(4):
        y = 60 + 40 * row
        left = write(draw, 40, y, f"Item number {row}", 20)
        right = write(draw, 780, y, f"{row}8.50", 20)
        dots(draw, int(left[2]) + 8, 770, y - 2, size, step)
    layout = find_page(image)
    assert len(layout.lines) == 4
    for line in layout.lines:
        widest = max(end - start for start, end in line.gaps)
        assert widest == pytest.approx(right[0] - left[2], abs=5)
        item, price = cut_strips(image, line)
        # No dot is seen beside the words.
        for strip in (item, price):
            beside = np.concatenate(
                [strip.image[:, : strip.used[0] - 4], strip.image[:, strip.used[1] + 4 :]], 1
            )
            assert beside.min() > 128


def test_an_ellipsis_is_no_leader():
    image, draw = paper(600, 160)
    end = write(draw, 40, 80, "All told", 20)[2]
    dots(draw, int(end) + 4, int(end) + 14, 78, 2, 4)
    (line,) = find_page(image).lines
    assert hull(line.quad)[2] == pytest.approx(end + 14, abs=2)


def test_letters_of_dots_are_no_leaders():
    image, draw = paper(500, 160)
    end = write(draw, 40, 80, "TOTAL EEEE 88", 24)[2]
    pixels = np.asarray(image).copy()
    # A printer of needles leaves paper between its dots.
    pixels[::3], pixels[:, ::3] = 255, 255
    (line,) = find_page(Image.fromarray(pixels)).lines
    assert hull(line.quad)[2] == pytest.approx(end, abs=4)


def test_a_ticked_box_is_seen_in_no_strip():
    image, draw = paper(600, 200)
    for row, y in enumerate((60, 110)):
        draw.rounded_rectangle((40, y - 17, 58, y + 1), 3, outline="#555", fill="#26e" if row else "white")
    draw.line((44, 102, 48, 106, 55, 97), fill="white", width=2)
    first, second = (
        write(draw, 68, y, text, 20) for y, text in ((60, "Send me a copy"), (110, "Every week"))
    )
    layout = find_page(image)
    assert found_order(layout, [first, second]) == [0, 1]
    for line, words in zip(layout.lines, (first, second), strict=True):
        assert hull(line.quad)[0] == pytest.approx(words[0], abs=3)
        (strip,) = cut_strips(image, line)
        assert strip.image[:, : strip.used[0] - 4].min() > 128


def test_the_frame_of_a_button_is_no_letter():
    image, draw = paper(600, 200)
    draw.rounded_rectangle((40, 30, 92, 62), 4, outline="#555")
    write(draw, 55, 52, "OK", 18)
    write(draw, 110, 52, "Forgot password?", 18)
    (line,) = find_page(image).lines
    assert line.cap_height == pytest.approx(18 * 0.73, abs=1.5)
    assert abs(line.baseline[0][1] - line.baseline[-1][1]) < 1


@pytest.mark.parametrize("face", [14, 18, 24])
def test_bold_letters_are_no_squares(face):
    image, draw = paper(600, 120)
    words = write(draw, 40, 70, "eau ode BOO doe aux", face, bold=True)
    (line,) = find_page(image).lines
    assert hull(line.quad)[0] == pytest.approx(words[0], abs=3)
    assert hull(line.quad)[2] == pytest.approx(words[2], abs=3)


def test_a_page_of_squares_takes_no_memory_to_speak_of():
    pixels = np.full((1400, 1400), 255, np.uint8)
    for y in range(0, 10):
        for x in range(0, 10):
            pixels[y::14, x::14] = 0
    tracemalloc.start()
    find_page(Image.fromarray(pixels).convert("RGB"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 500e6  # a table of all pairs of squares would take 800 MB


@pytest.mark.parametrize(("aside", "is_frame"), [(2, False), (12, True)])
def test_letters_that_touch_are_no_button(aside, is_frame):
    # So the two letters of "mm" look in small print with serifs, beside a letter.
    ink = np.zeros((40, 80), np.uint8)
    ink[10:21, 10:33] = 1
    ink[11:20, 11:32] = 0
    ink[[10, 10, 20, 20], [10, 32, 10, 32]] = 0  # its corners are round
    ink[13, 20] = 1  # and something stands inside
    ink[10:21, 33 + aside : 36 + aside] = 1
    boxes = find_components(ink, ink)
    frames, _ = find_frames(ink, boxes)
    assert frames[boxes.width.argmax()] == is_frame


def test_times_side_by_side_are_read_row_by_row():
    image, draw = paper(1200, 520)
    boxes = []
    for row in range(12):
        y = 50 + 36 * row
        boxes.append(write(draw, 40, y, f"Stop number {row}", 20))
        for column in range(9):
            boxes.append(write(draw, 260 + 95 * column, y, f"{row + 8:02}:{7 * column + 10}", 20))
    layout = find_page(image)
    assert len(layout.lines) == 12
    assert [line.block for line in layout.lines] == [layout.lines[0].block] * 12
