"""Converts Markdown pipe tables to HTML exactly as OmniDocBench's extraction does, with its quirks.

The official code turns every row into a table of its own and glues adjacent ones together afterwards. This
has consequences that are kept: a cell with a colon or three hyphens is lost, and so is a line of text
directly above a table. `nanoocr.eval.olmocr.tables` has a conversion without these quirks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from nanoocr.eval.omnidocbench.scan import delimited, replace_enclosed

FRAME_TAG = re.compile(r"</?t(able|head|body)>")
COMMENT = re.compile("<!--")


def pipe_spans(text: str) -> list[tuple[int, int]]:
    """(start, end) from each bar to the next bar that ends a line, that line's end included."""
    spans: list[tuple[int, int]] = []
    place = 0
    while True:
        start = text.find("|", place)
        close = text.find("|\n", start + 1) if start >= 0 else -1
        if close < 0:
            return spans
        place = close + 2
        spans.append((start, place))


def convert_pipe_tables(text: str) -> str:
    """Replace the pipe tables of a whole text by HTML tables of td cells."""
    text = text.replace("\r", "") + "\n"
    parts, place = [], 0
    for start, end in pipe_spans(text):
        parts += [text[place:start], _row_as_table(text[start:end])]
        place = end
    glued = "\n".join(_glue("".join([*parts, text[place:]]).split("\n")))
    return glued.replace("<table>", '<table border="1" >').replace("<td>", '<td colspan="1" rowspan="1">')


def _row_as_table(rows_text: str) -> str:
    """Make a table of one span of pipes: its first line is the head, its second is left out."""
    rows = [row.strip() for row in rows_text.strip().split("\n")]
    head = [f"      <th>{cell}</th>" for cell in _cells(rows[0])]
    lines = ["<table>", "  <thead>", "    <tr>", *head, "    </tr>", "  </thead>", "  <tbody>"]
    for row in rows[2:]:
        lines += ["    <tr>", *(f"      <td>{cell}</td>" for cell in _cells(row)), "    </tr>"]
    return "\n".join([*lines, "  </tbody>", "</table>", ""])


def _cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.split("|")[1:-1]]


def _glue(lines: list[str]) -> Iterator[str]:
    """Join every run of adjacent tables into one; each line is judged when the next one is known."""
    block: list[str] = []
    inside = False
    previous = ""
    for line in lines:
        if "<table>" in line:
            inside = True
            block.append(previous)
        elif inside:
            if not _is_rule(previous) and "</thead>" not in previous:
                block.append("\n" + previous)
            if "</table>" in previous:
                inside = False
                yield _merge("".join(block))
                block = []
        else:
            yield previous
        previous = line
    if previous and (inside or "</table>" in previous):
        yield _merge("".join([*block, "\n", previous]))
    elif previous:
        yield previous


def _is_rule(line: str) -> bool:
    """Whether the official code takes the line for the rule below a table's head."""
    return ":" in line or "---" in line


def _merge(block: str) -> str:
    """Make one table from the rows of all tables in the block; rows without cells are left out."""
    block = replace_enclosed(block, COMMENT, "-->", lambda _: "")
    rows: list[str] = []
    for span in delimited(block, [("<table>", "</table>")]):
        lines = [_as_cells(line) for line in block[span.start : span.end].split("\n")]
        lines = [line for line in lines if not FRAME_TAG.search(line)]
        rows += lines if len(lines) > 2 else []
    return "\n\n<table>\n" + "\n".join(rows) + "\n</table>\n\n"


def _as_cells(line: str) -> str:
    return line.replace("<th>", "<td>").replace("</th>", "</td>") if "<th>" in line else line
