"""Draws the curves of a training run: loss, rates, throughput, collapse of the features, grounding.

python -m scripts.plot_run --run=checkpoints/nano_mid --out=nano_mid.png
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from nanoocr.commandline import parse, run
from nanoocr.eval.plots import plot_run
from nanoocr.eval.run_log import read_run, run_series
from nanoocr.files import write_file


@dataclass(frozen=True)
class PlotRunConfig:
    """Draws the contents of a run's metrics.jsonl."""

    run: str  # run folder, or a metrics.jsonl
    out: str = "run.png"  # picture to write


def main(argv: list[str] | None = None) -> None:
    """Read the metrics, draw them, and write the picture."""
    config = parse(PlotRunConfig, argv)
    metrics = read_run(config.run)
    for note in metrics.notes:
        print(note, file=sys.stderr)
    write_file(Path(config.out), plot_run(run_series(metrics), metrics.name))
    print(config.out)


if __name__ == "__main__":
    sys.exit(run(main))
