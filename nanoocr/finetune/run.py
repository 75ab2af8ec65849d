"""`nanoocr finetune` in order: gather, cut, check, part, measure, train, blend, measure, hand over or refuse.

Everything that takes long lies in OUT.work as soon as it is done, under the fingerprint of the data, so that
the same command goes on where it was stopped.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from rich.console import Console
from rich.table import Table

from nanoocr.data.synth.parquet import SCHEMA
from nanoocr.data.task import Task
from nanoocr.errors import NotBetterError, PictureError, UsageError
from nanoocr.files import MANIFEST, read_manifest, write_file
from nanoocr.finetune.agreement import Agreement, agreement, refuse_doubtful
from nanoocr.finetune.blend import blend
from nanoocr.finetune.letters import as_printed, letters_of
from nanoocr.finetune.measure import Measured, Verdict, drawn_rows, judge, measure
from nanoocr.finetune.plan import (
    FinetuneConfig,
    Split,
    seconds_per_step,
    split,
    steps_for,
    strips_of,
    table,
    train_config,
    unseen_characters,
)
from nanoocr.finetune.report import NUMBERS, Story, rows, write_result
from nanoocr.finetune.sources import gather
from nanoocr.finetune.store import fingerprint, load_cuts, save_cuts
from nanoocr.finetune.strips import cut_document
from nanoocr.finetune.task import Asking, OwnStrips, as_png, row_of
from nanoocr.finetune.types import CutDocument, Gathered, LineStrip
from nanoocr.inference.reader import Reader, default_model_folder
from nanoocr.machine import check_device, choose_threads, use_threads
from nanoocr.model.folder import complete_steps, load_prompt, model_folder, step_folder
from nanoocr.progress import track
from nanoocr.tasks.synth import Synth
from nanoocr.train.checkpoint import BEST
from nanoocr.train.setup import run_stage
from nanoocr.train.validate import past_validations

SHOWN = 8  # sentences about problems on the terminal
DONE, PROBLEMS = "trained.json", "problems.txt"
WATCH_DRAWN = 0.5  # drawn lines among those that say when to stop, for each own one
MOST_WATCHED = 160  # own lines that do


@dataclass(frozen=True)
class Outcome:
    """What came out: the judgement, both measures, and the folder that was written."""

    verdict: Verdict
    before: Measured
    after: Measured
    out: Path
    table: str  # both measures, a line each


def finetune(config: FinetuneConfig) -> Outcome:
    """Fine-tune as the config says, or go on where the same call was stopped.

    Raises:
        UsageError: DATA holds too little, or OUT is something else.
        DoubtfulDataError: the texts do not belong to the pictures.
        NotBetterError: the tuned model reads no better; OUT then holds the base model's weights.
    """
    out = Path(config.out)
    check_device(config.device)
    base = model_folder(config.model) if config.model else default_model_folder()
    _refuse_foreign(out, base)
    use_threads(choose_threads(config.threads or None))
    config = replace(config, threads=torch.get_num_threads())
    gathered = gather(config.data)
    mark = fingerprint(gathered.documents, str(base.resolve()))
    work = _work_folder(out, mark, config)
    cuts, problems = _cut_all(gathered, base, work, mark, config)
    found = agreement(cuts, config.seed)
    _say([*problems, *found.warnings(), *_unseen(cuts)], work)
    if not config.accept_doubtful:
        refuse_doubtful(found)
    parts = split(
        [cut for cut in cuts if cut.document.name not in found.doubtful], config.hold_out, config.seed
    )
    letters = letters_of((*parts.train, *parts.watch))
    if letters:
        # What measures keeps the texts as they are: it is read with the model whose texts are in `letters`.
        parts = replace(
            parts, train=tuple(map(as_printed, parts.train)), watch=tuple(map(as_printed, parts.watch))
        )
    steps = steps_for(len(strips_of(parts.train)), config)
    drawn = drawn_rows(config.eval_drawn)
    before = _once(work / "before.json", lambda: measure(base, parts.measure, drawn, config.device))
    if not (work / DONE).is_file():
        _train(config, parts, base, steps, work, [_aligned(found), *_written(letters)])
    best = work / "blend"
    step = _best_step(work / "run")
    share = blend(base, step, best, config.eval_drawn, config.device, letters)["share"]
    after = _once(work / "after.json", lambda: measure(best, parts.measure, drawn, config.device))
    verdict = judge(before, after)
    handed = best if verdict.better or config.accept_worse else base
    story = Story(
        config, mark, cuts, parts, problems, found, steps, share, letters, before, after, verdict, best,
        handed, base,
    )  # fmt: skip
    write_result(story, out)
    shown = "\n".join(f"{what:<34} {one:>28} -> {other}" for what, one, other in rows(story))
    if not verdict.better and not config.accept_worse:
        print(shown, file=sys.stderr)
        raise NotBetterError(
            f"{'; '.join(verdict.reasons)}: {out} holds the base model's weights and a report; "
            "give the same command with --accept_worse to take the tuned ones"
        )
    return Outcome(verdict, before, after, out, shown)


def _refuse_foreign(out: Path, base: Path) -> None:
    """Stop before the result would replace what this command did not write.

    Raises:
        UsageError: OUT is the base model, another model, or something else.
    """
    if out.resolve() == base.resolve():
        raise UsageError(f"--out={out} is the model to start from: name another folder")
    if out.exists() and not (out / MANIFEST).is_file():
        raise UsageError(f"--out={out} exists and is no model folder: name another")
    if out.exists() and NUMBERS not in read_manifest(out)["files"]:
        raise UsageError(f"--out={out} is a model that this command did not write: name another folder")


def _work_folder(out: Path, mark: str, config: FinetuneConfig) -> Path:
    """OUT.work, made new where it belongs to other data or other flags.

    Raises:
        UsageError: it belongs to a run of other data or flags; a training run is not thrown away unasked.
    """
    work = out.with_name(f"{out.name}.work")
    # What may change between two calls of one run: it changes nothing that lies in the folder.
    free = ("accept_worse", "accept_doubtful", "threads", "device", "data", "out")
    flags = {name: value for name, value in asdict(config).items() if name not in free}
    mine = {"mark": mark, "flags": flags}
    about = work / "about.json"
    if about.is_file() and json.loads(about.read_bytes()) != mine:
        if (work / "run").is_dir():
            raise UsageError(
                f"{work} holds a run on other data or with other flags: name another --out, or delete it"
            )
        for path in (work / "before.json", work / "after.json"):
            path.unlink(missing_ok=True)
    write_file(about, json.dumps(mine).encode())
    return work


def _once(path: Path, make: Any) -> Measured:
    """What `path` keeps of an earlier call, or what `make` finds now."""
    if path.is_file():
        return Measured.from_dict(json.loads(path.read_bytes()))
    made: Measured = make()
    write_file(path, json.dumps(made.to_dict()).encode())
    return made


# ---------------------------------------------------------------------------------------------------
# Cutting


def _cut_all(
    gathered: Gathered, base: Path, work: Path, mark: str, config: FinetuneConfig
) -> tuple[list[CutDocument], list[str]]:
    """The strips of all documents, from disk where an earlier call has cut them, and what went wrong."""
    problems = list(gathered.problems)
    cuts = load_cuts(work, mark, gathered.documents)
    if cuts is None:
        reader = Reader(base, device=config.device)
        if not reader.by_lines:
            raise UsageError(f"{base}: reads whole pictures; fine-tuning is for models that read lines")
        lines = reader.line_reader(reader.prompt)
        cuts = []
        for document in track(gathered.documents, len(gathered.documents), "finding lines"):
            try:
                cuts.append(cut_document(lines, document))
            except PictureError as error:
                problems.append(str(error))
        save_cuts(work, mark, cuts)
    else:
        kept = {cut.document.name for cut in cuts}
        problems += [f"{d.name}: cannot be opened" for d in gathered.documents if d.name not in kept]
    problems += [f"{cut.document.name}: no line of it can be used" for cut in cuts if not cut.strips]
    return cuts, problems


def _say(problems: Sequence[str], work: Path) -> None:
    """The first sentences on the terminal, all of them in a file: a run that is refused has no report."""
    write_file(work / PROBLEMS, "".join(f"{sentence}\n" for sentence in problems).encode())
    for sentence in problems[:SHOWN]:
        print(f"warning: {sentence}", file=sys.stderr)
    if len(problems) > SHOWN:
        print(f"warning: and {len(problems) - SHOWN} more, all of them in {work / PROBLEMS}", file=sys.stderr)


def _unseen(cuts: Sequence[CutDocument]) -> list[str]:
    unseen = unseen_characters(cuts)
    if not unseen:
        return []
    told = ", ".join(f"{char} ({count})" for char, count in unseen.most_common(12))
    return [
        f"{len(unseen)} characters were never seen in training: {told}; those in lines that are used are "
        "learned here alone"
    ]


def _aligned(found: Agreement) -> str:
    return f"{found.aligned:.0%} of the texts' characters were found on the pictures"


def _written(letters: str) -> list[str]:
    """What the user is told where the texts do not follow the case of the print."""
    if not letters:
        return []
    return [
        f"the texts are all in {letters} and the print is not: training follows the print, "
        f"and the model that comes out writes {letters}"
    ]


# ---------------------------------------------------------------------------------------------------
# Training


def _train(
    config: FinetuneConfig, parts: Split, base: Path, steps: int, work: Path, notes: Sequence[str]
) -> None:
    """Run the training loop; `trained.json` says that it has come to its end."""
    # A kill between the last validation and `trained.json` leaves nothing to train.
    run = work / "run"
    if step_folder(run, steps) in complete_steps(run) and steps in past_validations(run):
        write_file(work / DONE, json.dumps({"steps": steps}).encode())
        return
    own = OwnStrips(strips_of(parts.train), config.seed)
    prompt = load_prompt(base)
    drawn = Synth("strip", seed=config.seed)
    tasks: dict[str, Task] = {"own": Asking(own, prompt), "drawn": Asking(drawn, prompt)}
    _write_watched(work / "watch.parquet", strips_of(parts.watch), prompt)
    reader = Reader(base, device=config.device, dtype="float32")
    reader.model.train()
    seconds = seconds_per_step(reader.model, reader.tokenizer, own.strips, config.batch_size)
    _show(table(config, parts, steps, seconds, reader.model, notes))
    preset = reader.model.config.name
    del reader
    run_stage(train_config(config, str(base), preset, steps, work), 2, tasks.__getitem__)
    write_file(work / DONE, json.dumps({"steps": steps}).encode())


def _write_watched(path: Path, strips: Sequence[LineStrip], prompt: str) -> None:
    """The lines that say when to stop, asked `prompt`: own ones from all documents, and drawn ones."""
    count = min(len(strips), MOST_WATCHED)
    chosen = [strips[i * len(strips) // count] for i in range(count)]
    rows = [row_of(strip, strip.document) for strip in chosen]
    # From 10,000 on: other drawn lines than those that measure.
    rows += drawn_rows(max(2, round(WATCH_DRAWN * len(chosen))), start=10_000)
    records = [
        {
            "images": [{"bytes": as_png_of(row.images()[0]), "path": None}],
            "texts": [{"user": prompt, "assistant": row.answer}],
            "source": row.source,
            "font": "",
            "guessable": False,
            "char_boxes": [],
        }
        for row in rows
    ]
    stored = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(records, SCHEMA), stored)
    write_file(path, stored.getvalue())


def as_png_of(image: Any) -> bytes:
    """An RGB picture, encoded without loss."""
    return as_png(np.asarray(image))


def _best_step(run: Path) -> Path:
    """The step of the best validation, or the newest one where none is known."""
    try:
        return step_folder(run, json.loads((run / BEST).read_bytes())["step"])
    except (OSError, ValueError, LookupError):
        return complete_steps(run)[-1]


def _show(rows: Sequence[tuple[str, str]]) -> None:
    shown = Table(show_header=False)
    for row in rows:
        shown.add_row(*row)
    Console(stderr=True, soft_wrap=True, markup=False).print(shown)
