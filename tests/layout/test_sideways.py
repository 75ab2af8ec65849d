"""Print that runs upwards or downwards beside level text."""

import numpy as np
import pytest
from PIL import Image

from nanoocr.layout import cut_strips, find_page, turn_over
from tests.layout.pages import cap_height, holds, paper, prose, write


def stamped(number: str, clockwise: bool) -> tuple[Image.Image, tuple[int, int, int, int]]:
    """A page of prose with a number in its margin that runs downwards (clockwise) or upwards; its box."""
    image, draw = paper(700, 500)
    prose(draw, 40, 60, 500, rows=12)
    stamp, pen = paper(300, 40)
    x0, y0, x1, y1 = write(pen, 10, 30, number, 20)
    turned = stamp.transpose(Image.Transpose.ROTATE_270 if clockwise else Image.Transpose.ROTATE_90)
    image.paste(turned, (620, 150))
    if clockwise:
        return image, (620 + 40 - y1, 150 + x0, 620 + 40 - y0, 150 + x1)
    return image, (620 + y0, 150 + 300 - x1, 620 + y1, 150 + 300 - x0)


@pytest.mark.parametrize("clockwise", [True, False])
def test_a_number_in_the_margin_is_one_line_that_runs_sideways(clockwise):
    image, (x0, y0, x1, y1) = stamped("82092117", clockwise)
    *level, side = find_page(image).lines
    assert len(level) == 12 and not any(line.sideways for line in level)
    assert side.sideways and side.cap_height == pytest.approx(cap_height(20), abs=1.5)
    # The corners go round the text from its top left one, so the box's are the same in another order.
    assert holds((y0, x0, y1, x1), [(y, x) for x, y in side.quad])


@pytest.mark.parametrize("clockwise", [True, False])
def test_one_of_its_two_ways_shows_the_number_upright(clockwise):
    image, _ = stamped("82092117", clockwise)
    line = find_page(image).lines[-1]
    drawn, pen = paper(300, 40)
    write(pen, 10, 30, "82092117", 20)
    upright = cut_strips(drawn, find_page(drawn).lines[0])[0]
    ways = [cut_strips(image, way)[0] for way in (line, turn_over(line))]
    away = [np.abs(way.image.astype(int) - upright.image[:, : way.image.shape[1]]).mean() for way in ways]
    assert min(away) < 1 and max(away) > 20


def test_a_column_of_single_digits_is_no_sideways_line():
    image, draw = paper(700, 500)
    prose(draw, 40, 60, 500, rows=12)
    for row in range(12):
        write(draw, 620, 60 + 24 * row, str(row % 10), 16)
    assert not any(line.sideways for line in find_page(image).lines)
