"""A run goes on from its newest whole step, whatever befell those after it; nobody else writes there."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from nanoocr.commandline import run
from nanoocr.errors import CheckpointError, UsageError
from nanoocr.files import MANIFEST
from nanoocr.model.folder import complete_steps, load_model, step_folder, step_number
from nanoocr.train.checkpoint import best_step
from nanoocr.train.config import TrainConfig
from nanoocr.train.distributed import World
from nanoocr.train.lock import LOCK, LOST, give_back, holder_of, locked, myself, take
from nanoocr.train.newest import newest_whole_step
from scripts import vis_tok_train


def stage_1(out: Path, *flags: str) -> int:
    usual = ["--batch_size=1", "--eval_samples=2", "--eval_tokens=2", "--workers=0", "--threads=1"]
    saving = ["--save_every=1", "--eval_every=1", "--keep_last=0", "--dtype=float32"]
    return run(vis_tok_train.main, [*usual, *saving, "--run_name=r", f"--out={out}", *flags])


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """Three steps, all of them saved."""
    out = tmp_path_factory.mktemp("runs")
    assert stage_1(out, "--steps=3") == 0
    return out


@pytest.fixture
def copied(trained, tmp_path) -> Path:
    shutil.copytree(trained / "r", tmp_path / "r")
    return tmp_path / "r"


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)


def empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def become_a_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_bytes(b"")


DAMAGES: dict[str, Callable[[Path], object]] = {
    "missing weights": lambda step: (step / "model.safetensors").unlink(),
    "missing state": lambda step: (step / "training_state.pt").unlink(),
    "missing tokenizer": lambda step: (step / "tokenizer.json").unlink(),
    "truncated weights": lambda step: truncate(step / "model.safetensors"),
    "truncated state": lambda step: truncate(step / "training_state.pt"),
    "truncated manifest": lambda step: truncate(step / MANIFEST),
    "flipped weights": lambda step: flip(step / "model.safetensors"),
    "flipped state": lambda step: flip(step / "training_state.pt"),
    "flipped config": lambda step: flip(step / "config.json"),
    "flipped manifest": lambda step: flip(step / MANIFEST),
    "emptied file": lambda step: (step / "config.json").write_bytes(b""),
    "emptied folder": empty,
    "no manifest": lambda step: (step / MANIFEST).unlink(),
    "a file in its place": become_a_file,
    "a manifest of nothing": lambda step: (step / MANIFEST).write_text('{"version": 1, "files": {}}'),
    "a manifest of another kind": lambda step: (step / MANIFEST).write_text("[]"),
}


def config_of(run_folder: Path, *, resume: bool = True) -> TrainConfig:
    return TrainConfig(run_name=run_folder.name, out=str(run_folder.parent), resume=resume)


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_step_before_a_damaged_one_is_found(copied, damage, capsys):
    DAMAGES[damage](step_folder(copied, 3))
    assert newest_whole_step(config_of(copied), World()) == step_folder(copied, 2)
    err = capsys.readouterr().err
    assert err.count("warning: ") == 2 and "step_000003" in err and "goes on from" in err
    assert "kept as step_000003.damaged" in err and (copied / "step_000003.damaged").exists()
    assert not step_folder(copied, 3).exists()  # so that the run can save there
    assert newest_whole_step(config_of(copied), World()) == step_folder(copied, 2)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("damage", ["flipped state", "emptied folder", "a file in its place"])
def test_a_run_goes_on_over_damage_and_saves_in_its_place(copied, damage, capsys):
    (copied / "best.json").write_text('{"step": 3, "loss": 0.1}')
    for step in (2, 3):
        DAMAGES[damage](step_folder(copied, step))
    assert stage_1(copied.parent, "--steps=3", "--resume=True") == 0
    err = capsys.readouterr().err
    assert "goes on from" in err and "step_000001" in err
    assert [step_number(folder) for folder in complete_steps(copied)] == [1, 2, 3]
    assert best_step(copied) in (1, 2, 3)
    load_model(step_folder(copied, 3))
    assert {path.name for path in copied.glob("*.damaged")} == {"step_000002.damaged", "step_000003.damaged"}
    assert not (copied / LOCK).exists()


def test_a_step_that_is_damaged_again_is_kept_beside(copied):
    shutil.copytree(step_folder(copied, 3), copied / "step_000003.damaged")
    flip(step_folder(copied, 3) / "model.safetensors")
    newest_whole_step(config_of(copied), World())
    assert (copied / "step_000003.damaged").is_dir() and (copied / "step_000003.damaged-2").is_dir()


def test_where_no_step_is_whole_nothing_is_touched(copied, capsys):
    for step in (1, 2, 3):
        flip(step_folder(copied, step) / "training_state.pt")
    with pytest.raises(CheckpointError, match=r"step_000003.*training_state\.pt.*no step of .* is whole"):
        newest_whole_step(config_of(copied), World())
    assert len(list(copied.glob("step_*"))) == 3
    assert stage_1(copied.parent, "--steps=4", "--resume=True") == 4
    assert capsys.readouterr().err.startswith("error: ")


def test_a_damaged_run_is_not_begun_anew_without_a_word(copied):
    for step in (1, 2, 3):
        (step_folder(copied, step) / MANIFEST).unlink()
    with pytest.raises(UsageError, match="holds checkpoints already"):
        newest_whole_step(config_of(copied, resume=False), World())
    with pytest.raises(CheckpointError, match="no step"):
        newest_whole_step(config_of(copied), World())


def test_what_a_kill_left_of_the_first_save_is_no_step(tmp_path):
    (tmp_path / "r" / ".step_000001.writing").mkdir(parents=True)
    assert newest_whole_step(config_of(tmp_path / "r"), World()) is None


# ---------------------------------------------------------------------------------------------------------
# the lock


def test_a_run_that_is_written_is_left_alone(tmp_path, capsys):
    """By another process that lives, which is named."""
    run_folder = tmp_path / "r"
    program = f"""
import sys, pathlib, nanoocr.train.lock
print(nanoocr.train.lock.take(pathlib.Path({str(run_folder)!r})), flush=True)
sys.stdin.read()
"""
    holder = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "\n"
    assert stage_1(tmp_path, "--steps=1") == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and f"process {holder.pid} on {socket.gethostname()}" in err
    assert not list(run_folder.glob("step_*"))
    holder.kill()  # which cannot give it back
    holder.communicate()
    assert (run_folder / LOCK).exists()
    assert take(run_folder) == ""
    assert json.loads((run_folder / LOCK).read_text()) == myself()


def test_whose_lock_it_is():
    mine = myself()
    assert holder_of(json.dumps(mine), age=1e9) == mine
    assert holder_of(json.dumps({**mine, "born": "another time"}), age=0) is None  # the pid came again
    assert holder_of(json.dumps({**mine, "pid": 2**40}), age=0) is None
    elsewhere = {**mine, "host": "another machine"}
    assert holder_of(json.dumps(elsewhere), age=1.0) == elsewhere
    assert holder_of(json.dumps(elsewhere), age=LOST + 1) is None
    for torn in ("", "{", "[]", "null", '{"pid": 1}', '{"pid": "x", "host": "a", "born": ""}'):
        assert holder_of(torn, age=0.0) is None


def test_a_lock_is_given_back_and_leaves_nothing_behind(tmp_path):
    with locked(tmp_path / "r", World()):
        assert (tmp_path / "r" / LOCK).exists()
        with pytest.raises(UsageError, match=f"process {os.getpid()}"), locked(tmp_path / "r", World()):
            pass
        assert (tmp_path / "r" / LOCK).exists()
    assert not (tmp_path / "r").exists()
    with locked(tmp_path / "r", World()):
        (tmp_path / "r" / "kept").touch()
    assert [path.name for path in (tmp_path / "r").iterdir()] == ["kept"]


def test_the_lock_of_somebody_else_is_not_removed(tmp_path):
    (tmp_path / LOCK).write_text(json.dumps({**myself(), "pid": 1}))
    give_back(tmp_path)
    assert (tmp_path / LOCK).exists()


def test_a_held_lock_shows_that_its_holder_lives(tmp_path, monkeypatch):
    monkeypatch.setattr("nanoocr.train.lock.TOUCH_EVERY", 0.01)
    with locked(tmp_path / "r", World()):
        os.utime(tmp_path / "r" / LOCK, (0, 0))
        deadline = time.monotonic() + 30
        while (tmp_path / "r" / LOCK).stat().st_mtime == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert (tmp_path / "r" / LOCK).stat().st_mtime > 0
