"""Boxes: their format, how well they are found, and word spotting; truths of ICDAR's layout."""

from __future__ import annotations

import pytest
from PIL import Image

from nanoocr.document import Line, Word
from nanoocr.errors import UsageError
from nanoocr.eval.boxes import (
    TextBox,
    boxes_of_words,
    detection_scores,
    format_boxes,
    parse_boxes,
    spotted_word,
    spotting_scores,
    spotting_text_scores,
    text_of_boxes,
    upright_quad,
)
from nanoocr.eval.page_benchmarks import icdar_scores, load_icdar
from nanoocr.eval.peers import lines_of_tsv


def line(left: int, right: int, text: str, top: int = 0) -> str:
    return format_boxes([TextBox(upright_quad(left, top, right, top + 10), text)])


def test_a_text_may_hold_commas_and_odd_lines_are_counted():
    boxes, odd = parse_boxes("0,0,9,0,9,5,0,5,Kuala Lumpur, 1,200\n\nnot a box\n0,0,9,0,9,5,0,5\n")
    assert [box.text for box in boxes] == ["Kuala Lumpur, 1,200", ""] and odd == 1
    assert parse_boxes(format_boxes(boxes)) == (boxes, 0)
    assert text_of_boxes(line(0, 9, "a b")) == "a b" and text_of_boxes("no boxes") == "no boxes"


def test_detection_counts_pairs_and_areas():
    truth = "\n".join([line(0, 100, "one"), line(0, 100, "two", top=20)])
    perfect = detection_scores(truth, truth)
    assert all(perfect[name] == 1.0 for name in perfect if name != "boxes_odd")
    # One line is found as two halves: no half is more than half of the union, but all of the area is covered.
    halves = "\n".join([line(0, 50, "o"), line(50, 100, "ne"), line(0, 100, "two", top=20)])
    cut = detection_scores(halves, truth)
    assert cut["iou50_precision"] == pytest.approx(1 / 3) and cut["iou50_recall"] == 0.5
    assert cut["covered"] == pytest.approx(1.0) and cut["inside"] == pytest.approx(1.0)
    assert detection_scores("", truth)["iou50_hmean"] == 0.0
    assert detection_scores("", "")["iou50_hmean"] == 1.0
    aside = detection_scores(line(300, 400, "one"), truth)
    assert aside["covered"] == aside["inside"] == aside["iou50_recall"] == 0.0


@pytest.mark.parametrize(
    ("text", "word"),
    [("Open!", "OPEN"), ("(Joe's)", "JOE"), ("24h", ""), ("no", ""), ("T-shirt", "T-SHIRT"), ("###", "")],
)
def test_words_worth_spotting(text, word):
    assert spotted_word(text) == word


def test_spotting_needs_place_and_text_and_forgives_what_is_not_legible():
    truth = "\n".join([line(0, 40, "Exit"), line(60, 90, "###"), line(0, 40, "17", top=30)])
    right = "\n".join([line(1, 40, "EXIT!"), line(60, 90, "maybe"), line(0, 40, "seventeen", top=30)])
    assert spotting_scores(right, truth)["spotting_iou50_hmean"] == 1.0
    elsewhere = "\n".join([line(100, 140, "Exit"), line(0, 40, "Edit")])
    assert spotting_scores(elsewhere, truth)["spotting_iou50_hmean"] == 0.0
    by_text = spotting_text_scores("the exit the", "EXIT\nway out the")
    assert by_text["spotting_text_precision"] == pytest.approx(2 / 3)
    assert by_text["spotting_text_recall"] == 0.5  # exit and the, of exit, way, out, the


def test_words_far_apart_are_two_boxes():
    words = [
        Word(text, upright_quad(left, 0, left + 20, 10)) for text, left in (("a", 0), ("b", 25), ("9", 90))
    ]
    found = boxes_of_words([Line("a b 9", upright_quad(0, 0, 110, 10), None, tuple(words))])
    assert [(box.text, box.quad[0], box.quad[2]) for box in found] == [
        ("a b", (0, 0), (45, 10)),
        ("9", (90, 0), (110, 10)),
    ]


def test_tesseracts_table_becomes_lines():
    head = "level\tpage\tblock\tpar\tline\tword\tleft\ttop\twidth\theight\tconf\ttext"
    rows = ["5\t1\t1\t1\t1\t1\t10\t20\t30\t8\t96\tone", "5\t1\t1\t1\t1\t2\t50\t20\t30\t8\t96\ttwo"]
    rows += ["4\t1\t1\t1\t2\t0\t10\t40\t30\t8\t-1\t", "5\t1\t1\t1\t2\t1\t10\t40\t30\t8\t90\tthree"]
    lines = lines_of_tsv("\n".join([head, *rows]), times=2)
    assert [found.text for found in lines] == ["one two", "three"]
    assert lines[0].words[1].quad[0] == (25, 10)


def test_icdar_truths_of_any_line_ends_and_what_is_no_sample(tmp_path):
    for name in ("img_1", "img_2", "img_4"):
        Image.new("RGB", (60, 30), "white").save(tmp_path / f"{name}.png")
    truth = f"{line(0, 40, 'Exit')}\r\n{line(0, 40, '###', top=15)}\r\n"
    (tmp_path / "gt_img_1.txt").write_bytes(b"\xef\xbb\xbf" + truth.encode())
    (tmp_path / "gt_img_2.txt").write_text("EXIT")
    (tmp_path / "gt_img_3.txt").write_text(line(0, 40, "Exit"))
    found = load_icdar(tmp_path)
    (sample,) = found.samples
    assert sample.id == "img_1" and len(found.left_out) == 3
    assert any("1 lines of its truth are no box" in said for said in found.left_out)
    scores = icdar_scores(sample, line(0, 40, "EXIT"))
    assert scores["spotting_iou50_hmean"] == scores["spotting_text_hmean"] == 1.0
    assert scores["iou50_recall"] == 0.5
    with pytest.raises(UsageError, match="no such folder"):
        load_icdar(tmp_path / "nowhere")
