"""How long scoring takes: Fox-style, SROIE-style and OmniDocBench's matching over pages of random text.

python -m scripts.bench.scoring --pairs=1000 --characters=3000

Every page has paragraphs, a formula and a table; the prediction has wrong letters, split, merged, lost and
swapped paragraphs, and every hundredth one ends in a loop. The last line on stdout is the same as JSON.
"""

from __future__ import annotations

import json
import random
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

from rich.console import Console
from rich.table import Table

from nanoocr.commandline import parse, run
from nanoocr.errors import UsageError
from nanoocr.eval.fox import fox_scores, mean_scores
from nanoocr.eval.omnidocbench import OmniPage, score_omnidocbench
from nanoocr.eval.omnidocbench.extract import Version
from nanoocr.eval.page_scores import page_scores

LETTERS = "etaoinshrdlucmfwypvbgkqjxz"
LOOP_EVERY = 100  # pages


@dataclass(frozen=True)
class BenchConfig:
    """Measures the speed of the evaluation code."""

    pairs: int = 1000  # pages with truth and prediction
    characters: int = 3000  # about so many in the truth of a page
    errors: float = 0.05  # share of wrong letters
    version: Version = "1.5"  # of OmniDocBench
    seed: int = 0  # seeds the random pages

    def __post_init__(self) -> None:
        """A page needs room for its table and its formula."""
        if self.pairs < 1 or self.characters < 200 or not 0 <= self.errors < 1:
            raise UsageError("--pairs must be at least 1, --characters 200, --errors from 0 to below 1")


@dataclass(frozen=True)
class Timing:
    """Seconds for all pairs, on the clock and of one core."""

    wall: float
    cpu: float
    score: float  # so that nobody wonders whether anything was computed


def words(rng: random.Random, characters: int) -> str:
    """Random words, more frequent letters first."""
    text = ""
    while len(text) < characters:
        word = "".join(LETTERS[min(int(rng.expovariate(0.15)), 25)] for _ in range(rng.randint(2, 9)))
        text += word + rng.choice(("  ", " ", " ", " ", ", ", ". "))
    return text.strip()


def make_page(rng: random.Random, name: str, characters: int) -> OmniPage:
    """A page of paragraphs, a formula and a table, as OmniDocBench annotates it."""
    paragraphs = [words(rng, rng.randint(100, 500)) for _ in range(max(1, characters // 300))]
    cells = [[words(rng, 5) for _ in range(5)] for _ in range(8)]
    rows = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in cells)
    formula = rf"$$\sum_{{i=1}}^{{{rng.randint(2, 99)}}} x_i^2 + \frac{{a}}{{{rng.randint(2, 99)}}}$$"
    dets = [{"category_type": "text_block", "text": paragraph} for paragraph in paragraphs]
    dets += [
        {"category_type": "equation_isolated", "latex": formula},
        {"category_type": "table", "html": f"<table>{rows}</table>"},
        {"category_type": "page_number", "text": str(rng.randint(1, 999))},
    ]
    numbered = [{"anno_id": i, "order": i, **det} for i, det in enumerate(dets, start=1)]
    annotation = {"page_info": {"image_path": f"{name}.jpg", "page_attribute": {}}, "layout_dets": numbered}
    return OmniPage(name, Path(f"{name}.jpg"), annotation)


def distort(rng: random.Random, markdown: str, errors: float, loop: bool) -> str:
    """What a middling model might have read."""
    paragraphs: list[str] = []
    for paragraph in markdown.split("\n\n"):
        fate = rng.random()
        if "$$" not in paragraph:
            parts = re.split("(<[^>]*>)", paragraph)  # text and tags in turn
            parts[::2] = ["".join(_misread(rng, text, errors)) for text in parts[::2]]
            paragraph = "".join(parts)
        if fate < 0.05:
            continue
        if fate < 0.15 and paragraphs:
            paragraphs[-1] += " " + paragraph
        elif fate < 0.25:
            middle = len(paragraph) // 2
            paragraphs += [paragraph[:middle], paragraph[middle:]]
        elif fate < 0.3 and paragraphs:
            paragraphs.insert(-1, paragraph)
        else:
            paragraphs.append(paragraph)
    return "\n\n".join([*paragraphs, "and so on " * 1000 if loop else ""])


def _misread(rng: random.Random, text: str, errors: float) -> Iterator[str]:
    for letter in text:
        yield rng.choice(LETTERS) if rng.random() < errors else letter


def measure(work: Callable[[], float]) -> Timing:
    """Seconds of one call."""
    wall, cpu = time.perf_counter(), time.process_time()
    score = work()
    return Timing(time.perf_counter() - wall, time.process_time() - cpu, score)


def fox_style(truths: Sequence[str], outputs: Sequence[str]) -> float:
    """Fox's scores of all pages."""
    return mean_scores([fox_scores(output, truth) for output, truth in zip(outputs, truths)]).ned


def sroie_style(truths: Sequence[str], outputs: Sequence[str]) -> float:
    """Strict and case-free CER, word bags and word sets of all pages, as for receipts and forms."""
    return fmean(page_scores(output, truth).cer_free for output, truth in zip(outputs, truths))


def main(argv: list[str] | None = None) -> None:
    """Make the pages, score them both ways, print the table and the JSON."""
    config = parse(BenchConfig, argv)
    rng = random.Random(config.seed)
    pages = [make_page(rng, f"page{i}", config.characters) for i in range(config.pairs)]
    truths = [page.markdown for page in pages]
    outputs = [
        distort(rng, truth, config.errors, loop=i % LOOP_EVERY == LOOP_EVERY - 1)
        for i, truth in enumerate(truths)
    ]
    named = {page.id: output for page, output in zip(pages, outputs)}

    def omnidocbench() -> float:
        text = score_omnidocbench(pages, named, version=config.version).scores["text_edit"]
        return text.page_average if text else float("nan")

    timings = {
        "Fox scores": measure(lambda: fox_style(truths, outputs)),
        "every score of a page": measure(lambda: sroie_style(truths, outputs)),
        f"OmniDocBench v{config.version}": measure(omnidocbench),
    }
    mean_length = sum(map(len, truths)) / len(truths)
    table = Table(title=f"{config.pairs} pages of {mean_length:.0f} characters")
    for name in ("Scoring", "Wall s", "CPU s", "Score"):
        table.add_column(name, justify="left" if name == "Scoring" else "right")
    for name, timing in timings.items():
        table.add_row(name, f"{timing.wall:.1f}", f"{timing.cpu:.1f}", f"{timing.score:.3f}")
    Console().print(table)
    data = {**asdict(config), "mean_characters": mean_length}
    print(json.dumps({**data, "timings": {name: asdict(timing) for name, timing in timings.items()}}))


if __name__ == "__main__":
    sys.exit(run(main))
