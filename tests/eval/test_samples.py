"""Loaders of what is evaluated: what they find, what they leave out and say, and what ends in an error."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from nanoocr.data.synth import VALIDATION_SEED, find_fonts, make_sample
from nanoocr.errors import PictureError, UsageError
from nanoocr.eval.catalogue import text_scores
from nanoocr.eval.samples import (
    FIRST_INDEX,
    QUESTION,
    EvalSample,
    collect,
    file_stem,
    load_folder,
    load_manifest,
    load_synthetic,
)

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


def save_picture(path: Path, shade: int = 200) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 10), (shade, 0, 0)).save(path)


# synthetic


def test_synthetic_samples_are_the_held_out_pictures():
    found = load_synthetic(("card", "receipt"), 3)
    assert [s.id for s in found.samples] == [
        f"{k}/{FIRST_INDEX + i}" for k in ("card", "receipt") for i in range(3)
    ]
    drawn = make_sample("card", VALIDATION_SEED, FIRST_INDEX, fonts=find_fonts())
    first = found.samples[0]
    assert (first.truth, first.kind, first.open().tobytes()) == (drawn.answer, "card", drawn.image.tobytes())
    assert first.groups == ("card", "natural text" if drawn.guessable else "random text")


def test_a_question_about_a_synthetic_page_is_no_reading():
    found = load_synthetic(("receipt", "chart"), 8).samples
    questions = [s for s in found if s.prompt.endswith("?")]
    assert questions and len(questions) < len(found)
    assert all((s.kind == QUESTION) == (s in questions) for s in found)
    assert {s.groups[0] for s in questions} <= {"receipt: question", "chart: question"}
    readings = load_synthetic(("receipt",), 8, questions=False).samples
    assert len(readings) == 8 and all(s.kind == "receipt" for s in readings)
    first = [s.id for s in found if s.kind == "receipt"]
    assert first == [s.id for s in readings][: len(first)]


def test_unknown_kinds_are_named():
    with pytest.raises(UsageError, match="poem"):
        load_synthetic(("card", "poem"), 1)


# folder


def test_folder_takes_pictures_with_their_text(tmp_path):
    for name in ("b.png", "a.PNG", "receipt/c.png", "lost.png", "latin.png", ".hidden.png", "both.png"):
        save_picture(tmp_path / name)
    for name in ("b.txt", "a.md", "receipt/c.txt", ".hidden.txt", "both.txt", "both.md", "alone.txt"):
        (tmp_path / name).write_text(f" truth of {name}\n", encoding="utf-8-sig")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    found = load_folder(tmp_path)
    assert {s.id: (s.truth, s.kind) for s in found.samples} == {
        "a": ("truth of a.md", "document"),
        "b": ("truth of b.txt", "document"),
        "both": ("truth of both.md", "document"),
        "receipt/c": ("truth of receipt/c.txt", "receipt"),
    }
    left_out = " | ".join(found.left_out)
    for what in (
        "lost.png",
        "latin.png: its truth latin.txt is not UTF-8",
        "alone.txt: a text without",
        "both.txt",
    ):
        assert what in left_out
    assert len(found.left_out) == 4
    assert [s.id for s in load_folder(tmp_path, kinds=("receipt",)).samples] == ["receipt/c"]
    assert [s.id for s in load_folder(tmp_path, per_group=1).samples] == ["a", "receipt/c"]


def test_two_pictures_of_one_name_are_one_sample(tmp_path):
    save_picture(tmp_path / "a.jpg"), save_picture(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("x")
    found = load_folder(tmp_path)
    assert len(found.samples) == 1 and found.left_out == ("a: a second sample of that name",)


def test_a_folder_without_truth_is_an_error_that_says_why(tmp_path):
    with pytest.raises(UsageError, match="no such folder"):
        load_folder(tmp_path / "none")
    with pytest.raises(UsageError, match="no picture with truth"):
        load_folder(tmp_path)
    save_picture(tmp_path / "a.png")
    with pytest.raises(UsageError, match=r"no a\.gt\.txt or a\.md or a\.txt beside it"):
        load_folder(tmp_path)


# manifest


def write_manifest(folder: Path, *lines: object) -> Path:
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    (folder / "manifest.jsonl").write_text("\n".join(texts) + "\n")
    return folder / "manifest.jsonl"


def row(number: str, **changes: object) -> dict:
    return {"dataset": "set", "id": number, "kind": "form", "image": "a.png", "text": "a.txt", **changes}


def test_manifest_rows_and_what_is_wrong_with_them(tmp_path):
    save_picture(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("truth\n")
    (tmp_path / "qa.json").write_text(
        '[{"query": "How many?", "label": 3}, {"query": "Who?", "label": "Ann"}]'
    )
    (tmp_path / "bad.json").write_text('{"query": 1}')
    (tmp_path / "latin.txt").write_bytes(b"\xff")
    path = write_manifest(
        tmp_path, row("1"), "", row("2", text="qa.json"), "{broken", [1], {"id": "x"}, row("1"),
        row("3", image="none.png"), row("4", text="bad.json"), row("5", text="latin.txt"), row("6", kind=7),
    )  # fmt: skip
    found = load_manifest(tmp_path)
    assert found == load_manifest(path)
    assert [(s.id, s.kind, s.prompt, s.truth) for s in found.samples] == [
        ("set/1", "form", "Read.", "truth"),
        ("set/2-0", QUESTION, "How many?", "3"),
        ("set/2-1", QUESTION, "Who?", "Ann"),
    ]
    assert found.samples[0].groups == ("set: form",)
    assert [s.id for s in load_manifest(path, questions=False).samples] == ["set/1"]
    expected = (
        "line 4: not JSON", "line 5: needs", "line 6: needs", "set/1: a second", "none.png is missing",
        "bad.json holds no list", "latin.txt is not UTF-8", "line 11: dataset",
    )  # fmt: skip
    assert len(found.left_out) == len(expected)
    assert all(part in sentence for part, sentence in zip(expected, found.left_out))


def test_manifest_mistakes(tmp_path):
    with pytest.raises(UsageError, match="no such manifest"):
        load_manifest(tmp_path)
    write_manifest(tmp_path, row("1"))
    with pytest.raises(UsageError, match=r"a\.png is missing"):
        load_manifest(tmp_path)


@pytest.mark.real_data
@pytest.mark.skipif(not (SHARED / "manifest.jsonl").is_file(), reason="the evaluation pictures are not here")
def test_the_real_manifest_loads_but_for_rows_without_questions():
    found = load_manifest(SHARED)
    assert all("holds no list of query and label" in sentence for sentence in found.left_out)
    assert len({s.groups for s in found.samples}) > 10


# samples and names


def test_pictures_tell_samples_apart_and_unreadable_ones_are_named(tmp_path):
    save_picture(tmp_path / "a.png", 1), save_picture(tmp_path / "b.png", 2)
    samples = [EvalSample(n, tmp_path / f"{n}.png", "Read.", "", "card") for n in ("a", "b", "none")]
    assert len({sample.digest() for sample in samples}) == 3
    with pytest.raises(PictureError, match="none"):
        samples[2].open()


def test_collect_limits_every_line_of_the_table():
    samples = [EvalSample(str(i), b"", "", "", "card", ("x" if i % 2 else "y",)) for i in range(6)]
    assert [s.id for s in collect(samples, "here", per_group=2).samples] == ["0", "1", "2", "3"]


@pytest.mark.parametrize(
    ("sample_id", "stem"),
    [
        ("card/100", "card/100"),
        ("../../etc/passwd", "%../%../etc/passwd"),
        ("/etc/x", "%/etc/x"),
        ("a\\..\\b", "a/%../b"),
        ("", "%"),
        ("nul\0.x", "nul%.x"),
        ("日本", "日本"),
    ],
)
def test_file_stems_stay_below_their_folder(sample_id, stem):
    assert file_stem(sample_id) == stem


def test_long_names_stay_short_and_different():
    long = ["長" * 90 + tail for tail in ("a", "b")]
    stems = {file_stem(name) for name in long}
    assert len(stems) == 2 and all(len(stem.encode()) <= 200 for stem in stems)


# ---------------------------------------------------------------------------------------------------
# What others' files hold


def two_pages(path, shades=(255, 128)):
    pages = [Image.new("L", (60, 40), shade) for shade in shades]
    pages[0].save(path, save_all=True, append_images=pages[1:])


@pytest.mark.parametrize("suffix", ["tif", "pdf"])
def test_pages_of_a_file_are_samples_where_form_feeds_part_their_text(tmp_path, suffix):
    two_pages(tmp_path / f"a.{suffix}")
    (tmp_path / "a.txt").write_text("first\n\fsecond\n")
    samples = load_folder(tmp_path).samples
    assert [(sample.id, sample.truth) for sample in samples] == [("a-1", "first"), ("a-2", "second")]
    assert [sample.open().getpixel((5, 5))[0] for sample in samples] == [255, 128]
    (tmp_path / "a.txt").write_text("first second")
    Image.new("RGB", (9, 9)).save(tmp_path / "b.png"), (tmp_path / "b.txt").write_text("b")
    assert load_folder(tmp_path).left_out == (
        f"a.{suffix}: has 2 pages, and its text has 1: part them by form feeds",
    )


@pytest.mark.parametrize(
    ("text", "truths"),
    [
        ("\ftwo\n", ["", "two"]),
        ("one\n\f\n", ["one", ""]),
        ("one\n\f\f", ["one", ""]),
        ("one\n\ftwo\n\f", ["one", "two"]),
        ("one\r\n\ftwo\r\n", ["one", "two"]),
    ],
)
def test_a_blank_page_is_one_too_and_a_form_feed_may_end_the_last_page(tmp_path, text, truths):
    two_pages(tmp_path / "a.tif")
    (tmp_path / "a.txt").write_bytes(text.encode())
    assert [sample.truth for sample in load_folder(tmp_path).samples] == truths


def test_a_pdf_of_one_page_is_a_sample(tmp_path):
    two_pages(tmp_path / "a.pdf", shades=(128,))
    (tmp_path / "a.txt").write_text("text")
    (sample,) = load_folder(tmp_path).samples
    assert sample.open().getpixel((5, 5))[0] == 128


@pytest.mark.parametrize(
    "encode",
    [
        lambda t: t.replace("\n", "\r\n").encode(),
        lambda t: t.encode("utf-16"),
        lambda t: t.encode("utf-32"),
        lambda t: b"\0\0\xfe\xff" + t.encode("utf-32-be"),
    ],
)
def test_truths_of_other_systems_are_the_same_text(tmp_path, encode):
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_bytes(encode("one\ntwo é\n"))
    assert load_folder(tmp_path).samples[0].truth == "one\ntwo é"


def test_every_true_answer_of_a_question_counts_and_what_is_none_is_left_out(tmp_path):
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    labels = [["4.50", "$4.50"], None, 3, True, {"a": 1}, ["x", None], "y", " ", float("nan")]
    (tmp_path / "q.json").write_text(json.dumps([{"query": "?", "label": label} for label in labels]))
    row = {"dataset": "d", "id": "1", "kind": "receipt", "image": "a.png", "text": "q.json"}
    (tmp_path / "manifest.jsonl").write_text(json.dumps(row))
    found = load_manifest(tmp_path)
    assert [sample.annotation for sample in found.samples] == [("4.50", "$4.50"), ("3",), ("y",)]
    assert [text.partition(":")[0] for text in found.left_out] == [f"d/1-{i}" for i in (1, 3, 4, 5, 7, 8)]
    assert text_scores(found.samples[0], "$4.50")["anls"] == 1.0
