r"""olmOCR-bench style tests: small facts about a page that its text has or has not, one JSON object per line.

    {"pdf": "a.pdf", "page": 1, "id": "a_1", "type": "present", "text": "Total: 4.50", "max_diffs": 1}
    {"pdf": "a.pdf", "page": 1, "id": "a_2", "type": "order", "before": "Chapter 1", "after": "Chapter 2"}
    {"pdf": "a.pdf", "page": 1, "id": "a_3", "type": "table", "cell": "4.50", "left": "Total"}

Rules as in allenai/olmocr (`olmocr/bench/tests.py`): present, absent, order, table, and baseline (not empty,
no loop at the end, no foreign script), which every document gets. Tests of other types (math needs a
browser) are counted as not run. The score is the mean over files of the share of tests passed.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from statistics import fmean
from typing import Any

from rapidfuzz import fuzz

from nanoocr.errors import UsageError
from nanoocr.eval.metrics import bootstrap_interval_by_group
from nanoocr.eval.predictions import read_text
from nanoocr.eval.tables import Direction, Grid, read_tables

RUN = ("present", "absent", "order", "table", "baseline")
NOT_RUN = ("math", "format", "footnote")
BASELINE_FILE = "baseline"  # the baseline tests that no file names count together, as one more file
MOST_REPEATS, LONGEST_REPEATED = 30, 5  # copies at the end of a unit of up to so many characters
MOST_MATCHING_CELLS = 500  # a looping model writes the same row thousands of times
FOREIGN = re.compile(
    "[\u4e00-\u9fff\u3040-\u309f\u30a0-\u30ff\U0001f600-\U0001f64f\U0001f300-\U0001f5ff"
    "\U0001f680-\U0001f6ff\U0001f1e0-\U0001f1ff]"
)
ASCII = str.maketrans(
    {"‘": "'", "’": "'", "‚": "'", "“": '"', "”": '"', "„": '"', "＿": "_", "µ": "μ"}
    | dict.fromkeys("–—‑‒−", "-")
)
PAGE_FILE = re.compile(r"(.+)_pg(\d+)(?:_repeat\d+)?\.md")

PageKey = tuple[str, int]  # a document's path without suffix, and the page counted from 1


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
        """Errors that are forgiven."""
        return int(self.fields.get("max_diffs") or 0)


@dataclass(frozen=True)
class TestSet:
    """Tests that can be run, how many of other types there were, and what was wrong with other lines."""

    __test__ = False  # not pytest's

    tests: tuple[PageTest, ...]
    not_run: dict[str, int]
    problems: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """One test on one page; `reason` says why it failed."""

    test: PageTest
    passed: bool
    reason: str


@dataclass(frozen=True)
class OlmocrReport:
    """Score with its 95 % bootstrap interval, and everything that was left out, by name."""

    score: float  # mean over files of the share passed
    interval: tuple[float, float]
    by_file: dict[str, float]
    by_kind: dict[str, float]
    outcomes: tuple[Outcome, ...]
    not_run: dict[str, int]  # type -> number
    missing: tuple[str, ...]  # pages without text: all their tests fail
    problems: tuple[str, ...]  # malformed lines, duplicate ids, odd files

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


# ---------------------------------------------------------------------------------------------------------
# reading


def read_tests(path: str | Path) -> TestSet:
    """Tests of a .jsonl file, or of all .jsonl files of a folder; blank lines are allowed.

    Raises:
        UsageError: there is no such file, or none in the folder.
    """
    path = Path(path)
    files = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
    if not files or not all(file.is_file() for file in files):
        raise UsageError(f"{path}: no such .jsonl file of tests, or folder with one")
    tests: dict[str, PageTest] = {}
    not_run: Counter[str] = Counter()
    problems: list[str] = []
    for file in files:
        text, problem = read_text(file)
        problems += [problem] if problem else []
        for number, line in enumerate(text.split("\n"), start=1):
            if not line.strip():
                continue
            try:
                test = _parse(line, file.name)
            except ValueError as error:
                problems.append(f"{file}: line {number}: {error}")
                continue
            if test.kind in NOT_RUN:
                not_run[test.kind] += 1
            elif test.id in tests:
                problems.append(f"{file}: line {number}: a second test with the id {test.id}, not run")
            else:
                tests[test.id] = test
    return TestSet(tuple(tests.values()), dict(not_run), tuple(problems))


def _parse(line: str, file: str) -> PageTest:
    """One line as a test.

    Raises:
        ValueError: saying what is wrong with it (JSON's own error is one).
    """
    data = json.loads(line)
    if not isinstance(data, dict):
        raise ValueError("not a JSON object")
    missing = [
        name for name in ("pdf", "id", "type") if not isinstance(data.get(name), str) or not data[name]
    ]
    if missing or not isinstance(data.get("page"), int):
        raise ValueError(f"needs {', '.join(missing) or 'page, a number'}")
    kind, diffs = data["type"], data.get("max_diffs") or 0
    if kind not in RUN + NOT_RUN:
        raise ValueError(f"unknown type {kind!r}")
    if not isinstance(diffs, int) or diffs < 0:
        raise ValueError(f"max_diffs is {diffs!r}, not a number from 0 on")
    needed = {"present": ["text"], "absent": ["text"], "order": ["before", "after"], "table": ["cell"]}.get(
        kind, []
    )
    for name in needed:
        if not isinstance(data.get(name), str) or not normalise(data[name]).strip():
            raise ValueError(f"{kind} needs {name}, a text")
    if kind == "order" and diffs > min(len(normalise(data[name])) for name in needed) // 2:
        raise ValueError(f"max_diffs {diffs} is more than half of a text")
    document = str(PurePosixPath(data["pdf"]).with_suffix(""))
    return PageTest(file, data["id"], document, data["page"], kind, data)


def read_pages(folder: str | Path) -> tuple[dict[PageKey, list[str]], tuple[str, ...]]:
    """A tool's texts, `<document>_pg<page>_repeat<n>.md` as olmOCR-bench has them, and what was odd.

    Raises:
        UsageError: no such folder, or no such file in it.
    """
    folder = Path(folder)
    pages: dict[PageKey, list[str]] = {}
    problems: list[str] = []
    for path in sorted(folder.rglob("*.md")):
        named = PAGE_FILE.fullmatch(path.relative_to(folder).as_posix())
        if not named:
            problems.append(f"{path}: not named <document>_pg<page>_repeat<n>.md, not read")
            continue
        text, problem = read_text(path)
        problems += [problem] if problem else []
        pages.setdefault((named.group(1), int(named.group(2))), []).append(text)
    if not pages:
        raise UsageError(f"{folder}: holds no <document>_pg<page>_repeat<n>.md files")
    return pages, tuple(problems)


# ---------------------------------------------------------------------------------------------------------
# scoring


def score_pages(
    tests: TestSet, pages: Mapping[PageKey, str | Sequence[str]], problems: Sequence[str] = ()
) -> OlmocrReport:
    """Run all tests; of several texts of a page, more than half must pass. A page without text fails all.

    Raises:
        UsageError: there is no test to run.
    """
    outcomes = [
        _run_on_page(test, pages.get((test.document, test.page))) for test in with_baselines(tests.tests)
    ]
    if not outcomes:
        raise UsageError("there is no test to run")
    by_file, by_kind = (_group(outcomes, name) for name in ("file", "kind"))
    tested = dict.fromkeys((outcome.test.document, outcome.test.page) for outcome in outcomes)
    return OlmocrReport(
        score=fmean(fmean(passed) for passed in by_file.values()),
        interval=bootstrap_interval_by_group(list(by_file.values())),
        by_file={name: fmean(passed) for name, passed in by_file.items()},
        by_kind={name: fmean(passed) for name, passed in by_kind.items()},
        outcomes=tuple(outcomes),
        not_run=tests.not_run,
        missing=tuple(
            f"{document}, page {page}" for document, page in tested if (document, page) not in pages
        ),
        problems=(*tests.problems, *problems),
    )


def with_baselines(tests: Sequence[PageTest]) -> list[PageTest]:
    """The tests, and a baseline test of page 1 for every document that has none."""
    documents = dict.fromkeys(test.document for test in tests)
    have = {test.document for test in tests if test.kind == "baseline"}
    added = [
        PageTest(BASELINE_FILE, f"{name}_baseline", name, 1, "baseline")
        for name in documents
        if name not in have
    ]
    return [*tests, *added]


def _group(outcomes: Sequence[Outcome], name: str) -> dict[str, list[float]]:
    groups: dict[str, list[float]] = {}
    for outcome in outcomes:
        groups.setdefault(getattr(outcome.test, name), []).append(float(outcome.passed))
    return groups


def _run_on_page(test: PageTest, texts: str | Sequence[str] | None) -> Outcome:
    if texts is None:
        return Outcome(test, False, "no text for this page")
    results = [run_test(test, text) for text in ([texts] if isinstance(texts, str) else texts)]
    passed = sum(reason == "" for reason in results) > len(results) / 2
    return Outcome(test, passed, "" if passed else next(reason for reason in results if reason))


def run_test(test: PageTest, text: str) -> str:
    """Why a text fails a test; empty when it passes."""
    runner = {
        "present": _presence,
        "absent": _presence,
        "order": _order,
        "table": _table,
        "baseline": _baseline,
    }
    return runner[test.kind](test, text)


def normalise(text: str) -> str:
    """Without markdown emphasis and line breaks, white space collapsed, NFC, plain quotes and dashes."""
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
    # The ratio is symmetric: without this, any short text would be "found" inside the wanted one.
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
    """Where `needle` begins in `text` with at most `max_errors` edits; of neighbouring places the best."""
    if max_errors == 0:
        return [match.start() for match in re.finditer(f"(?={re.escape(needle)})", text)]
    # Errors of stretches by their end, read backwards, are errors by their beginning.
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
    grids = read_tables(text)
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
    """The first named neighbour or heading of a cell that is not there; empty when all are."""
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
    """How often the last `size` characters stand at the end, white space collapsed."""
    text = re.sub(r"\s+", " ", text)
    copies = 0
    while (copies + 1) * size <= len(text) and text.endswith(text[-size:], 0, len(text) - copies * size):
        copies += 1
    return copies
