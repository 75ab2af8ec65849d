#!/usr/bin/env bash
# From nothing to the report on one node: both stages on real data, then the evaluation. Every command goes on
# from its newest checkpoint, so after a crash, or on Monday, the script is simply started again.
#
# Usage: bash runs/speedrun.sh                                   eight GPUs, hub data, the 962M model
#        NPROC_PER_NODE=1 bash runs/speedrun.sh                  one GPU
#        bash runs/speedrun.sh --preset=nano --synthetic         two CPU cores, minutes, no network
#
#   OUT              folder of runs, data and reports (default: checkpoints/speedrun)
#   NPROC_PER_NODE   processes, one per GPU (default: all GPUs; 1 on CPUs)
#   STEPS1, STEPS2   optimiser steps of the two stages
#   MAX_TOKENS       longest answer of the evaluation (default: what fits the model), with --synthetic of validations too
#   MICRO_BATCH      sequences per forward pass; the plan of scripts.memory_plan is printed first
#   WANDB=1          also log to Weights & Biases (run `wandb login` before)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source runs/train.sh

preset=d20 synthetic=0
for flag in "$@"; do
    case "$flag" in
    --preset=*) preset="${flag#--preset=}" ;;
    --synthetic) synthetic=1 ;;
    *)
        echo "speedrun.sh: unknown flag $flag; known are --preset=nano|small|d20 and --synthetic" >&2
        exit 2
        ;;
    esac
done
die() {
    echo "speedrun.sh: $1" >&2
    exit 2
}

bash runs/env.sh dev
python=.venv/bin/python
out="${OUT:-checkpoints/speedrun}"
mkdir -p "$out"

# What is here, before anything is downloaded or trained.
gpus="$("$python" -c 'import torch; print(torch.cuda.device_count())')"
processes="${NPROC_PER_NODE:-$((gpus > 0 ? gpus : 1))}"
device=cpu
if [[ "$gpus" -gt 0 ]]; then
    device=cuda
    [[ "$processes" -le "$gpus" ]] || die "NPROC_PER_NODE=$processes, but this node has $gpus GPUs"
elif [[ "$preset" == d20 ]]; then
    die "the 962M model needs a GPU, and torch finds none; on CPUs give --preset=nano --synthetic"
fi
free_gb="$(df -Pk "$out" | awk 'NR == 2 {print int($4 / 1e6)}')"
need_gb=$((synthetic ? 1 : 200))
[[ "$free_gb" -ge "$need_gb" ]] || die "$out has $free_gb GB free, this run needs $need_gb: name another OUT"
wandb=()
if [[ "${WANDB:-0}" == 1 ]]; then
    "$python" -c 'import wandb, sys; sys.exit(0 if wandb.api.api_key else 1)' ||
        die "WANDB=1, but wandb is not installed or not logged in: pip install '.[wandb]', then wandb login"
    wandb=(--wandb=True)
fi
echo "speedrun.sh: $processes processes on $device, $free_gb GB free in $out" >&2

stage() { # NAME STEPS SCRIPT FLAGS...
    local name="$1" steps="$2" script="$3"
    shift 3
    local launcher
    if finished "$out/$name" "$steps"; then
        return
    fi
    launcher=("$python" -m)
    if [[ "$processes" -gt 1 ]]; then
        launcher=("$python" -m torch.distributed.run --standalone "--nproc_per_node=$processes" -m)
    fi
    "${launcher[@]}" "$script" --run_name="$name" --out="$out" --preset="$preset" --steps="$steps" \
        --device="$device" --resume=True --pack=True ${wandb[@]+"${wandb[@]}"} "$@"
}

fits() { # STAGE LENGTH PICTURES: prints the plan of a step, and ends where the GPU is too small for it
    local plan needed here
    plan="$("$python" -m scripts.memory_plan --preset="$preset" --stage="$1" --sequences="${MICRO_BATCH:-2}" \
        --seq_len="$2" --pictures="$3" --ranks="$processes")"
    echo "$plan" >&2
    needed="$(tail -n 1 <<<"$plan" | "$python" -c 'import json, sys; print(round(json.load(sys.stdin)["total_gb"]))')"
    here="$("$python" -c 'import torch; print(round(torch.cuda.get_device_properties(0).total_memory / 1e9))')"
    [[ "$needed" -le "$here" ]] || die "a step of stage $1 needs $needed GB, a GPU here has $here: lower MICRO_BATCH"
}

if [[ "$synthetic" == 1 ]]; then
    # Parquet shards of the project's own documents stand in for the hub's.
    data="$out/data"
    mkdir -p "$data/documents" "$data/questions"
    for kind in card receipt; do
        [[ -f "$data/documents/$kind.parquet" ]] ||
            "$python" -m nanoocr.data.synth --kind="$kind" --count=400 --seed=7 --out="$data/documents/$kind.parquet"
    done
    [[ -f "$data/questions/chart.parquet" ]] ||
        "$python" -m nanoocr.data.synth --kind=chart --count=200 --seed=7 --out="$data/questions/chart.parquet"
    tasks=(--tasks="ocr=parquet:$data/documents general=parquet:$data/questions" --mix=ocr:0.8,general:0.2)
    flags=(--recipe=scratch --batch_size=4 --eval_samples=8 --eval_tokens="${MAX_TOKENS:-512}")
    steps1="${STEPS1:-20}" steps2="${STEPS2:-20}" first=() modes=() length1=(--max_length=512) length2=(--max_length=512)
else
    "$python" -m pip install --quiet -e '.[hub]'
    # 70 % documents, 20 % general vision, 10 % text: the mix of the paper's second stage.
    ocr="finevision:olmOCR-mix-0225-documents?max_gb=60"
    general="finevision:LLaVA_Instruct_150K?max_gb=40"
    talk="smoltalk"
    tasks=(--tasks="ocr=$ocr general=$general text=$talk" --mix=ocr:0.7,general:0.2,text:0.1)
    modes=(--modes=base) flags=(--recipe=deepseek --batch_size=64 --micro_batch="${MICRO_BATCH:-2}" --workers=8 --turns=8)
    length1=(--max_length=4096) length2=(--max_length=8192) # as in the paper: rotary positions grow with the rows
    steps1="${STEPS1:-20000}" steps2="${STEPS2:-20000}"
    first=(--init="$out/start")
    [[ -d "$out/start" ]] || "$python" -m nanoocr convert --out="$out/start" --verify \
        --sam=facebook/sam-vit-base --clip=openai/clip-vit-large-patch14 --gpt=nanochat-students/base-d20
    fits 1 4096 8
    fits 2 8192 16
    held_out="$out/held_out.parquet" # pages of kinds that the real data has too, and text
    [[ -f "$held_out" ]] || "$python" -m nanoocr.data.synth --kind=paragraph,receipt,form,table,chart,text \
        --count=96 --seed=1000000 --out="$held_out"
    flags+=(--eval_data="$held_out" --eval_samples=96)
fi

stage tok "$steps1" scripts.vis_tok_train "${flags[@]}" "${length1[@]}" "${tasks[@]}" ${first[@]+"${first[@]}"} ${modes[@]+"${modes[@]}"}
encoder="$(find "$out/tok" -name 'deepencoder_*.safetensors' | sort | tail -n 1)"
# The recipe's rate falls by ten every so many steps: three levels over the whole stage, however long it is.
stage mid "$steps2" scripts.vis_mid_train "${flags[@]}" "${length2[@]}" "${tasks[@]}" ${first[@]+"${first[@]}"} ${modes[@]+"${modes[@]}"} \
    --resume_from_deepencoder="$encoder" --lr_step_every="$(((steps2 + 2) / 3))"

# What it can do, and the proof that it looks; then everything on one page.
"$python" -m scripts.vision_eval --model="$out/mid" --out="$out/eval" --device="$device" --per_group="${PER_KIND:-100}" \
    --max_tokens="${MAX_TOKENS:-0}"
"$python" -m scripts.report --run="$out/tok" --run="$out/mid" --eval="$out/eval" --out="$out/report.html"
echo "speedrun.sh: the report is $out/report.html" >&2
