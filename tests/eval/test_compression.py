"""Pages of controlled length, the curve in buckets, and the script."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from nanoocr.commandline import run
from nanoocr.data.synth import find_fonts
from nanoocr.data.synth.dice import Dice
from nanoocr.data.synth.length import draw_page, words_of_length, wrap
from nanoocr.data.synth.page import face
from nanoocr.errors import UsageError
from nanoocr.eval.catalogue import BENCHMARKS
from nanoocr.eval.compression import (
    PAPER_CURVES,
    Level,
    Measured,
    curve,
    length_pages,
    measured_pages,
    phase_of,
)
from nanoocr.eval.plots import plot_curve
from nanoocr.eval.samples import EvalSample
from nanoocr.eval.store import Prediction
from nanoocr.eval.summary import score_pages
from nanoocr.model.folder import save_model
from scripts import compression_curve
from scripts.compression_curve import lengths

FONTS = find_fonts()[:3]


# pages


def test_pages_are_as_long_as_asked_and_the_same_every_time():
    level = Level((128, 256), 60)
    pages = list(length_pages(level, 6, FONTS, len))
    assert all(40 < len(page.truth) <= 60 for page in pages)
    again = list(length_pages(level, 6, FONTS, len))
    assert [p.truth for p in again] == [p.truth for p in pages]
    assert again[5].open().tobytes() == pages[5].open().tobytes()
    assert pages[0].open().size == (256, 128) and pages[0].groups[0] == "128x256"
    assert len({page.truth for page in pages}) == 6


def test_more_text_means_smaller_letters_and_all_ink_inside():
    font = FONTS[0]
    heights = []
    for count in (12, 40, 90):
        words = ["word"] * count
        image, lines = draw_page(Dice(1), font, (128, 256), words)
        assert " ".join(lines).split() == words
        ink = np.asarray(image.convert("L")) < 128
        rows = np.flatnonzero(ink.any(axis=1))
        assert rows.min() >= 6 and rows.max() < 122
        heights.append((rows.max() - rows.min()) / len(lines))
    assert heights[0] > heights[1] > heights[2]


def test_what_does_not_fit_is_said():
    assert draw_page(Dice(1), FONTS[0], (64, 64), ["word"] * 200) is None
    found = list(length_pages(Level((64, 64), 2000), 2, FONTS, len))
    assert all(isinstance(sentence, str) and "2000 tokens do not fit" in sentence for sentence in found)


def test_words_stop_before_the_limit_but_never_at_none():
    assert words_of_length(Dice(1), lambda dice: "ab cd ef", 8, len) == ["ab", "cd", "ef"]
    assert words_of_length(Dice(1), lambda dice: "ab cd ef", 7, len) == ["ab", "cd"]
    assert words_of_length(Dice(1), lambda dice: "abcdefgh", 3, len) == ["abcdefgh"]


def test_wrap_by_hand():
    body = face(FONTS[0], 20)
    assert wrap(["a", "b"], body, body.width("a b")) == ["a b"]
    assert wrap(["a", "b"], body, body.width("a b") - 0.5) == ["a", "b"]
    assert wrap(["aaaa"], body, body.width("aaa")) is None


# the curve


def test_phases_by_error_rate():
    rates = {
        0.0: "stable",
        0.1: "stable",
        0.2: "unstable",
        0.5: "unstable",
        0.51: "collapsed",
        3.0: "collapsed",
    }
    assert {rate: phase_of(rate) for rate in rates} == rates


def test_the_papers_table_is_whole():
    small, large = PAPER_CURVES[64], PAPER_CURVES[100]
    assert sum(point.pages for point in small) == 100
    weighed = [sum(p.pages * p.precision for p in points) / 100 for points in (small, large)]
    assert weighed == [pytest.approx(0.857, abs=5e-4), pytest.approx(0.955, abs=5e-4)]
    assert small[0].text_tokens == (600, 700) and large[-1].text_tokens == (1200, 1300)
    for tokens, points in PAPER_CURVES.items():  # the ratios are those of tokens inside the bucket
        assert all(p.text_tokens[0] <= p.ratio * tokens <= p.text_tokens[1] for p in points)


def results_of(*truths_and_texts):
    samples = [
        EvalSample(str(i), b"", "Read.", truth, "card") for i, (truth, _) in enumerate(truths_and_texts)
    ]
    given = {
        str(i): Prediction(text, "ok", vision_tokens=10 if text != "none" else 0)
        for i, (_, text) in enumerate(truths_and_texts)
    }
    return score_pages(samples, {"right": given}, BENCHMARKS["folder"])


def test_curve_by_hand():
    results = results_of(("a" * 5, "a" * 5), ("b b b", ""), ("c" * 25, "c" * 24 + "x"), ("x", "none"))
    pages = measured_pages(results, len)
    assert [(page.text_tokens, page.vision_tokens) for page in pages] == [(5, 10), (5, 10), (25, 10)]
    low, high = curve(pages, 1.0)
    assert (low["from"], low["to"], low["pages"], low["ratio"], low["text_tokens"]) == (0.0, 1.0, 2, 0.5, 5)
    assert low["precision"]["mean"] == 0.5 and low["cer"]["median"] == 0.5 and low["catastrophic"] == 0.5
    assert (high["from"], high["pages"], high["corpus_cer"]) == (2.0, 1, 1 / 25)
    assert len(curve(pages, 3.0)) == 1
    with pytest.raises(UsageError, match="no page was read"):
        measured_pages(results[3:], len)


def test_the_figure_is_a_picture_and_needs_matplotlib(monkeypatch):
    pages = [Measured(result, 20, 10) for result in results_of(("a b", "a b"), ("c", "d"))]
    assert plot_curve({"64x64": curve(pages, 1.0)}, "tiny").startswith(b"\x89PNG")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UsageError, match=r"nano-deepseek-ocr\[plot\]"):
        plot_curve({}, "tiny")


# the script


def test_lengths_of_ratios():
    assert lengths("4,2,2,0.01", 10) == [1, 20, 40]
    for bad in ("", "a", "-1", "nan", "2,,x"):
        with pytest.raises(UsageError, match="--ratios"):
            lengths(bad, 10)


@pytest.fixture
def model_folder(tmp_path, make_model, byte_tokenizer):
    folder = tmp_path / "model"
    save_model(folder, make_model(sequence_len=128), byte_tokenizer)
    return folder


def test_the_curve_of_a_model_in_its_views(model_folder, tmp_path, capsys):
    out = tmp_path / "curve"
    flags = [f"--model={model_folder}", f"--out={out}", "--pages=2", "--max_tokens=3", "--ratios=2,4,50"]
    assert run(compression_curve.main, flags) == 0
    printed, said = capsys.readouterr()
    data = json.loads(printed.splitlines()[-1])
    assert data == json.loads((out / "curve.json").read_text())
    assert (out / "curve.png").read_bytes().startswith(b"\x89PNG")
    kinds = ("natural text", "random text")
    views = ("64x128", "128x128")
    assert set(data["curves"]) == {"all", *views, *(f"{view}, {kind}" for view in views for kind in kinds)}
    for points in data["curves"].values():
        assert all(point["from"] <= point["ratio"] < point["to"] for point in points)
        assert all("gap_wrong" in point["precision"] for point in points)
    assert sum(point["pages"] for point in data["curves"]["all"]) == 8
    assert len(data["left_out"]) == 2 and "model has room for" in data["left_out"][0]
    assert "24 of 24" in said and "DeepSeek-OCR on Fox" in printed
    written = next((out / "right").rglob("*.txt"))
    stored = written.stat().st_mtime_ns
    assert run(compression_curve.main, flags) == 0  # nothing is read again
    assert written.stat().st_mtime_ns == stored


def test_the_curve_of_a_folder(model_folder, tmp_path, capsys):
    for page in length_pages(Level((64, 128), 12), 3, FONTS, len):
        path = tmp_path / "set" / f"{page.id.rpartition('/')[2]}.png"
        path.parent.mkdir(exist_ok=True)
        page.picture.save(path)
        path.with_suffix(".txt").write_text(page.truth)
    flags = [
        f"--model={model_folder}",
        f"--folder={tmp_path / 'set'}",
        f"--out={tmp_path / 'o'}",
        "--max_tokens=2",
    ]
    assert run(compression_curve.main, [*flags, "--grounding=False"]) == 0
    data = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(data["curves"]) == {"document"} and sum(p["pages"] for p in data["curves"]["document"]) == 3


@pytest.mark.parametrize(
    ("flags", "code", "named"),
    [
        (["--model=tesseract"], 2, "tesseract has no vision tokens"),
        (["--pages=0"], 2, "--pages"),
        (["--width=0"], 2, "--width"),
        (["--model={model}", "--ratios=x"], 2, "--ratios=x"),
        (["--model={model}", "--ratios=900"], 2, "no picture with truth"),
        (["--model={model}", "--mode=huge"], 2, "huge"),
        (["--model={model}", "--folder=nowhere"], 2, "nowhere"),
        (["--model=nowhere"], 4, "nowhere"),
    ],
)
def test_curve_mistakes(flags, code, named, model_folder, tmp_path, capsys):
    flags = [flag.format(model=model_folder) for flag in flags]
    assert run(compression_curve.main, [f"--out={tmp_path / 'o'}", *flags]) == code
    error = capsys.readouterr().err
    assert named in error and error.count("\n") == 1
