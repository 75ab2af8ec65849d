r"""olmOCR-bench style tests: small facts that a page's text must or must not contain, one JSON object a line.

    {"pdf": "a.pdf", "page": 1, "id": "a_1", "type": "present", "text": "Total: 4.50", "max_diffs": 1}
    {"pdf": "a.pdf", "page": 1, "id": "a_2", "type": "order", "before": "Chapter 1", "after": "Chapter 2"}
    {"pdf": "a.pdf", "page": 1, "id": "a_3", "type": "table", "cell": "4.50", "left": "Total"}

The rules are those of allenai/olmocr (`olmocr/bench/tests.py`). Types are present, absent, order, table, and
baseline (not empty, no loop at the end, no foreign script), which every document gets. Tests of other types
(math needs a browser) are counted as not run. The score is the mean over files of the share of passed tests.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from statistics import fmean
from typing import Any

from nanoocr.errors import UsageError
from nanoocr.eval.metrics import bootstrap_interval_by_group
from nanoocr.eval.olmocr.checks import HEADINGS, SIDES, PageTest, normalise, run_test
from nanoocr.files import parse_json, read_text
from nanoocr.folders import files_below

RUN = ("present", "absent", "order", "table", "baseline")
NOT_RUN = ("math", "format", "footnote")
REQUIRED = {"present": ["text"], "absent": ["text"], "order": ["before", "after"], "table": ["cell"]}
COMMON = ("pdf", "page", "id", "type", "checked", "url", "max_diffs")
# Fields that each type may have beside COMMON, in olmOCR-bench of commit f7cfe4c.
FIELDS = {
    "present": ("text", "case_sensitive", "first_n", "last_n"),
    "absent": ("text", "case_sensitive", "first_n", "last_n"),
    "order": ("before", "after"),
    "table": ("cell", *SIDES, *HEADINGS, "ignore_markdown_tables"),
    "baseline": (
        "max_length", "max_length_skips_image_alt_tags", "max_repeats", "check_disallowed_characters",
    ),
}  # fmt: skip
NUMBERS = ("first_n", "last_n", "max_length", "max_repeats")
FLAGS = (
    "case_sensitive", "ignore_markdown_tables", "max_length_skips_image_alt_tags",
    "check_disallowed_characters",
)  # fmt: skip
BASELINE_FILE = "baseline"  # Baseline tests that no file contains count together, as one more file.
PAGE_FILE = re.compile(r"(.+)_pg(\d+)(?:_repeat\d+)?\.md")

PageKey = tuple[str, int]  # (a document's path without suffix, the page counted from 1)


@dataclass(frozen=True)
class TestSet:
    """Tests that can run, the number of tests of other types, and the faults of other lines."""

    __test__ = False  # tells pytest that this is no test class

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
    """The score with its 95 % bootstrap interval, and the names of everything that was left out."""

    score: float  # mean over files of the share passed
    interval: tuple[float, float]
    by_file: dict[str, float]
    by_kind: dict[str, float]
    outcomes: tuple[Outcome, ...]
    not_run: dict[str, int]  # type -> number
    missing: tuple[str, ...]  # pages without a text, whose tests all fail
    unused: tuple[str, ...]  # texts of pages without a test
    problems: tuple[str, ...]  # malformed lines, duplicate ids, odd files

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


# ---------------------------------------------------------------------------------------------------------
# Reading


def read_tests(path: str | Path) -> TestSet:
    """Tests of a .jsonl file, or of all .jsonl files of a folder; blank lines are allowed.

    Raises:
        UsageError: there is no such file, or none in the folder.
    """
    path = Path(path)
    # The dot is that of files which archives of macOS put beside the real ones.
    files = sorted(one for one in path.glob("*.jsonl") if one.name[0] != ".") if path.is_dir() else [path]
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
    """Parse one line as a test.

    Raises:
        ValueError: it says what is wrong with the line (JSON's own error is a ValueError).
    """
    data = parse_json(line)
    if not isinstance(data, dict):
        raise ValueError("not a JSON object")
    # A table has all fields in all rows, with null where a test leaves one to its default.
    data = {name: value for name, value in data.items() if value is not None}
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
    for name in REQUIRED.get(kind, ()):
        if not isinstance(data.get(name), str) or not normalise(data[name]).strip():
            raise ValueError(f"{kind} needs {name}, a text")
    kinds = ((NUMBERS, int, "a number"), (FLAGS, bool, "true or false"), (SIDES | HEADINGS, str, "a text"))
    for names, wanted, what in kinds:
        if wrong := [name for name in names if name in data and not isinstance(data[name], wanted)]:
            raise ValueError(f"{wrong[0]} is {data[wrong[0]]!r}, not {what}")
    if unknown := [name for name in data if kind in RUN and name not in (*COMMON, *FIELDS[kind])]:
        raise ValueError(f"unknown field {unknown[0]!r} of a test of type {kind}")
    if kind == "order" and diffs > min(len(normalise(data[name])) for name in REQUIRED[kind]) // 2:
        raise ValueError(f"max_diffs {diffs} is more than half of a text")
    document = str(PurePosixPath(data["pdf"]).with_suffix(""))
    return PageTest(file, data["id"], document, data["page"], kind, data)


def read_pages(folder: str | Path) -> tuple[dict[PageKey, list[str]], tuple[str, ...]]:
    """A tool's texts, `<document>_pg<page>_repeat<n>.md` as in olmOCR-bench, and a list of odd files.

    Raises:
        UsageError: no such folder, or no such file in it.
    """
    folder = Path(folder)
    pages: dict[PageKey, list[str]] = {}
    problems: list[str] = []
    for path in sorted(one for one in files_below(folder)[0] if one.suffix == ".md"):
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
# Scoring


def score_pages(
    tests: TestSet, pages: Mapping[PageKey, str | Sequence[str]], problems: Sequence[str] = ()
) -> OlmocrReport:
    """Run all tests. If a page has several texts, more than half must pass; without a text all tests fail.

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
    missing, unused = (
        [key for key in keys if key not in others] for keys, others in ((tested, pages), (pages, tested))
    )
    return OlmocrReport(
        score=fmean(fmean(passed) for passed in by_file.values()),
        interval=bootstrap_interval_by_group(list(by_file.values())),
        by_file={name: fmean(passed) for name, passed in by_file.items()},
        by_kind={name: fmean(passed) for name, passed in by_kind.items()},
        outcomes=tuple(outcomes),
        not_run=tests.not_run,
        missing=tuple(f"{document}, page {page}" for document, page in missing),
        unused=tuple(f"{document}, page {page}" for document, page in unused),
        problems=(*tests.problems, *problems),
    )


def with_baselines(tests: Sequence[PageTest]) -> list[PageTest]:
    """The tests, plus a baseline test of page 1 for every document without one."""
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
