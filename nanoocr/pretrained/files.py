"""Finds others' checkpoints on disk or on the hub, opens their formats, and reads the sizes that they state.

hub name or path -> `find_files` -> `open_weights` (key -> reader); `read_gpt_config`
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from nanoocr.config import MAX_SIZE, GPTConfig
from nanoocr.errors import CheckpointError
from nanoocr.files import parse_json
from nanoocr.model.gpt import ROPE_BASE, SOFTCAP
from nanoocr.pretrained.layouts import INDEX, named_by_index, weights_in

# Reads one tensor when it is needed, because a checkpoint may be larger than memory.
TensorReader = Callable[[], Tensor]

# ---------------------------------------------------------------------------------------------------------
# Files: local ones, or those of the hub at a pinned revision

# Without a revision these hub names mean a fixed commit, so that no later push changes what is loaded.
REVISIONS = {
    "facebook/sam-vit-base": "70c1a07f894ebb5b307fd9eaaee97b9dfc16068f",
    "openai/clip-vit-large-patch14": "32bd64288804d66eefd0ccbe215aa642df71cc41",
    "deepseek-ai/DeepSeek-OCR": "9f30c71f441d010e5429c532364a86705536c53a",
    "nanochat-students/base-d20": "4c6e4e8d8468a6b66302a472cb950bb73a1e2a61",
}
HUB_NAME = re.compile(r"([A-Za-z0-9][\w.-]*/[\w.-]+)(?:@([\w./-]+))?")
OUR_SIZES = "nanoocr_config.json"  # `nanoocr export` writes it beside an encoder
HUB_FILES = ["*.safetensors", "*.safetensors.index.json", "config.json", OUR_SIZES]
HUB_FILES += ["model_*.pt", "meta_*.json", "tokenizer.pkl"]
# taken where there is nothing else
OLD_HUB_FILES = ["pytorch_model*.bin", "pytorch_model.bin.index.json", "*.pth"]


def find_files(source: str) -> list[Path]:
    """The files of a source: a file, a folder, or a hub repository `OWNER/NAME@REVISION`.

    In a folder these are the model (nanoocr/pretrained/layouts.py), and with it meta_NNNNNN.json or the
    config.json of transformers. An index file stands for the parts that it names.

    Raises:
        CheckpointError: nothing is there, there are several candidates, or the hub cannot be reached.
    """
    path = Path(source)
    if not path.exists():
        path = fetch(source)
    if path.suffix.lower() == ".json" and not path.name.endswith(INDEX):
        raise CheckpointError(f"{path}: holds no weights: name its folder, {path.parent}")
    if path.name.endswith(INDEX):
        return with_sidecars([path.with_name(name) for name in named_by_index(path)])
    return with_sidecars([path] if path.is_file() else weights_in(path))


def with_sidecars(weights: list[Path]) -> list[Path]:
    """The weight files, followed by the files that describe them."""
    return [*weights, *sidecars(weights[0])]


def sidecars(weights: Path) -> list[Path]:
    """The files that describe a weight file: its own meta file, the folder's only one, or its config.json."""
    own = weights.with_name(f"meta_{weights.stem.removeprefix('model_')}.json")
    only = sorted(weights.parent.glob("meta_*.json")) if weights.suffix == ".bin" else []
    described = [own, *(only if len(only) == 1 else []), weights.with_name("config.json")]
    return [file for file in described if file.is_file()][:1]


def description_of(source: str) -> Path | None:
    """The JSON file that states the sizes of the model at `source`; None where there is none."""
    return next((file for file in find_files(source) if file.suffix == ".json"), None)


def fetch(source: str) -> Path:
    """The local snapshot of a hub repository; its folder is named after the commit.

    Without @REVISION, names in REVISIONS mean their pinned commit, and all others their main branch. To pin
    another one, write OWNER/NAME@REVISION with the full commit.

    Raises:
        CheckpointError: it is no hub name, huggingface_hub is missing, or there is no network and no cached
            copy.
    """
    match = HUB_NAME.fullmatch(source)
    if match is None:
        raise CheckpointError(f"{source}: no such file or folder here, and no hub name (OWNER/NAME@REVISION)")
    name, revision = match.group(1), match.group(2) or REVISIONS.get(match.group(1))
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise CheckpointError(
            f"{source}: no such file or folder here, and the hub needs the extra: "
            "pip install 'nano-deepseek-ocr[hub]'"
        ) from error
    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=HUB_FILES))
        if not any(folder.glob("*.safetensors")) and not any(folder.glob("model_*.pt")):
            snapshot_download(name, revision=folder.name, allow_patterns=OLD_HUB_FILES)
        return folder
    except Exception as error:  # errors of the hub and of its HTTP library share no base class
        reason = (str(error).strip() or "no reason given").splitlines()[0].rstrip(".")
        raise CheckpointError(
            f"{source}: no such file or folder here, and the hub did not give it "
            f"({type(error).__name__}: {reason}): download "
            f"https://huggingface.co/{name}/tree/{revision or 'main'} elsewhere and name that folder"
        ) from error


LFS_POINTER = (
    b"version https://git-lfs"  # a clone without Git LFS has such a text in place of each large file
)
# Keys of the weights in pickles that hold more: Lightning, PyTorch's examples, timm, DeepSpeed.
STATE_DICTS = ("state_dict", "model_state_dict", "model", "module")


def open_weights(files: Sequence[Path]) -> dict[str, TensorReader]:
    """Map each key to a reader, over the weight files among `files`. Only headers are read now.

    Raises:
        CheckpointError: a file is damaged, truncated or no plain tensors, or a key is in two files.
    """
    readers: dict[str, TensorReader] = {}
    for file in files:
        if file.suffix == ".json":
            continue
        for key, reader in weights_of(file):
            if key in readers:
                raise CheckpointError(f"{file}: {key} stands in another file of the folder as well")
            readers[key] = reader
    return readers


def weights_of(file: Path) -> Iterator[tuple[str, TensorReader]]:
    """The keys of one file, each with its reader. Pickles may only hold plain tensors."""
    try:
        with file.open("rb") as begun:
            is_pointer = begun.read(len(LFS_POINTER)) == LFS_POINTER
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read ({error.strerror})") from error
    if is_pointer:
        raise CheckpointError(f"{file}: only says where the weights are: fetch them by git lfs pull")
    if file.suffix == ".safetensors":
        try:
            opened = safe_open(file, "pt")
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{file}: not a complete safetensors file ({error})") from error
        for key in opened.keys():  # noqa: SIM118 (not a dict)
            yield key, partial(opened.get_tensor, key)
        return
    try:
        mapped = zipfile.is_zipfile(file)  # files from before torch 1.6 cannot be memory-mapped
        weights = torch.load(file, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # foreign bytes can make the unpickler raise anything
        raise CheckpointError(f"{file}: not a file of plain tensors, or damaged") from error
    weights = state_dict_of(weights)
    if weights is None:
        raise CheckpointError(f"{file}: holds more than named tensors")
    for key in weights:
        yield key, partial(weights.__getitem__, key)


def state_dict_of(content: Any) -> dict[str, Tensor] | None:
    """The named tensors of a pickle, even where a trainer put them beside its own numbers; else None."""
    for _ in STATE_DICTS:  # one may lie in another
        held = [content[key] for key in STATE_DICTS if isinstance(content, dict) and key in content]
        content = next((one for one in held if isinstance(one, dict)), content)
    if not isinstance(content, dict) or not content:
        return None
    plain = all(isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items())
    return content if plain else None


# ---------------------------------------------------------------------------------------------------------
# Sizes of a GPT. They are read from its files, and never guessed from its shapes.

NANOCHAT_HEAD_WIDTH = 128  # every nanochat d* model has heads of this width: heads = width / 128
GPT_SIZES = tuple(field.name for field in fields(GPTConfig))
OUR_MARK = "nanoocr_export"  # this key in a config.json says that this project wrote it


def read_gpt_config(source: str) -> GPTConfig:
    """Read the sizes that meta_NNNNNN.json or config.json states.

    Shapes cannot tell the number of heads: every divisor of the width loads without complaint, and all but
    one of them scramble the model.

    Raises:
        CheckpointError: there is no such file, a number is missing or impossible, or it is another
            architecture.
    """
    path = description_of(source)
    if path is None:
        raise CheckpointError(f"{source}: has no meta_NNNNNN.json or config.json beside the weights")
    try:
        data = parse_json(path.read_bytes())
        sizes = transformers_sizes(data) if path.name == "config.json" else data["model_config"]
        refuse_sliding_windows(sizes, path)
        config = GPTConfig(**{field: whole_number(field, sizes[field]) for field in GPT_SIZES})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: does not state the sizes of a GPT ({error!r})") from error
    if not is_our_export(source) and config.n_head * NANOCHAT_HEAD_WIDTH != config.n_embd:
        raise CheckpointError(
            f"{path}: {config.n_head} heads in a width of {config.n_embd}: "
            f"nanochat's heads are {NANOCHAT_HEAD_WIDTH} wide"
        )
    if config.n_embd % config.n_head:
        raise CheckpointError(f"{path}: {config.n_head} heads do not divide a width of {config.n_embd}")
    if config.n_head % config.n_kv_head:
        raise CheckpointError(f"{path}: {config.n_kv_head} key/value heads do not divide {config.n_head}")
    return config


NEWER_NANOCHAT = (
    "nanochat's newer architecture of 2026 (value embeddings, scalars per layer, sliding windows); "
    "this GPT is that of October 2025, as nanochat-students/base-d20"
)


def refuse_sliding_windows(sizes: Mapping[str, Any], path: Path) -> None:
    """Raise CheckpointError if layers see only a part of the text, as in nanochat's newer models."""
    pattern = str(sizes.get("window_pattern") or "L").upper()
    if set(pattern) != {"L"}:
        raise CheckpointError(f"{path}: its window_pattern is {pattern}: {NEWER_NANOCHAT}")


def is_our_export(source: str) -> bool:
    """Whether this project wrote the GPT at `source`. If so, its vocabulary already has `<|image|>`."""
    path = description_of(source)
    return path is not None and path.name == "config.json" and OUR_MARK.encode() in path.read_bytes()


def whole_number(name: str, value: Any) -> int:
    """Check a size from a foreign file.

    Raises:
        ValueError: it is no whole number from 1 to MAX_SIZE.
    """
    if type(value) is not int or not 1 <= value <= MAX_SIZE:
        raise ValueError(f"{name} is {value!r}")
    return value


def transformers_sizes(data: Mapping[str, Any]) -> dict[str, Any]:
    """Read the sizes in the config.json of a NanoChatForCausalLM, under our names.

    Raises:
        ValueError: it is another architecture, or its constants are not nanochat's.
    """
    if data.get("model_type") != "nanochat":
        raise ValueError(f"model_type is {data.get('model_type')!r}, this GPT is 'nanochat'")
    rope = data.get("rope_parameters") or {}
    stated = {
        "rope_type": (rope.get("rope_type", "default"), "default"),
        "final_logit_softcapping": (data.get("final_logit_softcapping", SOFTCAP), SOFTCAP),
        "rope_theta": (rope.get("rope_theta", data.get("rope_theta", ROPE_BASE)), ROPE_BASE),
        "hidden_act": (data.get("hidden_act", "relu2"), "relu2"),
        "intermediate_size": (data["intermediate_size"], 4 * data["hidden_size"]),
    }
    for name, (found, needed) in stated.items():
        if found != needed:
            raise ValueError(f"{name} is {found!r}, this GPT has {needed!r}")
    kv_heads = data.get("num_key_value_heads")
    return {
        "vocab_size": data["vocab_size"],
        "sequence_len": data["max_position_embeddings"],
        "n_layer": data["num_hidden_layers"],
        "n_head": data["num_attention_heads"],
        "n_kv_head": data["num_attention_heads"] if kv_heads is None else kv_heads,
        "n_embd": data["hidden_size"],
    }
