"""From flags to a run: machine, recipe, weights, resuming. Both stage scripts use it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from nanoocr.bpe import Tokenizer
from nanoocr.config import ModelConfig, preset
from nanoocr.data.source import parse_mix
from nanoocr.data.task import Task
from nanoocr.errors import UsageError
from nanoocr.machine import check_device, note_on_dtype
from nanoocr.model.components import COMPONENTS
from nanoocr.model.folder import STATE, load_model, model_folder, step_number
from nanoocr.model.resize import parse_views, resized_config, with_views
from nanoocr.model.vlm import VLM
from nanoocr.train.checkpoint import load_state, read_about
from nanoocr.train.config import TrainConfig
from nanoocr.train.data import check_validation, page_prompt, plan_data, validation_rows
from nanoocr.train.distributed import World, member
from nanoocr.train.failure import in_one_sentence
from nanoocr.train.glyph import GlyphLosses
from nanoocr.train.lock import locked
from nanoocr.train.loop import train, validation_is_due
from nanoocr.train.newest import newest_whole_step
from nanoocr.train.recipes import ENDS, Recipe, recipe
from nanoocr.train.resume import resume
from nanoocr.train.run import Run, run_folder
from nanoocr.train.sharding import check_shard
from nanoocr.train.state import TrainState, build_state


def run_stage(
    config: TrainConfig,
    stage: int,
    make_task: Callable[[str], Task],
    load_encoder: Callable[[VLM], bool] | None = None,
) -> None:
    """Train stage 1 or 2 as the flags say, from nothing or from the newest whole step of the run.

    `make_task` turns the words of --tasks into data sets. `load_encoder` may load weights into the encoder of
    a fresh run, because stage 2 starts from the encoder of stage 1. It returns whether it did.
    """
    folder = run_folder(config)
    with (
        member(config.device, config.timeout_s) as world,
        in_one_sentence(folder, world),
        locked(folder, world),
    ):
        prepare_machine(config, world)
        run = settle(config, stage, world)
        if run.newest is None:
            state, tokenizer = fresh_start(run, load_encoder)
        else:
            check_unfinished(run, run.newest)
            state, tokenizer = resume(run, run.newest)
        data = plan_data(run.config, state.model.config, tokenizer, make_task)
        prompt, warning = page_prompt(data.source)
        if warning and world.is_main:
            print(warning, file=sys.stderr)
        rows = validation_rows(run.config, make_task, prompt)
        check_validation(rows, data, state.model.config)
        train(run, state, data, rows, prompt)


def settle(config: TrainConfig, stage: int, world: World) -> Run:
    """Decide everything about the run that can be known before its model is read or made.

    Raises:
        UsageError: flags contradict each other, or the run exists and --resume was not given.
        CheckpointError: the run exists, and none of its steps is whole.
    """
    newest = newest_whole_step(config, world)
    config = settle_micro_batch(config, newest, world)
    return Run(config, resolve_recipe(config, stage), stage, world, newest)


def fresh_start(run: Run, load_encoder: Callable[[VLM], bool] | None) -> tuple[TrainState, Tokenizer]:
    """Make the state before the first step."""
    model, tokenizer = starting_model(run)
    lengthen(model, run.config.max_length)
    other_encoder = load_encoder is not None and load_encoder(model)
    state = build_state(run, model)
    # Heads name what one particular encoder shows them. Those of --init do not fit an encoder from elsewhere.
    if run.config.init and state.heads is not None and not other_encoder:
        said = take_over_heads(state.heads, model_folder(run.config.init))
        if run.world.is_main:
            print(said, file=sys.stderr)
    return state, tokenizer


def settle_micro_batch(config: TrainConfig, newest: Path | None, world: World) -> TrainConfig:
    """Settle --micro_batch: as given, as the run had it before, or a step's batch shared by the processes.

    It shapes the data, so a run that continues with more or fewer processes keeps it.
    """
    if config.micro_batch:
        return config
    before = read_about(newest).get("run", {}).get("micro_batch", 0) if newest else 0
    return replace(config, micro_batch=before or max(1, config.batch_size // world.size))


def starting_model(run: Run) -> tuple[VLM, Tokenizer]:
    """Read the model folder of --init, or make fresh weights of the preset, for the sizes of --views.

    Raises:
        UsageError: the folder holds another preset, --tokenizer was also given, or --views is unusable.
    """
    config = run.config
    views = parse_views(config.views)
    if not config.init:
        tokenizer = load_tokenizer(config)
        sizes = preset(config.preset, tokenizer.vocab_size)
        return new_model(run, resized_config(sizes, views), tokenizer), tokenizer
    if config.tokenizer:
        raise UsageError("--init brings its own tokenizer: leave --tokenizer out")
    model, tokenizer = load_model(config.init, device=run.first_home, compute_dtype=config.compute_dtype)
    if model.config.name != config.preset:
        raise UsageError(
            f"--init={config.init} is of preset {model.config.name}: give --preset={model.config.name}"
        )
    return with_views(model, views) if views else model, tokenizer


def lengthen(model: VLM, positions: int) -> None:
    """Give the model at least `positions` positions. Its checkpoints record them from here on.

    Rotary positions are computed and not stored, so no weight changes. Positions beyond the old length are
    extrapolated until the run has trained them (d20 comes with 2,048; the paper's stages use 4,096 and
    8,192).
    """
    sizes = model.config
    # Never shorten: a model that can hold more than the run needs keeps its positions.
    if positions > sizes.gpt.sequence_len:
        model.config = replace(sizes, gpt=replace(sizes.gpt, sequence_len=positions))


def take_over_heads(heads: GlyphLosses, folder: Path) -> str:
    """Load the glyph heads of a training step into fresh ones, if that step has any. Returns what it did.

    Fresh heads send noise into the encoder for some hundred steps. Plain model folders have no heads, and
    neither have steps that were trained without them.
    """
    saved = load_state(folder).get("heads") if (folder / STATE).is_file() else None
    if saved is None:
        return f"glyph heads: fresh, since {folder} holds none"
    wanted = {name: tensor.shape for name, tensor in heads.state_dict().items()}
    # Heads of another preset or a smaller alphabet would name the wrong classes, if they loaded at all.
    if {name: tensor.shape for name, tensor in saved.items()} != wanted:
        return f"glyph heads: fresh, since those of {folder} have another shape"
    heads.load_state_dict(saved)
    return f"glyph heads: those of {folder}"


def prepare_machine(config: TrainConfig, world: World) -> None:
    """Set threads and seed, and fail early if the device or the compiler is missing.

    Raises:
        UsageError: there is no such device, or --shard or --compile cannot work here.
    """
    # oneDNN keeps 1,024 compiled products. Texts of ever new lengths fill them with a gigabyte (docs/log.md).
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "400")
    device = check_device(config.device)
    # Ranks of one machine share its processors, unless --threads says what each one gets.
    torch.set_num_threads(max(1, config.num_threads // (1 if config.threads else world.size)))
    torch.manual_seed(config.seed)
    told = note_on_dtype(config.dtype, device)
    if told and world.is_main:
        print(told, file=sys.stderr)
    if config.shard:
        check_shard(world)
    if config.compile:
        try:
            # Compiling a tiny function shows within seconds whether a compiler works. The training step would
            # only show it after minutes.
            torch.compile(torch.neg)(torch.ones(1, device=world.device))
        except Exception as error:  # torch's compilers raise errors without a common class
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise UsageError(f"--compile does not work here ({reason}): leave the flag out") from error


def resolve_recipe(config: TrainConfig, stage: int) -> Recipe:
    """The recipe with the given flags applied."""
    named = recipe(config.recipe, stage)
    # `parse_mix` reads any list of NAME:NUMBER.
    factors = parse_mix(config.rates, (*COMPONENTS, *ENDS.values()), "--rates") if config.rates else {}
    over = {
        "factors": tuple({**dict(named.factors), **factors}.items()),
        "trained": parse_components(config.trained) or named.trained,
        "optimizer": config.optimizer or named.optimizer,
        "schedule": config.schedule or named.schedule,
        "lr": named.lr if config.lr < 0 else config.lr,
        "muon_lr": named.muon_lr if config.muon_lr < 0 else config.muon_lr,
        "warmup": named.warmup if config.warmup < 0 else config.warmup,
        "glyph_weight": named.glyph_weight if config.glyph_weight < 0 else config.glyph_weight,
        "feature_weight": config.feature_weight,
    }
    # Recipes for AdamW have Muon rate zero, which would silently train nothing.
    if over["optimizer"] == "muon" and over["muon_lr"] == 0:
        raise UsageError(f"--recipe={config.recipe} has no rate for muon: give --muon_lr as well")
    if config.glyph_only > 0 and not over["glyph_weight"]:
        raise UsageError("--glyph_only needs a glyph loss: give --glyph_weight or --recipe=scratch")
    if config.glyph_only > 0 and config.text_ratio > 0:
        raise UsageError("--glyph_only learns nothing from rows of text: leave --text_ratio out")
    if "gundam" in config.modes and not (config.data or config.tasks):
        raise UsageError(
            f"--modes={config.modes}: drawn pictures are smaller than a tile; name --tasks or a --data file"
        )
    return replace(named, **over)  # type: ignore[arg-type]


def parse_components(text: str) -> tuple[str, ...]:
    """Parse `clip,gpt` into ("clip", "gpt").

    Raises:
        UsageError: a word is no component.
    """
    names = tuple(text.split(",")) if text else ()
    if unknown := [name for name in names if name not in COMPONENTS]:
        raise UsageError(f"--trained={text}: {unknown[0]!r} is none of {', '.join(COMPONENTS)}")
    return names


def load_tokenizer(config: TrainConfig) -> Tokenizer:
    """Load the tokenizer of the run."""
    return Tokenizer.from_file(config.tokenizer) if config.tokenizer else Tokenizer.bytes()


def check_unfinished(run: Run, newest: Path) -> None:
    """Refuse to continue a run that is complete.

    Raises:
        UsageError: the newest step is the last one, and its validation was made.
    """
    step, steps = step_number(newest), run.config.steps
    # A run at its last step may still lack the validation, if a kill prevented it.
    only_look = step == steps and run.config.eval_samples and validation_is_due(run, step)
    if step >= steps and not only_look:
        raise UsageError(f"{run.folder} is at step {step} already: give more --steps to go on")


def new_model(run: Run, sizes: ModelConfig, tokenizer: Tokenizer) -> VLM:
    """A model with fresh weights on the run's device. The same --seed gives the same weights."""
    model = VLM(sizes, image_id=tokenizer.image_id, compute_dtype=run.config.compute_dtype)
    model.init_weights(run.config.seed)
    return model.to(run.first_home)
