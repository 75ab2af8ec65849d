"""Measures how well a model reads unseen pictures, for the held-out table of the model card.

python -m scripts.measure_reading --cards=500 --per_kind=100 --json=reading.json

Every set is drawn from VALIDATION_SEED, which no training run can use, at indices far above those of
validation during training. So no decision was made by these pictures either. The fonts of the machine change
the pictures of a seed: compare numbers only between machines with the same fonts (runs/fonts.sh). The last
line on stdout is the same as JSON.
"""

from __future__ import annotations

import itertools
import json
import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from rich.table import Table

from nanoocr.commandline import parse, run
from nanoocr.data.rows import Row, row_from_synth
from nanoocr.data.synth import HELD_OUT_FAMILIES, KINDS, VALIDATION_SEED, find_fonts, make_sample
from nanoocr.data.synth.card import MAX_LINES
from nanoocr.data.synth.fonts import Font, families
from nanoocr.errors import UsageError
from nanoocr.eval.console import result_console
from nanoocr.eval.metrics import CATASTROPHIC
from nanoocr.eval.reading import RowResult, evaluate_pages, evaluate_reading, summarise
from nanoocr.eval.samples import FIRST_INDEX
from nanoocr.image_process import Mode
from nanoocr.image_process import mode as find_mode
from nanoocr.inference.reader import Reader, default_model_folder
from nanoocr.machine import machine, use_threads
from nanoocr.model.folder import model_folder
from scripts.common import write_json

CHUNK = 128  # rows in memory at one time


@dataclass(frozen=True)
class MeasureConfig:
    """Measures a model on held-out synthetic pictures, kind by kind."""

    model: str = ""  # model folder, training step or run folder; empty means the packaged model
    cards: int = 500  # cards of 1 to 3 lines, half of them with text that cannot be guessed
    per_kind: int = 100  # pictures of each other set
    json: str = ""  # file for a copy of the JSON; empty for none
    mode: str = ""  # resolution mode, as base; empty means the best of the model's views
    max_tokens: int = 512  # longest answer in tokens
    device: str = "cpu"  # cpu, cuda, mps
    threads: int = 0  # torch threads; 0 is torch's choice

    def __post_init__(self) -> None:
        """Refuse sets of a single row: the grounding control needs another picture."""
        if self.cards < 4 or self.per_kind < 2 or self.max_tokens < 1 or self.threads < 0:
            raise UsageError("--cards must be at least 4, --per_kind 2, --max_tokens 1, --threads 0")


@dataclass(frozen=True)
class ReadingSet:
    """The held-out pictures that belong to one row of the table."""

    name: str
    kind: str
    count: int
    fonts: tuple[Font, ...]
    # True: only natural text; False: only text that cannot be guessed; None: both
    guessable: bool | None = None
    lines: tuple[int, int] = (1, 3)  # fewest and most lines of a card

    def rows(self) -> Iterator[Row]:
        """Yield the first `count` fitting pictures from FIRST_INDEX on."""
        return itertools.islice(self._fitting(), self.count)

    def _fitting(self) -> Iterator[Row]:
        low, high = self.lines
        for index in itertools.count(FIRST_INDEX):
            sample = make_sample(
                self.kind, VALIDATION_SEED, index, fonts=self.fonts, min_lines=low, max_lines=high
            )
            if self.guessable in (None, sample.guessable):
                yield row_from_synth(sample, f"{self.name}/{index}")


CARD_HALVES = ("cards, natural text", "cards, random text")


def reading_sets(config: MeasureConfig) -> list[ReadingSet]:
    """All sets that can be drawn here. Missing held-out font families are reported."""
    fonts = find_fonts()
    sets = [
        ReadingSet(CARD_HALVES[0], "card", config.cards // 2, fonts, guessable=True),
        ReadingSet(CARD_HALVES[1], "card", config.cards - config.cards // 2, fonts, guessable=False),
    ]
    try:
        held_out = find_fonts(held_out=True)
    except UsageError as error:
        print(f"cards in new fonts are left out: {error}", file=sys.stderr)
        held_out = ()
    # Each family is a set of its own, because fonts differ more than the cards of one font do.
    for family in HELD_OUT_FAMILIES:
        of_family = tuple(font for font in held_out if font.family == family)
        if of_family:
            sets.append(ReadingSet(f"cards in {family}", "card", config.per_kind, of_family))
        elif held_out:
            print(f"cards in {family} are left out: run `bash runs/fonts.sh`", file=sys.stderr)
    four = (MAX_LINES, MAX_LINES)
    sets.append(ReadingSet(f"cards of {MAX_LINES} lines", "card", config.per_kind, fonts, lines=four))
    return sets + [ReadingSet(kind, kind, config.per_kind, fonts) for kind in KINDS if kind != "card"]


def read_set(
    reader: Reader, reading_set: ReadingSet, max_tokens: int, mode: Mode | None
) -> tuple[RowResult, ...]:
    """Read a set chunk by chunk. The chunks are nearly equal, so that none has only a single row."""
    rows = reading_set.rows()
    results: list[RowResult] = []
    chunks = -(-reading_set.count // CHUNK)
    for i in range(chunks):
        size = (i + 1) * reading_set.count // chunks - i * reading_set.count // chunks
        chunk = list(itertools.islice(rows, size))
        if reader.by_lines:
            results += evaluate_pages(reader, chunk)
            continue
        modes = [mode] * len(chunk)
        report = evaluate_reading(reader.model, reader.tokenizer, chunk, max_tokens=max_tokens, modes=modes)
        results += report.rows
    return tuple(results)


def statistics(results: Sequence[RowResult]) -> dict[str, float]:
    """The numbers of one row of the table; rates are shares, not percent."""
    report = summarise(tuple(results), {})
    rates = [result.cer for result in results]
    values = {
        "rows": len(results),
        "cer": report.cer,  # errors / characters over the whole set
        "median_cer": median(rates),
        "perfect": sum(rate == 0 for rate in rates) / len(rates),
        "catastrophic": sum(rate > CATASTROPHIC for rate in rates) / len(rates),
        "overlap": report.overlap,
        "grounding_gap": report.grounding_gap,
    }
    # Reading by lines is not teacher-forced, so it has no loss.
    return values if math.isnan(report.loss) else {**values, "loss": report.loss}


def measure(
    reader: Reader, sets: Sequence[ReadingSet], max_tokens: int, mode: Mode | None
) -> dict[str, dict[str, float]]:
    """Statistics by set, and for both halves of the cards together; progress goes to stderr."""
    results: dict[str, tuple[RowResult, ...]] = {}
    for reading_set in sets:
        started = time.monotonic()
        results[reading_set.name] = read_set(reader, reading_set, max_tokens, mode)
        seconds = time.monotonic() - started
        print(f"{reading_set.name}: {reading_set.count} pictures in {seconds:.0f} s", file=sys.stderr)
    together = {"cards": tuple(result for name in CARD_HALVES for result in results[name])}
    new_fonts = [result for family in HELD_OUT_FAMILIES for result in results.get(f"cards in {family}", ())]
    if new_fonts:
        together["cards in new fonts"] = tuple(new_fonts)
    return {name: statistics(rows) for name, rows in {**together, **results}.items()}


def statistics_table(by_set: Mapping[str, Mapping[str, float]]) -> Table:
    """The table for people."""
    table = Table("Set", title="Held-out reading")
    for name in ("Rows", "CER", "Median", "Perfect", "CER > 50 %", "Overlap", "Gap"):
        table.add_column(name, justify="right")
    for name, s in by_set.items():
        shares = (s["cer"], s["median_cer"], s["perfect"], s["catastrophic"], s["overlap"])
        table.add_row(
            name, f"{s['rows']}", *(f"{share:.2%}" for share in shares), f"{s['grounding_gap']:.3f}"
        )
    return table


def main(argv: list[str] | None = None) -> None:
    """Measure, print the table and the JSON."""
    config = parse(MeasureConfig, argv)
    use_threads(config.threads)
    folder = model_folder(config.model) if config.model else default_model_folder()
    reader = Reader(folder, device=config.device)
    mode = find_mode(config.mode) if config.mode else None
    by_set = measure(reader, reading_sets(config), config.max_tokens, mode)
    result_console().print(statistics_table(by_set))
    about = {
        **machine(),
        "model": config.model or "shipped",
        "device": config.device,
        "seed": VALIDATION_SEED,
        "first_index": FIRST_INDEX,
        "font_families": len(families(find_fonts())),
    }
    data = {**about, "sets": by_set}
    if config.json:
        write_json(config.json, data)
    print(json.dumps(data))


if __name__ == "__main__":
    sys.exit(run(main))
