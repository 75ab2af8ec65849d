"""Who trains, watches and measures; how long, how fast, with what mixture: decided before anything runs."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from nanoocr.alphabet import CHARACTERS
from nanoocr.bpe import Tokenizer
from nanoocr.data.batch import collate
from nanoocr.data.example import prepare
from nanoocr.errors import UsageError
from nanoocr.finetune.task import row_of
from nanoocr.finetune.types import CutDocument, LineStrip
from nanoocr.machine import peak_resident
from nanoocr.model.vlm import VLM, count_parameters
from nanoocr.progress import clock
from nanoocr.train.config import TrainConfig, require
from nanoocr.train.setup import parse_components

FEWEST_STRIPS = 20  # Fewer strips to train on say too little about a style.
FEWEST_GROUPS = 3  # one each to train, to watch and to measure
# How often each own strip is seen before the rate has fallen to nothing: twenty pages then take some four
# minutes of one processor.
VIEWS = 4
LEAST_STEPS, MOST_STEPS = 60, 1500
# Bytes per parameter: weights, gradients, moments, the average, and the raw weights beside it.
STATE_BYTES = 24


@dataclass(frozen=True)
class FinetuneConfig:
    """What the command can be told; names as in the training scripts. 0 and "" mean: chosen by the data."""

    data: str
    out: str
    model: str = ""  # model folder to start from; empty: the package's
    steps: int = 0  # optimiser steps in all
    batch_size: int = 32  # strips of a step
    lr: float = 3e-4  # AdamW's rate, a tenth of that of training from nothing
    muon_lr: float = 1.2e-3  # Muon's
    trained: str = "sam,compressor,clip,projector,gpt"  # components that train
    drawn: float = 0.5  # share of drawn strips, so that nothing is forgotten
    hold_out: float = 0.2  # share of the documents that measure and never train
    # The package has no glyph heads to go on with. Fresh ones would send noise into the encoder.
    glyph_weight: float = 0.0  # weight of the loss that names characters, for data with boxes of words
    average: float = 0.97  # decay of the averaged weights
    patience: int = 4  # validations without a better one until training stops
    eval_every: int = 0  # steps between two validations
    eval_drawn: int = 400  # drawn strips that measure what was forgotten
    seed: int = 0
    threads: int = 0
    device: str = "cpu"
    dtype: str = "auto"
    accept_worse: bool = False
    accept_doubtful: bool = False

    def __post_init__(self) -> None:
        """Refuse values that cannot work, before anything is read."""
        require(self.data.strip() != "", "DATA is empty: name a folder or a file")
        require(self.out.strip() != "", "--out is empty: name the folder to write, as in --out=my_model")
        require(self.trained.strip() != "", "--trained is empty: leave it out to train all parts")
        # In the training scripts -1 is the rate of a run from nothing, which would undo what the base knows.
        for name in ("lr", "muon_lr", "glyph_weight"):
            require(getattr(self, name) >= 0, f"--{name} must be a number that is not negative, as 0.0003")
        require(self.steps >= 0 and self.eval_every >= 0, "--steps and --eval_every must not be negative")
        require(self.batch_size > 0, "--batch_size must be above 0")
        require(0 < self.drawn < 1, "--drawn is a share between 0 and 1, as 0.5")
        require(0 < self.hold_out < 1, "--hold_out is a share between 0 and 1, as 0.2")
        require(self.patience >= 0, "--patience must not be negative (0: no early stop)")
        require(self.eval_drawn >= 8, "--eval_drawn must be at least 8")
        out, data = Path(self.out).resolve(), Path(self.data).resolve()
        require(out != data and data not in out.parents, f"--out={self.out} lies in the data: name another")
        # The training loop would refuse these only after all pages were read.
        train_config(self, "", "", self.steps or LEAST_STEPS, Path(self.out))
        parse_components(self.trained)


@dataclass(frozen=True)
class Split:
    """Documents by what they are for; none is in two."""

    train: tuple[CutDocument, ...]
    watch: tuple[CutDocument, ...]  # says when to stop
    measure: tuple[CutDocument, ...]  # is read before and after, and by nobody in between


def split(cuts: Sequence[CutDocument], hold_out: float, seed: int) -> Split:
    """Part the documents by their groups: `hold_out` measure, half as many watch, the rest trains.

    Raises:
        UsageError: there are fewer than three groups, or too few strips are left to train on.
    """
    usable = [cut for cut in cuts if cut.strips]
    groups = sorted({cut.document.group for cut in usable})
    if len(groups) < FEWEST_GROUPS:
        raise UsageError(
            f"{len(groups)} documents with lines that can be used: at least {FEWEST_GROUPS} are needed, "
            "one each to train, to stop in time and to measure"
        )
    order = [groups[i] for i in np.random.default_rng(seed).permutation(len(groups))]
    measures = min(max(1, round(hold_out * len(groups))), len(groups) - 2)
    watches = min(max(1, round(hold_out * len(groups) / 2)), len(groups) - measures - 1)
    part = {g: 0 if i < measures else 1 if i < measures + watches else 2 for i, g in enumerate(order)}
    measure, watch, train = (
        tuple(cut for cut in usable if part[cut.document.group] == number) for number in range(3)
    )
    count = sum(len(cut.strips) for cut in train)
    if count < FEWEST_STRIPS:
        raise UsageError(f"{count} lines are left to train on: at least {FEWEST_STRIPS} are needed")
    return Split(train, watch, measure)


def strips_of(cuts: Sequence[CutDocument]) -> list[LineStrip]:
    """All strips of some documents."""
    return [strip for cut in cuts for strip in cut.strips]


def steps_for(strips: int, config: FinetuneConfig) -> int:
    """Until every own strip was seen VIEWS times, within bounds."""
    wanted = math.ceil(VIEWS * strips / (config.batch_size * (1 - config.drawn)))
    return config.steps or min(max(LEAST_STEPS, wanted), MOST_STEPS)


def train_config(config: FinetuneConfig, base: str, preset: str, steps: int, work: Path) -> TrainConfig:
    """The run as the training loop takes it."""
    every = config.eval_every or max(20, steps // 8)  # a validation takes as long as some five steps
    return TrainConfig(
        run_name="run",
        out=str(work),
        preset=preset,
        init=base,
        steps=steps,
        batch_size=config.batch_size,
        seed=config.seed,
        tasks="own=own drawn=drawn",
        mix=f"own:{1 - config.drawn:g},drawn:{config.drawn:g}",
        eval_data=str(work / "watch.parquet"),
        eval_samples=10_000,
        eval_tokens=256,
        eval_every=every,
        save_every=every,
        log_every=max(1, every // 2),
        patience=config.patience,
        keep_last=1,
        trained=config.trained,
        lr=config.lr,
        muon_lr=config.muon_lr,
        rates="patch_embed:1,wte:1,lm_head:1",
        polar_steps=3,
        schedule="trapezoid",
        warmup=0.05,
        cooldown=0.6,
        average=config.average,
        glyph_weight=config.glyph_weight,
        device=config.device,
        dtype=config.dtype,
        threads=config.threads,
        resume=True,
    )


def unseen_characters(cuts: Sequence[CutDocument]) -> Counter[str]:
    """Characters of the truths that no training picture of the base model had, with their counts."""
    seen = set(CHARACTERS)
    return Counter(
        char for cut in cuts for char in cut.document.text if char not in seen and not char.isspace()
    )


def seconds_per_step(
    model: VLM, tokenizer: Tokenizer, strips: Sequence[LineStrip], batch_size: int, tries: int = 16
) -> float:
    """What a step takes here, by one pass of some strips forward and backward; the weights stay."""
    rows = [row_of(strip, "try") for strip in strips[:tries]]
    length = model.config.gpt.sequence_len
    examples = [prepare(row, tokenizer, model.config.views, length) for row in rows]
    seconds = math.inf
    for _ in range(2):  # the first pass also pays for memory and for compiling products
        started = time.perf_counter()
        batch = collate(examples, tokenizer.assistant_end_id)
        pixels = [view for example in examples for view in example.pixels]
        loss = model(batch.ids.to(model.device), batch.targets.to(model.device), pixels).mean
        loss.backward()
        seconds = min(seconds, time.perf_counter() - started)
    for parameter in model.parameters():
        parameter.grad = None
    return seconds * batch_size / len(rows) + _update_seconds(model)


def _update_seconds(model: VLM) -> float:
    """What the optimiser takes: a few products of matrices for each of the model's own."""
    side = 256
    one = torch.randn(side, side)
    started = time.perf_counter()
    for _ in range(20):
        one = one @ one / side
    each = (time.perf_counter() - started) / 20
    return each * 9 * count_parameters(model) / side**2


def table(
    config: FinetuneConfig, parts: Split, steps: int, seconds: float, model: VLM, notes: Sequence[str]
) -> list[tuple[str, str]]:
    """What is about to happen, as (what, value)."""
    memory = (peak_resident() + STATE_BYTES * count_parameters(model)) / 1e9
    own = len(strips_of(parts.train))
    left_out = sum(len(cut.left_out) for part in _parts(parts) for cut in part)
    seen = steps * config.batch_size * (1 - config.drawn) / max(1, own)
    return [
        ("documents: train / watch / measure", " / ".join(str(len(part)) for part in _parts(parts))),
        ("lines: train / watch / measure", " / ".join(str(len(strips_of(part))) for part in _parts(parts))),
        ("lines left out, since no text fits them", str(left_out)),
        ("--trained", f"{config.trained} of {count_parameters(model):,} parameters in all"),
        ("--lr, --muon_lr", f"{config.lr:g}, {config.muon_lr:g}, falling to 0 over the last 60 %"),
        ("--steps", f"{steps} of {config.batch_size} lines: every own line some {seen:.0f} times"),
        ("--drawn", f"{config.drawn:.0%} of the lines are drawn ones, so that nothing is forgotten"),
        (
            "--eval_drawn",
            f"{config.eval_drawn} drawn lines measure; others say whether the tuned weights are mixed "
            "with those of the base",
        ),
        ("--hold_out", f"{config.hold_out:.0%} of the documents measure, half as many say when to stop"),
        ("--patience", f"stops after {config.patience} validations without a better one"),
        (
            "time",
            f"about {clock(steps * seconds)} to train ({seconds:.2f} s a step), and to read before and after",
        ),
        ("memory", f"about {memory:.1f} GB"),
        *(("note", note) for note in notes),
    ]


def _parts(parts: Split) -> tuple[tuple[CutDocument, ...], ...]:
    return (parts.train, parts.watch, parts.measure)
