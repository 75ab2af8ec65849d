"""Measures reading on a GPU: pages a second of the packaged model, tokens a second of the full size.

python -m scripts.gpu.read --preset=d20 --device=cuda

The pages are drawn, and the same for every measurement. They are read from memory one by one, as `nanoocr
read` does it. The device's reading is compared with the CPU's, page by page. The full size has random
weights, which take as long as trained ones. For one row and for a batch, the bytes that each step must read
from the GPU's memory are compared with the memory's bandwidth. The packaged model reads with drafts and
without, if this version has them.
"""

from __future__ import annotations

import inspect
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean
from typing import Any

import torch
from PIL import Image

from nanoocr.bpe import Tokenizer
from nanoocr.commandline import parse, run
from nanoocr.config import preset
from nanoocr.eval.made_pages import upright_page
from nanoocr.eval.metrics import character_error_rate
from nanoocr.inference.engine import Engine, Request
from nanoocr.inference.page import Page
from nanoocr.inference.reader import Reader, picture_prompt
from nanoocr.machine import has_fast_bf16
from nanoocr.model.vlm import VLM, count_parameters
from scripts.bench.encoder import picture
from scripts.bench.engine import FREE_RUNNING
from scripts.gpu.part import (
    PEAK_GB_PER_S,
    PartConfig,
    Results,
    of_gpu,
    peak_gb,
    random_model,
    share_of,
    start_peak,
)

COUNTED = 8  # kernels are counted over this many steps
COLUMNS = {
    "pages_per_s": ("pages/s", ".2f"),
    "cer": ("CER", ".1%"),
    "unlike_cpu": ("unlike the CPU's", ".1%"),
    "rows": ("rows", "d"),
    "first_token_ms": ("first token ms", ".1f"),
    "step_ms": ("step ms", ".2f"),
    "tokens_per_s": ("tokens/s", ".0f"),
    "gb_per_s": ("GB/s", ".0f"),
    "of_bandwidth": ("of bandwidth", ".1%"),
    "kernels": ("kernels a step", "d"),
    "memory_gb": ("peak GB", ".1f"),
    "note": ("note", ""),
}


@dataclass(frozen=True)
class ReadConfig(PartConfig):
    """Measures reading on the device."""

    pages: int = 40  # pages for the packaged model
    tokens: int = 256  # tokens of each row of the full size
    rows: int = 32  # rows of its batch


# ---------------------------------------------------------------------------------------------------------
# The packaged model


def read_pages(
    reader: Reader, pages: Sequence[tuple[Image.Image, str]], expected: list[str], keep: bool
) -> dict[str, Any]:
    """Pages per second after a warm-up page, and the reading compared with the truth and with the CPU's."""
    reader.read(pages[0][0])
    started = time.perf_counter()
    read = [reader.read(image) for image, _ in pages]
    seconds = time.perf_counter() - started
    texts = [page.text for page in read if isinstance(page, Page)]
    if keep:
        expected += texts
    return {
        "pages_per_s": len(pages) / seconds,
        "cer": fmean(character_error_rate(text, truth) for text, (_, truth) in zip(texts, pages)),
        "unlike_cpu": fmean(text != other for text, other in zip(texts, expected)) if expected else None,
    }


def draft_options() -> dict[str, dict[str, Any]]:
    """Arguments of Reader by the name of a measurement: without and with drafts, if this version has them."""
    known = inspect.signature(Reader.__init__).parameters
    if "drafts" not in known:
        return {"": {}}
    return {", drafts off": {"drafts": False}, ", drafts on": {"drafts": True}}


def measure_packaged(results: Results, config: ReadConfig) -> None:
    """Read with the CPU in fp32 first, because the device's reading is compared with it."""
    pages = [upright_page(number) for number in range(config.pages)]
    expected: list[str] = []
    few = pages[: max(1, config.pages // 4)]
    results.measure(
        "packaged model, CPU, fp32", lambda: read_pages(Reader(device="cpu"), few, expected, True)
    )
    # A CPU that only emulates bfloat16 would take most of the time of a miniature for nothing.
    dtypes = ("float32", "bfloat16") if has_fast_bf16(config.device) else ("float32",)
    for drafts, options in draft_options().items():
        for dtype in dtypes:
            make = partial(Reader, device=config.device, dtype=dtype, **options)
            results.measure(
                f"packaged model, {config.device}, {dtype}{drafts}",
                lambda make=make: read_pages(make(), pages, expected, False),  # type: ignore[misc]
            )
    if draft_options().keys() == {""}:
        results.add("drafts", "ok", {"note": "this version of Reader has none"})


# ---------------------------------------------------------------------------------------------------------
# The full size


def decode(config: ReadConfig, rows: int) -> dict[str, Any]:
    """Decode rows of one picture each together: seconds of the first token and of a step, and bandwidth."""
    tokenizer, device = Tokenizer.bytes(), config.torch_device
    sizes = preset(config.preset, 1000 if config.miniature else None)
    model = random_model(sizes, device, torch.bfloat16).eval()
    model.image_id = tokenizer.image_id
    with torch.no_grad():  # only byte tokens are generated, which the tokenizer can turn into text
        model.gpt.lm_head.weight[256:] = 0
    model.to(torch.bfloat16)
    engine = Engine(model, tokenizer)
    side = min(1024, max(height for height, _ in model.config.views))
    view = picture(side, 1, torch.device("cpu"))[0]
    ids = picture_prompt(tokenizer, "Read.", (side // 64) * (side // 64 + 1) + 1)
    requests = [Request(tuple(ids), (view,), config.tokens)] * rows
    start_peak(device)
    first = clocked(engine, [Request(tuple(ids), (view,), 1)] * rows)
    whole = clocked(engine, requests)
    step = (whole - first) / max(1, config.tokens - 1)
    size = bytes_of_a_step(model, rows, len(ids) + config.tokens // 2)
    return {
        "rows": rows,
        "first_token_ms": 1000 * first,
        "step_ms": 1000 * step,
        "tokens_per_s": rows / step,
        "gb_per_s": size / step / 1e9,
        "of_bandwidth": share_of(size / step / 1e9, of_gpu(PEAK_GB_PER_S, device)),
        "kernels": count_kernels(engine, requests[0], device),
        "memory_gb": peak_gb(device),
    }


def clocked(engine: Engine, requests: list[Request]) -> float:
    """Seconds of a generation after a warm-up; at its end the tokens are on the host."""
    engine.generate(requests, FREE_RUNNING, max_batch=len(requests))
    started = time.perf_counter()
    engine.generate(requests, FREE_RUNNING, max_batch=len(requests))
    return time.perf_counter() - started


def bytes_of_a_step(model: VLM, rows: int, length: int) -> float:
    """Bytes that a step must read: the GPT's weights without the word table, in bf16, and keys and values."""
    sizes = model.config.gpt
    weights = count_parameters(model.gpt) - sizes.vocab_size * sizes.n_embd
    width = sizes.n_kv_head * (sizes.n_embd // sizes.n_head)
    return 2.0 * (weights + rows * 2 * sizes.n_layer * width * length)


def count_kernels(engine: Engine, request: Request, device: torch.device) -> int | None:
    """Kernels that a step starts. Each costs the CPU some microseconds, whatever it computes."""
    if device.type != "cuda":
        return None
    counts = []
    for tokens in (1, 1 + COUNTED):
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
            engine.generate([replace(request, max_tokens=tokens)], FREE_RUNNING)
            torch.cuda.synchronize(device)
        counts.append(sum(event.count for event in profiler.key_averages()))
    return (counts[1] - counts[0]) // COUNTED


def main(argv: list[str] | None = None) -> int:
    """Measure the full size first, because it has a goal."""
    config = parse(ReadConfig, argv)
    results = Results("read", config)
    for rows in (1, config.rows):
        results.measure(f"{config.preset}, random, bf16, {rows} rows", partial(decode, config, rows))
    measure_packaged(results, config)
    return results.finish(COLUMNS)


if __name__ == "__main__":
    sys.exit(run(main))
