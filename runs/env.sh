#!/usr/bin/env bash
# Makes .venv with this project in it; does nothing, at once, when that is done already.
#
# Usage: bash runs/env.sh [EXTRAS]
#   EXTRAS  what pip calls extras: dev (the default), none, or a list such as train,plot
#   PYTHON  the interpreter that .venv is made with (default: python3)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

extras="${1:-dev}"
target=".[$extras]"
if [[ "$extras" == none ]]; then
    target="."
fi

# The stamp holds what was installed from: a changed pyproject.toml installs anew, a moved folder too.
stamp=".venv/installed-$extras"
wanted="$PWD $(cksum <pyproject.toml)"
if [[ -x .venv/bin/python && -f "$stamp" && "$(<"$stamp")" == "$wanted" ]]; then
    exit 0
fi

python="${PYTHON:-python3}"
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
    echo "env.sh: $python is missing or older than Python 3.10; name another one with PYTHON=..." >&2
    exit 2
fi
if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    if ! "$python" -m venv --clear .venv >/dev/null; then
        echo "env.sh: $python cannot make .venv (on Debian: apt-get install python3-venv)" >&2
        exit 2
    fi
fi

echo "env.sh: installing into .venv; the first time takes some minutes" >&2
log=.venv/install.log
if ! .venv/bin/python -m pip install --disable-pip-version-check -e "$target" >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    echo "env.sh: pip failed; the whole log is $PWD/$log" >&2
    exit 1
fi
echo "$wanted" >"$stamp"
