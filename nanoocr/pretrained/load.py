"""Loads others' weights under our names, and gives ours under theirs.

Every key of a source is either loaded, or known to be useless and dropped (nanoocr/pretrained/names.py).
Anything else ends the load before a single weight is set.

hub name or local files -> `open_weights` (files.py) -> a table -> the module -> Report
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from nanoocr.config import config_from_dict
from nanoocr.errors import CheckpointError
from nanoocr.files import parse_json
from nanoocr.model.deepencoder import DeepEncoder
from nanoocr.model.folder import Report
from nanoocr.model.gpt import GPT, ROPE_BASE, SOFTCAP
from nanoocr.pretrained.files import (
    NEWER_NANOCHAT,
    OUR_MARK,
    OUR_SIZES,
    TensorReader,
    description_of,
    find_files,
    open_weights,
    read_gpt_config,
)
from nanoocr.pretrained.names import (
    CLIP,
    DEEPSEEK_OCR,
    NANOCHAT,
    NANOCHAT_TRANSFORMERS,
    SAM,
    SAM_META,
    WeightSource,
    bare_key,
    is_dropped,
    translate,
)

# ---------------------------------------------------------------------------------------------------------
# Loading one source into one module


def load_sam(encoder: DeepEncoder, source: str) -> Report:
    """Load SAM's blocks and neck, under transformers' or Meta's names. The compressor stays fresh."""
    sam = encoder.sam_model.config
    ours = {
        "num_attention_heads": sam.heads,
        "window_size": sam.window,
        "global_attn_indexes": list(sam.global_blocks),
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-6,
    }
    check_vision_config(source, ("sam", "sam_vision_model"), ours)
    readers = open_weights(find_files(source))
    by_meta = any(re.search(r"(^|\.)(image_encoder\.|blocks\.\d+\.norm1)", key) for key in readers)
    return set_weights(encoder.sam_model, SAM_META if by_meta else SAM, readers, source)


def load_clip(encoder: DeepEncoder, source: str) -> Report:
    """Load the CLIP half from a CLIPModel or CLIPVisionModel checkpoint."""
    heads = encoder.vision_model.config.heads
    ours = {"num_attention_heads": heads, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5}
    check_vision_config(source, ("clip", "clip_vision_model"), ours)
    return load_component(encoder.vision_model, CLIP, source)


def load_deepseek_ocr_encoder(encoder: DeepEncoder, source: str) -> Report:
    """Load the whole DeepEncoder, with projector and special vectors, from DeepSeek-OCR's checkpoint."""
    check_exported_sizes(encoder, source)
    return load_component(encoder, DEEPSEEK_OCR, source)


def load_gpt(gpt: GPT, source: str) -> Report:
    """Load nanochat's GPT from its own checkpoint or from a transformers NanoChat folder.

    `gpt` has the sizes of `read_gpt_config(source)`, except that `vocab_size` is larger by our own rows
    (`<|image|>`). A new row of wte is the mean of the old rows; it is never looked up, because a vision
    vector replaces it. A new row of lm_head is zero; it is never a target and never sampled.
    """
    files = find_files(source)
    table = NANOCHAT_TRANSFORMERS if any(file.name == "config.json" for file in files) else NANOCHAT
    config = read_gpt_config(source)
    for name in ("n_layer", "n_head", "n_kv_head", "n_embd"):
        theirs, ours = getattr(config, name), getattr(gpt.config, name)
        if theirs != ours:
            raise CheckpointError(f"{source}: its {name} is {theirs}, the model here has {ours}")
    readers = open_weights(files)
    if newer := [key for key in readers if NEWER_KEYS.search(key)]:
        raise CheckpointError(f"{source}: holds {shortened(newer)}: {NEWER_NANOCHAT}")
    rows = gpt.config.vocab_size - config.vocab_size
    if rows < 0:
        raise CheckpointError(f"{source}: its vocabulary of {config.vocab_size} is larger than the model's")
    for key, reader in readers.items():
        if key.endswith(("wte.weight", "embed_tokens.weight", "lm_head.weight")):
            zero = key.endswith("lm_head.weight")
            readers[key] = partial(extend_rows, reader, config.vocab_size, rows=rows, zero=zero)
    return set_weights(gpt, table, readers, source)


# What stands beside quantised weights: without it their numbers mean something else.
SCALES = re.compile(
    r"(weight_scale(_inv)?|input_scale|\.scales|\.qzeros|\.qweight|\.absmax|\.quant_state\S*)$"
)
# nanochat has had these parameters since January 2026. With them the same shapes compute something else.
NEWER_KEYS = re.compile(r"resid_lambdas|x0_lambdas|value_embeds|ve_gate|smear_|backout_")
ROUND, MOST_PADDING = 64, 1024  # nanochat rounds the rows of its tables up to a multiple of ROUND


def extend_rows(reader: TensorReader, vocab_size: int, *, rows: int, zero: bool) -> Tensor:
    """(V, D) -> (V + rows, D) fp32. Old rows keep every bit, and new rows are zero or the mean of the old.

    Rows above `vocab_size` that only round a table up belong to no token, and are cut off first.

    Raises:
        ValueError: V is not the `vocab_size` that the file's own description states.
    """
    table = reader().float()
    padding = table.size(0) - vocab_size if table.ndim == 2 else -1
    if 0 < padding < MOST_PADDING and table.size(0) % ROUND == 0:
        table, padding = table[:vocab_size], 0
    if padding:
        raise ValueError(f"shape {tuple(table.shape)} for {vocab_size} tokens")
    new = torch.zeros(rows, table.size(1)) if zero else table.mean(0, keepdim=True).expand(rows, -1)
    return torch.cat([table, new])


def check_vision_config(source: str, kinds: tuple[str, ...], ours: Mapping[str, Any]) -> None:
    """Compare the config.json beside the weights with our sizes, since shapes show neither heads nor windows.

    Raises:
        CheckpointError: the model is none of `kinds`, or a stated value differs.
    """
    path = description_of(source)
    if path is None or path.name != "config.json":
        return
    try:
        data = parse_json(path.read_bytes())
        kind = data.get("model_type", kinds[0])
        stated = data.get("vision_config") or data
        different = [name for name, value in ours.items() if stated.get(name, value) != value]
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path}: not a model configuration ({error!r})") from error
    if kind not in kinds:
        raise CheckpointError(f"{path}: a model of type {kind!r}, not {kinds[0]!r}: is it the right file?")
    if different:
        name = different[0]
        raise CheckpointError(f"{path}: {name} is {stated[name]!r}, the model here has {ours[name]!r}")


def check_exported_sizes(encoder: DeepEncoder, source: str) -> None:
    """Compare the sizes that `nanoocr export` wrote beside an encoder, if it did, with those of `encoder`.

    Raises:
        CheckpointError: they cannot be read, or a size of SAM or CLIP differs.
    """
    path = find_files(source)[0].with_name(OUR_SIZES)
    if not path.is_file():
        return
    try:
        stated = config_from_dict(parse_json(path.read_bytes()))
    except (OSError, ValueError, CheckpointError) as error:
        raise CheckpointError(f"{path}: not a model configuration ({error})") from error
    ours = {"sam": asdict(encoder.sam_model.config), "clip": asdict(encoder.vision_model.config)}
    for part, sizes in ours.items():
        for name, value in sizes.items():
            found = getattr(getattr(stated, part), name)
            if found != value:
                raise CheckpointError(f"{path}: {part}.{name} is {found!r}, the model here has {value!r}")


def load_component(module: nn.Module, table: WeightSource, source: str) -> Report:
    """Load the weights at `source` (hub name or path) into `module`, all of them or none."""
    return set_weights(module, table, open_weights(find_files(source)), source)


def set_weights(
    module: nn.Module, table: WeightSource, readers: Mapping[str, TensorReader], source: str
) -> Report:
    """Account for every key of a source, then set the weights in fp32.

    Raises:
        CheckpointError: the table does not know a key, a weight is missing, or a shape differs.
    """
    wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    parts: dict[str, dict[int, TensorReader]] = {}
    dropped, unknown = [], []
    for key, reader in readers.items():
        bare, name = bare_key(key, table, wanted)
        name, _, part = name.partition("#")
        if name in wanted:
            if int(part or 0) in parts.setdefault(name, {}):
                raise CheckpointError(f"{source}: {key} is a second set of weights for {name}")
            parts[name][int(part or 0)] = reader
        elif is_dropped(bare, table):
            dropped.append(key)
        else:
            unknown.append(key)
    if scales := [key for key in unknown if SCALES.search(key)]:
        raise CheckpointError(f"{source}: holds {shortened(scales)}: give weights that are not quantised")
    if unknown:
        raise CheckpointError(
            f"{source}: {shortened(unknown)} of {len(readers)} keys do not belong to {table.title} "
            "of this size: is it the right file?"
        )
    new = tuple(name for name in wanted if name not in parts)
    if missing := [name for name in new if name not in table.new]:
        raise CheckpointError(f"{source}: {shortened(missing)} missing, so it is no whole {table.title}")
    loaded = {}
    for name, readers_of_parts in parts.items():
        try:
            tensors = [plain_numbers(readers_of_parts[i]()) for i in sorted(readers_of_parts)]
            loaded[name] = torch.cat(tensors) if len(tensors) > 1 else tensors[0]
        except (RuntimeError, ValueError, SafetensorError) as error:
            reason = str(error).splitlines()[0]
            raise CheckpointError(f"{source}: the weights for {name} do not fit ({reason})") from error
        if tuple(loaded[name].shape) != wanted[name]:
            found = tuple(loaded[name].shape)
            raise CheckpointError(f"{source}: {name} has shape {found} where {wanted[name]} is needed")
    module.load_state_dict(loaded, strict=False, assign=True)
    return Report(f"{table.title} from {source}", tuple(loaded), new, tuple(dropped))


def plain_numbers(weight: Tensor) -> Tensor:
    """The weight in fp32.

    Raises:
        ValueError: it holds integers, as quantised weights do, complex numbers, or some that are not finite.
    """
    if not weight.is_floating_point():
        kind = str(weight.dtype).removeprefix("torch.")
        raise ValueError(f"they are {kind}: give weights that are not quantised")
    numbers = weight.float()
    if not bool(numbers.isfinite().all()):
        raise ValueError("some are not finite, as after a run that diverged or a cast that overflowed")
    return numbers


def shortened(keys: Sequence[str]) -> str:
    """The first of many keys and their number: `a, b, ... (12)`."""
    return f"{', '.join(keys[:2])}{', ...' if len(keys) > 2 else ''} ({len(keys)})"


# ---------------------------------------------------------------------------------------------------------
# The other direction


def transformers_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a GPT's tensors to the names of NanoChatForCausalLM."""
    names = tuple((ours, theirs) for theirs, ours in NANOCHAT_TRANSFORMERS.names)
    return {str(translate(name, names)): tensor.detach().contiguous() for name, tensor in weights.items()}


def gpt_for_transformers(gpt: GPT) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(weights, config.json) of a transformers NanoChatForCausalLM that computes the same as `gpt`."""
    config = gpt.config
    return transformers_names(gpt.state_dict()), {
        "architectures": ["NanoChatForCausalLM"],
        "model_type": "nanochat",
        "vocab_size": config.vocab_size,
        "hidden_size": config.n_embd,
        "intermediate_size": 4 * config.n_embd,
        "num_hidden_layers": config.n_layer,
        "num_attention_heads": config.n_head,
        "num_key_value_heads": config.n_kv_head,
        "max_position_embeddings": config.sequence_len,
        "hidden_act": "relu2",
        "rms_norm_eps": torch.finfo(torch.float32).eps,
        "rope_parameters": {"rope_type": "default", "rope_theta": ROPE_BASE},
        "final_logit_softcapping": SOFTCAP,
        "tie_word_embeddings": False,
        "pad_token_id": None,
        "dtype": "float32",
        OUR_MARK: True,  # its heads may have another width than nanochat's, and its vocabulary has <|image|>
    }


def encoder_for_deepseek_ocr(encoder: DeepEncoder) -> dict[str, Tensor]:
    """The encoder's weights under DeepSeek-OCR's keys, as its own code loads them strictly.

    Two of its keys are useless and have no counterpart here: CLIP's patch convolution, which is never called
    (zeros are written), and the buffer of position numbers.
    """
    embeddings = encoder.vision_model.embeddings
    width, positions = embeddings.class_embedding.numel(), embeddings.position_embedding.num_embeddings
    weights = {f"model.{name}": tensor.detach().contiguous() for name, tensor in encoder.state_dict().items()}
    return {
        **weights,
        "model.vision_model.embeddings.patch_embedding.weight": torch.zeros(width, 3, 14, 14),
        "model.vision_model.embeddings.position_ids": torch.arange(positions)[None],
    }
