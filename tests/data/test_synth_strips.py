"""Synthetic strips: the geometry of the cutter, the truth of what they show, words of many languages."""

import numpy as np
import pytest

from nanoocr.alphabet import CHARACTERS, CLASS_OF, SAME_INK, plain_twin, written_one_way
from nanoocr.data.glyphs import NOTHING
from nanoocr.data.synth import find_fonts, make_sample
from nanoocr.data.synth.dice import Dice
from nanoocr.data.synth.languages import MOST_WORDS, find_languages
from nanoocr.data.synth.line_text import drawable_text, line_text
from nanoocr.data.synth.strip import BASELINE, CAP, HEIGHT, WIDTHS, _holding
from nanoocr.layout import strips as cutter

COUNT = 300


@pytest.fixture(scope="module")
def samples():
    fonts = find_fonts()
    return [make_sample("strip", 11, i, fonts=fonts) for i in range(COUNT)]


def test_the_geometry_is_that_of_the_cutter():
    assert cutter.BASELINE == BASELINE
    assert CAP <= cutter.CAP_HEIGHT <= 1.2 * CAP  # letters a little larger than the usual ones read best
    assert HEIGHT == cutter.STRIP_HEIGHT and WIDTHS == cutter.VIEW_WIDTHS


def test_every_strip_is_a_view_of_the_model(samples):
    assert {sample.image.height for sample in samples} == {HEIGHT}
    assert {sample.image.width for sample in samples} == set(WIDTHS)


def test_the_characters_with_boxes_are_the_answer_without_blanks(samples):
    for sample in samples:
        assert (sample.chars.replace(NOTHING, "")) == sample.answer.replace(" ", "")
        assert len(sample.boxes) == len(sample.chars)
        assert sample.answer == " ".join(sample.answer.split())


def test_letters_stand_near_the_baseline_and_inside_the_strip(samples):
    capitals = [
        (box, sample)
        for sample in samples
        for char, box in zip(sample.chars, sample.boxes)
        if char in "HEFTMNKZ"
    ]
    bottoms = np.array([box[3] for box, _ in capitals])
    heights = np.array([box[3] - box[1] for box, _ in capitals])
    assert abs(np.median(bottoms) - BASELINE) < 2 and np.percentile(np.abs(bottoms - BASELINE), 95) < 10
    assert abs(np.median(heights) - CAP) < 4
    # Slanted letters hang over the end of their line a little.
    assert all(box[0] >= -3 and box[2] <= sample.image.width + 3 for box, sample in capitals)


def test_some_strips_say_nothing_and_are_as_long_as_others(samples):
    empty = [sample for sample in samples if not sample.answer]
    assert 0.02 < len(empty) / COUNT < 0.2
    assert all(sample.chars == NOTHING for sample in empty)
    assert max(sample.image.width for sample in empty) > 300


def test_the_same_numbers_give_the_same_pixels():
    one, other = (make_sample("strip", 11, 5, fonts=find_fonts()) for _ in range(2))
    assert one.image.tobytes() == other.image.tobytes() and one.answer == other.answer


def test_the_ink_is_where_the_boxes_say(samples):
    """Inside a letter's box the strip varies more than in the paper to its right end."""
    more = 0
    read = [sample for sample in samples if len(sample.chars) > 5]
    for sample in read:
        grey = np.asarray(sample.image.convert("L")).astype(float)
        x0, y0, x1, y1 = sample.boxes[2].astype(int)
        more += grey[max(y0, 0) : y1 + 1, max(x0, 0) : x1 + 1].std() > 4
    assert more / len(read) > 0.95


def test_the_alphabet_has_every_character_once_and_none_that_is_drawn_like_another():
    assert len(set(CHARACTERS)) == len(CHARACTERS) < 255
    assert not set(SAME_INK) & set(CHARACTERS)
    assert all(char in CLASS_OF for twin in SAME_INK.values() for char in twin)
    assert written_one_way("5\u00a0\u2212\u00a02 ﬁne") == "5 – 2 fine"


def test_what_a_font_lacks_becomes_its_plain_letter():
    assert drawable_text("Größe 5 €", set("GrosßeöO 5")) == "Größe 5"
    assert drawable_text("naïve", set("naive")) == "naive"
    assert drawable_text("€", set("a")) == "-"
    assert plain_twin("é") == "e" and plain_twin("ß") == ""


def test_lines_are_written_in_the_alphabet_and_about_as_long_as_asked():
    dice = Dice(4)
    for room in (1, 3, 8, 20, 46) * 40:
        line, _ = line_text(dice, room)
        assert line and set(line) <= set(CHARACTERS) and len(line) <= room + 2


def test_languages_are_found_and_bounded():
    languages = find_languages()
    assert "english" in languages
    for words in languages.values():
        assert 0 < len(words) <= 2 * MOST_WORDS
        assert all(set(word) <= set(CHARACTERS) for word in words[::997])


def test_long_lines_of_wide_letters_are_drawn_with_paper_around_them():
    letters = np.full((40, 60), 9, np.uint8)
    image, box = _holding(letters, (-3.5, 2.0, 58.0, 50.0))
    assert image.size == (80, 60)  # 10 pixels of paper on all sides: as far as the box reaches over below
    assert box == (6.5, 12.0, 68.0, 60.0)
    assert image.getpixel((0, 0)) == 0 and image.getpixel((10, 10)) == 9
