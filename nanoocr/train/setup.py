"""From flags to the parts of a run: recipe, data, validation rows, resuming. Shared by both stage scripts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from nanoocr.config import ModelConfig, preset
from nanoocr.data.loader import (
    POOL,
    BatchMaker,
    Source,
    SynthMix,
    parse_curriculum,
    parse_mix,
    prepare,
    rows_source,
)
from nanoocr.data.rows import Row, read_rows, row_from_synth
from nanoocr.data.synth import KINDS, VALIDATION_SEED, find_fonts, make_sample
from nanoocr.errors import UsageError
from nanoocr.image_process import MODES
from nanoocr.model.vlm import VLM
from nanoocr.tokenizer import Tokenizer
from nanoocr.train.checkpoint import complete_steps, load_model
from nanoocr.train.config import TrainConfig
from nanoocr.train.loop import TrainState, build_state, resume, train
from nanoocr.train.recipes import COMPONENTS, Recipe, recipe


def run_stage(config: TrainConfig, stage: int, load_encoder: Callable[[VLM], None] | None = None) -> None:
    """Train stage 1 or 2 as the flags say, from nothing or from the newest checkpoint of the run.

    `load_encoder` puts weights into the encoder of a fresh run: stage 2 starts from what stage 1 left.
    """
    prepare_machine(config)
    chosen = resolve_recipe(config, stage)
    resumed = find_resume(config, chosen, stage)
    if resumed is None:
        model, tokenizer = starting_model(config)
        if load_encoder is not None:
            load_encoder(model)
        state = build_state(model, chosen, config)
    else:
        state, tokenizer = resumed
    maker = make_batches(config, state.model.config, tokenizer)
    rows = validation_rows(config)
    check_validation(rows, maker, state.model.config)
    train(state, tokenizer, maker, rows, chosen, config, stage)


def starting_model(config: TrainConfig) -> tuple[VLM, Tokenizer]:
    """The model folder that --init names, or fresh weights of the preset.

    Raises:
        UsageError: the folder holds another preset, or --tokenizer was given as well.
    """
    if not config.init:
        tokenizer = load_tokenizer(config)
        return new_model(config, preset(config.preset, tokenizer.vocab_size), tokenizer), tokenizer
    if config.tokenizer:
        raise UsageError("--init brings its own tokenizer: leave --tokenizer out")
    model, tokenizer = load_model(config.init, device=config.device, compute_dtype=config.compute_dtype)
    if model.config.name != config.preset:
        raise UsageError(
            f"--init={config.init} is of preset {model.config.name}: give --preset={model.config.name}"
        )
    return model, tokenizer


def prepare_machine(config: TrainConfig) -> None:
    """Threads, seed, and an early word when the device or the compiler is not there.

    Raises:
        UsageError: no such device, or --compile where torch.compile does not work.
    """
    torch.set_num_threads(config.num_threads)
    torch.manual_seed(config.seed)
    try:
        torch.empty(0, device=config.device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"--device={config.device} is not available here") from error
    if config.compile:
        try:
            torch.compile(torch.neg)(torch.ones(1, device=config.device))
        except Exception as error:  # torch has no common class for what its compilers raise
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise UsageError(f"--compile does not work here ({reason}): leave the flag out") from error


def resolve_recipe(config: TrainConfig, stage: int) -> Recipe:
    """The recipe with the flags that were given put over it."""
    chosen = recipe(config.recipe, stage)
    over = {
        "trained": parse_components(config.trained) or chosen.trained,
        "optimizer": config.optimizer or chosen.optimizer,
        "schedule": config.schedule or chosen.schedule,
        "lr": chosen.lr if config.lr < 0 else config.lr,
        "muon_lr": chosen.muon_lr if config.muon_lr < 0 else config.muon_lr,
        "warmup": chosen.warmup if config.warmup < 0 else config.warmup,
        "glyph_weight": chosen.glyph_weight if config.glyph_weight < 0 else config.glyph_weight,
    }
    if over["optimizer"] == "muon" and over["muon_lr"] == 0:
        raise UsageError(f"--recipe={config.recipe} has no rate for muon: give --muon_lr as well")
    if config.glyph_only > 0 and not over["glyph_weight"]:
        raise UsageError("--glyph_only needs a glyph loss: give --glyph_weight or --recipe=scratch")
    if config.glyph_only > 0 and config.text_ratio > 0:
        raise UsageError("--glyph_only learns nothing from rows of text: leave --text_ratio out")
    if "gundam" in config.modes and not config.data:
        raise UsageError(
            f"--modes={config.modes}: drawn pictures are smaller than a tile; name a --data file"
        )
    return replace(chosen, **over)  # type: ignore[arg-type]


def parse_components(text: str) -> tuple[str, ...]:
    """`clip,gpt` -> ("clip", "gpt").

    Raises:
        UsageError: a word that is no component.
    """
    names = tuple(text.split(",")) if text else ()
    if unknown := [name for name in names if name not in COMPONENTS]:
        raise UsageError(f"--trained={text}: {unknown[0]!r} is none of {', '.join(COMPONENTS)}")
    return names


def load_tokenizer(config: TrainConfig) -> Tokenizer:
    """The tokenizer of the run."""
    return Tokenizer.from_file(config.tokenizer) if config.tokenizer else Tokenizer.bytes()


def make_source(config: TrainConfig) -> Source:
    """Rows of the file that --data names, or synthetic ones drawn live."""
    if config.data:
        if config.mix != TrainConfig.mix or config.curriculum != TrainConfig.curriculum or config.text_ratio:
            raise UsageError("--mix, --curriculum and --text_ratio shape drawn rows: not with --data")
        return rows_source(read_rows(config.data), config.seed)
    if config.seed >= VALIDATION_SEED:
        raise UsageError(f"--seed must be below {VALIDATION_SEED}: validation draws from there on")
    return SynthMix(
        kinds=parse_mix(config.mix, tuple(KINDS)),
        fonts=find_fonts(),
        seed=config.seed,
        curriculum=parse_curriculum(config.curriculum),
        text_ratio=config.text_ratio,
    )


def make_batches(config: TrainConfig, model: ModelConfig, tokenizer: Tokenizer) -> BatchMaker:
    """The training data of the run."""
    return BatchMaker(
        source=make_source(config),
        tokenizer=tokenizer,
        views=model.views,
        batch_size=config.batch_size,
        steps=config.steps,
        seed=config.seed,
        max_length=config.max_length or model.gpt.sequence_len,
        pool=1 if config.data else POOL,
        modes=tuple(parse_mix(config.modes, tuple(MODES), "--modes").items()) if config.modes else (),
        skip_long=not config.data,  # a row that the user gave is never left out
    )


def validation_rows(config: TrainConfig) -> list[Row]:
    """A fixed set of held-out rows: of --eval_data, or the kinds of the mix in turn with seeds of their own.

    A run on a file without --eval_data validates on that file: it is meant to learn it by heart, as the ten
    samples.
    """
    if not config.eval_samples:
        return []
    if config.eval_data or config.data:
        return read_rows(config.eval_data or config.data, limit=config.eval_samples)
    kinds, fonts = list(parse_mix(config.mix, tuple(KINDS))), find_fonts()
    return [
        row_from_synth(
            make_sample(kinds[i % len(kinds)], VALIDATION_SEED, i, fonts=fonts),
            f"{kinds[i % len(kinds)]}/{i}",
        )
        for i in range(config.eval_samples)
    ]


def check_validation(rows: list[Row], maker: BatchMaker, sizes: ModelConfig) -> None:
    """Refuse before training what the first validation could not measure.

    Raises:
        UsageError: a single row, a row without a picture, or one longer than the model's sequence.
    """
    if len(rows) == 1:
        raise UsageError(
            "validation needs two rows, since wrong pictures are other rows': --eval_samples=0 is none"
        )
    for i, row in enumerate(rows):
        if not row.pictures:
            raise UsageError(f"{row.id}: has no picture, but validation reads pictures: name an --eval_data")
        prepare(row, maker.tokenizer, maker.views, sizes.gpt.sequence_len, maker.mode_of(i))


def find_resume(config: TrainConfig, chosen: Recipe, stage: int) -> tuple[TrainState, Tokenizer] | None:
    """The newest complete checkpoint of the run with --resume; None for a fresh run.

    Raises:
        UsageError: the run exists and --resume was not given, or it was given for other sizes.
    """
    run = Path(config.out) / config.run
    steps = complete_steps(run)
    if steps and not config.resume:
        raise UsageError(f"{run} holds checkpoints already: give --resume=True or another --run")
    if not steps:
        return None
    state, tokenizer = resume(steps[-1], chosen, config, stage)
    if state.step >= config.steps:
        raise UsageError(f"{run} is at step {state.step} already: give more --steps to go on")
    return state, tokenizer


def new_model(config: TrainConfig, sizes: ModelConfig, tokenizer: Tokenizer) -> VLM:
    """A model with fresh weights on the run's device."""
    model = VLM(sizes, image_id=tokenizer.image_id, compute_dtype=config.compute_dtype)
    model.init_weights(config.seed)
    return model.to(config.device)
