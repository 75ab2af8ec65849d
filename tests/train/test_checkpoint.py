"""Model folders, training steps and DeepEncoder files: round trips, and a name in every refusal."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch

from nanoocr.bpe import Tokenizer
from nanoocr.errors import CheckpointError
from nanoocr.files import MANIFEST
from nanoocr.model.folder import (
    CONFIG,
    STATE,
    TOKENIZER,
    WEIGHTS,
    complete_steps,
    load_deepencoder,
    load_model,
    save_deepencoder,
    save_model,
    step_folder,
)
from nanoocr.model.vlm import VLM
from nanoocr.train.checkpoint import drop_old_steps, load_state, save_step


@pytest.fixture
def folder(tmp_path, tiny_model, byte_tokenizer) -> Path:
    """A saved model folder."""
    save_model(tmp_path / "model", tiny_model, byte_tokenizer, about={"stage": 2})
    return tmp_path / "model"


def rewrite(path: Path, content: bytes) -> None:
    """Put other content in the place of a file, with a manifest that vouches for it."""
    path.write_bytes(content)
    manifest = json.loads((path.parent / MANIFEST).read_bytes())
    manifest["files"][path.name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (path.parent / MANIFEST).write_text(json.dumps(manifest))


def assert_equal_weights(a: torch.nn.Module, b: torch.nn.Module) -> None:
    ours, theirs = a.state_dict(), b.state_dict()
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


# ---------------------------------------------------------------------------------------------------------
# model folders


def test_round_trip_is_bit_equal(folder, tiny_model, byte_tokenizer):
    model, tokenizer = load_model(folder)
    assert_equal_weights(model, tiny_model)
    assert tokenizer == byte_tokenizer and model.config == tiny_model.config
    ids, views = torch.randint(0, 256, (1, 9)), torch.rand(1, 3, 64, 128)
    ids[0, 2:6] = tokenizer.image_id
    assert torch.equal(model(ids, views=views), tiny_model(ids, views=views))


def test_loaded_model_can_be_trained(folder):
    model, _ = load_model(folder)
    assert all(p.requires_grad and p.is_leaf and p.dtype == torch.float32 for p in model.parameters())


def test_the_layout_is_the_documented_one(folder, tiny_model):
    assert {path.name for path in folder.iterdir()} == {WEIGHTS, CONFIG, TOKENIZER, MANIFEST}
    config = json.loads((folder / CONFIG).read_bytes())
    assert config["format_version"] == 1 and config["about"] == {"stage": 2}
    assert set(safetensors.torch.load_file(folder / WEIGHTS)) == set(tiny_model.state_dict())


def test_weights_stored_in_bf16_compute_in_fp32_masters(tmp_path, tiny_model, byte_tokenizer):
    save_model(tmp_path / "half", tiny_model, byte_tokenizer, dtype=torch.bfloat16)
    model, _ = load_model(tmp_path / "half", compute_dtype=torch.bfloat16)
    assert model.compute_dtype == torch.bfloat16
    for loaded, original in zip(model.parameters(), tiny_model.parameters()):
        assert loaded.dtype == torch.float32
        assert torch.equal(loaded, original.bfloat16().float())


def test_missing_folder_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="nowhere"):
        load_model(tmp_path / "nowhere")


def test_a_file_instead_of_a_folder_is_named(tmp_path):
    (tmp_path / "model.bin").write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"model\.bin"):
        load_model(tmp_path / "model.bin")


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG, TOKENIZER])
def test_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        load_model(folder)
    manifest = json.loads((folder / MANIFEST).read_bytes())
    del manifest["files"][name]
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match=name):
        load_model(folder)


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG, TOKENIZER])
def test_damaged_file_is_named(folder, name):
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 0x10
    (folder / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=name):
        load_model(folder)


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_other_format_version_is_refused(folder, version):
    config = json.loads((folder / CONFIG).read_bytes())
    config["format_version"] = version
    rewrite(folder / CONFIG, json.dumps(config).encode())
    with pytest.raises(CheckpointError, match=f"{CONFIG}.*version"):
        load_model(folder)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b'{"format_version": 1}', b"\xff", b'{"format_version": 1, "model": {}}'],
)
def test_config_that_is_none_is_named(folder, content):
    rewrite(folder / CONFIG, content)
    with pytest.raises(CheckpointError, match=CONFIG):
        load_model(folder)


def test_vocabulary_that_does_not_fit_names_both_numbers(tmp_path, tiny_model):
    larger = Tokenizer([*Tokenizer.bytes().tokens, b"th"])
    save_model(tmp_path / "model", tiny_model, larger)
    with pytest.raises(CheckpointError, match=r"267.*266"):
        load_model(tmp_path / "model")


@pytest.mark.parametrize("keep", [0, 7, 8, 100, -1])
def test_truncated_weights_are_named(folder, keep):
    """Also where the manifest vouches for them: safetensors itself must refuse."""
    rewrite(folder / WEIGHTS, (folder / WEIGHTS).read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=WEIGHTS):
        load_model(folder)


def changed_weights(folder: Path, change) -> None:
    weights = safetensors.torch.load_file(folder / WEIGHTS)
    change(weights)
    rewrite(folder / WEIGHTS, safetensors.torch.save(weights))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("gpt.lm_head.weight"), r"gpt\.lm_head\.weight is missing"),
        (lambda w: w.update(surprise=torch.zeros(2)), "surprise is unexpected"),
        (
            lambda w: w.update({"encoder.image_newline": torch.zeros(31)}),
            r"image_newline has shape \(31,\) where \(32,\)",
        ),
    ],
)
def test_keys_and_shapes_must_match_and_are_named(folder, change, message):
    changed_weights(folder, change)
    with pytest.raises(CheckpointError, match=message):
        load_model(folder)


def test_many_problems_are_one_short_sentence(folder):
    changed_weights(folder, lambda weights: [weights.pop(name) for name in list(weights)[5:]])
    with pytest.raises(CheckpointError, match=r"and .* more") as caught:
        load_model(folder)
    assert len(str(caught.value)) < 600


# ---------------------------------------------------------------------------------------------------------
# DeepEncoder files


def test_deepencoder_round_trip(tmp_path, tiny_model, make_model):
    path = tmp_path / "deepencoder_000500.safetensors"
    save_deepencoder(path, tiny_model)
    names = set(safetensors.torch.load_file(path))
    assert not any(name.startswith("gpt") for name in names)
    assert {name.split(".")[0] for name in names} == {
        "sam_model",
        "vision_model",
        "projector",
        "image_newline",
        "view_seperator",
    }
    other = make_model(seed=9)
    gpt = {name: tensor.clone() for name, tensor in other.gpt.state_dict().items()}
    load_deepencoder(path, other)
    assert_equal_weights(other.encoder, tiny_model.encoder)
    assert all(torch.equal(tensor, gpt[name]) for name, tensor in other.gpt.state_dict().items())


def test_deepencoder_of_other_sizes_names_both_presets(tmp_path, tiny_config, byte_tokenizer):
    wider = replace(tiny_config, name="wider", sam=replace(tiny_config.sam, depth=3))
    path = tmp_path / "deepencoder_000001.safetensors"
    save_deepencoder(path, VLM(wider))
    with pytest.raises(CheckpointError, match=r"deepencoder_000001.*'wider'.*'tiny'"):
        load_deepencoder(path, VLM(tiny_config))


def test_deepencoder_for_another_gpt_width_is_refused(tmp_path, tiny_config):
    other = replace(tiny_config, gpt=replace(tiny_config.gpt, n_embd=64))
    path = tmp_path / "deepencoder_000001.safetensors"
    save_deepencoder(path, VLM(other))
    with pytest.raises(CheckpointError, match=r"deepencoder_000001.*image_newline"):
        load_deepencoder(path, VLM(tiny_config))


def test_deepencoder_for_another_vocabulary_fits(tmp_path, tiny_model, tiny_config):
    """Stage 2 may bring another tokenizer: the encoder does not depend on it."""
    save_deepencoder(tmp_path / "e.safetensors", tiny_model)
    other = VLM(replace(tiny_config, gpt=replace(tiny_config.gpt, vocab_size=300)))
    load_deepencoder(tmp_path / "e.safetensors", other)
    assert_equal_weights(other.encoder, tiny_model.encoder)


def test_missing_deepencoder_is_named(tmp_path, tiny_model):
    with pytest.raises(CheckpointError, match="deepencoder_000007"):
        load_deepencoder(tmp_path / "deepencoder_000007.safetensors", tiny_model)


@pytest.mark.parametrize("keep", [0, 5, 200, -1])
def test_truncated_deepencoder_is_named(tmp_path, tiny_model, keep):
    path = tmp_path / "deepencoder_000007.safetensors"
    save_deepencoder(path, tiny_model)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="deepencoder_000007"):
        load_deepencoder(path, tiny_model)


@pytest.mark.parametrize(
    "content",
    [
        b"not safetensors at all",
        safetensors.torch.save({"sam_model.pos_embed": torch.zeros(2)}),
        safetensors.torch.save({"a": torch.zeros(2)}, metadata={"model": "{}"}),
        safetensors.torch.save({"a": torch.zeros(2)}, metadata={"model": "not JSON"}),
    ],
)
def test_a_file_that_is_no_deepencoder_is_named(tmp_path, tiny_model, content):
    path = tmp_path / "deepencoder_000007.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="deepencoder_000007"):
        load_deepencoder(path, tiny_model)


def test_deepencoder_of_another_format_version_is_refused(tmp_path, tiny_model):
    path = tmp_path / "deepencoder_000007.safetensors"
    save_deepencoder(path, tiny_model)
    with safetensors.safe_open(path, "pt") as file:
        metadata = {**file.metadata(), "format_version": "2"}
    path.write_bytes(safetensors.torch.save(tiny_model.encoder.state_dict(), metadata=metadata))
    with pytest.raises(CheckpointError, match=r"deepencoder_000007.*version"):
        load_deepencoder(path, tiny_model)


def test_damaged_deepencoder_is_noticed(tmp_path, tiny_model):
    """safetensors has no checksum of its own: a flipped bit in a weight would load without complaint."""
    path = tmp_path / "deepencoder_000007.safetensors"
    save_deepencoder(path, tiny_model)
    content = bytearray(path.read_bytes())
    content[-100] ^= 0x40
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="deepencoder_000007"):
        load_deepencoder(path, tiny_model)


# ---------------------------------------------------------------------------------------------------------
# training steps


def save(run: Path, step: int, model: VLM, tokenizer: Tokenizer) -> Path:
    return save_step(run, step, model, tokenizer, {"stage": 1}, {"step": step, "rng": torch.get_rng_state()})


def test_step_round_trip(tmp_path, tiny_model, byte_tokenizer):
    folder = save(tmp_path, 500, tiny_model, byte_tokenizer)
    assert folder == step_folder(tmp_path, 500) and folder.name == "step_000500"
    state = load_state(folder)
    assert state["step"] == 500 and torch.equal(state["rng"], torch.get_rng_state())
    assert_equal_weights(load_model(folder)[0], tiny_model)


def test_step_without_a_state_can_be_read_but_not_resumed(folder):
    with pytest.raises(CheckpointError, match=STATE):
        load_state(folder)


class Evil:
    """Unpickled by an unguarded loader, it would make the folder whose name it carries."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def pickled(thing: object, tmp_path: Path) -> bytes:
    return pickle.dumps(thing)


def torch_saved(thing: object, tmp_path: Path) -> bytes:
    torch.save({"step": thing}, tmp_path / "evil.pt")
    return (tmp_path / "evil.pt").read_bytes()


@pytest.mark.parametrize("write", [pickled, torch_saved])
def test_a_planted_pickle_is_refused_and_not_executed(tmp_path, tiny_model, byte_tokenizer, write):
    folder = save(tmp_path, 1, tiny_model, byte_tokenizer)
    trap = tmp_path / "executed"
    content = write(Evil(str(trap)), tmp_path)
    rewrite(folder / STATE, content)
    with pytest.raises(CheckpointError, match=STATE):
        load_state(folder)
    assert not trap.exists()
    pickle.loads(pickle.dumps(Evil(str(trap))))  # the trap does work
    assert trap.exists()


@pytest.mark.parametrize("content", [b"", b"garbage", b"PK\x03\x04 half a zip"])
def test_a_state_that_is_none_is_named(tmp_path, tiny_model, byte_tokenizer, content):
    folder = save(tmp_path, 1, tiny_model, byte_tokenizer)
    rewrite(folder / STATE, content)
    with pytest.raises(CheckpointError, match=STATE):
        load_state(folder)


def test_damaged_state_is_named(tmp_path, tiny_model, byte_tokenizer):
    folder = save(tmp_path, 1, tiny_model, byte_tokenizer)
    with open(folder / STATE, "r+b") as file:
        file.write(b"x")
    with pytest.raises(CheckpointError, match=STATE):
        load_state(folder)
    load_model(folder)  # for reading, the state does not matter


def test_complete_steps_are_the_ones_with_a_manifest_in_order(tmp_path, tiny_model, byte_tokenizer):
    for step in (20, 3, 100):
        save(tmp_path, step, tiny_model, byte_tokenizer)
    (step_folder(tmp_path, 20) / MANIFEST).unlink()
    (tmp_path / "step_best").mkdir()
    (tmp_path / ".step_000500.writing").mkdir()
    assert [path.name for path in complete_steps(tmp_path)] == ["step_000003", "step_000100"]
    assert complete_steps(tmp_path / "nowhere") == []


def test_steps_beyond_a_million_come_last(tmp_path, tiny_model, byte_tokenizer):
    for step in (999_999, 1_000_000):
        save(tmp_path, step, tiny_model, byte_tokenizer)
    assert [path.name for path in complete_steps(tmp_path)] == ["step_999999", "step_1000000"]


def test_old_steps_are_dropped(tmp_path, tiny_model, byte_tokenizer):
    for step in (1, 2, 3):
        save(tmp_path, step, tiny_model, byte_tokenizer)
    drop_old_steps(tmp_path, 0)
    assert len(complete_steps(tmp_path)) == 3
    drop_old_steps(tmp_path, 2)
    assert [path.name for path in complete_steps(tmp_path)] == ["step_000002", "step_000003"]
    assert not step_folder(tmp_path, 1).exists()
