"""What the flags of both stages refuse, and how they start from other models."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor

from nanoocr.commandline import run
from nanoocr.model.components import component_of
from nanoocr.train.checkpoint import load_state
from nanoocr.train.glyph import GlyphLosses
from nanoocr.train.setup import take_over_heads
from scripts import vis_mid_train
from tests.train.stages import refused, stage_1, stage_2, weights


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        (["--stepz=3"], 2, ["--stepz"]),
        (["--steps=many"], 2, ["--steps"]),
        (["--steps=-1"], 2, ["--steps"]),
        (["--preset=huge"], 2, ["huge", "nano, small, d20"]),
        (["--recipe=magic"], 2, ["magic", "scratch"]),
        (["--mix=poem"], 2, ["--mix=poem"]),
        (["--mix=card:inf"], 2, ["--mix"]),
        (["--curriculum=1"], 2, ["--curriculum"]),
        (["--device=quantum"], 2, ["device 'quantum'", "--device=cpu"]),
        (["--data=nowhere.json"], 2, ["nowhere.json"]),
        (["--data=nowhere.csv"], 2, ["nowhere.csv"]),
        (["--tokenizer=nowhere.json"], 4, ["nowhere.json"]),
        (["--optimizer=sgd"], 2, ["--optimizer"]),
        (["--seed=1000000"], 2, ["--seed"]),
        (["--seed=-1"], 2, ["--seed"]),
        (["--max_length=5"], 2, ["max_length"]),
    ],
)
def test_wrong_usage_is_one_sentence(tmp_path, capsys, flags, code, words):
    assert stage_1(tmp_path, "--steps=2", "--eval_samples=0", *flags) == code
    refused(capsys, code, *words)
    assert not list(tmp_path.glob("**/step_*"))


def test_compile_where_it_does_not_work_is_refused_before_training(tmp_path, capsys, monkeypatch):
    def broken(function):
        raise RuntimeError("no compiler\nand a long story")

    monkeypatch.setattr(torch, "compile", broken)
    assert stage_1(tmp_path, "--steps=2", "--compile=True") == 2
    refused(capsys, 2, "--compile", "no compiler")


def test_stage_2_requires_an_encoder(tmp_path, capsys):
    assert stage_2(tmp_path, "--steps=2") == 2
    refused(capsys, 2, "--resume_from_deepencoder")
    assert stage_2(tmp_path, "--steps=2", "--resume_from_deepencoder=nowhere.safetensors") == 4
    refused(capsys, 4, "nowhere.safetensors")


def test_init_starts_from_a_model_folder_and_trained_says_what_moves(trained, tmp_path, capsys):
    start = trained / "mid" / "step_000003"
    flags = ["--steps=1", "--eval_samples=0", "--save_every=1", f"--init={start}", "--run_name=fine"]
    assert stage_2(tmp_path, *flags, "--trained=sam,gpt") == 0
    before, after = weights(start), weights(tmp_path / "fine" / "step_000001")
    moved = {component_of(name) for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"sam", "gpt"}
    assert stage_2(tmp_path, *flags, "--run_name=x", "--trained=sam,brain") == 2
    refused(capsys, 2, "--trained", "'brain'", "compressor")
    assert stage_2(tmp_path, *flags, "--run_name=x", "--preset=small") == 2
    refused(capsys, 2, "--init", "nano")
    assert stage_2(tmp_path, *flags, "--run_name=x", "--init=nowhere") == 4
    refused(capsys, 4, "nowhere")


def test_init_takes_over_the_glyph_heads_of_a_training_step(trained, tmp_path, capsys):
    start, encoder = trained / "mid" / "step_000003", trained / "tok" / "deepencoder_000004.safetensors"

    def heads(run_name: str) -> dict[str, Tensor]:
        return load_state(tmp_path / run_name / "step_000001")["heads"]

    flags = ["--steps=1", "--eval_samples=0", "--lr=0"]  # AdamW moves the heads: not with a rate of 0
    assert stage_2(tmp_path, *flags, "--run_name=goes_on", f"--init={start}") == 0
    assert f"glyph heads: those of {start}" in capsys.readouterr().err
    before, after = load_state(start)["heads"], heads("goes_on")
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    # Another encoder was loaded: those heads do not know it.
    assert (
        stage_2(tmp_path, *flags, "--run_name=x", f"--init={start}", f"--resume_from_deepencoder={encoder}")
        == 0
    )
    assert "glyph heads" not in capsys.readouterr().err
    assert not torch.equal(heads("x")["token_head.weight"], before["token_head.weight"])


def test_heads_that_do_not_fit_stay_fresh_and_say_so(trained, tmp_path, make_model):
    small = GlyphLosses(make_model().config)
    before = {name: value.clone() for name, value in small.state_dict().items()}
    assert "have another shape" in take_over_heads(small, trained / "mid" / "step_000003")
    assert "holds none" in take_over_heads(small, tmp_path)
    assert all(torch.equal(value, before[name]) for name, value in small.state_dict().items())


def test_stage_2_refuses_an_encoder_of_another_preset(trained, tmp_path, capsys):
    encoder = trained / "tok" / "deepencoder_000004.safetensors"
    flags = ["--steps=2", "--preset=small", f"--resume_from_deepencoder={encoder}"]
    assert stage_2(tmp_path, *flags) == 4
    refused(capsys, 4, "deepencoder_000004", "'nano'", "'small'")


def test_help_names_every_flag(capsys):
    with pytest.raises(SystemExit) as caught:
        run(vis_mid_train.main, ["--help"])
    assert not caught.value.code
    text = capsys.readouterr().out
    assert all(
        f"--{flag}" in text for flag in ("steps", "text_ratio", "resume_from_deepencoder", "glyph_only")
    )
    # What follows a flag is its comment, which is lost where a formatter takes it off the field's line.
    assert not re.findall(r"--\w+ \S+[\s│]*\(default", text)
