"""The shared decoder: rows come and go, and each says what it would say alone."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from nanoocr.errors import UsageError
from nanoocr.inference.draft import Draft
from nanoocr.inference.engine import Engine
from nanoocr.inference.sampling import SamplingConfig
from nanoocr.model.cache import ROOM, KVCache
from nanoocr.serve.decoder import Decoder
from tests.inference.engine_requests import FREE, TOKENIZER, make_request, random_model
from tests.inference.test_draft import corrupted, random_head, stopping_model


class Corrupted(Decoder):
    """A decoder whose drafts are what it would read, with mistakes of every kind."""

    def encode_with_drafts(self, rows):
        vision, _ = super().encode_with_drafts(rows)
        done = Engine(self.model, self.tokenizer).generate([row.request for row in rows], SamplingConfig())
        return vision, [Draft(corrupted(list(one.ids), seed=len(one.ids))) for one in done]


@pytest.mark.parametrize("make", [Decoder, Corrupted])
@pytest.mark.parametrize(
    "sampling", [SamplingConfig(), SamplingConfig(alternatives=2), SamplingConfig(temperature=0.8, seed=3)]
)
def test_rows_that_come_and_go_say_what_they_say_alone(make, sampling):
    """Among them rows longer than a cache begins with, so that it grows while others join."""
    model = stopping_model()
    requests = [
        make_request("x" * (i % 9), (64, 128), seed=i, max_tokens=10 + 9 * (i % 9)) for i in range(36)
    ]
    assert max(len(one.ids) + (one.max_tokens or 0) for one in requests) > ROOM
    alone = [Engine(model, TOKENIZER).generate([one], sampling)[0] for one in requests]
    calls = [range(first, first + 1 + first // 4 % 4) for first in range(0, 36, 4)]
    decoder = make(model, TOKENIZER, random_head(model), max_rows=5)
    try:
        with ThreadPoolExecutor(8) as threads:
            done = list(
                threads.map(lambda call: decoder.generate([requests[i] for i in call], sampling), calls)
            )
    finally:
        decoder.close()
    for call, completions in zip(calls, done, strict=True):
        for i, ours in zip(call, completions, strict=True):
            # Row i of a call draws by the numbers of (seed, i), so only the first one draws as it does alone.
            if sampling.temperature and i > call[0]:
                continue
            assert (ours.ids, ours.status) == (alone[i].ids, alone[i].status)
            assert ours.probabilities == pytest.approx(alone[i].probabilities, abs=1e-4)
            assert likely(ours) == likely(alone[i])


def likely(completion):
    return [[token for token, _ in place] for place in completion.alternatives]


def test_drafts_save_steps():
    model = random_model()
    requests = [make_request("x", (64, 128), seed=i, max_tokens=40) for i in range(8)]
    steps = {}
    for make in (Decoder, Corrupted):
        decoder = make(model, TOKENIZER, random_head(model))
        step, count = decoder._step, []
        decoder._step = lambda lane, step=step, count=count: (count.append(1), step(lane))
        try:
            with torch.inference_mode():
                decoder.generate(requests, SamplingConfig(stop_loops=False))
        finally:
            decoder.close()
        steps[make] = len(count)
    assert steps[Corrupted] < 0.8 * steps[Decoder]


def test_calls_mean_what_they_mean_to_the_engine():
    """No end before the limit where none is asked for, a time of each row, and no batch of nothing."""
    model = stopping_model()
    requests = [make_request("x", (64, 128), seed=i, max_tokens=30) for i in range(3)]
    alone = Engine(model, TOKENIZER).generate(requests, FREE)
    decoder = Decoder(model, TOKENIZER, random_head(model))
    try:
        done = decoder.generate(requests, FREE)
        gone = threading.Event()
        gone.set()  # so that a decoder that takes the call comes back from it
        with pytest.raises(UsageError, match="max_batch must be at least 1"):
            decoder.generate(requests, max_batch=0, cancelled=gone)
        assert any(one.status == "ok" for one in decoder.generate(requests))  # they would end before
    finally:
        decoder.close()
    assert [one.ids for one in done] == [one.ids for one in alone]
    assert {len(one.ids) for one in done} == {30}
    assert all(one.seconds > 0 for one in done)


class Poisoned(Decoder):
    """A decoder that fails with a row of limit 13, in its encoding, in its third token, or at its end."""

    where = ""

    def encode_with_drafts(self, rows):
        fail_if(self.where == "encode" and any(row.limit == 13 for row in rows))
        return super().encode_with_drafts(rows)

    def take(self, row, token, probability, sampling):
        fail_if(self.where == "take" and row.limit == 13 and len(row.ids) == 2)
        super().take(row, token, probability, sampling)

    def complete(self, row):
        fail_if(self.where == "complete" and row.limit == 13)
        return super().complete(row)


def fail_if(wrong):
    if wrong:
        raise ZeroDivisionError("the poisoned row")


@pytest.mark.parametrize("where", ["encode", "take", "complete"])
@pytest.mark.parametrize("sampling", [SamplingConfig(), SamplingConfig(temperature=0.8, seed=3)])
def test_a_row_that_fails_takes_no_neighbour_with_it(where, sampling):
    """Neither those that come with it nor those that are being decoded; the second lane is of long calls."""
    model = random_model()
    requests = [make_request("x", (64, 128), seed=i, max_tokens=20 + i % 3) for i in range(8)]
    bad = make_request("x", (64, 128), seed=99, max_tokens=13)
    alone = [Engine(model, TOKENIZER).generate([one], sampling)[0].ids for one in requests]
    decoder = Poisoned(model, TOKENIZER, random_head(model))
    decoder.where = where
    told = []
    try:
        with ThreadPoolExecutor(10) as threads:
            calls = [threads.submit(decoder.generate, [one], sampling) for one in requests]
            many = threads.submit(
                decoder.generate, [*requests[:6], bad], sampling, tell=lambda i, _: told.append(i)
            )
            for failing in (threads.submit(decoder.generate, [bad], sampling), many):
                with pytest.raises(ZeroDivisionError):
                    failing.result(30)
            assert [one.result(30)[0].ids for one in calls] == alone
            assert decoder.generate([requests[0]], sampling)[0].ids == alone[0]
        assert not any(lane.is_busy for lane in decoder.lanes)
    finally:
        decoder.close()
    assert len(told) == len(set(told))


def test_a_batch_that_is_too_large_for_the_memory_is_decoded_in_parts(monkeypatch):
    model = random_model()
    requests = [make_request("x", (64, 128), seed=i, max_tokens=8 + i) for i in range(4)]
    alone = [Engine(model, TOKENIZER).generate([one], SamplingConfig())[0].ids for one in requests]
    keep = KVCache.keep_rows

    def too_little(self, rows):
        fail_if(len(rows) > 1)
        keep(self, rows)

    monkeypatch.setattr(KVCache, "keep_rows", too_little)
    decoder = Decoder(model, TOKENIZER)
    try:
        assert [one.ids for one in decoder.generate(requests)] == alone
    finally:
        decoder.close()
