"""Colons, dashes and bullets that stand off the words of their line."""

import pytest

from nanoocr.layout import find_page
from tests.layout.pages import hull, paper, prose, write


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
