"""Model folders and DeepEncoder files: written whole, read strictly.

A model folder:      model.safetensors  config.json  tokenizer.json  manifest.json, and where the model can
                     draft glyph_head.safetensors
A training step:     the same and training_state.pt, as checkpoints/<run>/step_000500/; with --shard also
                     shard-NNNNN-*.safetensors, the part of every rank (nanoocr/train/sharding.py)
Stage 1 also leaves: checkpoints/<run>/deepencoder_000500.safetensors, the vision side alone
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from nanoocr.alphabet import LETTERS
from nanoocr.bpe import Tokenizer
from nanoocr.config import PROMPT, ModelConfig, config_from_dict, config_to_dict
from nanoocr.errors import CheckpointError
from nanoocr.files import parse_json, read_folder, read_manifest, write_file, write_folder
from nanoocr.model.glyph_heads import PatchHead
from nanoocr.model.resize import format_views, resized_config
from nanoocr.model.vlm import VLM

FORMAT_VERSION = 1
WEIGHTS, CONFIG, TOKENIZER, STATE = "model.safetensors", "config.json", "tokenizer.json", "training_state.pt"
HEADS = "glyph_head.safetensors"  # the head that drafts (nanoocr/model/glyph_heads.py), where there is one
SHARDS = "shard-*"  # files of --shard that belong to the training state


# ---------------------------------------------------------------------------------------------------------
# model folders


def model_files(
    model: VLM, tokenizer: Tokenizer, dtype: torch.dtype, about: dict[str, Any]
) -> dict[str, bytes]:
    """The files of a model folder, name -> content; weights stored in `dtype`."""
    weights = {name: tensor.detach().to(dtype).contiguous() for name, tensor in model.state_dict().items()}
    config = {"format_version": FORMAT_VERSION, "model": config_to_dict(model.config), "about": about}
    return {
        WEIGHTS: safetensors.torch.save(weights),
        CONFIG: json.dumps(config, indent=2).encode(),
        TOKENIZER: tokenizer.to_json().encode(),
    }


def save_model(
    folder: str | Path,
    model: VLM,
    tokenizer: Tokenizer,
    *,
    dtype: torch.dtype = torch.float32,
    about: dict[str, Any] | None = None,
    head: PatchHead | None = None,
) -> None:
    """Write a model folder; `about` (training stage, step, ...) goes into config.json."""
    files = model_files(model, tokenizer, dtype, about or {})
    if head is not None:
        # Drafting reads SAM's patches; the head on the tokens serves training alone.
        weights = head_weights(head.state_dict())
        files[HEADS] = safetensors.torch.save({name: w.to(dtype).contiguous() for name, w in weights.items()})
    write_folder(Path(folder), files)


def head_weights(heads: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What drafting needs of the weights of all glyph heads, by their names there."""
    return {name: tensor.detach() for name, tensor in heads.items() if name.startswith("patch_head.")}


def load_heads(folder: str | Path, config: ModelConfig) -> PatchHead | None:
    """The head of a model folder that drafts what the model reads, in fp32; None where it has none.

    Raises:
        CheckpointError: the file is damaged, or does not fit the model.
    """
    path = Path(folder) / HEADS
    content = read_folder(Path(folder), only=HEADS).get(HEADS)
    if content is None:
        return None
    with torch.device("meta"), _WithoutDrawing():
        head = PatchHead(config)
    load_strictly(head, read_weights(content, path), path)
    return head


def load_model(
    folder: str | Path, *, device: str | torch.device = "cpu", compute_dtype: torch.dtype = torch.float32
) -> tuple[VLM, Tokenizer]:
    """Read a model folder, a step, or a run's newest step, as an fp32 model that computes in `compute_dtype`.

    Raises:
        CheckpointError: missing, damaged, of another format version, or parts that do not fit together.
    """
    folder = model_folder(folder)
    files = read_folder(folder, skip=(STATE, SHARDS, HEADS))
    for name in (WEIGHTS, CONFIG, TOKENIZER):
        if name not in files:
            raise CheckpointError(f"{folder}: {name} is missing, so this is no model folder")
    config = read_config(files[CONFIG], folder / CONFIG)
    tokenizer = Tokenizer.from_json(files[TOKENIZER].decode("utf-8", "replace"), name=str(folder / TOKENIZER))
    # Ids beyond the table would fail in the middle of a page, so the two are compared here.
    if tokenizer.vocab_size != config.gpt.vocab_size:
        raise CheckpointError(
            f"{folder}: the tokenizer has {tokenizer.vocab_size} entries, the model {config.gpt.vocab_size}"
        )
    model = empty_model(config, tokenizer.image_id, compute_dtype)
    weights = read_weights(files[WEIGHTS], folder / WEIGHTS)
    load_strictly(model, weights, folder / WEIGHTS)
    return model.to(device), tokenizer


def load_prompt(folder: str | Path) -> str:
    """What to ask this model about a page: what its training run asked, PROMPT where the folder does not say.

    Raises:
        CheckpointError: the folder has no readable config.json.
    """
    prompt = _about(folder).get("prompt")
    return prompt if isinstance(prompt, str) and prompt else PROMPT


def load_modes(folder: str | Path) -> tuple[str, ...]:
    """The resolution modes that this model was trained in beside its own views; () where none is said.

    Raises:
        CheckpointError: the folder has no readable config.json.
    """
    run = _about(folder).get("run")
    modes = run.get("modes") if isinstance(run, dict) else ""
    return tuple(one.partition(":")[0].strip() for one in str(modes or "").split(",") if one.strip())


def load_letters(folder: str | Path) -> str:
    """What this model's texts are written in, "capitals" or "small"; "" is as printed.

    Raises:
        CheckpointError: the folder has no readable config.json.
    """
    letters = _about(folder).get("letters")
    return letters if letters in LETTERS else ""


def load_manner(folder: str | Path) -> tuple[str, tuple[str, ...], str]:
    """Prompt, modes and letters of a model folder, as the functions above say.

    Raises:
        CheckpointError: the folder has no readable config.json.
    """
    return load_prompt(folder), load_modes(folder), load_letters(folder)


def _about(folder: str | Path) -> dict[str, Any]:
    """What a model folder says of its training."""
    path = model_folder(folder) / CONFIG
    try:
        about = parse_json(path.read_bytes()).get("about", {})
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error})") from error
    return about if isinstance(about, dict) else {}


class _WithoutDrawing(TorchFunctionMode):
    """Leaves out torch's initial weights, which on the meta device cost the import of torch's compiler."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == nn.init.__name__:
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)


def empty_model(
    config: ModelConfig, image_id: int | None = None, compute_dtype: torch.dtype = torch.float32
) -> VLM:
    """A model of these sizes on the meta device: all shapes, no values, no memory."""
    with torch.device("meta"), _WithoutDrawing():
        return VLM(config, image_id=image_id, compute_dtype=compute_dtype)


def read_config(content: bytes, path: Path) -> ModelConfig:
    """Parse config.json.

    Raises:
        CheckpointError: not JSON, of another format version, or not a model of this code.
    """
    try:
        data = parse_json(content)
        version, model = data["format_version"], data["model"]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: not a model configuration ({error!r})") from error
    if version != FORMAT_VERSION:
        raise CheckpointError(f"{path}: format version {version!r}, this code reads {FORMAT_VERSION}")
    try:
        return config_from_dict(model)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error


def read_weights(content: bytes, path: Path) -> dict[str, Tensor]:
    """safetensors content as fp32 tensors.

    Raises:
        CheckpointError: not safetensors, or truncated.
    """
    try:
        # Whatever the file holds, weights are fp32 masters in memory; layers cast them as they compute.
        return {name: tensor.float() for name, tensor in safetensors.torch.load(content).items()}
    except SafetensorError as error:
        raise CheckpointError(f"{path}: not a complete safetensors file ({error})") from error


def load_strictly(module: nn.Module, weights: dict[str, Tensor], path: Path) -> None:
    """Put `weights` into `module` (also one on the meta device); every key and shape must match.

    Raises:
        CheckpointError: names the first missing, unexpected and mis-shaped keys.
    """
    wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    problems = [f"{name} is missing" for name in wanted.keys() - found.keys()]
    problems += [f"{name} is unexpected" for name in found.keys() - wanted.keys()]
    problems += [
        f"{name} has shape {found[name]} where {wanted[name]} is needed"
        for name in wanted.keys() & found.keys()
        if wanted[name] != found[name]
    ]
    if problems:
        # Three names show what is wrong; a file of another model would list hundreds.
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        raise CheckpointError(f"{path} does not fit this model: {'; '.join(sorted(problems)[:3])}{more}")
    # `assign`, since a module on the meta device has no memory that could be copied into.
    module.load_state_dict(weights, assign=True)
    for parameter in module.parameters():
        parameter.requires_grad_(True)


# ---------------------------------------------------------------------------------------------------------
# DeepEncoder files


@dataclass(frozen=True)
class Report:
    """What a load did: our keys that were set, our keys that stay fresh, their keys that were not needed."""

    source: str
    loaded: tuple[str, ...]
    new: tuple[str, ...]
    dropped: tuple[str, ...]

    def __str__(self) -> str:
        new = f" ({', '.join(self.new)})" if self.new else ""
        return (
            f"{self.source}: {len(self.loaded)} loaded, {len(self.new)} new{new}, {len(self.dropped)} dropped"
        )


def deepencoder_file(run: Path, step: int) -> Path:
    """checkpoints/<run>/deepencoder_000500.safetensors"""
    return run / f"deepencoder_{step:06d}.safetensors"


def save_deepencoder(path: Path, model: VLM) -> None:
    """The vision side alone, keys as in DeepSeek-OCR (`sam_model.`, `vision_model.`, `projector.`, ...)."""
    weights = {name: tensor.detach().contiguous() for name, tensor in model.encoder.state_dict().items()}
    metadata = {
        "format_version": str(FORMAT_VERSION),
        "model": json.dumps(config_to_dict(model.config)),
        "sha256": digest(weights),  # safetensors has no checksum of its own
    }
    write_file(path, safetensors.torch.save(weights, metadata=metadata))


def load_deepencoder(path: str | Path, model: VLM) -> Report:
    """Load a DeepEncoder file into `model.encoder`, all of it.

    Raises:
        CheckpointError: missing, damaged, made for another preset, or not a DeepEncoder.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: no such DeepEncoder checkpoint ({error.strerror})") from error
    made_for, sha256 = read_deepencoder_header(content, path)
    if (made_for.sam, made_for.clip) != (model.config.sam, model.config.clip):
        raise CheckpointError(f"{path}: {why_unlike(made_for, model.config)}")
    weights = read_weights(content, path)
    if digest(weights) != sha256:
        raise CheckpointError(f"{path}: damaged (the sha256 of its weights is not the one in its header)")
    load_strictly(model.encoder, weights, path)
    return Report(f"DeepEncoder from {path}", tuple(weights), (), ())


def why_unlike(made_for: ModelConfig, wanted: ModelConfig) -> str:
    """What keeps a DeepEncoder of one configuration out of a model of another, with the mend."""
    if made_for.name != wanted.name:
        return f"a DeepEncoder of preset {made_for.name!r}, this run is of preset {wanted.name!r}"
    # If other views alone make the difference, a flag mends it: say which.
    fitting = resized_config(wanted, made_for.views)
    if (made_for.sam, made_for.clip) == (fitting.sam, fitting.clip):
        theirs, ours = format_views(made_for.views), format_views(wanted.views)
        return f"a DeepEncoder for views of {theirs}, this run is for {ours}: give --views={theirs}"
    return f"a DeepEncoder of preset {made_for.name!r}, but of other sizes than that preset has today"


def digest(weights: dict[str, Tensor]) -> str:
    """sha256 over the names and the bytes of fp32 tensors, in the order of the names."""
    total = hashlib.sha256()
    for name in sorted(weights):
        total.update(name.encode())
        total.update(weights[name].cpu().contiguous().numpy().tobytes())
    return total.hexdigest()


def read_deepencoder_header(content: bytes, path: Path) -> tuple[ModelConfig, str]:
    """What the header of a DeepEncoder file says: the sizes of its model, and the `digest` of its weights.

    Raises:
        CheckpointError: no such header, or one of another format version.
    """
    try:
        # The layout of safetensors: 8 bytes of length, then JSON, then the tensors.
        length = int.from_bytes(content[:8], "little")
        metadata = json.loads(content[8 : 8 + length])["__metadata__"]
        version, sizes, sha256 = metadata["format_version"], json.loads(metadata["model"]), metadata["sha256"]
    except (ValueError, KeyError, TypeError, MemoryError) as error:
        raise CheckpointError(f"{path}: not a DeepEncoder file of this project ({error!r})") from error
    if version != str(FORMAT_VERSION):
        raise CheckpointError(f"{path}: format version {version}, this code reads {FORMAT_VERSION}")
    return config_from_dict(sizes), sha256


# ---------------------------------------------------------------------------------------------------------
# training steps


def step_folder(run: Path, step: int) -> Path:
    """checkpoints/<run>/step_000500"""
    return run / f"step_{step:06d}"


def complete_steps(run: Path) -> list[Path]:
    """All complete step folders of a run, oldest first (a folder without a readable manifest is none)."""
    found = []
    # The pattern leaves out folders that were set aside, such as step_000002.damaged.
    numbered = [folder for folder in run.glob("step_*") if re.fullmatch(r"step_\d+", folder.name)]
    for folder in sorted(numbered, key=step_number):
        try:
            read_manifest(folder)
        except CheckpointError:
            continue  # a write that a kill cut short: by definition not a checkpoint
        found.append(folder)
    return found


def step_number(folder: Path) -> int:
    """500 for .../step_000500."""
    return int(folder.name.removeprefix("step_"))


def model_folder(checkpoint: str | Path) -> Path:
    """The newest step of a run folder; any other folder as it is."""
    steps = complete_steps(Path(checkpoint))
    return steps[-1] if steps else Path(checkpoint)
