"""Measures training steps of the recipes deepseek and llava on a GPU: MFU, and memory beside the plan.

python -m scripts.gpu.train --preset=d20 --device=cuda

The steps are those of nanoocr/train/step.py on synthetic pages, packed into sequences. All cores make the
batches before the clock runs, and the steps go through them again and again. So this measures the GPU, and
the speed of making data is given beside it. Operations are counted by component, for the components that
really train (nanoocr/model/flops.py). `MFU, causal` leaves out the hidden half of the GPT's attention. If a
batch does not fit, half of it is tried.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean, median
from typing import Any

import torch

from nanoocr.commandline import parse, run
from nanoocr.config import ModelConfig, preset
from nanoocr.data.loader import Delivery, multimodal_data_generator
from nanoocr.image_process import MODES
from nanoocr.tasks.choose import make_task
from nanoocr.train.config import TrainConfig
from nanoocr.train.data import plan_data
from nanoocr.train.distributed import World
from nanoocr.train.recipes import Recipe
from nanoocr.train.recipes import recipe as find_recipe
from nanoocr.train.run import Run
from nanoocr.train.setup import load_tokenizer
from nanoocr.train.state import TrainState, build_state
from nanoocr.train.step import train_step
from scripts.bench.train import Stopwatch, time_parts, timed_step
from scripts.common import timed
from scripts.gpu.part import (
    PartConfig,
    Results,
    peak_gb,
    random_model,
    release,
    share_of,
    start_peak,
)
from scripts.memory_plan import PlanConfig, plan_memory

WARM_UP = 2  # steps before the clock runs
# Drawn pages have a tenth of a real page's text. Rows of text alone fill the sequences, so that one of 8,192
# positions has 6 pictures, as the memory plan assumes.
POSITIONS_PER_PICTURE, TEXT_ROWS = 1365, 0.8
COLUMNS = {
    "sequences": ("sequences", "d"),
    "pictures": ("pictures", ".0f"),
    "step_s": ("step s", ".3f"),
    "tflops": ("TFLOP/s", ".1f"),
    "mfu": ("MFU", ".1%"),
    "mfu_causal": ("MFU, causal", ".1%"),
    "memory_gb": ("peak GB", ".1f"),
    "plan_gb": ("plan GB", ".1f"),
    "waits": ("waits", "d"),
    "data_s": ("data s a step", ".2f"),
    "split": ("time by phase", ""),
}


@dataclass(frozen=True)
class GpuTrainConfig(PartConfig):
    """Measures training steps on the device."""

    steps: int = 6  # timed steps of each case; the median counts
    sequences: int = 4  # sequences per step; halved if they do not fit
    workers: int = 14  # processes that draw pages
    compile: bool = True  # measure recipe deepseek compiled, too


@dataclass(frozen=True)
class Case:
    """One row of the table."""

    name: str
    stage: int
    length: int  # positions of a sequence
    compile: bool = False

    def __str__(self) -> str:
        return f"{self.name} {self.stage}, sequences of {self.length}{', compiled' if self.compile else ''}"


def cases(config: GpuTrainConfig) -> list[Case]:
    """The cases, first those with goals: the paper's lengths are 4,096 in stage 1 and 8,192 in stage 2."""
    short, long = (256, 512) if config.miniature else (4096, 8192)
    plain = [Case("deepseek", 2, long), Case("deepseek", 1, short), Case("llava", 2, long)]
    fused = [replace(case, compile=True) for case in plain[:2]] if config.compile else []
    return [*plain, Case("llava", 1, short), *fused]


def flags_of(config: GpuTrainConfig, case: Case, sequences: int) -> TrainConfig:
    """The flags of the imitated training run."""
    return TrainConfig(
        preset=config.preset,
        recipe=case.name,
        device=config.device,
        steps=WARM_UP + config.steps,
        batch_size=sequences,
        micro_batch=sequences,
        pack=True,
        max_length=case.length,
        max_pictures=max(1, case.length // POSITIONS_PER_PICTURE),
        text_ratio=TEXT_ROWS,
        mix="receipt:1,paragraph:1,form:1,table:1",
        modes="" if config.miniature else "base",
        workers=config.workers,
        turns=max(1, config.workers),
        compile=case.compile,
        eval_samples=0,
    )


def sizes_of(case: Case, config: GpuTrainConfig) -> ModelConfig:
    """The preset with its own vocabulary, whose output matrix is expensive, and with enough positions."""
    sizes = preset(config.preset)
    longest = max(case.length, sizes.gpt.sequence_len)
    return replace(sizes, gpt=replace(sizes.gpt, sequence_len=longest))


def make_batches(flags: TrainConfig, sizes: ModelConfig) -> tuple[list[Delivery], float]:
    """The batches of all steps, and the seconds for one more while all cores draw."""
    tokenizer = load_tokenizer(flags)
    data = plan_data(flags, sizes, tokenizer, make_task)
    made, times = list[Delivery](), list[float]()
    for (delivery,) in multimodal_data_generator(
        data, workers=flags.workers, pin_memory=flags.device == "cuda"
    ):
        times.append(time.monotonic())
        made.append(delivery)
    # The first batches come together, after every process has filled its queue.
    return made, (times[-1] - times[0]) / max(1, len(times) - 1)


def new_state(flags: TrainConfig, sizes: ModelConfig, recipe: Recipe) -> TrainState:
    """A model with random weights, drawn on the device, and its optimisers."""
    device, tokenizer = torch.device(flags.device), load_tokenizer(flags)
    model = random_model(sizes, device, flags.compute_dtype)
    model.image_id = tokenizer.image_id
    return build_state(Run(flags, recipe, world=World(device=flags.device)), model)


Made = dict[tuple[int, int], tuple[list[Delivery], float]]  # keyed by (length, sequences per step)


def measure_case(config: GpuTrainConfig, case: Case, made: Made, peak: float | None) -> dict[str, Any]:
    """Measure one recipe and stage, with half the sequences until a step fits. Equal lengths share `made`."""
    sequences = 1 if config.miniature else config.sequences
    while True:
        try:
            return measure_sequences(config, case, sequences, made, peak)
        except torch.OutOfMemoryError:
            if sequences == 1:
                raise
            sequences //= 2
        release(config.torch_device)  # outside the handler, because its error keeps tensors alive


def measure_sequences(
    config: GpuTrainConfig, case: Case, sequences: int, made: Made, peak: float | None
) -> dict[str, Any]:
    """Measure steps: time, operations, memory, phases, and how often the CPU waits for the GPU."""
    flags, sizes = flags_of(config, case, sequences), sizes_of(case, config)
    device, recipe = torch.device(flags.device), find_recipe(case.name, case.stage)
    if (case.length, sequences) not in made:
        made[case.length, sequences] = make_batches(flags, sizes)
    batches, data_s = made[case.length, sequences]
    start_peak(device)
    state = new_state(flags, sizes, recipe)
    world, seconds, flops, hidden = World(device=flags.device), list[float](), 0.0, 0.0
    for number, delivery in enumerate(batches):
        found: list[Any] = []

        def step(delivery: Delivery = delivery, found: list[Any] = found) -> None:
            found.append(train_step(Run(flags, recipe, world=world), state, [delivery]))

        took = timed(step, device)
        if number >= WARM_UP:
            seconds.append(took)
            flops += sum(found[0].flops.values()) / config.steps
            hidden += hidden_flops(sizes, recipe, delivery) / config.steps
    memory = peak_gb(device)
    rate = flops / median(seconds) / 1e12
    return {
        "sequences": sequences,
        "pictures": fmean(delivery.batch.num_views for delivery in batches),
        "step_s": median(seconds),
        "tflops": rate,
        "mfu": share_of(rate, peak),
        "mfu_causal": share_of(rate * (1 - hidden / flops), peak),
        "flop_shares": {name: value / flops for name, value in found[0].flops.items()},
        "memory_gb": memory,
        "plan_gb": planned_gb(config, case, sequences, [delivery.batch.num_views for delivery in batches]),
        "data_s": data_s,
        "waits": count_waits(state, batches[0], recipe, flags),
        **phases(state, batches[WARM_UP:], recipe, device),
    }


def hidden_flops(sizes: ModelConfig, recipe: Recipe, delivery: Delivery) -> float:
    """Operations of the GPT's attention on hidden pairs, half of all, in every pass of a step."""
    passes = 3 if "gpt" in recipe.trained else 2  # a frozen GPT still passes gradients on to the projector
    return passes * sizes.gpt.n_layer * 2.0 * delivery.batch.num_pairs * sizes.gpt.n_embd


def planned_gb(config: GpuTrainConfig, case: Case, sequences: int, pictures: Sequence[int]) -> float:
    """The memory that scripts.memory_plan expects for the step with the most pictures."""
    sizes = preset(config.preset)
    view = sizes.views[0][0] if config.miniature else MODES["base"].side
    plan = PlanConfig(
        config.preset,
        2 if case.stage == 2 else 1,
        case.name,
        case.length,
        sequences,
        max(1, round(max(pictures) / sequences)),
        0 if config.miniature else view,
        dtype="bfloat16" if config.device == "cuda" else "float32",
        attention="fused" if config.device == "cuda" else "plain",
    )
    return sum(plan_memory(plan).values())


def count_waits(state: TrainState, delivery: Delivery, recipe: Recipe, flags: TrainConfig) -> int | None:
    """How often a step makes the CPU wait for the GPU, by torch's own warnings; None without a GPU."""
    if flags.device != "cuda":
        return None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            train_step(Run(flags, recipe, world=World(device=flags.device)), state, [delivery])
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(warning.message) for warning in caught)


def phases(
    state: TrainState, batches: Sequence[Delivery], recipe: Recipe, device: torch.device
) -> dict[str, Any]:
    """Share of a step's time by phase. Each phase is waited for, so their sum is above a real step."""
    watch = Stopwatch(device)
    time_parts(state, watch)
    for delivery in batches:
        timed_step(state, delivery.batch, recipe, watch)
    inside = ("vision forward", "GPT forward and loss")
    total = sum(value for name, value in watch.seconds.items() if name not in inside)
    shares = {name: value / total for name, value in watch.seconds.items()}
    named = {"vision": inside[0], "GPT": inside[1], "backward": "backward", "update": "AdamW"}
    split = " ".join(f"{short} {shares.get(name, 0.0):.0%}" for short, name in named.items())
    return {"phase_shares": shares, "split": split}


def main(argv: list[str] | None = None) -> int:
    """Measure case by case."""
    config = parse(GpuTrainConfig, argv)
    results, made = Results("train", config), Made()
    peak = results.about.get("peak_tflops")
    for case in cases(config):
        results.measure(str(case), partial(measure_case, config, case, made, peak))
    return results.finish(COLUMNS)


if __name__ == "__main__":
    sys.exit(run(main))
