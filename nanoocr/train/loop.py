"""The training loop of both stages: build a state, step, log, validate, save, resume.

A stage script decides what trains and where the weights come from; everything after that happens here.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from nanoocr.data.loader import Batch, BatchMaker, training_batches
from nanoocr.data.rows import Row
from nanoocr.errors import UsageError
from nanoocr.eval.reading import ReadingReport, evaluate_reading
from nanoocr.image_process import Mode, normalise
from nanoocr.model.deepencoder import VisionFeatures
from nanoocr.model.vlm import VLM
from nanoocr.tokenizer import Tokenizer
from nanoocr.train.average import WeightAverage, restore_raw
from nanoocr.train.checkpoint import (
    deepencoder_file,
    drop_old_steps,
    load_model,
    load_state,
    read_about,
    save_deepencoder,
    save_step,
)
from nanoocr.train.config import TrainConfig
from nanoocr.train.glyph import GlyphHeads, GlyphSums
from nanoocr.train.log import RunLog
from nanoocr.train.optim import learning_rate_factor
from nanoocr.train.recipes import Recipe, describe, freeze, make_optimizers

EMA = 0.98  # weight of the past in the logged losses, per step
ROWS_SHOWN = 10  # pictures that a validation prints, worst first; metrics.jsonl has all of them


@dataclass
class TrainState:
    """All that changes while training; what a checkpoint has to hold."""

    model: VLM
    heads: GlyphHeads | None
    optimizers: list[torch.optim.Optimizer]
    encode: Callable[[Tensor], VisionFeatures]  # the model's encoder and GPT, or their compiled twins:
    decode: Callable[[Tensor], Tensor]  # the same weights, for the training step only
    average: WeightAverage | None  # of the weights, with --average
    glyph_steps: int = 0  # steps at the start that leave the language model out
    step: int = 0
    ema: dict[str, Tensor] = field(default_factory=dict)  # moving averages of the losses

    def for_reading(self) -> AbstractContextManager[None]:
        """Within, the model holds the weights that are measured and saved: the average, if there is one."""
        return nullcontext() if self.average is None else self.average.in_model()


@dataclass(frozen=True)
class StepStats:
    """What one step saw; losses are tensors so that a GPU is not waited for."""

    losses: dict[str, Tensor]
    pictures: int
    tokens: int  # supervised tokens
    skipped: int  # drawn rows that did not fit


def build_state(model: VLM, chosen: Recipe, config: TrainConfig) -> TrainState:
    """Freeze what the recipe freezes, make glyph heads where it wants them, and the optimisers."""
    freeze(model, chosen.trained)
    heads = None
    if chosen.glyph_weight > 0:
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            heads = GlyphHeads(model.config).to(model.device)
    if config.recompute:
        recompute_blocks(model)
    encode, decode = model.encoder.__call__, model.gpt.__call__
    if config.compile:  # views have few sizes, the text has another length in every batch
        encode, decode = torch.compile(encode), torch.compile(decode, dynamic=True)
    optimizers = make_optimizers(model, heads, chosen, config.weight_decay)
    average = WeightAverage(model, config.average) if config.average else None
    glyph_steps = round(config.glyph_only * config.steps)
    return TrainState(model, heads, optimizers, encode, decode, average, glyph_steps)


def recompute_blocks(model: VLM) -> None:
    """From now on a block keeps only its input while gradients are taken, and runs again in backward."""
    encoder = model.encoder
    for block in (
        *encoder.sam_model.blocks,
        *encoder.vision_model.transformer.layers,
        *model.gpt.transformer.h,
    ):
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)  # type: ignore[method-assign]


# ---------------------------------------------------------------------------------------------------------
# one step


def train_step(state: TrainState, batch: Batch, chosen: Recipe, config: TrainConfig) -> StepStats:
    """Forward, backward and one update of every optimiser."""
    losses = compute_losses(state, batch, chosen, glyph_only=state.step < state.glyph_steps)
    if losses["total"].requires_grad:  # not where all rows are text and the GPT does not train
        losses["total"].backward()
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
    detached = {name: loss.detach() for name, loss in losses.items()}
    for name, loss in detached.items():
        state.ema[name] = torch.lerp(loss, state.ema.get(name, loss), EMA)
    return StepStats(detached, batch.num_pictures, batch.num_supervised, batch.skipped)


def compute_losses(
    state: TrainState, batch: Batch, chosen: Recipe, *, glyph_only: bool = False
) -> dict[str, Tensor]:
    """The losses of a batch by name; `total` is what is minimised.

    While `glyph_only` holds, the language model is left out: until SAM sees characters it learns little from
    the decoder and the decoder learns nothing from it.
    """
    model = state.model
    losses: dict[str, Tensor] = {}
    total = torch.zeros((), device=model.device)
    encoded: list[tuple[Sequence[int], VisionFeatures]] = []
    glyphs: dict[str, GlyphSums] = {}
    for views in batch.views:
        features = state.encode(normalise(to_device(views.pixels, model)).to(model.compute_dtype))
        encoded.append((views.indices, features))
        if state.heads is not None:
            targets = to_device(views.glyphs, model)
            for name, sums in sums_of_heads(state.heads, features, targets, chosen).items():
                glyphs[name] = glyphs[name].plus(sums) if name in glyphs else sums
    for name, sums in glyphs.items():
        losses[name], losses[f"{name}_accuracy"] = sums.loss, sums.accuracy
        total = total + chosen.glyph_weight * sums.loss
    if not glyph_only:
        vision = model.encoder.picture_tokens(encoded, batch.grids) if encoded else None
        hidden = state.decode(model.embed(to_device(batch.ids, model), vision))
        losses["loss"] = model.loss(hidden, to_device(batch.targets, model)).mean
        total = total + losses["loss"]
    return {**losses, "total": total}


def to_device(tensor: Tensor, model: VLM) -> Tensor:
    """The one way of a batch to the model, in training and in validation."""
    return tensor.to(model.device, non_blocking=True)


def sums_of_heads(
    heads: GlyphHeads, features: VisionFeatures, targets: Tensor, chosen: Recipe
) -> dict[str, GlyphSums]:
    """What the heads say; that on SAM's patches only while SAM trains."""
    on_patches = {"glyph_patch": heads.of_patches(features, targets)} if "sam" in chosen.trained else {}
    return {**on_patches, "glyph_token": heads.of_tokens(features, targets)}


# ---------------------------------------------------------------------------------------------------------
# saving and resuming


def save(run: Path, state: TrainState, tokenizer: Tokenizer, config: TrainConfig, stage: int) -> None:
    """A whole checkpoint of this step, and in stage 1 the DeepEncoder beside it."""
    content = {
        "step": state.step,
        "glyph_steps": state.glyph_steps,
        "ema": state.ema,
        "heads": None if state.heads is None else state.heads.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in state.optimizers],
        "average": None if state.average is None else state.average.saved(),
        "torch_rng": torch.get_rng_state(),
    }
    about = {"stage": stage, "step": state.step, "run": asdict(config)}
    with state.for_reading():
        if stage == 1:  # first, so that a complete step always has its DeepEncoder
            save_deepencoder(deepencoder_file(run, state.step), state.model)
        save_step(run, state.step, state.model, tokenizer, about, content)
    drop_old_steps(run, config.keep_last)


# What a resumed run may not change: another value would be another run, not the same one continued. Steps,
# rates and curriculum may change: a run can be made longer.
FIXED = (
    *("preset", "recipe", "tokenizer", "seed", "batch_size", "mix", "data", "modes", "text_ratio"),
    *("max_length", "optimizer", "glyph_weight", "trained"),
)


def resume(folder: Path, chosen: Recipe, config: TrainConfig, stage: int) -> tuple[TrainState, Tokenizer]:
    """The state that `save` left in `folder`; rates and schedule follow the flags of today.

    Raises:
        UsageError: the run is of another stage, or a flag of FIXED has changed.
        CheckpointError: the step is damaged.
    """
    about = read_about(folder)
    if about.get("stage") != stage:
        raise UsageError(f"{folder}: a run of stage {about.get('stage')}; start a new --run")
    for name in FIXED:
        before, now = about.get("run", {}).get(name, getattr(TrainConfig, name)), getattr(config, name)
        if before != now:
            raise UsageError(f"{folder}: was trained with --{name}={before}, not {now}; start a new --run")
    content = load_state(folder)
    model, tokenizer = load_model(folder, device=config.device, compute_dtype=config.compute_dtype)
    state = build_state(model, chosen, config)
    if state.heads is not None:
        state.heads.load_state_dict(content["heads"])
    for optimizer, saved in zip(state.optimizers, content["optimizers"], strict=True):
        rates = [(group["base_lr"], group["weight_decay"]) for group in optimizer.param_groups]
        optimizer.load_state_dict(saved)
        for group, (base_lr, weight_decay) in zip(optimizer.param_groups, rates):
            group.update(base_lr=base_lr, weight_decay=weight_decay)
    if saved := content.get("average"):
        restore_raw(model, saved)  # the average itself was in the model file, and now is in state.average
        if state.average is not None:
            state.average.steps = saved["steps"]
    torch.set_rng_state(content["torch_rng"])
    ema = {name: to_device(value, model) for name, value in content["ema"].items()}
    glyph_steps = content.get("glyph_steps", state.glyph_steps)
    return replace(state, step=content["step"], ema=ema, glyph_steps=glyph_steps), tokenizer


@contextmanager
def interruptible() -> Iterator[list[bool]]:
    """SIGTERM and the first Ctrl-C set the flag: the step is finished and saved; a second one ends."""
    asked = [False]

    def ask(number: int, frame: FrameType | None) -> None:
        if asked[0]:
            raise KeyboardInterrupt
        asked[0] = True

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# ---------------------------------------------------------------------------------------------------------
# the loop


def train(
    state: TrainState,
    tokenizer: Tokenizer,
    maker: BatchMaker,
    validation: list[Row],
    chosen: Recipe,
    config: TrainConfig,
    stage: int,
) -> ReadingReport | None:
    """Run from `state.step` to `config.steps`; returns the last validation report.

    Raises:
        KeyboardInterrupt: the run was asked to stop; its last step is saved.
    """
    run = Path(config.out) / config.run
    report = None
    modes = [maker.mode_of(i) for i in range(len(validation))]
    with RunLog(run, config.steps, asdict(config), wandb=config.wandb, start=state.step) as log:
        log.table(describe(state.model, chosen))
        with interruptible() as asked:
            clock = Clock()
            for batch in training_batches(maker, start=state.step, workers=config.workers):
                clock.waited()
                stats = train_step(state, batch, chosen, config)
                clock.stepped(stats)
                log.advance(state.step)
                last = state.step == config.steps
                stop = asked[0]  # once: a signal that comes later than this waits for the next step
                if state.step % config.log_every == 0 or last:
                    log_step(log, state, stats, clock)
                # Save first: nothing that goes wrong in a validation may cost the steps before it.
                if state.step % config.save_every == 0 or last or stop:
                    save(run, state, tokenizer, config, stage)
                    clock.restart()
                if (state.step % config.eval_every == 0 or last) and validation and not stop:
                    report = validate(log, state, tokenizer, validation, modes)
                    clock.restart()
                if stop:
                    log.say(f"stopped at step {state.step}; go on with --resume=True")
                    raise KeyboardInterrupt
    return report


class Clock:
    """Time spent waiting for data and computing since the last log line."""

    def __init__(self) -> None:
        self.skipped = 0  # of the lines to come, whatever interrupts the interval
        self.restart()

    def restart(self) -> None:
        """Begin a new interval, from now."""
        self.wait = self.busy = 0.0
        self.pictures = self.tokens = 0
        self.mark = time.monotonic()

    def waited(self) -> None:
        """A batch has arrived."""
        now = time.monotonic()
        self.wait, self.mark = self.wait + now - self.mark, now

    def stepped(self, stats: StepStats) -> None:
        """A step is done."""
        now = time.monotonic()
        self.busy, self.mark = self.busy + now - self.mark, now
        self.pictures += stats.pictures
        self.tokens += stats.tokens
        self.skipped += stats.skipped


def log_step(log: RunLog, state: TrainState, stats: StepStats, clock: Clock) -> None:
    """One line: step, losses as moving averages, rate, throughput, share of waiting, time left."""
    ema = {name: float(value) for name, value in state.ema.items()}
    seconds = max(1e-9, clock.wait + clock.busy)
    values = {
        **{name: float(value) for name, value in stats.losses.items()},
        **{f"{name}_ema": value for name, value in ema.items()},
        "lr": state.optimizers[0].param_groups[0]["lr"],
        "samples_per_s": clock.pictures / seconds,
        "tokens_per_s": clock.tokens / seconds,
        "data_wait": clock.wait / seconds,
        "skipped_rows": clock.skipped,
    }
    clock.skipped = 0
    clock.restart()
    log.record(state.step, "train", values)
    shown = " ".join(f"{name} {value:.4f}" for name, value in ema.items() if name != "total")
    log.say(
        f"step {state.step}/{log.steps} {shown} lr {values['lr']:.2e} "
        f"{values['samples_per_s']:.0f} samples/s {values['tokens_per_s']:.0f} tok/s "
        f"wait {values['data_wait']:.1%} left {log.time_left(state.step)}"
        + (f" too long, skipped: {values['skipped_rows']} rows" if values["skipped_rows"] else "")
    )


def validate(
    log: RunLog, state: TrainState, tokenizer: Tokenizer, rows: list[Row], modes: list[Mode | None]
) -> ReadingReport:
    """Read the held-out rows with right and wrong pictures; print what proves that it looks."""
    state.model.eval()
    with state.for_reading():
        report = evaluate_reading(state.model, tokenizer, rows, modes=modes)
    state.model.train()
    health = {
        f"{stage}_{name}": value
        for stage, statistics in report.health.items()
        for name, value in statistics._asdict().items()
    }
    values: dict[str, Any] = {
        "loss": report.loss,
        "cer": report.cer,
        "overlap": report.overlap,
        "grounding_gap": report.grounding_gap,
        **health,
    }
    rows_seen = [
        {"id": row.id, "loss": row.loss, "overlap": row.overlap, "cer": row.cer} for row in report.rows
    ]
    log.record(state.step, "validation", {**values, "rows": rows_seen})
    ranks = ", ".join(
        f"{stage} rank {h.effective_rank:.1f} cosine {h.centred_cosine:.2f}"
        for stage, h in report.health.items()
    )
    log.say(
        f"validation at {state.step}: loss {report.loss:.4f} CER {report.cer:.2%} "
        f"overlap {report.overlap:.2%} grounding gap {report.grounding_gap:.3f}; {ranks}"
    )
    for row in sorted(report.rows, key=lambda row: -row.loss)[:ROWS_SHOWN]:
        log.say(f"  {row.id} loss {row.loss:.4f} overlap {row.overlap:.0%} CER {row.cer:.0%}")
    sample = report.rows[state.step % len(report.rows)]
    log.say(f"  truth {sample.truth!r}\n  read  {sample.text!r}")
    return report
