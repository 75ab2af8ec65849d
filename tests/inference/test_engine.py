"""The engine against a naive loop without cache, streams, and requests that it refuses."""

from __future__ import annotations

import json
import math

import pytest
import torch

from nanoocr.errors import UsageError
from nanoocr.inference.engine import Engine, Request, never_generated
from nanoocr.inference.sampling import (
    SamplingConfig,
)
from scripts.bench import engine as bench_engine
from scripts.bench.engine import generate_naive
from tests.inference.engine_requests import (
    FREE,
    TOKENIZER,
    make_request,
    mixed_requests,
    random_model,
    scripted,
)


@pytest.mark.parametrize("n_kv_head", [4, 2, 1])
@pytest.mark.parametrize("max_batch", [32, 4, 1])
def test_equals_naive_loop(n_kv_head, max_batch):
    model = random_model(n_kv_head=n_kv_head)
    requests = mixed_requests()
    completions = Engine(model, TOKENIZER).generate(requests, FREE, max_batch=max_batch)
    expected = [generate_naive(model, TOKENIZER, request, ignore_stop=True) for request in requests]
    assert [list(c.ids) for c in completions] == expected
    assert [len(ids) for ids in expected] == [30, 9, 20, 1, 25, 30]
    assert len({tuple(ids[:9]) for ids in expected}) > 3  # the rows do differ


def test_equals_naive_loop_when_rows_stop_by_themselves():
    model = random_model(seed=7)
    model.gpt.lm_head.weight.data[TOKENIZER.assistant_end_id] *= 3  # likely enough to come now and then
    requests = [make_request("x" * i, (64, 128), seed=i, max_tokens=60) for i in range(12)]
    completions = Engine(model, TOKENIZER).generate(requests, SamplingConfig(stop_loops=False))
    assert [list(c.ids) for c in completions] == [generate_naive(model, TOKENIZER, r) for r in requests]
    assert len({len(c.ids) for c in completions}) > 3  # rows left at different steps
    assert {c.status for c in completions} == {"ok", "truncated"}


def test_the_picture_matters_and_is_encoded_once(monkeypatch):
    model = random_model()
    engine = Engine(model, TOKENIZER)
    right, wrong = (make_request("Read.", (64, 128), seed=seed) for seed in (1, 2))
    calls = []
    encode = model.encode
    monkeypatch.setattr(model, "encode", lambda views: calls.append(len(views)) or encode(views))
    first, second = engine.generate([right, wrong], FREE)
    assert first.ids != second.ids
    assert calls == [2]


def test_encoder_works_in_chunks(monkeypatch):
    model = random_model()
    requests = mixed_requests()
    whole = Engine(model, TOKENIZER).generate(requests, FREE)
    monkeypatch.setattr("nanoocr.inference.encode.CPU_ENCODE_PIXELS", 64 * 128)
    assert [c.ids for c in Engine(model, TOKENIZER).generate(requests, FREE)] == [c.ids for c in whole]


def test_sequence_length_is_used_to_the_last_position():
    model = random_model(sequence_len=40)
    request = make_request("Read.", (64, 128), max_tokens=1000)
    (completion,) = Engine(model, TOKENIZER).generate([request], FREE)
    assert completion.status == "truncated"
    assert len(request.ids) + len(completion.ids) == 41  # the last token is never fed back
    assert list(completion.ids) == generate_naive(model, TOKENIZER, request, ignore_stop=True)


def test_completion_counts_and_confidence():
    model = random_model()
    request = make_request("Read.", (64, 128), max_tokens=6)
    (completion,) = Engine(model, TOKENIZER).generate([request], FREE)
    assert completion.tokens == (4, 9, 6)
    assert completion.text == TOKENIZER.decode_bytes(completion.ids).decode("utf-8", "replace")
    ids = list(request.ids)
    probabilities = []
    for token in completion.ids:
        with torch.no_grad():
            logits = model(torch.tensor([ids]), views=request.views)[0, -1]
        probabilities.append(float(logits.softmax(-1)[token]))
        ids.append(token)
    assert completion.confidence == pytest.approx(sum(probabilities) / 6, rel=1e-4)
    assert completion.seconds > 0


def test_immediate_end_gives_an_empty_text():
    model = random_model()
    model.gpt.lm_head.weight.data.zero_()  # all logits equal: the lowest allowed id wins
    model.gpt.lm_head.weight.data[TOKENIZER.assistant_end_id] = 0
    never = never_generated(model, TOKENIZER)
    assert [i for i in TOKENIZER.special_ids() if not never[i]] == [
        TOKENIZER.bos_id,
        TOKENIZER.assistant_end_id,
    ]
    model.gpt.logits = lambda x: torch.nn.functional.one_hot(
        torch.full(x.shape[:-1], TOKENIZER.assistant_end_id), 266
    ).float()
    (completion,) = Engine(model, TOKENIZER).generate([make_request("a")])
    assert (completion.text, completion.status, completion.confidence) == ("", "ok", None)


def test_stream_pieces_add_up():
    model = random_model()
    engine = Engine(model, TOKENIZER)
    requests = mixed_requests()
    texts = [""] * len(requests)
    completions = [None] * len(requests)
    for event in engine.stream(requests, FREE, max_batch=4):
        assert completions[event.row] is None  # nothing follows a completion
        texts[event.row] += event.text
        completions[event.row] = event.completion
    assert texts == [c.text for c in completions]
    assert [c.ids for c in completions] == [c.ids for c in engine.generate(requests, FREE)]


def test_stream_never_cuts_a_character():
    model = random_model()
    request = make_request("a", max_tokens=60)
    text = "a\u20ac\U0001f600\u00e9z"  # 1, 3, 4, 2 and 1 bytes, a token each
    scripted(model, text.encode(), request)
    events = list(Engine(model, TOKENIZER).stream(request))
    assert [event.text for event in events] == [*text, ""]
    assert events[-1].completion.text == text
    assert events[-1].completion.status == "ok"


def test_stream_ends_with_half_a_character():
    model = random_model()
    request = make_request("a", max_tokens=3)
    scripted(model, "\u00e9\u00e9".encode(), request)
    events = list(Engine(model, TOKENIZER).stream(request))
    assert [event.text for event in events] == ["\u00e9", "\ufffd"]
    assert events[-1].completion.text == "\u00e9\ufffd"


@pytest.mark.parametrize(
    "values",
    [
        {"temperature": -1.0},
        {"temperature": math.nan},
        {"top_k": 0},
        {"top_p": 0.0},
        {"top_p": 1.5},
        {"alternatives": -1},
        {"no_repeat_ngram": 1},
        {"no_repeat_window": 0},
    ],
)
def test_meaningless_sampling_is_refused(values):
    with pytest.raises(UsageError, match=next(iter(values))):
        SamplingConfig(**values)


def test_requests_that_cannot_run_are_refused():
    engine = Engine(random_model(sequence_len=96), TOKENIZER)
    good = make_request("Read.", (64, 128))
    with pytest.raises(UsageError, match="request 1 has a prompt of 104 tokens"):
        engine.generate([good, make_request("x" * 100)])
    with pytest.raises(UsageError, match="request 0 has a prompt of 0 tokens"):
        engine.generate([Request(())])
    with pytest.raises(UsageError, match=r"request 0 holds 4 .* ids but 0 vision tokens"):
        engine.generate([Request(good.ids)])
    with pytest.raises(UsageError, match="max_tokens"):
        engine.generate([Request(good.ids, good.views, max_tokens=0)])
    with pytest.raises(UsageError, match="max_batch"):
        engine.generate([good], max_batch=0)
    # A surplus in one row must not pay for a lack in the next.
    more, less = make_request("a", (64, 128)), make_request("a", (64, 128))
    image = TOKENIZER.image_id
    with pytest.raises(UsageError, match="request 0 holds 5"):
        engine.generate(
            [
                Request((image, *more.ids), more.views),
                Request(tuple(i for n, i in enumerate(less.ids) if n != 2), less.views),
            ]
        )


def test_no_requests_give_no_completions():
    assert Engine(random_model(), TOKENIZER).generate([]) == []


def test_bench_prints_what_it_promises(capsys):
    bench_engine.main(["--random=True", "--cards=2", "--random_tokens=3", "--single_tokens=4", "--repeats=1"])
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (result["batched"]["tokens"], result["single"]["tokens"]) == (6, 4)
    assert (result["batched"]["equal_rows"], result["single"]["equal_rows"]) == (2, 1)
    assert result["batched"]["ratio"] > 0
