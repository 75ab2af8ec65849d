#!/usr/bin/env bash
# From nothing to a model that reads, in an hour on two CPU cores: both stages, then the held-out table.
# The hour is one of processors with AVX512-BF16; with AVX2 alone it takes about four.
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

# Stage 1: the encoder, in small steps. First by the glyph loss alone, on cards of two or three lines, which hold the
# most glyphs; then a GPT guides it, with easy cards first.
train "$out" hour_tok 1450 scripts.vis_tok_train --batch_size=32 --glyph_only=0.414 \
    --curriculum=0:2-3,0.414:1,0.53:2,0.68:3 --schedule=constant --average=0.995 --eval_every=1450 --save_every=725
# Stage 2: all parts, the GPT of stage 1 among them, on other cards (--seed), at a rate that falls from the beginning.
# Half a batch at a time (--micro_batch) keeps the process below 4 GB.
train "$out" hour_mid 2600 scripts.vis_mid_train --init="$out/hour_tok/step_001450" --seed=1 --micro_batch=32 \
    --muon_lr=0.012 --polar_steps=3 --glyph_weight=0.5 --cooldown=1 --average=0.998 \
    --trained=sam,compressor,clip,projector,gpt --eval_every=1300 --save_every=650
.venv/bin/python -m scripts.measure_reading --model="$out/hour_mid" --json="$out/hour_mid/reading.json"
