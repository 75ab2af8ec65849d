"""The scripts that make samples, report on a checkpoint, measure reading and time the training step."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from functools import partial
from itertools import permutations
from pathlib import Path
from statistics import fmean
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from nanoocr.commandline import run
from nanoocr.data.loader import multimodal_data_generator
from nanoocr.data.rows import read_rows
from nanoocr.data.synth import VALIDATION_SEED, find_fonts, write_parquet
from nanoocr.errors import UsageError
from nanoocr.eval.metrics import word_overlap
from nanoocr.eval.reading import RowResult
from nanoocr.model.folder import model_folder as model_folder_of
from nanoocr.model.folder import save_model
from nanoocr.tasks.choose import make_task
from nanoocr.train.config import TrainConfig
from nanoocr.train.data import plan_data
from nanoocr.train.distributed import World
from nanoocr.train.run import Run
from nanoocr.train.setup import load_tokenizer, resolve_recipe
from nanoocr.train.state import build_state
from nanoocr.train.step import Totals, compute_losses
from scripts import measure_reading, vision_sample
from scripts.bench import attention as bench_attention
from scripts.bench import train as bench_train
from scripts.dev import make_samples

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def model_folder(tmp_path, make_model, byte_tokenizer):
    """A tiny model of random weights that has room for every answer."""
    folder = tmp_path / "model"
    save_model(folder, make_model(sequence_len=512), byte_tokenizer)
    return folder


def test_every_script_is_on_the_map():
    told = (ROOT / "scripts" / "README.md").read_text()
    files = [path.relative_to(ROOT / "scripts") for path in (ROOT / "scripts").rglob("*.py")]
    names = [".".join(path.with_suffix("").parts) for path in files if path.name != "__init__.py"]
    assert [name for name in names if f"`{name}`" not in told and not name.startswith("dev.fuzz_")] == []


# ---------------------------------------------------------------------------------------------------------
# make_samples


@pytest.fixture(scope="module")
def samples():
    return make_samples.overfit_samples()


def test_the_ten_samples_are_the_issues(samples):
    ids = [f"receipt_{i:03d}" for i in range(4)]
    ids += [f"chart_{i:02d}" for i in (1, 2, 3)] + [f"textvqa_{i:02d}" for i in (1, 2, 3)]
    assert [name for name, _ in samples] == ids
    for name, sample in samples:
        assert len(sample.boxes) == len(sample.chars) > 10
        assert set(sample.answer.split()) and len(sample.answer) < 256, name
        assert set(sample.font.split(", ")) <= set(make_samples.MATPLOTLIB_FAMILIES)


def test_nothing_but_the_picture_tells_the_answers_apart(samples):
    pairs = list(permutations((sample for _, sample in samples), 2))
    assert fmean(word_overlap(a.answer, b.answer) for a, b in pairs) < 0.01
    assert max(word_overlap(a.answer, b.answer) for a, b in pairs) < 0.1
    prompts = {}
    for name, sample in samples:
        prompts.setdefault(name.split("_")[0], set()).add(sample.prompt)
    assert all(len(asked) == 1 for asked in prompts.values())


def test_the_committed_samples_are_what_the_generator_draws(samples):
    rows = read_rows(ROOT / "data" / "overfit_dataset.json")
    assert [row.id for row in rows] == [name for name, _ in samples]
    for row, (_, sample) in zip(rows, samples):
        assert (row.prompt, row.answer, row.chars) == (sample.prompt, sample.answer, sample.chars)
        # Another FreeType may set a glyph a pixel apart; another picture would differ everywhere.
        assert np.abs(row.boxes - sample.boxes).max() < 3
        difference = np.asarray(row.image, np.float32) - np.asarray(sample.image, np.float32)
        assert np.abs(difference).mean() < 5


def test_make_samples_writes_what_read_rows_reads(tmp_path, capsys):
    assert run(make_samples.main, ["--only=overfit", f"--data={tmp_path}"]) == 0
    assert len(read_rows(tmp_path / "overfit_dataset.json")) == 10
    assert capsys.readouterr().out == ""


def test_every_shown_picture_has_its_truth():
    shown = ROOT / "assets" / "samples"
    pictures = sorted(shown.glob("*.png"))
    assert [picture.stem for picture in pictures] == sorted(pick.name for pick in make_samples.SHOWN)
    assert all(picture.with_suffix(".txt").read_text().strip() for picture in pictures)


def test_shown_pictures_come_from_held_out_seeds():
    assert make_samples.SHOWN_SEED > VALIDATION_SEED > make_samples.OVERFIT_SEED


def test_missing_families_are_named():
    with pytest.raises(UsageError, match="No Such Sans"):
        make_samples.of_families(find_fonts(), ("No Such Sans",))


def test_a_pick_that_asks_something_else_is_refused():
    fonts = make_samples.matplotlib_fonts()
    chart = next(pick for pick in make_samples.OVERFIT if pick.kind == "chart")
    with pytest.raises(UsageError, match=chart.name):
        make_samples.draw(chart._replace(prompt="Read."), make_samples.OVERFIT_SEED, fonts)


# ---------------------------------------------------------------------------------------------------------
# vision_sample


def test_vision_sample_reports_every_row(model_folder, tmp_path, capsys):
    out = tmp_path / "report.json"
    flags = [f"--checkpoint={model_folder}", "--max_tokens=6", f"--json={out}"]
    assert run(vision_sample.main, [*flags, "--limit=4"]) == 0
    report = json.loads(out.read_text())
    assert [row["id"] for row in report["rows"]] == [f"receipt_{i:03d}" for i in range(4)]
    assert set(report["health"]) == {"sam", "clip", "projected"}
    printed = capsys.readouterr().out
    for word in (
        "ID",
        "Loss",
        "Overlap",
        "CER",
        "receipt_003",
        "average",
        "Grounding gap",
        "worst",
        "median",
    ):
        assert word in printed
    assert f"{fmean(row['loss'] for row in report['rows']):.4f}" in printed
    assert any(repr(row["truth"]) in printed for row in report["rows"])


def test_vision_sample_takes_a_run_folder_and_parquet(model_folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the table breaks the long name of a temporary folder
    step = tmp_path / "run" / "step_000007"
    step.parent.mkdir()
    model_folder.rename(step)
    data = tmp_path / "rows.parquet"
    write_parquet(data, "card", 2, 5, fonts=find_fonts())
    assert model_folder_of(str(step.parent)) == step
    flags = [f"--checkpoint={step.parent}", f"--data={data.name}", "--max_tokens=3"]
    assert run(vision_sample.main, flags) == 0
    assert "rows.parquet: row 1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "code", "named"),
    [
        (["--checkpoint=nowhere"], 4, "nowhere"),
        (["--checkpoint={model}", "--data=no.json"], 2, "no.json"),
        (["--checkpoint={model}", "--data={bad}"], 2, "bad.json"),
        (["--checkpoint={model}", "--limit=1"], 2, "two rows"),
        (["--checkpoint={model}", "--limit=-1"], 2, "--limit"),
        ([], 2, "--checkpoint"),
        (["--checkpoint={model}", "--limit=2", "--max_tokens=1", "--json={bad}/x.json"], 6, "--json"),
    ],
)
def test_vision_sample_mistakes(flags, code, named, model_folder, tmp_path, capsys):
    bad = tmp_path / "bad.json"
    bad.write_text("[{}]")
    assert run(vision_sample.main, [flag.format(model=model_folder, bad=bad) for flag in flags]) == code
    error = capsys.readouterr().err
    assert named in error and error.count("\n") == 1


# ---------------------------------------------------------------------------------------------------------
# measure_reading


def result(cer, overlap=0.0, wrong=0.0, truth="ab cd"):
    text = truth if cer == 0 else ""
    return RowResult("id", "synth/card", truth, text, "", 1.0, cer, overlap, wrong, "ok")


def test_statistics_by_hand():
    rows = [result(0.0, overlap=1.0), result(0.0, overlap=1.0, wrong=0.5), result(1.0)]
    numbers = measure_reading.statistics(rows)
    assert numbers["rows"] == 3
    assert numbers["cer"] == pytest.approx(1 / 3) and numbers["median_cer"] == 0.0
    assert numbers["perfect"] == pytest.approx(2 / 3) and numbers["catastrophic"] == pytest.approx(1 / 3)
    assert numbers["overlap"] == pytest.approx(2 / 3) and numbers["grounding_gap"] == pytest.approx(0.5)


def test_card_halves_are_halves_and_never_overlap_validation():
    config = measure_reading.MeasureConfig(cards=9, per_kind=2)
    natural, random, *others = measure_reading.reading_sets(config)
    assert (natural.guessable, random.guessable) == (True, False)
    rows = [*natural.rows(), *random.rows()]
    assert len(rows) == 9 and len({row.id.split("/")[1] for row in rows}) == 9
    assert all(int(row.id.split("/")[1]) >= measure_reading.FIRST_INDEX for row in rows)
    assert {s.kind for s in others} == {"card", "receipt", "paragraph", "form", "table", "chart", "scene"}
    four = next(s for s in others if s.lines == (4, 4))
    assert all(row.answer.count("\n") == 3 for row in four.rows())


def test_read_set_leaves_no_single_row_behind(make_model, byte_tokenizer, monkeypatch):
    monkeypatch.setattr(measure_reading, "CHUNK", 3)
    cards = measure_reading.ReadingSet("cards", "card", 4, find_fonts())
    model = make_model(sequence_len=512)
    reader = SimpleNamespace(by_lines=False, model=model, tokenizer=byte_tokenizer)
    results = measure_reading.read_set(reader, cards, 2, None)
    assert [r.id for r in results] == [row.id for row in cards.rows()]


def test_measure_reading_ends_in_one_json_line(model_folder, tmp_path, capsys):
    out = tmp_path / "reading.json"
    flags = [f"--model={model_folder}", "--cards=4", "--per_kind=2", "--max_tokens=2", f"--json={out}"]
    assert run(measure_reading.main, flags) == 0
    printed = capsys.readouterr().out
    data = json.loads(printed.splitlines()[-1])
    assert data == json.loads(out.read_text())
    assert data["sets"]["cards"]["rows"] == 4 and data["sets"]["table"]["rows"] == 2
    assert {"date", "torch", "threads", "cpu", "seed"} <= set(data)
    assert "Held-out reading" in printed


def test_measure_reading_mistakes(capsys):
    assert run(measure_reading.main, ["--cards=1"]) == 2
    assert run(measure_reading.main, ["--model=nowhere"]) == 4
    assert "nowhere" in capsys.readouterr().err


# ---------------------------------------------------------------------------------------------------------
# bench_train


def test_bench_train_prints_where_the_time_goes(tmp_path, capsys):
    out = tmp_path / "bench.json"
    flags = ["--batch_size=2", "--steps=1", "--threads=1", "--workers=0", "--attention_repeats=1"]
    assert run(bench_train.main, [*flags, f"--json={out}"]) == 0
    printed = capsys.readouterr().out
    data = json.loads(printed.splitlines()[-1])
    assert data == json.loads(out.read_text())
    phases = data["phases_ms"]
    assert {"wait for data", "vision forward", "glyph forward", "backward", "Muon", "AdamW"} <= set(phases)
    assert sum(phases.values()) == pytest.approx(data["step_ms"])
    assert all(value > 0 for value in phases.values())
    assert data["samples_per_second"] == pytest.approx(2 * 1000 / data["step_ms"])
    assert {row["dtype"] for row in data["attention"]} == {"bfloat16", "float32"}
    assert "windows of 16 tokens" in printed and "GPT, 77 tokens" in printed


def test_the_stopwatch_changes_no_loss_and_misses_no_part(make_model, tiny_config):
    config = TrainConfig(steps=4, batch_size=2, threads=1, dtype="float32")
    chosen = resolve_recipe(config, 1)
    data = replace(plan_data(config, tiny_config, load_tokenizer(config), make_task), max_length=512)
    batch = next(multimodal_data_generator(data))[0].batch
    totals = Totals.of([batch], World())
    state = build_state(Run(config, chosen), make_model(sequence_len=512))
    before = compute_losses(state, batch, chosen, totals)["total"]
    watch = bench_train.Stopwatch(torch.device("cpu"))
    bench_train.time_parts(state, watch)
    assert torch.equal(compute_losses(state, batch, chosen, totals)["total"], before)
    assert set(watch.seconds) == set(bench_train.FORWARD_PARTS)
    bench_train.timed_step(state, batch, chosen, watch)
    phases = bench_train.by_phase({**watch.seconds, bench_train.WAIT: 0.0})
    assert phases.keys() >= {"backward", "Muon", "AdamW", *bench_train.FORWARD_PARTS}


@pytest.mark.parametrize(
    "flags", [["--steps=0"], ["--batch_size=0"], ["--preset=huge"], ["--stage=3"], ["--attention_repeats=-1"]]
)
def test_bench_train_mistakes(flags, capsys):
    assert run(bench_train.main, flags) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_bench_attention_ways_agree_and_what_does_not_work_is_said(monkeypatch, capsys):
    traced = partial(torch.compile, backend="eager")  # the same numbers without a C++ compiler's minutes
    monkeypatch.setattr(torch, "compile", lambda function, **flags: traced(function, **flags))
    flags = ["--preset=nano", "--sides", "32", "64", "--budgets", "64", "--repeats=1", "--threads=1"]
    assert run(bench_attention.main, flags) == 0
    printed = capsys.readouterr().out
    lines = json.loads(printed.splitlines()[-1])["lines"]
    assert len(lines) == 2 * 6 and max(line["max_difference"] for line in lines) < 1e-5
    for line in lines:
        assert line["forward"] > 0 and set(line["failed"]) <= {"with_backward"}
        assert (line["with_backward"] is None) == bool(line["failed"])
    failed = {line["way"] for line in lines if line["failed"]}  # on CPUs FlexAttention has no backward
    assert failed <= {"FlexAttention"}
    assert printed.count("not here: ") == len(failed)


# ---------------------------------------------------------------------------------------------------------
# runs/*.sh


@pytest.mark.parametrize("script", ["env.sh", "hour.sh", "nano.sh", "tier1.sh", "tier2.sh"])
def test_run_scripts_are_strict_and_parse(script):
    path = ROOT / "runs" / script
    assert "set -euo pipefail" in path.read_text()
    subprocess.run(["bash", "-n", str(path)], check=True)


def test_env_refuses_a_missing_python(tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "env.sh").write_text((ROOT / "runs" / "env.sh").read_text())
    (tmp_path / "pyproject.toml").write_text("")
    environment = {**os.environ, "PYTHON": "no-such-python"}
    done = subprocess.run(
        ["bash", str(tmp_path / "runs" / "env.sh")], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 2 and "no-such-python" in done.stderr and not (tmp_path / ".venv").exists()
