"""Trains preset small on synthetic pages for as long as the part has; the next call continues.

python -m scripts.gpu.small --device=cuda

One run trains all components together with recipe scratch, at a constant rate and with an average of the
weights, so that it may end at any moment. At the deadline it is asked to stop, and saves its step in
OUT/small. The folder lives as long as the machine: a step has some 800 MB, too much to be moved to the next
machine.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nanoocr.commandline import parse, run
from nanoocr.errors import UsageError
from nanoocr.eval.run_log import read_run
from nanoocr.model.folder import complete_steps, step_number
from scripts.gpu.part import PartConfig, Results, run_child

FOREVER = 1_000_000  # more steps than any part can take
COLUMNS = {
    "from_step": ("from step", "d"),
    "to_step": ("to step", "d"),
    "samples_per_s": ("samples/s", ".0f"),
    "data_wait": ("waits for data", ".1%"),
    "mfu": ("MFU", ".1%"),
    "memory_gb": ("peak GB", ".1f"),
    "loss": ("loss", ".3f"),
    "overlap": ("overlap", ".1%"),
    "cer": ("CER", ".1%"),
    "note": ("note", ""),
}


@dataclass(frozen=True)
class SmallConfig(PartConfig):
    """Trains preset small until the deadline, and continues the next time."""

    preset: str = "small"  # sizes of the model: small, or nano for the miniature
    steps: int = FOREVER  # the run may end here, before its deadline
    batch_size: int = 64  # rows per step
    eval_every: int = 500  # steps between two validations
    workers: int = 14  # processes that draw pages
    mix: str = "card:0.4,receipt:0.2,paragraph:0.2,form:0.1,table:0.1"  # kinds of synthetic pages
    flags: str = ""  # more flags of the stage, separated by blanks, as "--compile=True"

    def __post_init__(self) -> None:
        """Only the presets whose steps fit the part: d20 would save tens of gigabytes at its end."""
        super().__post_init__()
        if self.preset not in ("small", "nano"):
            raise UsageError("--preset is small, or nano for the miniature: scripts.gpu.train measures d20")

    @property
    def run(self) -> Path:
        """The folder of the run that is continued."""
        return self.folder / "small"


def newest(run: Path) -> int:
    """The newest whole step of the run; 0 before the first."""
    steps = complete_steps(run)
    return step_number(steps[-1]) if steps else 0


def go_on(config: SmallConfig, seconds: float, peak: float | None) -> dict[str, Any]:
    """Train until the deadline, from the newest step on; returns the last log line and validation."""
    before = newest(config.run)
    command = [
        sys.executable,
        "-m",
        "scripts.vis_tok_train",
        f"--run_name={config.run.name}",
        "--resume=True",
    ]
    command += [f"--out={config.folder}", f"--preset={config.preset}", f"--device={config.device}"]
    command += ["--recipe=scratch", "--schedule=constant", "--average=0.998", f"--mix={config.mix}"]
    command += [f"--batch_size={config.batch_size}", f"--steps={config.steps}", "--log_every=20"]
    command += [f"--workers={config.workers}", f"--turns={max(1, config.workers)}", "--eval_samples=32"]
    command += [f"--eval_every={config.eval_every}", f"--save_every={config.eval_every}", "--keep_last=1"]
    command += [f"--peak_tflops={peak or 0}", *config.flags.split()]
    how = run_child(command, seconds)
    metrics = read_run(config.run)
    train, validation = metrics.last("train"), metrics.last("validation")
    return {
        "from_step": before,
        "to_step": newest(config.run),
        **{key: train.get(key) for key in ("samples_per_s", "data_wait", "mfu", "memory_gb")},
        **{key: validation.get(key) for key in ("loss", "overlap", "cer")},
        "note": how,
    }


def main(argv: list[str] | None = None) -> int:
    """Make one measurement: the steps of this part, and where the run stands."""
    config = parse(SmallConfig, argv)
    results = Results("small", config)
    peak = results.about.get("peak_tflops")
    # saving may take this long
    results.measure("small pages", lambda: go_on(config, results.left - 45, peak))
    return results.finish(COLUMNS)


if __name__ == "__main__":
    sys.exit(run(main))
