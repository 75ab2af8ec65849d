"""Decoding of strips with and without drafts: seconds of the processor, and whether the text is the same.

OMP_NUM_THREADS=1 python -m scripts.bench.drafts --head=checkpoints/strips/step_000760 --batch=16 --threads=1

The strips are held-out synthetic ones. Both ways run in turn, and the numbers are the least of `--repeats`.
The encoder's part, which both need, stands beside them. JSON on the last line.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nanoocr.commandline import parse, run
from nanoocr.data.synth import VALIDATION_SEED, find_fonts, make_sample
from nanoocr.errors import UsageError
from nanoocr.eval.samples import FIRST_INDEX
from nanoocr.image_process import as_picture
from nanoocr.inference.encode import encode_pictures
from nanoocr.inference.engine import Completion, Engine, Request
from nanoocr.inference.reader import Reader
from nanoocr.layout import Strip
from nanoocr.machine import machine, use_threads
from scripts.common import refuse_below
from scripts.dev.ship_model import head_of_step


@dataclass(frozen=True)
class DraftsConfig:
    """Measures decoding from drafts beside decoding byte by byte."""

    model: str = ""  # model folder; empty is the one in the package
    head: str = ""  # training step or model folder whose glyph head drafts; empty is the model's own
    strips: int = 64  # held-out strips
    batch: int = 64  # strips that are decoded together
    dtype: str = "float32"  # float32 or bfloat16
    threads: int = 1  # torch threads
    repeats: int = 3  # rounds; each one takes every way in turn

    def __post_init__(self) -> None:
        """Refuse numbers that make no sense."""
        refuse_below(self, strips=1, batch=1, threads=1, repeats=1)


def main(argv: list[str] | None = None) -> int:
    """Print one line of JSON."""
    config = parse(DraftsConfig, argv)
    use_threads(config.threads)
    reader = Reader(config.model or None, dtype=config.dtype)
    head = head_of_step(Path(config.head), reader.model) if config.head else reader.engine.head
    if head is None:
        raise UsageError("this model has no glyph head: name a training step with --head=DIR")
    requests = held_out(reader, config.strips)
    plain = Engine(reader.model, reader.tokenizer)
    drafted = Engine(reader.model, reader.tokenizer, head.to(reader.device, reader.dtype))
    pictures = [as_picture(view) for request in requests for view in request.views]
    ways: dict[str, Callable[[], object]] = {
        "plain": lambda: plain.generate(requests, max_batch=config.batch),
        "drafted": lambda: drafted.generate(requests, max_batch=config.batch),
        "encode": lambda: encode_pictures(reader.model, pictures),
    }
    least = dict.fromkeys(ways, float("inf"))
    texts: dict[str, list[Completion]] = {}
    for _ in range(config.repeats):
        for name, way in ways.items():
            started = time.process_time()
            found = way()
            least[name] = min(least[name], time.process_time() - started)
            if isinstance(found, list):
                texts[name] = found
    differ = sum(a.ids != b.ids for a, b in zip(texts["plain"], texts["drafted"], strict=True))
    characters = sum(len(one.text) for one in texts["plain"])
    print(json.dumps({**machine(), "seconds": least, "characters": characters, "strips_that_differ": differ}))
    return 0


def held_out(reader: Reader, count: int) -> list[Request]:
    """What is asked about held-out strips, those of one width together."""
    fonts, lines = find_fonts(), reader.line_reader(reader.prompt)
    samples = [make_sample("strip", VALIDATION_SEED, FIRST_INDEX + i, fonts=fonts) for i in range(count)]
    pictures = sorted((np.array(sample.image) for sample in samples), key=lambda one: one.shape[1])
    strips = [Strip(one, np.eye(2, 3), (0, one.shape[1]), 0) for one in pictures]
    return [lines.request(strip) for strip in strips]


if __name__ == "__main__":
    sys.exit(run(main))
