import numpy as np
import pytest
from PIL import Image

from nanoocr.layout import find_page
from tests.layout.pages import paper, prose


def _page() -> tuple[Image.Image, list[tuple]]:
    image, draw = paper(700, 560)
    return image, prose(draw, 90, 120, 500, rows=14)


@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
def test_a_turned_page_of_prose_is_known_and_read_from_its_top(quarters):
    image, boxes = _page()
    turned = image.rotate(-90 * quarters, expand=True)
    layout = find_page(turned)
    assert layout.upright.quarter_turns == quarters
    assert not layout.upright.doubtful_180
    assert len(layout.lines) == len(boxes)
    # The first line's top left corner, turned with the page.
    x, y = boxes[0][:2]
    expected = {0: (x, y), 1: (559 - y, x), 2: (699 - x, 559 - y), 3: (y, 699 - x)}[quarters]
    assert layout.lines[0].quad[0] == pytest.approx(expected, abs=5)


def test_capitals_on_their_head_are_doubtful_and_the_caller_can_turn_them():
    image, draw = paper(500, 300)
    for k in range(5):
        draw.text((40, 40 + 40 * k), "SHOP IN MAIN ROAD 12", fill="black", font_size=24)
    turned = image.rotate(180)
    layout = find_page(turned)
    assert layout.upright.doubtful_180
    other = find_page(turned, quarter_turns=(layout.upright.quarter_turns + 2) % 4)
    first, last = np.array(layout.lines[0].quad[0]), np.array(other.lines[-1].quad[2])
    assert np.abs(first - last).max() < 12


@pytest.mark.parametrize("degrees", [-10, -5, -1.5, 1.5, 5, 10])
def test_a_tilted_page_keeps_its_lines(degrees):
    image, boxes = _page()
    tilted = image.rotate(-degrees, expand=True, fillcolor="white", resample=Image.Resampling.BICUBIC)
    layout = find_page(tilted)
    assert layout.upright.quarter_turns == 0
    assert layout.upright.tilt_degrees == pytest.approx(degrees, abs=0.4)
    assert len(layout.lines) == len(boxes)
    for line in layout.lines:
        (x0, y0), (x1, y1) = line.quad[0], line.quad[1]
        assert np.degrees(np.arctan2(y1 - y0, x1 - x0)) == pytest.approx(degrees, abs=0.7)
