"""Packed lines against padded ones: the same rows, the same model, taken in turns.

python -m scripts.bench_packing --mix=card:0.6,receipt:0.1,paragraph:0.1,form:0.2 --text_ratio=0.2

Three ways to fill a batch: `packed` (documents that do not see each other share a line), `sorted` (one row
per line, rows of similar length together) and `padded` (one row per line as they come). Each way trains a
model of its own on batches made beforehand; the rounds are interleaved, so that the machine's moods hit all
alike. Rates are relative to `padded`; `real` is the share of the positions that are not padding. The last
line on stdout is the same as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import torch
from rich.table import Table

from nanoocr.commandline import parse, run
from nanoocr.config import preset
from nanoocr.data.loader import DataPlan, Delivery, multimodal_data_generator
from nanoocr.errors import UsageError
from nanoocr.tokenizer import Tokenizer
from nanoocr.train.config import TrainConfig
from nanoocr.train.data import plan_data
from nanoocr.train.distributed import World
from nanoocr.train.setup import new_model, resolve_recipe
from nanoocr.train.step import TrainState, build_state, train_step
from scripts.measure_reading import machine
from scripts.vision_sample import result_console
from tasks.choose import make_task


@dataclass(frozen=True)
class PackingConfig:
    """Measures training samples per second, packed and padded."""

    preset: str = "nano"  # sizes of the model: nano, small or d20
    stage: int = 1  # of the recipe scratch: 1 trains everything, 2 has SAM and compressor frozen
    mix: str = "card:0.6,scene:0.1,receipt:0.1,form:0.1,paragraph:0.1"  # synthetic kinds and weights
    text_ratio: float = 0.2  # share of rows without a picture
    batch_size: int = 64  # rows per padded batch; packed lines are chosen to hold about as many
    rounds: int = 5  # timings of each way, of which the median counts
    steps: int = 4  # steps per timing
    threads: int = 0  # torch threads; 0 is the number of CPUs that this process may use
    compile: bool = False  # let torch.compile fuse the step

    def __post_init__(self) -> None:
        """The other flags are checked where TrainConfig has them too."""
        if min(self.rounds, self.steps) < 1 or self.stage not in (1, 2):
            raise UsageError("--rounds and --steps must be above 0, --stage 1 or 2")

    def train_config(self) -> TrainConfig:
        """The flags of the run that is imitated; the glyph loss is off, since text has none."""
        return TrainConfig(
            preset=self.preset,
            steps=10_000,
            mix=self.mix,
            text_ratio=self.text_ratio,
            batch_size=self.batch_size,
            threads=self.threads,
            compile=self.compile,
        )


def ways(data: DataPlan) -> dict[str, DataPlan]:
    """The three ways of the same data; a packed batch holds about as many rows as a padded one."""
    probe = next(multimodal_data_generator(replace(data, batch_size=256)))[0].batch
    positions = data.batch_size * probe.num_positions / probe.num_documents
    lines = max(1, round(positions / data.max_length))
    return {
        "packed": replace(data, packed=True, batch_size=lines),
        "sorted": data,
        "padded": replace(data, window=data.batch_size),
    }


def real_share(deliveries: list[Delivery]) -> float:
    """Share of the positions that are not padding."""
    return sum(d.batch.num_positions for d in deliveries) / sum(d.batch.ids.numel() for d in deliveries)


def measure(config: PackingConfig) -> dict[str, dict[str, float]]:
    """Rows per second and share of real positions of every way."""
    flags, tokenizer, world = config.train_config(), Tokenizer.bytes(), World()
    torch.set_num_threads(flags.num_threads)
    chosen = resolve_recipe(flags, config.stage)
    sizes = preset(config.preset, tokenizer.vocab_size)
    plans = ways(plan_data(flags, sizes, tokenizer, make_task))
    batches: dict[str, list[Delivery]] = {}
    states: dict[str, TrainState] = {}
    for name, data in plans.items():
        generator = multimodal_data_generator(data)
        batches[name] = [next(generator)[0] for _ in range(config.steps)]
        states[name] = build_state(new_model(flags, sizes, tokenizer, world), chosen, flags)
    rates: dict[str, list[float]] = {name: [] for name in plans}
    for turn in range(config.rounds + 1):
        for name, state in states.items():
            started = time.perf_counter()
            for delivery in batches[name]:
                train_step(state, [delivery], chosen, flags, world)
            rows = sum(delivery.batch.num_documents for delivery in batches[name])
            if turn:  # the first round allocates
                rates[name].append(rows / (time.perf_counter() - started))
    slowest = median(rates["padded"])
    return {
        name: {
            "rows_per_s": median(rates[name]),
            "relative": median(rates[name]) / slowest,
            "real": real_share(batches[name]),
            "lines": plans[name].batch_size,
        }
        for name in plans
    }


def main(argv: list[str] | None = None) -> None:
    """Measure, print the table and the JSON."""
    config = parse(PackingConfig, argv)
    results = measure(config)
    table = Table("Way", title=f"Training {config.preset}, stage {config.stage}")
    for name in ("lines", "real", "rows/s", "relative"):
        table.add_column(name, justify="right")
    for name, r in results.items():
        table.add_row(
            name, f"{r['lines']:.0f}", f"{r['real']:.1%}", f"{r['rows_per_s']:.1f}", f"{r['relative']:.2f}"
        )
    result_console().print(table)
    about: dict[str, Any] = {**machine(), "mix": config.mix, "text_ratio": config.text_ratio}
    print(json.dumps({**about, "ways": results}))


if __name__ == "__main__":
    sys.exit(run(main))
