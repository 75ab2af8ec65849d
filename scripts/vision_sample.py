"""Shows whether a checkpoint reads, and whether it looks: one row per picture, then the averages.

python -m scripts.vision_sample --checkpoint=checkpoints/vis_mid --data=overfit --json=sample.json

Every picture's question is also asked about another row's picture: see nanoocr/eval/reading.py. The loss is
teacher-forced, in nats per supervised token. Overlap is the share of the truth's words that were read.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from rich.console import Console
from rich.table import Table

from nanoocr.commandline import parse, run
from nanoocr.data.rows import read_rows
from nanoocr.errors import UsageError
from nanoocr.eval.console import result_console
from nanoocr.eval.feature_health import FeatureHealth
from nanoocr.eval.metrics import worst_and_median
from nanoocr.eval.reading import ReadingReport, RowResult, evaluate_reading
from nanoocr.image_process import mode as find_mode
from nanoocr.inference.reader import choose_device
from nanoocr.machine import use_threads
from nanoocr.model.folder import load_model, model_folder
from scripts.common import write_json

OVERFIT = Path(__file__).resolve().parent.parent / "data" / "overfit_dataset.json"


@dataclass(frozen=True)
class VisionSampleConfig:
    """Reads a data set and prints loss, word overlap and CER of every picture."""

    checkpoint: str  # model folder, training step, or run folder (its newest step)
    data: str = "overfit"  # overfit (the ten samples), or a .parquet or .json file
    json: str = ""  # file for everything as JSON; empty for none
    limit: int = 0  # read only this many rows, from the first on; 0 means all
    mode: str = ""  # resolution mode, as base; empty means the best of the model's views
    max_tokens: int = 512  # longest answer in tokens
    device: str = "cpu"  # cpu, cuda, mps
    threads: int = 0  # torch threads; 0 is torch's choice

    def __post_init__(self) -> None:
        """Refuse numbers that make no sense."""
        if self.limit < 0 or self.threads < 0 or self.max_tokens < 1:
            raise UsageError("--limit and --threads must not be negative, --max_tokens must be above 0")


def reading_table(rows: tuple[RowResult, ...]) -> Table:
    """ID, Loss, Overlap, CER of every row, and their averages."""
    table = Table("ID", title="Reading", show_footer=True)
    table.columns[0].footer = "average"
    for name, average in (
        ("Loss", f"{fmean(row.loss for row in rows):.4f}"),
        ("Overlap", f"{fmean(row.overlap for row in rows):.1%}"),
        ("CER", f"{fmean(row.cer for row in rows):.2%}"),
    ):
        table.add_column(name, footer=average, justify="right")
    for row in rows:
        table.add_row(row.id, f"{row.loss:.4f}", f"{row.overlap:.1%}", f"{row.cer:.2%}")
    return table


def health_table(health: Mapping[str, FeatureHealth]) -> Table:
    """The health of the features at the encoder's stages (explained in eval/feature_health.py)."""
    table = Table("Features", title="Feature health")
    for name in ("centred cosine", "effective rank", "spread", "blank distance"):
        table.add_column(name, justify="right")
    for stage, numbers in health.items():
        table.add_row(stage, *(f"{number:.3f}" for number in numbers))
    return table


def print_report(report: ReadingReport, console: Console) -> None:
    """Print tables and samples for people."""
    console.print(reading_table(report.rows))
    console.print(f"CER over all characters: {report.cer:.2%}")
    console.print(
        f"Grounding gap: {report.grounding_gap:.3f} (overlap with the right picture minus overlap with "
        "another one; 0 is a model that does not look)"
    )
    if report.health:
        console.print(health_table(report.health))
    else:
        console.print("Feature health needs three pictures of one size; this set has fewer.")
    for name, row in worst_and_median(report.rows, badness=lambda row: (row.cer, row.loss)):
        console.print(
            f"{name}: {row.id}\n  truth {row.truth!r}\n  read  {row.text!r}\n"
            f"  read from another picture {row.text_wrong_picture!r}",
            markup=False,
        )


def main(argv: list[str] | None = None) -> None:
    """Read the set, print and store the report."""
    config = parse(VisionSampleConfig, argv)
    use_threads(config.threads)
    folder = model_folder(config.checkpoint)
    model, tokenizer = load_model(folder, device=choose_device(config.device))
    data = OVERFIT if config.data == "overfit" else Path(config.data)
    rows = read_rows(data, limit=config.limit or None)
    modes = [find_mode(config.mode) if config.mode else None] * len(rows)
    report = evaluate_reading(model.eval(), tokenizer, rows, max_tokens=config.max_tokens, modes=modes)
    print_report(report, result_console())
    if config.json:
        write_json(config.json, {"checkpoint": str(folder), "data": config.data, **report.to_dict()})


if __name__ == "__main__":
    sys.exit(run(main))
