"""TEDS: the similarity of two HTML tables as trees, with the cells' content (TEDS) or without (TEDS-S).

TEDS = 1 - tree edit distance / nodes of the larger table (Zhong et al., arXiv 1911.10683). Inserting or
deleting a node costs 1. Renaming costs 1 where tag, colspan or rowspan differ, and otherwise the cells' edit
distance over characters and tags, divided by the longer one. Normalisation and details are those of
opendatalab/OmniDocBench (`utils/data_preprocess.py`, `metrics/table_metric.py`).
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from rapidfuzz.distance import Levenshtein

from nanoocr.errors import UsageError

TABLE = re.compile(r"<table\b[^>]*>(.*)</table>", re.DOTALL | re.IGNORECASE)
LAYOUT = re.compile(' (?:style|height|width|align|class)=".*?"')
COLUMN_GROUP = re.compile("<colgroup>.*?</colgroup>")
DROPPED_TAGS = ("sup", "sub", "span", "div", "p")
# The tree distance takes some 7 microseconds per pair of nodes, so this limit is a quarter of a minute.
# Tables of a looping model are refused by name, instead of taking hours. So is a table so much larger than
# the other that their similarity cannot exceed 1 / MOST_TIMES_LARGER.
MOST_NODE_PAIRS = 2_000_000
MOST_TIMES_LARGER = 50
FIRST_TAG_LETTER = 0xF0000  # private-use letters stand for tags inside cells


@dataclass(frozen=True)
class TableScores:
    """Both similarities in [0, 1]. `problem` says why a table could not be compared (both are 0 then)."""

    teds: float
    teds_structure: float
    problem: str = ""


def table_scores(prediction: str, truth: str) -> TableScores:
    """Scores of two pieces of HTML with one table each, normalised first.

    Raises:
        UsageError: apted, lxml or beautifulsoup4 are not installed.
    """
    return compare_tables(normalise_table(prediction), normalise_table(truth))


def normalise_table(text: str) -> str:
    """The rows of all tables in `text` as one plain document; empty where there is no table.

    th becomes td. thead, tbody, span, sup, sub, div and p are removed, but their content stays. Text gets
    NFKC, and loses layout attributes and newlines.

    Raises:
        UsageError: beautifulsoup4 is not installed.
    """
    if "<table" not in text.replace(" ", ""):
        return ""
    try:
        from bs4 import BeautifulSoup
    except ImportError as error:
        raise _needs_extra() from error
    soup = BeautifulSoup(text, "html.parser")
    for cell in soup.find_all("th"):
        cell.name = "td"
    for head in soup.find_all("thead"):
        head.unwrap()
    for formula in soup.find_all("math"):
        formula.replace_with(f"${formula.get('alttext', '')}$")
    for span in soup.find_all("span"):
        span.unwrap()
    plain = unicodedata.normalize("NFKC", html.unescape(str(soup)).replace("\n", "")).strip()
    rows = LAYOUT.sub("", "".join(TABLE.findall(plain)))
    rows = re.sub(r"\s+", " ", re.sub("</?tbody>", "", rows))
    for tag in DROPPED_TAGS:
        rows = rows.replace(f"<{tag}>", "").replace(f"</{tag}>", "")
    return f'<html><body><table border="1" >{COLUMN_GROUP.sub("", rows)}</table></body></html>'


def compare_tables(prediction: str, truth: str) -> TableScores:
    """Scores of two normalised tables.

    Raises:
        UsageError: apted or lxml are not installed.
    """
    try:
        letters: dict[str, str] = {}
        trees = [_read_tree(text, letters) for text in (prediction, truth)]
        sizes = [size for _, size in trees]
        if not min(sizes):
            raise TableError("a table without rows")
        if sizes[0] * sizes[1] > MOST_NODE_PAIRS or max(sizes) > MOST_TIMES_LARGER * min(sizes):
            raise TableError(f"{sizes[0]} and {sizes[1]} nodes are too many to compare")
        found, wanted = (tree for tree, _ in trees)
        # The parser limits the depth of a table's tree, but the distance recurses along it.
        full, bare = (1.0 - tree_distance(found, wanted, content) / max(sizes) for content in (True, False))
    except (TableError, RecursionError) as error:
        return TableScores(0.0, 0.0, str(error) or type(error).__name__)
    return TableScores(full, bare)


class TableError(Exception):
    """A table cannot be compared; the message says why."""


@dataclass
class Node:
    """A tag of a table. `content` is a cell's text, with one private letter for each tag inside it."""

    tag: str
    spans: tuple[int, int] = (1, 1)  # colspan, rowspan
    content: str = ""
    children: list[Node] = field(default_factory=list)


def _read_tree(text: str, letters: dict[str, str]) -> tuple[Node, int]:
    """A document's first table as a tree, and the number of all elements below the table.

    `letters` maps tags inside cells to their letters; new ones are added.
    """
    try:
        import lxml.etree
        import lxml.html
    except ImportError as error:
        raise _needs_extra() from error
    if not text:
        raise TableError("no table")
    parser = lxml.html.HTMLParser(remove_comments=True, encoding="utf-8")
    try:
        # ValueError: the text has lone surrogates or control characters, which XML does not allow
        tables = lxml.html.fromstring(text, parser=parser).xpath("body/table")
    except (lxml.etree.LxmlError, ValueError) as error:
        raise TableError(f"unreadable HTML ({error})") from error
    if not tables:
        raise TableError("no table")
    return _convert(tables[0], letters), len(tables[0].xpath(".//*"))


def _convert(element: Any, letters: dict[str, str]) -> Node:
    if element.tag != "td":
        return Node(str(element.tag), children=[_convert(child, letters) for child in element])
    spans = [element.get(name, "1") for name in ("colspan", "rowspan")]
    try:
        columns, rows = (int(span) for span in spans)
    except ValueError as error:
        raise TableError(f"a span is no number: {spans}") from error
    return Node("td", (columns, rows), "".join(_tokens(element, letters)))


def _tokens(cell: Any, letters: dict[str, str]) -> Iterator[str]:
    """Yield text and tags inside a cell in reading order."""
    yield cell.text or ""
    for child in cell:
        opener, closer = (
            letters.setdefault(f"{mark}{child.tag}", chr(FIRST_TAG_LETTER + len(letters)))
            for mark in ("", "/")
        )
        yield opener
        yield from _tokens(child, letters)
        yield closer
        # The official code loses the text after a cell inside a cell.
        yield (child.tail or "") if child.tag != "td" else ""


def tree_distance(found: Node, wanted: Node, content: bool) -> float:
    """Tree edit distance, with or without the cells' content.

    Raises:
        UsageError: apted is not installed.
    """
    if found == wanted:
        return 0.0
    try:
        from apted import APTED, Config
    except ImportError as error:
        raise _needs_extra() from error

    known: dict[tuple[str, str], float] = {}

    class Costs(Config):  # type: ignore[misc]
        """What apted asks about nodes: their children, and what it costs to turn one into another."""

        def children(self, node: Node) -> Sequence[Node]:
            """The nodes directly below."""
            return node.children

        def rename(self, one: Node, other: Node) -> float:
            """From 0, alike, to 1; two cells of the same kind cost the share of their text that differs."""
            if one.tag != other.tag or one.spans != other.spans:
                return 1.0
            if not content or one.content == other.content:
                return 0.0
            pair = (one.content, other.content)
            if pair not in known:
                known[pair] = Levenshtein.distance(*pair) / max(map(len, pair))
            return known[pair]

    return float(APTED(found, wanted, Costs()).compute_edit_distance())


def _needs_extra() -> UsageError:
    return UsageError("comparing tables needs the extra: pip install 'nano-deepseek-ocr[eval]'")
