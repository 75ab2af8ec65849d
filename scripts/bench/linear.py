"""Products of the nano size in fp32 on a CPU: torch's own, and as a convolution of so many pictures.

OMP_NUM_THREADS=1 python -m scripts.bench.linear --threads=1

The ways run in turn; the numbers are the least milliseconds of `--repeats` rounds, forward, and forward with
backward. `nanoocr/model/layers.py` takes what wins here. JSON on the last line.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from nanoocr.commandline import parse, run
from nanoocr.machine import machine, use_threads
from scripts.common import refuse_below

SHAPES = ((256, 128, 384), (1024, 256, 256), (4096, 128, 384), (4096, 256, 1024), (4096, 512, 128))
FOLDS = (1, 4, 16, 32)


@dataclass(frozen=True)
class LinearConfig:
    """Measures products of the nano size, plain and as convolutions."""

    repeats: int = 5  # rounds; each one takes every way in turn
    threads: int = 1  # torch threads

    def __post_init__(self) -> None:
        """Refuse numbers that make no sense."""
        refuse_below(self, repeats=1, threads=1)


def main(argv: list[str] | None = None) -> int:
    """Print one line per shape."""
    config = parse(LinearConfig, argv)
    use_threads(config.threads)
    rows = [measure(shape, config.repeats) for shape in SHAPES]
    for shape, row in zip(SHAPES, rows):
        print(shape, "  ".join(f"{name} {a:.2f} / {b:.2f}" for name, (a, b) in row.items()))
    print(json.dumps({"machine": machine(), "shapes": SHAPES, "ms": rows}))
    return 0


def measure(shape: tuple[int, int, int], repeats: int) -> dict[str, tuple[float, float]]:
    """Of (rows, in, out): way -> least milliseconds forward, and forward with backward."""
    rows, width_in, width_out = shape
    x, weight, bias = torch.randn(rows, width_in), torch.randn(width_out, width_in), torch.randn(width_out)
    inputs = [tensor.requires_grad_() for tensor in (x, weight, bias)]
    ways: dict[str, Callable[..., Tensor]] = {"plain": F.linear}
    ways |= {f"{folds} pictures": folded(folds) for folds in FOLDS}
    least = dict.fromkeys(ways, (float("inf"), float("inf")))
    for _ in range(repeats):
        for name, way in ways.items():
            found = once(way, inputs)
            least[name] = (min(least[name][0], found[0]), min(least[name][1], found[1]))
    return least


def once(way: Callable[..., Tensor], inputs: list[Tensor]) -> tuple[float, float]:
    """Milliseconds of one pass forward, and of one with its gradients."""
    started = time.perf_counter()
    with torch.no_grad():
        out = way(*inputs)
    half = time.perf_counter()
    torch.autograd.grad(way(*inputs), inputs, torch.ones_like(out))
    return 1000 * (half - started), 1000 * (time.perf_counter() - half)


def folded(folds: int) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """The product as a 1 x 1 convolution of so many pictures."""

    def way(x_PC: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        pictures = x_PC.view(folds, -1, 1, x_PC.size(1)).permute(0, 3, 1, 2)
        out = F.conv2d(pictures, weight[:, :, None, None], bias)
        return out.permute(0, 2, 3, 1).reshape(len(x_PC), -1)

    return way


if __name__ == "__main__":
    sys.exit(run(main))
