"""Stage 1: trains the DeepEncoder, and a GPT that guides it and is discarded in stage 2.

python -m scripts.vis_tok_train --preset=nano --recipe=scratch --steps=3000 --batch_size=64

It leaves checkpoints/<run>/step_NNNNNN/ and checkpoints/<run>/deepencoder_NNNNNN.safetensors.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

from nanoocr import tasks
from nanoocr.commandline import parse, run
from nanoocr.tasks.choose import make_task
from nanoocr.train.config import TrainConfig
from nanoocr.train.setup import run_stage


@dataclass(frozen=True)
class VisTokConfig(TrainConfig):
    """Stage 1: every component that the recipe names trains; only the encoder is kept."""

    run_name: str = "vis_tok"  # name of the run; its files go to OUT/RUN


def main(argv: list[str] | None = None) -> int:
    """Train stage 1."""
    config = parse(VisTokConfig, argv)
    if config.tasks == "help":
        print(tasks.__doc__)
        return 0
    run_stage(config, 1, make_task)
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
