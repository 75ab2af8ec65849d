"""Plain text, JSON, TSV and Markdown."""

import csv
import io
import json
from dataclasses import replace

import pytest
from format_pages import TEXTS, make_page

from nanoocr.document import Box, Line, TextPage, Word
from nanoocr.formats import json_text, markdown, plain, render, tsv
from nanoocr.formats.shapes import pixels


def lines_at(rows, *, size=20, block=0, cap_height=None, top=10):
    """A block of lines; a row is a text, or (left, text) pairs that stand beside each other in one line."""
    lines = []
    for row in rows:
        pieces = [(10, row)] if isinstance(row, str) else row
        words = []
        for left, text in pieces:
            for word in text.split():
                words.append(Word(word, Box(left, top, left + 10 * len(word), top + size).quad()))
                left += 10 * len(word) + 8
        text = " ".join(word.text for word in words)
        quad = Box(words[0].quad[0][0], top, words[-1].quad[1][0], top + size).quad()
        lines.append(Line(text, quad, words=tuple(words), block=block, cap_height=cap_height))
        top += 2 * size
    return lines


def as_markdown(*members):
    return markdown.render(
        [TextPage("x.png", 1, 2000, 2000, tuple(line for block in members for line in block))]
    )


def test_plain_text():
    page, _ = make_page()
    first, second = "\n".join(TEXTS[:3]), "\n".join(TEXTS[3:])
    assert plain.render([page]) == f"{first}\n\n{second}\n"
    assert plain.render([page, TextPage("x", 2, 9, 9), page]).split("\f")[1] == "\n"


def test_text_without_lines_is_kept():
    page = TextPage("x.png", 1, 9, 9, text="read as a whole")
    assert plain.render([page]) == "read as a whole\n" == markdown.render([page])
    assert json.loads(json_text.render([page]))["pages"][0]["text"] == "read as a whole"


def test_json_holds_everything():
    page, _ = make_page(degrees=3.0)
    (read,) = json.loads(json_text.render([page]))["pages"]
    assert (read["file"], read["width"], read["height"], read["dpi"]) == ("scan.png", 1240, 1240, 150)
    for line, row in zip(page.lines, read["lines"], strict=True):
        assert (line.text, line.block, line.confidence) == (row["text"], row["block"], row["confidence"])
        for word, entry in zip(line.words, row["words"], strict=True):
            assert entry["text"] == word.text
            for point, place in zip(word.quad, entry["quad"], strict=True):
                assert place == pytest.approx(point, abs=0.051)
    assert json.loads(json_text.render([])) == {"pages": []}


def test_tsv_has_tesseracts_columns_and_levels():
    page, _ = make_page()
    rows = list(csv.DictReader(io.StringIO(tsv.render([page, page])), delimiter="\t", quoting=csv.QUOTE_NONE))
    assert " ".join(rows[0]) == (
        "level page_num block_num par_num line_num word_num left top width height conf text"
    )
    assert [sum(row["level"] == level for row in rows) for level in "12345"] == [2, 4, 4, 12, 80]
    words = [word for line in page.lines for word in line.words]
    for word, row in zip(words, [row for row in rows if row["level"] == "5"], strict=False):
        left, top, right, bottom = pixels(word.quad)
        assert (row["text"], row["conf"]) == (word.text, "90.0")
        assert [int(row[name]) for name in ("left", "top", "width", "height")] == [
            *(left, top, right - left, bottom - top)
        ]
    assert {row["conf"] for row in rows if row["level"] != "5"} == {"-1"}


def test_paragraphs_and_headings():
    text = as_markdown(
        lines_at(["Big Title"], cap_height=40, block=0),
        lines_at(["A *star*, a_b and", "# no heading"], cap_height=14, block=1),
        lines_at(["Section"], cap_height=22, block=2),
        lines_at(["1990. was a year", "+ and more"], cap_height=15, block=3),
        lines_at(["Another"], cap_height=21, block=4),
    )
    assert text == (
        "# Big Title\n\n"
        "A \\*star\\*, a\\_b and\n\\# no heading\n\n"
        "## Section\n\n"
        "1990\\. was a year\n\\+ and more\n\n"
        "## Another\n"
    )


def test_lists():
    bullets = as_markdown(lines_at(["• one item that", "goes on", "• 2nd"]))
    assert bullets == "- one item that\n  goes on\n- 2nd\n"
    assert as_markdown(lines_at(["1) first", "2) second"])) == "1. first\n2. second\n"


def test_tables_from_lines_and_from_cells():
    rows = [
        [(10, "Name of it"), (300, "Count"), (500, "Price")],
        [(10, "Apple"), (310, "12"), (520, "3.50")],
        [(10, "Pear | x"), (520, "1.20")],
    ]
    expected = (
        "| Name of it | Count | Price |\n| --- | --- | --- |\n"
        "| Apple | 12 | 3.50 |\n| Pear \\| x |  | 1.20 |\n"
    )
    assert as_markdown(lines_at(rows)) == expected
    # The same table, where the reader took each cell for a line of its own.
    cells = [
        line for i, row in enumerate(rows) for cell in row for line in lines_at([[cell]], top=10 + 40 * i)
    ]
    assert as_markdown(cells) == expected


def test_justified_text_is_no_table():
    rows = [
        [(10, "wide gaps"), (200, "in this"), (400, "line")],
        [(10, "but not"), (150, "at the"), (290, "same places")],
    ]
    assert "|" not in as_markdown(lines_at(rows))
    assert "|" not in as_markdown(lines_at(["just text", "and text", [(10, "one"), (200, "gap")]]))


def test_pages_are_set_apart_in_markdown():
    page = TextPage("x", 1, 99, 99, tuple(lines_at(["a"])))
    assert markdown.render([page, page]) == "a\n\n---\n\na\n"


def test_marks_of_doubt_stand_where_the_doubtful_words_are():
    """Neighbours share a mark; a table's cells, headings and lists keep their form."""
    (line,) = lines_at(["one two three four"])
    words = tuple(
        replace(word, confidence=c) for word, c in zip(line.words, (0.95, 0.4, 0.5, None), strict=True)
    )
    page = TextPage("x.png", 1, 900, 90, (replace(line, words=words),))
    assert render([page], "txt", mark_below=0.9) == "one [two three?] four\n"
    assert render([page], "md", mark_below=0.9) == "one \\[two three?\\] four\n"
    assert render([page], "txt", mark_below=0.4) == render([page], "txt") == "one two three four\n"
    assert render([page], "json", mark_below=0.9) == render([page], "json")


def test_marks_in_a_table_stand_in_the_cells():
    lines = lines_at([[(10, "tea"), (300, "1.50")], [(10, "cake"), (300, "2.75")]])
    doubted = [
        replace(line, words=tuple(replace(w, confidence=float(w.text != "2.75")) for w in line.words))
        for line in lines
    ]
    page = TextPage("x.png", 1, 900, 90, tuple(doubted))
    assert "| cake | \\[2.75?\\] |" in render([page], "md", mark_below=0.9)


def test_a_page_without_words_is_not_marked():
    page = TextPage("x.png", 1, 9, 9, text="read as a whole")
    assert render([page], "txt", mark_below=1.0) == "read as a whole\n"
