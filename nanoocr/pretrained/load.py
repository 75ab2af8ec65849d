"""Weights that others trained, under our names, and ours under theirs.

One table per source: their name on the left, ours on the right, N a layer's number; what follows the name
(`.weight`, `.bias` or nothing) is the same on both sides. Every key of a source is loaded, or known to be of
no use and dropped; anything else ends the load before a single weight is set.

hub name or local files -> `open_weights` (files.py) -> a table -> the module -> Report
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from nanoocr.config import config_from_dict
from nanoocr.errors import CheckpointError
from nanoocr.model.deepencoder import DeepEncoder
from nanoocr.model.folder import Report
from nanoocr.model.gpt import GPT, ROPE_BASE, SOFTCAP
from nanoocr.pretrained.files import (
    OUR_MARK,
    OUR_SIZES,
    Reader,
    description_of,
    find_files,
    open_weights,
    read_gpt_config,
)

Names = tuple[tuple[str, str], ...]  # (theirs, ours)


@dataclass(frozen=True)
class WeightSource:
    """What one published checkpoint calls the weights of one of our modules."""

    title: str  # what messages call it
    names: Names = ()  # "#0", "#1", ... behind a name of ours: the parts of one tensor, joined on axis 0
    ours_behind: str | None = None  # instead of a table: their keys are ours behind this prefix
    dropped: tuple[str, ...] = ()  # patterns over their keys: weights that our module has no use for
    new: tuple[str, ...] = ()  # our keys that the source does not have: they stay as initialised
    optional_prefix: str = ""  # before their keys in some files and not in others


# ---------------------------------------------------------------------------------------------------------
# the tables

# facebook/sam-vit-base, transformers' names (SamModel). Its neck is ours; the 16x compressor is not in it.
SAM = WeightSource(
    "SAM-ViT (transformers' SamModel)",
    (
        ("vision_encoder.pos_embed", "pos_embed"),
        ("vision_encoder.patch_embed.projection", "patch_embed.proj"),
        ("vision_encoder.layers.N.layer_norm1", "blocks.N.norm1"),
        ("vision_encoder.layers.N.layer_norm2", "blocks.N.norm2"),
        ("vision_encoder.layers.N.attn.qkv", "blocks.N.attn.qkv"),
        ("vision_encoder.layers.N.attn.proj", "blocks.N.attn.proj"),
        ("vision_encoder.layers.N.attn.rel_pos_h", "blocks.N.attn.rel_pos_h"),
        ("vision_encoder.layers.N.attn.rel_pos_w", "blocks.N.attn.rel_pos_w"),
        ("vision_encoder.layers.N.mlp.lin1", "blocks.N.mlp.lin1"),
        ("vision_encoder.layers.N.mlp.lin2", "blocks.N.mlp.lin2"),
        ("vision_encoder.neck.conv1", "neck.0"),
        ("vision_encoder.neck.layer_norm1", "neck.1"),
        ("vision_encoder.neck.conv2", "neck.2"),
        ("vision_encoder.neck.layer_norm2", "neck.3"),
    ),
    dropped=(r"(shared_image_embedding|prompt_encoder|mask_decoder)\..*",),
    new=("net_2.weight", "net_3.weight"),
)

# openai/clip-vit-large-patch14, transformers' names (CLIPModel). A CLIPVisionModel of transformers 5 saves
# the same keys without the leading "vision_model.".
CLIP = WeightSource(
    "CLIP-ViT (transformers' CLIPModel)",
    (
        ("embeddings.class_embedding", "embeddings.class_embedding"),
        ("embeddings.position_embedding", "embeddings.position_embedding"),
        ("pre_layrnorm", "pre_layrnorm"),
        ("encoder.layers.N.layer_norm1", "transformer.layers.N.layer_norm1"),
        ("encoder.layers.N.layer_norm2", "transformer.layers.N.layer_norm2"),
        ("encoder.layers.N.self_attn.q_proj", "transformer.layers.N.self_attn.qkv_proj#0"),
        ("encoder.layers.N.self_attn.k_proj", "transformer.layers.N.self_attn.qkv_proj#1"),
        ("encoder.layers.N.self_attn.v_proj", "transformer.layers.N.self_attn.qkv_proj#2"),
        ("encoder.layers.N.self_attn.out_proj", "transformer.layers.N.self_attn.out_proj"),
        ("encoder.layers.N.mlp.fc1", "transformer.layers.N.mlp.fc1"),
        ("encoder.layers.N.mlp.fc2", "transformer.layers.N.mlp.fc2"),
    ),
    dropped=(
        r"embeddings\.patch_embedding\.weight",  # dead here: the compressed SAM grid takes its place
        r"(text_model\.)?embeddings\.position_ids",
        r"post_layernorm\..*",
        r"text_model\..*|text_projection\..*|visual_projection\..*|logit_scale",
    ),
    optional_prefix="vision_model.",
)

# deepseek-ai/DeepSeek-OCR: the trained DeepEncoder. Our names are its names without "model.", the special
# vector "view_seperator" included; its language model is not ours.
DEEPSEEK_OCR = WeightSource(
    "DeepSeek-OCR",
    ours_behind="model.",
    dropped=(
        r"model\.vision_model\.embeddings\.(patch_embedding\.weight|position_ids)",
        r"model\.(embed_tokens|layers|norm)\..*|lm_head\.weight",
    ),
)

# nanochat's own checkpoints (model_021400.pt): our names are its names.
NANOCHAT = WeightSource("nanochat's GPT", ours_behind="")

# transformers' NanoChatForCausalLM: what `nanoocr export` writes.
NANOCHAT_TRANSFORMERS = WeightSource(
    "transformers' NanoChat",
    (
        ("model.embed_tokens", "transformer.wte"),
        ("model.layers.N.self_attn.q_proj", "transformer.h.N.attn.c_q"),
        ("model.layers.N.self_attn.k_proj", "transformer.h.N.attn.c_k"),
        ("model.layers.N.self_attn.v_proj", "transformer.h.N.attn.c_v"),
        ("model.layers.N.self_attn.o_proj", "transformer.h.N.attn.c_proj"),
        ("model.layers.N.mlp.fc1", "transformer.h.N.mlp.c_fc"),
        ("model.layers.N.mlp.fc2", "transformer.h.N.mlp.c_proj"),
        ("lm_head", "lm_head"),
    ),
)


def translate(key: str, names: Names) -> str | None:
    """The right name of a table for a left key, with its number and suffix; None where no row fits."""
    for left, right in names:
        pattern = re.escape(left).replace("N", r"(?P<N>\d+)") + r"(?P<suffix>\.weight|\.bias|)"
        if match := re.fullmatch(pattern, key):
            name, mark, part = right.partition("#")
            found = match.groupdict()
            return name.replace("N", found.get("N", "")) + found["suffix"] + mark + part
    return None


# ---------------------------------------------------------------------------------------------------------
# loading one source into one module


def load_sam(encoder: DeepEncoder, source: str) -> Report:
    """SAM's blocks and neck from a SamModel checkpoint; the compressor (net_2, net_3) stays fresh."""
    sam = encoder.sam_model.config
    ours = {
        "num_attention_heads": sam.heads,
        "window_size": sam.window,
        "global_attn_indexes": list(sam.global_blocks),
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-6,
    }
    check_vision_config(source, ("sam", "sam_vision_model"), ours)
    return load_component(encoder.sam_model, SAM, source)


def load_clip(encoder: DeepEncoder, source: str) -> Report:
    """The CLIP half from a CLIPModel or CLIPVisionModel checkpoint."""
    heads = encoder.vision_model.config.heads
    ours = {"num_attention_heads": heads, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5}
    check_vision_config(source, ("clip", "clip_vision_model"), ours)
    return load_component(encoder.vision_model, CLIP, source)


def load_deepseek_ocr_encoder(encoder: DeepEncoder, source: str) -> Report:
    """The whole DeepEncoder, projector and special vectors included, from DeepSeek-OCR's checkpoint."""
    check_exported_sizes(encoder, source)
    return load_component(encoder, DEEPSEEK_OCR, source)


def load_gpt(gpt: GPT, source: str) -> Report:
    """nanochat's GPT from its own checkpoint or a transformers NanoChat folder, for one row more.

    `gpt` has the sizes of `read_gpt_config(source)` but `vocab_size` larger by the rows that are ours
    (`<|image|>`). A new row of wte is the mean of the old ones (it is never looked up: a vision vector stands
    in its place), a new row of lm_head is zero (it is never a target and never sampled).
    """
    files = find_files(source)
    table = NANOCHAT_TRANSFORMERS if any(file.name == "config.json" for file in files) else NANOCHAT
    config = read_gpt_config(source)
    for name in ("n_layer", "n_head", "n_kv_head", "n_embd"):
        theirs, ours = getattr(config, name), getattr(gpt.config, name)
        if theirs != ours:
            raise CheckpointError(f"{source}: its {name} is {theirs}, the model here has {ours}")
    readers = open_weights(files)
    rows = gpt.config.vocab_size - config.vocab_size
    if rows < 0:
        raise CheckpointError(f"{source}: its vocabulary of {config.vocab_size} is larger than the model's")
    for key, reader in readers.items():
        if key.endswith(("wte.weight", "embed_tokens.weight", "lm_head.weight")):
            zero = key.endswith("lm_head.weight")
            readers[key] = partial(extend_rows, reader, config.vocab_size, rows=rows, zero=zero)
    return set_weights(gpt, table, readers, source)


def extend_rows(reader: Reader, vocab_size: int, *, rows: int, zero: bool) -> Tensor:
    """(V, D) -> (V + rows, D) fp32; the old rows keep every bit, the new ones are zero or their mean.

    Raises:
        ValueError: V is not `vocab_size`, which the file's own description states.
    """
    table = reader().float()
    if table.ndim != 2 or table.size(0) != vocab_size:
        raise ValueError(f"shape {tuple(table.shape)} for {vocab_size} tokens")
    new = torch.zeros(rows, table.size(1)) if zero else table.mean(0, keepdim=True).expand(rows, -1)
    return torch.cat([table, new])


def check_vision_config(source: str, kinds: tuple[str, ...], ours: Mapping[str, Any]) -> None:
    """Hold what a config.json beside the weights states against ours: shapes show neither heads nor windows.

    Raises:
        CheckpointError: it is a model of none of `kinds`, or a stated value is another one.
    """
    path = description_of(source)
    if path is None or path.name != "config.json":
        return
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
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
    """Hold the sizes that `nanoocr export` wrote beside an encoder, if it did, against those of `encoder`.

    Raises:
        CheckpointError: they cannot be read, or one of SAM or CLIP is another one.
    """
    path = find_files(source)[0].with_name(OUR_SIZES)
    if not path.is_file():
        return
    try:
        stated = config_from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, CheckpointError) as error:
        raise CheckpointError(f"{path}: not a model configuration ({error})") from error
    ours = {"sam": asdict(encoder.sam_model.config), "clip": asdict(encoder.vision_model.config)}
    for part, sizes in ours.items():
        for name, value in sizes.items():
            found = getattr(getattr(stated, part), name)
            if found != value:
                raise CheckpointError(f"{path}: {part}.{name} is {found!r}, the model here has {value!r}")


def load_component(module: nn.Module, table: WeightSource, source: str) -> Report:
    """Put the weights at `source` (hub name or path) into `module`, whole or not at all."""
    return set_weights(module, table, open_weights(find_files(source)), source)


def set_weights(module: nn.Module, table: WeightSource, readers: Mapping[str, Reader], source: str) -> Report:
    """Account for every key of a source, then set the weights in fp32.

    Raises:
        CheckpointError: a key that the table does not know, a weight that is missing, or another shape.
    """
    wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    parts: dict[str, dict[int, Reader]] = {}
    dropped, unknown = [], []
    for key, reader in readers.items():
        bare = key.removeprefix("_orig_mod.").removeprefix(
            table.optional_prefix
        )  # the first: torch.compile's
        name, _, part = own_name(bare, table).partition("#")
        if name in wanted:
            if int(part or 0) in parts.setdefault(name, {}):
                raise CheckpointError(f"{source}: {key} is a second set of weights for {name}")
            parts[name][int(part or 0)] = reader
        elif any(re.fullmatch(pattern, bare) for pattern in table.dropped):
            dropped.append(key)
        else:
            unknown.append(key)
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
            tensors = [readers_of_parts[i]().float() for i in sorted(readers_of_parts)]
            loaded[name] = torch.cat(tensors) if len(tensors) > 1 else tensors[0]
        except (RuntimeError, ValueError, SafetensorError) as error:
            reason = str(error).splitlines()[0]
            raise CheckpointError(f"{source}: the weights for {name} do not fit ({reason})") from error
        if tuple(loaded[name].shape) != wanted[name]:
            found = tuple(loaded[name].shape)
            raise CheckpointError(f"{source}: {name} has shape {found} where {wanted[name]} is needed")
    module.load_state_dict(loaded, strict=False, assign=True)
    return Report(f"{table.title} from {source}", tuple(loaded), new, tuple(dropped))


def own_name(key: str, table: WeightSource) -> str:
    """Our name of a key; empty where the table has none."""
    if table.ours_behind is None:
        return translate(key, table.names) or ""
    return key.removeprefix(table.ours_behind) if key.startswith(table.ours_behind) else ""


def shortened(keys: Sequence[str]) -> str:
    """The first of many keys and their number: `a, b, ... (12)`."""
    return f"{', '.join(keys[:2])}{', ...' if len(keys) > 2 else ''} ({len(keys)})"


# ---------------------------------------------------------------------------------------------------------
# the other direction


def transformers_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors under a GPT's names, under those of NanoChatForCausalLM."""
    names = tuple((ours, theirs) for theirs, ours in NANOCHAT_TRANSFORMERS.names)
    return {str(translate(name, names)): tensor.detach().contiguous() for name, tensor in weights.items()}


def gpt_for_transformers(gpt: GPT) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(weights, config.json) of a transformers NanoChatForCausalLM that computes what `gpt` does."""
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
        OUR_MARK: True,  # its heads may have another width than nanochat's, its vocabulary has <|image|>
    }


def encoder_for_deepseek_ocr(encoder: DeepEncoder) -> dict[str, Tensor]:
    """The encoder's weights under DeepSeek-OCR's keys, as its own code loads them strictly.

    Two of its keys have no use and none of ours: CLIP's patch convolution, 3 x 14 x 14 pixels to a vector,
    which is never called (zeros), and the buffer of position numbers.
    """
    embeddings = encoder.vision_model.embeddings
    width, positions = embeddings.class_embedding.numel(), embeddings.position_embedding.num_embeddings
    weights = {f"model.{name}": tensor.detach().contiguous() for name, tensor in encoder.state_dict().items()}
    return {
        **weights,
        "model.vision_model.embeddings.patch_embedding.weight": torch.zeros(width, 3, 14, 14),
        "model.vision_model.embeddings.position_ids": torch.arange(positions)[None],
    }
