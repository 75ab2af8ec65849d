#!/usr/bin/env bash
# One part of what is measured on a GPU: a table on stdout, JSON in $OUT. docs/guide/gpu.md is the plan of the half hour.
#
# Usage: bash runs/gpu.sh PART [--preset=d20] [--device=cuda] [--minutes=8.5] [FLAGS]
#        bash runs/gpu.sh wheels    where there is a network: fetch what the GPU's machine lacks into wheels/
#   PART    check, speed, train, tier1, read, shard or small
#   OUT     folder of the results (default: out/gpu)
#   PYTHON  the interpreter; it has torch with CUDA (default: .venv/bin/python where there is one, else python3)
#
# In miniature, in seconds, without a GPU: bash runs/gpu.sh PART --preset=nano --device=cpu
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

parts="check speed train tier1 read shard small"
# What an image with torch, transformers and the usual packages does not have, or has in an older version; --no-deps.
wheels=(transformers==5.24.0 tyro==1.0.17 docstring-parser==0.18.0 typeguard==4.6.1 rapidfuzz==3.14.6
    pypdfium2==5.15.2 pikepdf==10.18.0)

part="${1:-}"
if [[ $# -gt 0 ]]; then
    shift
fi
python="${PYTHON:-python3}"
if [[ -z "${PYTHON:-}" && -x .venv/bin/python ]]; then
    python=.venv/bin/python
fi
if [[ "$part" == wheels ]]; then
    platforms=()
    for glibc in 2_28 2_27 2_17; do
        platforms+=(--platform "manylinux_${glibc}_x86_64")
    done
    exec "$python" -m pip download --quiet --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
        "${platforms[@]}" --platform manylinux2014_x86_64 --dest wheels "${wheels[@]}"
fi
if [[ " $parts " != *" $part "* || -z "$part" ]]; then
    echo "gpu.sh: PART is one of $parts, or wheels; found '$part'" >&2
    exit 2
fi

# The wheels that travelled along go before what the machine has; they are installed once, and are of Python 3.12.
is_312='import sys; sys.exit(sys.version_info[:2] != (3, 12))'
if compgen -G "wheels/*.whl" >/dev/null && [[ "$python" != .venv/bin/python ]] && "$python" -c "$is_312"; then
    site="${TMPDIR:-/tmp}/nanoocr-gpu-site"
    if [[ ! -f "$site/.done" ]]; then
        "$python" -m pip install --quiet --no-index --no-deps --no-compile --upgrade --target "$site" wheels/*.whl
        touch "$site/.done"
    fi
    export PYTHONPATH="$site${PYTHONPATH:+:$PYTHONPATH}"
fi

# A part stops itself. This is for one that cannot: it is interrupted a minute after its time, and killed soon after.
minutes=8.5
for flag in "$@"; do
    if [[ "$flag" == --minutes=* ]]; then
        minutes="${flag#--minutes=}"
    fi
done
seconds="$(awk -v m="$minutes" 'BEGIN { printf "%d", m * 60 + 60 }')"
# Texts of ever new lengths would cut the GPU's memory into pieces.
export PYTORCH_ALLOC_CONF="${PYTORCH_ALLOC_CONF:-expandable_segments:True}" PYTHONUNBUFFERED=1
exec timeout --signal=INT --kill-after=15 "$seconds" "$python" -m "scripts.gpu.$part" "$@"
