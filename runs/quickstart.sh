#!/usr/bin/env bash
# From a fresh clone to text: makes .venv and reads every picture in assets/samples with the shipped model.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash runs/env.sh none
.venv/bin/python -m scripts.read_samples --folder=assets/samples
