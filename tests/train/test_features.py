"""The feature regulariser: what it is zero for, where its gradient points, and that it is off by default."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from nanoocr.data.batch import Batch, collate
from nanoocr.data.example import prepare
from nanoocr.eval.feature_health import feature_health
from nanoocr.image_process import MODES
from nanoocr.model.vlm import VLM
from nanoocr.train.config import TrainConfig
from nanoocr.train.distributed import World
from nanoocr.train.recipes import Recipe, recipe
from nanoocr.train.run import Run
from nanoocr.train.state import build_state
from nanoocr.train.step import Totals, compute_losses
from nanoocr.train.vicreg import compared_pictures, variance_covariance


def balanced(count: int) -> Tensor:
    """(count, count - 1) of +-1: no column has a mean, none follows another (Sylvester's matrices)."""
    matrix = torch.ones(1, 1)
    while len(matrix) < count:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    return matrix[:, 1:]


def test_it_is_zero_where_features_spread_and_none_follows_another():
    assert variance_covariance(balanced(8) + 3.0) == pytest.approx(0.0, abs=1e-6)  # a mean is no matter
    doubled = torch.cat([balanced(8), balanced(8)], dim=1)
    assert variance_covariance(doubled) > 0.01  # every feature has a twin
    assert variance_covariance(0.1 * balanced(8)) > 0.3  # too near to each other


def test_many_features_of_few_pictures_weigh_no_more_than_few():
    """Where all directions weigh the same the covariance is 1 at most, times its weight, for any width."""
    few, many = (float(variance_covariance(0.6 * torch.randn(16, width))) for width in (64, 4096))
    assert 0 < many < 0.15 and many == pytest.approx(few, rel=0.5)


@pytest.mark.parametrize("start", ["together", "on a line"])
def test_its_gradient_takes_collapsed_features_apart(start):
    noise = torch.randn(12, 40)
    spread = 0.02 * noise if start == "together" else torch.randn(12, 1) * torch.ones(1, 40) + 0.01 * noise
    vectors = (1.0 + spread).requires_grad_()
    optimizer = torch.optim.Adam([vectors], lr=0.01)
    before = feature_health(vectors.detach(), torch.zeros(40))
    first = variance_covariance(vectors)
    for _ in range(1000):
        optimizer.zero_grad()
        variance_covariance(vectors).backward()
        optimizer.step()
    after = feature_health(vectors.detach(), torch.zeros(40))
    assert variance_covariance(vectors) < 0.3 * first
    if start == "together":
        assert after.spread > 10 * before.spread
    else:
        assert before.effective_rank < 1.1 and after.effective_rank > 5
        assert after.centred_cosine < 0.5 * before.centred_cosine


# ---------------------------------------------------------------------------------------------------------
# within a step


@pytest.fixture
def batches(byte_tokenizer, make_row, tiny_config) -> list[Batch]:
    """Three pictures of one size and one of another; one picture; none."""
    rows = [make_row(i, size=(128, 128) if i == 2 else (64, 128)) for i in range(5)]
    examples = [prepare(row, byte_tokenizer, tiny_config.views, 128) for row in rows]
    text = prepare(replace(rows[0], pictures=()), byte_tokenizer, tiny_config.views, 128)
    return [collate(examples[:4], 0), collate(examples[4:], 0), collate([text], 0)]


def losses_of(model: VLM, chosen: Recipe, *batches: Batch) -> list[dict[str, Tensor]]:
    state = build_state(Run(TrainConfig(), chosen), model)
    totals = Totals.of(batches, World())
    return [compute_losses(state, batch, chosen, totals) for batch in batches]


def test_only_pictures_that_can_be_compared_count(batches):
    assert [sorted(map(len, compared_pictures(batch))) for batch in batches] == [[0, 3], [0], []]
    assert Totals.of(batches, World()).compared == 3


def test_tiles_are_not_compared(byte_tokenizer, make_row):
    rows = [make_row(i, size=(700, 1400)) for i in range(2)]
    batch = collate([prepare(row, byte_tokenizer, (), 4096, MODES["gundam"]) for row in rows], 0)
    sizes = {group.pixels.size(1): rows for group, rows in zip(batch.views, compared_pictures(batch))}
    assert sizes == {640: [], 1024: [0, 1]}


def test_off_changes_nothing_and_on_adds_its_share(make_model, batches):
    off, on = recipe("deepseek", 1), replace(recipe("deepseek", 1), feature_weight=0.5)
    plain, kept = losses_of(make_model(), off, *batches), losses_of(make_model(), on, *batches)
    for without, with_it in zip(plain, kept):
        assert set(without) == {"loss", "total"} and torch.equal(without["total"], without["loss"])
        assert torch.equal(without["loss"], with_it["loss"])
    assert kept[0]["feature"] > 0 and "feature" not in kept[1] and "feature" not in kept[2]
    torch.testing.assert_close(kept[0]["total"], kept[0]["loss"] + 0.5 * kept[0]["feature"])


def test_a_step_is_the_mean_over_the_pictures_of_its_micro_batches(make_model, batches):
    """Twice the same micro-batch is the same loss; its shares add up."""
    on = replace(recipe("deepseek", 1), feature_weight=1.0)
    (once,) = losses_of(make_model(), on, batches[0])
    twice = losses_of(make_model(), on, batches[0], batches[0])
    torch.testing.assert_close(sum(part["feature"] for part in twice), once["feature"])


def test_it_reaches_the_encoder_alone(make_model, batches):
    on, model = replace(recipe("deepseek", 1), feature_weight=1.0), make_model()
    (losses,) = losses_of(model, on, batches[0])
    losses["feature"].backward()
    assert all(p.grad is None for p in model.gpt.parameters())
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.encoder.projector.parameters())
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.encoder.sam_model.parameters())
