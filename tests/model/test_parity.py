"""Number for number: transformers' models of the same architectures, and a slow encoder of our own.

transformers is a development dependency and a reference only. Its `unlimited_ocr` vision model is
DeepSeek-OCR's encoder (it gives the released code's numbers to 2e-5), its NanoChat is nanochat's original
GPT. Only square pictures exist there; the slow encoder below covers the others.
"""

from __future__ import annotations

import inspect
from functools import partial
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nanoocr.config import ClipConfig, GPTConfig, ModelConfig, SamConfig
from nanoocr.model.cache import KVCache
from nanoocr.model.deepencoder import DeepEncoder
from nanoocr.model.gpt import GPT
from nanoocr.pretrained.load import set_weights, transformers_names
from scripts.bench import reference

# ---------------------------------------------------------------------------------------------------------
# DeepEncoder

# 448 pixels is native for SAM (28 patches), and 7 x 7 is then the final grid; CLIP's native one is 8 x 8.
CONFIG = ModelConfig(
    name="parity",
    sam=SamConfig(
        width=48,
        depth=3,
        heads=4,
        window=14,
        global_blocks=(2,),
        grid=(28, 28),
        neck=16,
        compressor=(24, 32),
    ),
    clip=ClipConfig(width=32, depth=2, heads=4, grid=(8, 8)),
    gpt=GPTConfig(vocab_size=16, sequence_len=64, n_layer=1, n_head=1, n_kv_head=1, n_embd=8),
    views=((448, 448),),
)


@pytest.fixture(scope="module")
def reference_encoder():
    """transformers' encoder with random weights."""
    pytest.importorskip("transformers.models.unlimited_ocr.modeling_unlimited_ocr")
    return reference.reference_encoder(CONFIG)


@pytest.fixture(scope="module")
def encoder(reference_encoder) -> DeepEncoder:
    """Ours with the reference's weights; strictly all of them."""
    encoder = DeepEncoder(CONFIG)
    report = reference.copy_weights(reference_encoder, encoder)
    assert report.dropped == () and all("_model." not in name for name in report.new)
    return encoder.requires_grad_(False)


@pytest.mark.parametrize(
    "side",
    [
        448,  # SAM's native size, a multiple of the window of 14 patches; CLIP's grid is shrunk
        512,  # larger than native, windows padded; CLIP's native grid
        256,  # smaller
        320,
        640,  # both larger
    ],
)
def test_encoder_equals_transformers(reference_encoder, encoder, side):
    pixels = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(side)) * 2 - 1
    with torch.inference_mode():
        expected = reference_encoder(pixels).last_hidden_state
        features = encoder(pixels)
    ours = torch.cat([features.clip, features.sam], dim=-1)
    assert ours.std() > 0.1 and (ours[0] - ours[1]).abs().max() > 0.1  # there is something to compare
    print(f"side {side}: largest difference {float((ours - expected).abs().max()):.1e}")  # with pytest -s
    torch.testing.assert_close(ours, expected, atol=1e-4, rtol=1e-4)


def test_gradients_of_the_encoder_equal_transformers():
    """Of every weight, after one scalar of all features."""
    pytest.importorskip("transformers.models.unlimited_ocr.modeling_unlimited_ocr")
    theirs = reference.reference_encoder(CONFIG).requires_grad_(True)
    ours, grads = DeepEncoder(CONFIG), DeepEncoder(CONFIG)
    reference.copy_weights(theirs, ours)
    generator = torch.Generator().manual_seed(8)
    pixels = torch.rand(1, 3, 256, 256, generator=generator) * 2 - 1
    weights = torch.randn(1, 16, 64, generator=generator)
    (theirs(pixels).last_hidden_state * weights).sum().backward()
    features = ours(pixels)
    (torch.cat([features.clip, features.sam], dim=-1) * weights).sum().backward()
    # Their gradients take the way of their weights: renamed, q k v joined.
    readers = {name: partial(torch.clone, parameter.grad) for name, parameter in theirs.named_parameters()}
    set_weights(grads, reference.UNLIMITED_OCR, readers, "transformers")
    expected = dict(grads.named_parameters())
    compared = {name: p.grad for name, p in ours.named_parameters() if "_model." in name}
    assert len(compared) > 50
    for name, grad in compared.items():
        scale = float(expected[name].detach().abs().max())
        assert scale > 0, name
        torch.testing.assert_close(grad, expected[name].detach(), atol=1e-4 * scale, rtol=1e-3)


def test_tokens_of_tiled_pictures_equal_transformers(reference_encoder, encoder):
    """Its `get_image_features`: tiles stitched to a mosaic, newlines, the order of the parts."""
    module = pytest.importorskip("transformers.models.unlimited_ocr.modeling_unlimited_ocr")
    torch.nn.init.normal_(encoder.projector.layers.weight, std=0.2)
    torch.nn.init.normal_(encoder.image_newline)
    torch.nn.init.normal_(encoder.view_seperator)
    host = SimpleNamespace(
        vision_tower=reference_encoder,
        multi_modal_projector=encoder.projector,
        image_newline=encoder.image_newline,
        view_separator=encoder.view_seperator,
    )
    generator = torch.Generator().manual_seed(6)
    overviews = torch.rand(2, 3, 256, 256, generator=generator) * 2 - 1
    tiles = torch.rand(6, 3, 192, 192, generator=generator) * 2 - 1
    get_image_features = inspect.unwrap(module.UnlimitedOcrModel.get_image_features)
    with torch.inference_mode():
        expected = get_image_features(host, overviews, tiles, [6, 0], [[2, 3], [1, 1]]).pooler_output
        groups = encoder.encode_groups([*tiles, *overviews])
        ours = encoder.picture_tokens(groups, [(3, 2), (0, 0)])
    assert len(expected[0]) == 9 * 7 + 4 * 5 + 1 and len(expected[1]) == 4 * 5 + 1
    torch.testing.assert_close(ours, torch.cat(expected), atol=1e-4, rtol=1e-4)


# ---------------------------------------------------------------------------------------------------------
# an encoder for reading, not for speed: one query at a time, explicit borders, float64


def linear(x: Tensor, weights: dict[str, Tensor], name: str) -> Tensor:
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def layer_norm(x: Tensor, weights: dict[str, Tensor], name: str, eps: float) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    normed = centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt()
    return normed * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def convolve(x_HWC: Tensor, kernel_OCYX: Tensor, stride: int) -> Tensor:
    """3 x 3 with a border of one zero, as a sum over the nine places of the kernel."""
    H, W, _ = x_HWC.shape
    padded = torch.zeros(H + 2, W + 2, x_HWC.size(2), dtype=x_HWC.dtype)
    padded[1:-1, 1:-1] = x_HWC
    out = 0
    for y in range(3):
        for x in range(3):
            out = out + padded[y : y + H : stride, x : x + W : stride] @ kernel_OCYX[:, :, y, x].T
    return out


def table_row(table: Tensor, length: int, distance: int) -> Tensor:
    """Row for `distance` of a relative-position table, linearly resized to 2 * length - 1 rows."""
    place = (distance + length - 0.5) * table.size(0) / (2 * length - 1) - 0.5
    place = min(max(place, 0.0), table.size(0) - 1.0)
    low = int(place)
    return table[low] * (low + 1 - place) + table[min(low + 1, table.size(0) - 1)] * (place - low)


def attention(x_HWC: Tensor, weights: dict[str, Tensor], name: str, heads: int) -> Tensor:
    """SAM's: bias from the row distance and from the column distance."""
    H, W, C = x_HWC.shape
    D = C // heads
    q, k, v = linear(x_HWC.reshape(H * W, C), weights, f"{name}.qkv").split(C, -1)
    rows, columns = torch.arange(H * W) // W, torch.arange(H * W) % W
    by_row, by_column = weights[f"{name}.rel_pos_h"], weights[f"{name}.rel_pos_w"]
    out = torch.zeros(H * W, C, dtype=x_HWC.dtype)
    for i in range(H * W):
        near_h = torch.stack([table_row(by_row, H, int(rows[i]) - j) for j in range(H)])[rows]
        near_w = torch.stack([table_row(by_column, W, int(columns[i]) - j) for j in range(W)])[columns]
        for head in range(heads):
            part = slice(head * D, head * D + D)
            scores = k[:, part] @ q[i, part] / D**0.5 + near_h @ q[i, part] + near_w @ q[i, part]
            out[i, part] = scores.softmax(0) @ v[:, part]
    return linear(out, weights, f"{name}.proj").view(H, W, C)


def windowed(x_HWC: Tensor, weights: dict[str, Tensor], name: str, heads: int, side: int) -> Tensor:
    """Window after window; what lies outside of the picture is a zero vector that takes part."""
    H, W, C = x_HWC.shape
    out = torch.zeros_like(x_HWC)
    for top in range(0, H, side):
        for left in range(0, W, side):
            window = torch.zeros(side, side, C, dtype=x_HWC.dtype)
            inside = x_HWC[top : top + side, left : left + side]
            window[: inside.size(0), : inside.size(1)] = inside
            attended = attention(window, weights, name, heads)
            out[top : top + side, left : left + side] = attended[: inside.size(0), : inside.size(1)]
    return out


def resized(table_HWC: Tensor, size: tuple[int, int]) -> Tensor:
    """Antialiased bicubic, from Keys' kernel with a = -0.5, one axis after the other (as in Pillow)."""

    def matrix(old: int, new: int) -> Tensor:
        rows = torch.zeros(new, old, dtype=torch.float64)
        stretch = max(1.0, old / new)
        for i in range(new):
            centre = (i + 0.5) * old / new
            first, last = int(max(0, centre - 2 * stretch + 0.5)), int(min(old, centre + 2 * stretch + 0.5))
            for j in range(first, last):
                t = abs((j + 0.5 - centre) / stretch)
                inner, outer = 1.5 * t**3 - 2.5 * t**2 + 1, -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2
                rows[i, j] = inner if t < 1 else outer if t < 2 else 0.0
        return rows / rows.sum(1, keepdim=True)

    if tuple(table_HWC.shape[:2]) == size:
        return table_HWC
    down, across = (matrix(old, new) for old, new in zip(table_HWC.shape, size))
    return torch.einsum("yh,xw,hwc->yxc", down, across, table_HWC)


def slow_sam(picture: Tensor, weights: dict[str, Tensor], config: SamConfig) -> Tensor:
    """(3, 16H, 16W) -> (H/4, W/4, compressor[1])."""
    H, W = picture.size(1) // 16, picture.size(2) // 16
    patches = picture.view(3, H, 16, W, 16).permute(1, 3, 0, 2, 4).reshape(H, W, -1)
    x = patches @ weights["patch_embed.proj.weight"].flatten(1).T + weights["patch_embed.proj.bias"]
    x = x + resized(weights["pos_embed"][0], (H, W))
    for i in range(config.depth):
        name = f"blocks.{i}"
        y = layer_norm(x, weights, f"{name}.norm1", 1e-6)
        if i in config.global_blocks:
            x = x + attention(y, weights, f"{name}.attn", config.heads)
        else:
            x = x + windowed(y, weights, f"{name}.attn", config.heads, config.window)
        hidden = linear(layer_norm(x, weights, f"{name}.norm2", 1e-6), weights, f"{name}.mlp.lin1")
        x = x + linear(hidden * (1 + torch.erf(hidden / 2**0.5)) / 2, weights, f"{name}.mlp.lin2")
    x = layer_norm(x @ weights["neck.0.weight"][:, :, 0, 0].T, weights, "neck.1", 1e-6)
    x = layer_norm(convolve(x, weights["neck.2.weight"], 1), weights, "neck.3", 1e-6)
    return convolve(convolve(x, weights["net_2.weight"], 2), weights["net_3.weight"], 2)


def slow_clip(grid_HWC: Tensor, weights: dict[str, Tensor], config: ClipConfig) -> Tensor:
    """(H, W, C) -> (H*W, C)."""
    H, W, C = grid_HWC.shape
    table = weights["embeddings.position_embedding.weight"]
    x = grid_HWC + resized(table[1:].view(*config.grid, C), (H, W))
    x = torch.cat([(weights["embeddings.class_embedding"] + table[0])[None], x.view(H * W, C)])
    x = layer_norm(x, weights, "pre_layrnorm", 1e-5)
    for i in range(config.depth):
        name = f"transformer.layers.{i}"
        y = layer_norm(x, weights, f"{name}.layer_norm1", 1e-5)
        q, k, v = linear(y, weights, f"{name}.self_attn.qkv_proj").split(C, -1)
        D = C // config.heads
        parts = [slice(head * D, head * D + D) for head in range(config.heads)]
        mixed = [(q[:, p] @ k[:, p].T / D**0.5).softmax(-1) @ v[:, p] for p in parts]
        x = x + linear(torch.cat(mixed, -1), weights, f"{name}.self_attn.out_proj")
        hidden = linear(layer_norm(x, weights, f"{name}.layer_norm2", 1e-5), weights, f"{name}.mlp.fc1")
        x = x + linear(hidden * torch.sigmoid(1.702 * hidden), weights, f"{name}.mlp.fc2")
    return x[1:]


def part_of(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name: tensor.double() for name, tensor in module.state_dict().items()}


@pytest.mark.parametrize("size", [(64, 128), (128, 64), (64, 256), (192, 128), (128, 128)])
def test_encoder_equals_the_slow_one_at_any_size(tiny_model, size):
    encoder, config = tiny_model.encoder, tiny_model.config
    picture = torch.rand(3, *size) * 2 - 1
    grid = slow_sam(picture.double(), part_of(encoder.sam_model), config.sam)
    clip = slow_clip(grid, part_of(encoder.vision_model), config.clip)
    sam = grid.flatten(0, 1)
    features = encoder(picture[None])
    for ours, expected in ((features.sam, sam), (features.clip, clip)):
        torch.testing.assert_close(ours[0].double(), expected, atol=1e-4, rtol=1e-4)
    expected = linear(torch.cat([clip, sam], -1), part_of(encoder.projector), "layers")
    torch.testing.assert_close(features.projected[0].flatten(0, 1).double(), expected, atol=1e-4, rtol=1e-4)


# ---------------------------------------------------------------------------------------------------------
# GPT


@pytest.fixture(params=[4, 2, 1], ids=lambda heads: f"{heads}_kv_heads")
def gpt_pair(request):
    """Ours and transformers' with the same random weights."""
    transformers = pytest.importorskip("transformers", minversion="5.0")
    heads = request.param
    gpt = GPT(GPTConfig(vocab_size=97, sequence_len=64, n_layer=3, n_head=4, n_kv_head=heads, n_embd=64))
    generator = torch.Generator().manual_seed(5)
    for parameter in gpt.parameters():
        torch.nn.init.normal_(parameter, std=1.5 * parameter.size(1) ** -0.5, generator=generator)
    config = transformers.NanoChatConfig(
        vocab_size=97,
        hidden_size=64,
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=heads,
        max_position_embeddings=64,
        rms_norm_eps=torch.finfo(torch.float32).eps,
        pad_token_id=None,
        attn_implementation="sdpa",
    )
    reference = transformers.NanoChatForCausalLM(config).eval()
    reference.load_state_dict(transformers_names(gpt.state_dict()), strict=True)
    return gpt, reference


IDS = torch.randint(0, 97, (2, 48), generator=torch.Generator().manual_seed(6))


def test_gpt_equals_transformers(gpt_pair):
    gpt, reference = gpt_pair
    with torch.inference_mode():
        ours, expected = gpt.logits(gpt(gpt.embed(IDS))), reference(input_ids=IDS).logits
    assert ours.std() > 0.5
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)


def test_embeddings_enter_before_the_first_norm(gpt_pair):
    """The way that vision tokens take: any vector in the place of an embedding."""
    gpt, reference = gpt_pair
    x = torch.randn(2, 20, 64) * 7
    with torch.inference_mode():
        ours, expected = gpt.logits(gpt(x)), reference(inputs_embeds=x).logits
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)


def test_cached_decoding_equals_transformers(gpt_pair):
    """A prefill, a second chunk on top, then one token at a time, against the reference without a cache."""
    gpt, reference = gpt_pair
    cache = KVCache(gpt.config, batch=2, capacity=48, dtype=torch.float32, device="cpu")
    outputs = []
    with torch.inference_mode():
        expected = reference(input_ids=IDS).logits
        for chunk in IDS.split([20, 12, *[1] * 16], dim=1):
            outputs.append(gpt.logits(gpt(gpt.embed(chunk), cache)))
            cache.lengths += chunk.size(1)
    torch.testing.assert_close(torch.cat(outputs, 1), expected, atol=1e-5, rtol=1e-5)


def test_gradients_equal_transformers(gpt_pair):
    gpt, reference = gpt_pair
    ours = gpt.logits(gpt(gpt.embed(IDS[:, :-1])))
    expected = reference(input_ids=IDS[:, :-1]).logits
    for logits in (ours, expected):
        F.cross_entropy(logits.flatten(0, 1).float(), IDS[:, 1:].flatten()).backward()
    theirs = dict(reference.named_parameters())
    found = transformers_names({name: parameter.grad for name, parameter in gpt.named_parameters()})
    assert found.keys() == theirs.keys()
    for name, grad in found.items():
        torch.testing.assert_close(grad, theirs[name].grad, atol=1e-5, rtol=1e-4)
