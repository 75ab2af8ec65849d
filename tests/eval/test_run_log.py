"""metrics.jsonl read back, and drawn."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from nanoocr.commandline import run
from nanoocr.errors import UsageError
from nanoocr.eval.plots import plot_run
from nanoocr.eval.run_log import read_run, run_series
from scripts import plot_run as script


def train(step: int, **values) -> dict:
    return {"step": step, "event": "train", "seconds": 1.0, "loss": 3.0 / (step + 1), "lr": 0.01, **values}


def validation(step: int, **values) -> dict:
    health = {f"{stage}_effective_rank": 5.0 for stage in ("sam", "clip", "projected")}
    return {
        "step": step,
        "event": "validation",
        "loss": 1.0,
        "grounding_gap": 0.5,
        "cer": 0.4,
        **health,
        **values,
    }


@pytest.fixture
def folder(tmp_path):
    """A run that was resumed at step 20, with two lines that are no records."""
    folder = tmp_path / "nano_run"
    folder.mkdir()
    records = [train(10), train(20), train(30), validation(30), train(20, loss=9.0), train(40, loss=None)]
    lines = [json.dumps(record) for record in records]
    (folder / "metrics.jsonl").write_text("\n".join([*lines[:2], "{cut", *lines[2:], "", '{"step": "x"}']))
    return folder


def test_later_records_count_and_steps_rise(folder):
    metrics = read_run(folder)
    assert metrics.name == "nano_run"
    assert metrics.line("train", "loss") == [(10, 3 / 11), (20, 9.0), (30, 3 / 31)]  # null is no point
    assert metrics.last("train")["step"] == 40 and metrics.last("nothing") == {}
    assert metrics.notes == ("metrics.jsonl: 2 lines are no records (the first is line 3)",)
    assert read_run(folder / "metrics.jsonl").records == metrics.records


def test_series_hold_what_the_run_measured(folder):
    series = run_series(read_run(folder))
    assert set(series["loss, nats per token"]) == {"training", "validation"}
    assert set(series["effective rank of the features"]) == {"sam", "clip", "projected"}
    assert series["reading held-out pictures"]["grounding gap"] == [(30, 0.5)]
    assert series["centred cosine of the features"] == {} and series["glyph accuracy"] == {}


def test_plot_run_writes_a_picture(folder, tmp_path, capsys):
    out = tmp_path / "deep" / "run.png"
    assert run(script.main, [f"--run={folder}", f"--out={out}"]) == 0
    printed, said = capsys.readouterr()
    assert printed == f"{out}\n" and "2 lines are no records" in said
    picture = Image.open(out)
    assert picture.width > 800 and len(set(picture.convert("L").getdata())) > 20


def test_a_rate_that_spans_decades_is_drawn_on_a_logarithmic_axis(folder):
    flat = plot_run({"lr": {"lr": [(0, 1.0), (1, 0.5)]}}, "x")
    steep = plot_run({"lr": {"lr": [(0, 1.0), (1, 1e-6)]}}, "x")
    assert flat != steep
    with pytest.raises(UsageError, match="nothing in it to draw"):
        plot_run({"lr": {"lr": []}}, "x")


@pytest.mark.parametrize("content", [None, "", "not json\n", '[1]\n{"event": "train"}\n', b"\xff\xfe"])
def test_runs_without_records_are_one_sentence(content, tmp_path, capsys):
    if content is not None:
        data = content if isinstance(content, bytes) else content.encode()
        (tmp_path / "metrics.jsonl").write_bytes(data)
    assert run(script.main, [f"--run={tmp_path}", f"--out={tmp_path / 'x.png'}"]) == 2
    error = capsys.readouterr().err
    assert "metrics.jsonl" in error and error.count("\n") == 1
    assert not (tmp_path / "x.png").exists()
