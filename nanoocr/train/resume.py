"""Saves a training step, and continues a run from it as if nothing had happened."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nanoocr.bpe import Tokenizer
from nanoocr.data.loader import StreamState
from nanoocr.errors import CheckpointError, UsageError
from nanoocr.model.folder import deepencoder_file, load_model, save_deepencoder
from nanoocr.train.average import restore_raw
from nanoocr.train.checkpoint import drop_old_steps, load_state, read_about, save_step
from nanoocr.train.config import TrainConfig
from nanoocr.train.run import Run
from nanoocr.train.sharding import is_sharded, read_parts, split_like, write_parts
from nanoocr.train.state import TrainState, build_state, gathered
from nanoocr.train.step import to_device


def save(run: Run, state: TrainState, tokenizer: Tokenizer, about: Mapping[str, Any]) -> None:
    """Save a whole checkpoint of this step, in stage 1 with the DeepEncoder beside it. Rank 0 writes it.

    `about` is written into the model's config.json. "prompt" is the question that reading asks this model.
    "data" is the fingerprint of the data sets, since a position in the data means nothing in other data.

    Raises:
        OutputError: the folder is not writable, or the disk is full.
    """
    world = run.world
    streams = {
        number: stream for of_rank in world.gather(state.streams) for number, stream in of_rank.items()
    }
    ema = {name: torch.tensor(value) for name, value in world.sum_by_name(state.ema).items()}
    split = is_sharded(state.model)
    if not (world.is_main or split):
        return world.wait()
    content: Any = {
        # The key keeps its old name, so that older checkpoints can still be resumed.
        "readers": {number: tuple(stream) for number, stream in sorted(streams.items())},
        "step": state.step,
        "glyph_steps": state.glyph_steps,
        "ema": ema,
        "heads": None if state.heads is None else state.heads.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in state.optimizers],
        "average": None if state.average is None else state.average.saved(),
        "torch_rng": torch.get_rng_state(),
    }
    content, ready = write_parts(run.folder, content, world) if split else (content, [])
    reading = gathered(state, world)
    if not world.is_main:
        return world.wait()
    # The flags are kept as they were, so that a resumed run can refuse others.
    about = {"stage": run.stage, "step": state.step, "run": asdict(run.config), **about}
    with reading.for_reading():
        if run.stage == 1:  # first, so that a complete step always has its DeepEncoder
            save_deepencoder(deepencoder_file(run.folder, state.step), reading.model)
        save_step(run.folder, state.step, reading.model, tokenizer, about, content, ready)
    drop_old_steps(run.folder, run.config.keep_last)
    world.wait()


# What a resumed run may not change: another value would be another run, not the same one continued. Steps,
# rates and curriculum may change: a run can be made longer.
FIXED = (
    *("preset", "recipe", "views", "tokenizer", "seed", "batch_size", "micro_batch", "turns", "mix"),
    *("mix_by", "data", "tasks", "pack", "max_pictures", "modes", "text_ratio", "max_length", "optimizer"),
    *("glyph_weight", "trained", "rates", "feature_weight", "moments"),
)


# What it may change, so that the rows from here on are others than the run would have had.
RESHAPING = ("curriculum", "on_bad_row", "too_long")


def warn_of_changes(run: Run, before: Mapping[str, Any]) -> None:
    """One line about the flags of RESHAPING that are not what they were, with both values.

    `before` are the flags that the step `run.newest` was trained with.
    """
    pairs = [
        (name, before.get(name, getattr(TrainConfig, name)), getattr(run.config, name)) for name in RESHAPING
    ]
    changed = [
        f"--{name}={now or repr(now)} (was {old or repr(old)})" for name, old, now in pairs if old != now
    ]
    if changed and run.world.is_main:
        flags = ", ".join(changed)
        print(
            f"warning: {run.newest} goes on with {flags}: it draws other rows from here on", file=sys.stderr
        )


def warn_of_other_data(run: Run, folder: Path, fingerprint: Mapping[str, str]) -> None:
    """One line about the data sets that are not what they were when `folder` was saved."""
    before = read_about(folder).get("data", fingerprint)
    changed = [
        name for name in before.keys() | fingerprint.keys() if before.get(name) != fingerprint.get(name)
    ]
    if changed and run.world.is_main:
        names = ", ".join(sorted(changed))
        print(
            f"warning: {folder} goes on with other data of {names}: it draws other rows from here on",
            file=sys.stderr,
        )


def resume(run: Run, folder: Path) -> tuple[TrainState, Tokenizer]:
    """The state that `save` left in `folder`; rates and schedule follow the flags of today.

    Raises:
        UsageError: the run is of another stage, or a flag of FIXED has changed.
        CheckpointError: the step is damaged.
    """
    config, world = run.config, run.world
    about = read_about(folder)
    if about.get("stage") != run.stage:
        raise UsageError(f"{folder}: a run of stage {about.get('stage')}; start a new --run_name")
    for name in FIXED:
        before, now = about.get("run", {}).get(name, getattr(TrainConfig, name)), getattr(config, name)
        if before != now:
            raise UsageError(
                f"{folder}: was trained with --{name}={before}, not {now}; start a new --run_name"
            )
    warn_of_changes(run, about.get("run", {}))
    content = load_state(folder)
    if "readers" not in content:
        raise CheckpointError(f"{folder}: of an older version that did not keep its place in the data")
    model, tokenizer = load_model(folder, device=run.first_home, compute_dtype=config.compute_dtype)
    state = build_state(run, model)
    content = read_parts(folder, content, model)
    if state.heads is not None:
        state.heads.load_state_dict(content["heads"])
    for optimizer, saved in zip(state.optimizers, content["optimizers"], strict=True):
        load_optimizer(optimizer, saved)
    if saved := content.get("average"):
        restore_raw(model, saved)  # the average itself was in the model file, and now is in state.average
        if state.average is not None:
            state.average.steps = saved["steps"]
    # Last of all, since building the model above drew numbers from the same generator.
    torch.set_rng_state(content["torch_rng"])
    # Shares of the ranks add up: rank 0 takes all of what was, the others go on from nothing.
    ema = {name: to_device(value, model) * world.is_main for name, value in content["ema"].items()}
    streams = {
        number: StreamState(*stream)
        for number, stream in content["readers"].items()
        # This repeats the loader's rule for which rank has which stream, with today's number of ranks.
        if number // config.turns % world.size == world.rank
    }
    there = {"step": content["step"], "glyph_steps": content["glyph_steps"], "ema": ema, "streams": streams}
    return replace(state, **there), tokenizer


def load_optimizer(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """What an optimiser remembers of every parameter; rates and groups stay those of today."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    remembered = {
        i: {
            name: split_like(value, parameters[i]) if isinstance(value, Tensor) else value
            for name, value in of_parameter.items()
        }
        for i, of_parameter in saved["state"].items()
    }
    # The saved groups hold the rates of then, which the flags may have changed.
    today = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": remembered, "param_groups": today})
