#!/bin/sh
# torch, one thread: a 1 x 1 convolution of fewer than 16 pictures does not go to oneDNN, one of 3 x 3 does.
#
# Pointwise convolutions are where much of an encoder's time goes. With two threads, or from 16 pictures on,
# torch hands them to oneDNN; with one thread and a smaller batch it takes its own, older path, silently. Whoever
# serves single pictures with one thread each, or compares engines "one thread each", measures another
# kernel than with two. The profiler shows which kernel ran, so nothing here depends on the machine's speed. Ends
# with 0 as long as this is so, else with 1.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet torch==2.13.0 numpy
cat > show.py <<'PYTHON'
import sys

import torch
import torch.nn.functional as F
from torch.profiler import ProfilerActivity, profile

KERNELS = {"aten::mkldnn_convolution": "oneDNN", "aten::_slow_conv2d_forward": "torch's own"}


def kernel(side, batch, threads):
    """Which kernel computes a side x side convolution of a batch of pictures with so many threads."""
    torch.set_num_threads(threads)
    pictures, filters = torch.randn(batch, 64, 32, 32), torch.randn(128, 64, side, side)
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        F.conv2d(pictures, filters, padding=side // 2)
    return next(KERNELS[event.key] for event in seen.key_averages() if event.key in KERNELS)


print("torch", torch.__version__)
found = {}
for side, batch, threads in ((1, 1, 1), (1, 15, 1), (1, 16, 1), (1, 1, 2), (3, 1, 1)):
    found[side, batch, threads] = kernel(side, batch, threads)
    print(f"{side} x {side}, {batch:2} pictures, {threads} thread(s): {found[side, batch, threads]}")
expected = ["torch's own", "torch's own", "oneDNN", "oneDNN", "oneDNN"]
sys.exit(list(found.values()) != expected)
PYTHON
venv/bin/python show.py 2>/dev/null
