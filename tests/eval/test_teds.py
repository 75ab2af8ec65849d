"""TEDS against values worked out by hand, and tables as grids."""

from __future__ import annotations

import sys

import pytest

from nanoocr.errors import UsageError
from nanoocr.eval import teds
from nanoocr.eval.olmocr.tables import html_tables, markdown_tables, pipe_table_to_html, read_tables
from nanoocr.eval.teds import compare_tables, normalise_table, table_scores


def table(*rows: str) -> str:
    """`a|b` is a row of two cells."""
    cells = ("".join(f"<td>{cell}</td>" for cell in row.split("|")) for row in rows)
    return "<table>" + "".join(f"<tr>{row}</tr>" for row in cells) + "</table>"


@pytest.mark.parametrize(
    ("prediction", "truth", "full", "bare"),
    [
        (table("ab|c"), table("ab|c"), 1, 1),
        # Three nodes below the table; one cell half wrong costs 1/2.
        (table("ax|c"), table("ab|c"), 1 - 0.5 / 3, 1),
        (table("|c"), table("ab|c"), 1 - 1 / 3, 1),
        # A whole row of one cell is missing: two of four nodes.
        (table("a"), table("a", "b"), 0.5, 0.5),
        (table("a", "b"), table("a"), 0.5, 0.5),
        # A span that differs costs 1, whatever the content.
        ('<table><tr><td colspan="2">a</td></tr></table>', table("a"), 0.5, 0.5),
        # Heads, bodies, layout and emphasis around cells do not count.
        ('<table class="x"><thead><tr><th style="y">a</th></tr></thead></table>', table("a"), 1, 1),
        ("<table><tbody><tr><td><span>a</span></td></tr></tbody></table>", table("a"), 1, 1),
        # A tag inside a cell is two letters of its content, and one more node: 2/3 of 1 over 3.
        (table("<b>a</b>"), table("a"), 1 - (2 / 3) / 3, 1),
        (table("Ａ"), table("A"), 1, 1),  # NFKC
    ],
)
def test_teds_by_hand(prediction, truth, full, bare):
    scores = table_scores(prediction, truth)
    assert (scores.teds, scores.teds_structure) == (pytest.approx(full), pytest.approx(bare))
    assert scores.problem == ""


@pytest.mark.parametrize(
    ("prediction", "problem"),
    [
        ("", "no table"),
        ("just text", "no table"),
        ("<table></table>", "a table without rows"),
        ('<table><tr><td colspan="two">a</td></tr></table>', "a span is no number"),
        (table(*["a"] * 600), "too many"),
    ],
)
def test_broken_tables_score_zero_and_say_why(prediction, problem):
    scores = table_scores(prediction, table("a", "b"))
    assert (scores.teds, scores.teds_structure) == (0, 0)
    assert problem in scores.problem


def test_unclosed_html_is_mended_by_the_parser():
    assert table_scores("<table><tr><td>a<td>b</table>", table("a|b")).teds > 0
    assert table_scores("<table><tr><td>\x00a</td></tr></table>", table("a")).problem == ""


def test_very_deep_html_ends():
    scores = table_scores("<table>" + "<tr><td>" * 3000 + "a" + "</table>", table("a"))
    assert 0 <= scores.teds <= 1


def test_node_limit_is_about_pairs(monkeypatch):
    monkeypatch.setattr(teds, "MOST_NODE_PAIRS", 15)
    assert "4 and 4 nodes" in table_scores(table("a", "b"), table("a", "c")).problem
    monkeypatch.setattr(teds, "MOST_NODE_PAIRS", 16)
    assert table_scores(table("a", "b"), table("a", "c")).teds == pytest.approx(0.75)


def test_normalised_table_is_one_document():
    text = "<table border=2>\n<thead><tr><th width='3'>a <sup>b</sup></th></tr></thead></table>"
    expected = '<html><body><table border="1" ><tr><td>a b</td></tr></table></body></html>'
    assert normalise_table(text) == expected
    assert normalise_table(expected) == expected
    assert normalise_table("no table") == ""
    assert compare_tables(expected, expected).teds == 1


@pytest.mark.parametrize("module", ["apted", "lxml.html", "bs4"])
def test_a_missing_library_names_the_extra(monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UsageError, match=r"nano-deepseek-ocr\[eval\]"):
        table_scores(table("a"), table("b"))


# ---------------------------------------------------------------------------------------------------------
# grids

MARKDOWN = """
Before | is no table

| Fruit  | Cost |
|--------|-----:|
| Apples | 1.00 |
| Pears  | 2.00 |
"""
SPANS = """
<table>
<thead><tr><th rowspan="2"></th><th colspan="2">Sales</th></tr><tr><th>Jan</th><th>Feb</th></tr></thead>
<tbody><tr><td>North</td><td>10</td><td>20</td></tr><tr><td>South</td><td>30</td><td>40</td></tr></tbody>
</table>
"""


def cell(grid, text: str) -> int:
    return next(number for number, found in enumerate(grid.cells) if found.text == text)


def texts(grid, numbers: set[int]) -> set[str]:
    return {grid.cells[number].text for number in numbers}


def test_markdown_table_as_a_grid():
    (grid,) = markdown_tables(MARKDOWN)
    assert (grid.height, grid.width) == (3, 2)
    one = cell(grid, "1.00")
    assert texts(grid, grid.neighbours(one, "up")) == {"Cost"}
    assert texts(grid, grid.neighbours(one, "down")) == {"2.00"}
    assert texts(grid, grid.neighbours(one, "left")) == {"Apples"}
    assert texts(grid, grid.neighbours(one, "right")) == set()
    assert texts(grid, grid.headings(cell(grid, "2.00"), "up")) == {"Cost"}
    assert texts(grid, grid.headings(cell(grid, "2.00"), "left")) == {"Pears"}


def test_html_spans_and_headings():
    (grid,) = html_tables(SPANS)
    assert (grid.height, grid.width) == (4, 3)
    assert texts(grid, grid.neighbours(cell(grid, "Sales"), "down")) == {"Jan", "Feb"}
    assert texts(grid, grid.neighbours(cell(grid, "Feb"), "up")) == {"Sales"}
    assert texts(grid, grid.headings(cell(grid, "40"), "up")) == {"Sales", "Feb"}
    # No heading on the left: the cell at the edge is taken for one.
    assert texts(grid, grid.headings(cell(grid, "40"), "left")) == {"South"}


def test_odd_tables_do_not_stop_anything():
    assert read_tables("") == read_tables("a | b") == read_tables("<table>") == []
    (grid,) = read_tables("<table><tr><td rowspan=0 colspan=99999>a</td></tr><tr><td colspan=x>b</table>")
    assert [found.text for found in grid.cells] == ["a", "b"]
    (grid,) = read_tables("| a | b |\n| c |")
    assert grid.neighbours(cell(grid, "b"), "down") == set()


def test_pipe_table_to_html():
    html = pipe_table_to_html("| a | x: 1 |\n|---|---|\n| <b | c |")
    assert html == "<table><tr><th>a</th><th>x: 1</th></tr><tr><td>&lt;b</td><td>c</td></tr></table>"
    assert (
        table_scores(
            html, "<table><tr><td>a</td><td>x: 1</td></tr><tr><td>&lt;b</td><td>c</td></tr></table>"
        ).teds
        == 1
    )
