"""A run whose numbers are none stops before anything of them is saved, and says where they are."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

import nanoocr.train.step
from nanoocr.commandline import run
from nanoocr.data.batch import collate
from nanoocr.data.example import prepare
from nanoocr.data.loader import Delivery, StreamState
from nanoocr.errors import DivergedError
from nanoocr.files import write_folder
from nanoocr.model.folder import complete_steps, load_model, step_folder, step_number
from nanoocr.model.vlm import VLM
from nanoocr.train.checkpoint import best_step, drop_old_steps
from nanoocr.train.config import TrainConfig
from nanoocr.train.finite import notice, some_are_not_finite, stop_if_diverged
from nanoocr.train.recipes import recipe
from nanoocr.train.run import Run
from nanoocr.train.state import TrainState, build_state
from nanoocr.train.step import compute_losses, train_step, update
from scripts import vis_tok_train
from tests.conftest import make_tiny_config

CONFIG = TrainConfig(steps=10, run_name="r")


def stage_1(out: Path, *flags: str) -> int:
    usual = ["--batch_size=1", "--eval_samples=2", "--eval_tokens=2", "--workers=0", "--threads=1"]
    return run(vis_tok_train.main, [*usual, "--dtype=float32", "--run_name=r", f"--out={out}", *flags])


def run_of(out: Path) -> Run:
    return Run(TrainConfig(steps=10, run_name="r", out=str(out)), recipe("scratch", 1))


@pytest.fixture
def state() -> TrainState:
    model = VLM(make_tiny_config())
    model.init_weights(0)
    return build_state(Run(CONFIG, recipe("scratch", 1)), model)


@pytest.fixture
def deliveries(byte_tokenizer, make_row) -> list[Delivery]:
    example = prepare(make_row(0, chars="ab"), byte_tokenizer, ((64, 128),), 100)
    return [Delivery(collate([example], 0), 0, StreamState(0, ()), {}, {})]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_one_bad_number_anywhere_is_seen(bad):
    tensors = [torch.zeros(3), torch.full((2, 2), 1e38), torch.tensor(5.0).bfloat16(), torch.zeros(0)]
    assert not some_are_not_finite(tensors) and not some_are_not_finite([])
    for i in range(3):
        broken = [tensor.clone() for tensor in tensors]
        broken[i].view(-1)[-1] = bad
        assert some_are_not_finite(broken)


def test_a_loss_stops_the_step_before_any_weight_has_changed(state, deliveries, tmp_path, monkeypatch):
    def losses(*args, **flags) -> dict[str, Tensor]:
        found = compute_losses(*args, **flags)
        return {**found, "loss": found["loss"] * math.nan, "total": found["total"] * math.nan}

    monkeypatch.setattr(nanoocr.train.step, "compute_losses", losses)
    before = {name: tensor.clone() for name, tensor in state.model.state_dict().items()}
    with pytest.raises(
        DivergedError, match=r"the loss 'loss', .*the gradients of gpt.*nothing was saved yet"
    ):
        train_step(run_of(tmp_path), state, deliveries)
    assert state.step == 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in state.model.state_dict().items())


def test_a_gradient_is_remembered_until_somebody_looks(state, tmp_path):
    """As on a GPU, where the flag is looked at now and then."""
    parameter = state.model.encoder.sam_model.blocks[0].mlp.lin1.weight
    parameter.grad = torch.full_like(parameter, math.inf)
    notice(state, {"loss": torch.zeros(())})
    with pytest.raises(DivergedError, match="in the gradients of sam;"):
        stop_if_diverged(run_of(tmp_path), state, {})
    parameter.grad = None
    notice(state, {"loss": torch.zeros(())})
    with pytest.raises(DivergedError, match="for a moment"):
        stop_if_diverged(run_of(tmp_path), state, {})


def test_a_weight_is_named_by_its_component(state, tmp_path):
    stop_if_diverged(run_of(tmp_path), state, {})
    with torch.no_grad():
        state.model.encoder.vision_model.transformer.layers[0].mlp.fc1.weight[0, 0] = math.nan
        state.heads.token_head.weight[0, 0] = math.nan
    stop_if_diverged(run_of(tmp_path), state, {}, weights=False)
    with pytest.raises(DivergedError, match="in the weights of clip, the weights of the glyph heads;"):
        stop_if_diverged(run_of(tmp_path), state, {})


def test_a_run_that_diverges_keeps_its_last_good_and_its_best_step(tmp_path, monkeypatch, capsys):
    def losses(state: TrainState, *args, **flags) -> dict[str, Tensor]:
        found = compute_losses(state, *args, **flags)
        return {name: loss * math.nan for name, loss in found.items()} if state.step == 4 else found

    monkeypatch.setattr(nanoocr.train.step, "compute_losses", losses)
    # Validations get worse and worse: the first one stays the best.
    of_step = iter([1.0, 2.0, 3.0, 4.0])
    monkeypatch.setattr("nanoocr.train.validate.report_values", lambda report: {"loss": next(of_step)})
    monkeypatch.setattr("nanoocr.train.loop.check_collapse", lambda log, report: False)
    flags = ["--steps=6", "--save_every=1", "--eval_every=1", "--keep_last=1", "--log_every=1"]
    assert stage_1(tmp_path, *flags) == DivergedError.exit_code == 9
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: stopped after step 4: no finite numbers any more in the loss")
    assert "the gradients of sam" in last and "step_000004: go on with --resume=True" in last
    assert [step_number(folder) for folder in complete_steps(tmp_path / "r")] == [1, 4]
    assert best_step(tmp_path / "r") == 1
    for folder in complete_steps(tmp_path / "r"):
        weights = load_model(folder)[0].state_dict().values()
        assert all(tensor.isfinite().all() for tensor in weights)
    assert '"step": 5' not in (tmp_path / "r" / "metrics.jsonl").read_text()
    monkeypatch.undo()
    assert stage_1(tmp_path, "--steps=5", "--eval_samples=0", "--resume=True") == 0


def test_weights_that_are_none_are_not_saved(tmp_path, monkeypatch, capsys):
    """Also where losses and gradients were finite: an update that was too large."""

    def too_large(run: Run, state: TrainState) -> None:
        update(run, state)
        state.model.gpt.lm_head.weight.data.fill_(math.inf)

    monkeypatch.setattr(nanoocr.train.step, "update", too_large)
    assert stage_1(tmp_path, "--steps=2", "--eval_samples=0", "--save_every=1", "--log_every=2") == 9
    assert "in the weights of gpt;" in capsys.readouterr().err
    assert not complete_steps(tmp_path / "r")


def test_the_best_step_is_not_dropped(tmp_path):
    for step in range(1, 6):
        write_folder(step_folder(tmp_path, step), {})
    (tmp_path / "best.json").write_text(json.dumps({"step": 2, "loss": 1.0}))
    drop_old_steps(tmp_path, 2)
    assert [step_number(folder) for folder in complete_steps(tmp_path)] == [2, 4, 5]
    (tmp_path / "best.json").write_text("[]")
    drop_old_steps(tmp_path, 1)
    assert [step_number(folder) for folder in complete_steps(tmp_path)] == [5]
