"""Metrics against values worked out by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanoocr.eval.metrics import (
    character_error_rate,
    corpus_character_error_rate,
    grounding_gap,
    normalised_edit_distance,
    word_error_rate,
    word_overlap,
)


@pytest.mark.parametrize(
    ("prediction", "truth", "expected"),
    [
        ("abcd", "abcd", 0.0),
        ("abxd", "abcd", 0.25),
        ("", "abcd", 1.0),
        ("abcdefgh", "ab", 3.0),  # six insertions over two characters
        ("", "", 0.0),
        ("x", "", 1.0),
        ("xyz", "", 1.0),
        (" ab\n", "ab", 0.0),  # the ends are stripped
        ("a b", "a\nb", 1 / 3),  # a newline is a character of its own
        ("a  b", "a b", 1 / 3),  # inner blanks count
        ("AB", "ab", 1.0),  # case counts
    ],
)
def test_character_error_rate(prediction, truth, expected):
    assert character_error_rate(prediction, truth) == pytest.approx(expected)


def test_corpus_rate_weighs_by_length():
    # 1 error in 1 character and 0 in 9: not the mean of 1.0 and 0.0
    assert corpus_character_error_rate(["x", "123456789"], ["a", "123456789"]) == pytest.approx(0.1)
    assert corpus_character_error_rate([], []) == 0.0
    assert corpus_character_error_rate(["x"], [""]) == 1.0
    with pytest.raises(ValueError, match=r"longer|shorter"):
        corpus_character_error_rate(["a"], ["a", "b"])


def test_word_error_rate_counts_words():
    assert word_error_rate("the cat sat", "the dog sat down") == pytest.approx(0.5)
    assert word_error_rate("one\n two", "one two") == 0.0
    assert word_error_rate("one", "") == 1.0


def test_normalised_edit_distance():
    assert normalised_edit_distance("abcdefgh", "ab") == pytest.approx(0.75)
    assert normalised_edit_distance("", "") == 0.0


def test_word_overlap_is_a_multiset_recall():
    assert word_overlap("b a c", "a b") == 1.0
    assert word_overlap("a", "a a") == 0.5
    assert word_overlap("Total: 4.50", "Total: 4.60 EUR") == pytest.approx(1 / 3)
    assert word_overlap("", "") == 1.0
    assert word_overlap("a", "") == 0.0


def test_grounding_gap():
    assert grounding_gap([1.0, 0.8], [0.1, 0.3]) == pytest.approx(0.7)
    assert grounding_gap([0.4], [0.4]) == 0.0
    with pytest.raises(ValueError, match=r"longer|shorter"):
        grounding_gap([1.0, 1.0], [0.0])


@given(st.text(max_size=30), st.text(max_size=30))
def test_ranges(prediction, truth):
    assert character_error_rate(prediction, truth) >= 0
    assert 0 <= normalised_edit_distance(prediction, truth) <= 1
    assert 0 <= word_overlap(prediction, truth) <= 1
    assert character_error_rate(truth, truth) == 0
