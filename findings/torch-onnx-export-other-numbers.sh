#!/bin/sh
# torch.onnx.export: the mean over groups becomes "the last of each group", and three more operations change silently.
#
# A network that pools its tokens into words or regions by scatter_reduce(..., "mean") is exported without a warning
# and runs, but each group then holds its last member. The same way avg_pool2d loses its divisor, a query that may
# look at nothing (a padded row) gets a mixture of all values in place of zeros, and logsigmoid is minus infinity
# far below zero. Their neighbours below are exported right, so pool with "sum" and divide by counts, and compare the
# outputs after every export. Ends with 0 as long as this is so, else with 1.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet torch==2.13.0 onnx==1.23.2 onnxscript==0.7.2 onnxruntime==1.32.0 numpy
cat > show.py <<'PYTHON'
import contextlib
import importlib.metadata
import io
import logging
import sys

import onnxruntime
import torch
import torch.nn.functional as F

logging.disable(logging.CRITICAL)


class Network(torch.nn.Module):
    def __init__(self, work):
        super().__init__()
        self.forward = work


def pooled(how):
    return lambda x, group: torch.zeros(3).scatter_reduce(0, group, x, how, include_self=False)


def attended(x, seen):
    return F.scaled_dot_product_attention(x, x, x, attn_mask=seen)


members, group = torch.tensor([1.0, 2.0, 6.0, 5.0]), torch.tensor([0, 0, 0, 2])
tokens = torch.tensor([[[[1.0, 0.0], [0.0, 3.0]]]])
CASES = {
    "mean over groups": (pooled("mean"), (members, group), False),
    "sum over groups": (pooled("sum"), (members, group), True),
    "avg_pool2d, divisor 3": (lambda x: F.avg_pool2d(x, 2, divisor_override=3), (torch.ones(1, 1, 2, 2),), False),
    "avg_pool2d": (lambda x: F.avg_pool2d(x, 2), (torch.ones(1, 1, 2, 2),), True),
    "attention, a query sees nothing": (attended, (tokens, torch.tensor([[False, False], [True, False]])), False),
    "attention, each sees one": (attended, (tokens, torch.tensor([[False, True], [True, False]])), True),
    "logsigmoid": (lambda x: F.logsigmoid(x), (torch.tensor([-100.0, -50.0]),), False),
}
for name in ("torch", "onnx", "onnxscript", "onnxruntime"):
    print(name, importlib.metadata.version(name))
as_known = True
for name, (work, given, is_same) in CASES.items():
    with contextlib.redirect_stdout(io.StringIO()):
        model = torch.onnx.export(Network(work).eval(), given, dynamo=True, verbose=False).model_proto
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {spot.name: one.numpy() for spot, one in zip(session.get_inputs(), given)})
    found, expected = torch.from_numpy(found), work(*given)
    print(f"{name}: torch {expected.flatten().tolist()}, exported {found.flatten().tolist()}")
    as_known &= torch.allclose(found, expected) == is_same
sys.exit(not as_known)
PYTHON
venv/bin/python -W ignore show.py
