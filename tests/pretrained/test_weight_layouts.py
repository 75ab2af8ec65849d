"""Weights as people have them: variants, adapters, parts and old files side by side, wrapped keys."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

from nanoocr.config import ClipConfig, GPTConfig, SamConfig
from nanoocr.errors import CheckpointError
from nanoocr.model.deepencoder import DeepEncoder
from nanoocr.model.gpt import GPT
from nanoocr.pretrained.files import find_files, open_weights, read_gpt_config
from nanoocr.pretrained.load import encoder_for_deepseek_ocr, load_deepseek_ocr_encoder, load_gpt, load_sam

FIRST, SECOND = {"a": torch.zeros(2)}, {"b": torch.ones(3)}
WHOLE = {**FIRST, **SECOND}
PARTS = ("model-00001-of-00002", "model-00002-of-00002")


def put(folder: Path, name: str, weights: dict[str, Tensor] | dict[str, object]) -> None:
    if name.endswith(".safetensors"):
        safetensors.torch.save_file({key: t.contiguous() for key, t in weights.items()}, folder / name)
    else:
        torch.save(weights, folder / name)


def put_parts(folder: Path, suffix: str, stem: str = "model", index: bool = True) -> None:
    names = [f"{stem}-0000{i}-of-00002{suffix}" for i in (1, 2)]
    for name, weights in zip(names, (FIRST, SECOND)):
        put(folder, name, weights)
    if index:
        text = json.dumps({"metadata": {}, "weight_map": {"a": names[0], "b": names[1]}})
        (folder / f"{stem}{suffix}.index.json").write_text(text)


def keys_in(source: Path) -> list[str]:
    return sorted(open_weights(find_files(str(source))))


def test_an_index_decides_over_an_old_single_file(tmp_path):
    put_parts(tmp_path, ".safetensors")
    put(tmp_path, "model.safetensors", {"old": torch.zeros(1)})
    assert keys_in(tmp_path) == ["a", "b"]
    assert keys_in(tmp_path / "model.safetensors.index.json") == ["a", "b"]


def test_an_index_whose_parts_were_joined_says_nothing(tmp_path):
    put_parts(tmp_path, ".safetensors")
    for part in tmp_path.glob("model-*"):
        part.unlink()
    put(tmp_path, "model.safetensors", WHOLE)
    assert keys_in(tmp_path) == ["a", "b"]


@pytest.mark.parametrize(
    "beside",
    [
        *("model.fp16.safetensors", "model.bf16.safetensors", "model.non_ema.safetensors"),
        *("adapter_model.safetensors", "pytorch_lora_weights.safetensors", "consolidated.safetensors"),
        *("pytorch_model.bin", "optimizer.pt", "._model.safetensors"),
    ],
)
def test_what_lies_beside_the_model_is_left(tmp_path, beside):
    put(tmp_path, "model.safetensors", WHOLE)
    put(tmp_path, beside, {"other": torch.zeros(1)})
    assert keys_in(tmp_path) == ["a", "b"]


def test_a_variant_is_taken_where_there_is_nothing_else(tmp_path):
    put(tmp_path, "model.fp16.safetensors", WHOLE)
    assert keys_in(tmp_path) == ["a", "b"]


def test_an_adapter_alone_is_no_model(tmp_path):
    put(tmp_path, "adapter_model.safetensors", WHOLE)
    with pytest.raises(CheckpointError, match=r"only adapter_model\.safetensors, an adapter: merge it"):
        find_files(str(tmp_path))


@pytest.mark.parametrize("index", [True, False])
@pytest.mark.parametrize(("suffix", "stem"), [(".safetensors", "model"), (".bin", "pytorch_model")])
def test_parts_are_read_and_a_missing_one_is_named(tmp_path, suffix, stem, index):
    put_parts(tmp_path, suffix, stem, index)
    assert keys_in(tmp_path) == ["a", "b"]
    (tmp_path / f"{stem}-00002-of-00002{suffix}").unlink()
    with pytest.raises(CheckpointError, match=r"00002-of-00002.*not there|part 2 of 2 .*is missing"):
        find_files(str(tmp_path))


@pytest.mark.parametrize("text", ["", "[]", '{"weight_map": {"a": 3}}', '{"weight_map": {"a": "../x"}}'])
def test_an_index_of_another_form_is_refused(tmp_path, text):
    put_parts(tmp_path, ".safetensors")
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(CheckpointError, match="not an index of weight files"):
        find_files(str(tmp_path))


def test_parts_of_two_models_are_not_joined(tmp_path):
    put_parts(tmp_path, ".safetensors", index=False)
    put_parts(tmp_path, ".safetensors", "other", index=False)
    with pytest.raises(CheckpointError, match="parts of several models"):
        find_files(str(tmp_path))


@pytest.mark.parametrize("name", ["sam_vit_b_01ec64.pth", "weights.bin", "last.pt"])
def test_the_only_pickle_is_read_and_of_two_none_is_guessed(tmp_path, name):
    put(tmp_path, name, {"state_dict": WHOLE, "epoch": 3})
    put(tmp_path, "optimizer.bin", {"step": torch.zeros(1)})
    assert keys_in(tmp_path) == ["a", "b"]
    put(tmp_path, "z.pth", WHOLE)
    with pytest.raises(CheckpointError, match="name one of these files"):
        find_files(str(tmp_path))


@pytest.mark.parametrize("content", [{}, {"state_dict": {"a": 3}}, {"a": torch.zeros(1), "epoch": 3}, [1]])
def test_a_pickle_without_named_tensors_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="holds more than named tensors"):
        keys_in(tmp_path)


# ---------------------------------------------------------------------------------------------------------
# keys


@pytest.fixture
def encoder(make_config) -> DeepEncoder:
    sam = SamConfig(
        width=32, depth=2, heads=2, window=3, global_blocks=(1,), grid=(8, 8), neck=256, compressor=(16, 24)
    )
    config = replace(make_config(), sam=sam, clip=ClipConfig(width=24, depth=2, heads=2, grid=(4, 4)))
    made = DeepEncoder(config)
    made.init_weights(torch.Generator().manual_seed(0))
    return made.requires_grad_(False)


@pytest.mark.parametrize("prefix", ["image_encoder.", "", "module.image_encoder.", "model.image_encoder."])
def test_metas_sam_is_read_as_it_is_given_out(encoder, tmp_path, prefix):
    own = {key: t + 1 for key, t in encoder.sam_model.state_dict().items() if not key.startswith("net_")}
    others = {"prompt_encoder.x": torch.zeros(1), "mask_decoder.y": torch.zeros(1)} if prefix else {}
    put(tmp_path, "sam_vit_b_01ec64.pth", {**{f"{prefix}{key}": t for key, t in own.items()}, **others})
    report = load_sam(encoder, str(tmp_path))
    assert report.new == ("net_2.weight", "net_3.weight") and len(report.dropped) == len(others)
    for key, tensor in own.items():
        assert torch.equal(encoder.sam_model.state_dict()[key], tensor)


@pytest.mark.parametrize(
    "levels",
    [
        *("module.", "_orig_mod.", "module._orig_mod.", "model.", "_fsdp_wrapped_module.", "state_dict."),
        *("net.", "base_model.model."),
    ],
)
@pytest.mark.parametrize("cut", ["", "model."])
def test_wrappers_before_keys_and_a_level_more_or_less_do_not_matter(encoder, tmp_path, levels, cut):
    weights = {f"{levels}{key.removeprefix(cut)}": t for key, t in encoder_for_deepseek_ocr(encoder).items()}
    put(tmp_path, "model.safetensors", weights)
    report = load_deepseek_ocr_encoder(encoder, str(tmp_path))
    assert report.new == () and len(report.dropped) == 2


SIZES = GPTConfig(vocab_size=300, sequence_len=64, n_layer=2, n_head=1, n_kv_head=1, n_embd=128)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: torch.full_like(t, float("nan")), "not finite"),
        (lambda t: t.half() * float("inf"), "not finite"),
        (lambda t: (t * 100).to(torch.int8), "they are int8: give weights that are not quantised"),
        (lambda t: t.to(torch.complex64), "they are complex64"),
    ],
)
def test_numbers_that_are_no_weights_are_refused(encoder, tmp_path, change, words):
    weights = encoder_for_deepseek_ocr(encoder)
    name = next(key for key in weights if key.endswith("qkv.weight"))
    put(tmp_path, "model.pt", {**weights, name: change(weights[name])})
    with pytest.raises(CheckpointError, match=words):
        load_deepseek_ocr_encoder(encoder, str(tmp_path))
    put(tmp_path, "model.pt", {**weights, f"{name}_scale_inv": torch.ones(1)})
    with pytest.raises(CheckpointError, match=r"holds .*_scale_inv"):
        load_deepseek_ocr_encoder(encoder, str(tmp_path))


def test_a_pointer_of_git_lfs_and_a_json_file_are_no_weights(tmp_path):
    (tmp_path / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(CheckpointError, match="git lfs pull"):
        keys_in(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="holds no weights: name its folder"):
        keys_in(tmp_path / "config.json")


def test_state_dicts_within_each_other_and_byte_order_marks(tmp_path):
    put(tmp_path, "last.ckpt", {"model": {"state_dict": WHOLE}, "epoch": 3})
    assert keys_in(tmp_path) == ["a", "b"]
    put_parts(tmp_path, ".safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_bytes(b"\xef\xbb\xbf" + index.read_bytes())
    assert keys_in(tmp_path) == ["a", "b"]


def put_nanochat(folder: Path, more: dict[str, Tensor], **sizes: object) -> tuple[str, GPT]:
    gpt = GPT(SIZES).requires_grad_(False)
    gpt.init_weights(torch.Generator().manual_seed(0))
    torch.save({**gpt.state_dict(), **more}, folder / "model_000007.pt")
    meta = {name: getattr(SIZES, name) for name in GPTConfig.__dataclass_fields__}
    (folder / "meta_000007.json").write_text(json.dumps({"model_config": {**meta, **sizes}}))
    return str(folder), gpt


@pytest.mark.parametrize("rows", [320, 384, 512])
def test_rows_that_round_nanochats_tables_up_are_cut(tmp_path, rows):
    names = ("transformer.wte.weight", "lm_head.weight")
    drawn = {name: torch.randn(rows, 128, generator=torch.Generator().manual_seed(1)) for name in names}
    source, _ = put_nanochat(tmp_path, drawn)
    grown = GPT(replace(SIZES, vocab_size=301))
    load_gpt(grown, source)
    assert torch.equal(grown.lm_head.weight[:300], drawn["lm_head.weight"][:300])
    assert grown.lm_head.weight[300].abs().max() == 0
    torch.testing.assert_close(grown.transformer.wte.weight[300], drawn[names[0]][:300].mean(0))


def test_the_tables_of_angles_are_no_weights(tmp_path):
    source, _ = put_nanochat(tmp_path, {"cos": torch.zeros(1, 8), "sin": torch.zeros(1, 8)})
    assert load_gpt(GPT(replace(SIZES, vocab_size=301)), source).dropped == ("cos", "sin")


@pytest.mark.parametrize(
    "key", ["resid_lambdas", "x0_lambdas", "value_embeds.1.weight", "transformer.h.1.attn.ve_gate.weight"]
)
def test_nanochats_newer_architecture_is_refused_by_that_name(tmp_path, key):
    source, _ = put_nanochat(tmp_path, {key: torch.ones(2)})
    with pytest.raises(CheckpointError, match=r"holds .*nanochat's newer architecture of 2026"):
        load_gpt(GPT(replace(SIZES, vocab_size=301)), source)


def test_sliding_windows_show_in_the_meta_file(tmp_path):
    source, _ = put_nanochat(tmp_path, {}, window_pattern="SSSL")
    with pytest.raises(CheckpointError, match="window_pattern is SSSL: nanochat's newer architecture"):
        read_gpt_config(source)
    source, _ = put_nanochat(tmp_path, {}, window_pattern="L")
    assert read_gpt_config(source) == SIZES
