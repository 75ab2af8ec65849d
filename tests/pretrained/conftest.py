"""Small models of other makers, made by transformers."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from nanoocr.config import ClipConfig, SamConfig
from nanoocr.model.deepencoder import DeepEncoder


@pytest.fixture
def encoder(make_config) -> DeepEncoder:
    """Sizes that transformers' classes can have too: square grids."""
    config = replace(
        make_config(),
        sam=SamConfig(
            width=32,
            depth=2,
            heads=2,
            window=3,
            global_blocks=(1,),
            grid=(8, 8),
            neck=256,
            compressor=(16, 24),
        ),
        clip=ClipConfig(width=24, depth=2, heads=2, grid=(4, 4)),
    )
    encoder = DeepEncoder(config)
    encoder.init_weights(torch.Generator().manual_seed(0))
    return encoder.requires_grad_(False)


@pytest.fixture
def sam_model(encoder, randomise):
    """A whole SamModel: vision encoder, prompt encoder and mask decoder."""
    transformers = pytest.importorskip("transformers")
    sam = encoder.sam_model
    config = transformers.SamConfig(
        vision_config={
            "hidden_size": 32,
            "output_channels": 256,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 128,
            "patch_size": 16,
            "window_size": 3,
            "global_attn_indexes": [1],
            "mlp_dim": 128,
            "num_pos_feats": 128,
        }
    )
    assert len(sam.blocks) == 2
    model = transformers.SamModel(config).eval()
    randomise(model.vision_encoder)
    return model


@pytest.fixture
def clip_model(randomise):
    """A whole CLIPModel: vision and text."""
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 24, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.CLIPConfig(
        vision_config={**sizes, "image_size": 56, "patch_size": 14, "hidden_act": "quick_gelu"},
        text_config={**sizes, "vocab_size": 64},
        projection_dim=16,
    )
    model = transformers.CLIPModel(config).eval()
    randomise(model.vision_model)
    return model
