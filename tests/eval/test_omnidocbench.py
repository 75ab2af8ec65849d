"""OmniDocBench: small pages worked out by hand, and the official results where the demo pages are."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest

from nanoocr.errors import UsageError
from nanoocr.eval.omnidocbench import (
    OmniPage,
    overall,
    read_omnidocbench,
    score_omnidocbench,
)
from tests.eval.omnidocbench_pages import TABLE, A, B, C, page, text

GOLDEN = Path(__file__).parents[3] / "shared" / "data" / "omnidocbench_golden"
VERSIONS = ("1.0", "1.5")


def score(pages, predictions, version="1.5", **more):
    """Metric -> page average."""
    pages = [pages] if isinstance(pages, OmniPage) else pages
    predictions = {"page": predictions} if isinstance(predictions, str) else predictions
    report = score_omnidocbench(pages, predictions, version=version, **more)
    return {name: average and average.page_average for name, average in report.scores.items()}


OFFICIAL = {
    "1.5": {
        "text_edit": 0.3513169474289845,
        "formula_edit": 0.3189450665779052,
        "table_edit": 0.20271906338695658,
        "order_edit": 0.16133705209047675,
    },
    "1.0": {
        "text_edit": 0.35612553465615604,
        "formula_edit": 0.4928989426720449,
        "table_edit": 0.20271906338695658,
        "order_edit": 0.21699615743733391,
    },
}


RESULT_NAMES = {
    "text_edit": "text_block",
    "formula_edit": "display_formula",
    "table_edit": "table",
    "order_edit": "reading_order",
}


@pytest.mark.real_data
@pytest.mark.skipif(not GOLDEN.is_dir(), reason="the official demo pages and results are not here")
@pytest.mark.parametrize("version", VERSIONS)
def test_official_results_are_reproduced(version):
    pages = read_omnidocbench(GOLDEN / "OmniDocBench_demo.json")
    report = score_omnidocbench(pages, GOLDEN / "pred_end2end", version=version)
    for metric, value in OFFICIAL[version].items():
        assert report.scores[metric].page_average == pytest.approx(value, abs=1e-9)
    teds, structure = report.scores["table_teds"], report.scores["table_teds_structure"]
    assert teds.whole == pytest.approx(0.7838125415599836, abs=1e-9)
    assert structure.whole == pytest.approx(0.9115886967813946, abs=1e-9)
    assert teds.page_average == pytest.approx(0.800119, abs=1e-6)
    assert structure.page_average == pytest.approx(0.914552, abs=1e-6)
    if version == "1.5":
        assert report.scores["text_edit"].whole == pytest.approx(0.4869491704533446, abs=1e-9)
        assert report.scores["text_edit"].sample_average == pytest.approx(0.5178705115512342, abs=1e-9)
    # Page by page and attribute by attribute, as the official files have them.
    results = GOLDEN / f"official_result_v{version.replace('.', '_')}"
    all_results = json.loads((results / "end2end_quick_match_metric_result.json").read_text("utf-8"))
    for metric, name in RESULT_NAMES.items():
        expected = json.loads((results / f"end2end_quick_match_{name}_per_page_edit.json").read_text("utf-8"))
        found = {f"{p.id}.jpg": p.mean(metric) for p in report.pages if p.mean(metric) is not None}
        assert found == pytest.approx(expected, abs=1e-9)
        groups = all_results[name]["page"]["Edit_dist"]
        by_attribute = {
            attribute: averages[metric].page_average
            for attribute, averages in report.by_attribute.items()
            if averages[metric] is not None
        }
        assert by_attribute == pytest.approx({k: v for k, v in groups.items() if k != "ALL"}, abs=1e-9)
    assert report.coverage.predicted == 18 and not report.coverage.missing


@pytest.mark.parametrize("version", VERSIONS)
def test_a_perfect_page(version):
    perfect = page(text(A, category_type="title"), text(B), {"category_type": "table", "html": TABLE})
    assert score(perfect, f"# {A}\n\n{B}.\n\n{TABLE}", version) == {
        "text_edit": 0,
        "formula_edit": None,  # there is none on the page
        "table_edit": 0,
        "order_edit": 0,
        "table_teds": 1,
        "table_teds_structure": 1,
    }


@pytest.mark.parametrize("version", VERSIONS)
def test_averages_over_pages_pieces_and_everything(version):
    pages = [page(text("abcdefghij"), text(A), name="one.jpg"), page(text("abcde"), name="two.jpg")]
    predictions = {"one": f"abcdefghiX\n\n{A}", "two": "abXXe"}
    report = score_omnidocbench(pages, predictions, version=version)
    average = report.scores["text_edit"]
    assert average.page_average == pytest.approx((1 / 27 + 2 / 5) / 2)
    assert average.whole == pytest.approx(3 / 32)
    assert average.sample_average == pytest.approx((0.1 + 0 + 0.4) / 3)
    assert (average.pages, average.samples) == (2, 3)


@pytest.mark.parametrize("version", VERSIONS)
def test_neighbours_are_merged_on_either_side(version):
    halves = f"{A}{B}{C}"[:25], f"{A}{B}{C}"[25:]
    assert (
        score(page(text(A + B + C), text("z" * 30)), "\n\n".join([*halves, "z" * 30]), version)["text_edit"]
        == 0
    )
    assert score(page(text(A), text(B), text(C)), f"{A}{B}\n\n{C}", version)["text_edit"] == 0


@pytest.mark.parametrize(("version", "expected"), [("1.0", 16 / (17 + 16)), ("1.5", 0)])
def test_text_beyond_the_truth_costs_only_in_v10(version, expected):
    assert score(page(text(A)), f"{A}\n\n{B}", version)["text_edit"] == pytest.approx(expected)


@pytest.mark.parametrize(("version", "expected"), [("1.0", 2 * 16 / (17 + 2 * 16)), ("1.5", 16 / (17 + 16))])
def test_a_lost_truth_counts_twice_in_v10(version, expected):
    # The official code of v1.0 appends it in two places; the golden numbers contain that.
    assert score(page(text(A), text(B)), A, version)["text_edit"] == pytest.approx(expected)


@pytest.mark.parametrize("version", VERSIONS)
def test_headers_take_their_text_away_and_do_not_count(version):
    with_header = page(text(A, category_type="header", order=None), text(B), text(C))
    assert score(with_header, f"{A}\n\n{B}\n\n{C}", version)["text_edit"] == 0
    assert score(with_header, f"{B}\n\n{C}", version)["text_edit"] == 0


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("output", "expected"),
    [((A, B, C), 0), ((B, A, C), 2 / 3), ((B, C, A), 2 / 3), ((C, B, A), 2 / 3)],
)
def test_reading_order(version, output, expected):
    # [1, 2, 3] against the order in which the truths are predicted, as lists: 2 edits of 3.
    truth = page(text(A), text(B), text(C))
    assert score(truth, "\n\n".join(output), version)["order_edit"] == pytest.approx(expected)


@pytest.mark.parametrize(("version", "expected"), [("1.0", 2 / 4), ("1.5", 1 / 3)])
def test_a_lost_truth_in_the_reading_order(version, expected):
    # [1, 2, 3] against [1, 3]; v1.0 has its lost truths twice here too: [1, 2, 2, 3].
    truth = page(text(A), text(B), text(C))
    assert score(truth, f"{A}\n\n{C}", version)["order_edit"] == pytest.approx(expected)


FORMULA = {"category_type": "equation_isolated", "latex": "$$\nE = mc^{2}\n$$"}


@pytest.mark.parametrize(
    ("version", "written", "expected"),
    [
        # In v1.0 the truth keeps its dollars and newlines, six of its fourteen characters.
        ("1.0", "$$E=mc^{2}$$", 6 / 14),
        ("1.0", r"\[ E = mc^{2} \]", 6 / 14),
        ("1.5", "$$E=mc^{2}$$", 0),
        ("1.5", r"\[ E = mc^{2} \]", 0),
        ("1.5", r"$ \mathbf E = m c^{2}$", 0),
        ("1.5", r"$$ \left(E\right) = mc^{2} \tag{1} $$", 2 / 10),
    ],
)
def test_formulas_in_all_notations(version, written, expected):
    scores = score(page(FORMULA, text(A)), f"{written}\n\n{A}", version)
    assert scores["formula_edit"] == pytest.approx(expected)
    assert scores["text_edit"] == 0


def test_a_formula_read_as_text_is_scored_as_text_in_v15():
    scores = score(page(FORMULA, text(A)), f"E=mc{{2}}\n\n{A}")
    assert scores["formula_edit"] is None
    # E = mc^2 as Unicode is "E=mc^2", its word characters "Emc2"; of 4 + 17 letters none is wrong.
    assert scores["text_edit"] == 0


def test_a_column_of_formulas_is_matched_line_by_line_in_v15():
    array = r"$$\begin{array}{l} a=b+c+d \\ e=f+g+h \end{array}$$"
    truth = page({"category_type": "equation_isolated", "latex": array})
    assert score(truth, "$$a=b+c+d$$\n\n$$e=f+g+h$$")["formula_edit"] == 0


@pytest.mark.parametrize("version", VERSIONS)
def test_tables(version):
    truth = page({"category_type": "table", "html": TABLE}, text(A))
    scores = score(truth, f"<table><tr><td>a</td><td>x</td></tr></table>\n\n{A}", version)
    assert scores["table_teds"] == pytest.approx(1 - 1 / 3)
    assert scores["table_teds_structure"] == 1
    length = (
        len('<html><body><table border="1" ></table></body></html>') + len(TABLE) - len("<table></table>")
    )
    assert scores["table_edit"] == pytest.approx(1 / length)
    assert score(truth, f"no table\n\n{A}", version)["table_teds"] == 0
    assert score(truth, f"| a | b |\n|---|---|\n\n{A}", version)["table_teds"] == 1


@pytest.mark.parametrize("version", VERSIONS)
def test_blocks_across_columns_are_joined(version):
    relation = [{"source_anno_id": 1, "target_anno_id": 2, "relation_type": "truncated"}]
    assert (
        score(page(text(A), text(B), text(C), relation=relation), f"{A}{B}\n\n{C}", version)["text_edit"] == 0
    )
    # The official code joins the middle of a chain of three twice.
    relation += [{"source_anno_id": 2, "target_anno_id": 3, "relation_type": "truncated"}]
    chain = page(text(A), text(B), text(C), relation=relation)
    assert score(chain, f"{A}{B}{B}{C}", version)["text_edit"] == 0
    assert score(chain, f"{A}{B}{C}", version)["text_edit"] == pytest.approx(16 / 69)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_page_without_prediction_is_wrong_or_skipped(version):
    pages = [
        page(text(A), FORMULA, {"category_type": "table", "html": TABLE}, name="one.jpg"),
        page(text(B), FORMULA, {"category_type": "table", "html": TABLE}, name="two.jpg"),
    ]
    perfect = {"one": f"{A}\n\n$${FORMULA['latex'].strip('$')}$$\n\n{TABLE}"}
    skipped = score_omnidocbench(pages, perfect, version=version, missing="skip")
    wrong = score_omnidocbench(pages, perfect, version=version)
    assert skipped.coverage.missing == wrong.coverage.missing == ("two",)
    assert (wrong.coverage.pages, wrong.coverage.predicted) == (2, 1)
    for metric in ("text_edit", "table_edit", "order_edit"):
        assert skipped.scores[metric].page_average == 0
        assert wrong.scores[metric].page_average == 0.5
    assert wrong.scores["table_teds"].page_average == 0.5
    assert [p.predicted for p in wrong.pages] == [True, False]
    assert wrong.coverage.broken_tables == ()  # an absent table is wrong, not broken


def test_empty_duplicate_and_unused_names():
    pages = [page(text(A)), page(text(A)), page(text(B), name="other.jpg")]
    coverage = score_omnidocbench(pages, {"page": " \n", "stray": "x", "other": B}).coverage
    assert (coverage.pages, coverage.predicted) == (2, 2)
    assert coverage.empty == ("page",)
    assert coverage.duplicates == ("page",)
    assert coverage.unused == ("stray",)


def test_broken_and_latex_tables_are_named():
    truth = page({"category_type": "table", "html": TABLE}, text(A))
    report = score_omnidocbench([truth], {"page": f'<table><tr><td colspan="x">a</td></tr></table>\n\n{A}'})
    assert report.scores["table_teds"].whole == 0
    assert report.coverage.broken_tables == ("page, table 0: a span is no number: ['x', '1']",)
    latex = score_omnidocbench([truth], {"page": f"\\begin{{tabular}}{{ll}}a & b\\end{{tabular}}\n\n{A}"})
    assert latex.coverage.latex_tables == ("page",)
    assert (latex.scores["table_teds"].whole, latex.scores["table_edit"].whole) == (0, 1)


def test_predictions_from_a_folder(tmp_path):
    (tmp_path / "one.jpg.md").write_text(A)  # named as some tools do
    (tmp_path / "two.md").write_bytes(B.encode() + b" caf\xe9")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "two.md").write_text("again")
    pages = [page(text(A), name="one.jpg"), page(text(B), name="two.jpg")]
    report = score_omnidocbench(pages, tmp_path)
    assert report.coverage.predicted == 2 and not report.coverage.unused
    problems = " ".join(report.coverage.problems)
    assert "a second file of this name" in problems and "not UTF-8" in problems
    with pytest.raises(UsageError, match="no such folder"):
        score_omnidocbench(pages, tmp_path / "none")


def test_overall_is_the_mean_of_four_edits_in_v10_and_not_computed_in_v15():
    truth = page(text(A), FORMULA, {"category_type": "table", "html": TABLE}, language="english")
    report = score_omnidocbench([truth], {"page": A}, version="1.0")
    parts = [
        report.scores[name].page_average for name in ("text_edit", "formula_edit", "table_edit", "order_edit")
    ]
    assert parts == [0, 1, 1, 0]
    assert report.overall == 0.5
    assert overall(report.by_attribute["language: english"]) == 0.5
    without_formula = score_omnidocbench([page(text(A))], {"page": A}, version="1.0")
    assert without_formula.overall is None
    v15 = score_omnidocbench([truth], {"page": A})
    assert v15.overall is None
    assert "CDM" in v15.not_computed and any("overall" in name for name in v15.not_computed)
    assert json.loads(json.dumps(v15.to_dict()))["overall"] is None


def test_attributes_group_pages():
    pages = [
        page(text(A), name="one.jpg", language="english", special_issue=["fuzzy_scan", "table_span"]),
        page(text(B), name="two.jpg", language="simplified_chinese"),
    ]
    report = score_omnidocbench(pages, {"one": A, "two": ""})
    assert report.by_attribute["language: english"]["text_edit"].page_average == 0
    assert report.by_attribute["language: simplified_chinese"]["text_edit"].page_average == 1
    assert set(report.by_attribute) == {"language: english", "language: simplified_chinese", "fuzzy_scan"}


def test_wrong_version_and_missing_libraries(monkeypatch):
    with pytest.raises(UsageError, match=r"'2\.0'"):
        score_omnidocbench([], {}, version="2.0")
    for module, output in (
        ("scipy.optimize", f"{B}\n\n{A}"),
        ("pylatexenc.latex2text", "$x_1$ a"),
        ("bs4", TABLE),
    ):
        with monkeypatch.context() as patched:
            patched.setitem(sys.modules, module, None)
            with pytest.raises(UsageError, match=r"nano-deepseek-ocr\[eval\]"):
                score(page(text(A), text(B), {"category_type": "table", "html": TABLE}), output)


def test_odd_annotations_do_not_stop_anything():
    odd = page(
        {"category_type": "figure"},
        {"category_type": "text_block", "order": None},
        {"category_type": "table"},
    )
    assert score(odd, A) == dict.fromkeys(score(odd, A), None)
    assert score(page(), A)["text_edit"] is None
    relation = [{"source_anno_id": 1, "target_anno_id": 99, "relation_type": "truncated"}]
    assert score(page(text(A, order=None), relation=relation), A)["text_edit"] == 0


FLOODS = [
    "a",
    "and so on ",
    "word\n\n",
    "x\n",
    "文字",
    "$x",
    "$x_1$ ",
    r"\[",
    r"\(",
    r"$\frac{",
    r"\text{",
    "![",
    "|",
]


FLOODS += [
    "<!--",
    "<table>",
    "<table><table></table>",
    "<table><tr><td>a</td></tr></table>",
    r"\begin{tabular}",
]


@pytest.mark.parametrize("unit", FLOODS)
def test_long_repetitions_end_soon(unit):
    truth = page(text(f"one {A} {B}" * 5), text(C), FORMULA, {"category_type": "table", "html": TABLE})
    started = time.process_time()
    report = score_omnidocbench([truth], {"page": unit * (100_000 // len(unit))})
    assert time.process_time() - started < 10
    assert report.scores["text_edit"].page_average > 0.5
