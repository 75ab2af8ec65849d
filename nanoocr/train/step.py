"""One step of training: from micro-batches to one update.

Every loss is a sum over the tokens (or slots) of the whole step divided by their number, counted over all
micro-batches and ranks before the first backward pass: never a mean of means.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from nanoocr.data.batch import Batch
from nanoocr.data.loader import Delivery
from nanoocr.errors import UsageError
from nanoocr.image_process import normalise
from nanoocr.model.components import COMPONENTS
from nanoocr.model.deepencoder import VisionFeatures
from nanoocr.model.flops import training_flops
from nanoocr.model.gpt import Documents
from nanoocr.model.vlm import VLM
from nanoocr.train.distributed import World
from nanoocr.train.finite import notice, stop_if_diverged, trained
from nanoocr.train.glyph import GlyphLosses, GlyphSums
from nanoocr.train.optim import learning_rate_factor
from nanoocr.train.recipes import Recipe
from nanoocr.train.run import Run
from nanoocr.train.sharding import (
    as_one_forward,
    exchange_gradients,
    is_sharded,
    is_split,
    loss_of_nothing,
    same_calls,
)
from nanoocr.train.state import TrainState
from nanoocr.train.vicreg import compared_pictures, feature_sum

# (indices of the views, their features) for each view size
Encoded = list[tuple[Sequence[int], VisionFeatures]]

EMA = 0.98  # weight of the past in the logged losses, per step


@dataclass(frozen=True)
class Totals:
    """The divisors of a step's losses, counted over all micro-batches on all ranks."""

    supervised: float  # supervised tokens
    glyph_weight: float
    documents: float = 0.0
    pictures: float = 0.0
    compared: float = 0.0  # pictures that the feature regulariser compares
    positions: float = 0.0  # tokens without padding
    places: float = 0.0  # tokens with padding
    flops: float = 0.0  # operations of the step
    stops: float = 0.0  # how many ranks were asked to stop

    @staticmethod
    def of(batches: Sequence[Batch], world: World, flops: float = 0.0, stop: bool = False) -> Totals:
        """Count on this rank and add up over the ranks. This is the only exchange before the gradients."""
        own = (
            sum(batch.num_supervised for batch in batches),
            sum(batch.glyph_weight for batch in batches),
            sum(batch.num_documents for batch in batches),
            sum(batch.num_pictures for batch in batches),
            sum(len(places) for batch in batches for places in compared_pictures(batch)),
            sum(batch.num_positions for batch in batches),
            sum(batch.ids.numel() for batch in batches),
            flops,
            stop,
        )
        # One exchange for all counts: each costs a round trip between the ranks.
        return Totals(*world.sum([float(value) for value in own]))


@dataclass(frozen=True)
class StepStats:
    """Facts about one step. Losses stay tensors, so that nobody has to wait for a GPU."""

    losses: dict[str, Tensor]  # this rank's share; summed over the ranks they give the loss
    totals: Totals
    skipped: Counter[str]  # drawn rows that were not used, on this rank, by reason
    taken: Counter[str]  # supervised tokens by data set, on this rank
    samples: Counter[str]  # rows by data set, on this rank
    shrunk: int  # rows whose pictures are seen in less detail, on this rank
    flops: Mapping[str, float]  # operations by component, on this rank


# ---------------------------------------------------------------------------------------------------------
# One step


def train_step(
    run: Run, state: TrainState, deliveries: Sequence[Delivery], *, stop: bool = False
) -> StepStats:
    """Run this rank's micro-batches forward and backward, and update the weights once with every optimiser.

    `deliveries` are this rank's micro-batches of the step. `stop` says that somebody asked this rank to end;
    the totals tell every rank whether any rank was asked.

    Raises:
        UsageError: no token of the whole step is supervised.
        DivergedError: on a CPU, a loss or gradient is not finite; no weight has changed.
    """
    batches = [delivery.batch for delivery in deliveries]
    if is_sharded(state.model):
        batches = same_calls(batches, run.world)
    # Operations are computed from sizes alone, before the work, so that the totals can carry them to every
    # rank.
    per_batch = [batch_flops(run, state.model, batch) for batch in batches]
    flops = {name: sum(of_batch[name] for of_batch in per_batch) for name in COMPONENTS}
    totals = Totals.of(batches, run.world, sum(flops.values()), stop)
    if not totals.supervised and not is_glyph_only(state):
        raise UsageError("no token of this step is supervised: every answer in it is empty")
    losses = backward_all(run, state, batches, totals)
    notice(state, losses)
    if state.model.device.type == "cpu":  # This would wait for a GPU; there the loop checks now and then.
        stop_if_diverged(run, state, losses, weights=False)
    update(run, state)
    average_losses(run, state, losses, totals)
    state.streams.update({delivery.stream: delivery.state for delivery in deliveries})
    skipped, taken, samples = Counter[str](), Counter[str](), Counter[str]()
    for delivery in deliveries:
        skipped.update(delivery.skipped)
        taken.update(delivery.taken)
        samples.update(delivery.samples_by_task)
    shrunk = sum(delivery.shrunk for delivery in deliveries)
    return StepStats(losses, totals, skipped, taken, samples, shrunk, flops)


def is_glyph_only(state: TrainState) -> bool:
    """Whether this is one of the first steps, which train with the glyph loss alone (--glyph_only)."""
    return state.step < state.glyph_steps


def backward_all(run: Run, state: TrainState, batches: Sequence[Batch], totals: Totals) -> dict[str, Tensor]:
    """Compute the gradients of the whole step, over micro-batches and ranks; returns this rank's losses."""
    sums: dict[str, Tensor] = {}
    for number, batch in enumerate(batches, start=1):
        exchange_gradients(state.model, now=number == len(batches))
        losses = as_one_forward(
            state.model,
            partial(compute_losses, state, batch, run.recipe, totals, glyph_only=is_glyph_only(state)),
        )
        if losses["total"].requires_grad:  # False where all rows are text and the GPT does not train
            losses["total"].backward()
        for name, loss in losses.items():
            sums[name] = sums.get(name, 0.0) + loss.detach()
    # FSDP has already summed the gradients of the parameters that it splits.
    run.world.sum_gradients(p for p in trained(state) if not is_split(p))
    return sums


def average_losses(run: Run, state: TrainState, losses: Mapping[str, Tensor], totals: Totals) -> None:
    """Update the moving averages for the log with this rank's losses of the step."""
    # How much of each loss there was on all ranks; for the glyph losses this is the weight of their slots.
    counts = {"loss": totals.supervised, "feature": totals.compared}
    for name in losses.keys() | state.ema.keys():
        # A rank without this loss contributes zero to its average; the average is a sum over the ranks.
        if name in losses or (run.world.size > 1 and counts.get(name, totals.glyph_weight)):
            share = losses.get(name, torch.zeros((), device=state.model.device))
            state.ema[name] = torch.lerp(share, state.ema.get(name, share), EMA)


def update(run: Run, state: TrainState) -> None:
    """Let every optimiser take its step at the scheduled rate, update the average, and count the step."""
    config, recipe = run.config, run.recipe
    factor = learning_rate_factor(
        state.step,
        config.steps,
        schedule=recipe.schedule,
        warmup=round(recipe.warmup * config.steps),
        cooldown=config.cooldown,
        step_every=config.lr_step_every,
        step_factor=config.lr_step_factor,
    )
    for optimizer in state.optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    if state.average is not None:
        state.average.update()
    state.step += 1


def compute_losses(
    state: TrainState, batch: Batch, recipe: Recipe, totals: Totals, *, glyph_only: bool = False
) -> dict[str, Tensor]:
    """Compute a micro-batch's share of the step's losses, by name; `total` is the one to minimise.

    Every loss is a sum divided by the count over the whole step, so shares add up to the same loss for any
    number of micro-batches and ranks. With `glyph_only` the language model is left out: until SAM sees
    characters, SAM learns little from the decoder, and the decoder learns nothing from SAM.
    """
    model = state.model
    losses: dict[str, Tensor] = {}
    total = torch.zeros((), device=model.device)
    encoded: Encoded = [
        (views.indices, state.encode(normalise(to_device(views.pixels, model)).to(model.compute_dtype)))
        for views in batch.views
    ]
    for name, sums in glyphs_of(state, batch, encoded, recipe).items():
        losses[name] = sums.nats / max(1.0, totals.glyph_weight)
        # Each micro-batch counts in the accuracy by its share of the weight.
        losses[f"{name}_accuracy"] = sums.accuracy * (sums.weight / max(1.0, totals.glyph_weight))
        total = total + recipe.glyph_weight * losses[name]
    if recipe.feature_weight and totals.compared:
        pairs = zip(encoded, compared_pictures(batch), strict=True)
        apart = [feature_sum(features, places) for (_, features), places in pairs if places]
        if apart:
            losses["feature"] = torch.stack(apart).sum() / totals.compared
            total = total + recipe.feature_weight * losses["feature"]
    # With FSDP every rank must run the decoder, even for a batch in which nothing is supervised.
    if not glyph_only and (batch.num_supervised or is_sharded(model)):
        losses["loss"] = next_token_nats(state, batch, encoded) / totals.supervised
        total = total + losses["loss"]
    return {**losses, "total": total}


def glyphs_of(state: TrainState, batch: Batch, encoded: Encoded, recipe: Recipe) -> dict[str, GlyphSums]:
    """Sum what the glyph heads give for all views, by head."""
    added: dict[str, GlyphSums] = {}
    if state.heads is None:
        return added
    for (_, features), views in zip(encoded, batch.views, strict=True):
        targets = to_device(views.glyphs, state.model)
        for name, sums in sums_of_heads(state.heads, features, targets, recipe).items():
            added[name] = added[name].plus(sums) if name in added else sums
    return added


def next_token_nats(state: TrainState, batch: Batch, encoded: Encoded) -> Tensor:
    """The summed cross entropy of the supervised tokens, computed from the encoder's features."""
    model = state.model
    vision = model.encoder.picture_tokens(encoded, batch.grids) if batch.grids else None
    documents = None if batch.documents is None else documents_to_device(batch.documents, model)
    x_BTC = model.embed(to_device(batch.ids, model), vision)
    for indices, features in encoded:
        if not indices:  # dummy views, which belong to no picture: see `same_calls`
            x_BTC = x_BTC + 0.0 * features.tokens.mean()
    # The decoder sees embeddings only, so pictures and text go through it alike.
    hidden = state.decode(x_BTC, documents=documents)
    if not batch.num_supervised:
        return loss_of_nothing(model, hidden)
    return model.loss(hidden, to_device(batch.targets, model)).total


def batch_flops(run: Run, model: VLM, batch: Batch) -> dict[str, float]:
    """Operations of a micro-batch by component, without padding."""
    views: Counter[tuple[int, int]] = Counter()
    for group in batch.views:
        views[group.pixels.size(1), group.pixels.size(2)] += len(group.indices)
    return training_flops(
        model.config,
        run.recipe.trained,
        views,
        tokens=batch.num_positions,
        pairs=batch.num_pairs,
        logits=batch.num_supervised,
        recompute=run.config.recompute,
    )


def to_device(tensor: Tensor, model: VLM) -> Tensor:
    """Move a tensor of a batch to the model's device. Training and validation both use this."""
    return tensor.to(model.device, non_blocking=True)


def documents_to_device(documents: Documents, model: VLM) -> Documents:
    """Move the index tables of packed sequences to the model's device."""
    groups = tuple(to_device(places, model) for places in documents.groups)
    return Documents(to_device(documents.positions, model), groups, to_device(documents.inverse, model))


def sums_of_heads(
    heads: GlyphLosses, features: VisionFeatures, targets: Tensor, recipe: Recipe
) -> dict[str, GlyphSums]:
    """Sums of the heads. The head on SAM's patches takes part only while SAM trains."""
    # A frozen SAM learns nothing from a loss on its own patches.
    on_patches = {"glyph_patch": heads.of_patches(features, targets)} if "sam" in recipe.trained else {}
    return {**on_patches, "glyph_token": heads.of_tokens(features, targets)}
