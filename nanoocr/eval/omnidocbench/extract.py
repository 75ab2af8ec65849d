"""Splits a page's markdown as OmniDocBench does: into tables, formulas, code and paragraphs.

It behaves as opendatalab/OmniDocBench (`utils/extract.py`), both as of April 2025 (v1.0) and as of December
2025 (v1.5). Quirks are included, because every one of them changes scores.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from nanoocr.eval.omnidocbench.pipe_tables import convert_pipe_tables, pipe_spans
from nanoocr.eval.omnidocbench.scan import Span, blank, delimited, outermost, replace_enclosed

Version = Literal["1.0", "1.5"]
Kind = Literal["text", "formula", "html_table", "latex_table"]

FENCES = {"1.0": ("markdown",), "1.5": ("markdown", "html", "latex")}
DISPLAY = [("$$", "$$"), (r"\[", r"\]"), ("$", "$"), (r"\(", r"\)")]
DOLLARS = [("$$", "$$"), ("$", "$"), (r"\(", r"\)")]
# The official code uses the lengths of its regular expressions as the lengths of their matches: 14 characters
# for \end{tabular}, which has 13, and 16 for \begin{tabular} and for any <table ...>.
TABULAR_STRIDE, RESTART = 14, 16
CODE = re.compile(r"```\w+\n")
# (macro, whether it must end on the same line, whether white space inside is removed)
MACROS = [
    (re.compile(r"\\title\{"), True, False),
    (re.compile(r"\\title\s*\{"), False, True),
    (re.compile(r"\\text\s*\{"), False, True),
    (re.compile(r"\\section\*?\{"), True, False),
    (re.compile(r"\\section\*?\{"), False, True),
]


@dataclass(frozen=True)
class Block:
    """A piece of a page. `label` is the official name of the kind that it was cut out as."""

    kind: Kind
    content: str
    start: int  # character position, which gives the reading order
    label: str


def extract_blocks(markdown: str, version: Version) -> list[Block]:
    """All pieces of a page's markdown (or a mix with HTML and LaTeX), ordered by position."""
    text = tidy(markdown, version)
    text, blocks = _cut_latex_tables(text)
    text, html_tables = _cut_html_tables(text)
    text, formulas = _cut_formulas(text, version)
    text, pipe_tables = _cut_pipe_tables(text)
    text, code = _cut_code(text)
    blocks += html_tables + formulas + pipe_tables + code + list(_paragraphs(_unwrap_macros(text)))
    return sorted(blocks, key=lambda block: block.start)


def tidy(markdown: str, version: Version) -> str:
    """Remove pictures and code fences around whole pages, and shorten long runs of one character."""
    text = _drop_pictures(markdown)
    for language in FENCES[version]:
        text = re.sub(rf"^```{language}\n?", "", text, flags=re.MULTILINE)
    text = re.sub(r"```\n?$", "", text, flags=re.MULTILINE)
    text = re.sub("_{4,}", "____", text)
    text = re.sub(" {4,}", "    ", text)
    if version == "1.0":
        return re.sub(r"([^a-zA-Z0-9])\1{10,}", r"\1\1\1\1", text)
    for tag in ("<html>", "</html>", "<body>", "</body>"):
        text = text.replace(tag, "")
    return text


def _drop_pictures(text: str) -> str:
    """Remove every `![...](...)` that lies within one line."""
    parts, kept, place = [], 0, 0
    while (start := text.find("![", place)) >= 0:
        newline = text.find("\n", start)
        line_end = len(text) if newline < 0 else newline
        middle = text.find("](", start + 2, line_end)
        close = text.find(")", middle + 2, line_end) if middle >= 0 else -1
        if close < 0:
            place = line_end
            continue
        parts.append(text[kept:start])
        kept = place = close + 1
    return "".join([*parts, text[kept:]])


def _cut_latex_tables(text: str) -> tuple[str, list[Block]]:
    tables = [(s.start, s.end) for s in delimited(text, [(r"\begin{table}", r"\end{table}")])]
    rest = blank(text, tables)
    tabulars = outermost(rest, _find_tabular, r"\end{tabular}", stride=TABULAR_STRIDE, jump=RESTART)
    blocks = [Block("latex_table", text[start:end], start, "latex_table") for start, end in tables]
    blocks += [Block("latex_table", rest[start:end], start, "latex_table") for start, end in tabulars]
    return blank(rest, tabulars), blocks


def _find_tabular(text: str, place: int) -> int:
    return text.find(r"\begin{tabular}", place)


def _cut_html_tables(text: str) -> tuple[str, list[Block]]:
    spans = outermost(text, _find_html_table, "</table>", stride=len("</table>"), jump=RESTART)
    blocks = [Block("html_table", text[start:end], start, "html_table") for start, end in spans]
    return blank(text, spans), blocks


def _find_html_table(text: str, place: int) -> int:
    start = text.find("<table", place)
    return start if start >= 0 and text.find(">", start + 6) >= 0 else -1


def _cut_formulas(text: str, version: Version) -> tuple[str, list[Block]]:
    r"""Cut display formulas out. Inline ones ($ or \( \)) become candidates, and also stay in the text."""
    blocks, cut = [], []
    for span in delimited(text, DISPLAY):
        matched = text[span.start : span.end]
        if version == "1.0":
            line = "".join(matched.split())
        else:
            line = " ".join(matched.strip().split("\n"))
        inner = list(delimited(line, DOLLARS))
        display = bool(inner) and inner[0].opener == "$$" and inner[0].inner_end > inner[0].inner_start
        if display or not inner:
            cut.append((span.start, span.end))
        content = _rebracket(line, inner, keep_display=display)
        label = "equation_isolated" if display or not inner else "equation_inline"
        blocks.append(Block("formula", content, span.start, label))
    return blank(text, cut), blocks


def _rebracket(line: str, spans: list[Span], *, keep_display: bool) -> str:
    r"""Turn dollars into \[ \]. In a mix of display and inline formulas only one sort keeps its content."""
    parts, place = [], 0
    for span in spans:
        kept = (span.opener == "$$") == keep_display
        inside = line[span.inner_start : span.inner_end] if kept else ""
        parts += [line[place : span.start], r"\[", inside, r"\]"]
        place = span.end
    return "".join([*parts, line[place:]])


def _cut_pipe_tables(text: str) -> tuple[str, list[Block]]:
    if len(pipe_spans(text + "\n")) < 2:
        return text, []
    text = convert_pipe_tables(text)
    spans = [(span.start, span.end) for span in delimited(text, [("<table", "</table>")])]
    blocks = [Block("html_table", text[start:end], start, "md2html_table") for start, end in spans]
    return blank(text, spans), blocks


def _cut_code(text: str) -> tuple[str, list[Block]]:
    spans, blocks, place = [], [], 0
    while found := CODE.search(text, place):
        close = text.find("```", found.end())
        if close < 0:
            break
        place = close + 3
        spans.append((found.start(), place))
        blocks.append(Block("text", text[found.end() : close].strip(), found.start(), "code"))
    return blank(text, spans), blocks


def _unwrap_macros(text: str) -> str:
    for opener, one_line, strips in MACROS:
        text = replace_enclosed(text, opener, "}", str.strip if strips else str, one_line=one_line)
    return text


def _paragraphs(text: str) -> Iterator[Block]:
    """The pieces between blank lines, or single lines where there is no blank line.

    As in the official code, positions do not count the line breaks between paragraphs.
    """
    pieces = text.split("\n\n")
    if len(pieces) == 1:
        pieces = text.split("\n")
    start = 0
    for piece in pieces:
        lines = (line.strip() for line in piece.strip().split("\n"))
        content = "\n".join(line for line in lines if line)
        if content.startswith("<table") and content.endswith("</table>"):
            yield Block("html_table", content, start, "html_table")
        elif content.startswith("$") and content.endswith("$"):
            if content.replace("$", "").strip():
                yield Block("formula", content, start, "equation_isolated")
        elif content:
            yield Block("text", content, start, "text_block")
        start += len(piece)
