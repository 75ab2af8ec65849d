#!/usr/bin/env bash
# From nothing to the card reader that runs/lines.sh starts from, on two CPU cores: both stages, then all parts
# together, all that on small pictures, where a step costs half; then the same weights on larger ones.
# Each command goes on from its newest checkpoint, so an interrupted run is simply started again.
# For the same numbers: the fonts of runs/fonts.sh, and nothing else on the machine. (The card reader from which the
# model in the package was made has four heads in SAM, not two: it came to its last run by the commands before it as
# they were at commit 31c001b, with other rates of the ends.)
#
# Usage: bash runs/nano.sh
#   OUT   folder of the runs (default: checkpoints)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source runs/train.sh
bash runs/env.sh dev
out="${OUT:-checkpoints}"

small=--views=128x256,256x256 # of both stages; a run that starts from another (--init) has that one's views

# Stage 1: the encoder. Half of the steps by the glyph loss alone; then a GPT guides it, with easy cards first.
train "$out" nano_tok 3200 scripts.vis_tok_train "$small" --glyph_only=0.5 --curriculum=0:3,0.5:1,0.55:2,0.65:3
# Stage 2: SAM and compressor are frozen, the GPT starts fresh.
train "$out" nano_mid 3000 scripts.vis_mid_train "$small" --muon_lr=0.01 --glyph_weight=0.5 --curriculum=0:1,0.08:2,0.2:3 \
    --resume_from_deepencoder="$out/nano_tok/deepencoder_003200.safetensors"
# The finish: the reader of stage 2, all parts together, with a rate that falls to zero three times; the last
# and longest time a moving average of the weights is what counts.
finish() { # STEPS FLAGS...
    local steps="$1"
    shift
    train "$out" nano_all "$steps" scripts.vis_mid_train --init="$out/nano_mid/step_003000" --muon_lr=0.01 \
        --glyph_weight=0.5 --cooldown=1 --trained=sam,compressor,clip,projector,gpt "$@"
}
finish 4800
finish 5700
finish 13500 --average=0.998
# Once more, on other cards (--seed), from a rate between the finish's first and its last.
train "$out" nano_last 4400 scripts.vis_mid_train --init="$out/nano_all/step_013500" --seed=3 --lr=0.0018 --muon_lr=0.006 \
    --glyph_weight=0.5 --cooldown=1 --average=0.998 --trained=sam,compressor,clip,projector,gpt
# The same cards enlarged: 18 vision tokens for a card instead of 8. What is learnt carries over within some 300 steps.
train "$out" nano_wide 3400 scripts.vis_mid_train --init="$out/nano_last/step_004400" --views=192x384,256x256 --seed=4 \
    --micro_batch=32 --lr=0.003 --muon_lr=0.01 --polar_steps=3 --rates=patch_embed:1,wte:1,lm_head:1 \
    --glyph_weight=0.5 --cooldown=1 --average=0.998 --trained=sam,compressor,clip,projector,gpt
.venv/bin/python -m scripts.measure_reading --model="$out/nano_wide" --json="$out/nano_wide/reading.json"
