"""Estimates the memory of a training step before it runs: weights, gradients, optimiser, activations.

python -m scripts.memory_plan --preset=d20 --stage=2 --recipe=deepseek --seq_len=8192 --pictures=6

The activations are not given by a formula. The model's own code runs on the meta device, where tensors have
shapes but no memory, and everything that autograd keeps for the backward pass is counted, tensor by tensor.
For GPUs, attention counts as torch's fused kernel, which keeps its inputs, its output and one number per
query. `--check` runs the same step for real on the CPU (use small sizes), adds up the allocations of torch's
allocator, and prints the error of the estimate. The process itself holds more, which its C library does not
return. The last line on stdout is the same as JSON.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from rich.table import Table
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from nanoocr.commandline import parse, run
from nanoocr.config import PATCH, SLOTS, ModelConfig, preset
from nanoocr.errors import UsageError
from nanoocr.eval.console import result_console
from nanoocr.image_process import count_vision_tokens
from nanoocr.machine import machine
from nanoocr.model.components import freeze
from nanoocr.model.deepencoder import VisionFeatures
from nanoocr.model.glyph_heads import CLASSES
from nanoocr.model.layers import plain_attention
from nanoocr.model.vlm import IGNORE, LOGITS_AT_ONCE, VLM
from nanoocr.train.distributed import BUCKET
from nanoocr.train.glyph import GlyphLosses
from nanoocr.train.optim import is_hidden_matrix
from nanoocr.train.recipes import Recipe, make_optimizers
from nanoocr.train.recipes import recipe as find_recipe
from nanoocr.train.step import sums_of_heads

GPUS = (24, 40, 80, 141)  # GB; HEADROOM of it must stay free
HEADROOM = 0.08  # for fragments of the allocator, workspaces of kernels, and the CUDA context


@dataclass(frozen=True)
class PlanConfig:
    """Says how much memory a training step needs."""

    preset: str = "d20"  # sizes of the model: nano, small or d20
    stage: Literal[1, 2] = 2  # with --recipe this decides which components train
    recipe: str = "deepseek"  # deepseek, llava or scratch
    seq_len: int = 8192  # positions of a sequence
    sequences: int = 1  # sequences per forward pass (--micro_batch)
    pictures: int = 6  # pictures in a sequence
    view: int = 1024  # side of a picture's square view; 0 means the preset's first view
    supervised: float = 0.75  # share of the text's positions that are supervised
    dtype: Literal["bfloat16", "float32"] = "bfloat16"  # compute dtype
    recompute: bool = False  # run blocks again in the backward pass, as in training
    average: bool = False  # keep a moving average of the weights
    moments: Literal["float32", "bfloat16"] = "float32"  # dtype of the optimisers' moments
    ranks: int = 1  # processes; several exchange their gradients in buckets
    attention: Literal["fused", "plain"] = "fused"  # fused on GPUs, plain on CPUs
    check: bool = False  # run the step on the CPU and compare (attention is plain then)

    def __post_init__(self) -> None:
        """Refuse sizes that are not positive."""
        if (
            min(self.seq_len, self.sequences, self.ranks) < 1
            or self.pictures < 0
            or not 0 < self.supervised <= 1
        ):
            raise UsageError(
                "--seq_len, --sequences and --ranks are at least 1, --pictures 0, --supervised in (0, 1]"
            )

    @property
    def compute_dtype(self) -> torch.dtype:
        """The compute dtype as a torch dtype."""
        return torch.bfloat16 if self.dtype == "bfloat16" else torch.float32

    @property
    def moments_dtype(self) -> torch.dtype:
        """The moments' dtype as a torch dtype."""
        return torch.bfloat16 if self.moments == "bfloat16" else torch.float32


# ---------------------------------------------------------------------------------------------------------
# Counting what autograd keeps


class Kept:
    """Bytes of all storages saved for the backward pass, without parameters and repeats."""

    def __init__(self, model: nn.Module) -> None:
        self.held: dict[int, torch.UntypedStorage] = {}  # kept alive, so that no address is used twice
        self.parameters = {key(parameter) for parameter in model.parameters()}
        self.total = 0
        self.blocks: list[tuple[int, int]] = []  # (bytes of its input, bytes kept inside) for every block
        self._open: list[tuple[int, int]] = []

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count what is saved during the `with` block."""
        with torch.autograd.graph.saved_tensors_hooks(self._note, lambda tensor: tensor):
            yield

    def watch(self, block: nn.Module) -> None:
        """Count the inside of `block` separately."""
        block.register_forward_pre_hook(self._enter)
        block.register_forward_hook(self._leave)

    def _note(self, tensor: Tensor) -> Tensor:
        if (name := key(tensor)) not in self.held and name not in self.parameters:
            self.held[name] = tensor.untyped_storage()
            self.total += tensor.untyped_storage().nbytes()
        return tensor

    def _enter(self, block: nn.Module, args: tuple[Any, ...]) -> None:
        self._open.append((args[0].numel() * args[0].element_size(), self.total))

    def _leave(self, block: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        size, before = self._open.pop()
        self.blocks.append((size, self.total - before))


def key(tensor: Tensor) -> int:
    """A key that tells storages apart, even those without memory."""
    return tensor.untyped_storage()._cdata


class MetaAttention(TorchFunctionMode):
    """Attention on the meta device. It keeps what torch's fused kernel keeps, or what plain products keep."""

    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.fused = fused

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if func is F.scaled_dot_product_attention:
            bias = kwargs["attn_mask"]
            if self.fused:
                return _Fused.apply(*args[:3], bias)  # type: ignore[no-untyped-call]
            q, k, v = args
            return plain_attention(q, k, v, bias, kwargs["is_causal"], kwargs["scale"])
        return func(*args, **(kwargs or {}))


class _Fused(torch.autograd.Function):
    """Saves what torch's fused kernel saves for its backward pass, and computes nothing."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
        """An output of the right size, and the tensors that wait for the backward pass."""
        out = torch.empty_like(q)
        ctx.save_for_backward(q, k, v, out, q.new_empty(q.shape[:-1], dtype=torch.float32), bias)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        """Never called."""
        raise NotImplementedError("the plan only runs forward")


# ---------------------------------------------------------------------------------------------------------
# The plan


def plan_memory(config: PlanConfig) -> dict[str, float]:
    """GB by purpose, for one process that holds the whole model."""
    sizes, recipe = preset(config.preset), find_recipe(config.recipe, config.stage)
    rows = supervised_rows(config, sizes)
    with torch.device("meta"):
        model = VLM(sizes, compute_dtype=config.compute_dtype)
        heads = GlyphLosses(sizes) if recipe.glyph_weight else None
    freeze(model, recipe.trained)
    kept = Kept(model)
    for block in model.blocks():
        kept.watch(block)
    with MetaAttention(config.attention == "fused"), kept.counting():
        forward(model, config, "meta")
    of_model = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    trained = of_model + ([] if heads is None else list(heads.named_parameters()))
    count = sum(p.numel() for _, p in trained)
    inside = sum(within for _, within in kept.blocks)
    activations = kept.total
    if config.recompute:
        activations += sum(size for size, _ in kept.blocks) - inside
        activations += max((within for _, within in kept.blocks), default=0)
    logits = min(LOGITS_AT_ONCE, rows * sizes.gpt.vocab_size)
    parts = {
        "weights": 4 * sum(p.numel() for p in model.parameters()),
        "glyph heads": 0 if heads is None else 4 * sum(p.numel() for p in heads.parameters()),
        "gradients": 4 * count,
        "gradients on their way": largest_bucket(trained) if config.ranks > 1 else 0,
        "optimiser": sum(optimizer_bytes(name, p, recipe, config.moments_dtype) for name, p in trained),
        "moving average": 4 * sum(p.numel() for _, p in of_model) if config.average else 0,
        "activations": activations,
        # capped logits, uncapped logits, and the gradient of either
        "logits and their gradient": 3 * 4 * logits,
        "glyph logits": 0 if heads is None else glyph_logits(config, sizes, recipe),
    }
    return {name: size / 1e9 for name, size in parts.items()}


def forward(model: VLM, config: PlanConfig, device: str) -> tuple[Tensor, VisionFeatures | None]:
    """One forward pass as in training; returns the hidden states and the encoder's features."""
    sizes, dtype = model.config, config.compute_dtype
    pictures = config.sequences * config.pictures
    x_BTC = model.gpt.embed(torch.zeros(config.sequences, config.seq_len, dtype=torch.long, device=device))
    x_BTC, features = x_BTC.to(dtype), None
    if pictures:
        height, width = view_of(config, sizes)
        features = model.encoder(torch.zeros(pictures, 3, height, width, dtype=dtype, device=device))
        tokens, flat = features.tokens.flatten(0, 1), x_BTC.flatten(0, 1)
        x_BTC = torch.cat([tokens, flat[len(tokens) :]]).view_as(x_BTC)
    return model.gpt(x_BTC), features


def view_of(config: PlanConfig, sizes: ModelConfig) -> tuple[int, int]:
    """(height, width) of a picture."""
    return (config.view, config.view) if config.view else sizes.views[0]


def supervised_rows(config: PlanConfig, sizes: ModelConfig) -> int:
    """Positions with a target.

    Raises:
        UsageError: the pictures alone are longer than a sequence.
    """
    vision = config.pictures * count_vision_tokens(view_of(config, sizes))
    if vision >= config.seq_len:
        raise UsageError(
            f"{config.pictures} pictures have {vision} tokens, a line {config.seq_len}: give fewer --pictures"
        )
    return max(1, int(config.sequences * (config.seq_len - vision) * config.supervised))


def optimizer_bytes(name: str, parameter: Tensor, recipe: Recipe, moments: torch.dtype) -> int:
    """Bytes of state of one trained parameter: Muon keeps one moment, AdamW two."""
    muon = recipe.optimizer == "muon" and is_hidden_matrix(name, parameter)
    return parameter.numel() * moments.itemsize * (1 if muon else 2)


def largest_bucket(trained: list[tuple[str, nn.Parameter]]) -> int:
    """Bytes of the copy in which ranks add up gradients; a large matrix travels whole.

    The activations are gone by then, so counting both gives an upper bound.
    """
    largest = size = 0
    for _, parameter in trained:
        size += parameter.numel()
        largest = max(largest, size)
        size = 0 if size >= BUCKET else size
    return 4 * largest


def glyph_logits(config: PlanConfig, sizes: ModelConfig, recipe: Recipe) -> int:
    """Bytes of the glyph heads' logits, their log-softmax and its gradient; two heads while SAM trains."""
    height, width = view_of(config, sizes)
    patches = config.sequences * config.pictures * (height // PATCH) * (width // PATCH)
    return 3 * 4 * patches * SLOTS * CLASSES * (2 if "sam" in recipe.trained else 1)


# ---------------------------------------------------------------------------------------------------------
# The real step


def check_on_cpu(config: PlanConfig) -> float:
    """GB of tensors at the peak of a real step on the CPU, including the model."""
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profiler:
        two_steps(config)
    return peak_allocated(profiler) / 1e9


def two_steps(config: PlanConfig) -> None:
    """Take two training steps: the second has the optimisers' state besides its activations."""
    recipe = find_recipe(config.recipe, config.stage)
    model = VLM(preset(config.preset), compute_dtype=config.compute_dtype)
    model.init_weights(0)
    freeze(model, recipe.trained)
    heads = GlyphLosses(model.config) if recipe.glyph_weight else None
    optimizers = make_optimizers(model, heads, recipe, 0.0, config.moments_dtype)
    for _ in range(2):
        hidden, features = forward(model, config, "cpu")
        rows = supervised_rows(config, model.config)
        targets = torch.full((config.sequences * config.seq_len,), IGNORE)
        targets[-rows:] = 1
        loss = model.loss(hidden, targets.view(config.sequences, -1)).total / rows
        if heads is not None and features is not None:
            height, width = view_of(config, model.config)
            shape = (len(features.tokens), height // PATCH, width // PATCH, SLOTS)
            said = sums_of_heads(heads, features, torch.zeros(shape, dtype=torch.uint8), recipe)
            loss = loss + sum(sums.loss for sums in said.values())
        loss.backward()
        del hidden, features, loss
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)


def peak_allocated(profiler: torch.profiler.profile) -> int:
    """The most bytes that torch's CPU allocator had handed out since the profiler began."""
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text())["traceEvents"]
    moves = sorted((event for event in events if event["name"] == "[memory]"), key=itemgetter("ts"))
    return max(accumulate((event["args"]["Bytes"] for event in moves), initial=0))


def main(argv: list[str] | None = None) -> None:
    """Print the plan, the GPUs that it fits, and with --check the error of the estimate."""
    config = parse(PlanConfig, argv)
    if config.check and config.attention == "fused":
        raise UsageError("--check runs on the CPU, where attention is plain: give --attention=plain")
    if config.check and config.recompute:
        raise UsageError("--check compares the step without --recompute")
    parts = plan_memory(config)
    total = sum(parts.values())
    console, table = result_console(), Table("What", title=f"One training step of {config.preset}")
    table.add_column("GB", justify="right")
    for name, size in {**parts, "all": total}.items():
        table.add_row(name, f"{size:.2f}")
    console.print(table)
    fits = {gpu: total <= gpu * (1 - HEADROOM) for gpu in GPUS}
    words = ", ".join(f"{gpu} GB {'fits' if fit else 'too small'}" for gpu, fit in fits.items())
    console.print(f"With {HEADROOM:.0%} kept free: {words}")
    result: dict[str, Any] = {**machine(), "parts_gb": parts, "total_gb": total}
    if config.check:
        found = check_on_cpu(config)
        result |= {"measured_gb": found, "error": total / found - 1}
        console.print(f"measured: {found:.2f} GB, the estimate is {total / found - 1:+.1%}")
    print(json.dumps(result))


if __name__ == "__main__":
    sys.exit(run(main))
