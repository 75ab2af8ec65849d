"""Measures the speed of the model's parts on a GPU, and which implementation of attention is the fastest.

python -m scripts.gpu.speed --preset=d20 --device=cuda

It times the forward pass, and forward with backward, of the encoder at every mode and of the GPT at 2k to 8k
positions, in bf16, eager and compiled. It also times SAM's global attention in all implementations, the GPT's
attention with torch's backends, and two ways of gathering documents. Operations are those of
nanoocr/model/flops.py. There the GPT's attention counts in full although half of it is hidden, so the share
of the peak is also given without the hidden half. At the end it prints the winners, with today's default and
where that is set.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from nanoocr.commandline import parse, run
from nanoocr.config import ModelConfig, preset
from nanoocr.model import sam
from nanoocr.model.deepencoder import DeepEncoder
from nanoocr.model.flops import encoder_flops, gpt_flops
from nanoocr.model.gpt import GPT
from scripts.bench.attention import BenchAttentionConfig, measure_side
from scripts.common import timed
from scripts.gpu.part import (
    PartConfig,
    Results,
    back_end,
    median_seconds,
    peak_gb,
    random_model,
    share_of,
    start_peak,
)

BACK_ENDS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "cuDNN": SDPBackend.CUDNN_ATTENTION,
    "memory-efficient": SDPBackend.EFFICIENT_ATTENTION,
}
COLUMNS = {
    "first_s": ("first s", ".1f"),
    "forward_ms": ("forward ms", ".2f"),
    "both_ms": ("both ms", ".2f"),
    "forward_tflops": ("forward TF/s", ".1f"),
    "both_tflops": ("both TF/s", ".1f"),
    "mfu": ("MFU", ".1%"),
    "mfu_causal": ("MFU, causal", ".1%"),
    "memory_gb": ("peak GB", ".2f"),
    "note": ("note", ""),
}
PLAIN, WHOLE, BLOCKS = "", ", compiled", ", blocks compiled"


@dataclass(frozen=True)
class SpeedConfig(PartConfig):
    """Measures encoder, GPT and ways of attention on the device."""

    repeats: int = 5  # timed calls of each; the median counts
    compile: bool = True  # measure the compiled encoder and GPT too


@dataclass(frozen=True)
class ModeViews:
    """The views of a mode by size: how many pictures, and for each (views, side)."""

    name: str
    pictures: int
    of_each: tuple[tuple[int, int], ...]


FULL_SIZE = (
    ModeViews("base, 1024", 4, ((1, 1024),)),
    ModeViews("gundam, 6 x 640 + 1024", 2, ((6, 640), (1, 1024))),
    ModeViews("tiny, 512", 16, ((1, 512),)),
    ModeViews("small, 640", 10, ((1, 640),)),
    ModeViews("large, 1280", 3, ((1, 1280),)),
)
MINIATURE = (ModeViews("128", 2, ((1, 128),)), ModeViews("4 x 64 + 128", 1, ((4, 64), (1, 128))))


# ---------------------------------------------------------------------------------------------------------
# Encoder and GPT


def both_ways(
    forward: Callable[[], Tensor], module: nn.Module, flops: float, results: Results, hidden: float = 0.0
) -> dict[str, Any]:
    """Times and rates of a forward pass without gradients, and of forward with backward (3 times the work).

    `hidden` is the number of forward operations that a causal kernel may leave out.
    """
    config = results.config
    assert isinstance(config, SpeedConfig)
    device, peak = config.torch_device, results.about.get("peak_tflops")
    once = timed(forward, device)  # this compiles, if anything is compiled

    def without() -> None:
        with torch.no_grad():
            forward()

    def with_backward() -> None:
        forward().float().square().mean().backward()
        module.zero_grad(set_to_none=True)

    first = median_seconds(without, device, config.repeats)
    start_peak(device)
    both = median_seconds(with_backward, device, config.repeats)
    return {
        "first_s": once,
        "forward_ms": 1000 * first,
        "both_ms": 1000 * both,
        "forward_tflops": flops / first / 1e12,
        "both_tflops": 3 * flops / both / 1e12,
        "mfu": share_of(3 * flops / both / 1e12, peak),
        "mfu_causal": share_of(3 * (flops - hidden) / both / 1e12, peak) if hidden else None,
        "memory_gb": peak_gb(device),
    }


@contextmanager
def compiling(module: nn.Module, blocks: list[nn.Module], how: str, device: torch.device) -> Iterator[Any]:
    """What to call instead of `module`: itself, compiled as a whole, or with each of its blocks compiled.

    Blocks of one kind share compiled code, so the first call compiles only a few. Sizes are fixed, because
    with dynamic sizes tracing the encoder alone takes minutes.
    """
    torch._dynamo.reset()
    compiler = partial(torch.compile, dynamic=False, backend=back_end(device))
    if how == BLOCKS:
        for block in blocks:
            block.compile(dynamic=False, backend=back_end(device))
    try:
        yield compiler(module.__call__) if how == WHOLE else module.__call__
    finally:
        for block in blocks:
            block._compiled_call_impl = None


def encoder_speed(
    encoder: DeepEncoder, sizes: ModelConfig, mode: ModeViews, results: Results, how: str
) -> dict[str, Any]:
    """Time all pictures of a mode, every view size in one pass."""
    device, dtype = results.config.torch_device, torch.bfloat16
    groups = [
        torch.rand(mode.pictures * count, 3, side, side, device=device, dtype=dtype) * 2 - 1
        for count, side in mode.of_each
    ]
    flops = sum(len(group) * encoder_flops(sizes, (group.size(2), group.size(3))).total for group in groups)
    blocks: list[nn.Module] = [*encoder.sam_model.blocks, *encoder.vision_model.transformer.layers]
    with compiling(encoder, blocks, how, device) as encode:

        def forward() -> Tensor:
            return torch.cat([encode(group).tokens.flatten(0, 1) for group in groups])

        return both_ways(forward, encoder, flops, results)


def gpt_speed(gpt: GPT, sizes: ModelConfig, length: int, results: Results, how: str) -> dict[str, Any]:
    """Time one sequence of `length` positions, without the logits, which the loss computes in chunks."""
    device = results.config.torch_device
    x = torch.randn(1, length, sizes.gpt.n_embd, device=device, dtype=torch.bfloat16)
    hidden = sizes.gpt.n_layer * 2 * length**2 * sizes.gpt.n_embd
    with compiling(gpt, list(gpt.transformer.h), how, device) as decode:
        return both_ways(lambda: decode(x), gpt, gpt_flops(sizes.gpt, length, logits=0), results, hidden)


# ---------------------------------------------------------------------------------------------------------
# Attention


def sam_ways(config: SpeedConfig, side: int) -> list[dict[str, Any]]:
    """Time SAM's global attention in all implementations, with the project's own bench, in bf16."""
    budgets = (2**22, 2**25, sam.GPU_SCORES_AT_ONCE)
    flex = config.device == "cuda"  # on a CPU it compiles for half a minute, and has no backward pass
    return measure_side(
        BenchAttentionConfig(
            config.preset, (side,), budgets, "bfloat16", config.repeats, flex=flex, device=config.device
        ),
        side,
    )


def back_end_speed(config: SpeedConfig, sizes: ModelConfig, length: int, name: str) -> dict[str, Any]:
    """Time one layer's causal attention with one of torch's kernels."""
    device, gpt = config.torch_device, sizes.gpt
    shape = (1, gpt.n_head, length, gpt.n_embd // gpt.n_head)
    q, k, v = (torch.randn(shape, device=device, dtype=torch.bfloat16, requires_grad=True) for _ in range(3))

    def attention() -> Tensor:
        with sdpa_kernel(BACK_ENDS[name]):
            return F.scaled_dot_product_attention(q, k, v, is_causal=True)

    try:
        attention()
    except RuntimeError as error:  # this device or this build lacks the kernel
        return {"note": f"not here: {str(error).splitlines()[0][:60]}"}
    return {
        "forward_ms": 1000 * median_seconds(attention, device, config.repeats),
        "both_ms": 1000
        * median_seconds(lambda: attention().float().sum().backward(), device, config.repeats),
    }


def gather_speed(config: SpeedConfig, sizes: ModelConfig, by_index: bool) -> dict[str, Any]:
    """Time gathering documents out of a packed sequence, and their gradients back; padding repeats places."""
    device, gpt = config.torch_device, sizes.gpt
    length = 256 if config.miniature else 8192
    x = torch.randn(length, gpt.n_head, gpt.n_embd // gpt.n_head, device=device, dtype=torch.bfloat16)
    x.requires_grad_()
    places = torch.cat([torch.arange(length), torch.full((length // 8,), length // 2)]).to(device)

    def gather() -> Tensor:
        return x[places] if by_index else x.index_select(0, places)

    return {
        "forward_ms": 1000 * median_seconds(gather, device, config.repeats),
        "both_ms": 1000 * median_seconds(lambda: gather().float().sum().backward(), device, config.repeats),
    }


# ---------------------------------------------------------------------------------------------------------
# Winners


def winner(lines: list[dict[str, Any]], start: str) -> str | None:
    """The fastest measurement whose name begins with `start`, forward with backward."""
    known = [line for line in lines if line["what"].startswith(start) and line.get("both_ms") is not None]
    return min(known, key=lambda line: line["both_ms"])["what"] if known else None


def winners(
    lines: list[dict[str, Any]], side: int, length: int, mode: ModeViews
) -> Iterator[tuple[str, str]]:
    """(question, answer): what won, and where the default is set, which nobody has measured yet."""
    today = f"GPU_POSITIONS={sam.GPU_POSITIONS}, GPU_SCORES_AT_ONCE={sam.GPU_SCORES_AT_ONCE}"
    for start, where in {
        f"SAM {side}": f"nanoocr/model/sam.py: {today}, a guess",
        f"GPT attention {length}": "nanoocr/model/layers.py: attend, by torch's own choice",
        "gather": "nanoocr/model/gpt.py: attend_documents, x[places]",
        f"encoder {mode.name}": "nanoocr/train/state.py: build_state, with --compile as a whole",
        f"GPT {length}": "nanoocr/train/state.py: build_state, with --compile as a whole",
    }.items():
        if (best := winner(lines, start)) is not None:
            yield start, f"{best} (today's default: {where})"


def measure_model(results: Results, modes: tuple[ModeViews, ...], lengths: tuple[int, ...]) -> None:
    """Measure encoder and GPT eager at every size, then compiled in two ways at the first sizes."""
    config = results.config
    assert isinstance(config, SpeedConfig)
    sizes = preset(config.preset)
    model = random_model(sizes, config.torch_device, torch.bfloat16)
    for how in (PLAIN, BLOCKS, WHOLE) if config.compile else (PLAIN,):
        for length in lengths if how == PLAIN else lengths[:1]:
            results.measure(f"GPT {length}{how}", partial(gpt_speed, model.gpt, sizes, length, results, how))
        for mode in modes if how == PLAIN else modes[:1]:
            name = f"encoder {mode.name} x {mode.pictures}{how}"
            results.measure(name, partial(encoder_speed, model.encoder, sizes, mode, results, how))


def measure_attention(results: Results, sides: tuple[int, ...], lengths: tuple[int, ...]) -> None:
    """Make one measurement per implementation of attention."""
    config = results.config
    assert isinstance(config, SpeedConfig)
    for side in sides:
        found: list[dict[str, Any]] = []
        results.measure(f"SAM's ways at {side} px", partial(ways_into, found, config, side))
        for way in found:
            results.add(f"SAM {side}, {way['way']}", "ok", in_ms(way))
    for length in lengths:
        for name in BACK_ENDS:
            results.measure(
                f"GPT attention {length}, {name}",
                partial(back_end_speed, config, preset(config.preset), length, name),
            )
    for by_index in (True, False):
        name = "gather, x[places]" if by_index else "gather, index_select"
        results.measure(name, partial(gather_speed, config, preset(config.preset), by_index))


def ways_into(found: list[dict[str, Any]], config: SpeedConfig, side: int) -> Mapping[str, Any]:
    """Add the measured implementations to `found`."""
    found += sam_ways(config, side)
    return {}


def in_ms(way: dict[str, Any]) -> dict[str, Any]:
    """A result of the attention bench under this part's names."""
    values = {"forward_ms": way["forward"], "both_ms": way["with_backward"]}
    return {
        **{name: None if value is None else 1000 * value for name, value in values.items()},
        "max_difference": way["max_difference"],
        "note": "; ".join(f"{which} not here" for which in way["failed"]),
    }


def main(argv: list[str] | None = None) -> int:
    """Make one measurement after the other, first those that decide about defaults."""
    config = parse(SpeedConfig, argv)
    results, small = Results("speed", config), config.miniature
    modes = MINIATURE if small else FULL_SIZE
    sides, lengths = ((128,), (64,)) if small else ((1024, 640), (8192, 4096, 2048))
    measure_attention(results, sides, lengths)
    measure_model(results, modes, lengths)
    code = results.finish(COLUMNS)
    for question, answer in winners(results.lines, sides[0], lengths[0], modes[0]):
        print(f"fastest of {question!r}: {answer}")
    return code


if __name__ == "__main__":
    sys.exit(run(main))
