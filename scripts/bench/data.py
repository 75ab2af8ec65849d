"""How fast one core feeds the model, and whether its memory stays flat.

python -m scripts.bench.data --pages=200 --rows=100000

Pages: JPEG pictures of 1024 pixels in a Parquet file, read, decoded, fitted into a view and tokenised, by one
process. Rows: synthetic cards out of a Parquet file, streamed through the packing loader without a picture
decoded twice; the resident memory is noted along the way. The last line on stdout is the same as JSON.
"""

from __future__ import annotations

import io
import json
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from nanoocr.bpe import Tokenizer
from nanoocr.commandline import parse, run
from nanoocr.config import preset
from nanoocr.data.example import prepare
from nanoocr.data.loader import DataPlan, multimodal_data_generator
from nanoocr.data.shards import local_shards
from nanoocr.data.source import Mixture
from nanoocr.data.synth import find_fonts, make_sample, write_parquet
from nanoocr.data.task import ParquetTask
from nanoocr.errors import UsageError
from nanoocr.eval.console import result_console
from nanoocr.image_process import mode
from nanoocr.machine import machine
from scripts.common import resident

VIEWS = preset("nano").views
CARDS = 2000  # different cards in the file that is streamed


@dataclass(frozen=True)
class BenchDataConfig:
    """Measures reading and decoding on one core, and the memory of a long stream."""

    pages: int = 200  # JPEG pages that are timed
    rows: int = 20_000  # cards that are streamed
    marks: int = 10  # how often memory is noted

    def __post_init__(self) -> None:
        """All above zero."""
        if min(self.pages, self.rows, self.marks) < 1:
            raise UsageError("--pages, --rows and --marks must be above 0")


def write_pages(path: Path, count: int) -> None:
    """Paragraph-like JPEG pages of 1024 x 1024 with their text, in FineVision's schema."""
    fonts, rows = find_fonts(), []
    for i in range(count):
        page = Image.new("RGB", (1024, 1024), "white")
        sample = make_sample("paragraph", 0, i, fonts=fonts)
        for y in range(0, 1024 - sample.image.height, sample.image.height):
            for x in range(0, 1024 - sample.image.width, sample.image.width):
                page.paste(sample.image, (x, y))
        buffer = io.BytesIO()
        page.save(buffer, format="JPEG", quality=85)
        text = [{"user": "Free OCR.", "assistant": sample.answer * 8}]
        rows.append(
            {"images": [{"bytes": buffer.getvalue(), "path": None}], "texts": text, "source": "bench"}
        )
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=50)


def time_pages(path: Path, count: int) -> float:
    """Pages per minute of one process, from the file to pixels and ids."""
    task, tokenizer = ParquetTask(local_shards([path])), Tokenizer.bytes()
    prepare(task[0], tokenizer, VIEWS, 100_000, mode("base"))
    started = time.perf_counter()
    for i in range(count):
        prepare(task[i], tokenizer, VIEWS, 100_000, mode("base"))
    return 60 * count / (time.perf_counter() - started)


def stream_rows(path: Path, count: int, marks: int) -> dict[str, Any]:
    """Rows per second of one process, and MB resident after each part of the stream."""
    task = ParquetTask(local_shards([path]))
    data = DataPlan(
        source=Mixture((("cards", task),), (1.0,), 0),
        tokenizer=Tokenizer.bytes(),
        views=VIEWS,
        batch_size=8,
        steps=10**9,
        seed=0,
        max_length=512,
        packed=True,
    )
    memory: list[float] = []
    rows, started = 0, time.perf_counter()
    for step in multimodal_data_generator(data):
        rows += step[0].batch.num_documents
        if rows >= count * (len(memory) + 1) // marks:
            memory.append(resident() / 2**20)
        if len(memory) == marks:
            break
    later = np.array(memory[1:] or memory)
    return {
        "rows": rows,
        "rows_per_s": rows / (time.perf_counter() - started),
        "resident_mb": memory,
        "growth": float(later[-1] / later[0] - 1),  # after the first part, which fills the caches
    }


def main(argv: list[str] | None = None) -> None:
    """Measure, print."""
    config = parse(BenchDataConfig, argv)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        pages, cards = Path(folder) / "pages.parquet", Path(folder) / "cards.parquet"
        write_pages(pages, config.pages)
        write_parquet(cards, "card", CARDS, 0, fonts=find_fonts())
        result: dict[str, Any] = {
            **machine(),
            "pages_per_minute": time_pages(pages, config.pages),
            "page_mb": pages.stat().st_size / config.pages / 1e6,
            "stream": stream_rows(cards, config.rows, config.marks),
        }
    stream = result["stream"]
    console = result_console()
    console.print(
        f"{result['pages_per_minute']:.0f} JPEG pages of 1024 pixels ({result['page_mb']:.2f} MB each) "
        "a minute and core, read, decoded, fitted, tokenised"
    )
    console.print(
        f"{stream['rows']} cards streamed at {stream['rows_per_s']:.0f}/s; resident MB along the way: "
        + ", ".join(f"{mb:.0f}" for mb in stream["resident_mb"])
        + f" (growth after the first part {stream['growth']:+.1%})"
    )
    print(json.dumps(result))


if __name__ == "__main__":
    sys.exit(run(main))
