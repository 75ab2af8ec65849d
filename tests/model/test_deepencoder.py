"""The encoder's keys, sizes and token layout."""

from __future__ import annotations

import pytest
import torch

from nanoocr.config import preset
from nanoocr.image_process import count_vision_tokens
from nanoocr.model.deepencoder import DeepEncoder
from nanoocr.model.vlm import VLM, count_parameters


@pytest.fixture(scope="module")
def d20() -> VLM:
    with torch.device("meta"):
        return VLM(preset("d20"))


def both(name: str) -> list[str]:
    return [f"{name}.weight", f"{name}.bias"]


def released_keys() -> set[str]:
    """The keys of DeepSeek-OCR's vision side without `model.`, its unused patch convolution left out."""
    keys = ["sam_model.pos_embed", *both("sam_model.patch_embed.proj")]
    for i in range(12):
        block = f"sam_model.blocks.{i}"
        for part in ("norm1", "norm2", "attn.qkv", "attn.proj", "mlp.lin1", "mlp.lin2"):
            keys += both(f"{block}.{part}")
        keys += [f"{block}.attn.rel_pos_h", f"{block}.attn.rel_pos_w"]
    keys += ["sam_model.neck.0.weight", *both("sam_model.neck.1")]
    keys += ["sam_model.neck.2.weight", *both("sam_model.neck.3")]
    keys += ["sam_model.net_2.weight", "sam_model.net_3.weight"]
    keys += ["vision_model.embeddings.class_embedding", "vision_model.embeddings.position_embedding.weight"]
    keys += both("vision_model.pre_layrnorm")
    for i in range(24):
        for part in (
            *("layer_norm1", "layer_norm2", "self_attn.qkv_proj", "self_attn.out_proj"),
            *("mlp.fc1", "mlp.fc2"),
        ):
            keys += both(f"vision_model.transformer.layers.{i}.{part}")
    return {*keys, *both("projector.layers"), "image_newline", "view_seperator"}


def test_d20_keys_are_those_of_the_released_encoder(d20):
    found = set(d20.encoder.state_dict())
    assert found - released_keys() == set()
    assert released_keys() - found == set()
    assert len(found) == 477 - 2  # without CLIP's patch convolution and its position_ids buffer


def test_d20_shapes(d20):
    shapes = {name: tuple(tensor.shape) for name, tensor in d20.encoder.state_dict().items()}
    assert shapes["sam_model.pos_embed"] == (1, 64, 64, 768)
    assert shapes["sam_model.net_3.weight"] == (1024, 512, 3, 3)
    assert shapes["vision_model.embeddings.position_embedding.weight"] == (257, 1024)
    assert shapes["projector.layers.weight"] == (1280, 2048)
    assert shapes["image_newline"] == shapes["view_seperator"] == (1280,)


def test_d20_sizes(d20):
    assert count_parameters(d20.encoder.sam_model) == 95_569_152
    assert count_parameters(d20.encoder.vision_model) == 302_575_616
    assert count_parameters(d20.encoder.projector) == 2_622_720
    assert count_parameters(d20.encoder) == 95_569_152 + 302_575_616 + 2_622_720 + 2 * 1280
    assert count_parameters(d20.gpt) == 560_990_720
    assert count_parameters(d20) == 961_760_768  # 962,362,880 less CLIP's unused convolution of 602,112


def test_nothing_but_parameters_is_stored(d20):
    """No buffers: a model built on the meta device needs its weights and nothing else."""
    assert set(d20.state_dict()) == {name for name, _ in d20.named_parameters()}


def test_newline_after_every_row_and_separator_last(tiny_config, randomise):
    encoder = DeepEncoder(tiny_config)
    randomise(encoder)
    grid = torch.randn(2, 3, 2, 32)
    out = encoder.arrange(grid)
    expected = []
    for row in grid[1]:
        expected += [*row, encoder.image_newline]
    assert torch.equal(out[1], torch.stack([*expected, encoder.view_seperator]))


@pytest.mark.parametrize("size", [(64, 64), (64, 128), (128, 64), (192, 128)])
def test_number_of_tokens(tiny_config, randomise, size):
    encoder = DeepEncoder(tiny_config)
    randomise(encoder)
    features = encoder(torch.randn(2, 3, *size))
    H, W = size[0] // 64, size[1] // 64
    assert features.patches.shape == (2, 8, 4 * H, 4 * W)
    assert features.sam.shape == features.clip.shape == (2, H * W, 24)
    assert features.projected.shape == (2, H, W, 32)
    assert features.tokens.shape == (2, count_vision_tokens(size), 32)


@pytest.mark.parametrize(("side", "tokens"), [(512, 73), (640, 111), (1024, 273), (1280, 421)])
def test_tokens_of_the_square_modes(side, tokens):
    with torch.device("meta"):
        encoder = DeepEncoder(preset("nano"))
        assert encoder.arrange(torch.empty(1, side // 64, side // 64, 256)).shape == (1, tokens, 256)


def test_clip_comes_before_sam(tiny_config, randomise):
    encoder = DeepEncoder(tiny_config)
    randomise(encoder)
    weight, bias = encoder.projector.layers.weight, encoder.projector.layers.bias
    features = encoder(torch.randn(1, 3, 128, 128))
    expected = features.clip @ weight[:, :24].T + features.sam @ weight[:, 24:].T + bias
    torch.testing.assert_close(features.projected.flatten(1, 2), expected, atol=1e-5, rtol=1e-5)


def test_views_of_several_sizes_come_back_in_their_order(tiny_config, randomise):
    encoder = DeepEncoder(tiny_config)
    randomise(encoder)
    views = [torch.randn(3, *size) for size in [(64, 128), (128, 64), (64, 128), (64, 64), (128, 64)]]
    groups = encoder.encode_groups(views)
    assert [indices for indices, _ in groups] == [[0, 2], [1, 4], [3]]
    expected = torch.cat([encoder(view[None]).tokens[0] for view in views])
    torch.testing.assert_close(encoder.picture_tokens(groups, [(0, 0)] * 5), expected, atol=1e-5, rtol=1e-5)


def test_one_tensor_of_views_is_one_group(tiny_config, randomise):
    encoder = DeepEncoder(tiny_config)
    randomise(encoder)
    ((indices, features),) = encoder.encode_groups(torch.randn(3, 3, 64, 64))
    assert indices == [0, 1, 2] and features.tokens.shape[0] == 3


def test_compute_follows_the_dtype_of_the_views(tiny_config, randomise):
    encoder = DeepEncoder(tiny_config)
    randomise(encoder)
    features = encoder(torch.randn(1, 3, 64, 192).bfloat16())  # not native: tables are resized on the way
    assert {stage.dtype for stage in features} == {torch.bfloat16}


def test_every_parameter_has_a_gradient(tiny_config, randomise):
    encoder = DeepEncoder(tiny_config)
    randomise(encoder)
    encoder(torch.randn(2, 3, 128, 192)).tokens.square().sum().backward()
    silent = [name for name, parameter in encoder.named_parameters() if not parameter.grad.abs().sum() > 0]
    assert silent == []


def test_fresh_weights_depend_on_the_seed_alone(tiny_config):
    models = [VLM(tiny_config) for _ in range(3)]
    for model, seed in zip(models, (0, 0, 1)):
        torch.manual_seed(torch.seed())
        model.init_weights(seed)
    a, b, c = (model.state_dict() for model in models)
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a["encoder.projector.layers.weight"], c["encoder.projector.layers.weight"])


def test_fresh_weights_leave_nothing_uninitialised(tiny_config):
    model = VLM(tiny_config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(float("nan"))
    model.init_weights(0)
    assert [name for name, p in model.named_parameters() if not p.isfinite().all()] == []
