#!/usr/bin/env bash
# Tier 2: does a mixture cost the reading? Both stages twice, on two CPU cores, from the same Parquet shards with
# packing: once on documents alone, once on 70 % documents, 20 % questions about charts and forms, 10 % plain text.
# Then held-out reading, held-out questions, and the table. The goals: CER of the mixed run at most one point above
# the other's, text loss falling, grounding gap >= 0.9, no collapse warning.
#
# "The same length" means the same optimiser steps and the same number of documents: a step of the mixed run holds
# 10/7 of the rows. A row of the mixture is a little longer too, so that takes 9 sequences of 512 tokens instead of 6;
# the table counts the documents that each run saw.
#
# Every part goes on from where it was when the script is started again.
#
# Usage: bash runs/tier2.sh
#   STAGE1, STAGE2   optimiser steps of the stages (defaults: those of `nano.sh`)
#   INIT             model folder that both runs start from, as the one that runs/nano.sh leaves, to train all its parts in both
#                    stages at a low rate (default: fresh weights; stage 2 then freezes SAM and compressor and has a
#                    fresh GPT)
#   LINES_ALONE, LINES_MIXED   packed sequences per step
#   SHARDS, ROWS     Parquet files of each kind, and rows in each
#   EVERY            steps between two validations and checkpoints, a multiple of LOG, the steps between log lines
#   HELD_OUT         rows of a validation, cards and text in turn
#   CARDS, QUESTIONS   held-out cards and questions of each kind, for the table
#   MAX_TOKENS       of an answer, in validations and measurements
#   COMPILE=1        with torch.compile (a C++ compiler; packed batches have many shapes)
#   OUT              folder for everything, about 3 GB (default: checkpoints/tier2)
#   RUN_WITH         a Python that has the project installed (default: that of .venv, which is made)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source runs/train.sh

STAGE1="${STAGE1:-3200}" STAGE2="${STAGE2:-3000}" INIT="${INIT:-}"
LINES_ALONE="${LINES_ALONE:-6}" LINES_MIXED="${LINES_MIXED:-9}"
SHARDS="${SHARDS:-4}" ROWS="${ROWS:-25600}"
EVERY="${EVERY:-500}" LOG="${LOG:-20}" HELD_OUT="${HELD_OUT:-96}"
CARDS="${CARDS:-500}" QUESTIONS="${QUESTIONS:-200}" MAX_TOKENS="${MAX_TOKENS:-512}"
out="${OUT:-checkpoints/tier2}"
mkdir -p "$out"
if [[ -f "$out/init" && "$(<"$out/init")" != "$INIT" ]]; then
    echo "tier2.sh: the runs in $out started from '$(<"$out/init")', not from '$INIT': name another OUT" >&2
    exit 2
fi
echo "$INIT" >"$out/init"

python="${RUN_WITH:-.venv/bin/python}"
if [[ -z "${RUN_WITH:-}" ]]; then
    bash runs/env.sh dev
fi
export GOMP_SPINCOUNT="${GOMP_SPINCOUNT:-20000}" # as in train.sh
compile=()
if [[ "${COMPILE:-0}" == 1 ]]; then
    compile=(--compile=True)
fi

# --- shards: another number of rows is another folder -----------------------------------------------------------

data="$out/data_${SHARDS}x$ROWS"
draw() { # FILE KIND COUNT SEED
    [[ -f "$1" ]] || "$python" -m nanoocr.data.synth --out="$1" --kind="$2" --count="$3" --seed="$4"
}
mkdir -p "$data/documents" "$data/questions" "$data/text"
for ((seed = 1; seed <= SHARDS; seed++)); do
    draw "$data/documents/card_$seed.parquet" card "$ROWS" "$seed"
    draw "$data/questions/chart_$seed.parquet" chart_question "$((ROWS / 4))" "$seed"
    draw "$data/questions/form_$seed.parquet" form_question "$((ROWS / 4))" "$seed"
    draw "$data/text/text_$seed.parquet" text "$((ROWS / 2))" "$seed"
done
# Validation draws from seed 1,000,000 on: cards and text in turn, for both runs. (The reading that the table is
# about uses other pictures of that seed.)
draw "$data/held_out_$HELD_OUT.parquet" card,text "$HELD_OUT" 1000000

# --- training -----------------------------------------------------------------------------------------------------

run() { # NAME STEPS SCRIPT FLAGS...
    local name="$1" steps="$2" script="$3"
    shift 3
    if finished "$out/$name" "$steps"; then
        return
    fi
    "$python" -m "$script" --run_name="$name" --out="$out" --steps="$steps" --resume=True \
        --pack=True --max_length=512 --eval_data="$data/held_out_$HELD_OUT.parquet" \
        --eval_samples="$HELD_OUT" --eval_tokens="$MAX_TOKENS" --eval_first=True \
        --eval_every="$EVERY" --save_every="$EVERY" --log_every="$LOG" ${compile[@]+"${compile[@]}"} "$@"
}

both() { # NAME FLAGS...
    local name="$1" encoder step
    shift
    encoder="$out/${name}_tok/deepencoder_$(printf %06d "$STAGE1").safetensors"
    step="$out/${name}_tok/step_$(printf %06d "$STAGE1")"
    if [[ -n "$INIT" ]]; then
        local low=(--lr=0.00045 --muon_lr=0.0015 --rates=patch_embed:1,wte:1,lm_head:1 --glyph_weight=0.5 --average=0.998)
        run "${name}_tok" "$STAGE1" scripts.vis_tok_train --init="$INIT" "${low[@]}" "$@"
        run "${name}_mid" "$STAGE2" scripts.vis_mid_train --init="$step" "${low[@]}" --cooldown=1 --seed=1 \
            --trained=sam,compressor,clip,projector,gpt "$@"
    else
        run "${name}_tok" "$STAGE1" scripts.vis_tok_train --glyph_only=0.5 --average=0.998 "$@"
        run "${name}_mid" "$STAGE2" scripts.vis_mid_train --resume_from_deepencoder="$encoder" --muon_lr=0.01 \
            --glyph_weight=0.5 --cooldown=1 --average=0.998 "$@"
    fi
}
both alone --batch_size="$LINES_ALONE" --tasks="documents=parquet:$data/documents"
both mixed --batch_size="$LINES_MIXED" --mix=documents:0.7,questions:0.2,text:0.1 --mix_by=samples \
    --tasks="documents=parquet:$data/documents questions=parquet:$data/questions text=parquet:$data/text"

# --- what came out --------------------------------------------------------------------------------------------------

step="$(printf %06d "$STAGE2")"
for name in alone mixed; do
    model="$out/${name}_mid/step_$step" measured="$out/${name}_mid/measured_$step"
    mkdir -p "$measured"
    if [[ ! -f "$measured/reading.json" ]]; then
        "$python" -m scripts.measure_reading --model="$model" --json="$measured/reading.json" \
            --cards="$CARDS" --per_kind=2 --max_tokens="$MAX_TOKENS" >/dev/null
    fi
    if [[ ! -f "$measured/questions/results.json" ]]; then
        "$python" -m scripts.vision_eval --model="$model" --out="$measured/questions" --benchmark=synthetic \
            --kinds=chart_question,form_question --per_group="$QUESTIONS" --max_tokens="$MAX_TOKENS" >/dev/null
    fi
done
"$python" -m scripts.dev.tier2_table --out="$out"
