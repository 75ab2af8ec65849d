#!/usr/bin/env bash
# From nothing to a model that reads, in an hour on two CPU cores: both stages, then the held-out table.
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

# Stage 1: the encoder. First by the glyph loss alone, on cards of two or three lines, which hold the most glyphs;
# then a GPT guides it, with easy cards first.
train "$out" hour_tok 3000 scripts.vis_tok_train --glyph_only=0.45 --curriculum=0:2-3,0.45:1,0.5:2,0.6:3 \
    --average=0.995 --eval_every=1500 --save_every=1000
# Stage 2: all parts, the GPT of stage 1 among them, on other cards (--seed), at a rate that falls from the beginning.
train "$out" hour_mid 3400 scripts.vis_mid_train --init="$out/hour_tok/step_003000" --seed=1 --muon_lr=0.01 \
    --glyph_weight=0.5 --cooldown=1 --average=0.998 --trained=sam,compressor,clip,projector,gpt \
    --eval_every=1000 --save_every=1000
.venv/bin/python -m scripts.measure_reading --model="$out/hour_mid" --json="$out/hour_mid/reading.json"
