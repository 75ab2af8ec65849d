"""Every part of runs/gpu.sh in miniature on the CPU: so that not one minute of a GPU is lost to a mistake."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from nanoocr.commandline import run
from nanoocr.config import preset
from nanoocr.errors import UsageError
from nanoocr.model.flops import gpt_flops, training_flops
from scripts.gpu import check, read, shard, small, speed, tier1, train
from scripts.gpu.part import DeadlineError, PartConfig, Results, alarm, run_child

ROOT = Path(__file__).resolve().parents[2]
MINIATURE = ("--preset=nano", "--device=cpu")
# One thread and no worker: a child of a part does not know that a test runs it.
QUICK = "--threads=1 --views=64x128 --eval_tokens=4"


def lines_of(folder: Path, part: str) -> dict[str, dict]:
    """The lines of a part's file by name, all of them measured."""
    content = json.loads((folder / f"{part}.json").read_text())
    assert content["part"] == part and content["preset"] == "nano" and content["torch"]
    assert {line["state"] for line in content["lines"]} == {"ok"}, content["lines"]
    return {line["what"]: line for line in content["lines"]}


def test_check_finds_nothing_wrong(tmp_path, capsys):
    pytest.importorskip("transformers.models.unlimited_ocr.modeling_unlimited_ocr")
    assert run(check.main, [*MINIATURE, f"--out={tmp_path}"]) == 0
    lines = lines_of(tmp_path, "check")
    assert all(line["max_difference"] < 1e-4 for name, line in lines.items() if "fp32, 128" in name)
    assert lines["encoder against transformers, bf16, 128 px"]["theirs_rms"] > 0
    assert lines["product, fp32"]["tflops"] > 0
    assert "GPT against transformers, fp32" in " ".join(capsys.readouterr().out.split()).replace("│ ", "")


def test_a_difference_makes_check_fail(tmp_path, monkeypatch):
    monkeypatch.setattr(check, "gradients", lambda flags, batch, device: {"gpt": torch.ones(3) * len(device)})
    results = Results("check", PartConfig("nano", "cpu", out=str(tmp_path)))
    results.measure("step", lambda: check.hold(False, {"max_difference": 1.0}, 0.1))
    assert results.finish(check.COLUMNS) == 1
    assert "differs by more than 0.1" in results.lines[0]["state"]


def test_speed_names_the_winners(tmp_path, capsys):
    assert run(speed.main, [*MINIATURE, f"--out={tmp_path}", "--repeats=1"]) == 0
    lines = lines_of(tmp_path, "speed")
    ways = [name for name in lines if name.startswith("SAM 128")]
    assert {"SAM 128, whole, fused", "SAM 128, concatenated, fused"} < set(ways)
    assert all(lines[name]["max_difference"] < 0.1 for name in ways)
    assert {"GPT 64", "GPT 64, compiled", "GPT 64, blocks compiled"} < set(lines)
    said = capsys.readouterr().out
    assert "fastest of 'SAM 128'" in said and "GPU_SCORES_AT_ONCE" in said


def test_train_measures_both_stages_of_both_recipes(tmp_path):
    flags = ("--steps=1", "--workers=0", "--compile=False")
    assert run(train.main, [*MINIATURE, f"--out={tmp_path}", *flags]) == 0
    lines = lines_of(tmp_path, "train")
    assert {name[:10] for name in lines} == {"deepseek 1", "deepseek 2", "llava 1, s", "llava 2, s"}
    for line in lines.values():
        assert line["tflops"] > 0 and line["plan_gb"] > 0 and line["memory_gb"] > 0
        assert sum(line["flop_shares"].values()) == pytest.approx(1)


def test_the_hidden_half_of_attention_is_half_of_what_is_counted():
    sizes = preset("nano")
    for trained, name in ((("gpt",), "deepseek"), (("projector",), "llava")):
        chosen = train.find_recipe(name, 2 if name == "deepseek" else 1)
        assert ("gpt" in chosen.trained) == (trained == ("gpt",))
        counted = [
            training_flops(sizes, chosen.trained, {}, tokens=32, pairs=pairs, logits=0)["gpt"]
            for pairs in (0, 1024)
        ]
        delivery = type("D", (), {"batch": type("B", (), {"num_pairs": 1024})})
        assert train.hidden_flops(sizes, chosen, delivery) == (counted[1] - counted[0]) / 2
    assert gpt_flops(sizes.gpt, 32, logits=0) > 0


def test_tier1_goes_from_stage_to_stage_to_the_table(tmp_path):
    flags = ("--steps1=1", "--steps2=1", "--views=64x128", "--flags=--threads=1 --workers=0 --eval_tokens=4")
    assert run(tier1.main, [*MINIATURE, f"--out={tmp_path}", *flags]) == 0
    lines = lines_of(tmp_path, "tier1")
    assert lines["stage 1"]["steps"] == lines["stage 2"]["steps"] == 1
    assert 0 < lines["reading"]["loss"] < 10
    assert len(json.loads((tmp_path / "tier1_reading.json").read_text())["rows"]) == 10


def test_read_reads_pages_and_counts_steps(tmp_path):
    flags = ("--pages=1", "--tokens=3", "--rows=2")
    assert run(read.main, [*MINIATURE, f"--out={tmp_path}", *flags]) == 0
    lines = lines_of(tmp_path, "read")
    assert lines["nano, random, bf16, 2 rows"]["rows"] == 2
    for drafts in ("off", "on"):
        packaged = lines[f"packaged model, cpu, float32, drafts {drafts}"]
        assert packaged["unlike_cpu"] == 0 and packaged["cer"] < 0.1


def test_shard_takes_equal_steps_and_brings_the_state_back(tmp_path):
    assert run(shard.main, [*MINIATURE, f"--out={tmp_path}", "--rows=2", "--steps=1"]) == 0
    lines = lines_of(tmp_path, "shard")
    assert lines["a step, split over one rank"]["difference"] < 1e-3
    assert lines["state to disk and back"]["gb"] > 0.01
    assert not (tmp_path / "shard").exists()


def test_small_goes_on_where_it_stopped(tmp_path):
    """The first call ends by its steps, the second by its deadline; it is run as it is on the day."""
    flags = [*MINIATURE, "--batch_size=2", "--eval_every=1", "--workers=0", "--mix=card"]
    quick = f"--flags={QUICK} --eval_samples=2"
    assert run(small.main, [*flags, quick, f"--out={tmp_path}", "--steps=1"]) == 0
    assert lines_of(tmp_path, "small")["small pages"]["to_step"] == 1
    command = ["bash", "runs/gpu.sh", "small", *flags, quick, "--minutes=0.85"]
    env = {**os.environ, "PYTHON": sys.executable, "OUT": str(tmp_path), "OMP_NUM_THREADS": "1"}
    subprocess.run(command, cwd=ROOT, env=env, check=True, capture_output=True, timeout=150)
    line = lines_of(tmp_path, "small")["small pages"]
    assert line["from_step"] == 1 and line["to_step"] >= 1 and line["note"] == "stopped by the deadline"


# ---------------------------------------------------------------------------------------------------------
# what keeps a part within its time


def test_what_was_measured_is_kept_when_the_time_is_over(tmp_path):
    results = Results("part", PartConfig("nano", "cpu", minutes=0.1, out=str(tmp_path)))
    results.measure("quick", lambda: {"step_s": 1.0})
    results.measure("long", lambda: {"step_s": time.sleep(60)})
    results.measure("later", lambda: {"step_s": 2.0})
    assert [line["state"] for line in results.lines] == ["ok", "cut off", "not reached"]
    assert results.finish({"step_s": ("step s", ".1f")}) == 0  # a deadline is no failure
    kept = json.loads((tmp_path / "part.json").read_text())["lines"]
    assert kept[0]["step_s"] == 1.0 and "step_s" not in kept[1]


def test_one_failure_leaves_the_other_lines(tmp_path):
    results = Results("part", PartConfig("nano", "cpu", out=str(tmp_path)))
    results.measure("broken", lambda: {"step_s": 1 / 0})
    results.measure("full", lambda: (_ for _ in ()).throw(torch.OutOfMemoryError("CUDA out of memory")))
    results.measure("fine", lambda: {"step_s": 1.0})
    states = [line["state"] for line in results.lines]
    assert states == ["failed: ZeroDivisionError: division by zero", "out of memory", "ok"]
    assert results.finish({"step_s": ("step s", ".1f")}) == 1


def test_the_alarm_is_no_exception_that_a_library_would_catch():
    with pytest.raises(DeadlineError), alarm(0.05), contextlib.suppress(Exception):
        time.sleep(5)


def test_a_child_is_asked_first_and_killed_then():
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    assert run_child([sys.executable, "-c", stubborn], seconds=1.5, grace=0.5) == "killed"
    assert run_child([sys.executable, "-c", "pass"], seconds=30) == "finished"
    with pytest.raises(RuntimeError, match="exit code 3"):
        run_child([sys.executable, "-c", "raise SystemExit(3)"], seconds=30)


def test_mistakes_are_one_sentence(tmp_path):
    with pytest.raises(UsageError, match="--minutes"):
        PartConfig("nano", "cpu", minutes=0)
    with pytest.raises(UsageError, match="unknown preset"):
        PartConfig("huge", "cpu")
    result = subprocess.run(["bash", "runs/gpu.sh", "fast"], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 2 and "PART is one of" in result.stderr
