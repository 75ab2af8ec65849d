"""One step of training: micro-batches in, one update out.

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
from nanoocr.train.config import TrainConfig
from nanoocr.train.distributed import World
from nanoocr.train.finite import notice, stop_if_diverged
from nanoocr.train.glyph import GlyphHeads, GlyphSums
from nanoocr.train.optim import learning_rate_factor
from nanoocr.train.recipes import Recipe
from nanoocr.train.sharding import exchange_gradients, is_sharded, is_split, loss_of_nothing, same_calls
from nanoocr.train.state import TrainState
from nanoocr.train.vicreg import compared_pictures, feature_sum

Encoded = list[tuple[Sequence[int], VisionFeatures]]  # (indices of the views, their features), by size

EMA = 0.98  # weight of the past in the logged losses, per step


@dataclass(frozen=True)
class Totals:
    """What the losses of a step are means over, counted over all its micro-batches on all ranks."""

    supervised: float  # tokens
    glyph_weight: float
    documents: float = 0.0
    pictures: float = 0.0
    compared: float = 0.0  # pictures that the feature regulariser compares
    positions: float = 0.0  # tokens, padding not counted
    places: float = 0.0  # with padding
    flops: float = 0.0  # operations of the step
    stops: float = 0.0  # ranks that were asked to stop

    @staticmethod
    def of(batches: Sequence[Batch], world: World, flops: float = 0.0, stop: bool = False) -> Totals:
        """Counted here and added up over the ranks: the one exchange before the gradients."""
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
        return Totals(*world.sum([float(value) for value in own]))


@dataclass(frozen=True)
class StepStats:
    """What one step saw; losses are tensors so that a GPU is not waited for."""

    losses: dict[str, Tensor]  # this rank's share: the sum over the ranks is the loss
    totals: Totals
    skipped: Counter[str]  # drawn rows that were not used, on this rank, by reason
    taken: Counter[str]  # supervised tokens by task, on this rank
    samples: Counter[str]  # rows by task, on this rank
    shrunk: int  # drawn rows that are seen in less detail, on this rank
    flops: Mapping[str, float]  # operations by component, on this rank


# ---------------------------------------------------------------------------------------------------------
# one step


def train_step(
    state: TrainState,
    deliveries: Sequence[Delivery],
    chosen: Recipe,
    config: TrainConfig,
    world: World,
    *,
    stop: bool = False,
) -> StepStats:
    """Forward and backward of this rank's micro-batches, and one update of every optimiser.

    Raises:
        UsageError: no token of the whole step is supervised.
        DivergedError: on a CPU, a loss or gradient is no finite number; no weight has changed.
    """
    model = state.model
    batches = [delivery.batch for delivery in deliveries]
    if is_sharded(model):
        batches = same_calls(batches, world)
    of_batches = [batch_flops(batch, model, chosen, config) for batch in batches]
    flops = {name: sum(of_batch[name] for of_batch in of_batches) for name in COMPONENTS}
    totals = Totals.of(batches, world, sum(flops.values()), stop)
    glyph_only = state.step < state.glyph_steps
    if not totals.supervised and not glyph_only:
        raise UsageError("no token of this step is supervised: every answer in it is empty")
    sums: dict[str, Tensor] = {}
    for number, batch in enumerate(batches, start=1):
        exchange_gradients(model, now=number == len(batches))
        losses = model.around(partial(compute_losses, state, batch, chosen, totals, glyph_only=glyph_only))
        if losses["total"].requires_grad:  # not where all rows are text and the GPT does not train
            losses["total"].backward()
        for name, loss in losses.items():
            sums[name] = sums.get(name, 0.0) + loss.detach()
    trained = [p for o in state.optimizers for group in o.param_groups for p in group["params"]]
    world.sum_gradients(p for p in trained if not is_split(p))
    notice(state, sums)
    if model.device.type == "cpu":  # a GPU would be waited for: there the loop looks now and then
        stop_if_diverged(state, sums, config, world, weights=False)
    update(state, chosen, config)
    for name in sums.keys() | state.ema.keys():
        # What another rank saw and this one did not has a share of nothing here, which counts as well.
        counts = {"loss": totals.supervised, "feature": totals.compared}
        if name in sums or (world.size > 1 and counts.get(name, totals.glyph_weight)):
            share = sums.get(name, torch.zeros((), device=model.device))
            state.ema[name] = torch.lerp(share, state.ema.get(name, share), EMA)
    state.readers.update({delivery.reader: delivery.state for delivery in deliveries})
    skipped, taken, samples = Counter[str](), Counter[str](), Counter[str]()
    for delivery in deliveries:
        skipped.update(delivery.skipped)
        taken.update(delivery.taken)
        samples.update(delivery.samples_by_task)
    shrunk = sum(delivery.shrunk for delivery in deliveries)
    return StepStats(sums, totals, skipped, taken, samples, shrunk, flops)


def update(state: TrainState, chosen: Recipe, config: TrainConfig) -> None:
    """Every optimiser takes its step at the scheduled rate, the average follows, and the step is counted."""
    factor = learning_rate_factor(
        state.step,
        config.steps,
        schedule=chosen.schedule,
        warmup=round(chosen.warmup * config.steps),
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
    state: TrainState, batch: Batch, chosen: Recipe, totals: Totals, *, glyph_only: bool = False
) -> dict[str, Tensor]:
    """A micro-batch's share of the losses of its step, by name; `total` is what is minimised.

    Every loss is a sum divided by the count over the whole step, so shares add up to the same whatever the
    number of micro-batches and ranks. While `glyph_only` holds, the language model is left out: until SAM
    sees characters it learns little from the decoder and the decoder learns nothing from it.
    """
    model = state.model
    losses: dict[str, Tensor] = {}
    total = torch.zeros((), device=model.device)
    encoded: Encoded = [
        (views.indices, state.encode(normalise(to_device(views.pixels, model)).to(model.compute_dtype)))
        for views in batch.views
    ]
    for name, sums in glyphs_of(state, batch, encoded, chosen).items():
        losses[name] = sums.nats / max(1.0, totals.glyph_weight)
        # Of the characters named, each micro-batch counts by its share of the weight.
        losses[f"{name}_accuracy"] = sums.accuracy * (sums.weight / max(1.0, totals.glyph_weight))
        total = total + chosen.glyph_weight * losses[name]
    if chosen.feature_weight and totals.compared:
        pairs = zip(encoded, compared_pictures(batch), strict=True)
        apart = [feature_sum(features, places) for (_, features), places in pairs if places]
        if apart:
            losses["feature"] = torch.stack(apart).sum() / totals.compared
            total = total + chosen.feature_weight * losses["feature"]
    if not glyph_only and (batch.num_supervised or is_sharded(model)):
        losses["loss"] = next_token_nats(state, batch, encoded) / totals.supervised
        total = total + losses["loss"]
    return {**losses, "total": total}


def glyphs_of(state: TrainState, batch: Batch, encoded: Encoded, chosen: Recipe) -> dict[str, GlyphSums]:
    """What the glyph heads say of all views, added up by head."""
    added: dict[str, GlyphSums] = {}
    if state.heads is None:
        return added
    for (_, features), views in zip(encoded, batch.views, strict=True):
        targets = to_device(views.glyphs, state.model)
        for name, sums in sums_of_heads(state.heads, features, targets, chosen).items():
            added[name] = added[name].plus(sums) if name in added else sums
    return added


def next_token_nats(state: TrainState, batch: Batch, encoded: Encoded) -> Tensor:
    """The summed cross entropy of the supervised tokens, from the encoder's features on."""
    model = state.model
    vision = model.encoder.picture_tokens(encoded, batch.grids) if batch.grids else None
    documents = None if batch.documents is None else documents_to_device(batch.documents, model)
    x_BTC = model.embed(to_device(batch.ids, model), vision)
    for indices, features in encoded:
        if not indices:  # of no picture: see `same_calls`
            x_BTC = x_BTC + 0.0 * features.tokens.mean()
    hidden = state.decode(x_BTC, documents=documents)
    if not batch.num_supervised:
        return loss_of_nothing(model, hidden)
    return model.loss(hidden, to_device(batch.targets, model)).total


def batch_flops(batch: Batch, model: VLM, chosen: Recipe, config: TrainConfig) -> dict[str, float]:
    """Operations of a micro-batch by component, padding not counted."""
    views: Counter[tuple[int, int]] = Counter()
    for group in batch.views:
        views[group.pixels.size(1), group.pixels.size(2)] += len(group.indices)
    return training_flops(
        model.config,
        chosen.trained,
        views,
        tokens=batch.num_positions,
        pairs=batch.num_pairs,
        logits=batch.num_supervised,
        recompute=config.recompute,
    )


def to_device(tensor: Tensor, model: VLM) -> Tensor:
    """The one way of a batch to the model, in training and in validation."""
    return tensor.to(model.device, non_blocking=True)


def documents_to_device(documents: Documents, model: VLM) -> Documents:
    """The index tables of packed lines, on the model's device."""
    groups = tuple(to_device(places, model) for places in documents.groups)
    return Documents(to_device(documents.positions, model), groups, to_device(documents.inverse, model))


def sums_of_heads(
    heads: GlyphHeads, features: VisionFeatures, targets: Tensor, chosen: Recipe
) -> dict[str, GlyphSums]:
    """What the heads say; that on SAM's patches only while SAM trains."""
    on_patches = {"glyph_patch": heads.of_patches(features, targets)} if "sam" in chosen.trained else {}
    return {**on_patches, "glyph_token": heads.of_tokens(features, targets)}
