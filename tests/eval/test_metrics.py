"""Metrics against values worked out by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanoocr.eval.fox import FoxScores, fox_scores, mean_scores
from nanoocr.eval.metrics import (
    Summary,
    anls,
    bootstrap_interval,
    bootstrap_interval_by_group,
    character_error_rate,
    corpus_character_error_rate,
    ends_in_loop,
    grounding_gap,
    normalised_edit_distance,
    relaxed_accuracy,
    repetition_rate,
    summarise_errors,
    truncation_rate,
    word_bag_f1,
    word_error_rate,
    word_overlap,
    words,
)
from nanoocr.eval.vqa import contractions, normalise_answer, textvqa_accuracy


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


# ---------------------------------------------------------------------------------------------------------
# Fox


def test_fox_precision_is_official_and_true_under_two_names():
    """Truth of four words, output of two, one in common: the official script prints 0.25 as precision."""
    scores = fox_scores(output="a x", truth="a b c d")
    assert scores.fox_precision_official == scores.recall == 0.25
    assert scores.precision == 0.5
    assert scores.f1 == pytest.approx(2 * 0.25 * 0.5 / 0.75)
    assert scores.ned == pytest.approx(5 / 7)  # keep "a ", write x for "b c d" or the like


def test_fox_words_are_sets_and_nothing_is_normalised():
    assert fox_scores("b a a a", "a b").f1 == 1.0
    assert fox_scores("A", "a").f1 == 0.0
    assert fox_scores("a.", "a").recall == 0.0
    assert fox_scores("a\nb", "a b") == FoxScores(1.0, 1.0, 1.0, 1.0, pytest.approx(1 / 3))


def test_fox_of_empty_texts_is_defined():
    assert fox_scores("", "a b") == FoxScores(0.0, 0.0, 0.0, 0.0, 1.0)
    assert fox_scores("a", "") == FoxScores(0.0, 0.0, 0.0, 0.0, 1.0)
    assert fox_scores("", "") == FoxScores(1.0, 1.0, 1.0, 1.0, 0.0)


def test_fox_means_are_over_pages():
    mean = mean_scores([fox_scores("a b", "a b"), fox_scores("", "a b")])
    assert (mean.precision, mean.ned) == (0.5, 0.5)
    with pytest.raises(ValueError, match="no pages"):
        mean_scores([])


@given(st.text(alphabet="ab \n", max_size=30), st.text(alphabet="ab \n", max_size=30))
def test_fox_swaps_with_its_arguments(output, truth):
    one, other = fox_scores(output, truth), fox_scores(truth, output)
    assert (one.precision, one.recall, one.f1, one.ned) == (
        other.recall,
        other.precision,
        other.f1,
        other.ned,
    )
    assert 0 <= one.f1 <= 1 and 0 <= one.ned <= 1


# ---------------------------------------------------------------------------------------------------------
# answers


@pytest.mark.parametrize(
    ("prediction", "truths", "expected"),
    [
        ("Paris", ["paris"], 1.0),
        ("pariz", ["rome", "Paris"], 0.8),
        ("ab", ["ax"], 0.5),  # exactly one half stays
        ("abc", ["axy"], 0.0),
        ("", ["a"], 0.0),
        ("", [""], 1.0),
        ("a  b", ["a b"], 1.0),
        ("a   b", ["a c"], 0.8),  # one error over the longer raw length of five
    ],
)
def test_anls(prediction, truths, expected):
    assert anls(prediction, truths) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("prediction", "truth", "expected"),
    [
        ("105", "100", 1.0),
        ("105.1", "100", 0.0),
        ("96%", "1", 1.0),
        ("94%", "1", 0.0),
        ("-10", "10", 0.0),
        ("0", "0", 1.0),
        ("0.0", "0", 0.0),  # a truth of 0 is compared as text
        ("1,000", "1000", 0.0),
        ("Yes", " yes ", 1.0),
        ("nan", "nan", 1.0),
        ("inf", "5", 0.0),
    ],
)
def test_relaxed_accuracy(prediction, truth, expected):
    assert relaxed_accuracy(prediction, truth) == expected


@pytest.mark.parametrize(
    ("prediction", "truth", "expected"),
    [("a b", "b a", 1.0), ("a a", "a", 2 / 3), ("", "", 1.0), ("", "a", 0.0), ("x", "a", 0.0)],
)
def test_word_bag_f1(prediction, truth, expected):
    assert word_bag_f1(prediction, truth) == pytest.approx(expected)


def test_bootstrap_interval():
    low, high = bootstrap_interval([0.0, 1.0] * 200)
    # The mean of 400 coins has a standard deviation of 0.025.
    assert low == pytest.approx(0.451, abs=0.01) and high == pytest.approx(0.549, abs=0.01)
    assert bootstrap_interval([0.3]) == (0.3, 0.3)
    assert bootstrap_interval([1.0, 2.0], seed=1) == bootstrap_interval([1.0, 2.0], seed=1)
    with pytest.raises(ValueError, match="no values"):
        bootstrap_interval([])


def test_bootstrap_by_group_resamples_within_groups():
    # The first group cannot vary; the second is a coin: its mean lies in 0..1, half of which is the score's.
    assert bootstrap_interval_by_group([[1.0] * 10, [0.0, 1.0]]) == (0.5, 1.0)
    assert bootstrap_interval_by_group([[0.2, 0.8]]) == bootstrap_interval([0.2, 0.8])
    with pytest.raises(ValueError, match="no values"):
        bootstrap_interval_by_group([[1.0], []])


# ---------------------------------------------------------------------------------------------------------
# TextVQA


@pytest.mark.parametrize(
    ("matching", "expected"),
    [
        (0, 0.0),
        (1, 0.9 * 1 / 3),  # nine of ten times one other person agrees
        (2, (8 * 2 / 3 + 2 * 1 / 3) / 10),
        (3, (7 * 1 + 3 * 2 / 3) / 10),
        (4, 1.0),
        (10, 1.0),
    ],
)
def test_textvqa_leaves_each_person_out(matching, expected):
    answers = ["yes"] * matching + [f"no{i}" for i in range(10 - matching)]
    assert textvqa_accuracy("Yes.", answers) == pytest.approx(expected)


def test_textvqa_needs_two_people():
    with pytest.raises(ValueError, match="1 answers"):
        textvqa_accuracy("a", ["a"])


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("The Two  Dogs.", "2 dogs"),
        ("none", "0"),
        ("ten", "10"),
        ("dont", "don't"),
        ("couldnt've", "couldn't've"),
        ("couldn'tve", "couldn't've"),
        ("3.50", "3.50"),  # a period between digits stays
        ("1,000", "1000"),
        ("a-b", "b"),  # inside a word the hyphen becomes a blank, and then "a" is an article
        ("b -c", "b c"),  # beside a blank it vanishes
        ("Joe's", "joe 's"),
        ("what?", "what"),
    ],
)
def test_vqa_normalisation(raw, expected):
    assert normalise_answer(raw) == expected


def test_contractions_have_one_apostrophe_left_out():
    spelt = contractions()
    assert len(spelt) == 114
    assert spelt["y'alld've"] == "y'all'd've" and spelt["somebody'd"] == "somebodyd"
    assert all(len(wrong) in (len(right) - 1, len(right) + 1) for wrong, right in spelt.items())


# ---------------------------------------------------------------------------------------------------------
# summaries and degenerate outputs


def test_summary_shows_what_a_mean_hides():
    summary = summarise_errors([0.0, 0.0, 0.1, 0.5, 3.0])
    assert summary == Summary(5, pytest.approx(0.72), 0.1, 0.2, 0.4, summary.low, summary.high)
    assert summary.low < summary.mean < summary.high
    assert summarise_errors([0.2, 0.3], catastrophic=0.25).catastrophic == 0.5
    with pytest.raises(ValueError, match="no values"):
        summarise_errors([])


@pytest.mark.parametrize(
    ("text", "loops"),
    [
        ("", False),
        ("A short page.", False),
        ("word " * 39, False),  # 194 characters
        ("word " * 41, True),
        ("A page and then " + "and so on, " * 30, True),
        ("A page and then\n" + "and  so\non, " * 30, True),  # white space does not matter
        ("and so on, " * 30 + "an end", False),
        ("".join(f"line {i}\n" for i in range(100)), False),
        ("x" * 200 + "y" * 200, True),
        ("Balance\n" + "EUR 0.00\n" * 24, False),  # rows of a page may be alike
        ("| a | b |\n|---|---|\n" + "| N/A | N/A |\n" * 20, False),
        ("[ ] Yes\n[ ] No\n" * 20, False),
        ("EUR 0.00\n" * 250, True),
        ("<table>" + "<tr><td>N/A</td><td>N/A</td></tr>" * 60, False),
        ("<table>" + "<tr><td>N/A</td><td>N/A</td></tr>" * 101, True),
        ("<td>&nbsp;</td>" * 40, False),
        ("& N/A \\\\ \\hline " * 20, False),
        ("<td>etc; </td>" * 40, True),
    ],
)
def test_loops_at_the_end(text, loops):
    assert ends_in_loop(text) == loops


def test_repetition_and_truncation_rates():
    texts = ["fine", "x" * 500, "cut by the engine"]
    assert repetition_rate(texts) == pytest.approx(1 / 3)
    assert repetition_rate(texts, ["ok", "truncated", "repetition"]) == pytest.approx(2 / 3)
    assert truncation_rate(["ok", "truncated", "repetition", "truncated"]) == 0.5
    with pytest.raises(ValueError, match=r"longer|shorter"):
        repetition_rate(texts, ["ok"])
    assert ends_in_loop("ab" * 50_000)


@pytest.mark.parametrize(
    ("truth", "wrong", "units"),
    [
        ("今天天气很好我们一起去公园散步吧真的很开心", "今天天气很好我们一起去公园散步吧真的很开兴", 21),
        ("きょうはとてもよいてんきですね", "きょうはとてもよいてんきですわ", 15),
        ("กินข้าวแล้ว", "กินข้าวแล้ง", 8),  # vowels and tones above a letter stay with it
        ("共 3 pages", "共 4 pages", 3),
        ("ང་ཚོ་བོད་པ་ཡིན", "ང་ཚོ་བོད་པ་ཡིབ", 11),
        ("ㄅㄆㄇㄈ", "ㄅㄆㄇㄉ", 4),
        ("ꆈꌠꁱꂷ", "ꆈꌠꁱꂸ", 4),
    ],
)
def test_scripts_without_blanks_are_counted_by_characters(truth, wrong, units):
    assert len(words(truth)) == units
    assert word_overlap(wrong, truth) == pytest.approx(1 - 1 / units)
    assert word_bag_f1(wrong, truth) == pytest.approx(1 - 1 / units)
    assert word_error_rate(wrong, truth) == pytest.approx(1 / units)


def test_accents_that_are_written_apart_stay_in_their_word():
    assert words("cafe\u0301 au lait") == ["cafe\u0301", "au", "lait"]
