"""The scripts that plan and measure training: memory, packing, data, kills, peers."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from nanoocr.commandline import run
from nanoocr.config import SLOTS
from nanoocr.model.glyph_heads import CLASSES
from nanoocr.train.distributed import BUCKET
from scripts import crash_test, memory_plan
from scripts.bench import data as bench_data
from scripts.bench import packing as bench_packing
from scripts.bench import train_peers as bench_training_peers
from scripts.memory_plan import Kept, PlanConfig, plan_memory


def last_line(capsys) -> dict:
    return json.loads(capsys.readouterr().out.strip().splitlines()[-1])


# ---------------------------------------------------------------------------------------------------------
# memory


def test_what_autograd_keeps_is_counted_once_and_parameters_are_not():
    layer = torch.nn.Linear(8, 4, bias=False)
    kept = Kept(layer)
    x = torch.randn(16, 8, requires_grad=True)
    with kept.counting():
        y = layer(x)
        (y.sigmoid() * y.detach()).sum()  # sigmoid keeps its result, the product keeps it again, and y
    assert kept.total == 4 * (16 * 8 + 16 * 4 + 16 * 4)


def test_plan_of_the_full_size():
    """Parameters and optimiser by hand; activations grow with the line and shrink by recomputing."""
    plan = plan_memory(PlanConfig(seq_len=2048, pictures=2))
    assert plan["weights"] == pytest.approx(4 * 0.9617608e9 / 1e9, rel=1e-3)
    assert plan["optimiser"] == pytest.approx(2 * plan["gradients"])
    longer = plan_memory(PlanConfig(seq_len=4096, pictures=2))
    assert 1.5 < longer["activations"] / plan["activations"] < 2.1
    assert plan_memory(PlanConfig(seq_len=2048, pictures=2, recompute=True))["activations"] < (
        0.25 * plan["activations"]
    )
    muon = plan_memory(PlanConfig(preset="nano", recipe="scratch", view=128, seq_len=256, pictures=1))
    assert muon["optimiser"] < 1.5 * muon["gradients"]  # one moment instead of two for the matrices


def test_plan_of_the_parts_that_flags_and_recipes_add():
    """Half of the moments, heads by hand, a bucket with the table that fills it, the average of the model."""
    base = PlanConfig(preset="nano", recipe="scratch", stage=1, view=128, seq_len=256, pictures=1)
    plain = plan_memory(base)
    assert plan_memory(replace(base, moments="bfloat16"))["optimiser"] == plain["optimiser"] / 2
    slots = SLOTS * CLASSES
    heads = slots * (128 + 1) + 16 * slots * (256 + 1)
    assert plain["glyph heads"] * 1e9 == pytest.approx(4 * heads)
    assert plain["gradients"] == pytest.approx(plain["weights"] + plain["glyph heads"])
    assert plain["glyph logits"] * 1e9 == 3 * 4 * 2 * 8 * 8 * slots
    assert plan_memory(replace(base, average=True))["moving average"] == plain["weights"]
    assert plain["moving average"] == plain["gradients on their way"] == 0
    many = plan_memory(replace(base, ranks=2))["gradients on their way"]
    assert many == plain["gradients"]  # all of nano is less than one bucket
    large = plan_memory(PlanConfig(seq_len=512, pictures=0, ranks=8))
    assert 65537 * 1280 * 4 <= large["gradients on their way"] * 1e9 < (65537 * 1280 + BUCKET) * 4
    assert large["glyph heads"] == large["glyph logits"] == 0


def test_the_plan_is_what_a_step_takes(capsys):
    """The same step for real, by what torch's allocator gave out: the same on every machine."""
    flags = ["--preset=nano", "--recipe=scratch", "--stage=1", "--view=256", "--seq_len=512", "--sequences=8"]
    options = ["--pictures=4", "--attention=plain", "--check=True", "--dtype=float32"]
    assert run(memory_plan.main, [*flags, *options]) == 0
    result = last_line(capsys)
    assert result["measured_gb"] > 0.5 and abs(result["error"]) < 0.1


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (["--seq_len=100"], "100"),
        (["--check=True"], "--attention=plain"),
        (["--check=True", "--attention=plain", "--recompute=True"], "--recompute"),
        (["--preset=huge"], "huge"),
        (["--sequences=0"], "--sequences"),
    ],
)
def test_plans_that_make_no_sense(capsys, flags, word):
    assert run(memory_plan.main, flags) == 2
    error = capsys.readouterr().err
    assert word in error and "Traceback" not in error


# ---------------------------------------------------------------------------------------------------------
# the others, at their smallest


def test_packing_is_measured_on_the_same_rows(capsys):
    flags = ["--rows=12", "--batch_size=6", "--rounds=1", "--threads=1", "--mix=card:0.8,form:0.2"]
    bench_packing.main(flags)
    ways = last_line(capsys)["ways"]
    assert ways["padded"]["relative"] == 1.0
    assert ways["packed"]["real"] > ways["sorted"]["real"] >= ways["padded"]["real"] > 0.1


def test_data_is_measured(capsys):
    bench_data.main(["--pages=2", "--rows=60", "--marks=2"])
    result = last_line(capsys)
    assert result["pages_per_minute"] > 0 and result["stream"]["rows"] >= 60
    assert len(result["stream"]["resident_mb"]) == 2


def test_training_peers_have_the_same_parameters(capsys):
    flags = ["--batch_size=1", "--rounds=1", "--side=64", "--text=4", "--threads=1"]
    bench_training_peers.main(flags)
    result = last_line(capsys)
    assert result["parameters"]["ours"] == result["parameters"]["transformers"]
    assert {side["side"] for side in result["sides"]} >= {"ours, float32", "transformers, float32"}


def test_kills_change_nothing(capsys, tmp_path):
    """Three kills of a run of two steps and its worker; `--kills=100` is for the hand."""
    crash_test.main(["--kills=3", "--steps=2", "--workers=1", f"--out={tmp_path}"])
    result = last_line(capsys)
    assert result["workers"] == 1
    assert result["kills"] == 3 and result["runs_compared_equal"] >= 1
    assert sum(result["killed_while"].values()) == 3


def test_the_comparison_of_the_crash_test_can_fail(tmp_path):
    for name, seed in (("killed", 0), ("untouched", 1)):
        child = crash_test.start(tmp_path, name, 1, f"--seed={seed}", "--workers=0")
        child.communicate()
    with pytest.raises(crash_test.CrashTestError, match="differs"):
        crash_test.compare(tmp_path, 1)
