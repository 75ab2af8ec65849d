#!/bin/sh
# torch on a CPU without AVX512: bf16 products are computed number by number, and by how much depends on the layout.
#
# Half of the bytes look like half of the time. On processors that have AVX2 only (most laptops), a product of two
# row-major matrices in bf16 takes some 60 times as long as in fp32, and fp16 the same. With the second one
# transposed, as in nn.Linear, it is "only" some ten times. So an inference test, which runs linear layers, does not
# show what an optimiser pays that multiplies plain matrices in bf16, as Muon does: there a training step spent
# four fifths of its time. No warning is given. Where the processor multiplies bf16 itself, this shows nothing. Ends with 0
# as long as the order of magnitude holds, else with 1.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet torch==2.13.0 numpy
cat > show.py <<'PYTHON'
import sys
import time

import torch


def least_ms(work, rounds=5):
    """The least milliseconds of the processor that a call takes, after one to warm up."""
    work()
    taken = []
    for _ in range(rounds):
        started = time.process_time()
        work()
        taken.append(time.process_time() - started)
    return min(taken) * 1e3


print("torch", torch.__version__, "with", torch.backends.cpu.get_cpu_capability())
if torch.backends.cpu.get_cpu_capability() != "AVX2":
    print("This is shown on processors with AVX2 and no more: here the products are other ones.")
    sys.exit(0)
torch.set_num_threads(1)
side = 512
plain = torch.randn(side, side)
base = least_ms(lambda: plain @ plain)
print(f"float32 A @ B: {base:.1f} ms")
held = True
for dtype in (torch.bfloat16, torch.float16):
    half = plain.to(dtype)
    row_major, transposed = least_ms(lambda: half @ half) / base, least_ms(lambda: half @ half.T) / base
    print(f"{dtype} A @ B: {row_major:.0f} times as long; A @ B.T: {transposed:.0f} times")
    held = held and row_major > 15 and row_major > 2 * transposed
sys.exit(not held)
PYTHON
venv/bin/python show.py
