"""DocTags and OTSL as markdown and HTML: every element, the forms of each data set, and damaged markup."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanoocr.tasks.doctags import DocTagsError, doctags_to_markdown, is_doctags

LOC = "<loc_1><loc_22><loc_333><loc_499>"
PAGE = f"""<doctag><page_header>{LOC}Annual report</page_header>
<title>{LOC}Water & soil</title>
<section_header_level_1>{LOC}1. Results</section_header_level_1>
<text>{LOC}For a < b and <b>bold</b>
we saw <unknown_tag> nothing.</text>
<unordered_list><list_item>{LOC}• first</list_item>
<list_item>second
<ordered_list><list_item>inner</list_item><list_item>(b) own mark</list_item></ordered_list></list_item>
<unordered_list><list_item>deep</list_item></unordered_list>
</unordered_list>
<ordered_list><list_item>1. one</list_item><list_item>two</list_item></ordered_list>
<formula>{LOC}E = m c ^ {{ 2 }}</formula>
<inline><text>where</text><formula>x < y</formula><text>holds</text></inline>
<code>{LOC}<_Python_>if a < b:
    print("<text>")</code>
<picture>{LOC}<bar_chart><caption>Figure 1: a pump</caption></picture>
<checkbox_selected>{LOC}agreed</checkbox_selected>
<key_value_region>{LOC}<key_0>{LOC}Name:<link_1></key_0><value_1>{LOC}Ada</value_1></key_value_region>
<page_break>
<footnote>{LOC}* see there</footnote>
<page_footer>7</page_footer></doctag>"""

MARKDOWN = """# Water & soil

## 1. Results

For a < b and <b>bold</b>
we saw <unknown_tag> nothing.

- first
- second
    1. inner
    (b) own mark
    - deep

1. one
2. two

$$E = m c ^ { 2 }$$

where $x < y$ holds

```python
if a < b:
    print("<text>")
```

Figure 1: a pump

- [x] agreed

Name:
Ada

* see there"""


def test_a_page():
    assert doctags_to_markdown(PAGE) == MARKDOWN


def table(otsl: str) -> str:
    return doctags_to_markdown(f"<doctag><otsl>{LOC}{otsl}</otsl></doctag>")


@pytest.mark.parametrize(
    ("otsl", "html"),
    [
        ("<fcel>a<fcel>b<nl><fcel>c<ecel><nl>", "<tr><td>a</td><td>b</td></tr><tr><td>c</td><td></td></tr>"),
        ("<ched>S<ched>2<nl><rhed>a<fcel>3", "<tr><th>S</th><th>2</th></tr><tr><th>a</th><td>3</td></tr>"),
        (
            "<fcel>Crop<fcel>Tons<lcel><nl><ucel><fcel>wet<fcel>dry<nl><fcel>Oats<fcel>3<fcel>2<nl>",
            '<tr><td rowspan="2">Crop</td><td colspan="2">Tons</td></tr>'
            "<tr><td>wet</td><td>dry</td></tr><tr><td>Oats</td><td>3</td><td>2</td></tr>",
        ),
        (
            "<fcel>x<lcel><fcel>y<nl><ucel><xcel><fcel>z<nl>",
            '<tr><td rowspan="2" colspan="2">x</td><td>y</td></tr><tr><td>z</td></tr>',
        ),
        ("<srow>A<lcel><nl><fcel>a<fcel>b", '<tr><th colspan="2">A</th></tr><tr><td>a</td><td>b</td></tr>'),
        ("<fcel/>a<fcel/>b<nl/>", "<tr><td>a</td><td>b</td></tr>"),  # the self-closing spelling
        ("<fcel>a</fcel><ched>b</ched><nl>", "<tr><td>a</td><th>b</th></tr>"),
        ("<fcel>a<nl><fcel>b<fcel>c<nl>", "<tr><td>a</td><td></td></tr><tr><td>b</td><td>c</td></tr>"),
        ("<fcel>1 < 2 & 3\n> 0<nl>", "<tr><td>1 &lt; 2 &amp; 3 &gt; 0</td></tr>"),
        ("<lcel><fcel>a<nl><ucel><xcel><nl>", "<tr><td></td><td>a</td></tr><tr><td></td><td></td></tr>"),
        ("<fcel>a<lcel>b<nl>", "<tr><td>a</td><td>b</td></tr>"),  # no text is ever lost
        (f"<fcel>{LOC}a <formula>x</formula><nl>", "<tr><td>a $x$</td></tr>"),
    ],
)  # fmt: skip
def test_tables(otsl, html):
    assert table(otsl) == f"<table>{html}</table>"


def test_captions_stand_before_their_table_on_either_side_of_it():
    cells = "<fcel>a<nl>"
    expected = "Table 1\n\n<table><tr><td>a</td></tr></table>"
    assert table(f"<caption>{LOC}Table 1</caption>{cells}") == expected
    assert table(f"{cells}<caption>Table 1</caption>") == expected
    assert table("") == ""


def test_elements_that_the_question_opened():
    # SynthChartNet, SynthFormulaNet and SynthCodeNet as their cards show them.
    chart = f"{LOC}<bar_chart><ecel><ched>Sales<nl><rhed>May<fcel>3<nl></chart>"
    html = "<table><tr><td></td><th>Sales</th></tr><tr><th>May</th><td>3</td></tr></table>"
    assert doctags_to_markdown(chart) == html
    assert doctags_to_markdown(f"<chart>{chart}") == html
    assert doctags_to_markdown(f"{LOC}e ( \\xi ) = 1</formula>") == "$$e ( \\xi ) = 1$$"
    code = f"{LOC}<_HTML_><title>a</title>\n  <code>b</code></code>"
    assert doctags_to_markdown(code) == "```html\n<title>a</title>\n  <code>b</code>\n```"
    assert doctags_to_markdown(f"<code>{code}") == "```html\n<title>a</title>\n  <code>b</code>\n```"
    assert doctags_to_markdown("<_unknown_>    x = 1\n</code>") == "```\n    x = 1\n```"
    assert doctags_to_markdown("<_Markdown_>```\na\n```</code>").startswith("````markdown\n```\n")
    assert doctags_to_markdown("<fcel>a<fcel>b<nl>") == "<table><tr><td>a</td><td>b</td></tr></table>"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("<doctag><text>cut", "<text> is never closed"),
        ("<doctag><formula>cut</doctag>", "<formula> is never closed"),
        ("<doctag><text>a</title></doctag>", "</title> closes <text>"),
        ("<doctag>a</doctag></text>b", "</text> closes nothing"),
        ("<inline>" * 9999, "50 deep"),
    ],
)
def test_damaged_markup_is_named(text, complaint):
    with pytest.raises(DocTagsError, match=complaint):
        doctags_to_markdown(text)


def test_empty_elements_leave_nothing():
    empty = (
        "<unordered_list>\n</unordered_list><text></text><picture></picture><formula></formula><otsl></otsl>"
    )
    assert doctags_to_markdown(f"<doctag>{empty}<text>a</text>{empty}</doctag>") == "a"


def test_what_is_doctags():
    assert (
        is_doctags(f"{LOC}x</formula>") and is_doctags("<doctag></doctag>") and is_doctags("<_C++_>x</code>")
    )
    assert not is_doctags("Is a < b? <b>Yes</b>") and not is_doctags("") and not is_doctags("plain")


PIECES = ["<text>", "</text>", "<otsl>", "</otsl>", "<fcel>", "<ucel>", "<nl>", "<code>", "</code>", LOC]
PIECES += [
    "<ordered_list>",
    "</ordered_list>",
    "<list_item>",
    "</list_item>",
    "</doctag>",
    "<_C_>",
    "a < b",
    " ",
]


@settings(deadline=None, max_examples=500)
@given(st.lists(st.sampled_from(PIECES), max_size=12))
def test_any_markup_is_converted_or_refused(pieces):
    try:
        markdown = doctags_to_markdown("".join(pieces))
    except DocTagsError:
        return
    assert "`" in markdown or ("\n\n\n" not in markdown and "<loc_" not in markdown)  # code is verbatim
    assert markdown.count("a < b") + markdown.count("a &lt; b") == pieces.count("a < b")


CELLS = st.sampled_from(["fcel", "ecel", "lcel", "ucel", "xcel", "ched"])


@settings(deadline=None)
@given(st.lists(st.lists(CELLS, min_size=1, max_size=5), min_size=1, max_size=5))
def test_any_grid_covers_every_place_once(grid):
    """Whatever the tokens say, the spans of the HTML tile the rectangle, and every full cell is there."""
    rows = [
        "".join(f"<{cell}>{r}.{c}" if cell in ("fcel", "ched") else f"<{cell}>" for c, cell in enumerate(row))
        for r, row in enumerate(grid)
    ]
    html = doctags_to_markdown(f"<otsl>{'<nl>'.join(rows)}<nl></otsl>")
    width, height, covered = max(map(len, grid)), len(grid), set()
    for r, row in enumerate(re.findall(r"<tr>(.*?)</tr>", html)):
        for attributes in re.findall(r"<t[dh]([^>]*)>", row):
            spans = {name: int(value) for name, value in re.findall(r'(\w+)="(\d+)"', attributes)}
            c = next(c for c in range(width) if (r, c) not in covered)
            rowspan, colspan = spans.get("rowspan", 1), spans.get("colspan", 1)
            places = {(r + i, c + j) for i in range(rowspan) for j in range(colspan)}
            assert not places & covered
            covered |= places
    assert covered == {(r, c) for r in range(height) for c in range(width)}
    for r, row in enumerate(grid):
        assert all(f"{r}.{c}<" in html for c, cell in enumerate(row) if cell in ("fcel", "ched"))
