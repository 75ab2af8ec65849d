"""Every value of a fine-tuning run is a flag, and flags that training has too are called the same there."""

import json
from dataclasses import fields

import pytest

from nanoocr.cli.finetune import add_finetune_flags, finetune_command
from nanoocr.cli.flags import Parser
from nanoocr.errors import UsageError
from nanoocr.finetune import run as module
from nanoocr.finetune.plan import FinetuneConfig
from nanoocr.train.config import TrainConfig
from scripts.finetune_goal import GoalConfig, part, tune_config
from tests.finetune.drawn import document

OWN = {"data", "out", "model", "drawn", "hold_out", "eval_drawn", "accept_worse", "accept_doubtful"}


def parsed(*words):
    parser = Parser()
    add_finetune_flags(parser)
    return parser.parse_args(["mine", "--out=model", *words])


def test_every_value_has_a_flag_with_the_default_of_the_config():
    told = vars(parsed())
    assert told == {**{f.name: f.default for f in fields(FinetuneConfig)}, "data": "mine", "out": "model"}
    assert {f.name for f in fields(FinetuneConfig)} - OWN <= {f.name for f in fields(TrainConfig)}


def test_the_command_hands_its_flags_on(monkeypatch, tmp_path):
    seen = []
    outcome = module.Outcome(None, None, None, tmp_path, "a table")
    monkeypatch.setattr(module, "finetune", lambda config: seen.append(config) or outcome)
    assert finetune_command(parsed("--glyph_weight=0.2", "--trained=gpt", "--accept-worse")) == 0
    assert (seen[0].glyph_weight, seen[0].trained, seen[0].accept_worse) == (0.2, "gpt", True)


def test_the_goal_parts_documents_and_tunes_as_the_command_does(tmp_path):
    for seed in range(1, 6):
        page, lines, _ = document(seed)
        page.save(tmp_path / f"{seed}.png")
        (tmp_path / f"{seed}.txt").write_text("\n".join(lines))
    config = GoalConfig(data=str(tmp_path), parts="3,2", seed=3, flags="--steps=7")
    tune, others = part(config, tmp_path / "out")
    names = [sorted(path.name for path in folder.iterdir()) for folder in (tune, others)]
    assert len(names[0]) == 6 and len(names[1]) == 4 and not set(names[0]) & set(names[1])
    told = tune_config(tune, tmp_path / "out", config)
    assert (told.steps, told.seed, told.accept_worse) == (7, 3, True) and json.dumps(told.data)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("lr", bad) for bad in (float("nan"), float("inf"), -1.0)),
        *(("muon_lr", -1.0), ("glyph_weight", -1.0), ("average", 2.0), ("seed", -1), ("threads", 10**5)),
        *(("trained", "eyes"), ("trained", ""), ("dtype", "float16"), ("data", ""), ("out", " ")),
    ],
)
def test_values_that_cannot_work_are_refused_before_anything_is_read(name, value):
    with pytest.raises(UsageError, match=name if name != "data" else "DATA"):
        FinetuneConfig(**{"data": "mine", "out": "model", name: value})
