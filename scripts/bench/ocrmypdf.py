"""OCRmyPDF on a scan of ten pages, with our engine and with its own: processor and wall seconds, in turn.

python -m scripts.bench.ocrmypdf --dpi=150

The sheets are those of `scripts.bench.reading` in its four densities, drawn from seeds, turned by a third of
a degree as scans are, and saved as the JPEGs of one PDF. The engines take turns, so that what else the
machine does meets both. Seconds of the processor are those of the whole program, its start and the loading of
the model included. The error rate is that of the text that pypdfium2 finds in the PDF that was written.
Numbers are the least of `--repeats`. JSON on the last line.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import pypdfium2
from PIL import Image

from nanoocr.commandline import parse, run
from nanoocr.errors import UsageError
from nanoocr.eval.metrics import corpus_character_error_rate
from nanoocr.machine import machine
from scripts.bench.reading import DENSITIES, ROOT, sheet

DRAWN_DPI = 150
LEAN = 0.3  # degrees, in turn to the left, not at all, and to the right


@dataclass(frozen=True)
class OcrmypdfConfig:
    """Measures OCRmyPDF with several engines on the same scan."""

    engines: str = "nanoocr,tesseract"  # names that OCRmyPDF knows
    pages: int = 10  # pages of the scan
    dpi: int = DRAWN_DPI  # resolution of the scan
    jobs: int = 2  # pages that OCRmyPDF reads at the same time
    repeats: int = 3  # rounds; each one takes every engine in turn
    flags: str = ""  # more of OCRmyPDF's, as --flags="--deskew --rotate-pages"


@dataclass(frozen=True)
class Pass:
    """One run of the program."""

    wall: float  # seconds
    processor: float
    cer: float


def main(argv: list[str] | None = None) -> int:
    """Print a row for each engine, and one line of JSON."""
    config = parse(OcrmypdfConfig, argv)
    if min(config.pages, config.dpi, config.jobs, config.repeats) < 1:
        raise UsageError("--pages, --dpi, --jobs and --repeats must be at least 1")
    engines = [name.strip() for name in config.engines.split(",")]
    passes: dict[str, list[Pass]] = {name: [] for name in engines}
    with tempfile.TemporaryDirectory() as folder:
        scan, truths = make_scan(Path(folder), config.pages, config.dpi)
        for number in range(config.repeats):
            for name in engines:
                passes[name].append(read_once(name, scan, truths, config))
                print(f"{number + 1} of {config.repeats}, {name}: {passes[name][-1]}", file=sys.stderr)
    rows = {name: summary(of_engine) for name, of_engine in passes.items()}
    print("| engine | wall s | processor s | CER |\n|---|---|---|---|")
    for name, row in rows.items():
        print(f"| {name} | {row['wall']:.1f} | {row['processor']:.1f} | {row['cer']:.2%} |")
    about = {"pages": config.pages, "dpi": config.dpi, "jobs": config.jobs, "flags": config.flags}
    print(json.dumps({**about, "engines": rows, "machine": machine()}))
    return 0


def make_scan(folder: Path, pages: int, dpi: int) -> tuple[Path, list[str]]:
    """A PDF of so many sheets in the folder, and the text of each."""
    pictures, truths = [], []
    for number, size in enumerate(islice(cycle(DENSITIES.values()), pages)):
        drawn, truth = sheet(number, size)
        shape = tuple(round(side * dpi / DRAWN_DPI) for side in drawn.size)
        gray = drawn.convert("L").resize((shape[0], shape[1]), Image.Resampling.BICUBIC)
        lean = LEAN * (number % 3 - 1)
        pictures.append(gray.rotate(lean, Image.Resampling.BICUBIC, fillcolor=255))
        truths.append(truth)
    path = folder / "scan.pdf"
    pictures[0].save(path, "PDF", save_all=True, append_images=pictures[1:], resolution=dpi)
    return path, truths


def read_once(engine: str, scan: Path, truths: Sequence[str], config: OcrmypdfConfig) -> Pass:
    """One run of the real program, and what it cost.

    Raises:
        UsageError: it failed.
    """
    out = scan.with_name(f"{engine}.pdf")
    command = [sys.executable, "-m", "ocrmypdf", "--ocr-engine", engine, "--output-type", "pdf", "-O0"]
    command += ["--jobs", str(config.jobs), *config.flags.split(), str(scan), str(out)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    started, before = time.perf_counter(), children_seconds()
    done = subprocess.run(command, env=environment, cwd=scan.parent, capture_output=True, text=True)
    wall, processor = time.perf_counter() - started, children_seconds() - before
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise UsageError(f"ocrmypdf --ocr-engine={engine} ended with {done.returncode}: {reason}")
    return Pass(wall, processor, error_rate(out, truths))


def children_seconds() -> float:
    """Of the processor, of all child processes that have ended, with their own children."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def error_rate(path: Path, truths: Sequence[str]) -> float:
    """The character error rate of the PDF's text, blanks and ends of lines taken alike."""
    document = pypdfium2.PdfDocument(path)
    try:
        # pdfium writes U+FFFE for a hyphen at the end of a line, and drops the end.
        texts = [page.get_textpage().get_text_range().replace("\ufffe", "- ") for page in document]
    finally:
        document.close()
    return corpus_character_error_rate(
        [" ".join(text.split()) for text in texts], [" ".join(truth.split()) for truth in truths]
    )


def summary(passes: Sequence[Pass]) -> dict[str, float]:
    """The least of all passes; the error rate is the same in each."""
    return {
        "wall": round(min(one.wall for one in passes), 2),
        "processor": round(min(one.processor for one in passes), 2),
        "cer": round(passes[0].cer, 4),
    }


if __name__ == "__main__":
    sys.exit(run(main))
