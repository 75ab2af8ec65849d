"""Trains the same 50 steps of both stages in several checkouts, and says whether they end in the same bits.

python -m scripts.dev.same_steps --trees=../before,.

Run it before and after a change that must not alter training. Every checkout trains stage 1 and, from its
encoder, stage 2, in separate processes with one thread. The whole state after the last step is compared:
weights, optimisers, averages of the losses and the random generator. The last line on stdout is the result as
JSON, and the exit code is 1 if two checkouts differ.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nanoocr.commandline import parse, run
from nanoocr.errors import NanoOCRError, UsageError
from nanoocr.model.folder import step_folder
from nanoocr.train.checkpoint import load_state

FLAGS = (
    *("--preset=nano", "--batch_size=2", "--micro_batch=1", "--threads=1", "--eval_samples=0"),
    *("--average=0.9", "--log_every=5", "--save_every=50", "--text_ratio=0.2"),
)
# flags of stage 2, so that both ways to lay out a batch are covered
PACKED = ("--pack=True", "--max_length=256")


@dataclass(frozen=True)
class SameStepsConfig:
    """Compares the results of training in several checkouts of this project."""

    trees: str = "."  # checkouts, separated by commas
    steps: int = 50  # steps of each stage


class DifferentStepsError(NanoOCRError):
    """Two checkouts trained differently: the command has found a fault."""

    exit_code = 1


def main(argv: list[str] | None = None) -> int:
    """Train in every checkout and compare."""
    config = parse(SameStepsConfig, argv)
    trees = [Path(tree) for tree in config.trees.split(",")]
    if missing := [tree for tree in trees if not (tree / "scripts" / "vis_tok_train.py").is_file()]:
        raise UsageError(f"--trees={config.trees}: {missing[0]} is no checkout of this project")
    digests = {}
    for tree in trees:
        with tempfile.TemporaryDirectory() as folder:
            digests[str(tree)] = train_both(tree.resolve(), Path(folder), config.steps)
    same = len(set(map(tuple, digests.values()))) == 1
    print(json.dumps({"steps": config.steps, "same": same, "sha256": digests}))
    if not same:
        raise DifferentStepsError("the checkouts trained differently: see the digests of stages 1 and 2")
    return 0


def train_both(tree: Path, out: Path, steps: int) -> list[str]:
    """The digests of the states at the end of the two stages."""
    flags = (*FLAGS, f"--steps={steps}", f"--out={out}")
    encoder = out / "one" / f"deepencoder_{steps:06d}.safetensors"
    train(tree, "scripts.vis_tok_train", *flags, "--run_name=one")
    train(
        tree,
        "scripts.vis_mid_train",
        *flags,
        *PACKED,
        "--run_name=two",
        f"--resume_from_deepencoder={encoder}",
    )
    return [digest(step_folder(out / name, steps)) for name in ("one", "two")]


def train(tree: Path, script: str, *flags: str) -> None:
    """Run one stage in a checkout.

    Raises:
        UsageError: the stage failed; its own message is on stderr.
    """
    if subprocess.run([sys.executable, "-m", script, *flags], cwd=tree).returncode:
        raise UsageError(f"{script} failed in {tree}: its own sentence stands above")


def digest(folder: Path) -> str:
    """sha256 of a training step's model file and training state, number by number."""
    found = hashlib.sha256((folder / "model.safetensors").read_bytes())
    for path, value in leaves(load_state(folder)):
        if isinstance(value, Tensor):
            # as bytes, because numpy has no bfloat16
            found.update(path.encode() + value.contiguous().flatten().view(torch.uint8).numpy().tobytes())
        else:
            found.update(f"{path}={value!r}".encode())
    return found.hexdigest()


def leaves(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (path, value) of everything in nested containers, in an order independent of insertion."""
    if isinstance(tree, dict):
        for key in sorted(tree, key=str):
            yield from leaves(tree[key], f"{path}.{key}")
    elif isinstance(tree, list | tuple):
        for i, value in enumerate(tree):
            yield from leaves(value, f"{path}.{i}")
    else:
        yield path, tree


if __name__ == "__main__":
    sys.exit(run(main))
