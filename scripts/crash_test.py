"""Kills a training run again and again. It must end with the weights of a run that nobody touched.

python -m scripts.crash_test --kills=100

Every child is the real stage 1 with a checkpoint at every step. It is started with --resume and ended by
SIGKILL at a random moment: half of the kills come anywhere after the start, half during training and saving.
A run that reached its end is compared and replaced by another one. The last line on stdout is the result as
JSON.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from nanoocr.commandline import parse, run
from nanoocr.errors import NanoOCRError, UsageError
from nanoocr.machine import machine
from nanoocr.model.folder import WEIGHTS, complete_steps, step_folder, step_number
from nanoocr.train.checkpoint import load_state
from scripts.common import folder_or_temporary

FLAGS = (
    *("--preset=nano", "--batch_size=2", "--threads=1", "--eval_samples=0", "--save_every=1"),
    *("--log_every=1", "--keep_last=2", "--average=0.9", "--pack=True", "--max_length=256"),
)


@dataclass(frozen=True)
class CrashConfig:
    """Kills a training run at random moments and compares where it ends."""

    kills: int = 100  # how often
    steps: int = 40  # steps of each run
    seed: int = 0  # seeds the moments of the kills
    workers: int = 0  # worker processes of every run, which lose their parent by a kill
    out: str = ""  # folder for the two runs; empty means a temporary one

    def __post_init__(self) -> None:
        """Refuse numbers that make no sense."""
        if self.kills < 1 or self.steps < 1 or self.workers < 0:
            raise UsageError("--kills and --steps must be above 0, --workers not negative")


class CrashTestError(NanoOCRError):
    """A resumed run failed, or the weights differ: the test has found a fault."""

    exit_code = 1


def start(out: Path, name: str, steps: int, *flags: str) -> subprocess.Popen[str]:
    """Start the run as a child process; its log is its stderr."""
    command = [sys.executable, "-m", "scripts.vis_tok_train", f"--run_name={name}", f"--out={out}"]
    return subprocess.Popen(
        [*command, f"--steps={steps}", "--resume=True", *FLAGS, *flags], stderr=subprocess.PIPE, text=True
    )


def run_and_kill(out: Path, steps: int, workers: int, rng: random.Random) -> str:
    """Start the run, kill it at a random moment, and say what it was doing: starting, training, or done."""
    child = start(out, "killed", steps, f"--workers={workers}")
    assert child.stderr is not None
    doing = "starting"
    if rng.random() < 0.5:
        time.sleep(rng.uniform(0.0, 6.0))
    else:
        for line in child.stderr:
            if line.startswith("step "):
                doing = "training"
                break
        time.sleep(rng.uniform(0.0, 2.0))
    child.kill()
    rest = child.stderr.read()
    code = child.wait()
    if code == 0:
        return "done"
    if code != -9:
        raise CrashTestError(f"a resumed run ended by itself with exit code {code}: {rest.strip()[-500:]}")
    return "training" if "step " in rest else doing


def finish(out: Path, name: str, steps: int, workers: int) -> None:
    """Run to the end without kills."""
    child = start(out, name, steps, f"--workers={workers}")
    _, log = child.communicate()
    if child.returncode and f"is at step {steps} already" not in log:
        raise CrashTestError(f"the run {name} ended with exit code {child.returncode}: {log.strip()[-500:]}")


def compare(out: Path, steps: int) -> None:
    """Check that averaged weights, raw weights and both optimisers of the two runs are equal bit for bit.

    Raises:
        CrashTestError: it names the first difference.
    """
    ours, theirs = (step_folder(out / name, steps) for name in ("killed", "untouched"))
    weights = [safetensors.torch.load_file(folder / WEIGHTS) for folder in (ours, theirs)]
    states = [load_state(folder) for folder in (ours, theirs)]
    for name, tensor in weights[1].items():
        if not torch.equal(weights[0][name], tensor):
            raise CrashTestError(f"{name} differs between {ours} and {theirs}")
    for name, tensor in states[1]["average"]["raw"].items():
        if not torch.equal(states[0]["average"]["raw"][name], tensor):
            raise CrashTestError(f"the raw weight {name} differs between {ours} and {theirs}")
    if states[0]["readers"] != states[1]["readers"]:
        raise CrashTestError("the places in the data differ")
    for one, other in zip(states[0]["optimizers"], states[1]["optimizers"], strict=True):
        for key, state in other["state"].items():
            for what, value in state.items():
                if isinstance(value, torch.Tensor) and not torch.equal(one["state"][key][what], value):
                    raise CrashTestError(f"the optimiser's {what} of parameter {key} differs")


def crash_test(out: Path, config: CrashConfig) -> dict[str, Any]:
    """Do all kills, finish both runs, and compare."""
    rng, moments, runs = random.Random(config.seed), Counter[str](), 0
    finish(out, "untouched", config.steps, 0)  # without a worker process, as the standard for the other run
    for kill in range(config.kills):
        moments[run_and_kill(out, config.steps, config.workers, rng)] += 1
        steps = [step_number(folder) for folder in complete_steps(out / "killed")]
        print(f"kill {kill + 1}/{config.kills}: whole steps {steps}", file=sys.stderr)
        if config.steps in steps or kill + 1 == config.kills:
            finish(out, "killed", config.steps, config.workers)
            compare(out, config.steps)
            shutil.rmtree(out / "killed")
            runs += 1
    return result(config.kills, moments, config.steps, config.workers, runs)


def result(kills: int, moments: Counter[str], steps: int, workers: int, runs: int) -> dict[str, Any]:
    """What is printed: `moments` counts the kills by what they hit, `runs` the ends that were compared."""
    return {
        **machine(),
        "kills": kills,
        "killed_while": moments,
        "steps_per_run": steps,
        "workers": workers,
        "runs_compared_equal": runs,
    }


def main(argv: list[str] | None = None) -> None:
    """Kill, compare, print."""
    config = parse(CrashConfig, argv)
    with folder_or_temporary(config.out) as folder:
        print(json.dumps(crash_test(folder, config)))


if __name__ == "__main__":
    sys.exit(run(main))
