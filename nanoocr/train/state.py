"""Everything that changes during training: built from a model and a recipe, gathered where it is split."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from nanoocr.data.loader import StreamState
from nanoocr.model.components import freeze
from nanoocr.model.deepencoder import VisionFeatures
from nanoocr.model.vlm import VLM
from nanoocr.train.average import WeightAverage
from nanoocr.train.distributed import World
from nanoocr.train.glyph import GlyphLosses
from nanoocr.train.recipes import make_optimizers
from nanoocr.train.run import Run
from nanoocr.train.sharding import is_sharded, shard


@dataclass
class TrainState:
    """Everything that changes during training, which is what a checkpoint has to hold."""

    model: VLM
    heads: GlyphLosses | None
    optimizers: list[torch.optim.Optimizer]
    # The model's encoder and GPT, or compiled versions with the same weights, for the training step only.
    encode: Callable[[Tensor], VisionFeatures]
    decode: Callable[..., Tensor]
    average: WeightAverage | None  # the average of the weights, with --average
    glyph_steps: int = 0  # this many steps at the start leave the language model out
    step: int = 0
    ema: dict[str, Tensor] = field(default_factory=dict)  # moving averages of this rank's share of each loss
    broken: Tensor | None = None  # a flag on the device: some loss or gradient was not finite
    # where each of this rank's row streams stands
    streams: dict[int, StreamState] = field(default_factory=dict)

    def for_reading(self) -> AbstractContextManager[None]:
        """Put the averaged weights, if there are any, into the model for the `with` block."""
        return nullcontext() if self.average is None else self.average.in_model()


def build_state(run: Run, model: VLM) -> TrainState:
    """Build the state before the first step: freeze parts as the recipe says, and make heads and optimisers.

    Afterwards all ranks hold the weights of rank 0: the whole model, or with `--shard` a part each. Glyph
    heads exist only where the recipe gives the glyph loss a weight.
    """
    config, recipe, world = run.config, run.recipe, run.world
    # Freeze first: optimisers, the average and FSDP take only parameters that still want a gradient.
    freeze(model, recipe.trained)
    if config.recompute:
        recompute_blocks(model)
    # Copy before the model is split: afterwards no rank has a whole weight to send.
    world.same_weights([model])
    if config.shard:
        shard(model, world)
    heads = None
    if recipe.glyph_weight > 0:
        # The fork keeps the generator's state, so a run with heads draws the same numbers as one without.
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            heads = GlyphLosses(model.config).to(model.device)
        world.same_weights([heads])
    encode, decode = model.encoder.__call__, model.gpt.__call__
    if config.compile:  # The text has another length in every batch, while views have few sizes.
        decode = torch.compile(decode, dynamic=True)
        if model.device.type != "cpu":  # on a CPU the encoder gains nothing from it (docs/log.md)
            encode = torch.compile(encode)
    moments = torch.bfloat16 if config.moments == "bfloat16" else torch.float32
    optimizers = make_optimizers(
        model, heads, recipe, config.weight_decay, moments, config.polar_steps, world
    )
    average = WeightAverage(model, config.average) if config.average else None
    # Counted here once: a resumed run keeps the number, even if --steps has changed since.
    glyph_steps = round(config.glyph_only * config.steps)
    return TrainState(model, heads, optimizers, encode, decode, average, glyph_steps)


def recompute_blocks(model: VLM) -> None:
    """Let each block keep only its input while gradients are taken, and run again in the backward pass."""
    for block in model.blocks():
        # Blocks draw no random numbers, so no generator's state needs to be kept.
        again = partial(checkpoint, block.forward, use_reentrant=False, preserve_rng_state=False)
        block.forward = again


def gathered(state: TrainState, world: World, device: str = "cpu") -> TrainState:
    """The state with a plain model on `device`, to measure or to save. All ranks call, rank 0 gets it.

    The model holds the averaged weights, if there is an average. A model that is not split is returned as it
    is.
    """
    if not is_sharded(state.model):
        return state
    weights = {}
    with state.for_reading(), torch.no_grad():
        for name, tensor in state.model.state_dict().items():
            whole = tensor.full_tensor()
            if world.is_main:
                # Only rank 0 keeps them; the others take part in gathering and forget.
                weights[name] = whole.to(device)
    if not world.is_main:
        return state
    old = state.model
    # On the meta device a model costs no memory; the gathered weights take its place.
    with torch.device("meta"):
        model = VLM(old.config, image_id=old.image_id, compute_dtype=old.compute_dtype)
    model.load_state_dict(weights, assign=True)
    return replace(state, model=model, average=None)
