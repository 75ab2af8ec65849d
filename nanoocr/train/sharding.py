"""Splits one model over all ranks (`--shard`): each holds a part of parameters, gradients and optimisers.

torch's FSDP2 gathers the parameters of a block when the block runs, and scatters the summed gradients after
its backward pass. Between steps every rank holds some rows of each parameter, as a DTensor. This has two
consequences. First, all ranks must run the same blocks in the same order. So a rank without a picture, or
without a supervised token, runs them too, for a loss of zero (`same_calls`, `loss_of_nothing`). Second,
everything that needs whole matrices must gather them: Muon's direction, validation, the model file.

torch.distributed.checkpoint writes the optimisers' state as safetensors, one file per rank and without
pickles. Any number of ranks can read it back, split or not. The glyph heads are small, so every rank holds
them whole, and World adds up their gradients.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
import torch.distributed.tensor as dtensor
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, Shard

from nanoocr.config import CELL, PATCH, SLOTS
from nanoocr.data.batch import Batch, Views
from nanoocr.data.glyphs import UNKNOWN
from nanoocr.errors import CheckpointError, OutputError, UsageError
from nanoocr.files import check_files
from nanoocr.model.folder import SHARDS
from nanoocr.model.vlm import VLM
from nanoocr.train.distributed import World

T = TypeVar("T")

# ---------------------------------------------------------------------------------------------------------
# The model


def check_shard(world: World) -> None:
    """Refuse `--shard` where it cannot work.

    Raises:
        UsageError: there is only one process, or FSDP does not know the device.
    """
    if world.size == 1:
        raise UsageError("--shard needs several processes: start with torchrun, or leave it out")
    if world.device == "mps":
        raise UsageError("--shard works on --device=cuda and --device=cpu: leave it out")


def shard(model: VLM, world: World) -> None:
    """Split every parameter over the ranks, block by block. Parameters outside the blocks form one more part.

    The model may still lie in host memory. Each block is moved to the device as it is split, so a GPU never
    holds more than one whole block besides the parts.
    """
    mesh = init_device_mesh("cpu" if world.device == "cpu" else "cuda", (world.size,))
    # Split the blocks first; what they take no longer belongs to the model's own part.
    for module in [*model.blocks(), model]:
        part: FSDPModule = fully_shard(module, mesh=mesh)
        # Losses are already divided by the count over all ranks. So gradients are added up, never averaged.
        part.set_gradient_divide_factor(1.0)
        part.set_force_sum_reduction_for_comms(True)
    # See `as_one_forward`. FSDP can only register a method, so the model gets one here.
    model.call = lambda compute: compute()  # type: ignore[assignment]
    register_fsdp_forward_method(model, "call")


def is_sharded(model: nn.Module) -> bool:
    """Whether `shard` has split the model."""
    return isinstance(model, FSDPModule)


def is_split(tensor: Tensor) -> bool:
    """Whether this rank holds only a part of the tensor."""
    return isinstance(tensor, DTensor)


@torch.no_grad()
def own_part(tensor: Tensor) -> Tensor:
    """This rank's rows of a split tensor, sharing its memory. Any other tensor is returned as it is."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def split_like(tensor: Tensor, model: Tensor) -> Tensor:
    """Split a whole tensor that every rank has, in the way that `model` is split, unless it is so already."""
    if not isinstance(model, DTensor) or isinstance(tensor, DTensor) or tensor.shape != model.shape:
        return tensor
    mesh = model.device_mesh
    return dtensor.distribute_tensor(tensor.to(mesh.device_type), mesh, model.placements, src_data_rank=None)


# ---------------------------------------------------------------------------------------------------------
# A step


def same_calls(batches: Sequence[Batch], world: World) -> list[Batch]:
    """Pad the batches of this rank to the largest number of view groups that any rank has in this step.

    FSDP waits for every rank at every block, so a rank with fewer groups would stop the others for ever. The
    padding is dummy views of one blank cell, which belong to no picture. The encoder runs on them, and its
    output is multiplied by zero.
    """
    most = max(world.gather(max(len(batch.views) for batch in batches)))
    # The smallest picture that the encoder accepts is the cheapest.
    pixels = torch.zeros((1, CELL, CELL, 3), dtype=torch.uint8)
    glyphs = torch.full((1, CELL // PATCH, CELL // PATCH, SLOTS), UNKNOWN, dtype=torch.uint8)
    blank = Views((), pixels, glyphs)
    return [batch._replace(views=(*batch.views, *[blank] * (most - len(batch.views)))) for batch in batches]


def loss_of_nothing(model: VLM, hidden: Tensor) -> Tensor:
    """Zero, computed through the output matrix, for a batch without a supervised token."""
    return 0.0 * model.gpt.logits(hidden[:1, :1]).sum()


def as_one_forward(model: nn.Module, compute: Callable[[], T]) -> T:
    """Run `compute`, which uses the model part by part, as one forward pass for FSDP.

    FSDP gathers the parameters outside the blocks, such as embeddings and norms, only during a forward pass
    of the whole model. A training step never makes one: it encodes, names glyphs and decodes, one after the
    other. Where the model is not split there is nothing to gather, and `compute` is simply called.
    """
    if not isinstance(model, FSDPModule):
        return compute()
    return model.call(compute)  # type: ignore[operator]


def exchange_gradients(model: nn.Module, *, now: bool) -> None:
    """Choose whether the next backward pass adds gradients up over the ranks, or keeps them for a later one.

    Kept gradients are whole. So several micro-batches per step cost memory for all of them, and save traffic.
    """
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(now)


def on_whole_matrices(function: Callable[[Tensor], Tensor], own: Tensor, of: Tensor) -> Tensor:
    """Apply `function` to n whole matrices (n, rows, columns); this rank holds the rows `own` of each.

    `of` is one of their parameters; it tells whether and how they are split. Ranks exchange rows for whole
    matrices, so that each works on its share of the n, and exchange the results back.
    """
    if not isinstance(of, DTensor):
        return function(own)
    shape = torch.Size((len(own), of.size(0), own.size(2)))
    strides = (shape[1] * shape[2], shape[2], 1)

    def spread(part: Tensor, dim: int) -> DTensor:
        """This rank's part, split along `dim`, as a tensor of the whole shape."""
        mesh = of.device_mesh
        return DTensor.from_local(part, mesh, [Shard(dim)], run_check=False, shape=shape, stride=strides)

    # Before, matrices are split by rows; within, by whole matrices. No rank ever holds everything.
    whole = spread(own, 1).redistribute(placements=[Shard(0)]).to_local()
    return spread(function(whole).to(own.dtype), 0).redistribute(placements=[Shard(1)]).to_local()


# ---------------------------------------------------------------------------------------------------------
# Files


def write_parts(run: Path, content: Any, world: World) -> tuple[Any, list[Path]]:
    """Write the split tensors of a training state; every rank writes its own parts.

    Returns the state with meta tensors (which keep shape and dtype) in their places, and the files, which
    shall become part of the step's folder. All nodes must see the folder.

    Raises:
        OutputError: a rank could not write, or wrote to a place that rank 0 does not see.
    """
    # Imported here, because the import takes a moment and few runs need it.
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.api import CheckpointException

    # The folder has a name that does not count, until the step's folder takes the files.
    folder = run / ".shards.writing"
    if world.is_main:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    world.wait()
    parts: dict[str, Tensor] = {}

    def take(path: str, tensor: Tensor) -> Tensor:
        """Put a split tensor aside, and leave an empty one of its shape in its place."""
        if not is_split(tensor):
            return tensor
        parts[path] = tensor
        return torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")

    rest = replaced(content, take)
    try:
        writer = dcp.HuggingFaceStorageWriter(str(folder), save_distributed=True)
        dcp.save(parts, storage_writer=writer)
    except CheckpointException as error:
        raise OutputError(f"{folder}: a rank could not write its part ({first_of(error)})") from error
    files = sorted(folder.glob(SHARDS))
    if world.is_main and parts and len(files) < world.size:
        raise OutputError(
            f"{folder}: holds {len(files)} of {world.size} parts: give an --out that all nodes see"
        )
    return rest, files


def read_parts(folder: Path, content: Any, model: nn.Module) -> Any:
    """Put the tensors back that `write_parts` took out; they are split over the ranks if `model` is split.

    Raises:
        CheckpointError: a file is missing or damaged, or lacks a part.
    """
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.api import CheckpointException

    mesh = next(model.parameters()).device_mesh if is_sharded(model) else None  # type: ignore[attr-defined]
    wanted: dict[str, Tensor] = {}

    def make_room(path: str, tensor: Tensor) -> Tensor:
        """Memory of the shape and dtype of a tensor that was put aside; split where there is a mesh."""
        if not tensor.is_meta:
            return tensor
        if mesh is None:
            wanted[path] = torch.empty(tensor.shape, dtype=tensor.dtype)
        else:
            wanted[path] = dtensor.empty(
                *tensor.shape, dtype=tensor.dtype, device_mesh=mesh, placements=[Shard(0)]
            )
        return wanted[path]

    content = replaced(content, make_room)
    if wanted:
        check_files(folder, SHARDS)
        try:
            reader = dcp.HuggingFaceStorageReader(str(folder))
            with warnings.catch_warnings():  # torch warns a single process that it is alone
                warnings.filterwarnings("ignore", message="torch.distributed is disabled")
                dcp.load(wanted, storage_reader=reader, no_dist=not dist.is_initialized())
        except CheckpointException as error:
            raise CheckpointError(
                f"{folder}: the split training state is not whole ({first_of(error)})"
            ) from error
    return content


def replaced(tree: Any, change: Callable[[str, Tensor], Tensor], path: str = "") -> Any:
    """Copy nested dicts and lists with every tensor changed; `change` also gets its path (`average.raw`)."""
    if isinstance(tree, Tensor):
        return change(path[1:], tree)
    if isinstance(tree, dict):
        return {key: replaced(value, change, f"{path}.{key}") for key, value in tree.items()}
    if isinstance(tree, list):
        return [replaced(value, change, f"{path}.{i}") for i, value in enumerate(tree)]
    return tree


def first_of(error: Any) -> str:
    """The message of the first failed rank in a CheckpointException, in one line."""
    failures = [str(failure[0]) for failure in error.failures.values()]
    return failures[0].splitlines()[0] if failures and failures[0] else "no reason given"
