"""SAM's global attention with its position bias, computed six ways, side by side.

python -m scripts.bench.attention --preset=d20 --sides 512 1024 --dtype=float32

whole, plain     the whole (T, T) bias, product + softmax + product
whole, fused     the whole bias as the mask of torch's fused kernel
concatenated     no bias at all: q' = [q, s rel_h, s rel_w], k' = [k, onehot(row), onehot(column)], exact
FlexAttention    compiled, looks a score's bias up in the two tables (a C++ compiler; on CPUs forward only)
rows of queries  the bias for some rows of queries at a time (nanoocr/model/sam.py), by budget of scores

The library keeps two, rows of queries and, for small grids on CPUs, concatenated: this is why. All ways run
in turn, and the times are medians, forward and forward with backward. JSON on the last line.
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
from torch.nn.attention.flex_attention import flex_attention

from nanoocr.commandline import parse, run
from nanoocr.config import PATCH, preset
from nanoocr.errors import UsageError
from nanoocr.eval.console import result_console
from nanoocr.inference.reader import choose_device
from nanoocr.machine import machine, use_threads
from nanoocr.model.layers import attend
from nanoocr.model.sam import position_bias, with_coordinates
from scripts.common import timed


@dataclass(frozen=True)
class BenchAttentionConfig:
    """Measures the ways of one global attention block."""

    preset: str = "d20"  # heads and head width of its SAM
    sides: tuple[int, ...] = (512, 1024)  # sides of the square pictures, in pixels
    budgets: tuple[int, ...] = (2**20, 2**22, 2**24, 2**26)  # scores at once, of the rows of queries
    dtype: str = "float32"  # float32 or bfloat16
    repeats: int = 3  # timed passes of each
    backward: bool = True  # also time forward with backward
    flex: bool = True  # FlexAttention too, which is compiled first
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


def whole_plain(x: Inputs) -> Tensor:
    """All queries at once, by two products and a softmax, with the whole bias in memory."""
    return attend(x.q, x.k, x.v, bias=position_bias(x.by_row, x.by_column))


def whole_fused(x: Inputs) -> Tensor:
    """All queries at once by torch's fused kernel, with the whole bias in memory."""
    return F.scaled_dot_product_attention(x.q, x.k, x.v, attn_mask=position_bias(x.by_row, x.by_column))


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


def concatenated_plain(x: Inputs) -> Tensor:
    """The same with plain products, which take a v of its own width: for windows and small grids."""
    return attend(*with_coordinates(x.q, x.k, x.by_row, x.by_column), x.v, scale=1.0)


def rows_of_queries(x: Inputs, budget: int) -> Tensor:
    """Some rows of queries at a time, so many that their bias stays below `budget` numbers."""
    N, H, W = x.by_row.shape[1:4]
    step = max(1, budget // (N * W * H * W))
    parts = []
    for y in range(0, H, step):
        bias = position_bias(x.by_row[:, :, y : y + step], x.by_column[:, :, y : y + step])
        parts.append(attend(x.q[:, :, y * W : (y + step) * W], x.k, x.v, bias=bias))
    return torch.cat(parts, dim=2)


def flex(x: Inputs, attention: Callable[..., Any]) -> Tensor:
    """torch's FlexAttention (`attention`, compiled or not): no bias is ever stored, whole or in part."""
    by_row, by_column = x.by_row.flatten(2, 3), x.by_column.flatten(2, 3)  # (1, N, T, H) and (1, N, T, W)
    W = by_column.size(-1)

    def with_bias(score: Tensor, b: Tensor, n: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return score + by_row[b, n, query, key // W] + by_column[b, n, query, key % W]

    return attention(x.q, x.k, x.v, score_mod=with_bias)


def ways(budgets: tuple[int, ...], with_flex: bool = True) -> dict[str, Callable[[Inputs], Tensor]]:
    """Every way by its name."""
    found: dict[str, Callable[[Inputs], Tensor]] = {
        "whole, plain": whole_plain,
        "whole, fused": whole_fused,
        "concatenated, fused": concatenated,
        "concatenated, plain": concatenated_plain,
    }
    if with_flex:
        found["FlexAttention"] = partial(flex, attention=torch.compile(flex_attention))
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


def forward(way: Callable[[Inputs], Tensor], x: Inputs) -> Tensor:
    """The output alone."""
    with torch.no_grad():
        return way(Inputs(*(tensor.detach() for tensor in x)))


def forward_and_backward(way: Callable[[Inputs], Tensor], x: Inputs) -> None:
    """One training pass."""
    way(x).float().sum().backward()


def failure(function: Callable[[], Any]) -> str:
    """Why a pass does not work on this device; empty where it does. It warms up, too."""
    try:
        function()
    except RuntimeError as error:  # NotImplementedError and the compilers' errors are such
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return ""


def measure_side(config: BenchAttentionConfig, side: int) -> list[dict[str, Any]]:
    """All ways at one size, in turn; a pass that does not work here has a reason and no time."""
    x, each = make_inputs(config, side), ways(config.budgets, config.flex)
    passes: dict[tuple[str, str], Callable[[], Any]] = {}
    for name, way in each.items():
        passes[name, "forward"] = partial(forward, way, x)
        if config.backward:
            passes[name, "with_backward"] = partial(forward_and_backward, way, x)
    failed = {key: reason for key, function in passes.items() if (reason := failure(function))}
    seconds: dict[tuple[str, str], list[float]] = {key: [] for key in passes if key not in failed}
    for _ in range(config.repeats):
        for key, times in seconds.items():
            times.append(timed(passes[key], x.q.device))
    medians = {key: median(times) for key, times in seconds.items()}
    expected = forward(whole_plain, x).float()
    return [
        {
            "side": side,
            "way": name,
            "forward": medians.get((name, "forward")),
            "with_backward": medians.get((name, "with_backward")),
            "max_difference": None
            if (name, "forward") in failed
            else float((forward(way, x).float() - expected).abs().max()),
            "failed": {which: reason for (of, which), reason in failed.items() if of == name},
        }
        for name, way in each.items()
    ]


def cells(line: dict[str, Any]) -> list[str]:
    """A line of the table."""
    times = [
        "not here" if which in line["failed"] else ("-" if line[which] is None else f"{line[which]:.3f}")
        for which in ("forward", "with_backward")
    ]
    difference = line["max_difference"]
    return [f"{line['side']}", line["way"], *times, "-" if difference is None else f"{difference:.1e}"]


def main(argv: list[str] | None = None) -> None:
    """Measure and print."""
    config = parse(BenchAttentionConfig, argv)
    use_threads(config.threads)
    lines = [line for side in config.sides for line in measure_side(config, side)]
    table = Table("Side", "Way", title=f"SAM's global attention, {config.dtype}")
    for column in ("Forward s", "With backward s", "Max difference"):
        table.add_column(column, justify="right")
    for line in lines:
        table.add_row(*cells(line))
    result_console().print(table)
    for reason in dict.fromkeys(
        f"{line['way']}, {which}: {why}" for line in lines for which, why in line["failed"].items()
    ):
        result_console().print(f"not here: {reason}", soft_wrap=True)
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
