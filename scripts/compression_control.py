"""What does the picture add to compression? The control of arXiv 2512.03643, small enough for one core.

python -m scripts.compression_control --out=out/control

One text of --characters characters reaches the decoder in characters / ratio vectors, in three ways:

- picture: the text is drawn, and the vectors are the vision tokens of the picture;
- mean: each vector is the mean of the embeddings of `ratio` neighbouring characters;
- placed: the same, but each place in the window has an embedding table of its own, so that order is kept.

In every way the decoder starts from the packaged GPT, trains on the same texts in the same order with the
same optimiser and rates for --seconds of processor time, and must give the text back, character by character.
All parts train that the vectors pass through. The encoder of pictures starts from the packaged one, which has
been trained for hours, and the tables from the GPT's own embeddings: this favours the picture.

Results are written to --out after each ratio, so an interrupted measurement continues where it was.
control.json and control.svg are written there. The last line on stdout is the JSON.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import torch
from rich import box
from rich.table import Table
from torch import Tensor

from nanoocr.bpe import Tokenizer
from nanoocr.commandline import parse, run
from nanoocr.config import CELL, PROMPT
from nanoocr.data.synth import VALIDATION_SEED, find_fonts, text
from nanoocr.data.synth.dice import Dice
from nanoocr.data.synth.fonts import Font
from nanoocr.data.synth.length import draw_page
from nanoocr.errors import UsageError
from nanoocr.eval.compression import NATURAL, RANDOM, phase_of
from nanoocr.eval.console import result_console
from nanoocr.eval.evaluate import split_names
from nanoocr.eval.metrics import bootstrap_interval, character_error_rate
from nanoocr.eval.plots import new_figure, plot_control
from nanoocr.files import parse_json, write_file
from nanoocr.image_process import fit_picture, normalised
from nanoocr.inference.engine import never_generated
from nanoocr.inference.reader import default_model_folder
from nanoocr.machine import has_fast_bf16, machine, use_threads
from nanoocr.model.folder import load_model, model_folder
from nanoocr.model.pooled_text import PooledText
from nanoocr.model.vlm import IGNORE, VLM
from nanoocr.tokenizer import render_conversation, render_for_completion
from nanoocr.train.optim import learning_rate_factor
from nanoocr.train.recipes import ALL, Recipe, make_optimizers
from scripts.common import command_line

PICTURE, MEAN, PLACED = "picture", "mean", "placed"
WAYS = (PICTURE, MEAN, PLACED)
KINDS = {NATURAL: text.sentence, RANDOM: text.random_token}
LONGEST_WORD = 10  # characters; a longer one fits on no line of the smallest picture
LETTERS = 44  # pixels of the largest letters: those of the strips that the model reads
BATCH = 16
SAY_EVERY = 25  # steps between two lines of progress
TRAIN_SEED = 0  # the held-out texts are those of VALIDATION_SEED
EVAL_BATCH = 50


@dataclass(frozen=True)
class ControlConfig:
    """Trains a decoder to give texts back from vision tokens and from pooled embeddings, equally long."""

    out: str  # folder for control.json and control.svg; an interrupted measurement continues in it
    model: str = "shipped"  # model folder, training step, run folder, or shipped
    ratios: str = "2,4,8,12"  # characters per vector, measured in this order
    ways: str = ",".join(WAYS)  # picture, mean, placed
    characters: int = 24  # of each text; every ratio must divide it
    seconds: float = 45.0  # processor time of training for each way and ratio
    texts: int = 60  # held-out texts of each kind
    lr: float = 3e-3  # AdamW's rate
    muon_lr: float = 1.2e-2  # Muon's rate
    threads: int = 1  # torch threads

    def __post_init__(self) -> None:
        """Refuse what cannot be measured."""
        if self.texts < 2 or not self.seconds > 0 or self.characters < 1:
            raise UsageError("--texts must be at least 2, --characters at least 1 and --seconds above 0")


class Sample(NamedTuple):
    """A text as every way gets it."""

    text: str
    kind: str  # NATURAL or RANDOM
    font: Font


# ---------------------------------------------------------------------------------------------------
# Texts and pictures


def draw_text(dice: Dice, kind: str, characters: int) -> str:
    """Words with one blank between them, exactly `characters` long: the last one is cut."""
    written = ""
    while len(written) < characters:
        words = KINDS[kind](dice).split()
        written = " ".join([*written.split(), *(word for word in words if len(word) <= LONGEST_WORD)])
    # A blank at the end would not be seen on a picture.
    if written[characters - 1] == " ":
        written = written[: characters - 1] + "."
    return written[:characters]


def samples_of(seed: int, first: int, count: int, characters: int, fonts: Sequence[Font]) -> list[Sample]:
    """The samples number first .. first + count - 1, natural and random texts in turn."""
    drawn = []
    for index in range(first, first + count):
        dice = Dice.for_sample(f"control {characters}", seed, index)
        kind = RANDOM if index % 2 else NATURAL
        drawn.append(Sample(draw_text(dice, kind, characters), kind, dice.pick(fonts)))
    return drawn


def draw_view(sample: Sample, cells: int) -> Tensor:
    """(3, 64, 64 * cells) in [-1, 1]: the text in the largest letters that fit, on as many lines as it takes.

    Raises:
        UsageError: it does not fit in the smallest letters.
    """
    size = (CELL, CELL * cells)
    drawn = draw_page(Dice(0), sample.font, size, sample.text.split(), largest=LETTERS)
    if drawn is None:
        raise UsageError(f"{sample.text!r} does not fit on a picture of {cells} vision tokens")
    return normalised(fit_picture(drawn[0], [size])).overview


# ---------------------------------------------------------------------------------------------------
# One way


class Way:
    """A model, and what turns texts into the vectors that it reads."""

    def __init__(self, name: str, ratio: int, model: VLM, tokenizer: Tokenizer) -> None:
        self.name, self.ratio, self.model, self.tokenizer = name, ratio, model, tokenizer
        table = model.gpt.transformer.wte.weight
        self.pooled = None if name == PICTURE else PooledText(table, ratio, placed=name == PLACED)

    def inputs(self, samples: Sequence[Sample]) -> Tensor:
        """Pictures (B, 3, 64, 64 N) in [-1, 1] and the compute dtype, or the ids (B, T) of the texts."""
        if self.pooled is None:
            views = [draw_view(sample, len(sample.text) // self.ratio) for sample in samples]
            return torch.stack(views).to(self.model.compute_dtype)
        return torch.tensor([self.tokenizer.encode(sample.text) for sample in samples])

    def prefix(self, inputs: Tensor) -> Tensor:
        """Inputs -> (B, N + 2, C): the vectors, and behind them a picture's newline and separator."""
        if self.pooled is None:
            return self.model.encoder(inputs).tokens
        # The same places and the same two closing vectors as a picture has: only the vectors differ.
        return self.model.encoder.arrange(self.pooled(inputs)[:, None].to(self.model.compute_dtype))

    def embed(self, ids_BT: Tensor, prefix_BNC: Tensor) -> Tensor:
        """(B, T, C): ids, with the prefix in the place of their `<|image|>` ids."""
        return self.model.embed(ids_BT, prefix_BNC.flatten(0, 1))


def conversation(answer: str) -> dict[str, Any]:
    """The packaged model's own question about one picture, and the answer."""
    question = {"role": "user", "content": f"<image>\n{PROMPT}"}
    return {"messages": [question, {"role": "assistant", "content": [{"type": "text", "text": answer}]}]}


def loss_of(way: Way, samples: Sequence[Sample], inputs: Tensor | None = None) -> Tensor:
    """Nats per supervised token; `inputs` are those of `way.inputs`, where they are made already."""
    prefix_BNC = way.prefix(way.inputs(samples) if inputs is None else inputs)
    counts = [prefix_BNC.size(1)]
    rows = [
        render_conversation(conversation(s.text), way.tokenizer, image_token_counts=counts) for s in samples
    ]
    # All texts are equally long and a token is a byte, so nothing has to be padded.
    ids_BT, mask_BT = (torch.tensor(part) for part in zip(*rows))
    targets_BT = ids_BT[:, 1:].masked_fill(mask_BT[:, 1:] == 0, IGNORE)
    hidden_BTC = way.model.gpt(way.embed(ids_BT[:, :-1], prefix_BNC))
    return way.model.loss(hidden_BTC, targets_BT).mean


@torch.inference_mode()
def read_back(way: Way, samples: Sequence[Sample]) -> list[str]:
    """What the decoder says when it takes the likeliest token each time."""
    model, tokenizer = way.model, way.tokenizer
    prefix_BNC = way.prefix(way.inputs(samples))
    prompt = render_for_completion(conversation(""), tokenizer, image_token_counts=[prefix_BNC.size(1)])
    most = len(samples[0].text) + 4  # an answer that is too long is wrong, but it shall end
    cache = model.new_cache(batch=len(samples), capacity=len(prompt) + most)
    never_V = never_generated(model, tokenizer)
    x_BTC, said = way.embed(torch.tensor([prompt] * len(samples)), prefix_BNC), []
    for _ in range(most):
        hidden_BC = model.gpt(x_BTC, cache)[:, -1]
        cache.lengths += x_BTC.size(1)
        said.append(model.logits(hidden_BC).masked_fill(never_V, float("-inf")).argmax(dim=-1))
        x_BTC = model.embed(said[-1][:, None])
    rows, end = torch.stack(said, dim=1).tolist(), tokenizer.assistant_end_id
    return [tokenizer.decode(row[: row.index(end)] if end in row else row) for row in rows]


def measure(way: Way, samples: Sequence[Sample]) -> dict[str, Any]:
    """Of each kind of text: mean CER, where that lies in 95 % of resamplings, the phase, and bits per token.

    Bits are what the decoder still needs to know of each token when it is told the right ones before it. They
    fall long before the CER does.
    """
    found = {}
    for kind in KINDS:
        those = [sample for sample in samples if sample.kind == kind]
        parts = [those[i : i + EVAL_BATCH] for i in range(0, len(those), EVAL_BATCH)]
        said = [answer for part in parts for answer in read_back(way, part)]
        rates = [character_error_rate(answer, s.text) for answer, s in zip(said, those, strict=True)]
        low, high = bootstrap_interval(rates)
        with torch.inference_mode():
            nats = sum(len(part) * loss_of(way, part).item() for part in parts) / len(those)
        error = {"cer": fmean(rates), "low": low, "high": high, "phase": phase_of(fmean(rates))}
        found[kind] = {**error, "bits": nats / math.log(2)}
    return found


# ---------------------------------------------------------------------------------------------------
# Training


class Training:
    """One way under training, and the processor time that its steps have taken."""

    def __init__(self, config: ControlConfig, way: Way) -> None:
        self.config, self.way, self.steps, self.seconds = config, way, 0, 0.0
        recipe = Recipe(ALL, "muon", config.lr, config.muon_lr, "trapezoid", 0.0, 0.0)
        self.optimizers = make_optimizers(way.model, way.pooled, recipe, weight_decay=0.0, polar_steps=3)

    def step(self, fonts: Sequence[Font]) -> None:
        """One step; the same texts for every way. Drawing them is not counted: another core could do it."""
        samples = samples_of(TRAIN_SEED, self.steps * BATCH, BATCH, self.config.characters, fonts)
        inputs = self.way.inputs(samples)
        started = time.process_time()
        # By time and not by steps, which are dearer for one way than for another.
        set_rates(self.optimizers, self.seconds / self.config.seconds)
        loss = loss_of(self.way, samples, inputs)
        loss.backward()
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        self.seconds, self.steps = self.seconds + time.process_time() - started, self.steps + 1
        if self.steps % SAY_EVERY == 0:
            say(f"{self.way.name}: {self.steps} steps, {self.seconds:.0f} s, loss {loss.item():.3f}")


def train_together(trainings: Sequence[Training], fonts: Sequence[Font]) -> None:
    """Train until each has had its time; the next step is of the one that has had the least.

    Step by step in turn, because other work on the machine makes every processor second worth less.
    """
    while unfinished := [one for one in trainings if one.seconds < one.config.seconds]:
        min(unfinished, key=lambda one: one.seconds).step(fonts)


def say(text: str) -> None:
    """A line of progress on stderr."""
    print(text, file=sys.stderr, flush=True)


def set_rates(optimizers: Sequence[torch.optim.Optimizer], share: float) -> None:
    """Set the rates for the moment at which `share` of the time has passed; they fall to 0 at its end."""
    factor = learning_rate_factor(round(1000 * share), 1000, schedule="trapezoid", warmup=0, cooldown=0.6)
    for group in (group for optimizer in optimizers for group in optimizer.param_groups):
        group["lr"] = group["base_lr"] * max(0.0, factor)


# ---------------------------------------------------------------------------------------------------
# The measurement


def settings(config: ControlConfig) -> dict[str, Any]:
    """What results of one folder must have in common."""
    return {name: value for name, value in asdict(config).items() if name not in ("out", "ratios", "ways")}


def stored_points(path: Path, config: ControlConfig) -> list[dict[str, Any]]:
    """What an earlier run has measured.

    Raises:
        UsageError: it was measured with other settings.
    """
    if not path.is_file():
        return []
    stored = parse_json(path.read_bytes())
    if stored["settings"] != settings(config):
        raise UsageError(f"{path} holds results of other settings: choose another --out, or delete it")
    return list(stored["points"])


def measured_ratio(
    config: ControlConfig, ratio: int, names: Sequence[str], folder: Path, fonts: Sequence[Font]
) -> list[dict[str, Any]]:
    """Train the named ways together at one ratio: a point for each before, and one after."""
    # Training takes half the time in bf16 where a processor multiplies it, as in nanoocr/train.
    dtype = torch.bfloat16 if has_fast_bf16("cpu") else torch.float32
    ways = [Way(name, ratio, *load_model(folder, compute_dtype=dtype)) for name in names]
    trainings = [Training(config, way) for way in ways]
    held_out = samples_of(VALIDATION_SEED, 0, 2 * config.texts, config.characters, fonts)
    points: list[dict[str, Any]] = []

    def look() -> None:
        """Measure every way on the held-out texts, and keep and print its point."""
        for one in trainings:
            found = measure(one.way, held_out)
            about = {"way": one.way.name, "ratio": ratio, "steps": one.steps, "seconds": one.seconds}
            points.append({**about, **found})
            errors = ", ".join(f"{k} {found[k]['cer']:.1%} ({found[k]['bits']:.2f} bits)" for k in KINDS)
            say(f"{one.way.name}, ratio {ratio}, {one.steps} steps: {errors}")

    look()
    train_together(trainings, fonts)
    look()
    return points


def plan_of(config: ControlConfig, points: Sequence[Mapping[str, Any]]) -> dict[int, list[str]]:
    """The ways to train at each ratio: those that `points` do not have.

    Raises:
        UsageError: a ratio does not divide the length of the texts, or a way is unknown.
    """
    ratios, ways = split_names(config.ratios), split_names(config.ways)
    if unknown := set(ways) - set(WAYS):
        raise UsageError(f"--ways={config.ways}: {sorted(unknown)[0]} is none of {', '.join(WAYS)}")
    if not all(r.isascii() and r.isdigit() and int(r) and config.characters % int(r) == 0 for r in ratios):
        raise UsageError(f"--ratios={config.ratios}: write whole numbers that divide {config.characters}")
    known = {(point["ratio"], point["way"]) for point in points}
    missing = {int(ratio): [way for way in ways if (int(ratio), way) not in known] for ratio in ratios}
    return {ratio: names for ratio, names in missing.items() if names}


def control_table(points: Sequence[Mapping[str, Any]]) -> Table:
    """One line per way and ratio before training, and one after."""
    table = Table("characters/vector", "way", "steps", "seconds", *KINDS, box=box.SIMPLE_HEAD)
    for p in points:
        cells = [f"{p[kind]['cer']:.1%} {p[kind]['phase']}, {p[kind]['bits']:.2f} bits" for kind in KINDS]
        table.add_row(str(p["ratio"]), p["way"], str(p["steps"]), f"{p['seconds']:.0f}", *cells)
    return table


def main(argv: list[str] | None = None) -> None:
    """Measure what is missing, print, write."""
    config = parse(ControlConfig, argv)
    new_figure(1, 1)  # A missing matplotlib should show before the work, not after it.
    use_threads(config.threads)
    folder = default_model_folder() if config.model == "shipped" else model_folder(config.model)
    path, fonts = Path(config.out, "control.json"), find_fonts()
    points = stored_points(path, config)
    command = command_line("scripts.compression_control", argv)
    results: dict[str, Any] = {"settings": settings(config), "command": command, "points": points}
    for ratio, names in plan_of(config, points).items():
        points += measured_ratio(config, ratio, names, folder, fonts)
        write_file(path, json.dumps({**results, "machine": machine()}, indent=1).encode())
    result_console().print(control_table(points))
    write_file(path.with_suffix(".svg"), plot_control(points))
    print(json.dumps(results))


if __name__ == "__main__":
    sys.exit(run(main))
