"""Tasks that read whole pages and tables, ask questions with lists of answers, and olmOCR-bench."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from nanoocr.errors import UsageError
from nanoocr.eval.benchmarks import load_olmocr_bench, olmocr_score, olmocr_scores
from nanoocr.eval.catalogue import Selection, find_benchmark
from nanoocr.eval.page_benchmarks import fox_drops, load_fox_pages
from nanoocr.eval.question_sets import docvqa_scores, load_questions, textvqa_scores

FOX = Path(__file__).resolve().parents[3] / "shared" / "data"
# Differences of the precisions that arXiv 2601.03714's answers give on a quarter of Fox's English pages.
PUBLISHED_DROPS = {"deepseek_ocr_100": (0.542, 0.371), "paddleocr": (0.028, 0.030)}


def write_fox(folder: Path) -> Path:
    """Two pages in three settings."""
    rows = []
    for kind in ("original", "rendered", "random"):
        (folder / "fox_pages" / kind).mkdir(parents=True)
        for number in (1, 5):
            name = f"{kind}/{number}"
            Image.new("RGB", (64, 64), "white").save(folder / "fox_pages" / f"{name}.png")
            (folder / "fox_pages" / f"{name}.txt").write_text(f"one two three {number}")
            rows.append({"kind": kind, "id": number, "image": f"{name}.png", "text": f"{name}.txt"})
    (folder / "fox_pages" / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def test_fox_pages_are_named_by_kind_and_number(tmp_path):
    found = load_fox_pages(write_fox(tmp_path), kinds=("rendered", "random"))
    assert [sample.id for sample in found.samples] == ["rendered/1", "rendered/5", "random/1", "random/5"]
    assert {sample.groups for sample in found.samples} == {("rendered",), ("random",)}
    with pytest.raises(UsageError, match="choose among original, rendered, random"):
        load_fox_pages(tmp_path, kinds=("printed",))


def test_the_drop_is_the_difference_of_mean_precisions(tmp_path):
    samples = load_fox_pages(write_fox(tmp_path)).samples
    texts = {sample.id: sample.truth for sample in samples}
    texts["random/1"] = "one two THREE nine"  # two of four words are right, three without case
    drops = fox_drops(samples, texts)
    assert drops == {
        "drop_set_precision": pytest.approx(0.25),
        "drop_set_precision_free": pytest.approx(0.125),
    }
    assert fox_drops(samples[:2], texts) == {}  # of one kind alone there is no drop


@pytest.mark.real_data
@pytest.mark.skipif(not (FOX / "fox_pages").is_dir(), reason="Fox's pages are not here")
@pytest.mark.parametrize("system", PUBLISHED_DROPS)
def test_published_answers_give_the_published_drops(system):
    samples = load_fox_pages(FOX, kinds=("rendered", "random")).samples
    answers = FOX / "fox_pages" / "answers" / system
    texts = {sample.id: (answers / f"{sample.id}.txt").read_text() for sample in samples}
    assert tuple(fox_drops(samples, texts).values()) == pytest.approx(PUBLISHED_DROPS[system], abs=5e-4)


@pytest.mark.parametrize("name", ["fox_pages", "sroie", "funsd", "tables", "docvqa", "olmocr_bench"])
def test_a_task_without_data_asks_for_it(name):
    with pytest.raises(UsageError, match="--data"):
        find_benchmark(name).load(Selection())


def test_tables_have_their_truth_in_html(tmp_path):
    pytest.importorskip("apted")
    Image.new("RGB", (64, 64), "white").save(tmp_path / "a.png")
    html = "<table><tr><td>1</td><td>2</td></tr></table>"
    (tmp_path / "a.html").write_text(html)
    task = find_benchmark("tables")
    (sample,) = task.load(Selection(str(tmp_path))).samples
    assert task.score(sample, html) == {"teds": 1.0, "teds_structure": 1.0}
    other = task.score(sample, "<table><tr><td>1</td><td>3</td></tr></table>")
    assert other["teds_structure"] == 1.0
    assert 0 < other["teds"] < 1
    assert task.score(sample, "1 2") == {"teds": 0.0, "teds_structure": 0.0}


# ---------------------------------------------------------------------------------------------------
# Questions


def write_questions(folder: Path, rows: list) -> Path:
    (folder / "documents").mkdir()
    Image.new("RGB", (64, 64), "white").save(folder / "documents" / "a.png")
    (folder / "val.json").write_text(json.dumps({"data": rows}))
    return folder


def test_docvqa_counts_the_best_of_all_answers(tmp_path):
    row = {"questionId": 7, "question": "Who?", "image": "documents/a.png", "answers": ["Ann Lee", "A. Lee"]}
    (sample,) = load_questions(write_questions(tmp_path, [row])).samples
    assert (sample.id, sample.prompt, sample.truth) == ("7", "Who?", "Ann Lee")
    assert docvqa_scores(sample, "a. lee") == {"anls": 1.0}
    assert docvqa_scores(sample, "nobody") == {"anls": 0.0}


def test_textvqa_counts_how_many_of_ten_agree(tmp_path):
    row = {"question_id": 3, "question": "What?", "image_id": "a", "answers": ["stop"] * 2 + ["go"] * 8}
    (sample,) = load_questions(write_questions(tmp_path, [row])).samples
    assert sample.truth == "go"
    assert textvqa_scores(sample, "Go!")["vqa_accuracy"] == 1.0
    # Of two who agree one is left out in two of ten cases: (8 * 2/3 + 2 * 1/3) / 10.
    assert textvqa_scores(sample, "stop")["vqa_accuracy"] == pytest.approx(0.6)


def test_odd_questions_are_left_out_by_name(tmp_path):
    good = {"question": "Who?", "image": "documents/a.png", "answers": ["x"]}
    rows = [good, {**good, "answers": "x"}, {**good, "question": None}, {**good, "image": "b.png"}, 5]
    found = load_questions(write_questions(tmp_path, rows))
    assert len(found.samples) == 1
    assert [text.partition(": ")[0] for text in found.left_out] == [
        f"val.json, question {number}" for number in (2, 3, 4, 5)
    ]


@pytest.mark.parametrize("content", ["[]", "{}", '{"data": {}}', "no JSON"])
def test_a_file_that_is_no_list_of_questions_is_refused(tmp_path, content):
    (tmp_path / "val.json").write_text(content)
    with pytest.raises(UsageError, match='"data"'):
        load_questions(tmp_path)


# ---------------------------------------------------------------------------------------------------
# olmOCR-bench


def write_bench(folder: Path) -> Path:
    (folder / "pdfs").mkdir()
    pages = [Image.new("RGB", (64, 80), shade) for shade in ("white", "grey")]
    pages[0].save(folder / "pdfs" / "a.pdf", save_all=True, append_images=pages[1:])
    rows = [
        {"pdf": "a.pdf", "page": 1, "id": "a1", "type": "present", "text": "first page"},
        {"pdf": "a.pdf", "page": 2, "id": "a2", "type": "absent", "text": "first page"},
        {"pdf": "a.pdf", "page": 2, "id": "a3", "type": "math", "math": "x"},
        {"pdf": "b.pdf", "page": 1, "id": "b1", "type": "present", "text": "elsewhere"},
    ]
    (folder / "tests.jsonl").write_text("\n\n".join(map(json.dumps, rows)))
    return folder


def test_olmocr_bench_reads_the_page_that_a_test_is_about(tmp_path):
    found = load_olmocr_bench(write_bench(tmp_path))
    first, second = found.samples
    assert (first.id, second.id) == ("a_pg1", "a_pg2")
    assert first.open().getpixel((9, 9)) == (255, 255, 255)
    assert second.open().getpixel((9, 9)) == (128, 128, 128)
    assert first.digest() != second.digest()
    assert "b.pdf: missing, with 2 tests" in found.left_out
    assert "1 tests of type math cannot be run here" in found.left_out


def test_olmocr_scores_are_shares_of_tests_passed(tmp_path):
    first, second = load_olmocr_bench(write_bench(tmp_path)).samples
    assert olmocr_scores(first, "the first page\n") == {"tests_passed": 1.0}  # present, and the baseline
    assert olmocr_scores(second, "the first page") == {"tests_passed": 0.0}
    texts = {first.id: "the first page", second.id: "the first page"}
    score = olmocr_score((first, second), texts)
    # tests.jsonl has one of two right, and the baseline of the document counts as a file of its own.
    assert score["olmocr_bench"] == pytest.approx((0.5 + 1.0) / 2)
    assert score["passed_absent"] == 0.0
