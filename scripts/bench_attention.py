"""SAM's global attention with its position bias, computed four ways, side by side.

python -m scripts.bench_attention --preset=d20 --sides 512 1024 --dtype=float32

whole, plain     the whole (T, T) bias, product + softmax + product
whole, fused     the whole bias as the mask of torch's fused kernel
concatenated     no bias at all: q' = [q, s rel_h, s rel_w], k' = [k, onehot(row), onehot(column)], exact
rows of queries  the bias for some rows of queries at a time (nanoocr/model/sam.py), by budget of scores

The library keeps one way; this is why. All ways run in turn, and the times are medians, forward and forward
with backward. JSON on the last line.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from rich.table import Table
from torch import Tensor

from nanoocr.commandline import parse, run
from nanoocr.config import PATCH, preset
from nanoocr.errors import UsageError
from nanoocr.inference.reader import choose_device
from nanoocr.model.layers import attend
from scripts.bench_encoder import timed
from scripts.measure_reading import machine
from scripts.vision_sample import result_console


@dataclass(frozen=True)
class BenchAttentionConfig:
    """Measures the ways of one global attention block."""

    preset: str = "d20"  # heads and head width of its SAM
    sides: tuple[int, ...] = (512, 1024)  # of the square pictures, in pixels
    budgets: tuple[int, ...] = (2**20, 2**22, 2**24, 2**26)  # scores at once, of the rows of queries
    dtype: str = "float32"  # float32 or bfloat16
    repeats: int = 3  # timed passes of each
    backward: bool = True  # also time forward with backward
    threads: int = 0  # torch threads; 0 is torch's choice
    device: str = "cpu"  # cpu or cuda

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        if self.dtype not in ("float32", "bfloat16"):
            raise UsageError("--dtype is float32 or bfloat16")
        if self.threads < 0:
            raise UsageError("--threads must not be negative")
        if self.repeats < 1 or any(side < PATCH or side % PATCH for side in self.sides):
            raise UsageError(f"--repeats must be at least 1, --sides multiples of {PATCH}")


class Inputs(NamedTuple):
    """One block's q, k, v (1, N, T, D) and position scores (1, N, H, W, H) and (1, N, H, W, W)."""

    q: Tensor
    k: Tensor
    v: Tensor
    by_row: Tensor
    by_column: Tensor


def whole_bias(x: Inputs) -> Tensor:
    """(1, N, T, T)"""
    return (x.by_row[..., :, None] + x.by_column[..., None, :]).flatten(4).flatten(2, 3)


def whole_plain(x: Inputs) -> Tensor:
    return attend(x.q, x.k, x.v, bias=whole_bias(x))


def whole_fused(x: Inputs) -> Tensor:
    return F.scaled_dot_product_attention(x.q, x.k, x.v, attn_mask=whole_bias(x))


def concatenated(x: Inputs) -> Tensor:
    """The bias as further coordinates of q and k; v is padded because fused kernels want one width."""
    H, W, D = x.by_row.size(2), x.by_row.size(3), x.q.size(-1)
    scores = torch.cat([x.by_row.flatten(2, 3), x.by_column.flatten(2, 3)], dim=-1)
    q = torch.cat([x.q, scores * D**0.5], dim=-1)
    place = torch.arange(H * W, device=q.device)
    onehot = torch.cat([F.one_hot(place // W, H), F.one_hot(place % W, W)], dim=-1).to(q.dtype)
    k = torch.cat([x.k, onehot.expand(*x.k.shape[:2], -1, -1)], dim=-1)
    v = F.pad(x.v, (0, H + W))
    return F.scaled_dot_product_attention(q, k, v, scale=D**-0.5)[..., :D]


def rows_of_queries(x: Inputs, budget: int) -> Tensor:
    N, H, W = x.by_row.shape[1:4]
    step = max(1, budget // (N * W * H * W))
    parts = []
    for y in range(0, H, step):
        some = x._replace(by_row=x.by_row[:, :, y : y + step], by_column=x.by_column[:, :, y : y + step])
        parts.append(attend(x.q[:, :, y * W : (y + step) * W], x.k, x.v, bias=whole_bias(some)))
    return torch.cat(parts, dim=2)


def ways(budgets: tuple[int, ...]) -> dict[str, Callable[[Inputs], Tensor]]:
    """Every way by its name."""
    found: dict[str, Callable[[Inputs], Tensor]] = {
        "whole, plain": whole_plain,
        "whole, fused": whole_fused,
        "concatenated": concatenated,
    }
    for budget in budgets:
        found[f"rows, {budget / 2**20:g} M scores"] = partial(rows_of_queries, budget=budget)
    return found


def make_inputs(config: BenchAttentionConfig, side: int) -> Inputs:
    """Random inputs of a view of `side` pixels that take gradients."""
    sam, grid, device = preset(config.preset).sam, side // PATCH, choose_device(config.device)
    generator = torch.Generator().manual_seed(side)

    def random(*shape: int) -> Tensor:
        values = torch.randn(1, sam.heads, *shape, generator=generator)
        return values.to(device, getattr(torch, config.dtype)).requires_grad_(config.backward)

    width = sam.width // sam.heads
    q, k, v = (random(grid * grid, width) for _ in range(3))
    return Inputs(q, k, v, by_row=random(grid, grid, grid), by_column=random(grid, grid, grid))


def forward_and_backward(way: Callable[[Inputs], Tensor], x: Inputs) -> None:
    """One training pass."""
    way(x).float().sum().backward()


def measure_side(config: BenchAttentionConfig, side: int) -> list[dict[str, Any]]:
    """All ways at one size, in turn."""
    x, each = make_inputs(config, side), ways(config.budgets)
    forward: dict[str, list[float]] = {name: [] for name in each}
    both: dict[str, list[float]] = {name: [] for name in each}
    with torch.no_grad():
        expected = whole_plain(x).float()
        differences = {name: float((way(x).float() - expected).abs().max()) for name, way in each.items()}
    for _ in range(config.repeats):
        for name, way in each.items():
            with torch.no_grad():
                forward[name].append(timed(partial(way, x), x.q.device))
            if config.backward:
                both[name].append(timed(partial(forward_and_backward, way, x), x.q.device))
    return [
        {
            "side": side,
            "way": name,
            "forward": median(forward[name]),
            "with_backward": median(both[name]) if config.backward else None,
            "max_difference": differences[name],
        }
        for name in each
    ]


def main(argv: list[str] | None = None) -> None:
    """Measure and print."""
    config = parse(BenchAttentionConfig, argv)
    if config.threads:
        torch.set_num_threads(config.threads)
    lines = [line for side in config.sides for line in measure_side(config, side)]
    table = Table("Side", "Way", title=f"SAM's global attention, {config.dtype}")
    for column in ("Forward s", "With backward s", "Max difference"):
        table.add_column(column, justify="right")
    for line in lines:
        backward = "-" if line["with_backward"] is None else f"{line['with_backward']:.3f}"
        difference = f"{line['max_difference']:.1e}"
        table.add_row(f"{line['side']}", line["way"], f"{line['forward']:.3f}", backward, difference)
    result_console().print(table)
    print(
        json.dumps(
            {
                **machine(),
                "preset": config.preset,
                "device": config.device,
                "dtype": config.dtype,
                "lines": lines,
            }
        )
    )


if __name__ == "__main__":
    sys.exit(run(main))
