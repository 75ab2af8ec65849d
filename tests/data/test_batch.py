"""Batches: shifted targets, views by size, and packed lines that train like the same rows one by one."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nanoocr.data.batch import collate, collate_packed, place_documents
from nanoocr.data.example import prepare
from nanoocr.model.vlm import IGNORE, VLM
from nanoocr.train.config import TrainConfig
from nanoocr.train.distributed import World
from nanoocr.train.recipes import recipe
from nanoocr.train.run import Run
from nanoocr.train.state import build_state
from nanoocr.train.step import Totals, compute_losses

VIEWS = ((64, 128), (128, 128))


def test_targets_are_shifted_and_masked_and_padding_is_silent(byte_tokenizer, make_row):
    rows = [make_row(i, answer="abc" * (i + 1)) for i in range(3)]
    examples = [prepare(row, byte_tokenizer, VIEWS, 100) for row in rows]
    batch = collate(examples, pad_id=7)
    length = max(len(example.ids) for example in examples) - 1
    assert batch.ids.shape == batch.targets.shape == (3, length)
    for i, example in enumerate(examples):
        n = len(example.ids) - 1
        assert batch.ids[i, :n].tolist() == example.ids[:-1]
        assert (batch.ids[i, n:] == 7).all() and (batch.targets[i, n:] == IGNORE).all()
        expected = [token if on else IGNORE for token, on in zip(example.ids[1:], example.mask[1:])]
        assert batch.targets[i, :n].tolist() == expected
    assert batch.num_supervised == sum(len(row.answer) + 1 for row in rows)
    assert not (batch.targets == byte_tokenizer.image_id).any()


def test_pictures_are_grouped_by_size_and_keep_their_places(byte_tokenizer, make_row):
    sizes = [(64, 128), None, (128, 128), (64, 128), (128, 128)]
    rows = [make_row(i, size=size or (64, 128)) for i, size in enumerate(sizes)]
    rows[1] = replace(rows[1], pictures=())
    examples = [prepare(row, byte_tokenizer, VIEWS, 200) for row in rows]
    batch = collate(examples, 7)
    assert [group.indices for group in batch.views] == [(0, 2), (1, 3)]  # counted without the text row
    assert batch.num_pictures == 4
    in_order = [example for example in examples if example.pixels]
    for group in batch.views:
        for place, pixels, glyphs in zip(group.indices, group.pixels, group.glyphs):
            assert torch.equal(pixels, in_order[place].pixels[0].overview)
            assert torch.equal(glyphs, in_order[place].glyphs[0].overview)


def test_a_batch_of_text_alone_has_no_pictures(byte_tokenizer, make_row):
    row = replace(make_row(0), pictures=())
    batch = collate([prepare(row, byte_tokenizer, VIEWS, 100)], 7)
    assert batch.views == () and batch.num_pictures == 0


# ---------------------------------------------------------------------------------------------------------
# packed lines


@pytest.fixture
def examples(byte_tokenizer, make_row):
    """Seven rows of several lengths, views and kinds."""
    rows = [
        make_row(i, answer="abc" * (1 + 5 * i % 7), size=VIEWS[i % 2], chars="xy" * (i % 3)) for i in range(6)
    ]
    rows.append(replace(make_row(6, answer="text alone"), pictures=()))
    return [prepare(row, byte_tokenizer, VIEWS, 128) for row in rows]


def packed(examples, length: int = 128):
    lines = [examples[:1], examples[1:4], examples[4:]]
    return collate_packed(lines, length, 7)


def test_documents_stand_one_behind_the_other_with_targets_of_their_own(examples):
    batch = packed(examples)
    start = 0
    for example in examples[1:4]:
        size = len(example.ids) - 1
        assert batch.ids[1, start : start + size].tolist() == example.ids[:-1]
        wanted = [token if on else IGNORE for token, on in zip(example.ids[1:], example.mask[1:])]
        assert batch.targets[1, start : start + size].tolist() == wanted
        assert batch.documents.positions[1, start : start + size].tolist() == list(range(size))
        start += size
    assert (batch.ids[1, start:] == 7).all() and (batch.targets[1, start:] == IGNORE).all()
    assert batch.num_documents == 7 and batch.num_positions == sum(len(e.ids) - 1 for e in examples)
    assert batch.num_supervised == collate(examples, 7).num_supervised


def gradients(model: VLM, batch) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    chosen = recipe("scratch", 1)
    state = build_state(Run(TrainConfig(), chosen), model)
    losses = compute_losses(state, batch, chosen, Totals.of([batch], World()))
    model.zero_grad()
    losses["total"].backward()
    return losses, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_packed_training_equals_training_row_by_row(make_model, examples):
    """Loss and every gradient: documents in one line do not see each other, and positions start anew."""
    model = make_model()
    alone, theirs = gradients(model, collate(examples, 7))
    together, ours = gradients(model, packed(examples))
    for name in ("loss", "glyph_patch", "glyph_token", "total"):
        torch.testing.assert_close(together[name], alone[name], atol=1e-5, rtol=1e-5)
    assert ours.keys() == theirs.keys()
    for name, gradient in theirs.items():
        torch.testing.assert_close(ours[name], gradient, atol=2e-6, rtol=1e-4, msg=name)


def test_without_the_document_tables_the_comparison_fails(make_model, examples):
    model, batch = make_model(), packed(examples)
    together, _ = gradients(model, batch)
    leaking, _ = gradients(model, batch._replace(documents=None))
    assert abs((together["loss"] - leaking["loss"]).item()) > 1e-3


@settings(deadline=None, max_examples=50)
@given(st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=5), min_size=1, max_size=4))
def test_every_position_of_every_document_finds_itself(lines):
    """Through the groups and back again: what attention gives must land where it came from."""
    length = max(sum(line) for line in lines) + 2
    spans, start = [], 0
    for i, line in enumerate(lines):
        start = i * length
        for size in line:
            spans.append((start, size))
            start += size
    documents = place_documents(spans, (len(lines), length))
    everything = torch.cat([places.flatten() for places in documents.groups])
    for first, size in spans:
        places = torch.arange(first, first + size)
        assert torch.equal(everything[documents.inverse[places]], places)
        assert documents.positions.flatten()[places].tolist() == list(range(size))
        wide = [group for group in documents.groups if group.size(1) >= size]
        assert any((group[:, :size] == places).all(1).any() for group in wide)
    assert len(documents.groups) <= 4
