"""Vision weights of others: every source in the format that its makers publish, made small here."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

from nanoocr.config import d20
from nanoocr.errors import CheckpointError
from nanoocr.model.deepencoder import DeepEncoder
from nanoocr.model.vlm import VLM
from nanoocr.pretrained.files import OUR_SIZES, REVISIONS
from nanoocr.pretrained.load import (
    CLIP,
    SAM,
    encoder_for_deepseek_ocr,
    find_files,
    load_clip,
    load_deepseek_ocr_encoder,
    load_sam,
    translate,
)

transformers = pytest.importorskip("transformers")


# ---------------------------------------------------------------------------------------------------------
# SAM and CLIP


def test_sam_loads_and_computes_what_sam_does(encoder, sam_model, tmp_path):
    sam_model.save_pretrained(tmp_path / "sam")
    fresh = encoder.sam_model.net_2.weight.clone()
    report = load_sam(encoder, str(tmp_path / "sam"))
    pixels = torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.inference_mode():
        expected = sam_model.vision_encoder(pixels).last_hidden_state
        patches = encoder.sam_model(pixels).patches
    assert patches.std() > 0.1
    torch.testing.assert_close(patches, expected, atol=1e-4, rtol=1e-4)
    assert report.new == ("net_2.weight", "net_3.weight")
    assert torch.equal(encoder.sam_model.net_2.weight, fresh)
    assert {name.split(".")[0] for name in report.dropped} == {
        "shared_image_embedding",
        "prompt_encoder",
        "mask_decoder",
    }
    in_file = safetensors.torch.load_file(tmp_path / "sam" / "model.safetensors")
    assert len(report.loaded) + len(report.dropped) == len(in_file)


@pytest.mark.parametrize("whole", [True, False])
def test_clip_loads_in_both_spellings(encoder, clip_model, tmp_path, whole):
    """CLIPModel's keys begin with vision_model., those of a CLIPVisionModel may not."""
    weights = clip_model.state_dict()
    if not whole:
        weights = {k.removeprefix("vision_model."): v for k, v in weights.items() if "vision_model." in k}
    safetensors.torch.save_file(dict(weights), tmp_path / "model.safetensors")
    report = load_clip(encoder, str(tmp_path))
    embeddings = clip_model.vision_model.embeddings
    pixels = torch.rand(2, 3, 56, 56, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        patches = embeddings.patch_embedding(pixels)
        expected = clip_model.vision_model(pixels).last_hidden_state
        ours = encoder.vision_model(patches)
    # transformers keeps the class token; ours drops it.
    torch.testing.assert_close(ours, expected[:, 1:], atol=1e-5, rtol=1e-5)
    assert report.new == () and any("patch_embedding" in key for key in report.dropped)


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [
        ("clip", "num_attention_heads", 4),
        ("clip", "hidden_act", "gelu"),
        ("sam", "window_size", 5),
        ("sam", "global_attn_indexes", [0]),
        ("sam", "num_attention_heads", 1),
    ],
)
def test_what_shapes_cannot_show_is_read_from_the_configuration(
    encoder, clip_model, sam_model, tmp_path, part, field, value
):
    (clip_model if part == "clip" else sam_model).save_pretrained(tmp_path)
    load = load_clip if part == "clip" else load_sam
    load(encoder, str(tmp_path))
    config = json.loads((tmp_path / "config.json").read_text())
    config["vision_config"][field] = value
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=field):
        load(encoder, str(tmp_path))


def test_keys_of_a_compiled_model_and_a_pickle(encoder, clip_model, tmp_path):
    weights = {f"_orig_mod.{name}": tensor for name, tensor in clip_model.state_dict().items()}
    torch.save(weights, tmp_path / "pytorch_model.bin")
    assert load_clip(encoder, str(tmp_path)).new == ()


def test_mixed_up_sources_are_refused_and_nothing_is_set(encoder, clip_model, sam_model, tmp_path):
    clip_model.save_pretrained(tmp_path / "clip")
    sam_model.save_pretrained(tmp_path / "sam")
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"type 'clip', not 'sam': is it the right file"):
        load_sam(encoder, str(tmp_path / "clip"))
    with pytest.raises(CheckpointError, match=r"type 'sam', not 'clip'"):
        load_clip(encoder, str(tmp_path / "sam"))
    for name in ("clip", "sam"):
        (tmp_path / name / "config.json").unlink()  # then the keys tell
    with pytest.raises(CheckpointError, match=r"keys do not belong to SAM-ViT.*right file"):
        load_sam(encoder, str(tmp_path / "clip"))
    with pytest.raises(CheckpointError, match=r"keys do not belong to CLIP-ViT"):
        load_clip(encoder, str(tmp_path / "sam"))
    assert all(torch.equal(before[name], tensor) for name, tensor in encoder.state_dict().items())


def change(folder: Path, edit) -> None:
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    edit(weights)
    safetensors.torch.save_file(weights, folder / "model.safetensors")


def test_missing_misshaped_and_truncated_sources_set_nothing(encoder, clip_model, tmp_path):
    clip_model.save_pretrained(tmp_path)
    key = "vision_model.encoder.layers.1.mlp.fc1.weight"
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    change(tmp_path, lambda weights: weights.update({key: weights[key][:5].clone()}))
    with pytest.raises(CheckpointError, match=r"fc1.weight has shape \(5, 24\) where \(96, 24\)"):
        load_clip(encoder, str(tmp_path))
    change(tmp_path, lambda weights: weights.pop(key))
    with pytest.raises(CheckpointError, match=r"fc1.weight \(1\) missing"):
        load_clip(encoder, str(tmp_path))
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="not a complete safetensors file"):
        load_clip(encoder, str(tmp_path))
    assert all(torch.equal(before[name], tensor) for name, tensor in encoder.state_dict().items())


def test_a_pickle_of_more_than_tensors_is_refused(encoder, tmp_path):
    torch.save({"a": torch.zeros(1), "b": Path("x")}, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="not a file of plain tensors"):
        load_clip(encoder, str(tmp_path))


def test_a_file_that_is_no_pickle_or_a_cut_one_is_refused(encoder, clip_model, tmp_path):
    file = tmp_path / "pytorch_model.bin"
    torch.save(clip_model.state_dict(), file, _use_new_zipfile_serialization=False)
    whole = file.read_bytes()
    for content in (b"a text", b"", *(whole[:size] for size in (1, 18, 1000, len(whole) // 2))):
        file.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"pytorch_model\.bin: not a file of plain tensors"):
            load_clip(encoder, str(tmp_path))


def test_tables_name_every_weight_of_d20_once():
    """Left to right and back: no two rows collide, none is out of use."""
    with torch.device("meta"):
        model = VLM(d20())
    for table, module in ((CLIP, model.encoder.vision_model), (SAM, model.encoder.sam_model)):
        back = tuple((ours.partition("#")[0], theirs) for theirs, ours in table.names)
        theirs = {name: translate(name, back) for name in module.state_dict() if name not in table.new}
        assert None not in theirs.values() and len(set(theirs.values())) == len(theirs)
        for name, key in theirs.items():
            assert (translate(key, table.names) or "").partition("#")[0] == name


# ---------------------------------------------------------------------------------------------------------
# DeepSeek-OCR


def deepseek_weights(encoder: DeepEncoder) -> dict[str, Tensor]:
    language = {
        "model.embed_tokens.weight": torch.zeros(4, 8),
        "model.layers.0.mlp.experts.3.up_proj.weight": torch.zeros(4, 8),
        "model.norm.weight": torch.zeros(8),
        "lm_head.weight": torch.zeros(4, 8),
        "model.vision_model.embeddings.position_ids": torch.arange(17)[None],
    }
    return {**encoder_for_deepseek_ocr(encoder), **language}


def test_deepseek_ocrs_encoder_loads_from_shards(encoder, tmp_path):
    weights = list(deepseek_weights(encoder).items())
    half = len(weights) // 2
    for number, part in enumerate((weights[:half], weights[half:])):
        safetensors.torch.save_file(dict(part), tmp_path / f"model-0000{number}-of-2.safetensors")
    expected = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    encoder.init_weights(torch.Generator().manual_seed(9))
    report = load_deepseek_ocr_encoder(encoder, str(tmp_path))
    assert all(torch.equal(tensor, expected[name]) for name, tensor in encoder.state_dict().items())
    assert report.new == () and "lm_head.weight" in report.dropped
    assert "view_seperator" in report.loaded


@pytest.mark.parametrize(
    ("part", "size", "value", "shown"),
    [
        ("sam", "heads", 4, "sam.heads is 4, the model here has 2"),
        ("sam", "window", 5, "sam.window is 5, the model here has 3"),
        ("sam", "global_blocks", [0], r"sam.global_blocks is \(0,\), the model here has \(1,\)"),
        ("clip", "heads", 4, "clip.heads is 4, the model here has 2"),
        ("clip", "heads", "two", "not a model configuration"),
    ],
)
def test_the_sizes_that_export_wrote_are_held_against_the_model(
    encoder, make_config, tmp_path, part, size, value, shown
):
    """Heads and windows leave no trace in the shapes."""
    safetensors.torch.save_file(encoder_for_deepseek_ocr(encoder), tmp_path / "model.safetensors")
    sam, clip = asdict(encoder.sam_model.config), asdict(encoder.vision_model.config)
    sizes = {**asdict(make_config()), "sam": sam, "clip": clip}
    (tmp_path / OUR_SIZES).write_text(json.dumps(sizes))
    load_deepseek_ocr_encoder(encoder, str(tmp_path))
    sizes[part][size] = value
    (tmp_path / OUR_SIZES).write_text(json.dumps(sizes))
    with pytest.raises(CheckpointError, match=shown):
        load_deepseek_ocr_encoder(encoder, str(tmp_path))


def test_the_full_size_encoder_exports_the_477_published_keys():
    with torch.device("meta"):
        assert len(encoder_for_deepseek_ocr(DeepEncoder(d20()))) == 477


def test_a_key_in_two_shards_is_refused(encoder, tmp_path):
    weights = deepseek_weights(encoder)
    safetensors.torch.save_file(weights, tmp_path / "a.safetensors")
    safetensors.torch.save_file({"lm_head.weight": torch.zeros(1)}, tmp_path / "b.safetensors")
    with pytest.raises(CheckpointError, match=r"lm_head\.weight stands in another file"):
        load_deepseek_ocr_encoder(encoder, str(tmp_path))


# ---------------------------------------------------------------------------------------------------------
# the hub


def test_a_hub_name_is_fetched_at_its_revision(monkeypatch, tmp_path, clip_model, encoder):
    clip_model.save_pretrained(tmp_path / "abc123")
    asked = []

    def snapshot(name, revision, allow_patterns):
        asked.append((name, revision))
        return str(tmp_path / "abc123")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    load_clip(encoder, "openai/clip-vit-large-patch14@abc123")
    assert set(asked) == {("openai/clip-vit-large-patch14", "abc123")}
    asked.clear()
    find_files("openai/clip-vit-large-patch14")
    find_files("somebody/clip")
    pinned = REVISIONS["openai/clip-vit-large-patch14"]
    assert set(asked) == {("openai/clip-vit-large-patch14", pinned), ("somebody/clip", None)}


def test_pinned_revisions_are_whole_commits():
    assert all(re.fullmatch("[0-9a-f]{40}", revision) for revision in REVISIONS.values())


def test_without_a_network_one_sentence_says_what_to_download(monkeypatch):
    from huggingface_hub.errors import LocalEntryNotFoundError

    def snapshot(*args, **kwargs):
        raise LocalEntryNotFoundError("Cannot find the requested files.\nMore words.")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    with pytest.raises(CheckpointError) as caught:
        find_files("facebook/sam-vit-base@70c1a07")
    message = str(caught.value)
    assert "https://huggingface.co/facebook/sam-vit-base/tree/70c1a07" in message and "\n" not in message


def test_what_is_neither_file_nor_hub_name_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="no such file or folder here, and no hub name"):
        find_files(str(tmp_path / "nowhere" / "at" / "all"))
    with pytest.raises(CheckpointError, match=r"holds no \.safetensors"):
        find_files(str(tmp_path))
