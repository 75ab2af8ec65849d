"""Fox and OmniDocBench through the same door as every other set, and scores without markup."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from nanoocr.commandline import run
from nanoocr.eval.catalogue import BENCHMARKS, Selection, without_markup
from nanoocr.eval.evaluate import VisionEvalConfig, evaluate
from scripts import vision_eval

GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "data" / "omnidocbench_golden"


@pytest.fixture
def fox(tmp_path):
    """An archive with two English pages and one box."""
    (tmp_path / "en_pdf_png").mkdir()
    for i in (1, 2):
        Image.new("RGB", (40, 60), (i, 0, 0)).save(tmp_path / "en_pdf_png" / f"en_{i}.png")

    def entry(number: int, question: str, answer: str) -> dict:
        turns = [{"from": "human", "value": f"<image>\n{question}"}, {"from": "gpt", "value": answer}]
        return {"image": f"en_{number}.png", "conversations": turns}

    pages = [entry(1, "OCR this.", "a b c d"), entry(2, "OCR this.", "e f")]
    (tmp_path / "en_page_ocr.json").write_text(json.dumps(pages))
    (tmp_path / "cn_page_ocr.json").write_text("[]")
    (tmp_path / "en_box_ocr.json").write_text(json.dumps([entry(1, "The box?", "a b")]))
    return tmp_path


def test_fox_pages_are_read_and_other_tasks_ask_their_own_question(fox):
    load = BENCHMARKS["fox"].load
    pages = load(Selection(str(fox), prompt="Free OCR.")).samples
    assert [(s.id, s.prompt, s.truth, s.groups) for s in pages] == [
        ("en_page_ocr/en_1", "Free OCR.", "a b c d", ("en_page_ocr",)),
        ("en_page_ocr/en_2", "Free OCR.", "e f", ("en_page_ocr",)),
    ]
    assert pages[0].open().size == (40, 60)
    assert [s.prompt for s in load(Selection(str(fox), kinds=("en_box_ocr",))).samples] == ["The box?"]


def test_fox_is_scored_in_the_official_direction(fox, tmp_path, capsys):
    theirs = tmp_path / "theirs" / "en_page_ocr"
    theirs.mkdir(parents=True)
    (theirs / "en_1.txt").write_text("a x")
    flags = [
        "--benchmark=fox",
        f"--data={fox}",
        f"--predictions={theirs.parent}",
        f"--out={tmp_path / 'out'}",
    ]
    assert run(vision_eval.main, flags) == 0
    data = json.loads(capsys.readouterr().out.splitlines()[-1])
    scores = data["groups"]["en_page_ocr"]["scores"]
    assert scores["fox_precision_official"]["mean"] == 0.125  # a quarter of one page, nothing of the other
    assert scores["precision"]["mean"] == 0.25 and data["missing"] == ["en_page_ocr/en_2"]


@pytest.fixture
def omni(tmp_path):
    """Two pages of one paragraph each."""
    pytest.importorskip("lxml")
    box = {"category_type": "text_block", "poly": [0] * 8, "ignore": False, "order": 1, "anno_id": 1}
    pages = [
        {
            "layout_dets": [{**box, "text": text}],
            "page_info": {"image_path": f"{name}.png", "page_attribute": {"language": "english"}},
            "extra": {"relation": []},
        }
        for name, text in (("one", "hello world"), ("two", "good morning"))
    ]
    (tmp_path / "OmniDocBench.json").write_text(json.dumps(pages))
    return tmp_path


@pytest.mark.parametrize("task", ["omnidocbench", "omnidocbench_v1.0"])
def test_omnidocbench_scores_the_set_and_a_missing_page_is_wrong(omni, tmp_path, capsys, task):
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "one.md").write_text("hello world")
    flags = [f"--benchmark={task}", f"--data={omni}", f"--predictions={theirs}", f"--out={tmp_path / 'out'}"]
    assert run(vision_eval.main, flags) == 0
    data = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert data["set_scores"]["right"]["text_edit"] == 0.5
    assert data["groups"]["language: english"]["pages"] == 2 and data["missing"] == ["two"]


@pytest.mark.real_data
@pytest.mark.skipif(not GOLDEN.is_dir(), reason="the official demo pages are not here")
@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ("omnidocbench", {"text_edit": 0.351317, "formula_edit": 0.318945, "table_teds_whole": 0.783813}),
        ("omnidocbench_v1.0", {"text_edit": 0.356126, "formula_edit": 0.492899, "order_edit": 0.216996}),
    ],
)
def test_the_official_numbers_come_out_of_the_script(task, expected, tmp_path):
    config = VisionEvalConfig(
        out=str(tmp_path),
        benchmark=task,
        data=str(GOLDEN / "OmniDocBench_demo.json"),
        predictions=str(GOLDEN / "pred_end2end"),
    )
    results = evaluate(config)
    assert results["missing"] == () and results["unknown"] == ()
    found = results["set_scores"]["right"]
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--benchmark=fox", "--data=nowhere"], "en_page_ocr.json"),
        (["--benchmark=fox", "--data={fox}", "--kinds=en_poem"], "en_poem"),
        (["--benchmark=omnidocbench", "--data=nowhere"], "nowhere"),
        (["--benchmark=omnidocbench"], "--data"),
    ],
)
def test_benchmark_mistakes(flags, named, fox, tmp_path, capsys):
    given = [flag.format(fox=fox) for flag in flags]
    assert run(vision_eval.main, [*given, f"--out={tmp_path / 'o'}", f"--predictions={tmp_path}"]) == 2
    error = capsys.readouterr().err
    assert named in error and error.count("\n") == 1


@pytest.mark.parametrize("flags", [["--task=nothing"], ["--task", "nothing"], ["--benchmark=nothing"]])
def test_the_flag_of_before_goes_on_working(flags, tmp_path, capsys):
    assert run(vision_eval.main, ["--model=tesseract", f"--out={tmp_path}", *flags]) == 2
    error = capsys.readouterr().err
    assert "nothing" in error
    assert error.count("--benchmark now") == ("--task" in flags[0])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("| a | b |\n| --- | :-: |\n| 1 | 2 |", ["a", "b", ":-:", "1", "2"]),
        ("| a |\n|---|\n| --- |", ["a"]),
        ('<table><tr><td colspan="2">a &lt; b</td></tr></table>', ["a", "<", "b"]),
        (
            "<td>H<sub>2</sub>O</td><td><b>p</b> &lt; .05<SUP class='note'>a</SUP></td>",
            ["H2O", "p", "<", ".05a"],
        ),
        ("one<br/>two<td>three</td>", ["one", "two", "three"]),
        ("3 < 4 and 5 > 4 --", ["3", "<", "4", "and", "5", ">", "4", "--"]),
    ],
)
def test_markup_is_no_word(text, words):
    assert without_markup(text).split() == words


def test_markup_of_a_long_repetition_takes_no_time():
    assert len(without_markup("<a" * 50_000)) == 100_000
