"""No value of a flag ends in a traceback or a crash; what is documented exists; a run's folder is a model."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from nanoocr.cli import main
from nanoocr.commandline import run
from nanoocr.data.source import parse_curriculum
from nanoocr.errors import UsageError
from nanoocr.inference.reader import default_model_folder
from nanoocr.machine import check_device
from nanoocr.model.folder import load_model, model_folder
from nanoocr.tasks.choose import make_task
from nanoocr.train.config import TrainConfig
from nanoocr.train.data import is_task, make_source, validation_rows
from scripts import data_look, vis_tok_train


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        *(("--pages=--", "--pages=--: -- is no value of --pages"), ("--prompt=--", "no value of --prompt")),
        *(("-o--", "no value of -o"), ("--model=", "the name is empty")),
        *(("--device=meta", "device 'meta' cannot be used here: choose cpu"), ("--device=hpu", "choose cpu")),
        ("--device=cuda:99", "cuda:99"),
        *(("--threads=100000", "--threads=100000: this machine has"), ("--threads=nan", "--threads")),
        ("--min_confidence=nan", "from 0 to 1, as 0.8"),
    ],
)
def test_a_value_that_cannot_be_is_one_sentence(tmp_path, flag, words, capsys):
    Image.new("L", (8, 8), 255).save(tmp_path / "a.png")
    assert main(["read", str(tmp_path / "a.png"), flag]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1 and words in err


def test_a_file_may_be_called_like_a_flag(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["read", "--", "--pages=--"]) == 3
    assert "--pages=--" in capsys.readouterr().err


@pytest.mark.parametrize(
    "flags",
    [
        *(
            {name: value}
            for name in ("lr_step_factor", "weight_decay", "cooldown")
            for value in ("nan", "inf")
        ),
        *({"lr": "nan"}, {"average": "nan"}, {"peak_tflops": "inf"}, {"lr_step_factor": "-1"}),
    ],
)
def test_what_is_no_number_shapes_no_schedule(flags):
    with pytest.raises(UsageError, match=f"--{next(iter(flags))}"):
        TrainConfig(**{name: float(value) for name, value in flags.items()})


@pytest.mark.parametrize("text", ["0:1,nan:2", "nan:1", "0:1,inf:2", "0:1,0.5:2,nan:3"])
def test_a_curriculum_of_no_numbers_is_refused(text):
    with pytest.raises(UsageError, match="--curriculum"):
        parse_curriculum(text)


def test_threads_are_bounded_by_the_machine(monkeypatch):
    with pytest.raises(UsageError, match=r"--threads=100000: this machine has \d+, as in --threads=\d"):
        TrainConfig(threads=100_000)
    monkeypatch.setenv("OMP_NUM_THREADS", "100000")
    assert TrainConfig().num_threads == os.cpu_count()


@pytest.mark.parametrize("name", ["meta", "hpu", "xla", "cuda:99", "", "cpu:x", "no such", "privateuseone"])
def test_only_a_device_that_computes_is_taken(name):
    with pytest.raises(UsageError, match=r"cannot be used here: choose cpu.*as in --device=cpu"):
        check_device(name)
    assert check_device("cpu").type == "cpu"


@pytest.mark.parametrize("fast", [False, True])
def test_a_dtype_that_is_only_emulated_is_told(fast, monkeypatch, capsys):
    monkeypatch.setattr("nanoocr.machine.has_fast_bf16", lambda device: fast)
    card = str(Path(__file__).parents[2] / "assets" / "samples" / "card_1_line_dark.png")
    assert main(["read", card, "--dtype=bfloat16", "--device=cpu", "--max_tokens=1"]) in (0, 5)
    assert ("--dtype=float32 is faster" in capsys.readouterr().err) != fast
    assert main(["read", card, "--dtype=float32", "--device=cpu", "--max_tokens=1"]) in (0, 5)
    assert "faster" not in capsys.readouterr().err


def test_a_wrong_value_shows_one_that_works(capsys):
    assert run(vis_tok_train.main, ["--steps=abc"]) == 2
    assert "as in --steps=2000" in capsys.readouterr().err
    assert run(vis_tok_train.main, ["--stpes=3"]) == 2
    assert "did you mean --steps?" in capsys.readouterr().err
    assert run(vis_tok_train.main, ["--lr=nan"]) == 2
    assert "--lr=nan: give a number" in capsys.readouterr().err


def test_help_on_tasks_lists_the_data_sets(capsys):
    assert run(vis_tok_train.main, ["--tasks=help"]) == 0
    assert "folder:FOLDER" in capsys.readouterr().out
    assert run(data_look.main, ["--task=help"]) == 0
    assert "jsonl:FILE" in capsys.readouterr().out


def test_a_runs_folder_is_its_newest_step(tmp_path, capsys):
    for step in (1, 2):
        shutil.copytree(default_model_folder(), tmp_path / "run" / f"step_00000{step}")
    assert model_folder(tmp_path / "run") == tmp_path / "run" / "step_000002"
    assert load_model(tmp_path / "run")[1].vocab_size == load_model(default_model_folder())[1].vocab_size
    assert main(["info", "--json", f"--model={tmp_path / 'run'}"]) == 0
    assert json.loads(capsys.readouterr().out)["folder"].endswith("step_000002")


def two_rows(folder: Path) -> str:
    for name in ("a", "b"):
        Image.new("L", (64, 64), 255).save(folder / f"{name}.png")
        (folder / f"{name}.txt").write_text(name)
    return f"folder:{folder}"


def test_data_and_eval_data_take_what_tasks_take(tmp_path, byte_tokenizer):
    spec = two_rows(tmp_path)
    config = TrainConfig(data=spec, eval_data=spec, eval_samples=2)
    assert is_task(spec) and not is_task("x.json") and not is_task("folder.json")
    source = make_source(config, byte_tokenizer, make_task)
    assert {source(i, 0.0).turns[0].assistant for i in range(2)} == {"a", "b"}
    assert [row.turns[0].assistant for row in validation_rows(config, make_task)] == ["a", "b"]
    (tmp_path / "a.png").write_bytes(b"no picture")
    assert [row.turns[0].assistant for row in validation_rows(config, make_task)] == ["b"]
    (tmp_path / "b.png").write_bytes(b"no picture")
    with pytest.raises(UsageError, match=r"--eval_data=.*no row can be used, the last because of .*b\.png"):
        validation_rows(replace(config, data=""), make_task)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["batch", "a.png", "--out=out", "--threads=100000"], "this machine has"),
        (["batch", "a.png", "--out=out", "--workers=100000"], "as in --workers=2"),
        (["serve", "--port=99999"], "nothing can listen there"),
        (["read", "a.png", "--pages="], "write numbers from 1"),
    ],
)
def test_no_number_is_too_large_for_a_sentence(flags, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Image.new("L", (20, 20), 255).save("a.png")
    if flags[0] == "serve":
        pytest.importorskip("uvicorn")
    assert main(flags) == 2
    told = capsys.readouterr().err
    assert words in told and len(told.splitlines()) == 1


@pytest.mark.parametrize("words", [["--model="], ["--out="], ["--model", ""], ["--out", ""]])
@pytest.mark.parametrize("command", [["finetune", "mine"], ["batch", "a.png"], ["convert"], ["export"]])
def test_an_empty_name_is_not_the_current_folder(command, words, capsys):
    assert main([*command, "--out=x", *words]) == 2
    assert f"{words[0].rstrip('=')}=: the name is empty: name a folder" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--host="], ["--host", ""]])
def test_an_empty_host_is_not_every_network(words, capsys):
    assert main(["serve", *words]) == 2
    assert "--host=: the name is empty: give --host=127.0.0.1" in capsys.readouterr().err


def test_a_text_may_be_empty_where_it_means_that(tmp_path, capsys):
    assert main(["read", str(tmp_path / "none.png"), "--prompt", ""]) == 3
    assert "does not exist" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("word", "told"), [("--verison", "did you mean --version?"), ("--out=x", "a command comes first")]
)
def test_a_flag_before_the_command(word, told, capsys):
    assert main([word]) == 2 and told in capsys.readouterr().err


def test_a_data_set_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(UsageError, match=f"{tmp_path}/mine: no such folder"):
        make_task("folder:~/mine")
    with pytest.raises(UsageError, match=f"{tmp_path}/hub: no such file or folder"):
        make_task("chartqa?path=~/hub")
