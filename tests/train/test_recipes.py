"""What trains, what is frozen, which optimiser gets it, and which flags change that."""

from __future__ import annotations

import pytest
import torch

from nanoocr.config import preset
from nanoocr.errors import UsageError
from nanoocr.model.components import COMPONENTS, component_of, freeze
from nanoocr.model.vlm import VLM, count_parameters
from nanoocr.train.config import TrainConfig
from nanoocr.train.glyph import GlyphLosses
from nanoocr.train.optim import Muon
from nanoocr.train.recipes import describe, make_optimizers, recipe
from nanoocr.train.setup import resolve_recipe

D20 = {
    "sam": 95_569_152 - 5_898_240,
    "compressor": 5_898_240,
    "clip": 302_575_616,
    "projector": 2_622_720 + 2 * 1280,  # with image_newline and view_seperator
    "gpt": 560_990_720,
}


NO_SAM = ("clip", "projector", "gpt")


@pytest.fixture(scope="module")
def d20() -> VLM:
    with torch.device("meta"):
        return VLM(preset("d20"))


def trained_size(model: VLM) -> int:
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


@pytest.mark.parametrize(
    ("name", "stage", "trained"),
    [
        ("deepseek", 1, COMPONENTS),
        ("deepseek", 2, NO_SAM),  # the paper freezes SAM and the compressor
        ("llava", 1, ("compressor", "projector")),
        ("llava", 2, ("projector", "gpt")),
        ("scratch", 1, COMPONENTS),
        ("scratch", 2, NO_SAM),
    ],
)
def test_trained_components(d20, name, stage, trained):
    freeze(d20, recipe(name, stage).trained)
    assert trained_size(d20) == sum(D20[component] for component in trained)
    for parameter_name, parameter in d20.named_parameters():
        assert parameter.requires_grad == (component_of(parameter_name) in trained), parameter_name


def test_llava_stage_1_trains_what_neither_sam_nor_clip_provides(d20):
    freeze(d20, recipe("llava", 1).trained)
    assert trained_size(d20) == 8_520_960 + 2 * 1280
    names = {name for name, parameter in d20.named_parameters() if parameter.requires_grad}
    assert names == {
        "encoder.sam_model.net_2.weight",
        "encoder.sam_model.net_3.weight",
        "encoder.projector.layers.weight",
        "encoder.projector.layers.bias",
        "encoder.image_newline",
        "encoder.view_seperator",
    }


def test_freezing_can_be_undone(tiny_model):
    freeze(tiny_model, ())
    assert trained_size(tiny_model) == 0
    freeze(tiny_model, COMPONENTS)
    assert trained_size(tiny_model) == count_parameters(tiny_model)


@pytest.mark.parametrize(
    ("name", "stage", "lr", "schedule"),
    [
        ("deepseek", 1, 5e-5, "cosine"),
        ("deepseek", 2, 3e-5, "step"),
        ("llava", 1, 1e-3, "cosine"),
        ("llava", 2, 2e-5, "cosine"),
    ],
)
def test_rates_of_the_published_recipes(name, stage, lr, schedule):
    chosen = recipe(name, stage)
    assert (chosen.lr, chosen.schedule, chosen.optimizer) == (lr, schedule, "adamw")
    assert chosen.glyph_weight == 0


def test_the_glyph_loss_is_scratchs_alone():
    assert recipe("scratch", 1).glyph_weight > 0


def test_unknown_recipe_names_the_choice():
    with pytest.raises(UsageError, match=r"'magic'.*deepseek, llava, scratch"):
        recipe("magic", 1)


def ids_of(optimizer: torch.optim.Optimizer) -> list[int]:
    return [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]


@pytest.mark.parametrize(("name", "stage"), [("scratch", 1), ("scratch", 2), ("deepseek", 2), ("llava", 1)])
def test_every_trained_parameter_is_in_one_optimiser_and_no_frozen_one_in_any(tiny_model, name, stage):
    chosen = recipe(name, stage)
    freeze(tiny_model, chosen.trained)
    heads = GlyphLosses(tiny_model.config)
    held = [i for optimizer in make_optimizers(tiny_model, heads, chosen, 0.0) for i in ids_of(optimizer)]
    wanted = [id(p) for p in [*tiny_model.parameters(), *heads.parameters()] if p.requires_grad]
    assert sorted(held) == sorted(wanted)


def test_muon_gets_the_hidden_matrices_and_adamw_the_rest(tiny_model):
    chosen = recipe("scratch", 1)
    heads = GlyphLosses(tiny_model.config)
    muon, adamw = make_optimizers(tiny_model, heads, chosen, weight_decay=0.1)
    assert isinstance(muon, Muon) and isinstance(adamw, torch.optim.AdamW)
    names = {id(parameter): name for name, parameter in tiny_model.named_parameters()}
    matrices = {names[i] for i in ids_of(muon)}
    assert "gpt.transformer.h.0.attn.c_q.weight" in matrices
    assert "encoder.sam_model.net_2.weight" in matrices
    assert not any(word in name for name in matrices for word in ("bias", "norm", "wte", "lm_head", "pos"))
    assert muon.param_groups[0]["lr"] == muon.param_groups[0]["base_lr"] == chosen.muon_lr
    assert adamw.param_groups[0]["lr"] == adamw.param_groups[0]["base_lr"] == chosen.lr
    assert adamw.param_groups[0]["weight_decay"] == 0.1
    assert {id(parameter) for parameter in heads.parameters()} <= set(ids_of(adamw))


def test_adamw_alone(tiny_model):
    (optimizer,) = make_optimizers(tiny_model, None, recipe("deepseek", 1), 0.0)
    assert isinstance(optimizer, torch.optim.AdamW)


def test_description_adds_up(tiny_model):
    lines = describe(tiny_model, recipe("scratch", 2))
    sizes = {line["component"]: line["parameters"] for line in lines}
    assert set(sizes) == {*COMPONENTS, "sam: patch_embed", "gpt: wte", "gpt: lm_head", "all"}
    assert sizes["all"] == sum(sizes[component] for component in COMPONENTS) == count_parameters(tiny_model)
    frozen = {line["component"] for line in lines if line["optimizer"] == "frozen"}
    assert frozen == {"sam", "compressor", "sam: patch_embed"}


def test_flags_that_were_not_given_leave_the_recipe():
    for name in ("deepseek", "llava", "scratch"):
        for stage in (1, 2):
            assert resolve_recipe(TrainConfig(recipe=name), stage) == recipe(name, stage)


def test_flags_win_over_the_recipe_zero_included():
    config = TrainConfig(
        recipe="scratch", optimizer="adamw", lr=0.5, schedule="constant", warmup=0.0, glyph_weight=0.0
    )
    chosen = resolve_recipe(config, 1)
    assert (chosen.optimizer, chosen.lr, chosen.schedule) == ("adamw", 0.5, "constant")
    assert chosen.warmup == chosen.glyph_weight == 0
    assert chosen.trained == recipe("scratch", 1).trained


def test_muon_without_a_rate_is_refused():
    with pytest.raises(UsageError, match="muon_lr"):
        resolve_recipe(TrainConfig(recipe="deepseek", optimizer="muon"), 1)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"steps": 0}, "--steps"),
        ({"batch_size": -1}, "--batch_size"),
        ({"save_every": 0}, "--save_every"),
        ({"eval_samples": -1}, "--eval_samples"),
        ({"text_ratio": 1.5}, "--text_ratio"),
        ({"glyph_only": -0.1}, "--glyph_only"),
        ({"optimizer": "sgd"}, "--optimizer"),
        ({"too_long": "cut"}, "--too_long"),
        ({"feature_weight": -1.0}, "--feature_weight"),
        ({"schedule": "linear"}, "--schedule"),
        ({"dtype": "float16"}, "--dtype"),
        ({"run_name": "../elsewhere"}, "--run_name"),
        ({"run_name": ""}, "--run_name"),
        ({"lr_step_every": 0}, "--lr_step_every"),  # else a division by zero in the middle of the run
        ({"lr": float("nan")}, "--lr"),
    ],
)
def test_values_that_cannot_work_are_refused_by_name(flags, message):
    with pytest.raises(UsageError, match=message):
        TrainConfig(**flags)
