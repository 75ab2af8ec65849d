"""Decides which files of a folder are the model: people keep variants, adapters, old files and parts there.

The first of these that exists is taken:

    model.safetensors.index.json      and the parts that it names
    model.safetensors                 whatever lies beside it
    any other .safetensors            without adapters and variants (model.fp16.safetensors)
    model_NNNNNN.pt                   nanochat's, one of them
    pytorch_model.bin.index.json      and the parts that it names
    pytorch_model.bin, then the only .bin, .pth, .pt or .ckpt
    a variant                         where there is no file without its mark
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from nanoocr.errors import CheckpointError
from nanoocr.files import parse_json

INDEX = ".index.json"
WHOLE, OLD_WHOLE = "model.safetensors", "pytorch_model.bin"
ADAPTER = re.compile(r"(adapter_|.*lora).*", re.IGNORECASE)
VARIANT = re.compile(r".+\.(fp16|bf16|fp32|fp8|int8|ema|non_ema)\b.*", re.IGNORECASE)
PART = re.compile(r"(.+)-(\d+)-of-(\d+)(\.\w+)")
# transformers' trainer writes pickles beside the weights that are no model.
NO_MODEL = re.compile(r"(training_args|optimizer|scheduler|scaler|rng_state|training_state|optim_).*")
PICKLES = (".bin", ".pth", ".pt", ".ckpt")
FORMS = ".safetensors, model_*.pt, pytorch_model.bin, .pth or .ckpt"


def weights_in(folder: Path) -> list[Path]:
    """The weight files of a folder, all of one model, in the order of their names.

    Raises:
        CheckpointError: there are none, several models, missing parts, or only an adapter.
    """
    names = sorted(path.name for path in folder.iterdir() if path.is_file() and path.name[0] != ".")
    plain = [name for name in names if not ADAPTER.fullmatch(name) and not VARIANT.fullmatch(name)]
    for known in (plain, names):
        chosen = _of_safetensors(folder, known) or _of_pickles(folder, known)
        if chosen:
            return [folder / name for name in chosen]
        if any(ADAPTER.fullmatch(name) for name in names):
            break
    adapters = [name for name in names if ADAPTER.fullmatch(name) and not name.endswith(".json")]
    if adapters:
        raise CheckpointError(
            f"{folder}: holds only {adapters[0]}, an adapter: merge it into its model and name that"
        )
    raise CheckpointError(f"{folder}: holds no {FORMS}")


def named_by_index(index: Path) -> list[str]:
    """The parts that an index file lists; all of them must lie beside it.

    Raises:
        CheckpointError: it is no index, or a part is missing.
    """
    try:
        parts = sorted(set(parse_json(index.read_bytes())["weight_map"].values()))
        well_formed = bool(parts) and all(Path(part).name == part for part in parts)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{index}: not an index of weight files ({error!r})") from error
    if not well_formed:
        raise CheckpointError(f"{index}: not an index of weight files: it names {parts[:1]}")
    if missing := [part for part in parts if not (index.parent / part).is_file()]:
        raise CheckpointError(
            f"{index} names {missing[0]}, which is not there ({len(missing)} of {len(parts)} parts missing): "
            "fetch it"
        )
    return parts


def _of_safetensors(folder: Path, names: Sequence[str]) -> list[str]:
    """The safetensors files that make up the model; empty where there are none."""
    files = [name for name in names if name.endswith(".safetensors")]
    if by_index := _by_index(folder, names, ".safetensors", WHOLE):
        return by_index
    if WHOLE in files:
        return [WHOLE]
    _refuse_missing_parts(folder, files)
    return files


def _of_pickles(folder: Path, names: Sequence[str]) -> list[str]:
    """The one pickle of the folder, or its parts; empty where there are none."""
    steps = [name for name in names if re.fullmatch(r"model_.*\.pt", name)]
    if not steps:
        if by_index := _by_index(folder, names, ".bin", OLD_WHOLE):
            return by_index
        if OLD_WHOLE in names:
            return [OLD_WHOLE]
        steps = [name for name in names if name.endswith(PICKLES) and not NO_MODEL.match(name)]
        if _refuse_missing_parts(folder, steps):
            return steps
    if len(steps) > 1:
        raise CheckpointError(f"{folder}: holds {', '.join(steps)}: name one of these files")
    return steps


def _by_index(folder: Path, names: Sequence[str], suffix: str, whole: str) -> list[str]:
    """The parts of the only index for files of this suffix.

    If all parts of an index have since been joined to one file, the index is out of date and ignored.
    """
    indices = [name for name in names if name.endswith(INDEX) and suffix in name]
    if f"{whole}{INDEX}" in indices:
        indices = [f"{whole}{INDEX}"]
    if len(indices) > 1:
        raise CheckpointError(f"{folder}: holds {', '.join(indices)}: name one of these files")
    if not indices:
        return []
    parts = any(PART.fullmatch(name) and name.endswith(suffix) for name in names)
    return [] if whole in names and not parts else named_by_index(folder / indices[0])


def _refuse_missing_parts(folder: Path, names: Sequence[str]) -> bool:
    """Whether the names are the parts NAME-00001-of-00003 of one model.

    Raises:
        CheckpointError: a part is missing, or the parts belong to two models.
    """
    parts = [match for name in names if (match := PART.fullmatch(name))]
    sets = sorted({(match[1], int(match[3]), match[4]) for match in parts})
    if len(sets) > 1:
        heads = ", ".join(f"{name}-*-of-{count}{suffix}" for name, count, suffix in sets)
        raise CheckpointError(
            f"{folder}: holds the parts of several models, {heads}: leave one in the folder"
        )
    for name, count, suffix in sets:
        there = {int(match[2]) for match in parts}
        first = 0 if 0 in there else 1  # both conventions, counting parts from 0 or from 1, are in use
        if missing := sorted(set(range(first, first + count)) - there):
            raise CheckpointError(
                f"{folder}: part {missing[0]} of {count} of {name}{suffix} is missing: fetch it"
            )
    return bool(parts) and len(parts) == len(names)
