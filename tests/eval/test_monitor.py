"""Collapse must show, health must not look like it, and a model that does not look must have gap 0."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from nanoocr.data.rows import Turn
from nanoocr.errors import UsageError
from nanoocr.eval import reading
from nanoocr.eval.feature_health import feature_health, picture_vector
from nanoocr.eval.reading import ReadingReport, RowResult, evaluate_reading
from nanoocr.train.validate import FEWEST_FOR_COLLAPSE, check_collapse

N, D = 24, 64
MEAN = torch.randn(D, generator=torch.Generator().manual_seed(4)) * 30  # what LayerNorms and biases share


def healthy() -> torch.Tensor:
    return MEAN + torch.randn(N, D)


def identical() -> torch.Tensor:
    return MEAN + 1e-4 * torch.randn(N, D)


def on_a_line() -> torch.Tensor:
    return MEAN + torch.randn(N, 1) * torch.randn(D) + 1e-3 * torch.randn(N, D)


def plain_cosine(features: torch.Tensor) -> float:
    similar = F.cosine_similarity(features[:, None], features[None], dim=-1)
    return float(similar[~torch.eye(len(features), dtype=torch.bool)].mean())


def test_healthy_features():
    health = feature_health(healthy(), MEAN + 5 * torch.randn(D))
    assert health.centred_cosine < 0.3
    assert health.effective_rank > 0.7 * (N - 1)
    assert health.spread > 0.01
    assert health.blank_distance > 2


def test_collapse_to_a_line_shows():
    health = feature_health(on_a_line(), MEAN)
    assert health.effective_rank < 1.1
    assert health.centred_cosine > 0.9


def test_collapse_to_a_point_shows():
    """Noise around one point has full rank: the spread tells."""
    assert feature_health(identical(), MEAN).spread < 1e-5
    assert feature_health(healthy(), MEAN).spread > 1000 * feature_health(identical(), MEAN).spread


@pytest.mark.parametrize(
    ("features", "collapsed"),
    [(healthy(), []), (on_a_line(), ["clip"]), (identical(), ["clip"]), (torch.ones(N, D), ["clip"])],
    ids=["healthy", "line", "point", "identical"],
)
def test_a_validation_warns_of_every_collapse(features, collapsed):
    health = {"sam": feature_health(healthy(), MEAN), "clip": feature_health(features, MEAN)}
    row = RowResult("a", "test", "truth", "text", "text", 1.0, 0.1, 0.9, 0.1, "ok")
    report = ReadingReport((row,) * FEWEST_FOR_COLLAPSE, 1.0, 0.1, 0.9, 0.8, health)
    said: list[str] = []
    log = SimpleNamespace(say=said.append)
    assert check_collapse(log, report) == bool(collapsed)
    assert [line.split()[3].strip(":") for line in said] == collapsed
    assert all("COLLAPSE" in line for line in said)
    few = replace(report, rows=report.rows[1:])
    assert not check_collapse(log, few) and not check_collapse(log, None)


def test_the_plain_cosine_could_not_tell():
    assert plain_cosine(healthy()) > 0.99 and plain_cosine(on_a_line()) > 0.99


def test_a_shared_mean_changes_nothing_but_the_spread():
    features, blank = torch.randn(N, D), torch.randn(D)
    a, b = feature_health(features, blank), feature_health(features + 100, blank + 100)
    for name in ("centred_cosine", "effective_rank", "blank_distance"):
        assert getattr(a, name) == pytest.approx(getattr(b, name), rel=1e-4)
    assert b.spread < 0.1 * a.spread


def test_effective_rank_counts_equal_directions():
    directions = torch.eye(D)[:5]
    features = torch.cat([directions, -directions])  # mean 0, five directions of equal share
    assert feature_health(features, torch.ones(D)).effective_rank == pytest.approx(5.0, rel=1e-6)


def test_identical_features_give_numbers():
    health = feature_health(torch.ones(4, D), torch.ones(D))
    assert all(value == value and value < 1e6 for value in health)
    assert health.spread == 0


def test_a_blank_picture_among_the_others_shows():
    features = healthy()
    assert feature_health(features, features.mean(0)).blank_distance < 1e-5


def test_picture_vector_keeps_the_places_apart():
    tokens = torch.randn(2, 5, 3)
    assert picture_vector(tokens).shape == (2, 15)
    assert not torch.equal(picture_vector(tokens), picture_vector(tokens.flip(1)))


# ---------------------------------------------------------------------------------------------------------
# the report over a set of rows


@pytest.fixture
def rows(make_row):
    return [make_row(i, answer=f"word{i} tail{i}") for i in range(4)]


def test_report_of_a_random_model(tiny_model, byte_tokenizer, rows):
    report = evaluate_reading(tiny_model, byte_tokenizer, rows, max_tokens=6)
    assert [row.id for row in report.rows] == ["row0", "row1", "row2", "row3"]
    assert report.loss == pytest.approx(sum(row.loss for row in report.rows) / 4)
    assert all(0 < row.loss < 50 for row in report.rows)
    assert report.overlap < 0.5 and report.cer > 0.5  # it has not learnt anything
    assert set(report.health) == {"sam", "clip", "projected"}
    assert all(health.effective_rank > 1.5 for health in report.health.values())
    assert report.to_dict()["health"]["sam"]["spread"] == report.health["sam"].spread


def test_row_loss_is_the_mean_over_the_supervised_tokens(tiny_model, byte_tokenizer, rows):
    """The answer's bytes and the end token, one by one."""
    report = evaluate_reading(tiny_model, byte_tokenizer, rows, max_tokens=1)
    example = reading.prepare(rows[2], byte_tokenizer, tiny_model.config.views, 128)
    vision = tiny_model.encode(example.pixels)
    hidden = tiny_model.gpt(tiny_model.embed(torch.tensor([example.ids]), vision))
    log_p = tiny_model.gpt.logits(hidden)[0].log_softmax(-1)
    answer = [*rows[2].answer.encode(), byte_tokenizer.assistant_end_id]
    start = len(example.ids) - len(answer)
    expected = -sum(log_p[start - 1 + i, token] for i, token in enumerate(answer)) / len(answer)
    assert report.rows[2].loss == pytest.approx(expected.item(), rel=1e-4)


def answers_by(looks: bool, rows, tokenizer):
    """A stand-in for the model that knows all answers by heart: by picture, or by question alone."""
    prepared = [reading.prepare(row, tokenizer, ((64, 128),), 200) for row in rows]

    def key(example) -> object:
        question = example.ids[: example.ids.index(tokenizer.user_end_id)]
        return example.pixels[0].overview.numpy().tobytes() if looks else tuple(question)

    known = {key(example): row.answer for example, row in zip(prepared, rows)}
    return lambda model, tok, examples, max_tokens: [(known.get(key(e), ""), "ok") for e in examples]


def test_a_model_that_looks_has_gap_one(tiny_model, byte_tokenizer, rows, monkeypatch):
    monkeypatch.setattr(reading, "read_examples", answers_by(True, rows, byte_tokenizer))
    report = evaluate_reading(tiny_model, byte_tokenizer, rows)
    assert report.overlap == report.grounding_gap == 1 and report.cer == 0


@pytest.mark.parametrize("prompts", [["Read."] * 4, ["Read.", "What is the total?", "List.", "Chart?"]])
def test_a_model_that_does_not_look_has_gap_zero(tiny_model, byte_tokenizer, rows, monkeypatch, prompts):
    """It recites by the question alone. With the wrong picture the question must stay the row's own."""
    rows = [replace(row, turns=(Turn(prompt, row.answer),)) for row, prompt in zip(rows, prompts)]
    monkeypatch.setattr(reading, "read_examples", answers_by(False, rows, byte_tokenizer))
    assert evaluate_reading(tiny_model, byte_tokenizer, rows).grounding_gap == pytest.approx(0)


def test_wrong_pictures_may_be_of_another_size(tiny_model, byte_tokenizer, make_row):
    rows = [make_row(0, size=(64, 128)), make_row(1, size=(128, 128)), make_row(2, size=(64, 128))]
    report = evaluate_reading(tiny_model, byte_tokenizer, rows, max_tokens=3)
    assert len(report.rows) == 3 and report.health == {}


def test_a_larger_wrong_picture_does_not_make_a_row_too_long(tiny_model, byte_tokenizer, make_row):
    """Every row fits into the sequence with its own picture; the exchange must not end a run."""
    rows = [make_row(0, answer="x" * 114), make_row(1, size=(128, 128))]
    lengths = [len(reading.prepare(row, byte_tokenizer, tiny_model.config.views, 128).ids) for row in rows]
    assert lengths[0] == 128
    assert len(evaluate_reading(tiny_model, byte_tokenizer, rows, max_tokens=3).rows) == 2


def test_too_few_rows_or_rows_without_pictures_are_refused(tiny_model, byte_tokenizer, rows):
    with pytest.raises(UsageError, match="two rows"):
        evaluate_reading(tiny_model, byte_tokenizer, rows[:1])
    with pytest.raises(UsageError, match="picture"):
        evaluate_reading(tiny_model, byte_tokenizer, [*rows, replace(rows[0], pictures=())])
    assert len(evaluate_reading(tiny_model, byte_tokenizer, rows[:1], wrong_pictures=False).rows) == 1
