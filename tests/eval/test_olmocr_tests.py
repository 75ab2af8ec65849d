"""olmOCR-style tests on small pages, bad lines by name, and the sample of the real benchmark where it is."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rapidfuzz.distance import Levenshtein

from nanoocr.errors import UsageError
from nanoocr.eval.olmocr.checks import (
    PageTest,
    errors_by_end,
    normalise,
    occurrences,
    run_test,
    trailing_copies,
)
from nanoocr.eval.olmocr.tests import TestSet, read_pages, read_tests, score_pages

SAMPLE = Path(__file__).parents[3] / "shared" / "data" / "olmocr_bench_sample"


def make(kind: str, **fields: object) -> PageTest:
    return PageTest("file.jsonl", f"{kind}_1", "doc", 1, kind, fields)


def passes(test: PageTest, text: str) -> bool:
    return run_test(test, text) == ""


def test_present_and_absent():
    for kind, expected in (("present", True), ("absent", False)):
        assert passes(make(kind, text="Total: 4.50"), "x\n**Total:**  4.50 y") == expected
        assert passes(make(kind, text="Total: 4.50"), "x total: 4.50 y") != expected
        assert passes(make(kind, text="Total: 4.50", case_sensitive=False), "x total: 4.50 y") == expected
        assert passes(make(kind, text="Total: 4.50", max_diffs=1), "x Total: 4.60 y") == expected
        assert passes(make(kind, text="Total: 4.50", first_n=5), "12345 Total: 4.50") != expected
        assert passes(make(kind, text="Total: 4.50", last_n=11), "12345 Total: 4.50") == expected
        assert passes(make(kind, text="a long phrase"), " ") != expected  # a blank is no part of a phrase


def test_normalisation():
    assert normalise("“a” – b<br>c\n\n**d** _e_ ‘µ’") == "\"a\" - b c d e 'μ'"
    assert normalise("e\u0301") == "é"


def test_order():
    test = make("order", before="Chapter 1", after="Chapter 2")
    assert passes(test, "Chapter 1 ... Chapter 2")
    assert not passes(test, "Chapter 2 ... Chapter 1")
    assert passes(test, "Chapter 2, Chapter 1, Chapter 2")  # any place of one before any of the other
    assert "after is not found" in run_test(test, "Chapter 1")
    fuzzy = make("order", before="First chapter", after="Last chapter", max_diffs=2)
    assert passes(fuzzy, "Fist chapter and the Lost chapter")
    assert not passes(fuzzy, "Lost chapter and the Fist chapter")


@given(st.text("abc", min_size=1, max_size=6), st.text("abc", max_size=14))
def test_errors_by_end_are_the_fewest_edits(needle, text):
    for end, errors in enumerate(errors_by_end(needle, text), start=1):
        assert errors == min(Levenshtein.distance(needle, text[start:end]) for start in range(end + 1))


def test_occurrences_begin_where_they_begin():
    text = "xx hello world xx helo world"
    assert occurrences("hello world", text, 0) == [3]
    assert occurrences("hello world", text, 1) == [3, 18]
    assert occurrences("absent", text, 1) == []
    assert occurrences("aa", "aaaa", 0) == [0, 1, 2]


def test_table():
    page = "| Fruit | Cost |\n|---|---|\n| Apples | 1.00 |\n| Pears | 2.00 |"
    assert passes(make("table", cell="1.00", left="Apples", up="Cost", down="2.00"), page)
    assert passes(make("table", cell="2.00", top_heading="Cost", left_heading="Pears"), page)
    assert not passes(make("table", cell="2.00", top_heading="Fruit"), page)
    assert not passes(make("table", cell="3.00"), page)
    assert passes(make("table", cell="Aples", max_diffs=1, right="1.00"), page)
    assert run_test(make("table", cell="1.00"), "no table") == "there is no table"
    html = "<table><tr><th>Cost</th></tr><tr><td>1.00</td></tr></table>"
    assert passes(make("table", cell="1.00", top_heading="Cost"), html)


def test_baseline():
    assert passes(make("baseline"), "some text")
    assert not passes(make("baseline"), " .,- ")
    assert not passes(make("baseline"), "some text 文字")
    assert passes(make("baseline", check_disallowed_characters=False), "some text 文字")
    assert not passes(make("baseline"), "end " + "ab" * 31)
    assert passes(make("baseline"), "end " + "ab" * 30)
    assert passes(make("baseline", max_length=5), "12 3")
    assert not passes(make("baseline", max_length=5), "much too much")
    assert passes(
        make("baseline", max_length=5, max_length_skips_image_alt_tags=True), "![a long text](x.png)"
    )


@pytest.mark.parametrize(
    ("text", "size", "copies"),
    [("abab", 2, 2), ("abab", 1, 1), ("aabaabaa", 3, 2), ("a" * 9, 2, 4), ("", 1, 0)],
)
def test_trailing_copies(text, size, copies):
    assert trailing_copies(text, size) == copies


GOOD = {"pdf": "a.pdf", "page": 1, "id": "one", "type": "present", "text": "alpha"}


def write_tests(folder: Path, lines: list[object], name: str = "tests.jsonl") -> Path:
    file = folder / name
    file.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines), "utf-8")
    return file


def test_bad_lines_are_named_and_the_others_run(tmp_path):
    file = write_tests(
        tmp_path,
        [
            GOOD,
            "",
            "   ",
            "{not json",
            "[1, 2]",
            {**GOOD, "id": "one"},
            {**GOOD, "id": "two", "type": "smell"},
            {**GOOD, "id": "three", "text": " "},
            {**GOOD, "id": "four", "page": "1"},
            {**GOOD, "id": "five", "max_diffs": -1},
            {**GOOD, "id": "six", "type": "order", "before": "ab", "after": "abc", "max_diffs": 2},
            {**GOOD, "id": "seven", "first_n": "3"},
            {**GOOD, "id": "eight", "type": "table", "cell": "a", "left": 3},
            {"page": 1, "type": "present"},
            {**GOOD, "id": "seven", "type": "math", "math": "x"},
            {**GOOD, "id": "eight", "type": "math", "math": "y"},
        ],
    )
    tests = read_tests(file)
    assert [test.id for test in tests.tests] == ["one"]
    assert tests.not_run == {"math": 2}
    lines = [int(problem.split("line ")[1].split(":")[0]) for problem in tests.problems]
    assert lines == list(range(4, 15))
    assert "unknown type 'smell'" in tests.problems[3]
    assert "needs pdf, id" in tests.problems[-1]


def test_files_of_other_encodings_are_read_and_named(tmp_path):
    file = tmp_path / "tests.jsonl"
    file.write_bytes(json.dumps({**GOOD, "text": "café"}, ensure_ascii=False).encode("latin-1"))
    tests = read_tests(file)
    assert len(tests.tests) == 1 and "not UTF-8" in tests.problems[0]
    file.write_text(json.dumps(GOOD), "utf-16")
    assert read_tests(file).tests[0].fields["text"] == "alpha"


def test_score_is_the_mean_over_files(tmp_path):
    write_tests(tmp_path, [GOOD, {**GOOD, "id": "two", "text": "omega"}], "a.jsonl")
    write_tests(tmp_path, [{**GOOD, "id": "three", "pdf": "sub/b.pdf", "type": "absent"}], "b.jsonl")
    pages = tmp_path / "tool"
    (pages / "sub").mkdir(parents=True)
    (pages / "a_pg1_repeat1.md").write_text("alpha beta")
    (pages / "sub" / "b_pg1_repeat1.md").write_text("beta")
    (pages / "readme.md").write_text("not a page")
    texts, problems = read_pages(pages)
    report = score_pages(read_tests(tmp_path), texts, problems)
    # a.jsonl: one of two; b.jsonl: one of one; the baselines of both documents pass.
    assert report.by_file == {"a.jsonl": 0.5, "b.jsonl": 1.0, "baseline": 1.0}
    assert report.score == pytest.approx(2.5 / 3)
    assert report.by_kind == {"present": 0.5, "absent": 1.0, "baseline": 1.0}
    low, high = report.interval
    assert low == pytest.approx(2 / 3) and high == 1.0  # a.jsonl alone varies, between 0 and 1
    assert len(report.problems) == 1 and "readme.md" in report.problems[0]
    json.dumps(report.to_dict())


def test_a_page_without_text_fails_even_absent_tests():
    absent = make("absent", text="alpha")
    report = score_pages(TestSet((absent,), {}, ()), {("doc", 2): "alpha"})
    assert report.score == 0
    assert report.missing == ("doc, page 1",) and report.unused == ("doc, page 2",)


def test_of_several_texts_most_must_pass():
    present = make("present", text="alpha")
    for texts, passed in ((["alpha", "x"], False), (["alpha", "x", "alpha"], True)):
        assert score_pages(TestSet((present,), {}, ()), {("doc", 1): texts}).outcomes[0].passed == passed


def test_missing_files_are_usage_errors(tmp_path):
    with pytest.raises(UsageError, match=r"no such \.jsonl"):
        read_tests(tmp_path / "none.jsonl")
    with pytest.raises(UsageError, match="_pg<page>"):
        read_pages(tmp_path)
    with pytest.raises(UsageError, match="no test to run"):
        score_pages(TestSet((), {}, ()), {})


@pytest.mark.parametrize(
    "unit", ["a", "alpha beta ", "| 1.00 | 2.00 |\n", "<table><tr><td>1.00</td></tr>", "**", "_ "]
)
def test_long_repetitions_end_soon(unit):
    text = unit * (100_000 // len(unit))
    started = time.process_time()
    run_test(make("present", text="the quick brown fox jumps over the lazy dog " * 3), text)
    run_test(make("order", before="alpha beta gamma", after="gamma beta alpha", max_diffs=3), text)
    run_test(make("table", cell="1.00", top_heading="Cost"), text)
    run_test(make("baseline"), text)
    assert time.process_time() - started < 20


@pytest.mark.parametrize(
    ("kind", "fields", "text", "passed"),
    [
        ("baseline", {"max_repeats": None, "max_length": None}, "end " + "ab" * 31, False),
        ("baseline", {"check_disallowed_characters": None}, "text 中", False),
        (
            "present",
            {"text": "Total", "case_sensitive": None, "max_diffs": None, "first_n": None},
            "total",
            False,
        ),
        ("present", {"text": "Total", "case_sensitive": False, "cell": None}, "total", True),
        ("table", {"cell": "1", "up": None, "ignore_markdown_tables": None}, "| A |\n|---|\n| 1 |", True),
    ],
)
def test_a_null_leaves_a_field_to_its_default(tmp_path, kind, fields, text, passed):
    tests = read_tests(
        write_tests(tmp_path, [{"pdf": "a.pdf", "page": 1, "id": "x", "type": kind, **fields}])
    )
    assert not tests.problems and passes(tests.tests[0], text) == passed


@pytest.mark.parametrize("value", ["false", 0, []])
def test_a_flag_that_is_neither_true_nor_false_is_named(tmp_path, value):
    tests = read_tests(write_tests(tmp_path, [{**GOOD, "case_sensitive": value}]))
    assert not tests.tests and "case_sensitive is" in tests.problems[0]
    assert "not true or false" in tests.problems[0]


@pytest.mark.real_data
@pytest.mark.skipif(not SAMPLE.is_dir(), reason="the sample of olmOCR-bench is not here")
def test_real_sample():
    tests = read_tests(SAMPLE)
    assert len(tests.tests) == 88 and tests.not_run == {"math": 12} and not tests.problems
    pages, problems = read_pages(SAMPLE / "olmocr_pipeline")
    report = score_pages(tests, pages, problems)
    assert not report.missing and not report.problems
    assert 0.9 < report.score < 0.97  # the outputs of a good tool, with the mistakes it makes
    assert report.by_kind["present"] == pytest.approx(0.8)


def test_a_test_may_ignore_markdown_tables_and_an_unknown_field_is_named(tmp_path):
    row = {"pdf": "a.pdf", "page": 1, "id": "x", "type": "table", "cell": "4.50", "left": "Total"}
    rows = [{**row, "ignore_markdown_tables": True}, {**row, "id": "y", "ignore_case": True}]
    (tmp_path / "tests.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = read_tests(tmp_path)
    assert [test.id for test in found.tests] == ["x"]
    assert "unknown field 'ignore_case' of a test of type table" in found.problems[0]
    pipes, tags = (
        "| A | B |\n|---|---|\n| Total | 4.50 |",
        "<table><tr><td>Total</td><td>4.50</td></tr></table>",
    )
    assert run_test(found.tests[0], pipes) == "there is no table"
    assert run_test(found.tests[0], tags) == ""
