#!/bin/sh
# torch on a CPU: a linear layer in bfloat16 keeps some .6 MB for every number of rows that it has ever seen.
#
# bfloat16 is chosen to halve the memory of weights. On CPUs that multiply it in hardware, torch hands such a
# product to oneDNN, which compiles a kernel for each shape and keeps it; float32 of the same shapes goes another
# way and keeps next to nothing. Whoever reads texts or strips of every length with one layer of half a megabyte
# so holds hundreds of megabytes within some pages, and the same shapes again add nothing, so that it looks like
# a leak that stops. Rows that are filled up to a few lengths (multiples of 64, say) keep it small. Fewer kernels
# are kept where ONEDNN_PRIMITIVE_CACHE_CAPACITY says so, which is shown, too. Ends with 0 as long as this is so,
# or where the CPU has no bfloat16, else with 1.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet torch==2.13.0 numpy
cat > show.py <<'PYTHON'
import re
import subprocess
import sys

import torch
import torch.nn.functional as F


def megabytes():
    """What the process holds."""
    return int(re.search(r"VmRSS:\s+(\d+)", open("/proc/self/status").read()).group(1)) / 1024


def growth(dtype, step):
    """Megabytes that 400 numbers of rows add, filled up to multiples of `step`, and that the same ones add again."""
    torch.set_num_threads(1)
    weight = torch.randn(1024, 256, dtype=dtype)
    counts = [-(-rows // step) * step for rows in range(100, 500)]
    with torch.inference_mode():
        F.linear(torch.randn(7, 256, dtype=dtype), weight)
        held = [megabytes()]
        for _ in range(2):
            for rows in counts:
                F.linear(torch.randn(rows, 256, dtype=dtype), weight)
            held.append(megabytes())
    return held[1] - held[0], held[2] - held[1]


if len(sys.argv) > 1:  # each measurement has a process of its own
    first, again = growth(getattr(torch, sys.argv[1]), int(sys.argv[2]))
    print(round(first), round(again))
    sys.exit()

print("torch", torch.__version__, torch.backends.cpu.get_cpu_capability())
if not torch.cpu._is_avx512_bf16_supported():
    print("this CPU does not multiply bfloat16: nothing to see")
    sys.exit()
found = {}
for name, step, environment in (
    ("float32", 1, {}),
    ("bfloat16", 1, {}),
    ("bfloat16", 64, {}),
    ("bfloat16", 1, {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "16"}),
):
    command = [sys.executable, __file__, name, str(step)]
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    first, again = map(int, said.split())
    found[name, step, bool(environment)] = first
    print(f"{name}, rows filled up to multiples of {step}, {environment or 'as it comes'}: "
          f"400 numbers of rows add {first} MB, the same again {again} MB")
kept = found["bfloat16", 1, False]
sys.exit(not (kept > 150 and kept > 8 * max(found["float32", 1, False], found["bfloat16", 64, False], 1)))
PYTHON
venv/bin/python show.py
