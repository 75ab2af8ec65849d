"""Stage 2: a fresh GPT learns to read what the DeepEncoder of stage 1 sees.

python -m scripts.vis_mid_train --steps=9000 \\
    --resume_from_deepencoder=checkpoints/vis_tok/deepencoder_003000.safetensors

Leaves checkpoints/<run>/step_NNNNNN/, a whole model folder for `nanoocr read --model`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

from nanoocr.commandline import parse, run
from nanoocr.config import preset
from nanoocr.errors import UsageError
from nanoocr.train.checkpoint import load_deepencoder
from nanoocr.train.config import TrainConfig
from nanoocr.train.loop import build_state, train
from nanoocr.train.setup import (
    find_resume,
    load_tokenizer,
    make_batches,
    new_model,
    prepare_machine,
    resolve_recipe,
    validation_rows,
)

STAGE = 2


@dataclass(frozen=True)
class VisMidConfig(TrainConfig):
    """Stage 2: SAM and compressor are frozen (recipe scratch and deepseek), the GPT starts fresh."""

    run: str = "vis_mid"  # name of the run; its files go to OUT/RUN
    resume_from_deepencoder: str = ""  # deepencoder_NNNNNN.safetensors of stage 1; required


def main(argv: list[str] | None = None) -> int:
    """Train stage 2."""
    config = parse(VisMidConfig, argv)
    prepare_machine(config)
    chosen = resolve_recipe(config, STAGE)
    resumed = find_resume(config, chosen, STAGE)
    if resumed is None:
        if not config.resume_from_deepencoder:
            raise UsageError("stage 2 needs --resume_from_deepencoder=FILE, a DeepEncoder that stage 1 left")
        tokenizer = load_tokenizer(config)
        model = new_model(config, preset(config.preset, tokenizer.vocab_size), tokenizer)
        load_deepencoder(config.resume_from_deepencoder, model)
        state = build_state(model.to(config.device), chosen, config)
    else:
        state, tokenizer = resumed
    maker = make_batches(config, state.model.config, tokenizer)
    train(state, tokenizer, maker, validation_rows(config), chosen, config, STAGE)
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
