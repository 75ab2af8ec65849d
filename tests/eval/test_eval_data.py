"""What evaluation reads: folders of predictions, OmniDocBench, Fox; and the benchmark of scoring."""

from __future__ import annotations

import json

import pytest

from nanoocr.errors import UsageError
from nanoocr.eval.fox import fox_scores, read_fox
from nanoocr.eval.omnidocbench import read_omnidocbench
from nanoocr.eval.predictions import read_predictions
from scripts.bench.scoring import main as bench_eval


def test_predictions_of_any_encoding(tmp_path):
    (tmp_path / "a.pdf_1.md").write_bytes("\ufeffcafé\r\nend".encode())
    (tmp_path / "b.md").write_text("größe", "utf-16")
    (tmp_path / "c.md").write_bytes(b"caf\xe9")
    (tmp_path / "d.txt").write_text("not read")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.md").write_text("second")
    found = read_predictions(tmp_path)
    assert found.texts == {"a.pdf_1": "café\nend", "b": "größe", "c": "caf\ufffd"}
    assert [problem.split(": ")[1][:13] for problem in found.problems] == [
        "UTF-16, read ",
        "not UTF-8 at ",
        "a second file",
    ]
    assert found.find("x", "c", "b") == "c" and found.find("x") is None


def test_a_folder_without_predictions_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match=r"holds no \*\.md"):
        read_predictions(tmp_path)
    with pytest.raises(UsageError, match="no such folder"):
        read_predictions(tmp_path / "none")


# ---------------------------------------------------------------------------------------------------------
# OmniDocBench

ENTRY = {
    "page_info": {
        "image_path": "sub/a.pdf_1.jpg",
        "page_attribute": {"language": "english", "special_issue": ["x"]},
    },
    "layout_dets": [
        {"category_type": "table", "html": "<table></table>", "order": 3},
        {"category_type": "title", "text": "Head", "order": 1},
        {"category_type": "page_number", "text": "7", "order": None},
        {"category_type": "equation_isolated", "latex": "$$x$$", "order": 2},
        {"category_type": "text_block", "text": "", "order": 4},
    ],
}


def test_read_omnidocbench(tmp_path):
    (tmp_path / "OmniDocBench.json").write_text(json.dumps([ENTRY]))
    for path in (tmp_path, tmp_path / "OmniDocBench.json"):
        (page,) = read_omnidocbench(path)
        assert page.id == "a.pdf_1"
        assert page.image == tmp_path / "images" / "a.pdf_1.jpg"
        assert page.attributes == ("language: english", "x")
        assert page.markdown == "# Head\n\n$$x$$\n\n<table></table>"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ("{}", "not a list"),
        ("[1]", "page 0 needs page_info"),
        ('[{"page_info": {"image_path": "a.jpg"}}]', "layout_dets"),
        ('[{"page_info": {"image_path": "a.jpg"}, "layout_dets": [1]}]', "not a list of blocks"),
        ('[{"page_info": {"image_path": ""}, "layout_dets": []}]', "image_path is empty"),
        (json.dumps([{**ENTRY, "layout_dets": [{"text": ["a"]}]}]), "page 0: block 0: text is"),
        (json.dumps([{**ENTRY, "layout_dets": [{"order": "1"}]}]), "block 0: order is 1"),
        (json.dumps([{**ENTRY, "layout_dets": [{"anno_id": [1]}]}]), "block 0: anno_id is"),
        (json.dumps([{**ENTRY, "extra": {"relation": [1]}}]), "relation is not a list of objects"),
        (json.dumps([{**ENTRY, "extra": {"relation": [{"source_anno_id": []}]}}]), "relation names a block"),
        (json.dumps([{**ENTRY, "extra": 7}]), "must be objects"),
    ],
)
def test_wrong_annotations_are_named(tmp_path, content, message):
    (tmp_path / "OmniDocBench.json").write_text(content)
    with pytest.raises(UsageError, match=message):
        read_omnidocbench(tmp_path)


def test_a_missing_annotation_says_what_to_name(tmp_path):
    with pytest.raises(UsageError, match="name OmniDocBench"):
        read_omnidocbench(tmp_path)


# ---------------------------------------------------------------------------------------------------------
# Fox


def fox_entry(image: str, question: str, answer: str) -> dict:
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    return {"image": image, "conversations": turns}


@pytest.mark.parametrize("inner", ["", "focus_benchmark_test"])
def test_read_fox(tmp_path, inner):
    folder = tmp_path / inner
    folder.mkdir(exist_ok=True)
    page = fox_entry("en_1.png", "<image>\nOCR this image: ", "FREEDOM of")
    (folder / "en_page_ocr.json").write_text(json.dumps([page]))
    boxes = [fox_entry("cn_1.png", f"<image>\nOCR box {i}", str(i)) for i in range(2)]
    (folder / "cn_box_ocr.json").write_text(json.dumps(boxes))
    first, *others = read_fox(tmp_path, ["en_page_ocr", "cn_box_ocr"])
    assert (first.id, first.prompt, first.truth) == ("en_page_ocr/en_1", "OCR this image:", "FREEDOM of")
    assert first.image == folder / "en_pdf_png" / "en_1.png"
    assert [page.id for page in others] == ["cn_box_ocr/cn_1", "cn_box_ocr/cn_1#2"]
    assert others[0].image.parent.name == "cn_pdf_png"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("nonsense", "not JSON"),
        ('[{"image": "a.png"}]', "entry 0 needs image"),
        ('[{"image": "a.png", "conversations": [{"value": "q"}]}]', "two conversations"),
        ('[{"image": 3, "conversations": [{"value": "q"}, {"value": "a"}]}]', "not all texts"),
        ('{"image": "a.png"}', "not a list of questions"),
    ],
)
def test_wrong_fox_files_are_named(tmp_path, content, message):
    (tmp_path / "en_page_ocr.json").write_text(content)
    with pytest.raises(UsageError, match=message):
        list(read_fox(tmp_path, ["en_page_ocr"]))


def test_unknown_tasks_and_missing_files(tmp_path):
    with pytest.raises(UsageError, match="no task 'smell'"):
        list(read_fox(tmp_path, ["smell"]))
    with pytest.raises(UsageError, match="name Fox's folder"):
        list(read_fox(tmp_path))


def test_chinese_is_cut_into_words_by_jieba():
    scores = fox_scores("我爱北京", "我爱北京天安门")
    assert scores.precision == 1.0
    assert scores.recall == pytest.approx(3 / 4)  # 我 | 爱 | 北京 | 天安门


# ---------------------------------------------------------------------------------------------------------
# the benchmark of the scoring code


def test_bench_eval_prints_both_times(capsys):
    bench_eval(["--pairs=3", "--characters=400"])
    data = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert data["pairs"] == 3
    assert set(data["timings"]) == {"Fox scores", "every score of a page", "OmniDocBench v1.5"}
    assert all(0 < timing["score"] < 1 for timing in data["timings"].values())
    with pytest.raises(UsageError, match="--pairs"):
        bench_eval(["--pairs=0"])
