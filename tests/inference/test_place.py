"""The words of a line are laid on its ink, blanks on blanks."""

import pytest

from nanoocr.inference.place import Span, place_words


def test_a_single_word_fills_its_line():
    assert place_words(["word"], Span(10, 90), []) == [Span(10, 90)]
    assert place_words([], Span(10, 90), [Span(20, 30)]) == []


def test_blanks_of_the_text_take_the_blanks_of_the_ink():
    spans = place_words(["ab", "cd", "ef"], Span(0, 100), [Span(28, 36), Span(64, 72)])
    assert spans == [Span(0, 28), Span(36, 64), Span(72, 100)]


def test_a_blank_inside_a_word_is_passed_over():
    # The ink shows a small gap inside the long word; the wide one is the blank.
    spans = place_words(["longword", "end"], Span(0, 110), [Span(30, 32), Span(74, 84)])
    assert spans == [Span(0, 74), Span(84, 110)]


def test_without_enough_blanks_words_share_the_line_by_their_letters():
    first, second = place_words(["iiii", "mmmm"], Span(0, 100), [])
    assert first.start == 0 and second.end == pytest.approx(100)
    assert first.end - first.start < (second.end - second.start) / 2


def test_blanks_outside_the_line_do_not_count():
    spans = place_words(["a", "b"], Span(10, 50), [Span(2, 8), Span(28, 32), Span(55, 60)])
    assert spans == [Span(10, 28), Span(32, 50)]
