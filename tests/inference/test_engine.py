"""The engine against a naive loop without cache, and everything that ends a row."""

from __future__ import annotations

import json
import math

import pytest
import torch

from nanoocr.bpe import Tokenizer
from nanoocr.config import ClipConfig, GPTConfig, ModelConfig, SamConfig
from nanoocr.errors import UsageError
from nanoocr.image_process import count_vision_tokens
from nanoocr.inference.engine import Engine, Request, never_generated
from nanoocr.inference.sampling import (
    NgramGuard,
    SamplingConfig,
    draw,
    find_loop,
    stopped_by_loop,
    uniform_numbers,
)
from nanoocr.model.vlm import VLM
from scripts.bench import engine as bench_engine
from scripts.bench.engine import generate_naive


@pytest.fixture(autouse=True)
def one_thread():
    """Many tiny operations on two threads crawl when something else runs on the machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


FREE = SamplingConfig(ignore_stop=True, stop_loops=False)
TOKENIZER = Tokenizer.bytes()


def tiny_config(n_kv_head: int = 4, sequence_len: int = 96) -> ModelConfig:
    return ModelConfig(
        name="tiny",
        sam=SamConfig(
            width=32,
            depth=2,
            heads=2,
            window=3,
            global_blocks=(1,),
            grid=(4, 8),
            neck=16,
            compressor=(16, 32),
        ),
        clip=ClipConfig(width=32, depth=1, heads=2, grid=(1, 2)),
        gpt=GPTConfig(
            vocab_size=266, sequence_len=sequence_len, n_layer=2, n_head=4, n_kv_head=n_kv_head, n_embd=32
        ),
        views=((64, 128), (128, 128)),
    )


def random_model(seed: int = 2, **sizes: int) -> VLM:
    """Every parameter random: those that start at zero or one would hide mistakes."""
    model = VLM(tiny_config(**sizes))
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        std = 0.3 if parameter.ndim == 1 or "pos" in name else 1.5 * parameter[0].numel() ** -0.5
        # Otherwise random weights hardly look: most of a hidden state is the token itself.
        std *= 4 if "patch_embed" in name else 3 if "attn.c_proj" in name else 1
        torch.nn.init.normal_(parameter, std=1.0 if "wte" in name else std, generator=generator)
    return model


def blotches(size: tuple[int, int], generator: torch.Generator) -> torch.Tensor:
    """A picture of random colours, coarse enough that two of them look different to a random encoder."""
    height, width = size
    coarse = torch.rand(1, 3, height // 16, width // 16, generator=generator) * 2 - 1
    return torch.nn.functional.interpolate(coarse, size=size)[0]


def make_request(text: str, *sizes: tuple[int, int], seed: int = 0, max_tokens: int = 20) -> Request:
    t = TOKENIZER
    generator = torch.Generator().manual_seed(seed)
    views = tuple(blotches(size, generator) for size in sizes)
    runs = [t.image_id] * sum(count_vision_tokens(size) for size in sizes)
    ids = [t.bos_id, t.user_start_id, *runs, *t.encode(text), t.user_end_id, t.assistant_start_id]
    return Request(tuple(ids), views, max_tokens)


def mixed_requests() -> list[Request]:
    """Several prompt lengths, view sizes and limits, with and without pictures, two pictures in one."""
    return [
        make_request("Read.", (64, 128), seed=1, max_tokens=30),
        make_request("text alone", max_tokens=9),
        make_request("Read all of this.", (128, 128), seed=2),
        make_request("Two", (64, 64), (128, 192), seed=3, max_tokens=1),
        make_request("", (64, 128), seed=4, max_tokens=25),
        make_request("Read.", (64, 128), seed=5, max_tokens=30),
    ]


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


# Streaming


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


def scripted(model: VLM, text: bytes, request: Request) -> None:
    """Make the model say `text`: its logits follow a script, whatever the hidden state is."""
    script = iter([*text, TOKENIZER.assistant_end_id])

    def logits(hidden: torch.Tensor) -> torch.Tensor:
        out = torch.zeros(*hidden.shape[:-1], 266)
        out[..., next(script)] = 9.0
        return out

    model.gpt.logits = logits


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


# Ends, guards, loops


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
    """The rule as reference/deepencoder.md words it, by brute force."""
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


# Sampling


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


# What is refused


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


@pytest.mark.parametrize(
    "unit",
    ["<tr><td></td><td></td></tr>", "|  |  |\n", "0.00\n", ".", "_", "- [ ] \n", "A B C D E\n", "-", "| 0 "],
)
def test_what_forms_repeat_is_read_on(unit):
    ids = list(("Head\n" + unit * 300).encode()[:600])
    decode = lambda ids: bytes(ids).decode()  # noqa: E731
    assert find_loop(ids) and stopped_by_loop(ids, decode) is None
    long = list(("Head\n" + unit * 2000).encode())
    assert stopped_by_loop(long, decode)  # no form goes on for so long


def test_words_that_come_again_and_again_are_a_loop():
    ids = list(("Dear Sir, " + "and the " * 40).encode())
    assert stopped_by_loop(ids, lambda ids: bytes(ids).decode())
