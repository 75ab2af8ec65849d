"""Marks beside words: quotation marks, colons, dashes and bullets belong to the line, tick boxes do not."""

import pytest

from nanoocr.layout import find_page
from tests.layout.pages import found_order, hull, paper, prose, write


@pytest.mark.parametrize("fill", ["black", "#b0b0b0"])
def test_a_colon_that_stands_off_its_word_belongs_to_the_line(fill):
    image, draw = paper(600, 300)
    prose(draw, 40, 60, 500, rows=5)
    end = write(draw, 40, 200, "Total cash", 18)[2]
    for y in (190, 198):
        draw.rectangle((end + 24, y, end + 25, y + 1), fill=fill)
    assert hull(find_page(image).lines[-1].quad)[2] == pytest.approx(end + 26, abs=2)


def test_one_faint_dot_that_stands_off_a_line_is_dirt():
    image, draw = paper(600, 300)
    prose(draw, 40, 60, 500, rows=5)
    end = write(draw, 40, 200, "Total cash", 18)[2]
    draw.rectangle((end + 24, 198, end + 25, 199), fill="#b0b0b0")
    assert hull(find_page(image).lines[-1].quad)[2] == pytest.approx(end, abs=2)


def test_a_pale_dash_between_words_leaves_no_wide_blank():
    """A long line is cut at its blanks, and what stands in the blank of a cut is not read."""
    image, draw = paper(900, 200)
    x = 40
    for name in ("Trustee Gaffino", "yes, Trustee Lowery", "yes, Trustee Curtis"):
        x = write(draw, x, 100, name, 17)[2] + 5
        draw.line((x, 94, x + 8, 94), fill="#b4b4b4")
        x += 13
    write(draw, x, 100, "yes", 17)
    (line,) = find_page(image).lines
    assert max(end - start for start, end in line.gaps) < 10


def test_the_dash_of_an_item_belongs_to_its_line():
    image, draw = paper(600, 300)
    prose(draw, 40, 60, 500, rows=5)
    write(draw, 70, 200, "one item of a list", 18)
    draw.rectangle((40, 192, 47, 193), fill="black")
    assert hull(find_page(image).lines[-1].quad)[0] == pytest.approx(39, abs=2)


@pytest.mark.parametrize("text", ['"sour stock" is', "*sour stock* is", "'even so' is"])
def test_a_mark_before_a_line_belongs_to_it(text):
    image, draw = paper(500, 200)
    boxes = prose(draw, 40, 40, 400, rows=2, size=20, pitch=30)
    boxes.append(write(draw, 40, 110, text, 20))
    layout = find_page(image)
    assert found_order(layout, boxes) == [0, 1, 2]
    assert hull(layout.lines[2].quad)[0] == pytest.approx(boxes[2][0], abs=3)


@pytest.mark.parametrize("side", [10, 15, 30])
@pytest.mark.parametrize("thick", [1, 3])
def test_boxes_to_tick_are_no_letters_and_the_words_beside_them_are(side, thick):
    image, draw = paper(500, 400)
    for row in range(8):
        draw.rectangle((30, 30 + 44 * row, 30 + side, 30 + 44 * row + side), outline="black", width=thick)
    assert find_page(image).lines == ()
    boxes = [write(draw, 80, 44 + 44 * row, "DOB 000 QD", 16) for row in range(8)]
    layout = find_page(image)
    assert found_order(layout, boxes) == list(range(8))
    assert all(line.quad[0][0] > 70 for line in layout.lines)  # the box is no part of the line
