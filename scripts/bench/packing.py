"""Packed sequences against padded ones: the same rows, the same model, taken in turns.

python -m scripts.bench.packing --mix=card:0.6,receipt:0.1,paragraph:0.1,form:0.2 --text_ratio=0.2

Three ways to train on one fixed set of rows: `packed` (documents that do not see each other share a
sequence), `sorted` (a sequence for each row, all rows sorted by length first) and `padded` (a sequence for
each row, as they come). Each way trains a model of its own on all of the rows; the rounds are interleaved, so
that the machine's moods hit all alike. Rates are relative to `padded`; `real` is the share of the positions
that are not padding. The last line on stdout is the same as JSON.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from rich.table import Table

from nanoocr.bpe import Tokenizer
from nanoocr.commandline import parse, run
from nanoocr.config import ModelConfig, preset
from nanoocr.data.batch import Batch, collate, collate_packed
from nanoocr.data.example import Example, TooLongError, prepare
from nanoocr.data.loader import Delivery, StreamState
from nanoocr.data.packing import pack
from nanoocr.errors import UsageError
from nanoocr.eval.console import result_console
from nanoocr.machine import machine
from nanoocr.tasks.choose import make_task
from nanoocr.train.config import TrainConfig
from nanoocr.train.data import plan_data
from nanoocr.train.run import Run
from nanoocr.train.setup import new_model, resolve_recipe
from nanoocr.train.state import build_state
from nanoocr.train.step import train_step

PAD = 0  # id of padding, which nobody looks at


@dataclass(frozen=True)
class PackingConfig:
    """Measures training samples per second, packed and padded."""

    preset: str = "nano"  # sizes of the model: nano, small or d20
    stage: int = 1  # stage of recipe scratch: 1 trains everything, 2 has SAM and compressor frozen
    mix: str = "card:0.6,scene:0.1,receipt:0.1,form:0.1,paragraph:0.1"  # synthetic kinds and weights
    text_ratio: float = 0.2  # share of rows without a picture
    batch_size: int = 64  # rows per padded batch; packed sequences are chosen to hold about as many
    rows: int = 256  # rows that every way trains on in a round
    rounds: int = 3  # timings of each way, of which the median counts
    threads: int = 0  # torch threads; 0 is the number of CPUs that this process may use
    compile: bool = False  # let torch.compile fuse the step

    def __post_init__(self) -> None:
        """The other flags are checked where TrainConfig has them too."""
        if min(self.rounds, self.rows) < 1 or self.stage not in (1, 2):
            raise UsageError("--rounds and --rows must be above 0, --stage 1 or 2")

    def train_config(self) -> TrainConfig:
        """The flags of the run that is imitated; the losses are the recipe's, the glyph loss among them."""
        return TrainConfig(
            preset=self.preset,
            steps=10_000,
            mix=self.mix,
            text_ratio=self.text_ratio,
            batch_size=self.batch_size,
            threads=self.threads,
            compile=self.compile,
        )


Batches = list[Batch]


def ways(examples: list[Example], rows: int, length: int) -> dict[str, Batches]:
    """The same examples as batches in the three ways; a packed batch holds about as many rows."""
    ascending = sorted(examples, key=lambda example: len(example.ids))
    cuts = range(0, len(examples), rows)
    return {
        "packed": packed_batches(examples, rows, length),
        "sorted": [collate(ascending[i : i + rows], PAD) for i in cuts],
        "padded": [collate(examples[i : i + rows], PAD) for i in cuts],
    }


def packed_batches(examples: list[Example], rows: int, length: int) -> Batches:
    """Best fit over all examples, as the loader does over those that wait."""
    sizes = [len(example.ids) - 1 for example in examples]
    pictures = [len(example.pixels) for example in examples]
    sequences = pack(sizes, pictures, length, max_pictures=64, sequences=len(examples))
    per_batch = max(1, round(rows * len(sequences) / len(examples)))
    chosen = [[examples[i] for i in sequence] for sequence in sequences]
    return [collate_packed(chosen[i : i + per_batch], length, PAD) for i in range(0, len(chosen), per_batch)]


def draw_examples(flags: TrainConfig, sizes: ModelConfig, tokenizer: Tokenizer, count: int) -> list[Example]:
    """The first `count` rows of the mix that fit into a sequence."""
    data = plan_data(flags, sizes, tokenizer, make_task)
    found: list[Example] = []
    for draw in itertools.count():
        try:
            found.append(prepare(data.source(draw, 1.0), tokenizer, data.views, data.max_length))
        except TooLongError:
            continue
        if len(found) == count:
            return found
    raise AssertionError("draws do not end")


def real_share(batches: Batches) -> float:
    """Share of the positions that are not padding."""
    return sum(batch.num_positions for batch in batches) / sum(batch.ids.numel() for batch in batches)


def measure(config: PackingConfig) -> dict[str, dict[str, float]]:
    """Rows per second and share of real positions of every way."""
    flags, tokenizer = config.train_config(), Tokenizer.bytes()
    torch.set_num_threads(flags.num_threads)
    run = Run(flags, resolve_recipe(flags, config.stage), config.stage)
    sizes = preset(config.preset, tokenizer.vocab_size)
    examples = draw_examples(flags, sizes, tokenizer, config.rows)
    batches = ways(examples, config.batch_size, sizes.gpt.sequence_len)
    states = {name: build_state(run, new_model(run, sizes, tokenizer)) for name in batches}
    rates: dict[str, list[float]] = {name: [] for name in batches}
    for turn in range(config.rounds + 1):
        for name, state in states.items():
            started = time.perf_counter()
            for batch in batches[name]:
                delivery = Delivery(batch, 0, StreamState(0, ()), {}, {})
                train_step(run, state, [delivery])
            if turn:  # the first round allocates
                rates[name].append(config.rows / (time.perf_counter() - started))
    padded = median(rates["padded"])
    return {
        name: {
            "steps": len(batches[name]),
            "rows_per_s": median(rates[name]),
            "relative": median(rates[name]) / padded,
            "real": real_share(batches[name]),
        }
        for name in batches
    }


def main(argv: list[str] | None = None) -> None:
    """Measure, print the table and the JSON."""
    config = parse(PackingConfig, argv)
    results = measure(config)
    table = Table("Way", title=f"Training {config.preset}, stage {config.stage}")
    for name in ("steps", "real", "rows/s", "relative"):
        table.add_column(name, justify="right")
    for name, r in results.items():
        table.add_row(
            name, f"{r['steps']:.0f}", f"{r['real']:.1%}", f"{r['rows_per_s']:.1f}", f"{r['relative']:.2f}"
        )
    result_console().print(table)
    about: dict[str, Any] = {**machine(), "mix": config.mix, "text_ratio": config.text_ratio}
    print(json.dumps({**about, "ways": results}))


if __name__ == "__main__":
    sys.exit(run(main))
