#!/usr/bin/env bash
# Makes .venv if needed, checks style, types and docs, and runs every test; arguments go to pytest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash runs/env.sh dev
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --quiet --strict
# A process of one thread for each processor: threads that share a processor wait for each other.
OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" .venv/bin/python -m pytest -n auto --dist loadfile "$@"
