"""Lines of cards as strips: their truth, their geometry, and how alike they are to what reading cuts out."""

import numpy as np
import pytest

from nanoocr.data.synth import find_fonts, make_sample
from nanoocr.data.synth.card_line import CAP
from nanoocr.data.synth.strip import BASELINE, HEIGHT, WIDTHS
from nanoocr.layout import strips as cutter

COUNT = 200


@pytest.fixture(scope="module")
def samples():
    fonts = find_fonts()
    return [make_sample("card_line", 7, i, fonts=fonts) for i in range(COUNT)]


def test_every_line_is_a_view_and_says_what_its_boxes_say(samples):
    for sample in samples:
        assert sample.image.height == HEIGHT and sample.image.width in WIDTHS
        assert sample.chars == sample.answer.replace(" ", "") and len(sample.boxes) == len(sample.chars)
        assert "\n" not in sample.answer and sample.answer.strip() == sample.answer != ""
        assert (sample.boxes >= 0).all() and (sample.boxes[:, 2] <= sample.image.width).all()


def test_capitals_stand_on_the_baseline_and_are_as_high_as_reading_makes_them(samples):
    capitals = [
        box for sample in samples for char, box in zip(sample.chars, sample.boxes) if char in "HEFTMNKZ"
    ]
    assert len(capitals) > 100
    assert abs(np.median([box[3] for box in capitals]) - BASELINE) < 2
    assert abs(np.median([box[3] - box[1] for box in capitals]) - CAP) < 2
    assert abs(CAP - cutter.CAP_HEIGHT) <= 1 and BASELINE == cutter.BASELINE


def test_the_ink_is_where_the_boxes_say(samples):
    """Inside a letter's box the strip varies more than in the paper left of the first letter."""
    more = 0
    for sample in samples:
        grey = np.asarray(sample.image.convert("L")).astype(float)
        x0, y0, x1, y1 = sample.boxes[len(sample.boxes) // 2].astype(int)
        paper = grey[20:50, : max(2, int(sample.boxes[0][0]) - 1)]
        more += grey[y0 : y1 + 1, x0 : x1 + 1].std() > paper.std() + 2
    assert more / COUNT > 0.9


def test_the_same_numbers_give_the_same_pixels():
    one, other = (make_sample("card_line", 7, 5, fonts=find_fonts()) for _ in range(2))
    assert one.image.tobytes() == other.image.tobytes() and one.answer == other.answer
