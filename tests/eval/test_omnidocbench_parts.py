"""The parts of OmniDocBench's scores: normalisation, extraction, spans and matching."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rapidfuzz.distance import Levenshtein

from nanoocr.eval.omnidocbench import (
    formula_edit_distance,
    score_omnidocbench,
)
from nanoocr.eval.omnidocbench.extract import DISPLAY, extract_blocks
from nanoocr.eval.omnidocbench.match import Match, adjacency_match, nearest_window, plain_match, quick_match
from nanoocr.eval.omnidocbench.normalise import normalise_formula, normalise_text
from nanoocr.eval.omnidocbench.pipe_tables import pipe_spans
from nanoocr.eval.omnidocbench.scan import delimited, outermost, replace_enclosed
from tests.eval.omnidocbench_pages import TABLE, A, B, C, page, text


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("Hello, World 12_3!", "HelloWorld12_3"),
        ("and/then", "andhen"),  # the official quirk
        (r"a\tb\nc", "abc"),
        ("文字，ABC", "文字ABC"),
        ("cost $5 and $6", "cost5and6"),  # no formula: no backslash, ^ or _
        (r"$\alpha_1$ is", "α_1is"),
        ("$x^2", "x2"),
        ("", ""),
    ],
)
def test_normalised_text(raw, expected):
    assert normalise_text(raw) == expected


@pytest.mark.parametrize(
    ("raw", "v10", "v15"),
    [
        (r"\[ \mathbf{X} + y \tag{3} \]", "{x}+y", "{x}+y"),
        (r"$$\left( A \right)$$", r"$$\left(a\right)$$", "(a)"),
        (r"\begin{array}{l}a\end{array}.", "{l}a", "{l}a"),
        (r"a \quad \text{if} b", "a{if}b", "a{if}b"),
    ],
)
def test_normalised_formula(raw, v10, v15):
    assert normalise_formula(raw, "1.0") == v10
    assert normalise_formula(raw, "1.5") == v15


def test_formula_edit_distance():
    assert formula_edit_distance(r"\[ x^2 \]", "$$X^2$$") == 0
    assert formula_edit_distance("x^2", "x^3") == pytest.approx(1 / 3)
    assert formula_edit_distance("", "x") == 1
    assert formula_edit_distance("", "") == 0


def kinds(markdown: str, version="1.5") -> list[tuple[str, str]]:
    return [(block.label, block.content) for block in extract_blocks(markdown, version)]


def test_extraction_takes_a_page_apart():
    markdown = f"# Head\n\n![x](y.png)text with $a_1$\n\n$$b$$\n\n{TABLE}\n\n```python\ncode``` end"
    assert kinds(markdown) == [
        ("text_block", "# Head"),
        ("text_block", "text with $a_1$"),
        ("equation_inline", r"\[a_1\]"),
        ("equation_isolated", r"\[b\]"),
        ("html_table", TABLE),
        ("text_block", "end"),  # positions of paragraphs do not count the blank lines between them
        ("code", "code"),
    ]


def test_paragraphs_are_lines_where_no_line_is_blank():
    assert kinds("one\ntwo") == [("text_block", "one"), ("text_block", "two")]
    assert kinds("one\ntwo\n\nthree") == [("text_block", "one\ntwo"), ("text_block", "three")]


def test_versions_differ_in_long_runs_and_line_breaks():
    assert kinds("a" + "." * 20, "1.0") == [("text_block", "a....")]
    assert kinds("a" + "." * 20, "1.5") == [("text_block", "a" + "." * 20)]
    assert kinds("$$a\nb c$$", "1.0")[0] == ("equation_isolated", r"\[abc\]")
    assert kinds("$$a\nb c$$", "1.5")[0] == ("equation_isolated", r"\[a b c\]")


def test_pipe_tables_keep_the_official_quirks():
    (table,) = [
        content
        for label, content in kinds("x\n\n| a | b |\n|---|---|\n| c | 12:30 |\n")
        if label == "md2html_table"
    ]
    cells = re.findall(r'<td colspan="1" rowspan="1">(.*?)</td>', table)
    assert cells == ["a", "b", "c"]  # the cell with a colon is taken for the rule under the head
    assert "above" not in str(kinds("above\n| a | b |\n|---|---|\n| c | d |\n"))  # and the line above is lost


@given(st.text(alphabet="a$|\\[]()\n", max_size=40))
def test_spans_are_those_of_the_lazy_expressions(drawn):
    lazy = re.compile(r"\$\$(.*?)\$\$|\\\[(.*?)\\\]|\$(.*?)\$|\\\((.*?)\\\)", re.DOTALL)
    assert [(s.start, s.end) for s in delimited(drawn, DISPLAY)] == [m.span() for m in lazy.finditer(drawn)]
    one_line = re.compile(r"\$(.*?)\$|\\\((.*?)\\\)")
    pairs = [("$", "$"), (r"\(", r"\)")]
    assert [(s.start, s.end) for s in delimited(drawn, pairs, one_line=True)] == [
        m.span() for m in one_line.finditer(drawn)
    ]
    assert pipe_spans(drawn) == [m.span() for m in re.finditer(r"\|\s*.*?\s*\|\n", drawn, re.DOTALL)]
    for one, flags in ((True, 0), (False, re.DOTALL)):
        dropped = replace_enclosed(drawn, re.compile(r"\\\("), ")", lambda _: "-", one_line=one)
        assert dropped == re.sub(r"\\\(.*?\)", "-", drawn, flags=flags)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("(a)", [(0, 3)]),
        ("((a)b)(c)", [(0, 6), (6, 9)]),
        ("(a(b)", [(2, 5)]),
        ("a)b", []),
        (")(()", [(2, 4)]),
    ],
)
def test_outermost_pairs(tags, expected):
    assert outermost(tags, lambda t, place: t.find("(", place), ")", stride=1, jump=1) == expected


@given(st.text("abc", min_size=1, max_size=6), st.text("abc", max_size=20), st.sampled_from([0.4, 0.6]))
def test_nearest_window_decides_as_all_windows_do(needle, haystack, limit):
    windows = [haystack[i : i + len(needle)] for i in range(len(haystack) - len(needle) + 1)]
    best = min(
        (Levenshtein.distance(needle, window) / len(needle) for window in windows), default=float("inf")
    )
    found = nearest_window(needle, haystack, limit)
    assert (found < limit) == (best < limit)
    assert (found == limit) == (best == limit)


def test_matching_by_hand():
    assert quick_match([], ["a"], "1.5") == [Match((), (0,))]
    assert quick_match(["a"], [], "1.5") == [Match((0,), ())]
    assert quick_match(["a"], ["z"], "1.5") == [Match((0,), (0,))]
    # The second truth stands inside the first prediction, beside the first truth.
    zeros = "0" * 30
    assert adjacency_match([A, B], [A + B, zeros], "1.5") == [Match((0, 1), (0,)), Match((), (1,))]
    # Each fits nothing: what is left is paired all the same, and scored for what it is.
    assert adjacency_match([A, B], [zeros], "1.5") == [Match((0,), (0,)), Match((1,), ())]
    assert plain_match([A, B], [B]) == [Match((0,), ()), Match((1,), (0,))]
    assert plain_match([A], [A, B, C]) == [Match((0,), (0,)), Match((), (1, 2))]


def test_too_many_pieces_are_assigned_plainly():
    dets = [text(f"{A}{i}") for i in range(60)]
    report = score_omnidocbench([page(*dets)], {"page": "\n\n".join(f"{A}{i}" for i in range(5000))})
    assert report.coverage.plainly_matched == ("page",)
    assert report.scores["text_edit"].page_average == 0
