"""Tokens per second of the inference engine, against a naive loop without cache over the same cards.

python -m scripts.bench.engine --model=DIR --cards=32
python -m scripts.bench.engine --random=True

The naive loop reads one card at a time. For every single token it runs the whole model again: picture
through the encoder, then all tokens so far through the GPT. Both sides choose greedily and run in this one
process on the same cards, so the ratios hold on any machine. The last line on stdout is JSON.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from nanoocr.bpe import Tokenizer
from nanoocr.commandline import parse, run
from nanoocr.config import preset
from nanoocr.data.synth import find_fonts, make_sample
from nanoocr.inference.engine import Completion, Engine, Request, never_generated, stop_ids
from nanoocr.inference.reader import choose_device, default_model_folder, make_request
from nanoocr.inference.sampling import SamplingConfig
from nanoocr.model.folder import load_model
from nanoocr.model.vlm import VLM
from scripts.common import refuse_below

FREE_RUNNING = SamplingConfig(ignore_stop=True, stop_loops=False)  # always goes on to max_tokens


@dataclass(frozen=True)
class Config:
    """Measures batched and single-card decoding."""

    model: Path | None = None  # model folder; None takes the model in the package
    random: bool = False  # random weights of the nano preset instead: speed only, no reading
    cards: int = 32  # cards that are decoded as one batch
    single_tokens: int = 128  # tokens that the single card is made to give
    random_tokens: int = 48  # tokens per card with random weights, which do not know when to stop
    seed: int = 12345  # seeds the synthetic cards
    repeats: int = 3  # timings of the engine, of which the best counts (the naive loop runs once)
    device: str = "cpu"  # cpu or cuda

    def __post_init__(self) -> None:
        """Refuse numbers that make no sense."""
        refuse_below(self, cards=1, single_tokens=1, random_tokens=1, repeats=1)


@torch.inference_mode()
def generate_naive(
    model: VLM, tokenizer: Tokenizer, request: Request, *, ignore_stop: bool = False
) -> list[int]:
    """Greedy ids without a cache: one full forward pass, encoder included, for every token."""
    never = never_generated(model, tokenizer, may_stop=not ignore_stop)
    room = model.config.gpt.sequence_len - len(request.ids) + 1
    ids = list(request.ids)
    for _ in range(min(room, request.max_tokens or room)):
        logits_BTV = model(torch.tensor([ids], device=model.device), views=request.views or None)
        token = int(logits_BTV[0, -1].masked_fill(never, float("-inf")).argmax())
        if token in stop_ids(tokenizer):
            break
        ids.append(token)
    return ids[len(request.ids) :]


def load(config: Config) -> tuple[VLM, Tokenizer]:
    """The model to be measured; with `random`, every weight drawn afresh, the zero ones too."""
    if not config.random:
        return load_model(config.model or default_model_folder(), device=choose_device(config.device))
    tokenizer = Tokenizer.bytes()
    model = VLM(preset("nano", tokenizer.vocab_size))
    model.init_weights(config.seed)
    generator = torch.Generator().manual_seed(config.seed)
    for name, parameter in model.named_parameters():
        if name.endswith("c_proj.weight") or name == "gpt.lm_head.weight":
            torch.nn.init.normal_(parameter, std=parameter.size(1) ** -0.5, generator=generator)
    return model.to(choose_device(config.device)), tokenizer


def card_requests(model: VLM, tokenizer: Tokenizer, config: Config) -> list[Request]:
    """Synthetic cards, ready for the engine."""
    fonts = find_fonts()
    samples = (make_sample("card", config.seed, index, fonts=fonts) for index in range(config.cards))
    limit = config.random_tokens if config.random else None
    return [make_request(model, tokenizer, sample.image, sample.prompt, limit) for sample in samples]


def best_seconds(work: Callable[[], list[Completion]], repeats: int) -> tuple[list[Completion], float]:
    """The result of `work`, and its shortest wall time of several."""
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        completions = work()
        seconds.append(time.perf_counter() - started)
    return completions, min(seconds)


def compare(
    engine: Engine, requests: Sequence[Request], sampling: SamplingConfig, repeats: int
) -> dict[str, float]:
    """Tokens per second of engine and naive loop on the same requests, and how many rows agree exactly."""
    engine.generate(requests[:1], sampling)  # the first call pays for allocations
    completions, seconds = best_seconds(lambda: engine.generate(requests, sampling), repeats)
    started = time.perf_counter()
    ignore = sampling.ignore_stop
    naive = [generate_naive(engine.model, engine.tokenizer, r, ignore_stop=ignore) for r in requests]
    naive_seconds = time.perf_counter() - started
    tokens, naive_tokens = sum(c.tokens.text for c in completions), sum(map(len, naive))
    return {
        "rows": len(requests),
        "tokens": tokens,
        "tokens_per_second": round(tokens / seconds, 1),
        "naive_tokens_per_second": round(naive_tokens / naive_seconds, 1),
        "ratio": round(tokens / seconds / (naive_tokens / naive_seconds), 2),
        "equal_rows": sum(c.ids == tuple(ids) for c, ids in zip(completions, naive)),
    }


def main(argv: list[str] | None = None) -> None:
    """Print both comparisons, and one line of JSON."""
    config = parse(Config, argv)
    model, tokenizer = load(config)
    engine = Engine(model, tokenizer)
    requests = card_requests(model, tokenizer, config)
    sampling = FREE_RUNNING if config.random else SamplingConfig(stop_loops=False)
    batched = compare(engine, requests, sampling, config.repeats)
    print("batched:", batched)
    single_request = [replace(requests[0], max_tokens=config.single_tokens)]
    single = compare(engine, single_request, FREE_RUNNING, config.repeats)
    print("single: ", single)
    print(json.dumps({"threads": torch.get_num_threads(), "batched": batched, "single": single}))


if __name__ == "__main__":
    sys.exit(run(main))
