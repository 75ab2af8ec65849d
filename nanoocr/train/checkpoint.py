"""The steps of a training run on disk: each is a model folder with a training_state.pt to continue from.

nanoocr/model/folder.py describes the files, and reads and writes the model's part of them.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from nanoocr.bpe import Tokenizer
from nanoocr.errors import CheckpointError
from nanoocr.files import read_folder, write_folder
from nanoocr.model.folder import (
    CONFIG,
    SHARDS,
    STATE,
    WEIGHTS,
    complete_steps,
    deepencoder_file,
    model_files,
    read_config,
    step_folder,
    step_number,
)
from nanoocr.model.vlm import VLM
from nanoocr.moved import moved

__getattr__ = moved(
    __name__,
    dict.fromkeys(
        ("load_model", "save_model", "load_deepencoder", "save_deepencoder", "step_folder", "complete_steps"),
        "nanoocr.model.folder",
    ),
)


def save_step(
    run: Path,
    step: int,
    model: VLM,
    tokenizer: Tokenizer,
    about: dict[str, Any],
    state: Any,
    ready: Sequence[Path] = (),
) -> Path:
    """Write a whole training step. `state` holds tensors, numbers, strings and containers of them.

    `ready` are files of the training state that are already written; they are moved into the folder.
    """
    # Into memory first: `write_folder` writes every file of a step whole, with its checksum, or none of them.
    buffer = io.BytesIO()
    torch.save(state, buffer)
    files = model_files(model, tokenizer, torch.float32, about)
    folder = step_folder(run, step)
    write_folder(folder, {**files, STATE: buffer.getvalue()}, {"step": step}, ready)
    return folder


def read_about(folder: Path) -> dict[str, Any]:
    """Return the facts that `save_step` was given about the step: stage, step and the run's flags."""
    files = read_folder(folder, skip=(WEIGHTS, STATE, SHARDS))
    read_config(files.get(CONFIG, b""), folder / CONFIG)
    return json.loads(files[CONFIG]).get("about", {})


def load_state(folder: Path) -> Any:
    """Read the training state beside the weights of a step.

    Raises:
        CheckpointError: it is missing or damaged, or holds anything but plain data.
    """
    files = read_folder(folder, skip=(WEIGHTS, SHARDS))
    if STATE not in files:
        raise CheckpointError(f"{folder}: holds no {STATE}, so training cannot go on from it")
    try:
        # `weights_only` refuses to run code from the pickle: a training state from elsewhere cannot do harm.
        return torch.load(io.BytesIO(files[STATE]), weights_only=True, map_location="cpu")
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, ValueError) as error:
        raise CheckpointError(f"{folder / STATE}: not a training state of plain data") from error


BEST = "best.json"  # {"step", "loss"} of the best validation whose step is kept


def best_step(run: Path) -> int | None:
    """The step that best.json names; None where there is no such file."""
    try:
        return int(json.loads((run / BEST).read_bytes())["step"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def drop_old_steps(run: Path, keep_last: int) -> None:
    """Delete all steps but the newest `keep_last` and the best, and their DeepEncoder files (0 keeps all)."""
    if keep_last > 0:
        best = best_step(run)
        # The best step is kept although it is old: --keep_last counts the newest ones only.
        for folder in complete_steps(run)[:-keep_last]:
            if step_number(folder) != best:
                # Rename it first to a name that does not count: a kill must not leave a step that only looks
                # whole.
                going = folder.with_name(f".{folder.name}.writing")
                shutil.rmtree(going, ignore_errors=True)
                os.rename(folder, going)
                shutil.rmtree(going)
                deepencoder_file(run, step_number(folder)).unlink(missing_ok=True)
