"""How tokens are chosen and rows end: loops, the n-gram guard, sampling."""

from __future__ import annotations

import math

import pytest
import torch

from nanoocr.errors import UsageError
from nanoocr.inference.engine import Engine, Request
from nanoocr.inference.sampling import (
    NgramGuard,
    SamplingConfig,
    draw,
    find_loop,
    stopped_by_loop,
    uniform_numbers,
)
from tests.inference.engine_requests import (
    FREE,
    TOKENIZER,
    make_request,
    mixed_requests,
    random_model,
    scripted,
)


def test_repetition_keeps_the_text_before():
    model = random_model(sequence_len=512)
    request = make_request("a", max_tokens=400)
    scripted(model, b"Total 12.50" + b"abc" * 200, request)
    (completion,) = Engine(model, TOKENIZER).generate([request])
    assert completion.status == "repetition"
    assert completion.text == "Total 12.50abc"
    assert completion.tokens.text == 14
    scripted(model, b"Total 12.50" + b"abc" * 200, request)
    (completion,) = Engine(model, TOKENIZER).generate([request], SamplingConfig(stop_loops=False))
    assert completion.status == "truncated"
    assert len(completion.text) == 400


@pytest.mark.parametrize(
    ("ids", "kept"),
    [
        ([1, 2] + [5] * 96, 3),
        ([1, 2] + [5] * 95, None),  # too short a span
        ([1] + [5, 6, 7] * 40, 4),
        (list(range(60)) * 7, None),  # seven copies only
        (list(range(60)) * 8, 60),
        (list(range(200)), None),
        ([5] * 96 + [6], None),  # it has come out of the loop
    ],
)
def test_surplus_of_loop(ids, kept):
    loop = find_loop(ids)
    assert (loop.surplus if loop else 0) == (0 if kept is None else len(ids) - kept)


def reference_forbidden(ids: list[int], n: int, window: int) -> set[int]:
    """The rule of the released code, by brute force."""
    prefix = ids[len(ids) - n + 1 :]
    starts = range(max(0, len(ids) - window), len(ids) - n + 1)
    return {ids[s + n - 1] for s in starts if ids[s : s + n - 1] == prefix}


@pytest.mark.parametrize(("n", "window"), [(2, 1000), (2, 6), (3, 20), (4, 30)])
def test_ngram_guard_follows_the_rule(n, window):
    config = SamplingConfig(no_repeat_ngram=n, no_repeat_window=window)
    guard = NgramGuard(config)
    generator = torch.Generator().manual_seed(n)
    ids: list[int] = []
    hits = 0
    for token in torch.randint(3, (200,), generator=generator).tolist():
        assert set(guard.forbidden()) == reference_forbidden(ids, n, window)
        hits += bool(guard.forbidden())
        guard.push(token)
        ids.append(token)
    assert hits > 10


def test_ngram_guard_in_the_engine_counts_generated_tokens_only():
    model = random_model(sequence_len=200)
    engine = Engine(model, TOKENIZER)
    requests = [make_request("abababab", (64, 128), seed=seed, max_tokens=120) for seed in (1, 2, 3)]
    plain = engine.generate(requests, FREE)
    guarded = engine.generate(
        requests, SamplingConfig(ignore_stop=True, no_repeat_ngram=2, no_repeat_window=1000)
    )
    for completion in guarded:
        bigrams = list(zip(completion.ids, completion.ids[1:]))
        assert len(bigrams) == len(set(bigrams)) == 119
    assert any(p.ids != g.ids for p, g in zip(plain, guarded))
    assert all(p.ids[:2] == g.ids[:2] for p, g in zip(plain, guarded))


def test_allowed_ids_are_never_forbidden():
    guard = NgramGuard(SamplingConfig(no_repeat_ngram=2, no_repeat_allowed=(7,)))
    for token in (1, 7, 1, 8, 1):
        guard.push(token)
    assert guard.forbidden() == [8]


def test_sampling_does_not_depend_on_the_batch():
    engine = Engine(random_model(), TOKENIZER)
    requests = mixed_requests()
    config = SamplingConfig(temperature=1.0, top_k=20, seed=3, ignore_stop=True, stop_loops=False)
    together = engine.generate(requests, config)
    assert [c.ids for c in engine.generate(requests, config, max_batch=1)] == [c.ids for c in together]
    other = engine.generate(requests, SamplingConfig(temperature=1.0, top_k=20, seed=4, ignore_stop=True))
    assert [c.ids for c in other] != [c.ids for c in together]
    same = make_request("Read.", (64, 128), max_tokens=12)
    first, second = engine.generate([same, same], config)
    assert first.ids != second.ids  # each row has its own numbers


def test_requests_that_come_in_parts_sample_like_the_whole():
    engine = Engine(random_model(), TOKENIZER)
    requests = mixed_requests()
    config = SamplingConfig(temperature=1.0, seed=3, ignore_stop=True, stop_loops=False)
    together = engine.generate(requests, config)
    parts = [*engine.generate(requests[:2], config), *engine.generate(requests[2:], config, first=2)]
    assert [c.ids for c in parts] == [c.ids for c in together]
    streamed = {event.row: event.completion for event in engine.stream(requests[2:], config, first=2)}
    assert [streamed[row].ids for row in range(4)] == [c.ids for c in together[2:]]
    with pytest.raises(UsageError, match="request 0 has a prompt"):  # named by its place in this call
        engine.generate([Request(())], config, first=2)


def test_draw_follows_the_distribution():
    logits = torch.tensor([[0.0, math.log(2.0), -math.inf, math.log(5.0)]]).expand(8000, 4)
    uniform = uniform_numbers(0, range(8000), 1)[:, 0]
    counts = torch.bincount(draw(logits, uniform, SamplingConfig(1.0)), minlength=4) / 8000
    assert counts.tolist() == pytest.approx([1 / 8, 2 / 8, 0, 5 / 8], abs=0.02)
    top2 = torch.bincount(draw(logits, uniform, SamplingConfig(1.0, top_k=2)), minlength=4) / 8000
    assert top2.tolist() == pytest.approx([0, 2 / 7, 0, 5 / 7], abs=0.02)
    cold = draw(logits, uniform, SamplingConfig(0.01))
    assert set(cold.tolist()) == {3}
    almost_one = torch.full((1,), 1 - 2**-24)
    assert draw(logits[:1], almost_one, SamplingConfig(1.0)).item() == 0  # the least likely possible one


def test_top_p_draws_among_the_likeliest():
    logits = torch.tensor([[0.0, math.log(2.0), -math.inf, math.log(5.0)]]).expand(8000, 4)
    uniform = uniform_numbers(0, range(8000), 1)[:, 0]
    for top_p, shares in ((0.6, [0, 0, 0, 1]), (0.7, [0, 2 / 7, 0, 5 / 7]), (0.9, [1 / 8, 2 / 8, 0, 5 / 8])):
        ids = draw(logits, uniform, SamplingConfig(1.0, top_p=top_p))
        assert (torch.bincount(ids, minlength=4) / 8000).tolist() == pytest.approx(shares, abs=0.02)
    assert draw(logits[:1], torch.full((1,), 1 - 2**-24), SamplingConfig(1.0, top_p=0.7)).item() == 1


def test_alternatives_are_the_models_own_likeliest_tokens():
    engine = Engine(random_model(), TOKENIZER)
    config = SamplingConfig(ignore_stop=True, stop_loops=False, alternatives=3)
    told = engine.generate(mixed_requests(), config)
    assert [c.ids for c in told] == [c.ids for c in engine.generate(mixed_requests(), FREE)]
    for completion in told:
        assert len(completion.alternatives) == len(completion.ids)
        for token, sure, three in zip(completion.ids, completion.probabilities, completion.alternatives):
            assert len(three) == 3 and three == sorted(three, key=lambda pair: -pair[1])
            # A special token may be likelier than what is said, since it is no text.
            assert dict(three).get(token, sure) == pytest.approx(sure, rel=1e-4)
            assert three[0][1] >= sure - 1e-6


def test_top_k_of_one_is_greedy():
    engine = Engine(random_model(), TOKENIZER)
    requests = mixed_requests()
    config = SamplingConfig(temperature=1.0, top_k=1, ignore_stop=True, stop_loops=False)
    assert [c.ids for c in engine.generate(requests, config)] == [
        c.ids for c in engine.generate(requests, FREE)
    ]


@pytest.mark.parametrize(
    "unit",
    [
        "<tr><td></td><td></td></tr>", "|  |  |\n", "0.00\n", ".", "_", "- [ ] \n", "A B C D E\n", "-",
        "| 0 ", "<tr><td>&nbsp;</td></tr>", "<td>&#160;</td>", "&emsp;", "<tr><td>N/A</td><td>N/A</td></tr>",
        '<TR class="odd"><td>Yes</td>', "No entry<br/>", "<p>None</p>", "<li>Name:</li>",
        "& & \\\\ \\hline ", "○ ",
    ],
)  # fmt: skip
@pytest.mark.parametrize("cut", range(4))
def test_what_forms_repeat_is_read_on(unit, cut):
    ids = list(("Head\n" + unit * 300).encode()[: 600 + cut])  # ends within a tag, or within a character
    assert find_loop(ids) and stopped_by_loop(ids, decode) is None
    long = list(("Head\n" + unit * 2000).encode())
    assert stopped_by_loop(long, decode)  # no form goes on for so long


def test_a_table_of_many_equal_rows_is_read_to_its_end():
    row = "<tr><td></td><td>N/A</td></tr>"
    assert stopped_by_loop(list((row * 60).encode()), decode) is None
    assert stopped_by_loop(list((row * 101).encode()), decode)


@pytest.mark.parametrize(
    "unit", ["and the ", "etc; ", "a > b, ", "是 ", "\\quad a ", "<td>total</td>", "Smith & Sons; ", "td>"]
)
@pytest.mark.parametrize("cut", range(4))
def test_words_that_come_again_and_again_are_a_loop(unit, cut):
    ids = list(("Dear Sir, " + unit * 80).encode())
    assert stopped_by_loop(ids[: len(ids) - cut], decode)


def decode(ids: list[int]) -> str:
    return bytes(ids).decode(errors="replace")
