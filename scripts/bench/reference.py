"""transformers' DeepEncoder and GPT with our weights: what parity tests and benchmarks stand beside.

`UnlimitedOcrVisionModel` is SAM, compressor and CLIP of DeepSeek-OCR, `NanoChatForCausalLM` is nanochat's
GPT, both written by other people. A development dependency: nothing in the library imports it.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from nanoocr.config import CELL, PATCH, ModelConfig
from nanoocr.errors import UsageError
from nanoocr.model.deepencoder import DeepEncoder
from nanoocr.model.folder import Report
from nanoocr.model.gpt import GPT
from nanoocr.pretrained.load import gpt_for_transformers, set_weights
from nanoocr.pretrained.names import WeightSource

UNLIMITED_OCR = WeightSource(
    "transformers' UnlimitedOcrVisionModel",
    (
        ("sam_encoder.pos_embed", "sam_model.pos_embed"),
        ("sam_encoder.patch_embed.projection", "sam_model.patch_embed.proj"),
        ("sam_encoder.layers.N.layer_norm1", "sam_model.blocks.N.norm1"),
        ("sam_encoder.layers.N.layer_norm2", "sam_model.blocks.N.norm2"),
        ("sam_encoder.layers.N.attn.qkv", "sam_model.blocks.N.attn.qkv"),
        ("sam_encoder.layers.N.attn.proj", "sam_model.blocks.N.attn.proj"),
        ("sam_encoder.layers.N.attn.rel_pos_h", "sam_model.blocks.N.attn.rel_pos_h"),
        ("sam_encoder.layers.N.attn.rel_pos_w", "sam_model.blocks.N.attn.rel_pos_w"),
        ("sam_encoder.layers.N.mlp.lin1", "sam_model.blocks.N.mlp.lin1"),
        ("sam_encoder.layers.N.mlp.lin2", "sam_model.blocks.N.mlp.lin2"),
        ("sam_encoder.neck.conv1", "sam_model.neck.0"),
        ("sam_encoder.neck.layer_norm1", "sam_model.neck.1"),
        ("sam_encoder.neck.conv2", "sam_model.neck.2"),
        ("sam_encoder.neck.layer_norm2", "sam_model.neck.3"),
        ("sam_encoder.proj.conv1", "sam_model.net_2"),
        ("sam_encoder.proj.conv2", "sam_model.net_3"),
        ("vision_encoder.embeddings.class_embedding", "vision_model.embeddings.class_embedding"),
        ("vision_encoder.embeddings.position_embedding", "vision_model.embeddings.position_embedding"),
        ("vision_encoder.pre_layrnorm", "vision_model.pre_layrnorm"),
        (
            "vision_encoder.encoder.layers.N.layer_norm1",
            "vision_model.transformer.layers.N.layer_norm1",
        ),
        (
            "vision_encoder.encoder.layers.N.layer_norm2",
            "vision_model.transformer.layers.N.layer_norm2",
        ),
        (
            "vision_encoder.encoder.layers.N.self_attn.q_proj",
            "vision_model.transformer.layers.N.self_attn.qkv_proj#0",
        ),
        (
            "vision_encoder.encoder.layers.N.self_attn.k_proj",
            "vision_model.transformer.layers.N.self_attn.qkv_proj#1",
        ),
        (
            "vision_encoder.encoder.layers.N.self_attn.v_proj",
            "vision_model.transformer.layers.N.self_attn.qkv_proj#2",
        ),
        (
            "vision_encoder.encoder.layers.N.self_attn.out_proj",
            "vision_model.transformer.layers.N.self_attn.out_proj",
        ),
        ("vision_encoder.encoder.layers.N.mlp.fc1", "vision_model.transformer.layers.N.mlp.fc1"),
        ("vision_encoder.encoder.layers.N.mlp.fc2", "vision_model.transformer.layers.N.mlp.fc2"),
    ),
    new=("projector.layers.weight", "projector.layers.bias", "image_newline", "view_seperator"),
)


def square_sizes(config: ModelConfig) -> ModelConfig:
    """`config` with square native grids, the only ones that transformers' classes know."""
    grid = max(config.sam.grid)
    cells = grid * PATCH // CELL
    return replace(
        config, sam=replace(config.sam, grid=(grid, grid)), clip=replace(config.clip, grid=(cells, cells))
    )


def reference_encoder(config: ModelConfig, seed: int = 3) -> nn.Module:
    """An UnlimitedOcrVisionModel of `config`'s sizes (square grids), every weight random.

    Fresh weights of its own would hide errors: many start at zero or at 1e-10.

    Raises:
        UsageError: transformers is missing, or too old to have the model.
    """
    try:
        from transformers.models.unlimited_ocr import modeling_unlimited_ocr as module
    except ImportError as error:
        raise UsageError("this needs transformers >= 5.20: bash runs/env.sh dev") from error
    reference = module.UnlimitedOcrVisionModel._from_config(
        module.UnlimitedOcrVisionConfig(**reference_sizes(config)), attn_implementation="sdpa"
    ).eval()
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in reference.named_parameters():
        is_table = parameter.ndim == 1 or "pos_embed" in name
        std = 0.5 if is_table else 1.5 * parameter[0].numel() ** -0.5
        nn.init.normal_(parameter, std=std, generator=generator)
    return reference.requires_grad_(False)


def reference_sizes(config: ModelConfig) -> dict[str, Any]:
    """`config` in transformers' words."""
    sam, clip = config.sam, config.clip
    return {
        "sam_config": {
            "hidden_size": sam.width,
            "output_channels": sam.neck,
            "num_hidden_layers": sam.depth,
            "num_attention_heads": sam.heads,
            "image_size": sam.grid[0] * 16,
            "patch_size": 16,
            "window_size": sam.window,
            "global_attn_indexes": list(sam.global_blocks),
            "mlp_dim": 4 * sam.width,
            "downsample_channels": list(sam.compressor),
        },
        "encoder_config": {
            "hidden_size": clip.width,
            "intermediate_size": 4 * clip.width,
            "num_hidden_layers": clip.depth,
            "num_attention_heads": clip.heads,
            "image_size": clip.grid[0] * 14,
            "patch_size": 14,
        },
    }


def reference_gpt(gpt: GPT) -> nn.Module:
    """transformers' NanoChatForCausalLM with the weights of `gpt`, on its device.

    Raises:
        UsageError: transformers is missing.
    """
    try:
        from transformers import NanoChatConfig, NanoChatForCausalLM
    except ImportError as error:
        raise UsageError("this needs transformers >= 5.20: bash runs/env.sh dev") from error
    weights, about = gpt_for_transformers(gpt)
    config = NanoChatConfig(**about, attn_implementation="sdpa")  # type: ignore[call-arg]
    with torch.device(gpt.lm_head.weight.device):
        reference = NanoChatForCausalLM(config).eval()
    reference.load_state_dict(weights, strict=True)
    return reference.requires_grad_(False)


def copy_weights(reference: nn.Module, encoder: DeepEncoder) -> Report:
    """Put the reference's weights into ours; strictly all of them."""

    def read(tensor: Tensor) -> Tensor:
        return tensor.detach().clone()

    readers = {name: partial(read, tensor) for name, tensor in reference.state_dict().items()}
    return set_weights(encoder, UNLIMITED_OCR, readers, "transformers")
