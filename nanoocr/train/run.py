"""The settings of a training run: everything that is decided before the first step and never changes.

`nanoocr/train/setup.py` builds one `Run` from the flags, and every training function takes it as its first
argument. What changes, such as weights and optimisers, is in `TrainState` (nanoocr/train/state.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nanoocr.train.config import TrainConfig
from nanoocr.train.distributed import World
from nanoocr.train.recipes import Recipe


@dataclass(frozen=True)
class Run:
    """One training run, as one of its processes sees it. `stage` is 1 or 2."""

    config: TrainConfig  # the flags as given, except that --micro_batch is always a number here
    recipe: Recipe  # what trains and how fast: the recipe named by --recipe, with the flags applied
    stage: int = 1
    world: World = World()  # noqa: RUF009 (frozen). This process among all of the run, and its device
    newest: Path | None = None  # the step's folder that a resumed run continues from; None for a fresh run

    @property
    def folder(self) -> Path:
        """OUT/RUN_NAME: the folder with the log, the steps and the lock of this run."""
        return run_folder(self.config)

    @property
    def first_home(self) -> str:
        """The device on which a model is built or read.

        With --shard it is host memory, because no single GPU may have room for the whole model; from there
        its parts go to the devices.
        """
        return "cpu" if self.config.shard else self.world.device


def run_folder(config: TrainConfig) -> Path:
    """OUT/RUN_NAME, for callers that need it before there is a `Run`."""
    return Path(config.out) / config.run_name
