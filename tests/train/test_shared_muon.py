"""Muon over gloo processes that hold the whole model: each works on its share, and all get all."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing
from torch import Tensor, nn

from nanoocr.train.distributed import World
from nanoocr.train.optim import Muon, share_out

SHAPES = [(24, 8), (24, 8), (24, 8), (8, 32), (8, 4, 3, 3), (16, 16), (5, 7)]


def matrices() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(5)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]


def muon(parameters: list[nn.Parameter], world: World | None = None) -> Muon:
    groups = [{"params": parameters[:4], "lr": 0.02}, {"params": parameters[4:], "lr": 0.05}]
    return Muon([{**group, "weight_decay": 0.1} for group in groups], world=world)


def one_rank(rank: int, size: int, folder: str) -> None:
    """Three steps of both ways from the same weights and gradients; the second lacks a gradient."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=size)
    world, ours, theirs = World(rank, size), matrices(), matrices()
    shared, alone = muon(ours, world), muon(theirs)
    computed: list[int] = []
    whole = shared.orthogonalise

    def counting(stack: Tensor) -> Tensor:
        computed.append(len(stack))
        return whole(stack)

    shared.orthogonalise = counting  # type: ignore[assignment]
    generator = torch.Generator().manual_seed(9)
    for step in range(3):
        for number, (one, other) in enumerate(zip(ours, theirs)):
            grad = torch.randn(one.shape, generator=generator)
            one.grad, other.grad = (None, None) if step == 1 == number else (grad.clone(), grad.clone())
        shared.step()
        alone.step()
        for one, other in zip(ours, theirs):
            # Products of another batch size may round otherwise in bf16.
            torch.testing.assert_close(one, other, atol=1e-3, rtol=0.0)
    assert sum(world.gather(sum(computed))) == 3 * len(SHAPES) - 1  # nothing twice
    for tensors in world.gather([one.detach() for one in ours]):  # not one bit differs between ranks
        assert all(torch.equal(one, other) for one, other in zip(ours, tensors))
    dist.destroy_process_group()
    Path(folder, f"agrees_{rank}").touch()  # the test counts these


def test_ranks_share_the_matrices_and_agree(tmp_path):
    torch.multiprocessing.spawn(one_rank, (2, str(tmp_path)), nprocs=2)
    assert len(list(tmp_path.glob("agrees_*"))) == 2


def test_one_matrix_for_two_ranks(tmp_path):
    """A rank may have nothing to do."""
    torch.multiprocessing.spawn(lone_matrix, (2, str(tmp_path)), nprocs=2)
    assert len(list(tmp_path.glob("agrees_*"))) == 2


def lone_matrix(rank: int, size: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=size)
    one, other = matrices()[0], matrices()[0]
    one.grad = torch.randn(one.shape, generator=torch.Generator().manual_seed(1))
    other.grad = one.grad.clone()
    Muon([{"params": [one]}], world=World(rank, size)).step()
    Muon([{"params": [other]}]).step()
    assert torch.equal(one, other)
    dist.destroy_process_group()
    Path(folder, f"agrees_{rank}").touch()  # the test counts these


def test_the_dearest_matrices_are_shared_out_first():
    owners = share_out([(10, 10), (100, 100), (100, 100), (10, 10), (10, 10)], 2)
    assert owners[1] != owners[2]
    assert {owners[0], owners[3], owners[4]} == {0, 1}
    assert share_out([(4, 4)] * 3, 1) == [0, 0, 0]
