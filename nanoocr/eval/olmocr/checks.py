"""Runs one olmOCR-style test on a page's text, with a function for each type of test.

The rules are those of allenai/olmocr (`olmocr/bench/tests.py`). Only the approximate search is our own.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from rapidfuzz import fuzz

from nanoocr.eval.olmocr.tables import Direction, Grid, html_tables, read_tables

MOST_REPEATS, LONGEST_REPEATED = 30, 5  # a unit of up to 5 characters may stand 30 times at the end
MOST_MATCHING_CELLS = 500  # a looping model writes the same row thousands of times
FOREIGN = re.compile(
    "[\u4e00-\u9fff\u3040-\u309f\u30a0-\u30ff\U0001f600-\U0001f64f\U0001f300-\U0001f5ff"
    "\U0001f680-\U0001f6ff\U0001f1e0-\U0001f1ff]"
)
ASCII = str.maketrans(
    {"‘": "'", "’": "'", "‚": "'", "“": '"', "”": '"', "„": '"', "＿": "_", "µ": "μ"}
    | dict.fromkeys("–—‑‒−", "-")
)


@dataclass(frozen=True)
class PageTest:
    """One line of a test file."""

    file: str
    id: str
    document: str  # path without suffix
    page: int
    kind: str
    fields: Mapping[str, Any] = field(default_factory=dict)

    @property
    def max_diffs(self) -> int:
        """How many errors are forgiven."""
        return int(self.fields.get("max_diffs") or 0)


def run_test(test: PageTest, text: str) -> str:
    """Say why a text fails a test; empty if it passes."""
    runner = {
        "present": _presence,
        "absent": _presence,
        "order": _order,
        "table": _table,
        "baseline": _baseline,
    }
    return runner[test.kind](test, text)


def normalise(text: str) -> str:
    """Remove markdown emphasis and line breaks, collapse white space, apply NFC, unify quotes and dashes."""
    text = re.sub(r"<br/?>", " ", text)
    for mark in (r"\*\*", "__"):
        text = re.sub(f"{mark}(.*?){mark}", r"\1", text)
    text = re.sub("</?[bi]>", "", text)
    text = re.sub(r"(\*\*|__)(.*?)\1", r"\2", text)
    text = re.sub(r"(\*|_)(.*?)\1", r"\2", text)
    return unicodedata.normalize("NFC", re.sub(r"\s+", " ", text)).translate(ASCII)


def _presence(test: PageTest, text: str) -> str:
    wanted, text = normalise(test.fields["text"]), normalise(text)
    if not test.fields.get("case_sensitive", True):
        wanted, text = wanted.lower(), text.lower()
    first, last = test.fields.get("first_n"), test.fields.get("last_n")
    if first or last:
        text = (text[:first] if first else "") + (text[-last:] if last else "")
    # The ratio is symmetric. Without this check, any short text would be "found" inside the wanted one.
    long_enough = len(text) >= len(wanted) - test.max_diffs
    ratio = fuzz.partial_ratio(wanted, text) / 100 if long_enough else 0.0
    found = long_enough and ratio >= 1 - test.max_diffs / len(wanted)
    if found == (test.kind == "present"):
        return ""
    return f"{'found' if found else 'not found'}: {wanted[:40]!r} (best ratio {ratio:.3f})"


def _order(test: PageTest, text: str) -> str:
    text = normalise(text)
    before, after = (
        occurrences(normalise(test.fields[name]), text, test.max_diffs) for name in ("before", "after")
    )
    for name, places in (("before", before), ("after", after)):
        if not places:
            return f"{name} is not found: {test.fields[name][:40]!r}"
    return "" if before[0] < after[-1] else f"{test.fields['before'][:40]!r} does not come first"


def occurrences(needle: str, text: str, max_errors: int) -> list[int]:
    """Where `needle` begins in `text` with at most `max_errors` edits; of adjacent places only the best."""
    if max_errors == 0:
        return [match.start() for match in re.finditer(f"(?={re.escape(needle)})", text)]
    # Searching backwards turns errors by end position into errors by start position.
    errors = list(errors_by_end(needle[::-1], text[::-1]))[::-1]
    places: list[int] = []
    last = -2
    for place, count in enumerate(errors):
        if count > max_errors:
            continue
        if place > last + 1:
            places.append(place)
        elif count < errors[places[-1]]:
            places[-1] = place
        last = place
    return places


def errors_by_end(needle: str, text: str) -> Iterator[int]:
    """For every character of `text`, the fewest edits between `needle` and any stretch that ends there.

    Myers' bit-vector algorithm (JACM 1999) on Python's long integers: bit i of `plus` and `minus` says that
    the distance grows or shrinks from row i to row i + 1 of the column.
    """
    top, full = 1 << (len(needle) - 1), (1 << len(needle)) - 1
    places: dict[str, int] = {}
    for i, letter in enumerate(needle):
        places[letter] = places.get(letter, 0) | 1 << i
    plus, minus, errors = full, 0, len(needle)
    for letter in text:
        equal = places.get(letter, 0)
        diagonal = (((equal & plus) + plus) ^ plus) | equal | minus
        grows = minus | ~(diagonal | plus) & full
        shrinks = plus & diagonal
        errors += bool(grows & top) - bool(shrinks & top)
        grows, shrinks = grows << 1 & full, shrinks << 1 & full
        plus = shrinks | ~(equal | minus | grows) & full
        minus = grows & (equal | minus)
        yield errors


def _table(test: PageTest, text: str) -> str:
    only_html = test.fields.get("ignore_markdown_tables", False)
    grids = html_tables(text) if only_html else read_tables(text)
    if not grids:
        return "there is no table"
    reason = f"no cell is {test.fields['cell'][:40]!r}"
    for grid in grids:
        cells = [
            n for n, cell in enumerate(grid.cells) if _alike(cell.text, test.fields["cell"], test.max_diffs)
        ]
        for number in cells[:MOST_MATCHING_CELLS]:
            wrong = _wrong_side(test, grid, number)
            if not wrong:
                return ""
            reason = f"{wrong} of {test.fields['cell'][:40]!r} is not {test.fields[wrong][:40]!r}"
    return reason


SIDES: dict[str, Direction] = {"up": "up", "down": "down", "left": "left", "right": "right"}
HEADINGS: dict[str, Direction] = {"left_heading": "left", "top_heading": "up"}


def _wrong_side(test: PageTest, grid: Grid, number: int) -> str:
    """The first named neighbour or heading of a cell that is missing; empty if all are there."""
    for name, direction in (SIDES | HEADINGS).items():
        expected = test.fields.get(name)
        if not expected:
            continue
        look = grid.neighbours if name in SIDES else grid.headings
        others = (grid.cells[other].text for other in look(number, direction))
        if not any(_alike(other, str(expected), test.max_diffs) for other in others):
            return name
    return ""


def _alike(cell: str, expected: str, max_diffs: int) -> bool:
    cell, expected = normalise(cell), normalise(expected)
    return fuzz.ratio(expected, cell) / 100 >= max(0.5, 1 - max_diffs / max(len(expected), 1))


def _baseline(test: PageTest, text: str) -> str:
    most = test.fields.get("max_length")
    if most is not None and test.fields.get("max_length_skips_image_alt_tags"):
        text = re.sub(r"!\[[^\]\n]*\]\([^)\n]*\)", "", text)
    letters = sum(letter.isalnum() for letter in text)
    if most is not None:
        return "" if letters <= most else f"{letters} characters on a page that should be blank"
    if not letters:
        return "no letters or digits"
    copies = max(trailing_copies(text, size) for size in range(1, LONGEST_REPEATED + 1))
    if copies > test.fields.get("max_repeats", MOST_REPEATS):
        return f"ends in {copies} copies of a short unit"
    foreign = FOREIGN.findall(text) if test.fields.get("check_disallowed_characters", True) else []
    return f"characters of a foreign script: {''.join(foreign[:10])}" if foreign else ""


def trailing_copies(text: str, size: int) -> int:
    """How often the last `size` characters repeat at the end of the text, with white space collapsed."""
    text = re.sub(r"\s+", " ", text)
    copies = 0
    while (copies + 1) * size <= len(text) and text.endswith(text[-size:], 0, len(text) - copies * size):
        copies += 1
    return copies
