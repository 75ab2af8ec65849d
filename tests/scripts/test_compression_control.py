"""Text compressed without a picture, and the script that compares it with pictures."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from nanoocr.commandline import run
from nanoocr.data.synth import find_fonts
from nanoocr.errors import UsageError
from nanoocr.inference.engine import Engine, Request
from nanoocr.model.folder import save_model
from nanoocr.model.pooled_text import PooledText
from nanoocr.tokenizer import render_for_completion
from scripts import compression_control
from scripts.compression_control import (
    KINDS,
    LONGEST_WORD,
    MEAN,
    PICTURE,
    PLACED,
    Way,
    conversation,
    draw_view,
    loss_of,
    read_back,
    samples_of,
    train_together,
)

FONTS = find_fonts()[:2]
SAMPLES = samples_of(3, 0, 12, 24, FONTS)
TABLE = torch.randn(7, 4, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def model(make_model):
    return make_model(sequence_len=512)


# the pooled embeddings


def test_a_vector_is_the_mean_of_its_window():
    ids = torch.tensor([[0, 1, 2, 3, 4, 5]])
    mean = PooledText(TABLE, 3, placed=False)
    torch.testing.assert_close(mean(ids), torch.stack([TABLE[:3].mean(0), TABLE[3:6].mean(0)])[None])
    placed = PooledText(TABLE, 3, placed=True)
    of_places = torch.stack([placed.tables[place, place] for place in range(3)])
    torch.testing.assert_close(placed(ids)[0, 0], of_places.mean(0))
    assert torch.equal(placed.tables[0], TABLE) and torch.equal(placed.tables[1], TABLE.roll(1, dims=1))


def test_a_mean_forgets_the_order_and_tables_for_each_place_keep_it():
    ids = torch.tensor([[0, 1, 2], [2, 1, 0]])
    assert torch.allclose(*PooledText(TABLE, 3, placed=False)(ids))
    assert not torch.allclose(*PooledText(TABLE, 3, placed=True)(ids))


@pytest.mark.parametrize(("window", "named"), [(0, "at least 1 character"), (4, "windows of 4")])
def test_windows_that_do_not_fit(window, named):
    with pytest.raises(UsageError, match=named):
        PooledText(TABLE, window, placed=False)(torch.tensor([[0, 1, 2, 3, 4, 5]]))


# texts and pictures


def test_texts_have_one_length_and_both_kinds():
    assert [len(s.text) for s in SAMPLES] == [24] * 12
    assert all(s.text == " ".join(s.text.split()) for s in SAMPLES)
    assert max(len(word) for s in SAMPLES for word in s.text.split()) <= LONGEST_WORD + 1
    assert {s.kind for s in SAMPLES} == set(KINDS) and len({s.text for s in SAMPLES}) == 12
    assert samples_of(3, 4, 2, 24, FONTS) == SAMPLES[4:6]


@pytest.mark.parametrize("cells", [1, 2, 12])
def test_every_text_is_drawn_whole(cells):
    for sample in SAMPLES:
        view = draw_view(sample, cells)
        assert view.shape == (3, 64, 64 * cells)
        edges = torch.cat([view[:, [0, -1]].flatten(), view[:, :, [0, -1]].flatten()])
        assert view.min() < 0 < edges.min()  # ink, and none that is cut off at an edge


# one way


def test_reading_back_a_picture_says_what_the_engine_says(model, byte_tokenizer):
    way = Way(PICTURE, 12, model, byte_tokenizer)
    said = read_back(way, SAMPLES[:3])
    count = way.prefix(way.inputs(SAMPLES[:1])).size(1)
    ids = render_for_completion(conversation(""), byte_tokenizer, image_token_counts=[count])
    requests = [Request(tuple(ids), (draw_view(s, 2),), max_tokens=28) for s in SAMPLES[:3]]
    assert said == [done.text for done in Engine(model, byte_tokenizer).generate(requests)]


@pytest.mark.parametrize("name", [PICTURE, MEAN, PLACED])
def test_every_way_gives_equally_many_vectors_and_trains_them(name, model, byte_tokenizer):
    way = Way(name, 12, model, byte_tokenizer)
    prefix = way.prefix(way.inputs(SAMPLES[:4]))
    assert prefix.shape == (4, 2 + 2, model.config.gpt.n_embd)
    loss_of(way, SAMPLES[:4]).backward()
    source = model.encoder.projector.layers.weight if way.pooled is None else way.pooled.tables
    assert source.grad is not None and source.grad.abs().sum() > 0
    assert way.pooled is None or model.encoder.projector.layers.weight.grad is None


class Costly:
    """A training whose steps cost what is said, and do nothing else."""

    config = SimpleNamespace(seconds=1.0)

    def __init__(self, cost: float) -> None:
        self.cost, self.seconds, self.steps = cost, 0.0, 0

    def step(self, _: object) -> None:
        self.seconds, self.steps = self.seconds + self.cost, self.steps + 1


def test_all_ways_train_for_the_same_time_and_not_for_the_same_steps():
    dear, cheap = Costly(0.3), Costly(0.1)
    train_together([dear, cheap], FONTS)
    assert dear.steps == 4 and cheap.steps in (10, 11)
    assert 1.0 <= cheap.seconds <= 1.1 and 1.0 <= dear.seconds <= 1.3


# the script


@pytest.fixture
def flags(model, byte_tokenizer, tmp_path):
    save_model(tmp_path / "model", model, byte_tokenizer)
    few = ["--ratios=12", "--texts=2", "--seconds=0.01"]
    return [f"--model={tmp_path / 'model'}", f"--out={tmp_path / 'out'}", *few]


def test_the_whole_measurement_in_miniature(flags, tmp_path, capsys):
    assert run(compression_control.main, [*flags, "--ways=mean"]) == 0
    first = json.loads((tmp_path / "out" / "control.json").read_text())["points"]
    capsys.readouterr()
    assert run(compression_control.main, flags) == 0
    printed, said = capsys.readouterr()
    points = json.loads(printed.splitlines()[-1])["points"]
    assert points[: len(first)] == first and "mean" not in said  # what was measured is not measured again
    assert {p["way"] for p in points} == {PICTURE, MEAN, PLACED}
    assert [p["steps"] for p in points if p["way"] == PICTURE] == [0, 1]
    assert all(p[kind]["bits"] > 0 for p in points for kind in KINDS)
    assert all(0 <= p[kind]["low"] <= p[kind]["cer"] <= p[kind]["high"] for p in points for kind in KINDS)
    drawing = (tmp_path / "out" / "control.svg").read_text()
    assert "<svg" in drawing and "picture, as packaged" in drawing
    assert run(compression_control.main, [*flags, "--lr=1"]) == 2
    assert "other settings" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ("--ratios=5", "--ratios=5"),
        ("--ratios=x", "--ratios=x"),
        ("--ways=sound", "sound"),
        ("--texts=1", "--texts"),
    ],
)
def test_mistakes(wrong, named, flags, capsys):
    assert run(compression_control.main, [*flags, wrong]) == 2
    error = capsys.readouterr().err
    assert named in error and error.count("\n") == 1


# what the documentation says

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_page_shows_what_was_measured():
    page = (DOCS / "compression.md").read_text()
    points = json.loads((DOCS / "compression_control.json").read_text())["points"]
    trained = [point for point in points if point["steps"]]
    assert len(trained) == 12
    for point in trained:
        row = f"| {point['ratio']} | {point['way']} | {point['steps']} |"
        (line,) = [line for line in page.splitlines() if line.startswith(row)]
        for kind in KINDS:
            found = point[kind]
            assert f"{found['cer']:.1%} (" in line and f"{found['phase']} | {found['bits']:.2f} |" in line
