#!/usr/bin/env bash
# From the card reader to the line reader in the package, on two CPU cores: strips of one line, 64 pixels high, in
# the letters of a dozen languages, worn as real pages are. All parts train, by the next token and by the glyph
# loss. Each command goes on from its newest checkpoint, so an interrupted run is simply started again.
# For the same numbers: the fonts and word lists of runs/fonts.sh, and nothing else on the machine.
#
# Usage: bash runs/lines.sh
#   OUT   folder of the runs (default: checkpoints)
#   FROM  model to start from (default: OUT/nano_wide/step_003400, which runs/nano.sh leaves)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source runs/train.sh
bash runs/env.sh dev
out="${OUT:-checkpoints}"
from="${FROM:-$out/nano_wide/step_003400}"

strips() { # NAME STEPS FLAGS...
    local name="$1" steps="$2"
    shift 2
    train "$out" "$name" "$steps" scripts.vis_mid_train --mix=strip --workers=1 --threads=1 \
        --lr=0.003 --muon_lr=0.012 --polar_steps=3 --rates=patch_embed:1,wte:1,lm_head:1 \
        --glyph_weight=0.5 --trained=sam,compressor,clip,projector,gpt --eval_samples=128 "$@"
}
# A step costs Muon's share whatever its size is: large batches train the most strips an hour.
strips lines_begin 424 --init="$from" --views="$strip_views" --batch_size=128 --schedule=constant --warmup=0.02 \
    --average=0.995
strips lines 760 --init="$out/lines_begin/step_000424" --seed=1 --batch_size=192 --micro_batch=96 \
    --schedule=trapezoid --cooldown=0.75 --average=0.99 --eval_every=275 --save_every=100
strips lines_more 1180 --init="$out/lines/step_000760" --seed=3 --batch_size=256 --micro_batch=128 \
    --schedule=trapezoid --cooldown=0.65 --warmup=0.01 --average=0.99 --eval_every=1180 --save_every=40
strips lines_words 1200 --init="$out/lines_more/step_001180" --seed=4 --batch_size=256 --micro_batch=128 \
    --schedule=trapezoid --cooldown=0.65 --warmup=0.01 --average=0.99 --eval_every=1200 --save_every=40
strips lines_larger 1150 --init="$out/lines_words/step_001200" --seed=5 --batch_size=256 --micro_batch=128 \
    --schedule=trapezoid --cooldown=0.65 --warmup=0.01 --average=0.99 --eval_every=1150 --save_every=40
.venv/bin/python -m scripts.calibration --model="$out/lines_larger"
