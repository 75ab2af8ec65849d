"""The names of our weights in others' checkpoints, as one table per source.

Their names are on the left, ours on the right, and N is a layer's number. The rest of a key (`.weight`,
`.bias` or nothing) is the same on both sides.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

Names = tuple[tuple[str, str], ...]  # (theirs, ours)


@dataclass(frozen=True)
class WeightSource:
    """The names that one published checkpoint uses for the weights of one of our modules."""

    title: str  # its name in messages
    names: Names = ()  # "#0", "#1", ... after our name are parts of one tensor, joined on axis 0
    ours_behind: str | None = None  # instead of a table: their keys are this prefix followed by ours
    dropped: tuple[str, ...] = ()  # patterns for their keys that our module does not use
    new: tuple[str, ...] = ()  # our keys that the source lacks; they stay as initialised
    optional_prefix: str = ""  # some files have it before their keys, others do not


# ---------------------------------------------------------------------------------------------------------
# The tables

# facebook/sam-vit-base under transformers' names (SamModel). It includes the neck, but not the 16x
# compressor.
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

# sam_vit_b.pth from Meta, whose names are also ours.
SAM_META = WeightSource(
    "SAM-ViT (Meta's names)",
    ours_behind="image_encoder.",
    dropped=(r"(prompt_encoder|mask_decoder)\..*|pixel_mean|pixel_std",),
    new=("net_2.weight", "net_3.weight"),
)

# openai/clip-vit-large-patch14 under transformers' names (CLIPModel). A CLIPVisionModel of transformers 5
# saves the same keys without the leading "vision_model.".
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
        r"embeddings\.patch_embedding\.weight",  # unused here, because the compressed SAM grid replaces it
        r"(text_model\.)?embeddings\.position_ids",
        r"post_layernorm\..*",
        r"text_model\..*|text_projection\..*|visual_projection\..*|logit_scale",
    ),
    optional_prefix="vision_model.",
)

# deepseek-ai/DeepSeek-OCR, the trained DeepEncoder. Our names are its names without "model.", including the
# special vector "view_seperator". Its language model is not ours.
DEEPSEEK_OCR = WeightSource(
    "DeepSeek-OCR",
    ours_behind="model.",
    dropped=(
        r"model\.vision_model\.embeddings\.(patch_embedding\.weight|position_ids)",
        r"model\.(embed_tokens|layers|norm)\..*|(model\.)?lm_head\.weight",
    ),
)

# nanochat's own checkpoints (model_021400.pt), whose names are also ours.
NANOCHAT = WeightSource("nanochat's GPT", ours_behind="", dropped=(r"cos|sin",))  # tables of angles

# transformers' NanoChatForCausalLM, which `nanoocr export` writes.
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
    """Translate a left key of a table to the right name, with number and suffix; None where no row fits."""
    for left, right in names:
        pattern = re.escape(left).replace("N", r"(?P<N>\d+)") + r"(?P<suffix>\.weight|\.bias|)"
        if match := re.fullmatch(pattern, key):
            name, mark, part = right.partition("#")
            found = match.groupdict()
            return name.replace("N", found.get("N", "")) + found["suffix"] + mark + part
    return None


# ---------------------------------------------------------------------------------------------------------
# Looking a key up

# Prefixes of DistributedDataParallel, torch.compile, FSDP, and of a model within a trainer's or an adapter's.
WRAPPERS = re.compile(r"((module|_orig_mod|_fsdp_wrapped_module|state_dict|net|base_model)\.)+")


def bare_key(key: str, table: WeightSource, wanted: Mapping[str, object]) -> tuple[str, str]:
    """The key as the table knows it, and our name for it (empty where there is none).

    Any number of wrapper prefixes may stand before a key. One level "model." comes or goes, depending on
    whether a part was saved alone or within a larger model.
    """
    bare = WRAPPERS.sub("", key, count=1) if WRAPPERS.match(key) else key
    shorter = bare.removeprefix("model.")
    for form in (bare, shorter, f"model.{bare}", f"{table.ours_behind or ''}{bare}"):
        form = form.removeprefix(table.optional_prefix)
        name = own_name(form, table)
        if name.partition("#")[0] in wanted or is_dropped(form, table):
            return form, name
    return bare, ""


def is_dropped(key: str, table: WeightSource) -> bool:
    """Whether our module does not use a weight of this name."""
    return any(re.fullmatch(pattern, key) for pattern in table.dropped)


def own_name(key: str, table: WeightSource) -> str:
    """Our name for a key; empty where the table has none."""
    if table.ours_behind is None:
        return translate(key, table.names) or ""
    return key.removeprefix(table.ours_behind) if key.startswith(table.ours_behind) else ""
