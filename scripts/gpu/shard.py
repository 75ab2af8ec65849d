"""Tests FSDP2 on a single GPU, and its checkpoints: equal steps, equal states, and their cost.

python -m scripts.gpu.shard --preset=d20 --device=cuda

A single rank shares with nobody, but everything runs on CUDA: parts as DTensors, gathering and scattering by
NCCL, Muon on whole matrices, and torch.distributed.checkpoint in its safetensors form. The same step is taken
whole and split, from the same weights and on the same batch. Then the split state is written, read back and
compared bit by bit. There is only one process, so this says nothing about several GPUs.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from nanoocr.commandline import parse, run
from nanoocr.config import preset
from nanoocr.data.loader import Delivery, multimodal_data_generator
from nanoocr.errors import DefectError
from nanoocr.files import write_folder
from nanoocr.tasks.choose import make_task
from nanoocr.train.config import TrainConfig
from nanoocr.train.data import plan_data
from nanoocr.train.distributed import World
from nanoocr.train.recipes import Recipe
from nanoocr.train.recipes import recipe as find_recipe
from nanoocr.train.run import Run
from nanoocr.train.setup import load_tokenizer
from nanoocr.train.sharding import as_one_forward, is_split, read_parts, write_parts
from nanoocr.train.state import TrainState, build_state
from nanoocr.train.step import Totals, compute_losses, train_step
from scripts.gpu.part import PartConfig, Results, peak_gb, random_model, release, start_peak

COLUMNS = {
    "step_s": ("step s", ".3f"),
    "memory_gb": ("peak GB", ".1f"),
    "loss": ("loss", ".6f"),
    "difference": ("difference", ".1e"),
    "write_s": ("write s", ".1f"),
    "read_s": ("read s", ".1f"),
    "gb": ("GB", ".2f"),
}
# Tolerance for a parameter's gradient, relative to its norm. (Weights after a step would say less: AdamW's
# first step is the sign of a gradient, even of one that is zero except for rounding, such as that of the
# keys' bias.)
TOLERANCE = {"cuda": 0.02, "cpu": 1e-3}


@dataclass(frozen=True)
class ShardConfig(PartConfig):
    """Takes a step whole and split, and writes and reads the split state."""

    rows: int = 8  # rows of the batch
    steps: int = 3  # timed steps


@contextmanager
def one_rank(device: str) -> Iterator[World]:
    """A process group of this process alone."""
    with tempfile.TemporaryDirectory() as folder:
        where = f"file://{folder}/meeting"
        dist.init_process_group("nccl" if device == "cuda" else "gloo", where, rank=0, world_size=1)
        try:
            yield World(device=device)
        finally:
            dist.destroy_process_group()


def flags_of(config: ShardConfig, split: bool) -> TrainConfig:
    """Flags with recipe scratch, so that both optimisers and the glyph heads take part."""
    return TrainConfig(
        preset=config.preset,
        device=config.device,
        steps=config.steps + 2,
        batch_size=config.rows,
        workers=0,
        shard=split,
        eval_samples=0,
    )


def batch_of(config: ShardConfig) -> Delivery:
    """A batch of cards."""
    flags, tokenizer = flags_of(config, False), load_tokenizer(flags_of(config, False))
    data = plan_data(flags, preset(config.preset), tokenizer, make_task)
    return next(multimodal_data_generator(data))[0]


def state_of(flags: TrainConfig, recipe: Recipe, world: World) -> TrainState:
    """A state with the same random weights for both ways."""
    model = random_model(preset(flags.preset), torch.device(flags.device), flags.compute_dtype)
    model.image_id = load_tokenizer(flags).image_id
    return build_state(Run(flags, recipe, world=world), model)


def whole(tensor: Tensor) -> Tensor:
    """Gather a split tensor, on the CPU, so that both ways need not fit side by side."""
    return (tensor.full_tensor() if is_split(tensor) else tensor).detach().cpu()  # type: ignore[attr-defined]


def take_steps(
    config: ShardConfig, world: World, batch: Delivery, split: bool, kept: dict[str, Any]
) -> dict[str, Any]:
    """Take the gradients of one batch, which are stored in `kept`, and time further steps."""
    flags, recipe, device = flags_of(config, split), find_recipe("scratch", 1), config.torch_device
    start_peak(device)
    state = state_of(flags, recipe, world)
    kept[way(split)] = gradients(state, batch, recipe, world)
    seconds = []
    for _ in range(config.steps + 1):
        started = time.perf_counter()
        stats = train_step(Run(flags, recipe, world=world), state, [batch])
        loss = float(stats.losses["loss"])  # this waits for the step
        seconds.append(time.perf_counter() - started)
    if split:
        kept["state"] = state
    return {
        "step_s": median(seconds[1:]),
        "memory_gb": peak_gb(device),
        "loss": loss,
        **compare_gradients(kept, TOLERANCE[config.device]),
    }


def way(split: bool) -> str:
    """The name of each way."""
    return "split" if split else "whole"


def gradients(state: TrainState, batch: Delivery, recipe: Recipe, world: World) -> dict[str, Tensor]:
    """The gradient of every parameter, whole and on the CPU."""
    totals = Totals.of([batch.batch], world)
    losses = as_one_forward(state.model, partial(compute_losses, state, batch.batch, recipe, totals))
    losses["total"].backward()
    found = {name: whole(p.grad) for name, p in state.model.named_parameters() if p.grad is not None}
    for optimizer in state.optimizers:
        optimizer.zero_grad(set_to_none=True)
    return found


def compare_gradients(kept: dict[str, Any], tolerance: float) -> dict[str, float]:
    """The largest relative difference of a gradient between both ways; {} before the second way has run.

    Raises:
        DefectError: a difference is above the tolerance; the error names the parameter.
    """
    if way(True) not in kept or way(False) not in kept:
        return {}
    ours, theirs = kept[way(True)], kept[way(False)]
    if ours.keys() != theirs.keys():
        raise DefectError(f"other parameters have a gradient: {sorted(ours.keys() ^ theirs.keys())[:3]}")
    apart = {n: float((ours[n] - theirs[n]).norm() / theirs[n].norm().clamp_min(1e-6)) for n in theirs}
    worst = max(apart, key=lambda name: apart[name])
    if apart[worst] > tolerance:
        raise DefectError(f"{worst} differs by {apart[worst]:.1e} between the whole and the split step")
    return {"difference": apart[worst]}


def write_and_read(config: ShardConfig, world: World, kept: dict[str, Any]) -> dict[str, Any]:
    """Write the optimisers' state to disk, read it back, and compare it bit by bit."""
    state, folder = kept["state"], config.folder / "shard"
    shutil.rmtree(folder, ignore_errors=True)
    content = {"optimizers": [optimizer.state_dict() for optimizer in state.optimizers]}
    try:
        (rest, files), write_s = clocked(partial(write_parts, folder, content, world))
        size = sum(file.stat().st_size for file in files)
        write_folder(folder / "step", {}, ready=files)
        back, read_s = clocked(partial(read_parts, folder / "step", rest, state.model))
        check_equal(content, back)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return {"write_s": write_s, "read_s": read_s, "gb": size / 1e9}


def clocked(function: Callable[[], Any]) -> tuple[Any, float]:
    """The result of a call, and its seconds."""
    started = time.perf_counter()
    return function(), time.perf_counter() - started


def check_equal(ours: Any, theirs: Any, path: str = "") -> None:
    """Check that all tensors of two trees are the same.

    Raises:
        DefectError: it names the first tensor that differs.
    """
    if isinstance(ours, Tensor):
        if not torch.equal(whole(ours), whole(theirs)):
            raise DefectError(f"{path[1:]} came back changed")
    elif isinstance(ours, dict):
        for key in ours:
            check_equal(ours[key], theirs[key], f"{path}.{key}")
    elif isinstance(ours, list):
        for number, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            check_equal(one, other, f"{path}.{number}")


def main(argv: list[str] | None = None) -> int:
    """Take steps whole and split, and write and read the state."""
    config = parse(ShardConfig, argv)
    results, kept = Results("shard", config), dict[str, Any]()
    batch = batch_of(config)
    with one_rank(config.device) as world:
        for split in (False, True):
            name = "a step, split over one rank" if split else "a step, whole"
            results.measure(name, partial(take_steps, config, world, batch, split, kept))
            release(config.torch_device)
        if "state" in kept:
            results.measure("state to disk and back", partial(write_and_read, config, world, kept))
        kept.clear()
    return results.finish(COLUMNS)


if __name__ == "__main__":
    sys.exit(run(main))
