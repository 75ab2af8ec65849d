"""What the output formats cost beside the reading: processor seconds of each, as a share of the reading's.

OMP_NUM_THREADS=1 python -m scripts.bench.formats --pages=4

The sheets are those of `scripts.bench.reading` in its four densities. Each page is read once and rendered
`--repeats` times in every format; the least counts. `clean` is what all formats share, once a page, and
`all` is what it and all formats together cost. The overlay stands apart, since that is a picture. JSON on
the last line.
"""

from __future__ import annotations

import io
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nanoocr.commandline import parse, run
from nanoocr.errors import UsageError
from nanoocr.formats import FORMATS, render
from nanoocr.formats.clean import clean
from nanoocr.formats.overlay import draw
from nanoocr.inference.page import Page
from nanoocr.inference.reader import Reader
from nanoocr.machine import machine, use_threads
from scripts.bench.reading import DENSITIES, sheet

CLEAN, OVERLAY = "clean", "overlay"


@dataclass(frozen=True)
class FormatsConfig:
    """Measures what each output format costs beside the reading."""

    pages: int = 4  # synthetic pages
    repeats: int = 3  # times that each format is written
    threads: int = 1  # torch threads


def main(argv: list[str] | None = None) -> int:
    """Print a row for each format, and one line of JSON."""
    config = parse(FormatsConfig, argv)
    if min(config.pages, config.repeats) < 1:
        raise UsageError("--pages and --repeats must be at least 1")
    use_threads(config.threads)
    reader = Reader()
    sizes = list(DENSITIES.values())
    reading, spent = 0.0, dict.fromkeys([CLEAN, *FORMATS, OVERLAY], 0.0)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(config.pages):
            path = Path(folder, f"{number}.png")
            sheet(number, sizes[number % len(sizes)])[0].save(path, dpi=(150, 150))
            if number == 0:
                reader.read(path)  # the first page pays for what is loaded late
            started = time.process_time()
            page = reader.read(path)
            reading += time.process_time() - started
            assert not isinstance(page, list)
            for name in spent:
                spent[name] += least(work_of(page, name), config.repeats)
    shares = {name: seconds / reading for name, seconds in spent.items()}
    shares["all"] = sum(shares[name] for name in (CLEAN, *FORMATS))
    print("| format | of the reading |\n|---|---|")
    for name, share in shares.items():
        print(f"| {name} | {share:.2%} |")
    rounded = {name: round(share, 5) for name, share in shares.items()}
    about = {"pages": config.pages, "reading_seconds": round(reading, 2)}
    print(json.dumps({**about, "shares": rounded, "machine": machine()}))
    return 0


def work_of(page: Page, name: str) -> Callable[[], object]:
    """What makes the page's content in this format, or its overlay as a PNG."""
    if name == OVERLAY:
        return lambda: draw(page).save(io.BytesIO(), "PNG")
    if name == CLEAN:
        return lambda: clean(page)
    cleaned = clean(page).page  # as `write_document` has it for all formats
    return lambda: render([cleaned], name)


def least(work: Callable[[], object], repeats: int) -> float:
    """The least processor seconds of a few calls, the first one apart, which imports libraries."""
    work()
    seconds = []
    for _ in range(repeats):
        started = time.process_time()
        work()
        seconds.append(time.process_time() - started)
    return min(seconds)


if __name__ == "__main__":
    sys.exit(run(main))
