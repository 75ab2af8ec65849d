"""Stage 1: train the DeepEncoder (and a GPT to guide it, which stage 2 throws away).

python -m scripts.vis_tok_train --preset=nano --recipe=scratch --steps=3000 --batch_size=64

Leaves checkpoints/<run>/step_NNNNNN/ and checkpoints/<run>/deepencoder_NNNNNN.safetensors.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

from nanoocr.commandline import parse, run
from nanoocr.config import preset
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

STAGE = 1


@dataclass(frozen=True)
class VisTokConfig(TrainConfig):
    """Stage 1: everything that the recipe names trains, the encoder is what is kept."""

    run: str = "vis_tok"  # name of the run; its files go to OUT/RUN


def main(argv: list[str] | None = None) -> int:
    """Train stage 1."""
    config = parse(VisTokConfig, argv)
    prepare_machine(config)
    chosen = resolve_recipe(config, STAGE)
    resumed = find_resume(config, chosen, STAGE)
    if resumed is None:
        tokenizer = load_tokenizer(config)
        sizes = preset(config.preset, tokenizer.vocab_size)
        state = build_state(new_model(config, sizes, tokenizer), chosen, config)
    else:
        state, tokenizer = resumed
    maker = make_batches(config, state.model.config, tokenizer)
    train(state, tokenizer, maker, validation_rows(config), chosen, config, STAGE)
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
