"""One step of training: its losses, its gradients, and what it leaves alone."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor

from nanoocr.data.batch import collate
from nanoocr.data.example import prepare
from nanoocr.data.loader import Delivery, StreamState
from nanoocr.errors import UsageError
from nanoocr.eval.reading import evaluate_reading
from nanoocr.model.components import component_of, freeze
from nanoocr.model.vlm import VLM
from nanoocr.train.config import TrainConfig
from nanoocr.train.distributed import World
from nanoocr.train.optim import Muon
from nanoocr.train.recipes import describe, make_optimizers, recipe
from nanoocr.train.run import Run
from nanoocr.train.setup import resolve_recipe
from nanoocr.train.state import build_state
from nanoocr.train.step import Totals, compute_losses, train_step


@pytest.fixture
def batch(byte_tokenizer, make_row, tiny_config):
    """Two sizes, a row without boxes and one without a picture."""
    rows = [
        make_row(0, chars="abcdef"),
        make_row(1, size=(128, 128), chars="xyz"),
        make_row(2),
        make_row(3, chars="ABC"),
    ]
    rows.append(replace(make_row(4), pictures=()))
    return collate([prepare(row, byte_tokenizer, tiny_config.views, 128) for row in rows], 0)


def delivered(*batches) -> list[Delivery]:
    return [Delivery(batch, 0, StreamState(0, ()), {}, {}) for batch in batches]


def losses_of(model: VLM, batch, name: str = "scratch", stage: int = 1, **options) -> dict[str, Tensor]:
    chosen = recipe(name, stage)
    state = build_state(Run(TrainConfig(), chosen), model)
    return compute_losses(state, batch, chosen, Totals.of([batch], World()), **options)


def test_total_is_the_weighted_sum(make_model, batch):
    losses = losses_of(make_model(), batch)
    chosen = recipe("scratch", 1)
    expected = losses["loss"] + chosen.glyph_weight * (losses["glyph_patch"] + losses["glyph_token"])
    torch.testing.assert_close(losses["total"], expected)
    assert all(value.isfinite() for value in losses.values())


def test_the_loss_of_a_step_is_the_models_loss(make_model, batch):
    """The grouped way of training against the plain forward of the model."""
    model = make_model()
    losses = losses_of(model, batch)
    views: list[Tensor] = [torch.empty(0)] * batch.num_pictures
    for group in batch.views:
        for place, pixels in zip(group.indices, group.pixels):
            views[place] = (pixels.permute(2, 0, 1).float() - 127.5) / 127.5
    torch.testing.assert_close(losses["loss"], model(batch.ids, batch.targets, views).mean)


def test_a_compiled_step_is_the_same_step(make_model, batch, monkeypatch):
    """--compile goes through torch.compile; its tracing is checked here, without a C++ compiler."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    chosen, model = recipe("scratch", 1), make_model()
    plain = build_state(Run(TrainConfig(), chosen), model)
    compiled = build_state(Run(TrainConfig(compile=True), chosen), model)
    assert compiled.encode is not plain.encode and compiled.decode is not plain.decode
    compiled.heads = plain.heads
    expected, found = (
        compute_losses(state, batch, chosen, Totals.of([batch], World()))["total"]
        for state in (plain, compiled)
    )
    torch.testing.assert_close(found, expected)


def test_recomputed_blocks_save_memory_and_change_no_gradient(make_model, batch):
    kept, gradients = [], []
    for recompute in (False, True):
        model, chosen, saved = make_model(), recipe("deepseek", 1), []

        def note(tensor: Tensor, saved=saved) -> Tensor:
            saved.append(tensor.numel())
            return tensor

        state = build_state(Run(TrainConfig(recompute=recompute), chosen), model)
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            total = compute_losses(state, batch, chosen, Totals.of([batch], World()))["total"]
        kept.append(sum(saved))
        total.backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    assert kept[1] < 0.6 * kept[0]
    for before, after in zip(*gradients):
        torch.testing.assert_close(after, before)


def test_a_frozen_sam_has_no_glyph_loss_on_its_patches(make_model, batch):
    losses = losses_of(make_model(), batch, stage=2)
    assert "glyph_token" in losses and "glyph_patch" not in losses


def test_glyph_only_leaves_the_language_model_out(make_model, batch):
    model = make_model()
    losses = losses_of(model, batch, glyph_only=True)
    assert "loss" not in losses
    losses["total"].backward()
    assert all(p.grad is None for p in model.gpt.parameters())
    assert all(p.grad is not None for p in model.encoder.sam_model.parameters())


def test_recipes_without_glyph_loss_have_no_heads(make_model, batch):
    assert set(losses_of(make_model(), batch, "deepseek")) == {"loss", "total"}


def test_glyph_loss_does_not_depend_on_how_pictures_are_grouped(make_model, byte_tokenizer, make_row):
    """Each picture as its own group, or all in one: few characters, many, and none known."""
    rows = [make_row(0, chars="abcdefghij"), make_row(1, chars="x"), make_row(2)]
    together = collate([prepare(row, byte_tokenizer, ((64, 128),), 128) for row in rows], 0)
    (group,) = together.views
    alone = tuple(
        group._replace(indices=(i,), pixels=group.pixels[i : i + 1], glyphs=group.glyphs[i : i + 1])
        for i in range(3)
    )
    a, b = (losses_of(make_model(), g) for g in (together, together._replace(views=alone)))
    for name in ("glyph_patch", "glyph_token", "glyph_token_accuracy", "loss"):
        torch.testing.assert_close(a[name], b[name], atol=1e-5, rtol=1e-4)


def test_a_batch_of_text_trains_nothing_where_the_gpt_is_frozen(make_model, byte_tokenizer, make_row):
    model, config = make_model(), TrainConfig(steps=10)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    row = replace(make_row(0), pictures=())
    text = collate([prepare(row, byte_tokenizer, ((64, 128),), 128)], 0)
    chosen = recipe("llava", 1)
    train_step(Run(config, chosen), build_state(Run(config, chosen), model), delivered(text))
    assert all(torch.equal(before[name], p) for name, p in model.named_parameters())


def test_moving_averages(make_model, batch):
    config = TrainConfig(steps=10)
    chosen = recipe("deepseek", 1)
    state = build_state(Run(config, chosen), make_model())
    first = train_step(Run(config, chosen), state, delivered(batch)).losses["loss"]
    assert state.ema["loss"] == first and state.step == 1
    second = train_step(Run(config, chosen), state, delivered(batch)).losses["loss"]
    torch.testing.assert_close(state.ema["loss"], 0.98 * first + 0.02 * second)


def test_frozen_parameters_stay_bit_equal(make_model, batch):
    model = make_model()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    config, chosen = TrainConfig(steps=10), recipe("llava", 1)
    state = build_state(Run(config, chosen), model)
    for _ in range(3):
        train_step(Run(config, chosen), state, delivered(batch))
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]) == (component_of(name) not in chosen.trained), name


def test_rate_follows_the_schedule(make_model, batch):
    config = TrainConfig(steps=10)
    chosen = replace(recipe("deepseek", 1), schedule="trapezoid", warmup=0.2, lr=1e-4)
    state = build_state(Run(config, chosen), make_model())
    rates = []
    for _ in range(10):
        train_step(Run(config, chosen), state, delivered(batch))
        rates.append(state.optimizers[0].param_groups[0]["lr"])
    assert rates == pytest.approx([5e-5, *[1e-4] * 6, 7.5e-5, 5e-5, 2.5e-5])


def test_it_learns_to_read_what_it_looks_at(tiny_config, byte_tokenizer, make_row):
    """Four pictures with the same question and other answers: only who looks can tell them apart."""
    rows = [make_row(i, answer=word) for i, word in enumerate(["apple pie", "red", "12.5 kg", "x"])]
    model = VLM(tiny_config)
    model.init_weights(0)
    batch = collate([prepare(row, byte_tokenizer, tiny_config.views, 128) for row in rows], 0)
    config = TrainConfig(steps=160)
    chosen = replace(recipe("scratch", 1), glyph_weight=0.0, lr=1e-2)
    state = build_state(Run(config, chosen), model)
    for _ in range(config.steps):
        stats = train_step(Run(config, chosen), state, delivered(batch))
    assert stats.losses["loss"] < 0.03
    report = evaluate_reading(model.eval(), byte_tokenizer, rows)
    assert report.overlap == report.grounding_gap == 1.0 and report.cer == 0


def test_rates_of_components(make_model):
    chosen = resolve_recipe(TrainConfig(rates="sam:0.1,gpt:2,wte:5"), 1)
    model = make_model()
    freeze(model, chosen.trained)
    rate_of = {
        parameter: group["base_lr"]
        for optimizer in make_optimizers(model, None, chosen, 0.0)
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    factors = {"sam": 0.1, "gpt": 2.0}
    # the flag's, and those of the recipe that the flag does not name
    ends = {
        "encoder.sam_model.patch_embed.proj.weight": 0.03,
        "gpt.transformer.wte.weight": 5.0,
        "gpt.lm_head.weight": 3.0,
    }
    for name, parameter in model.named_parameters():
        base = (chosen.lr, chosen.muon_lr)
        factor = factors.get(component_of(name), 1.0) * ends.get(name, 1.0)
        assert rate_of[parameter] in {rate * factor for rate in base}, name
    rates = {line["component"]: line["lr"] for line in describe(model, chosen)}
    assert rates["sam"] == "0.002 / 0.0003" and rates["clip"] == "0.02 / 0.003"
    assert rates["gpt: wte"] == "0.03" and rates["gpt: lm_head"] == "0.018"
    assert recipe("deepseek", 1).factors == ()  # pretrained parts keep one rate
    with pytest.raises(UsageError, match="--rates"):
        resolve_recipe(TrainConfig(rates="eye:2"), 1)


def test_matrices_alone_need_no_adamw(make_model):
    chosen = resolve_recipe(TrainConfig(trained="compressor", glyph_weight=0.0), 1)
    model = make_model()
    freeze(model, chosen.trained)
    (muon,) = make_optimizers(model, None, chosen, 0.0)
    assert isinstance(muon, Muon)
