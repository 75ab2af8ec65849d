"""Where the time of a training step goes: samples per second, phase by phase, and peak memory.

python -m scripts.bench.train --preset=nano --steps=20 --batch_size=64 --stage=1

The step is the one of nanoocr/train/step.py with a stopwatch around its parts, on freshly drawn data and
fresh weights (which cost what trained ones cost). Below it, torch's fused attention against the plain
products at the preset's shapes on the CPU: the reason for the two ways in nanoocr/model/layers.py.
The last line on stdout is the same as JSON.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from rich.table import Table
from torch import Tensor

from nanoocr.commandline import parse, run
from nanoocr.config import PATCH, ModelConfig, preset
from nanoocr.data.batch import Batch
from nanoocr.data.example import prepare
from nanoocr.data.loader import DataPlan, multimodal_data_generator
from nanoocr.errors import UsageError
from nanoocr.eval.console import result_console
from nanoocr.image_process import count_vision_tokens
from nanoocr.machine import counted, machine
from nanoocr.model.layers import attend
from nanoocr.tasks.choose import make_task
from nanoocr.train.config import TrainConfig
from nanoocr.train.data import plan_data
from nanoocr.train.distributed import World
from nanoocr.train.recipes import Recipe
from nanoocr.train.run import Run
from nanoocr.train.setup import load_tokenizer, new_model, prepare_machine, resolve_recipe
from nanoocr.train.state import TrainState, build_state
from nanoocr.train.step import Totals, compute_losses
from scripts.common import write_json

WARM_UP = 4  # steps before the clock runs: the first ones allocate, and wait for the first rows
DATA_SAMPLES = 128  # samples made to time the making
WAIT = "wait for data"
FORWARD = "forward"  # the whole of it; reported by its parts
FORWARD_PARTS = ("vision forward", "glyph forward", "GPT forward and loss")
TEXT_TOKENS = 55  # text tokens of a typical card's row


@dataclass(frozen=True)
class BenchConfig:
    """Measures the training step of a preset."""

    preset: str = "nano"  # sizes of the model: nano, small or d20
    stage: Literal[1, 2] = 1  # 1 trains everything, 2 has SAM and compressor frozen (recipe scratch)
    recipe: str = "scratch"  # scratch, deepseek or llava
    steps: int = 20  # timed steps
    batch_size: int = 64  # rows per step
    mix: str = "card"  # synthetic kinds and weights, as card:0.8,scene:0.2
    dtype: str = "auto"  # compute dtype: auto, float32 or bfloat16
    polar_steps: int = 5  # iterations of Muon's orthogonalisation, 1 to 5
    compile: bool = False  # let torch.compile fuse the step: needs a C++ compiler
    device: str = "cpu"  # cpu, cuda, mps
    threads: int = 0  # torch threads; 0 is the number of CPUs that this process may use
    workers: int = 1  # processes that make batches ahead
    attention_repeats: int = 10  # timings per attention, of which the median counts; 0 leaves them out
    json: str = ""  # file that gets the JSON too; empty for none

    def __post_init__(self) -> None:
        """The other flags are checked where TrainConfig has them too."""
        if self.attention_repeats < 0:
            raise UsageError("--attention_repeats must not be negative")

    def train_config(self) -> TrainConfig:
        """The flags of the training run that is imitated."""
        if self.steps < 1:
            raise UsageError("--steps must be above 0")
        return TrainConfig(
            preset=self.preset,
            recipe=self.recipe,
            steps=WARM_UP + self.steps,
            batch_size=self.batch_size,
            mix=self.mix,
            dtype=self.dtype,
            polar_steps=self.polar_steps,
            compile=self.compile,
            device=self.device,
            threads=self.threads,
            workers=self.workers,
        )


class Stopwatch:
    """Seconds by name; on a GPU each lap waits for the work that it started."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Add the time of the block to `name`."""
        self._wait()
        started = time.perf_counter()
        yield
        self._wait()
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


# ---------------------------------------------------------------------------------------------------------
# the step


def time_calls(watch: Stopwatch, phase: str, owner: object, method: str) -> None:
    """From now on every call of `owner.method` counts towards `phase`."""
    original = getattr(owner, method)

    def timed(*args: Any, **kwargs: Any) -> Any:
        with watch(phase):
            return original(*args, **kwargs)

    setattr(owner, method, timed)


def time_parts(state: TrainState, watch: Stopwatch) -> None:
    """Time the parts of the forward pass wherever the training loop calls them."""
    time_calls(watch, "vision forward", state, "encode")
    time_calls(watch, "GPT forward and loss", state, "decode")
    time_calls(watch, "GPT forward and loss", state.model, "loss")
    if state.heads is not None:
        time_calls(watch, "glyph forward", state.heads, "of_patches")
        time_calls(watch, "glyph forward", state.heads, "of_tokens")


def timed_step(state: TrainState, batch: Batch, chosen: Recipe, watch: Stopwatch) -> None:
    """What train_step does, but for the schedule: the rate stays at its base, which costs the same."""
    with watch(FORWARD):
        total = compute_losses(state, batch, chosen, Totals.of([batch], World()))["total"]
    with watch("backward"):
        if total.requires_grad:  # not where all rows of a batch are text and the GPT does not train
            total.backward()
    for optimizer in state.optimizers:
        with watch(type(optimizer).__name__):
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)


def time_steps(
    state: TrainState, data: DataPlan, chosen: Recipe, workers: int
) -> tuple[dict[str, float], dict[str, Any]]:
    """Seconds per phase over the timed steps, and peak memory, taken while the workers still live."""
    watch = Stopwatch(state.model.device)
    time_parts(state, watch)
    batches = multimodal_data_generator(data, workers=workers)
    for step in range(data.steps):
        if step == WARM_UP:
            watch.seconds.clear()
        with watch(WAIT):
            (delivery,) = next(batches)
        timed_step(state, delivery.batch, chosen, watch)
    return by_phase(watch.seconds), peak_memory(state.model.device)


def by_phase(measured: dict[str, float]) -> dict[str, float]:
    """The wait; the forward pass by its parts, and what is left of it (pixels, embedding); the others."""
    parts = {name: measured.get(name, 0.0) for name in FORWARD_PARTS}
    rest = measured[FORWARD] - sum(parts.values())
    apart = (WAIT, FORWARD, *FORWARD_PARTS)
    others = {name: value for name, value in measured.items() if name not in apart}
    return {WAIT: measured[WAIT], **parts, "rest of forward": rest, **others}


def time_data(data: DataPlan, count: int) -> float:
    """Seconds that one process needs to make one sample: draw it, fit it into its view, tokenise it."""
    make = data.source
    prepare(make(0, 1.0), data.tokenizer, data.views, data.max_length)  # finds and checks the fonts
    started = time.perf_counter()
    for index in range(1, count + 1):
        prepare(make(index, 1.0), data.tokenizer, data.views, data.max_length)
    return (time.perf_counter() - started) / count


# ---------------------------------------------------------------------------------------------------------
# memory


def peak_memory(device: torch.device) -> dict[str, Any]:
    """Peak resident memory in MB of this process and of each worker alive; None where the system hides it.

    A forked worker shares pages with its parent, so the sum counts some of them twice: an upper bound.
    """
    pids: list[int | str | None] = ["self", *(child.pid for child in multiprocessing.active_children())]
    peaks = [counted("VmHWM", pid) for pid in pids]
    own, *workers = (None if peak is None else peak // 2**20 for peak in peaks)
    known = [value for value in (own, *workers) if value is not None]
    memory: dict[str, Any] = {"process": own, "workers": workers, "at_most": sum(known) if known else None}
    if device.type == "cuda":
        memory["gpu"] = round(torch.cuda.max_memory_allocated(device) / 2**20)
    return memory


# ---------------------------------------------------------------------------------------------------------
# fused against plain attention


class AttentionCase(NamedTuple):
    """One attention of the model. Letters: B batch, N heads, T tokens, D head width."""

    name: str
    shape: tuple[int, int, int, int]  # B, N, T, D
    causal: bool
    bias: bool  # with SAM's learned relative positions, which need a gradient too


def attention_cases(sizes: ModelConfig, batch: int) -> list[AttentionCase]:
    """SAM's windows and whole pictures, with and without position bias, and the GPT, at the first view."""
    (height, width), sam, gpt = sizes.views[0], sizes.sam, sizes.gpt
    rows, columns, side = height // PATCH, width // PATCH, sam.window
    windows = -(-rows // side) * -(-columns // side)
    window = (batch * windows, sam.heads, side * side, sam.width // sam.heads)
    whole = (batch, sam.heads, rows * columns, sam.width // sam.heads)
    length = count_vision_tokens(sizes.views[0]) + TEXT_TOKENS
    return [
        AttentionCase(f"windows of {side * side} tokens", window, causal=False, bias=False),
        AttentionCase(f"windows of {side * side} tokens, bias", window, causal=False, bias=True),
        AttentionCase(f"{rows * columns} patches", whole, causal=False, bias=False),
        AttentionCase(f"{rows * columns} patches, bias", whole, causal=False, bias=True),
        AttentionCase(
            f"GPT, {length} tokens",
            (batch, gpt.n_head, length, gpt.n_embd // gpt.n_head),
            causal=True,
            bias=False,
        ),
    ]


def compare_attention(case: AttentionCase, dtype: torch.dtype, repeats: int) -> dict[str, Any]:
    """Milliseconds of forward and backward of both ways, on the CPU."""
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(case.shape, generator=generator) for _ in range(3)]
    if case.bias:
        inputs.append(torch.randn(*case.shape[:3], case.shape[2], generator=generator))
    leaves = [x.to(dtype).requires_grad_() for x in inputs]
    q, k, v, *rest = leaves
    bias = rest[0] if rest else None

    def fused() -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, is_causal=case.causal)

    def plain() -> Tensor:
        return attend(q, k, v, bias=bias, causal=case.causal)

    fused_ms, plain_ms = (forward_backward_ms(way, leaves, repeats) for way in (fused, plain))
    return {
        "attention": case.name,
        "dtype": dtype_name(dtype),
        "fused_ms": fused_ms,
        "plain_ms": plain_ms,
        "fused_over_plain": fused_ms / plain_ms,
    }


def dtype_name(dtype: torch.dtype) -> str:
    """bfloat16, float32"""
    return str(dtype).removeprefix("torch.")


def forward_backward_ms(way: Callable[[], Tensor], leaves: list[Tensor], repeats: int) -> float:
    """Median milliseconds of one forward and backward pass."""
    gradient = torch.ones_like(way())
    times = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        torch.autograd.grad(way(), leaves, gradient)
        times.append(time.perf_counter() - started)
    return 1000 * median(times[1:])  # the first one allocates


# ---------------------------------------------------------------------------------------------------------
# report


def summary(config: BenchConfig, seconds: dict[str, float], data_seconds: float) -> dict[str, Any]:
    """Throughput and milliseconds per step by phase."""
    total = sum(seconds.values())
    per_worker = 1 / data_seconds
    return {
        "preset": config.preset,
        "stage": config.stage,
        "batch_size": config.batch_size,
        "steps": config.steps,
        "samples_per_second": config.batch_size * config.steps / total,
        "step_ms": 1000 * total / config.steps,
        "phases_ms": {name: 1000 * value / config.steps for name, value in seconds.items()},
        "data_ms_per_sample": 1000 * data_seconds,
        "data_samples_per_second_per_worker": per_worker,
        "workers": config.workers,
        "wait_share": seconds[WAIT] / total,
    }


def phase_table(result: dict[str, Any]) -> Table:
    """Milliseconds and share of every phase."""
    table = Table(
        "Phase", title=f"{result['preset']}, stage {result['stage']}: one step of {result['batch_size']} rows"
    )
    for name in ("ms", "share"):
        table.add_column(name, justify="right")
    for name, value in result["phases_ms"].items():
        table.add_row(name, f"{value:.1f}", f"{value / result['step_ms']:.1%}")
    table.add_row("all", f"{result['step_ms']:.1f}", "100%")
    return table


def attention_table(rows: list[dict[str, Any]]) -> Table:
    """Both ways of attention side by side."""
    table = Table("Attention", "dtype", title="Forward and backward on the CPU")
    for name in ("fused ms", "plain ms", "fused / plain"):
        table.add_column(name, justify="right")
    for row in rows:
        numbers = (row["fused_ms"], row["plain_ms"], row["fused_over_plain"])
        table.add_row(row["attention"], row["dtype"], *(f"{number:.2f}" for number in numbers))
    return table


def main(argv: list[str] | None = None) -> None:
    """Measure, print the tables and the JSON."""
    config = parse(BenchConfig, argv)
    flags = config.train_config()
    world = World(device=config.device)
    prepare_machine(flags, world)
    run = Run(flags, resolve_recipe(flags, config.stage), config.stage, world)
    tokenizer = load_tokenizer(flags)
    sizes = preset(config.preset, tokenizer.vocab_size)
    data = plan_data(flags, sizes, tokenizer, make_task)
    data_seconds = time_data(data, DATA_SAMPLES)
    state = build_state(run, new_model(run, sizes, tokenizer))
    seconds, memory = time_steps(state, data, run.recipe, config.workers)
    result: dict[str, Any] = {
        **machine(),
        "dtype": dtype_name(flags.compute_dtype),
        **summary(config, seconds, data_seconds),
    }
    result["peak_memory_mb"] = memory
    result["attention"] = [
        compare_attention(case, dtype, config.attention_repeats)
        for case in (attention_cases(sizes, config.batch_size) if config.attention_repeats else ())
        for dtype in (torch.bfloat16, torch.float32)
    ]
    report(result)
    if config.json:
        write_json(config.json, result)
    print(json.dumps(result))


def report(result: dict[str, Any]) -> None:
    """What people read."""
    console = result_console()
    console.print(phase_table(result))
    console.print(
        f"{result['samples_per_second']:.1f} samples/s on {result['threads']} threads in {result['dtype']}; "
        f"making data: {result['data_ms_per_sample']:.2f} ms a sample, "
        f"{result['data_samples_per_second_per_worker']:.0f} samples/s a worker, "
        f"{result['wait_share']:.1%} of the step spent waiting for it"
    )
    console.print(f"peak memory, MB: {result['peak_memory_mb']}")
    if result["attention"]:
        console.print(attention_table(result["attention"]))


if __name__ == "__main__":
    sys.exit(run(main))
