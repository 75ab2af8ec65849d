"""What people name for an evaluation: flags that mean nothing, files of several pages, others' answers."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from nanoocr.config import PROMPT
from nanoocr.errors import PictureError, UsageError
from nanoocr.eval.catalogue import Selection, find_benchmark
from nanoocr.eval.evaluate import VisionEvalConfig, evaluate
from nanoocr.eval.page_benchmarks import load_icdar
from nanoocr.eval.question_sets import load_questions
from nanoocr.eval.samples import EvalSample, load_folder, load_manifest
from nanoocr.eval.store import find_predictions


def page(grey: int = 255) -> Image.Image:
    return Image.new("L", (40, 30), grey)


@pytest.fixture
def folder(tmp_path) -> Path:
    """One picture and its text."""
    where = tmp_path / "pictures"
    where.mkdir()
    page().save(where / "a.png")
    (where / "a.txt").write_text("alpha")
    return where


# ---------------------------------------------------------------------------------------------------
# Flags


@pytest.mark.parametrize("name", ["synthetic", "cards"])
def test_a_set_that_is_drawn_here_refuses_data(name):
    with pytest.raises(UsageError, match="draws its pictures itself, so that --data means nothing"):
        find_benchmark(name).load(Selection("/somewhere"))


@pytest.mark.parametrize("name", ["cards", "sroie", "docvqa", "omnidocbench", "icdar2015", "olmocr_bench"])
def test_a_set_of_one_kind_refuses_kinds(name):
    with pytest.raises(UsageError, match="--kinds means nothing"):
        find_benchmark(name).load(Selection("" if name == "cards" else "/somewhere", ("receipt",)))


def test_fewer_cards_may_be_asked_for():
    assert len(find_benchmark("cards").load(Selection(per_group=2)).samples) == 2


def test_a_kind_that_no_sample_is_of_is_named(folder):
    found = load_folder(folder, ("document", "reciept"))
    assert len(found.samples) == 1
    assert found.left_out == ("--kinds=reciept: no sample is of this kind",)


def test_a_prompt_is_asked_of_every_set_that_is_read(tmp_path):
    theirs = tmp_path / "theirs"
    (theirs / "card").mkdir(parents=True)
    (theirs / "card" / "100000.txt").write_text("x")
    asked = {"predictions": str(theirs), "out": str(tmp_path / "out"), "per_group": 1, "kinds": "card"}
    shown = evaluate(VisionEvalConfig(**asked, prompt="Free OCR."))["shown"]
    assert {entry["prompt"] for entry in shown} == {"Free OCR."}
    assert {entry["prompt"] for entry in evaluate(VisionEvalConfig(**asked))["shown"]} == {PROMPT}


def test_a_prompt_is_refused_where_every_sample_asks_its_own(folder, tmp_path):
    rows = [{"questionId": 1, "question": "What?", "image": "a.png", "answers": ["alpha"]}]
    (folder / "val.json").write_text(json.dumps({"data": rows}))
    config = {"benchmark": "docvqa", "data": str(folder), "predictions": str(folder), "out": str(tmp_path)}
    with pytest.raises(UsageError, match="--prompt: the samples of this benchmark have questions of their"):
        evaluate(VisionEvalConfig(**config, prompt="Read it."))


@pytest.mark.parametrize("reader", [{"model": "tesseract"}, {"predictions": "theirs"}])
@pytest.mark.parametrize("flag", [{"mode": "base"}, {"max_tokens": 9}])
def test_flags_of_a_model_are_refused_where_no_model_reads(reader, flag):
    with pytest.raises(UsageError, match=f"--{next(iter(flag))} is for models of this project"):
        VisionEvalConfig(out="out", **reader, **flag)


# ---------------------------------------------------------------------------------------------------
# Files of several pages


@pytest.mark.parametrize("suffix", ["tif", "pdf"])
def test_a_file_of_several_pages_is_not_read_as_its_first(tmp_path, suffix):
    path = tmp_path / f"two.{suffix}"
    page().save(path, save_all=True, append_images=[page()])
    with pytest.raises(PictureError, match="q has 2 pages, and its truth is about one"):
        EvalSample("q", path, "What?", "x", "question").open()
    assert EvalSample("q", path, "What?", "x", "question", page=2).open().mode == "RGB"


def test_a_pdf_of_one_page_is_a_picture(tmp_path):
    page().save(tmp_path / "one.pdf")
    assert EvalSample("q", tmp_path / "one.pdf", "What?", "x", "question").open().mode == "RGB"


def test_a_manifest_takes_the_pages_of_a_file_one_by_one(tmp_path):
    page().save(tmp_path / "two.tif", save_all=True, append_images=[page()])
    (tmp_path / "parted.txt").write_text("alpha\fbeta")
    (tmp_path / "whole.txt").write_text("alpha\nbeta")
    rows = [
        {"dataset": "d", "id": name, "kind": "document", "image": "two.tif", "text": f"{name}.txt"}
        for name in ("parted", "whole")
    ]
    (tmp_path / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = load_manifest(tmp_path)
    assert [(sample.id, sample.truth, sample.page) for sample in found.samples] == [
        ("d/parted-1", "alpha", 1),
        ("d/parted-2", "beta", 2),
    ]
    assert found.left_out == ("d/whole: has 2 pages, and its text has 1: part them by form feeds",)


# ---------------------------------------------------------------------------------------------------
# Others' answers


def test_a_folder_without_any_answer_is_refused(folder, tmp_path):
    (tmp_path / "theirs").mkdir()
    config = VisionEvalConfig(
        out=str(tmp_path), benchmark="folder", data=str(folder), predictions=str(tmp_path / "theirs")
    )
    with pytest.raises(UsageError, match=r"has no answer to any sample, as a\.md"):
        evaluate(config)


@pytest.mark.parametrize("facts", ["[1]", '"x"', '{"status": 5, "seconds": "fast"}', '{"seconds": NaN}', "{"])
def test_facts_beside_an_answer_that_are_none_do_not_count(folder, tmp_path, facts):
    (folder / "a.json").write_text(facts)
    config = VisionEvalConfig(
        out=str(tmp_path / "out"), benchmark="folder", data=str(folder), predictions=str(folder)
    )
    results = evaluate(config)
    assert results["groups"]["all"]["seconds_per_page"] is None
    assert results["groups"]["all"]["perfect"] == 1.0


def test_answers_are_found_whatever_form_their_accents_have(tmp_path):
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / f"{unicodedata.normalize('NFD', 'é')}.txt").write_text(unicodedata.normalize("NFD", "née"))
    found = find_predictions(theirs, [EvalSample("é", page(), PROMPT, "née", "document")])
    assert found.missing == () and found.unknown == ()
    assert "1 files have accents apart from their letters (not NFC), which count as errors" in found.notes[0]


# ---------------------------------------------------------------------------------------------------
# Two files of one name


def test_pictures_and_truths_of_one_name_are_not_mixed(tmp_path):
    for part in ("test", "train"):
        (tmp_path / part).mkdir()
        page().save(tmp_path / part / "img_1.png")
        (tmp_path / part / "gt_img_1.txt").write_text("1,1,9,1,9,9,1,9,Total")
    page().save(tmp_path / "img_2.png")
    (tmp_path / "gt_img_2.txt").write_text("1,1,9,1,9,9,1,9,Total")
    found = load_icdar(tmp_path)
    assert [sample.id for sample in found.samples] == ["img_2"]
    assert found.left_out == ("img_1: there is also train/img_1.png: name the folders of one set alone",)
    rows = [
        {"questionId": n, "question": "What?", "image_id": f"img_{n}", "answers": ["Total"]} for n in (1, 2)
    ]
    (tmp_path / "val.json").write_text(json.dumps({"data": rows}))
    questions = load_questions(tmp_path)
    assert [sample.id for sample in questions.samples] == ["2"]
    assert "its picture img_1 may be" in questions.left_out[0]
