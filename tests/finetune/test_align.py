"""Words are dealt out to strips in order, and looked for again where the order differs."""

from nanoocr.finetune.align import Run, align, errors

TEXT = ["the", "quick", "brown", "fox", "jumps", "over", "the", "lazy", "dog"]
TEXT += ["and", "sees", "a", "small", "red", "house"]


def said(words, runs):
    return [None if run is None else " ".join(words[run.start : run.end]) for run in runs]


def test_strips_with_misreadings_get_their_words():
    read = ["tne quick brovvn fox", "jumps ouer the lazy", "dog and sees a sma1l red house"]
    wanted = ["the quick brown fox", "jumps over the lazy", "dog and sees a small red house"]
    assert said(TEXT, align(read, TEXT, 0.5)) == wanted


def test_a_lost_blank_takes_both_words():
    assert said(TEXT, align(["thequick brown", "fox jumps"], TEXT[:5], 0.5)) == [
        "the quick brown",
        "fox jumps",
    ]


def test_what_is_no_text_gets_none_and_the_rest_stays():
    read = ["the quick brown fox", "%&#!?!!", "jumps over the lazy dog"]
    assert said(TEXT, align(read, TEXT, 0.5)) == ["the quick brown fox", None, "jumps over the lazy dog"]


def test_words_that_no_strip_shows_are_passed_over():
    read = ["the quick brown fox", "and sees a small red house"]
    assert said(TEXT, align(read, TEXT, 0.5)) == ["the quick brown fox", "and sees a small red house"]


def test_columns_in_another_order_are_found_again():
    first, second = TEXT[:7], TEXT[7:]
    read = [" ".join(first), " ".join(second)]
    swapped = second + first
    assert said(swapped, align(read, swapped, 0.5)) == read


def test_texts_of_another_page_align_to_nothing():
    other = ["Zwölf", "Boxkämpfer", "jagen", "Viktor", "quer"]
    assert align(["9931 ###", "Kvz ww"], other, 0.5) == [None, None]
    assert align([], TEXT, 0.5) == []
    assert align(["word"], [], 0.5) == [None]


def test_errors_are_a_share_of_the_longer_text():
    assert errors("", "") == 0 and errors("ab", "") == 1 and errors("abcd", "abxd") == 0.25
    assert Run(0, 2) == Run(0, 2)


def test_a_truth_in_capitals_finds_its_line_in_mixed_print():
    words = [word.upper() for word in TEXT]
    read = ["The quick brown fox", "jumps over the lazy dog", "And sees a small red house"]
    assert said(words, align(read, words, 0.5)) == [line.upper() for line in read]
