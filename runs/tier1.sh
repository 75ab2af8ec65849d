#!/usr/bin/env bash
# Tier 1: both stages on the ten samples, from nothing, then the table that shows whether the model looks.
# At most 15 minutes on two CPU cores. The goal: average loss <= 0.0033, overlap 100 %, grounding gap >= 0.9.
#
# Usage: bash runs/tier1.sh [STEPS_OF_STAGE_1 [STEPS_OF_STAGE_2]]
#   OUT  folder for tok/, mid/ and report.json, which are removed first (default: checkpoints/tier1)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

steps1="${1:-800}"
steps2="${2:-1200}"
out="${OUT:-checkpoints/tier1}"
data=data/overfit_dataset.json

if [[ ! -x .venv/bin/python ]]; then
    bash runs/env.sh none
fi
python=.venv/bin/python
rm -rf "${out:?}/tok" "${out:?}/mid" "${out:?}/report.json"

# A batch of ten: as many rows as there are. Validation and saving wait until the end of each stage.
common=(--preset=nano --recipe=scratch --data="$data" --batch_size=10 --eval_samples=10 --out="$out")

"$python" -m scripts.vis_tok_train "${common[@]}" --run_name=tok \
    --steps="$steps1" --eval_every="$steps1" --save_every="$steps1"

"$python" -m scripts.vis_mid_train "${common[@]}" --run_name=mid \
    --resume_from_deepencoder="$out/tok/deepencoder_$(printf %06d "$steps1").safetensors" \
    --steps="$steps2" --eval_every="$steps2" --save_every="$steps2"

"$python" -m scripts.vision_sample --checkpoint="$out/mid" --data=overfit --json="$out/report.json"

echo "tier1: $SECONDS seconds in all; everything is in $out/report.json" >&2
