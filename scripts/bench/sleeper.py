"""How long batches take of a reader that only sleeps: what engines add to the reading, whatever the load.

python -m scripts.bench.sleeper [--pages=300] [--seconds=0.3] [--engines=pool1,pool2,ray2]

Each page says when it was begun and ended, so that the starts of workers and of Ray do not count, but the
time when one worker has nothing more to do, while another still reads, does.
"""

from __future__ import annotations

import re
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from PIL import Image

from nanoocr.batch.drive import Plan, drive
from nanoocr.batch.ledger import Document, Found, Ledger
from nanoocr.batch.sources import file_place
from nanoocr.commandline import parse, run
from nanoocr.errors import UsageError
from nanoocr.eval.evaluate import split_names
from nanoocr.pages import Picture


@dataclass(frozen=True)
class SleeperConfig:
    """Measures what the engines of a batch add to a reader that only sleeps."""

    pages: int = 300  # made-up pages
    seconds: float = 0.3  # of a page
    engines: str = "pool1,pool2,ray2"  # pool or ray, each with its number of workers
    repeats: int = 1  # rounds; each one takes every engine in turn

    def __post_init__(self) -> None:
        """Refuse unknown engines and senseless numbers before anything is run."""
        if self.pages < 1 or self.repeats < 1 or not self.seconds > 0:
            raise UsageError("--pages and --repeats must be at least 1, and --seconds above 0")
        unknown = [name for name in split_names(self.engines) if not re.fullmatch("(pool|ray)[1-9]", name)]
        if unknown or not split_names(self.engines):
            raise UsageError(f"--engines={self.engines}: write pool or ray and 1 to 9, as in pool1,ray2")


@dataclass(frozen=True)
class Sleeper:
    """A reader whose pages take a fixed time and no processor."""

    seconds: float

    def load(self) -> None:
        """There is no model."""

    def read(self, pictures: Iterable[Picture]) -> Iterator[dict[str, Any]]:
        """Records whose texts are the moments of beginning and end."""
        for picture in pictures:
            began = time.time()
            time.sleep(self.seconds)
            said = {"text": f"{began} {time.time()}", "status": "ok", "error": None, "seconds": self.seconds}
            yield {"file": picture.file, "page": picture.page, "confidence": None, **said}

    def write_beside(self, document: Document) -> list[str]:
        """Nothing is written."""
        return []


def spent(engine: str, options: SleeperConfig, folder: Path) -> float:
    """Seconds from the beginning of the first page to the end of the last."""
    out, workers = folder / "out", int(engine[-1])
    out.mkdir()
    ledger = Ledger(out)
    ledger.add(Found(file_place(path), path.name, path.stem) for path in sorted(folder.glob("*.png")))
    # By its module's name, since in other processes the main module is another one.
    make = partial(import_module("scripts.bench.sleeper").Sleeper, options.seconds)
    plan = Plan(workers=workers)
    if engine.startswith("ray"):
        from nanoocr.batch.ray_engine import drive_ray

        drive_ray(ledger, out, make, plan, print, lambda: None, None)
    else:
        drive(ledger, out, make, plan, print, lambda: None)
    ledger.close()
    texts = [text for path in out.glob("pages-*") for text in pq.read_table(path).column("text").to_pylist()]
    moments = [tuple(map(float, text.split())) for text in texts]
    assert len(moments) == options.pages
    return max(end for _, end in moments) - min(began for began, _ in moments)


def main(argv: list[str] | None = None) -> None:
    """Print what each engine takes, beside what the sleep alone would."""
    options = parse(SleeperConfig, argv)
    for _ in range(options.repeats):
        for engine in split_names(options.engines):
            with tempfile.TemporaryDirectory() as name:
                for number in range(options.pages):
                    colour = (number % 251, number // 251, 9)
                    Image.new("RGB", (8, 8), colour).save(Path(name, f"{number:05d}.png"))
                seconds = spent(engine, options, Path(name))
            least = options.pages * options.seconds / int(engine[-1])
            print(f"{engine}: {seconds:.1f} s, {seconds / least:.3f} of the least possible", flush=True)


if __name__ == "__main__":
    sys.exit(run(main))
