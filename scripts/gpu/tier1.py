"""Runs tier 1 at full size on a GPU: both stages on the ten samples, from scratch, then the table.

python -m scripts.gpu.tier1 --preset=d20 --device=cuda

The commands are those of runs/tier1.sh, each with its share of the time. A stage that is not done by then is
asked to stop, saves its step, and the next one starts from there. The goal is loss <= 0.0033, overlap 100 %
and grounding gap >= 0.9. The whole table of vision_sample goes to tier1_reading.json.
"""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nanoocr.commandline import parse, run
from nanoocr.errors import UsageError
from nanoocr.eval.run_log import read_run
from nanoocr.model.folder import complete_steps, deepencoder_file, step_number
from scripts.gpu.part import PartConfig, Results, run_child

DATA = "data/overfit_dataset.json"
COLUMNS = {
    "steps": ("steps", "d"),
    "step_s": ("step s", ".3f"),
    "loss": ("loss", ".4f"),
    "overlap": ("overlap", ".1%"),
    "cer": ("CER", ".2%"),
    "grounding_gap": ("gap", ".3f"),
    "memory_gb": ("peak GB", ".1f"),
    "note": ("note", ""),
}


@dataclass(frozen=True)
class Tier1Config(PartConfig):
    """Trains both stages on the ten samples and reads them."""

    steps1: int = 800  # steps of stage 1
    steps2: int = 1200  # steps of stage 2
    share1: float = 0.4  # stage 1 may take this share of the part's time
    reading_s: float = 60.0  # seconds reserved for loading and reading
    views: str = ""  # --views of the stages; empty means the preset's
    flags: str = ""  # more flags of both stages, separated by blanks, as "--muon_lr=0.01"

    def __post_init__(self) -> None:
        """Refuse numbers that leave no room for both stages."""
        super().__post_init__()
        if min(self.steps1, self.steps2) < 1 or not 0 < self.share1 < 1:
            raise UsageError("--steps1 and --steps2 must be above 0, --share1 between 0 and 1")

    @property
    def run(self) -> Path:
        """The folder of the steps: beside the results, and too large to be moved."""
        return self.folder / "tier1"


def stage(
    config: Tier1Config, name: str, script: str, steps: int, seconds: float, *more: str
) -> dict[str, Any]:
    """Run one stage in a process of its own."""
    command = [sys.executable, "-m", script, f"--run_name={name}", f"--out={config.run}"]
    command += [
        f"--preset={config.preset}",
        f"--device={config.device}",
        "--recipe=scratch",
        f"--data={DATA}",
    ]
    command += ["--batch_size=10", "--eval_samples=10", "--keep_last=1", f"--steps={steps}", *more]
    command += [f"--eval_every={steps}", f"--save_every={steps}", "--log_every=20", *config.flags.split()]
    how = run_child([*command, *([f"--views={config.views}"] if config.views else [])], seconds)
    return {"note": how, **last_log(config.run / name), "steps": newest_step(config.run / name)}


def newest_step(run: Path) -> int:
    """The number of the newest saved step.

    Raises:
        UsageError: there is no step.
    """
    steps = complete_steps(run)
    if not steps:
        raise UsageError(f"{run} holds no step: give the part more --minutes")
    return step_number(steps[-1])


def last_log(run: Path) -> dict[str, Any]:
    """The numbers of the run's last log line."""
    last = read_run(run).last("train")
    return {
        "loss": last.get("loss_ema"),
        "step_s": 10 / last["samples_per_s"],
        "memory_gb": last["memory_gb"],
    }


def reading(config: Tier1Config, seconds: float) -> dict[str, Any]:
    """The table of the ten samples, each read with its own and with another picture."""
    report = config.folder / "tier1_reading.json"
    command = [sys.executable, "-m", "scripts.vision_sample", f"--checkpoint={config.run / 'mid'}"]
    how = run_child([*command, "--data=overfit", f"--device={config.device}", f"--json={report}"], seconds)
    found = json.loads(report.read_text())
    return {"note": how, **{key: found[key] for key in ("loss", "overlap", "cer", "grounding_gap")}}


def second_stage(config: Tier1Config, seconds: float) -> dict[str, Any]:
    """Run stage 2 from the last encoder of stage 1."""
    encoder = deepencoder_file(config.run / "tok", newest_step(config.run / "tok"))
    shutil.rmtree(config.run / "mid", ignore_errors=True)
    start = f"--resume_from_deepencoder={encoder}"
    return stage(config, "mid", "scripts.vis_mid_train", config.steps2, seconds, start)


def main(argv: list[str] | None = None) -> int:
    """Both stages, then the table."""
    config = parse(Tier1Config, argv)
    results = Results("tier1", config)
    shutil.rmtree(config.run, ignore_errors=True)
    # Writing and reading 4 GB of weights, and more of moments, takes time too.
    first = config.share1 * (results.left - config.reading_s)
    results.measure("stage 1", lambda: stage(config, "tok", "scripts.vis_tok_train", config.steps1, first))
    results.last = 0.0  # the next stage stops itself, so the length of the last one does not matter
    results.measure("stage 2", lambda: second_stage(config, results.left - config.reading_s))
    results.last = 0.0
    results.measure("reading", lambda: reading(config, results.left))
    return results.finish(COLUMNS)


if __name__ == "__main__":
    sys.exit(run(main))
