#!/usr/bin/env bash
# From nothing to a model that reads, in 45 minutes on two CPU cores: both stages on lines of cards, then the held-out
# table of whole cards, whose lines are found and cut out as those of any page.
# Each command goes on from its newest checkpoint, so an interrupted run is simply started again.
# For the same numbers: the fonts of runs/fonts.sh, and nothing else on the machine.
#
# Usage: bash runs/hour.sh
#   OUT   folder of the runs (default: checkpoints)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source runs/train.sh
bash runs/env.sh dev
out="${OUT:-checkpoints}"

lines() { # NAME STEPS SCRIPT FLAGS...
    local name="$1" steps="$2" script="$3"
    shift 3
    # In steps of 32 two processes of one thread train 1.4 times as many strips a second as one of two threads. Strips of
    # ten widths are too many shapes to compile.
    PROCESSES=2 train "$out" "$name" "$steps" "$script" --mix=card_line --threads=1 --compile=False "$@"
}
# Stage 1: the encoder, in small steps. First by the glyph loss alone; then a GPT guides it.
lines hour_tok 810 scripts.vis_tok_train --views="$strip_views" --batch_size=32 --micro_batch=16 --glyph_only=0.59 \
    --schedule=constant --average=0.99 --eval_samples=32 --eval_every=810 --save_every=405
# Stage 2: all parts, the GPT of stage 1 among them, on other lines (--seed), at a rate that falls from the beginning.
lines hour_mid 690 scripts.vis_mid_train --init="$out/hour_tok/step_000810" --seed=1 --batch_size=64 --micro_batch=32 \
    --muon_lr=0.012 --polar_steps=3 --glyph_weight=0.5 --cooldown=1 --average=0.99 \
    --trained=sam,compressor,clip,projector,gpt --eval_every=690 --save_every=345
.venv/bin/python -m scripts.measure_reading --model="$out/hour_mid" --json="$out/hour_mid/reading.json"
