"""The full-size encoder beside transformers' with the same weights: time, peak memory, difference.

python -m scripts.bench.encoder --preset=d20 --sides 512 640 1024 --repeats=3

All run in turn in one process with the same threads, so that a slow minute of the machine hits all; the times
are medians and what counts is their ratio, to transformers' in fp32. Both run in fp32 and, where the machine
multiplies it, in bf16. Peak memory is measured in a process of its own for each. TFLOP/s are of the forward
pass, counted by nanoocr/model/flops.py. The last line on stdout is JSON.
"""

from __future__ import annotations

import copy
import json
import multiprocessing
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.table import Table
from torch import Tensor, nn

from nanoocr.commandline import parse, run
from nanoocr.config import CELL, ModelConfig, preset
from nanoocr.errors import UsageError
from nanoocr.eval.console import result_console
from nanoocr.inference.reader import choose_device
from nanoocr.machine import counted, has_fast_bf16, machine, peak_resident, use_threads
from nanoocr.model.deepencoder import DeepEncoder
from nanoocr.model.flops import encoder_flops
from scripts.bench.reference import copy_weights, reference_encoder, square_sizes
from scripts.common import timed


@dataclass(frozen=True)
class BenchEncoderConfig:
    """Measures the encoder of a preset beside transformers'."""

    preset: str = "d20"  # sizes; grids become square, as transformers wants them
    sides: tuple[int, ...] = (512, 640, 1024)  # sides of the square pictures, in pixels
    repeats: int = 3  # timed passes of each, after one that warms up
    batch: int = 1  # pictures per pass
    threads: int = 0  # torch threads; 0 is torch's choice
    device: str = "cpu"  # cpu or cuda
    memory: bool = True  # on a Linux CPU measure peak memory too, in processes of their own

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        if self.repeats < 1 or self.batch < 1 or self.threads < 0:
            raise UsageError("--repeats and --batch must be at least 1, --threads 0")
        if any(side < CELL or side % CELL for side in self.sides):
            raise UsageError(f"--sides must be positive multiples of {CELL}")


def build(config: ModelConfig) -> tuple[nn.Module, DeepEncoder]:
    """transformers' encoder with random weights, and ours with the same ones."""
    reference = reference_encoder(config)
    with torch.device("meta"):
        encoder = DeepEncoder(config)
    encoder.to_empty(device="cpu")
    encoder.init_weights(torch.Generator().manual_seed(0))
    copy_weights(reference, encoder)
    return reference, encoder.requires_grad_(False)


def picture(side: int, batch: int, device: torch.device) -> Tensor:
    """Random pixels in [-1, 1], (batch, 3, side, side)."""
    pixels = torch.rand(batch, 3, side, side, generator=torch.Generator().manual_seed(side))
    return (pixels * 2 - 1).to(device)


def runners(
    reference: nn.Module, encoder: DeepEncoder, views: Tensor, bf16: bool
) -> dict[str, Callable[[], Tensor]]:
    """What is compared, by name; each gives (B, tokens, CLIP + SAM width)."""

    def ours(encoder: nn.Module, views: Tensor) -> Tensor:
        features = encoder(views)
        return torch.cat([features.clip, features.sam], dim=-1)

    found: dict[str, Callable[[], Tensor]] = {
        "transformers": lambda: reference(views).last_hidden_state,
        "ours": lambda: ours(encoder, views),
    }
    if bf16:
        # Weights in bf16 too, as Reader has them: our layers would cast fp32 ones at every use.
        half, our_half = (copy.deepcopy(model).bfloat16() for model in (reference, encoder))
        found["transformers, bf16"] = lambda: half(views.bfloat16()).last_hidden_state
        found["ours, bf16"] = lambda: ours(our_half, views.bfloat16())
    return found


@torch.inference_mode()
def compare(config: BenchEncoderConfig, sizes: ModelConfig) -> list[dict[str, Any]]:
    """Times and differences of every side, interleaved."""
    device = choose_device(config.device)
    reference, encoder = build(sizes)
    reference, encoder = reference.to(device), encoder.to(device)
    lines = []
    for side in config.sides:
        views = picture(side, config.batch, device)
        each = runners(reference, encoder, views, has_fast_bf16(device.type))
        outputs = {name: function().float() for name, function in each.items()}  # also warms up
        seconds: dict[str, list[float]] = {name: [] for name in each}
        for _ in range(config.repeats):
            for name, function in each.items():
                seconds[name].append(timed(function, device))
        flops = config.batch * (encoder_flops(sizes, (side, side)).total)
        expected = outputs["transformers"]
        for name in each:
            lines.append(
                {
                    "side": side,
                    "encoder": name,
                    "seconds": median(seconds[name]),
                    "speed": median(seconds["transformers"]) / median(seconds[name]),
                    "tflops": flops / median(seconds[name]) / 1e12,
                    "max_difference": float((outputs[name] - expected).abs().max()),
                    "spread": float(expected.std()),
                }
            )
    return lines


def peak_memory(name: str, side: int, batch: int, sizes: ModelConfig, pipe: Any) -> None:
    """In a process of its own: sends the MB that one forward pass adds to the loaded weights.

    By Linux's own counters, reset after loading: a child inherits the peak that getrusage reports.
    """
    model: nn.Module = reference_encoder(sizes) if name.startswith("transformers") else DeepEncoder(sizes)
    views = picture(side, batch, torch.device("cpu"))
    if name.endswith("bf16"):
        views, model = views.bfloat16(), model.bfloat16()
    Path("/proc/self/clear_refs").write_text("5")
    before = counted("VmRSS") or 0
    with torch.inference_mode():
        model(views)
    pipe.send((peak_resident() - before) / 2**20)


def measure_memory(name: str, side: int, batch: int, sizes: ModelConfig) -> float:
    """MB that a forward pass adds, from a fresh process."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=peak_memory, args=(name, side, batch, sizes, sender))
    process.start()
    sender.close()
    try:
        return float(receiver.recv())
    except EOFError as error:
        raise UsageError(f"{name} at {side} pixels did not finish: not enough memory?") from error
    finally:
        process.join()


def table(lines: list[dict[str, Any]]) -> Table:
    """For people."""
    shown = Table("Side", "Encoder", title="Encoder, forward")
    for column in ("Seconds", "Times faster", "TFLOP/s", "Added MB", "Max difference"):
        shown.add_column(column, justify="right")
    for line in lines:
        memory = "-" if line.get("megabytes") is None else f"{line['megabytes']:.0f}"
        shown.add_row(
            f"{line['side']}",
            line["encoder"],
            f"{line['seconds']:.3f}",
            f"{line['speed']:.2f}",
            f"{line['tflops']:.3f}",
            memory,
            f"{line['max_difference']:.1e}",
        )
    return shown


def main(argv: list[str] | None = None) -> None:
    """Measure and print."""
    config = parse(BenchEncoderConfig, argv)
    use_threads(config.threads)
    sizes = square_sizes(preset(config.preset))
    lines = compare(config, sizes)
    if config.memory and config.device == "cpu":
        for line in lines:
            line["megabytes"] = measure_memory(line["encoder"], line["side"], config.batch, sizes)
    result_console().print(table(lines))
    print(json.dumps({**machine(), "preset": config.preset, "device": config.device, "lines": lines}))


if __name__ == "__main__":
    sys.exit(run(main))
