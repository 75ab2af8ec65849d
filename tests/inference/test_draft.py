"""Drafts change how fast a text is read, never the text."""

from __future__ import annotations

import random

import pytest
import torch

from nanoocr.alphabet import CLASS_OF
from nanoocr.config import SLOTS
from nanoocr.errors import CheckpointError
from nanoocr.inference.draft import Draft, behind, draft_texts
from nanoocr.inference.engine import Engine
from nanoocr.inference.sampling import SamplingConfig
from nanoocr.model.folder import HEADS, load_heads, load_model, save_model
from nanoocr.model.glyph_heads import CLASSES, GlyphHeads, PatchHead
from nanoocr.train.checkpoint import save_step
from scripts.dev import ship_model
from tests.inference.engine_requests import FREE, TOKENIZER, make_request, mixed_requests, random_model


def random_head(model, seed: int = 3) -> PatchHead:
    head = PatchHead(model.config)
    generator = torch.Generator().manual_seed(seed)
    torch.nn.init.normal_(head.patch_head.weight, generator=generator)
    torch.nn.init.normal_(head.patch_head.bias, generator=generator)
    return head


class Corrupted(Engine):
    """An engine whose drafts are what it would read, with mistakes of every kind."""

    passes = 0

    def encode_with_drafts(self, rows):
        vision, _ = super().encode_with_drafts(rows)
        requests = [row.request for row in rows]
        done = Engine(self.model, self.tokenizer).generate(requests, SamplingConfig(stop_loops=False))
        return vision, [Draft(corrupted(list(one.ids), seed=len(one.ids))) for one in done]

    def _judge(self, *args):
        self.passes += 1
        return super()._judge(*args)


def corrupted(ids: list[int], seed: int) -> list[int]:
    """One token in six is another one, is missing, or stands twice."""
    dice = random.Random(seed)
    out = []
    for token in ids:
        kind = dice.randrange(18)
        out += {0: [dice.randrange(256)], 1: [], 2: [token, token]}.get(kind, [token])
    return out


def stopping_model():
    model = random_model(seed=7)
    model.gpt.lm_head.weight.data[TOKENIZER.assistant_end_id] *= 3  # likely enough to come now and then
    return model


@pytest.mark.parametrize("sampling", [FREE, SamplingConfig()])
def test_the_text_is_that_of_plain_greedy_decoding(sampling):
    model = stopping_model()
    requests = [make_request("x" * (i % 9), (64, 128), seed=i, max_tokens=10 + i % 50) for i in range(150)]
    plain = Engine(model, TOKENIZER).generate(requests, sampling)
    engine = Corrupted(model, TOKENIZER, random_head(model))
    drafted = engine.generate(requests, sampling)
    assert [c.ids for c in drafted] == [c.ids for c in plain]
    assert [(c.text, c.status, c.places, c.tokens) for c in drafted] == [
        (c.text, c.status, c.places, c.tokens) for c in plain
    ]
    for ours, theirs in zip(drafted, plain):
        assert ours.probabilities == pytest.approx(theirs.probabilities, abs=1e-4)
        assert ours.stop_probability == pytest.approx(theirs.stop_probability, abs=1e-4)


def test_good_drafts_need_few_passes():
    model = random_model()
    requests = [make_request("x", (64, 128), seed=i, max_tokens=60) for i in range(8)]
    engine = Corrupted(model, TOKENIZER, random_head(model))
    engine.generate(requests, SamplingConfig(stop_loops=False))
    assert engine.passes < 40  # of 60


def test_a_bad_head_changes_nothing_for_any_kind_of_request():
    model = random_model()
    requests = mixed_requests()
    drafted = Engine(model, TOKENIZER, random_head(model)).generate(requests, FREE, max_batch=4)
    assert [c.ids for c in drafted] == [c.ids for c in Engine(model, TOKENIZER).generate(requests, FREE)]


def test_the_pieces_of_a_stream_add_up():
    model = stopping_model()
    requests = [make_request("x" * i, (64, 128), seed=i, max_tokens=30) for i in range(6)]
    engine = Corrupted(model, TOKENIZER, random_head(model))
    pieces = dict.fromkeys(range(len(requests)), "")
    for event in engine.stream(requests, FREE, max_batch=4):
        pieces[event.row] += event.text
    assert list(pieces.values()) == [c.text for c in Engine(model, TOKENIZER).generate(requests, FREE)]


@pytest.mark.parametrize(
    "sampling",
    [SamplingConfig(temperature=1.0, ignore_stop=True), SamplingConfig(no_repeat_ngram=3, ignore_stop=True)],
)
def test_sampling_and_the_guard_work_as_without_a_head(sampling):
    model = random_model()
    requests = mixed_requests()
    drafted = Engine(model, TOKENIZER, random_head(model)).generate(requests, sampling)
    assert [c.ids for c in drafted] == [c.ids for c in Engine(model, TOKENIZER).generate(requests, sampling)]


def test_a_draft_has_the_named_characters_and_blanks_where_they_stand_apart():
    slots = torch.full((1, 4, 12, SLOTS, CLASSES), 0.0)
    slots[..., 0] = 9.0
    columns = slots.flatten(2, 3)
    for column, char in {0: "n", 2: "o", 4: "a", 8: "b", 10: "o", 11: "o", 13: "n", 15: "a"}.items():
        columns[0, 1, column, CLASS_OF[char]] = 18.0
    # The o that two columns name is one letter on their border.
    assert draft_texts(columns.unflatten(2, (12, SLOTS))) == ["noa bona"]


@pytest.mark.parametrize(
    ("said", "tokens", "rest"),
    [
        (b"abX", b"abcdef", b"def"),  # exchanged
        (b"abd", b"abcdef", b"ef"),  # one too many in the draft
        (b"ab ", b"abcdef", b"cdef"),  # a blank that it lacks
        (b"abXcd", b"abcdef", b"ef"),  # a letter that it lacks, known by what follows
        (b"a", b"", b""),
    ],
)
def test_the_rest_of_a_draft_begins_behind_what_was_said(said, tokens, rest):
    assert tokens[behind(said, tokens) :] == rest


def test_a_folder_keeps_the_head_and_works_without_one(tmp_path):
    model = random_model()
    head = random_head(model)
    save_model(tmp_path / "with", model, TOKENIZER, head=head)
    save_model(tmp_path / "without", model, TOKENIZER)
    found = load_heads(tmp_path / "with", model.config)
    assert found is not None
    torch.testing.assert_close(found.state_dict(), head.state_dict())
    assert load_heads(tmp_path / "without", model.config) is None
    load_model(tmp_path / "with")
    (tmp_path / "with" / HEADS).write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match=HEADS):
        load_heads(tmp_path / "with", model.config)


def test_the_shipped_folder_gets_the_head_of_the_training_step(tmp_path, capsys):
    model = random_model()
    heads = GlyphHeads(model.config)
    step = save_step(tmp_path, 5, model, TOKENIZER, {"run": {}}, {"heads": heads.state_dict()})
    assert ship_model.main([f"--checkpoint={step}", f"--out={tmp_path / 'out'}"]) == 0
    found = load_heads(tmp_path / "out", model.config)
    assert found is not None
    torch.testing.assert_close(
        found.patch_head.weight, heads.patch_head.weight.detach(), atol=1e-3, rtol=1e-3, check_stride=False
    )
