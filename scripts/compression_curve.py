"""The compression curve of a model: precision and CER against text tokens / vision tokens.

python -m scripts.compression_curve --out=out/curve
python -m scripts.compression_curve --model=DIR --mode=small --ratios=6,8,10,12 --out=out/small
python -m scripts.compression_curve --folder=DIR --out=out/pages

It draws its own held-out pages of rising length in the model's views, or takes a folder of pictures with
their text. Answers are written to --out at once, so an interrupted run continues where it was. curve.json and
curve.png are written there too, with the paper's curve beside the model's. The last line on stdout is the
JSON.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from rich import box
from rich.table import Table

from nanoocr.bpe import Tokenizer
from nanoocr.commandline import parse, run
from nanoocr.data.synth import find_fonts
from nanoocr.errors import UsageError
from nanoocr.eval.answering import model_answers
from nanoocr.eval.catalogue import BENCHMARKS, check_extras
from nanoocr.eval.compression import (
    COLUMNS,
    CURVE,
    PAPER_CURVES,
    Level,
    curve,
    curve_row,
    length_pages,
    measured_pages,
)
from nanoocr.eval.console import result_console
from nanoocr.eval.evaluate import (
    VisionEvalConfig,
    asking,
    load_reader,
    prompt_of,
    read_all,
    split_names,
)
from nanoocr.eval.peers import PEERS
from nanoocr.eval.plots import new_figure, plot_curve
from nanoocr.eval.samples import EvalSample, SampleSet, collect, load_folder
from nanoocr.eval.store import named
from nanoocr.eval.summary import ALL, by_group, score_pages
from nanoocr.files import write_file
from nanoocr.image_process import count_picture_tokens, fit_picture
from nanoocr.image_process import mode as find_mode
from nanoocr.inference.engine import MAX_BATCH
from nanoocr.machine import machine
from nanoocr.model.vlm import VLM
from scripts.common import command_line

PROMPT_ROOM = 24  # tokens reserved for the chat format and the prompt


@dataclass(frozen=True)
class CurveConfig:
    """Measures precision against text tokens / vision tokens."""

    out: str  # folder for answers, curve.json and curve.png; an interrupted run continues in it
    model: str = "shipped"  # model folder, training step, run folder, or shipped
    ratios: str = "1,2,3,4,6,8,10,12,15,20"  # lengths of the drawn pages, in multiples of the vision tokens
    pages: int = 20  # pages of each length and view
    folder: str = ""  # pictures with their text instead of drawn pages
    width: float = 1.0  # width of a bucket of text tokens / vision tokens
    grounding: bool = True  # read with wrong and blank pictures too
    mode: str = ""  # resolution mode, as small; empty means the model's views
    max_tokens: int = 0  # longest answer in tokens; 0 means what fits the model
    max_batch: int = MAX_BATCH  # pages decoded together
    device: str = "cpu"  # cpu, cuda, mps
    threads: int = 0  # torch threads; 0 is torch's choice

    def __post_init__(self) -> None:
        """Refuse settings that give no curve."""
        if self.model in PEERS:
            raise UsageError(f"{self.model} has no vision tokens: a compression curve needs a model")
        if self.pages < 1 or not self.width > 0:
            raise UsageError("--pages must be at least 1 and --width above 0")


def measure_curve(config: CurveConfig) -> dict[str, Any]:
    """Read the pages and put them into buckets; returns plain data."""
    new_figure(1, 1)  # A missing matplotlib should show before the work, not after it.
    reading = VisionEvalConfig(
        out=config.out,
        model=config.model,
        grounding=config.grounding,
        mode=config.mode,
        max_tokens=config.max_tokens,
        max_batch=config.max_batch,
        device=config.device,
        threads=config.threads,
    )
    reader, about = load_reader(reading)
    drawn = load_folder(config.folder) if config.folder else draw_set(config, reader.model, reader.tokenizer)
    sample_set = asking(drawn, prompt_of(reading))
    check_extras(BENCHMARKS["folder"], sample_set.samples)
    answer = functools.partial(model_answers, reader, config.max_tokens or None)
    found = read_all(reading, sample_set.samples, about, answer)
    results = score_pages(sample_set.samples, found.predictions, BENCHMARKS["folder"])
    pages = measured_pages(results, lambda truth: len(reader.tokenizer.encode(truth)))
    names = {page.result.sample.id: page for page in pages}
    groups = by_group([page.result for page in pages])
    if any(len(group) == len(groups[ALL]) for name, group in groups.items() if name != ALL):
        del groups[ALL]  # it holds the same pages as the only view
    unread = [result.sample.id for result in results if result.sample.id not in names]
    return {
        "model": config.model,
        "about": about,
        "machine": machine(),
        "left_out": [*sample_set.left_out, *(f"{name}: it could not be read" for name in unread)],
        "curves": {n: curve([names[r.sample.id] for r in g], config.width) for n, g in groups.items()},
        "paper": {str(tokens): [p._asdict() for p in points] for tokens, points in PAPER_CURVES.items()},
    }


def draw_set(config: CurveConfig, model: VLM, tokenizer: Tokenizer) -> SampleSet:
    """Draw pages of every ratio in every view.

    Raises:
        UsageError: a ratio is not a positive number, or no page fits.
    """
    mode = find_mode(config.mode) if config.mode else None
    views = [(mode.side, mode.side)] if mode else list(model.config.views)
    fonts = find_fonts()

    def drawn() -> Iterator[EvalSample | str]:
        """The pages of every level; a sentence instead where the model has no room for one."""
        for view in views:
            blank = Image.new("RGB", (view[1], view[0]))
            vision = count_picture_tokens(fit_picture(blank, views, mode))
            room = model.config.gpt.sequence_len - vision - PROMPT_ROOM
            for level in (Level(view, tokens) for tokens in lengths(config.ratios, vision)):
                if level.tokens > room:
                    yield f"{level.name}: {level.tokens} tokens of text, the model has room for {room}"
                else:
                    yield from length_pages(level, config.pages, fonts, lambda t: len(tokenizer.encode(t)))

    return collect(drawn(), "the pages of controlled length")


def lengths(ratios: str, vision_tokens: int) -> list[int]:
    """Text tokens for every ratio, rising and without repeats.

    Raises:
        UsageError: a ratio is no number above 0.
    """
    try:
        numbers = [float(ratio) for ratio in split_names(ratios)]
    except ValueError:
        numbers = []
    if not numbers or not all(0 < number < 1000 for number in numbers):
        raise UsageError(f"--ratios={ratios}: write numbers above 0 and below 1000, as in 2,4,8")
    return sorted({max(1, round(number * vision_tokens)) for number in numbers})


def curve_table(results: Mapping[str, Any]) -> Table:
    """One line per curve and bucket."""
    table = Table(
        "view", "bucket", *COLUMNS, title=f"Compression curve of {results['model']}", box=box.SIMPLE_HEAD
    )
    for name, points in results["curves"].items():
        for point in points:
            table.add_row(name, f"{point['from']:g}-{point['to']:g}", *curve_row(point))
    return table


def paper_table() -> Table:
    """The numbers that the paper reports on Fox."""
    table = Table(
        "vision tokens", "text tokens", "pages", "ratio", "precision", title="DeepSeek-OCR on Fox (paper)"
    )
    for tokens, points in PAPER_CURVES.items():
        for p in points:
            row = (f"{p.text_tokens[0]}-{p.text_tokens[1]}", f"{p.pages}", f"{p.ratio}", f"{p.precision:.1%}")
            table.add_row(str(tokens), *row)
    return table


def main(argv: list[str] | None = None) -> None:
    """Measure, print, write."""
    config = parse(CurveConfig, argv)
    results = {**measure_curve(config), "command": command_line("scripts.compression_curve", argv)}
    console = result_console()
    console.print(curve_table(results))
    console.print(
        "precision: share of the truth's words found (Fox's official one); gap: to another page's picture; "
        "phase: stable up to a mean CER of 10 %, collapsed above 50 %; characters/token: per vision token"
    )
    console.print(paper_table())
    if results["left_out"]:
        console.print(f"left out: {len(results['left_out'])} ({named(results['left_out'], 3)})")
    write_file(Path(config.out, CURVE), json.dumps(results, indent=1).encode())
    write_file(Path(config.out, "curve.png"), plot_curve(results["curves"], Path(config.model).name))
    print(json.dumps(results))


if __name__ == "__main__":
    sys.exit(run(main))
