"""Finds the step that a resumed run continues from: the newest whole one, even if later steps are damaged."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from nanoocr.errors import CheckpointError, NanoOCRError, UsageError
from nanoocr.files import check_files, read_manifest
from nanoocr.model.folder import CONFIG, STATE, TOKENIZER, WEIGHTS, step_number
from nanoocr.train.checkpoint import load_state, read_about
from nanoocr.train.config import TrainConfig
from nanoocr.train.distributed import World
from nanoocr.train.run import run_folder


def newest_whole_step(config: TrainConfig, world: World) -> Path | None:
    """The folder to continue from with --resume; None for a fresh run. Rank 0 searches; all ranks must call.

    Damaged steps after it are renamed, with a warning, because the run will need their names again. If no
    step is whole, nothing is touched.

    Raises:
        UsageError: the run exists and --resume was not given, or the nodes see different folders.
        CheckpointError: the run exists, and none of its steps is whole.
    """
    run = run_folder(config)
    steps = numbered(run)
    # Ranks on several machines must see one folder, or each would resume from a step of its own.
    if len(set(world.gather(steps[-1].name if steps else ""))) > 1:
        raise UsageError(
            f"--out={config.out}: the nodes find different steps there: name a folder that all see"
        )
    if steps and not config.resume:
        raise UsageError(f"{run} holds checkpoints already: give --resume=True or another --run_name")
    found: Search | NanoOCRError = Search(None, ())
    if world.is_main and steps:
        found = search(steps)
        if isinstance(found, Search):
            for folder, problem in found.damaged:
                aside = set_aside(folder)
                print(f"warning: {problem}; it is kept as {aside.name}", file=sys.stderr)
            if found.damaged:
                print(f"warning: {run} goes on from {found.whole}, the step before", file=sys.stderr)
    found = world.gather(found)[0]
    if isinstance(found, NanoOCRError):
        raise found
    return found.whole


@dataclass(frozen=True)
class Search:
    """The newest whole step, and the faults of the steps after it."""

    whole: Path | None
    damaged: tuple[tuple[Path, str], ...]


def search(steps: list[Path]) -> Search | CheckpointError:
    """Search from the newest step backwards."""
    damaged: list[tuple[Path, str]] = []
    # The first step looked at is usually whole.
    for folder in reversed(steps):
        try:
            check_step(folder)
        except CheckpointError as error:
            damaged.append((folder, str(error)))
        else:
            return Search(folder, tuple(damaged))
    return CheckpointError(
        f"{damaged[0][1]}; no step of {folder.parent} is whole: start again with another --run_name"
    )


def numbered(run: Path) -> list[Path]:
    """Everything that has a step's name, oldest first, whole or not."""
    return sorted(
        (path for path in run.glob("step_*") if re.fullmatch(r"step_\d+", path.name)), key=step_number
    )


def check_step(folder: Path) -> None:
    """Read a step in the way that a resumed run will.

    Raises:
        CheckpointError: something is missing or damaged; the error names it.
    """
    names = read_manifest(folder)["files"]
    if missing := [name for name in (WEIGHTS, CONFIG, TOKENIZER, STATE) if name not in names]:
        raise CheckpointError(f"{folder}: {missing[0]} is missing, so this is no whole step")
    check_files(folder, "*")
    read_about(folder)
    load_state(folder)


def set_aside(folder: Path) -> Path:
    """Rename a damaged step to step_NNNNNN.damaged (or .damaged-2, if that exists); returns the new name."""
    names = (f"{folder.name}.damaged{f'-{i}' if i > 1 else ''}" for i in range(1, 1_000_000))
    aside = next(folder.with_name(name) for name in names if not folder.with_name(name).exists())
    # Renamed, not deleted: somebody may still want to rescue a part of it.
    os.rename(folder, aside)
    return aside
