"""A split model against a whole one: gloo processes that run one step each way and compare."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing
from torch import Tensor, nn

from nanoocr.bpe import Tokenizer
from nanoocr.data.batch import Batch, collate
from nanoocr.data.example import prepare
from nanoocr.data.loader import Delivery, StreamState
from nanoocr.data.rows import row_from_synth
from nanoocr.data.synth import find_fonts, make_sample
from nanoocr.errors import CheckpointError, UsageError
from nanoocr.files import check_files, read_folder, write_folder
from nanoocr.model.vlm import IGNORE, VLM
from nanoocr.train.config import TrainConfig
from nanoocr.train.distributed import World
from nanoocr.train.optim import orthogonalise
from nanoocr.train.recipes import recipe
from nanoocr.train.resume import load_optimizer
from nanoocr.train.run import Run
from nanoocr.train.sharding import (
    check_shard,
    is_split,
    on_whole_matrices,
    read_parts,
    split_like,
    write_parts,
)
from nanoocr.train.state import TrainState, build_state, gathered
from nanoocr.train.step import train_step
from tests.conftest import make_tiny_config, randomise_weights

# The first step is glyphs alone.
CONFIG = TrainConfig(steps=10, average=0.5, weight_decay=0.01, glyph_only=0.1)
LLAVA = TrainConfig(steps=10, recipe="llava", recompute=True)  # the GPT and most of the encoder are frozen


def whole(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if is_split(tensor) else tensor


def make_batches() -> list[Batch]:
    """Four micro-batches that ask for different parts of the model."""
    row = row_from_synth(make_sample("card", 0, 1, fonts=find_fonts()), "a")
    wide = prepare(row, Tokenizer.bytes(), ((64, 128),), 128)
    square = prepare(row, Tokenizer.bytes(), ((128, 128),), 128)
    text = prepare(replace(row, pictures=()), Tokenizer.bytes(), ((64, 128),), 128)
    silent = collate([wide], 0)
    silent = silent._replace(targets=torch.full_like(silent.targets, IGNORE), num_supervised=0)
    return [collate([wide, square], 0), collate([text], 0), silent, collate([square, text], 0)]


def make_state(config: TrainConfig, world: World) -> TrainState:
    model = VLM(make_tiny_config())
    randomise_weights(model, seed=1 + world.rank)  # what rank 0 has is what counts
    return build_state(Run(config, recipe(config.recipe, 1), world=world), model)


def step(state: TrainState, batches: list[Batch], config: TrainConfig, world: World) -> dict[str, float]:
    deliveries = [Delivery(batch, 0, StreamState(0, ()), {}, {}) for batch in batches]
    stats = train_step(Run(config, recipe(config.recipe, 1), world=world), state, deliveries)
    return world.sum_by_name(stats.losses)


def moments(state: TrainState) -> dict[str, Tensor]:
    """What the optimisers remember by the number of the parameter: its gradients, times a number."""
    return {
        f"{k}.{i}.{name}": whole(tensor)
        for k, optimizer in enumerate(state.optimizers)
        for i, of_parameter in optimizer.state_dict()["state"].items()
        for name, tensor in of_parameter.items()
    }


def same_moments(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """The same parameters had a gradient, and the same one to rounding.

    Where a gradient is off by e times the largest, its square is off by up to 2 e times the largest square.
    """
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        power = 2 if "_sq" in name else 1
        atol = power * 1e-4 * float(tensor.abs().max()) + 1e-6**power
        torch.testing.assert_close(
            found[name], tensor, atol=atol, rtol=0.0, msg=lambda m, n=name: f"{n}: {m}"
        )


def one_rank(rank: int, size: int, folder: str) -> None:
    """What every process of the test does; an assertion that fails on one ends them all."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=size)
    world = World(rank, size)
    different = make_batches()
    ours = same_steps(CONFIG, [different, [different[1]] * 4, different], world)
    saved_and_read(ours, world, Path(folder))
    same_steps(LLAVA, [different], world)
    matrices_are_whole(world)
    dist.destroy_process_group()
    Path(folder, f"agrees_{rank}").touch()  # the test counts these


def same_steps(config: TrainConfig, steps: list[list[Batch]], world: World) -> TrainState:
    """Every rank also does each step alone; losses, gradients and, at the two ends, the weights agree."""
    split = replace(config, shard=True)
    alone, ours = make_state(config, World()), make_state(split, world)
    whole_weights = gathered(ours, world).model  # all take part
    if world.is_main:
        expected = alone.model.state_dict()
        assert all(torch.equal(expected[name], t) for name, t in whole_weights.state_dict().items())
    for batches in steps:
        losses = step(alone, batches, config, World())
        assert step(ours, batches[world.rank :: world.size], split, world) == pytest.approx(
            losses, rel=1e-4, abs=1e-7
        )
        same_moments(moments(ours), moments(alone))
    whole_weights = gathered(ours, world).model
    if world.is_main:
        with alone.for_reading():
            same_weights(whole_weights, alone.model)
    return ours


def same_weights(found: VLM, expected: VLM) -> None:
    """Both optimisers turn the rounding of a vanishing gradient into an update of full length: most agree."""
    weights = found.state_dict()
    for name, tensor in expected.state_dict().items():
        far = (weights[name] - tensor).abs() > 0.02 * tensor.abs().max()
        assert float(far.float().mean()) < 0.05, name


def saved_and_read(state: TrainState, world: World, folder: Path) -> None:
    """The optimisers' state by way of files: split again, or whole in a process that knows of no others."""
    content = {"optimizers": [optimizer.state_dict() for optimizer in state.optimizers]}
    before = moments(state)
    rest, ready = write_parts(folder, content, world)
    if world.is_main:
        write_folder(folder / "step", {}, ready=ready)
    world.wait()
    again = make_state(replace(CONFIG, shard=True), world)
    read = read_parts(folder / "step", rest, again.model)
    for optimizer, saved in zip(again.optimizers, read["optimizers"], strict=True):
        load_optimizer(optimizer, saved)
    same = moments(again)
    plain = read_parts(folder / "step", rest, nn.Linear(1, 1))["optimizers"]
    for name, tensor in before.items():
        k, i, key = name.split(".")
        assert torch.equal(same[name], tensor) and torch.equal(plain[int(k)]["state"][int(i)][key], tensor)
    # And whole tensors into a split optimiser, as from a run that was not split.
    another = make_state(replace(CONFIG, shard=True), world)
    for optimizer, saved in zip(another.optimizers, plain, strict=True):
        load_optimizer(optimizer, saved)
    assert all(torch.equal(tensor, before[name]) for name, tensor in moments(another).items())


def matrices_are_whole(world: World) -> None:
    """Fewer matrices than ranks, and rows that the ranks cannot share evenly."""
    model = make_state(replace(CONFIG, shard=True), world).model
    of = model.gpt.transformer.h[0].attn.c_q.weight
    generator = torch.Generator().manual_seed(3)
    stack = torch.randn((3, *of.shape), generator=generator)
    own = torch.stack([split_like(matrix, of).to_local() for matrix in stack])
    found = on_whole_matrices(orthogonalise, own, of)
    for matrix, part in zip(orthogonalise(stack).float(), found):
        torch.testing.assert_close(split_like(matrix, of).to_local(), part, atol=0.02, rtol=0.0)


@pytest.mark.parametrize("size", [2, 4])
def test_a_split_model_trains_as_a_whole_one(tmp_path, size, monkeypatch):
    """With text alone on one rank, nothing supervised on another, and more sizes of views on a third."""
    root = str(Path(__file__).parents[2])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]))
    torch.multiprocessing.spawn(one_rank, (size, str(tmp_path)), nprocs=size)
    assert len(list(tmp_path.glob("agrees_*"))) == size


def test_a_lone_process_cannot_split():
    with pytest.raises(UsageError, match="--shard needs several processes"):
        check_shard(World())
    with pytest.raises(UsageError, match="--compile does not work with --shard"):
        TrainConfig(shard=True, compile=True)


def test_a_damaged_part_is_named(tmp_path):
    part = tmp_path / "shard-00001"
    part.write_bytes(b"rows")
    write_folder(tmp_path / "step", {"config.json": b"{}"}, ready=[part])
    assert not part.exists() and set(read_folder(tmp_path / "step", skip=("shard-*",))) == {"config.json"}
    check_files(tmp_path / "step", "shard-*")
    (tmp_path / "step" / "shard-00001").write_bytes(b"rowz")
    with pytest.raises(CheckpointError, match="shard-00001: damaged"):
        check_files(tmp_path / "step", "shard-*")
