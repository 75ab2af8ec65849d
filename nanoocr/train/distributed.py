"""Several processes train one model: their ranks, and the few sums that they exchange.

torchrun starts one process per GPU (or several on CPUs), and tells each its rank in the environment. Every
rank holds the whole model (or a part of it: nanoocr/train/sharding.py) and has its own micro-batches.
Gradients are summed once per step, after the last micro-batch, so accumulation costs no extra exchange. A
rank whose step held no picture, or no text, adds nothing to the sum. So no unused parameter has to be
searched for, and no parameter has to be used only for the sake of the exchange.
"""

from __future__ import annotations

import datetime
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from nanoocr.commandline import ending
from nanoocr.errors import UsageError

PATIENCE = datetime.timedelta(days=30)  # Ranks wait this long for one that validates or writes.
BUCKET = 2**25  # gradient elements per exchange: 128 MB


@dataclass(frozen=True)
class World:
    """This process among all processes of the run."""

    rank: int = 0
    size: int = 1
    device: str = "cpu"
    patient: Any = None  # a second group of all ranks, which waits (nearly) without limit

    @property
    def is_main(self) -> bool:
        """Whether this rank writes: logs, checkpoints, validation."""
        return self.rank == 0

    def sum(self, values: Sequence[float]) -> list[float]:
        """Add up every rank's numbers. All ranks get the sums."""
        if self.size == 1:
            return list(values)
        # Counts of operations exceed the 24 bits of fp32, so a CPU adds them in fp64. A GPU adds in fp32: an
        # error of a millionth does no harm to these numbers.
        tensor = torch.tensor(values, dtype=torch.float64 if self.device == "cpu" else torch.float32)
        tensor = tensor.to(self.device)
        dist.all_reduce(tensor)
        return tensor.tolist()

    def sum_by_name(self, values: Mapping[str, Tensor | float]) -> dict[str, float]:
        """Add up named numbers. A rank may lack some of the names."""
        # A rank without a picture has no glyph loss: all ranks must still sum the same names in the same
        # order.
        names = sorted({name for of_rank in self.gather(list(values)) for name in of_rank})
        return dict(zip(names, self.sum([float(values.get(name, 0.0)) for name in names])))

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Add up the gradients of all ranks. A gradient that no rank has stays None, as in one process."""
        if self.size == 1:
            return
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        # Every rank must exchange the same tensors, so the ranks first agree on which gradients exist
        # anywhere.
        has = self.sum([float(parameter.grad is not None) for parameter in trained])
        bucket: list[nn.Parameter] = []
        for parameter, count in zip(trained, has):
            if not count:
                continue
            if parameter.grad is None:
                # Another rank has a gradient for it: this one contributes zero to the sum.
                parameter.grad = torch.zeros_like(parameter)
            bucket.append(parameter)
            # Few large exchanges cost less than many small ones; the limit bounds the copy that they need.
            if sum(p.numel() for p in bucket) >= BUCKET:
                add_up([p.grad for p in bucket if p.grad is not None])
                bucket = []
        if bucket:
            add_up([p.grad for p in bucket if p.grad is not None])

    def same_weights(self, modules: Iterable[nn.Module]) -> None:
        """Copy the weights of rank 0 to every rank."""
        if self.size > 1:
            for module in modules:
                for tensor in module.state_dict().values():
                    here = tensor.to(self.device)  # the model may still lie in host memory
                    dist.broadcast(here, src=0)
                    tensor.copy_(here)

    def gather(self, value: Any) -> list[Any]:
        """Collect every rank's small object, in the order of the ranks."""
        if self.size == 1:
            return [value]
        # torch fills a list of the right length in place.
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def exchange(self, own: Tensor, lengths: Sequence[int]) -> list[Tensor]:
        """Collect every rank's 1-d tensor, in the order of the ranks; one dtype, of these lengths."""
        width = own.element_size()
        # As bytes, because gloo does not know every dtype; padded, because it wants equal lengths.
        here = torch.zeros(width * max(lengths), dtype=torch.uint8, device=own.device)
        here[: width * len(own)] = own.view(torch.uint8)
        found = [torch.empty_like(here) for _ in lengths]
        dist.all_gather(found, here)
        return [part[: width * n].view(own.dtype) for part, n in zip(found, lengths, strict=True)]

    def wait(self) -> None:
        """Wait until all ranks are here, however long one validates or writes; a death ends the wait."""
        if self.size > 1:
            dist.barrier(group=self.patient)


def add_up(gradients: Sequence[Tensor]) -> None:
    """Replace each gradient by its sum over the ranks, in one exchange."""
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    for gradient, total in zip(gradients, flat.split([gradient.numel() for gradient in gradients])):
        gradient.copy_(total.view_as(gradient))


def join_world(device: str, timeout_s: int) -> World:
    """Join the processes that torchrun started. A process started alone becomes a world of one.

    `device` is `cpu`, `cuda` (each process takes the GPU of its local rank) or `mps`. If one rank never joins
    an exchange, the others end after `timeout_s` seconds. Only `World.wait` has no such limit.

    Raises:
        UsageError: there are more processes than GPUs.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return World(device=device)
    # RANK counts over all machines, LOCAL_RANK on this one: the second one chooses the GPU.
    rank, local = int(os.environ["RANK"]), int(os.environ["LOCAL_RANK"])
    if device == "cuda":
        if local >= torch.cuda.device_count():
            gpus = torch.cuda.device_count()
            raise UsageError(f"process {local} of this node finds {gpus} GPUs: lower --nproc_per_node")
        torch.cuda.set_device(local)
        device = f"cuda:{local}"
    # NCCL moves tensors between GPUs, gloo between processes on CPUs.
    backend = "nccl" if device.startswith("cuda") else "gloo"
    dist.init_process_group(backend, timeout=datetime.timedelta(seconds=timeout_s))
    return World(rank, size, device, dist.new_group(backend="gloo", timeout=PATIENCE))


@contextmanager
def member(device: str, timeout_s: int) -> Iterator[World]:
    """Join the world for the `with` block, and leave it afterwards.

    If this process is one of several and fails, it says why and ends at once, so that the others notice.
    Python would first shut down the broken exchange, which waits for ranks that never come, or aborts with an
    exit code of its own.
    """
    world = join_world(device, timeout_s)
    try:
        yield world
    except BaseException as error:
        known = ending(error)
        if world.size == 1 or known is None:
            raise
        print(known[1], file=sys.stderr, flush=True)
        sys.stdout.flush()
        # No clean-up: it would wait for ranks that are waiting for this one.
        os._exit(known[0])
    if world.size > 1:
        dist.destroy_process_group()
