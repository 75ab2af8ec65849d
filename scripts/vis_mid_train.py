"""Stage 2: a fresh GPT learns to read what the DeepEncoder of stage 1 sees.

python -m scripts.vis_mid_train --steps=9000 \\
    --resume_from_deepencoder=checkpoints/vis_tok/deepencoder_003000.safetensors

It leaves checkpoints/<run>/step_NNNNNN/, a whole model folder for `nanoocr read --model`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

from nanoocr import tasks
from nanoocr.commandline import parse, run
from nanoocr.errors import UsageError
from nanoocr.model.folder import load_deepencoder
from nanoocr.model.vlm import VLM
from nanoocr.tasks.choose import make_task
from nanoocr.train.config import TrainConfig
from nanoocr.train.setup import run_stage


@dataclass(frozen=True)
class VisMidConfig(TrainConfig):
    """Stage 2: SAM and compressor are frozen (in recipes scratch and deepseek), and the GPT starts fresh."""

    run_name: str = "vis_mid"  # name of the run; its files go to OUT/RUN
    resume_from_deepencoder: str = ""  # deepencoder_NNNNNN.safetensors of stage 1; required without --init


def main(argv: list[str] | None = None) -> int:
    """Train stage 2."""
    config = parse(VisMidConfig, argv)
    if config.tasks == "help":
        print(tasks.__doc__)
        return 0

    def load_encoder(model: VLM) -> bool:
        """Load stage 1's encoder into the model, if one is named; returns whether it is."""
        if config.resume_from_deepencoder:
            load_deepencoder(config.resume_from_deepencoder, model)
        elif not config.init:
            raise UsageError("stage 2 needs --resume_from_deepencoder=FILE, a DeepEncoder that stage 1 left")
        return bool(config.resume_from_deepencoder)

    run_stage(config, 2, make_task, load_encoder=load_encoder)
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
