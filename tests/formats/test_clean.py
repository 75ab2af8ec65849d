"""What no file can hold is changed, counted and told, and all formats take what is left."""

import json
import math
from itertools import pairwise

import pytest
from lxml import etree

from nanoocr.document import Box, Line, TextPage, Word, hull
from nanoocr.formats import FORMATS, render
from nanoocr.formats.clean import clean

BOX = Box(10, 10, 60, 30).quad()


def page_of(*lines, width=100, height=80):
    return TextPage("bad.png", 1, width, height, tuple(lines))


def line_of(*words, text=None):
    return Line(text or " ".join(word.text for word in words), BOX, 0.5, tuple(words))


def nasty_page():
    return page_of(
        line_of(Word("a\x00b\x0b", BOX, 0.5), Word("c\ud800\ufffe", BOX, math.nan)),
        line_of(Word("flat", Box(20, 20, 20, 30).quad(), 7.0)),
        line_of(Word("gone", Box(500, -90, 600, -70).quad(), -1.0)),
        line_of(Word("nowhere", ((math.nan, 1), (2, math.inf), (1, 1), (0, 0)), None)),
        Line("no words at all", BOX, 0.5),
        Line("  ", BOX, 0.5),
    )


def test_characters_that_xml_forbids_are_left_out_and_counted_once():
    cleaned = clean(nasty_page())
    assert [word.text for word in cleaned.page.lines[0].words] == ["ab", "c"]
    assert cleaned.page.lines[0].text == "ab c"
    assert "bad.png: 4 characters that XML forbids were left out." in cleaned.notes


def test_every_word_is_inside_the_page_and_has_an_extent():
    cleaned = clean(nasty_page())
    for line in cleaned.page.lines:
        for word in line.words:
            box = hull(word.quad)
            assert box.left >= 0 and box.top >= 0 and box.right <= 100 and box.bottom <= 80
            assert box.width >= 1 and box.height >= 1
            assert word.confidence is None or 0 <= word.confidence <= 1
    assert any(note.startswith("bad.png: 2 words that stood outside") for note in cleaned.notes)
    assert any(note.startswith("bad.png: 1 words without a place") for note in cleaned.notes)


def test_a_line_without_words_gets_them_and_one_without_text_goes():
    lines = clean(nasty_page()).page.lines
    assert [word.text for word in lines[-1].words] == ["no", "words", "at", "all"]
    boxes = [hull(word.quad) for word in lines[-1].words]
    assert all(one.right <= other.left for one, other in pairwise(boxes))
    assert len(lines) == 5


def test_a_good_page_stays_what_it_is():
    page = page_of(line_of(Word("fine", BOX, 0.5)))
    assert clean(page).page == page
    assert clean(page).notes == ()


def test_cleaning_twice_changes_nothing_more():
    once = clean(nasty_page())
    assert clean(once.page).page == once.page
    assert clean(once.page).notes == ()


def test_a_page_without_a_size_is_as_large_as_its_words():
    cleaned = clean(page_of(line_of(Word("x", BOX)), width=0, height=0)).page
    assert (cleaned.width, cleaned.height) == (60, 30)
    assert clean(TextPage("x", 1, 0, 0)).page.width == 1


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "pdf"])
@pytest.mark.parametrize(
    "page",
    [nasty_page(), page_of(), TextPage("gone--.png-", 1, 0, 0, error="gone--.png- \x00 does not exist.-")],
    ids=["nasty", "empty", "error"],
)
def test_every_format_takes_bad_pages(name, page):
    content = render([page], name)
    if isinstance(content, bytes):
        etree.fromstring(content)
    else:
        content.encode("utf-8")
    if name == "json":
        assert json.loads(content)["pages"][0]["file"] == page.file


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "pdf"])
def test_ten_thousand_words(name):
    words = [
        Word(f"w{i}", Box(i % 100 * 10, i // 100, i % 100 * 10 + 9, i // 100 + 1).quad())
        for i in range(10_000)
    ]
    lines = tuple(line_of(*words[start : start + 10]) for start in range(0, 10_000, 10))
    content = render([TextPage("many.png", 1, 1000, 101, lines)], name)
    text = content.decode() if isinstance(content, bytes) else content
    assert "w9999" in text


def test_words_that_are_not_those_of_the_text_lose_none_of_it():
    quad = Box(10, 10, 90, 30).quad()
    line = Line("one two three", quad, words=(Word("one", Box(10, 10, 30, 30).quad()),))
    cleaned = clean(TextPage("x.png", 1, 100, 50, (line,)))
    assert [word.text for word in cleaned.page.lines[0].words] == ["one", "two", "three"]
    assert cleaned.notes == (
        "x.png: 1 lines whose words are not those of their text got words of equal shares.",
    )


def test_a_word_without_a_place_gets_its_share_of_the_line():
    nowhere = ((math.nan, 0.0),) * 4
    words = (
        Word("one", Box(0, 10, 30, 30).quad()),
        Word("two", nowhere),
        Word("six", Box(80, 10, 110, 30).quad()),
    )
    line = Line("one two six", Box(0, 10, 110, 30).quad(), words=words)
    (cleaned,) = clean(TextPage("x.png", 1, 200, 50, (line,))).page.lines
    assert cleaned.words[1].box == pytest.approx((40, 10, 70, 30))


def test_words_of_a_line_that_runs_leftwards_start_on_its_right():
    (line,) = clean(TextPage("x.png", 1, 200, 50, (Line("שלום עולם", Box(0, 10, 90, 30).quad()),))).page.lines
    assert line.words[0].box.left > line.words[1].box.right


def test_a_form_feed_divides_words():
    (line,) = clean(
        TextPage("x.png", 1, 200, 50, (Line("one\x0ctwo\x00", Box(0, 10, 90, 30).quad()),))
    ).page.lines
    assert line.text == "one two"
