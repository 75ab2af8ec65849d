"""Strips that were read become lines and words with places on the page."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from nanoocr.inference.assemble import StripReading, assemble, geometric_mean, least_of_page, word_confidences
from nanoocr.inference.engine import Completion, TokenCount
from nanoocr.inference.lines import FURTHER_LOOKS, LineReader, Probe, UprightLayout, reads_better_turned
from nanoocr.inference.sampling import SamplingConfig
from nanoocr.layout import PageLayout, Strip, TextLine, Upright, stretch_strip
from nanoocr.layout.strips import CAP_HEIGHT

SCALE = 2.0  # strip pixels for one pixel of the page


def completion(text: str, probability: float = 0.9, **other) -> Completion:
    count = len(text)
    values = {"status": "ok", "confidence": probability, "stop_probability": probability}
    return Completion(
        ids=tuple(range(count)),
        text=text,
        tokens=TokenCount(2, 5, count),
        seconds=0.1,
        probabilities=(probability,) * count,
        places=tuple(range(count)),
        **{**values, **other},
    )


def line(x: float, y: float, length: float, block: int = 0, gaps=()) -> TextLine:
    quad = ((x, y - 20), (x + length, y - 20), (x + length, y + 5), (x, y + 5))
    return TextLine(quad, ((x, y), (x + length, y)), CAP_HEIGHT / SCALE, block, tuple(gaps))


def strip(number: int, x: float, y: float, used: tuple[int, int], width: int = 256) -> Strip:
    to_page = np.array([[1 / SCALE, 0, x - used[0] / SCALE], [0, 1 / SCALE, y - 48 / SCALE]])
    return Strip(np.zeros((64, width, 3), np.uint8), to_page, used, number)


def layout(*lines: TextLine) -> PageLayout:
    return PageLayout((400, 600), Upright(1, 0.0, False), lines)


def reader_that_says(*said: Completion, least: float = 0.5) -> LineReader:
    """A reader of strips whose engine answers one request after the other with these."""

    class Engine:
        model = SimpleNamespace(image_id=3)

        def __init__(self):
            self.answers = list(said)

        def generate(self, requests, sampling=None, *, max_batch=64):
            return [self.answers.pop(0) for _ in requests]

    return LineReader(Engine(), (1,), (2,), SamplingConfig(), least)


@pytest.mark.parametrize(
    ("further", "text"),
    [([("cd", 0.98)], "cd"), ([("cd", 0.9), ("ef", 0.95)], "ef"), ([("cd", 0.7), ("ef", 0.6)], "ab")],
)
def test_a_doubtful_strip_is_looked_at_until_it_is_sure_and_the_surest_look_is_taken(further, text):
    strips = [strip(0, 50, 100, (10, 210)), strip(1, 50, 150, (10, 110), width=128)]
    # Strips of one width are read together: the narrow one is read first, and only the other is doubtful.
    answers = [completion("sure", 0.99), completion("ab", 0.8), *(completion(*one) for one in further)]
    reader = reader_that_says(*answers)
    doubtful, sure = reader.read_strips(strips)
    assert (sure.completion.text, sure.looks) == ("sure", ())
    assert doubtful.completion.text == text
    assert doubtful.confidence == pytest.approx(max(0.8, *(confidence for _, confidence in further)))
    assert doubtful.first_confidence == pytest.approx(0.8)
    assert [look.text for look in doubtful.looks] == ["ab", *(said for said, _ in further)]
    looks = 1 + len(further)
    assert doubtful.tokens == TokenCount(2 * looks, 5 * looks, 2 * looks)  # each look costs its tokens
    assert reader.engine.answers == []


def test_each_further_look_is_at_the_pixels_of_the_first():
    pixels = np.random.default_rng(0).integers(0, 255, (64, 256, 3), np.uint8)
    first = replace(strip(0, 50, 100, (10, 210)), image=pixels)
    reader = reader_that_says(completion("ab", 0.8), completion("cd", 0.9), completion("ef", 0.95))
    (taken,) = reader.read_strips([first])
    np.testing.assert_array_equal(taken.strip.image, stretch_strip(first, *FURTHER_LOOKS[1]).image)


def test_one_doubtful_token_of_a_long_strip_is_enough_for_a_second_look():
    sure = completion("a" * 60, 0.999)
    first = replace(sure, probabilities=(*sure.probabilities[:-1], 0.6))
    reader = reader_that_says(first, replace(sure, text="b" * 60))
    (reading,) = reader.read_strips([strip(0, 50, 100, (10, 210))])
    assert reading.first_confidence > 0.99 and reading.completion.text == "b" * 60


@pytest.mark.parametrize("first", [completion("", 0.6), completion("dirt", 0.4)])
def test_no_second_look_at_what_is_empty_or_left_out_anyway(first):
    (reading,) = reader_that_says(first).read_strips([strip(0, 50, 100, (10, 210))])
    assert reading.completion is first and reading.looks == ()


def test_what_only_the_second_look_is_sure_of_is_left_out():
    first, second = completion("dirt", 0.4), completion("dust", 0.95)
    reading = StripReading(strip(0, 50, 100, (10, 210)), second, looks=(first, second))
    page = assemble(layout(line(50, 100, 100)), [reading], 0.5)
    assert (page.lines, page.left_out) == ((), 1)


def test_words_of_the_second_look_lie_where_those_of_the_first_lay():
    one = line(50, 100, 100, gaps=[(40, 50)])
    first = strip(0, 50, 100, (10, 210))
    quads = [
        [word.quad for found in assemble(layout(one), [StripReading(s, completion("ab cde"))], 0.5).lines
         for word in found.words]
        for s in (first, stretch_strip(first, 1.06, 1.15))
    ]  # fmt: skip
    np.testing.assert_allclose(quads[0], quads[1], atol=0.5)


def test_words_lie_where_their_ink_lies():
    one = line(50, 100, 100, gaps=[(40, 50)])
    reading = assemble(layout(one), [StripReading(strip(0, 50, 100, (10, 210)), completion("ab cde"))], 0.5)
    (found,) = reading.lines
    assert found.text == "ab cde" and [word.text for word in found.words] == ["ab", "cde"]
    first, second = (word.quad for word in found.words)
    assert (first[0][0], first[1][0]) == pytest.approx((50, 90))
    assert (second[0][0], second[1][0]) == pytest.approx((100, 150))
    assert first[0][1] == pytest.approx(100 - CAP_HEIGHT / SCALE * 1.05, abs=0.5)  # capitals on row 100
    assert reading.quarter_turns == 3  # clockwise, where the finder counts anticlockwise
    assert reading.tokens == TokenCount(2, 5, 6)


def test_strips_of_one_line_join_with_a_blank_or_inside_a_word():
    one = line(0, 50, 200)
    apart = [strip(0, 0, 50, (10, 110)), strip(0, 60, 50, (10, 110))]
    readings = [StripReading(s, completion(text)) for s, text in zip(apart, ("left", "right"), strict=True)]
    assert assemble(layout(one), readings, 0.0).lines[0].text == "left right"
    touching = [strip(0, 0, 50, (10, 110)), strip(0, 50, 50, (10, 110))]
    readings = [StripReading(s, completion(text)) for s, text in zip(touching, ("le", "ft"), strict=True)]
    (found,) = assemble(layout(one), readings, 0.0).lines
    assert found.text == "left"
    assert (found.words[0].quad[0][0], found.words[0].quad[1][0]) == pytest.approx((0, 100))


def test_what_the_model_is_not_sure_of_is_left_out_and_counted():
    lines = (line(0, 50, 100), line(0, 90, 100), line(0, 130, 100))
    strips = [strip(number, 0, 50 + 40 * number, (10, 210)) for number in range(3)]
    said = (completion("sure", 0.9), completion("invented", 0.3), completion(""))
    readings = [StripReading(*pair) for pair in zip(strips, said, strict=True)]
    page = assemble(layout(*lines), readings, 0.6)
    assert [found.text for found in page.lines] == ["sure"] and page.left_out == 1


def test_an_end_that_the_model_doubts_counts_against_the_strip():
    reading = StripReading(strip(0, 0, 50, (10, 110)), completion("a", 1.0, stop_probability=0.25))
    assert reading.confidence == pytest.approx(0.5)


def test_confidence_of_a_word_is_that_of_its_own_letters():
    said = completion("ab cd")
    values = word_confidences(
        Completion(**{**said.__dict__, "probabilities": (1.0, 1.0, 0.5, 0.5, 0.5)}), ["ab", "cd"]
    )
    assert values == pytest.approx([1.0, 0.5])


def test_geometric_mean():
    assert geometric_mean([0.25, 1.0]) == pytest.approx(0.5)
    assert geometric_mean([]) == geometric_mean([0.0, 1.0]) == 0.0


def test_a_page_of_doubtful_strips_keeps_only_what_is_sure():
    """A raster gives many strips with a sign here and there; a bad print gives some."""
    assert least_of_page([0.6] * 8 + [0.9] * 2) > 0.8
    assert least_of_page([0.6] * 4 + [0.9] * 8) == 0.0
    assert least_of_page([0.6] * 3) == 0.0  # too few to judge a page by
    lines = tuple(line(0, 30 + 30 * number, 100) for number in range(10))
    said = [completion("x", 0.6)] * 8 + [completion("sure", 0.95)] * 2
    strips = [strip(number, 0, 30 + 30 * number, (10, 210)) for number in range(10)]
    readings = [StripReading(*pair) for pair in zip(strips, said, strict=True)]
    page = assemble(layout(*lines), readings, 0.5)
    assert [found.text for found in page.lines] == ["sure", "sure"] and page.left_out == 8
    assert len(assemble(layout(*lines), readings, 0.0).lines) == 10  # 0 keeps all


def test_a_page_of_which_next_to_nothing_is_read_has_no_text():
    """A raster gives hundreds of strips, and a few of them are surely read by chance."""
    lines = tuple(line(0, 30 + 30 * number, 100) for number in range(60))
    strips = [strip(number, 0, 30 + 30 * number, (10, 210)) for number in range(60)]
    for read, kept in ((2, 0), (4, 4)):
        said = [completion("abc", 0.95)] * read + [completion("")] * (60 - read)
        readings = [StripReading(*pair) for pair in zip(strips, said, strict=True)]
        assert len(assemble(layout(*lines), readings, 0.5).lines) == kept
    few = assemble(layout(*lines), readings[3:33], 0.5)  # so few strips may be a form with one entry
    assert len(few.lines) == 1


@pytest.mark.parametrize(("ways", "kept"), [((0.6, 0.95), "right"), ((0.95, 0.6), "left"), ((0.6, 0.7), "")])
def test_a_sideways_line_is_read_from_both_ends(ways, kept):
    """The surer way is taken and not read again; where neither is sure, the line is no text."""
    side = replace(line(50, 100, 100), sideways=True)
    image = Image.new("RGB", (600, 400), "white")
    reader = reader_that_says(completion("left", ways[0]), completion("right", ways[1]))
    found = reader._settle_sideways(image, UprightLayout(layout(line(0, 40, 300), side), {}))
    assert len(found.layout.lines) == 1 + bool(kept)
    if kept:
        assert found.read[1].text == kept
        assert (found.layout.lines[1].quad == side.quad) == (kept == "left")


@pytest.mark.parametrize(
    ("said", "height", "kept"),
    [
        (("©", "•"), 400, 0),  # the holes of a punch
        (("*", "5:12", "*"), 400, 3),
        (("Total", "--------"), 400, 2),
        (("©",), 40, 1),  # somebody cut the sign out
        (("• •", "66660", "•", "66600000", "4"), 400, 0),  # a raster
        (("• 100", "• 200", "• 1000"), 400, 3),
        (("-", "the wind turns and the ferry waits for its last passenger"), 400, 2),
        (("I",), 400, 0),  # a stroke
        (("I",), 40, 1),
        (("7",), 400, 1),  # the number of a page
    ],
)
def test_signs_alone_on_a_page_are_no_text(said, height, kept):
    lines = tuple(line(0, 30 + 30 * number, 100) for number in range(len(said)))
    strips = [strip(number, 0, 30 + 30 * number, (10, 210)) for number in range(len(said))]
    readings = [StripReading(one, completion(text)) for one, text in zip(strips, said, strict=True)]
    page = PageLayout((height, 600), Upright(1, 0.0, False), lines)
    assert len(assemble(page, readings, 0.5).lines) == kept
    assert len(assemble(page, readings, 0.0).lines) == len(said)  # 0 keeps all


@pytest.mark.parametrize(
    ("level", "turned", "on_its_head"),
    [
        ((0.5, 40), (0.9, 38), True),
        ((0.85, 40), (0.9, 38), False),  # most pages stand upright
        ((0.6, 1), (0.95, 1), False),  # one letter says nothing
        ((0.57, 3), (0.79, 3), False),  # nor do three
        ((0.0, 0), (0.9, 5), True),
        ((0.9, 38), (0.999, 42), True),  # a whole probe without a doubt
        ((0.95, 38), (0.999, 42), False),
    ],
)
def test_a_page_is_turned_only_where_reading_speaks_clearly_for_it(level, turned, on_its_head):
    assert reads_better_turned(Probe(*level, {}), Probe(*turned, {})) is on_its_head


@pytest.mark.parametrize("size", [(1, 1), (63, 1), (5000, 8), (1, 5000), (300_000, 20)])
def test_a_picture_too_flat_for_letters_is_blank(size):
    reader = LineReader(None, (), (), SamplingConfig())  # nothing is found, so nobody is asked
    assert reader.upright_layout(Image.new("RGB", size, "white")).layout.lines == ()
