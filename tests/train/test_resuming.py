"""A resumed run continues bit for bit, and which checkpoints and validations are kept."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

from nanoocr.data.source import SynthMix
from nanoocr.files import read_manifest, write_folder
from nanoocr.model.folder import load_model, step_folder
from nanoocr.train.checkpoint import best_step, load_state
from nanoocr.train.validate import keep_best, write_best
from tests.train.stages import SHORT, metrics, refused, stage_1, stage_2, validations, weights


def copy_of_the_first_half(trained: Path, out: Path, name: str = "tok") -> Path:
    """The folder of stage 1 as it was after step 2: what an interrupted run leaves."""
    shutil.copytree(trained / "tok", out / name)
    shutil.rmtree(out / name / "step_000004")
    (out / name / "deepencoder_000004.safetensors").unlink()
    return out / name


def flat(state: object, path: str = "") -> dict[str, object]:
    """Nested containers as {path: leaf}."""
    if isinstance(state, dict):
        items = state.items()
    elif isinstance(state, list | tuple):
        items = enumerate(state)
    else:
        return {path: state}
    return {name: leaf for key, value in items for name, leaf in flat(value, f"{path}/{key}").items()}


def differences(a: Path, b: Path) -> list[str]:
    """Names of all weights and of all training state that are not bit-equal."""
    ours, theirs = weights(a), weights(b)
    assert ours.keys() == theirs.keys()
    names = [name for name in ours if not torch.equal(ours[name], theirs[name])]
    one, other = flat(load_state(a)), flat(load_state(b))
    assert one.keys() == other.keys()
    for name, value in one.items():
        equal = torch.equal(value, other[name]) if isinstance(value, Tensor) else value == other[name]
        names += [] if equal else [name]
    return names


def test_resumed_run_equals_the_uninterrupted_one_bit_for_bit(trained, tmp_path):
    copied = copy_of_the_first_half(trained, tmp_path)
    assert stage_1(tmp_path, "--run_name=tok", "--steps=4", "--resume=True") == 0
    assert differences(copied / "step_000004", trained / "tok" / "step_000004") == []
    names = [path / "deepencoder_000004.safetensors" for path in (copied, trained / "tok")]
    ours, theirs = (safetensors.torch.load_file(name) for name in names)
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


def test_the_comparison_above_can_fail(trained):
    assert len(differences(trained / "tok" / "step_000002", trained / "tok" / "step_000004")) > 100


def test_resume_of_a_run_that_does_not_exist_starts_it(tmp_path):
    assert stage_1(tmp_path, "--run_name=new", "--steps=1", "--eval_samples=0", "--resume=True") == 0
    assert (tmp_path / "new" / "step_000001").is_dir()


def test_a_run_is_not_overwritten(trained, capsys):
    code = stage_1(trained, "--run_name=tok", "--steps=4")
    assert code == 2
    refused(capsys, code, "tok", "--resume")


def test_a_finished_run_wants_more_steps(trained, capsys):
    code = stage_1(trained, "--run_name=tok", "--steps=4", "--resume=True")
    assert code == 2
    refused(capsys, code, "--steps")


@pytest.mark.parametrize(
    "flags",
    [
        ["--preset=small"],
        ["--optimizer=adamw"],
        ["--recipe=deepseek"],
        ["--glyph_weight=0"],
    ],
)
def test_resuming_as_something_else_is_refused(trained, tmp_path, capsys, flags):
    copy_of_the_first_half(trained, tmp_path)
    code = stage_1(tmp_path, "--run_name=tok", "--steps=4", "--resume=True", *flags)
    assert code in (2, 4)
    refused(capsys, code, "step_000002")


def test_stage_2_does_not_resume_a_run_of_stage_1(trained, tmp_path, capsys):
    copy_of_the_first_half(trained, tmp_path)
    code = stage_2(tmp_path, "--run_name=tok", "--steps=4", "--resume=True")
    assert code in (2, 4)
    refused(capsys, code, "step_000002")


def test_only_the_newest_checkpoints_are_kept(tmp_path):
    flags = ["--steps=3", "--save_every=1", "--keep_last=2", "--eval_samples=0", "--batch_size=1"]
    assert stage_1(tmp_path, "--run_name=r", *flags) == 0
    steps = sorted(path.name for path in (tmp_path / "r").glob("step_*"))
    assert steps == ["step_000002", "step_000003"]


ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "scripts.vis_tok_train", *SHORT, "--workers=1", "--log_every=1"]


def test_the_best_validation_is_kept_over_a_resume(tmp_path):
    """best.json names the best whose step is on the disk; the log says what was best of all."""

    def look(step: int, loss: float | None) -> tuple[int, float]:
        best = keep_best(tmp_path, step, math.nan if loss is None else loss)
        with open(tmp_path / "metrics.jsonl", "a") as log:
            log.write(json.dumps({"step": step, "event": "validation", "loss": loss}) + "\n")
        return best

    for step in (5, 10, 25, 30):
        write_folder(step_folder(tmp_path, step), {})
    assert math.isnan(look(5, None)[1]) and best_step(tmp_path) is None
    assert look(10, 0.5) == (10, 0.5)
    assert look(20, 0.4) == (20, 0.4) and best_step(tmp_path) == 10  # 20 was never saved
    assert look(30, 0.3) == (30, 0.3) and best_step(tmp_path) == 30
    assert look(25, 0.6) == (20, 0.4)  # the run went back behind step 30, and not behind step 20
    assert look(27, None) == (20, 0.4) and best_step(tmp_path) == 10
    shutil.rmtree(step_folder(tmp_path, 10))
    write_best(tmp_path, 27)
    assert json.loads((tmp_path / "best.json").read_text()) == {"step": 25, "loss": 0.6}


def test_a_validation_that_a_kill_took_is_made_up_for(trained, tmp_path):
    """In the middle of a run, and at its end, where there is nothing else to do."""
    flags = ["--save_every=2", "--eval_every=2", "--keep_last=0", "--log_every=1", "--run_name=tok"]
    run_folder = copy_of_the_first_half(trained, tmp_path)
    log = run_folder / "metrics.jsonl"
    lines = log.read_text().splitlines()
    done = [line for line in lines if json.loads(line)["step"] <= 2 and '"validation"' not in line]
    log.write_text("\n".join(done) + '\n{"step": 2, "eve')  # the kill cut a line as well
    (run_folder / ".step_000003.writing").mkdir()
    assert stage_1(tmp_path, "--steps=4", "--resume=True", *flags) == 0
    assert [line["step"] for line in validations(log)] == [2, 4]
    assert not list(run_folder.glob(".*.writing"))
    kept = [
        line for line in log.read_text().splitlines() if '"validation"' not in line or '"step": 4' not in line
    ]
    log.write_text("\n".join(kept) + "\n")
    assert stage_1(tmp_path, "--steps=4", "--resume=True", *flags) == 0
    assert [line["step"] for line in validations(log)] == [2, 4]
    assert stage_1(tmp_path, "--steps=4", "--resume=True", *flags) == 2


def test_a_run_that_goes_on_with_other_data_says_so(trained, tmp_path, capsys, monkeypatch):
    flags = ["--steps=3", "--resume=True", "--eval_samples=0", "--run_name=tok"]
    copy_of_the_first_half(trained, tmp_path)
    assert stage_1(tmp_path, *flags) == 0
    assert "other data" not in capsys.readouterr().err
    monkeypatch.setattr(SynthMix, "fingerprint", lambda source: {"synth": "of other fonts"})
    flags[0] = "--steps=4"
    assert stage_1(tmp_path, *flags) == 0
    assert "tok/step_000003 goes on with other data of synth" in capsys.readouterr().err


def test_the_first_validation_shows_what_a_run_starts_from(tmp_path):
    flags = ["--eval_first=True", "--eval_every=2", "--eval_tokens=4", "--run_name=tok"]
    assert stage_1(tmp_path, "--steps=2", *flags) == 0
    assert [line["step"] for line in metrics(tmp_path / "tok", "validation")] == [0, 2]
    shares = metrics(tmp_path / "tok", "train")[-1]["flop_shares"]
    assert set(shares) == {"sam", "compressor", "clip", "projector", "gpt"}
    assert sum(shares.values()) == pytest.approx(1) and min(shares.values()) > 0


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop_it_saves_and_leaves(tmp_path, number):
    flags = [f"--out={tmp_path}", "--run_name=r", "--steps=100000", "--eval_samples=0"]
    process = subprocess.Popen([*COMMAND, *flags], stderr=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        log, deadline = tmp_path / "r" / "metrics.jsonl", time.monotonic() + 300
        while not (log.exists() and log.stat().st_size) and time.monotonic() < deadline:
            time.sleep(0.1)
            assert process.poll() is None, process.stderr.read()
        if number == signal.SIGTERM:  # a scheduler sends it to everybody, also to the process that loads
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            for child in children.read_text().split() if children.is_file() else ():
                os.kill(int(child), number)
        process.send_signal(number)
        err = process.communicate(timeout=300)[1]
    finally:
        process.kill()
    assert process.returncode == 130 and "Traceback" not in err
    (folder,) = (tmp_path / "r").glob("step_*")
    step = read_manifest(folder)["step"]
    assert f"stopped at step {step}" in err
    assert load_state(folder)["step"] == step == metrics(tmp_path / "r", "train")[-1]["step"]
    load_model(folder)
    assert (tmp_path / "r" / f"deepencoder_{step:06d}.safetensors").exists()
