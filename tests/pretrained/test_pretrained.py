"""Weights of others: every source in the format that its makers publish, made small by transformers here."""

from __future__ import annotations

import json
import os
import pickle
import re
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import safetensors.torch
import tiktoken
import torch
from torch import Tensor

from nanoocr import cli
from nanoocr.bpe import PATTERN, SPECIAL_TOKENS, Tokenizer
from nanoocr.config import ClipConfig, GPTConfig, SamConfig, d20
from nanoocr.errors import CheckpointError, UsageError
from nanoocr.model.deepencoder import DeepEncoder
from nanoocr.model.folder import load_model, save_deepencoder, save_model
from nanoocr.model.gpt import GPT
from nanoocr.model.vlm import VLM
from nanoocr.pretrained.files import OUR_SIZES, REVISIONS
from nanoocr.pretrained.load import (
    CLIP,
    NANOCHAT_TRANSFORMERS,
    SAM,
    encoder_for_deepseek_ocr,
    find_files,
    gpt_for_transformers,
    load_clip,
    load_deepseek_ocr_encoder,
    load_gpt,
    load_sam,
    read_gpt_config,
    translate,
)
from nanoocr.pretrained.text_check import LIMIT, PARAGRAPH, check_text

transformers = pytest.importorskip("transformers")


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
    sizes = {"hidden_size": 24, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.CLIPConfig(
        vision_config={**sizes, "image_size": 56, "patch_size": 14, "hidden_act": "quick_gelu"},
        text_config={**sizes, "vocab_size": 64},
        projection_dim=16,
    )
    model = transformers.CLIPModel(config).eval()
    randomise(model.vision_model)
    return model


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
# GPT

SIZES = GPTConfig(vocab_size=300, sequence_len=64, n_layer=2, n_head=2, n_kv_head=2, n_embd=256)


def nanochat_folder(folder: Path, gpt: GPT, **meta: int) -> str:
    """model_000007.pt and meta_000007.json as nanochat's first release wrote them."""
    folder.mkdir(exist_ok=True)
    weights = {f"_orig_mod.{name}": tensor for name, tensor in gpt.state_dict().items()}
    weights["_orig_mod.transformer.wte.weight"] = weights["_orig_mod.transformer.wte.weight"].bfloat16()
    torch.save(weights, folder / "model_000007.pt")
    sizes = {name: getattr(gpt.config, name) for name in GPTConfig.__dataclass_fields__}
    meta_data = {"step": 7, "val_bpb": 0.8, "model_config": {**sizes, **meta}}
    (folder / "meta_000007.json").write_text(json.dumps(meta_data))
    return str(folder)


@pytest.fixture
def gpt(randomise) -> GPT:
    gpt = GPT(SIZES).requires_grad_(False)
    randomise(gpt)
    return gpt


def test_nanochats_gpt_loads_with_one_row_more(gpt, tmp_path):
    source = nanochat_folder(tmp_path / "d4", gpt)
    assert read_gpt_config(source) == SIZES
    grown = GPT(replace(SIZES, vocab_size=301))
    report = load_gpt(grown, source)
    assert report.new == report.dropped == () and len(report.loaded) == 2 + 6 * 2
    wte, head = grown.transformer.wte.weight, grown.lm_head.weight
    assert wte.dtype == torch.float32  # bf16 rows would not move at small rates
    assert torch.equal(wte[:300], gpt.transformer.wte.weight.bfloat16().float())
    assert torch.equal(head[:300], gpt.lm_head.weight)
    torch.testing.assert_close(wte[300], wte[:300].mean(0))
    assert head[300].abs().max() == 0


def test_the_number_of_heads_is_read_never_guessed(gpt, tmp_path):
    """16 heads fit the shapes of a model of 10 and scramble it: only the meta file knows."""
    source = nanochat_folder(tmp_path / "d4", gpt, n_head=4, n_kv_head=4)
    with pytest.raises(CheckpointError, match="4 heads in a width of 256: nanochat's heads are 128 wide"):
        read_gpt_config(source)
    source = nanochat_folder(tmp_path / "d4", gpt)
    with pytest.raises(CheckpointError, match="its n_head is 2, the model here has 4"):
        load_gpt(GPT(replace(SIZES, n_head=4, n_kv_head=4)), source)
    (tmp_path / "d4" / "meta_000007.json").unlink()
    with pytest.raises(CheckpointError, match=r"no meta_NNNNNN\.json"):
        read_gpt_config(source)


def test_several_steps_in_a_folder_are_not_guessed_between(gpt, tmp_path):
    source = nanochat_folder(tmp_path / "d4", gpt)
    (tmp_path / "d4" / "model_000009.pt").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"model_000007\.pt, model_000009\.pt: name one"):
        read_gpt_config(source)
    assert read_gpt_config(f"{source}/model_000007.pt") == SIZES


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("n_kv_head", 0, "n_kv_head is 0"),
        ("n_layer", 2.5, "n_layer is 2.5"),
        ("n_embd", "256", "n_embd is '256'"),
        ("n_layer", 10**9, "n_layer is 1000000000"),
    ],
)
def test_impossible_sizes_are_named(gpt, tmp_path, field, value, message):
    source = nanochat_folder(tmp_path / "d4", gpt, **{field: value})
    with pytest.raises(CheckpointError, match=message):
        read_gpt_config(source)


@pytest.mark.parametrize("content", ["[]", "3", "{", '{"model_config": []}', '{"model_config": {}}'])
def test_meta_files_of_another_form_are_refused(gpt, tmp_path, content):
    source = nanochat_folder(tmp_path / "d4", gpt)
    (tmp_path / "d4" / "meta_000007.json").write_text(content)
    with pytest.raises(CheckpointError, match="does not state the sizes"):
        read_gpt_config(source)


def test_a_smaller_vocabulary_here_or_another_one_there_is_refused(gpt, tmp_path):
    source = nanochat_folder(tmp_path / "d4", gpt)
    with pytest.raises(CheckpointError, match="vocabulary of 300 is larger"):
        load_gpt(GPT(replace(SIZES, vocab_size=299)), source)
    source = nanochat_folder(tmp_path / "d4", gpt, vocab_size=290)
    with pytest.raises(CheckpointError, match=r"do not fit \(shape \(300, 256\) for 290 tokens\)"):
        load_gpt(GPT(replace(SIZES, vocab_size=291)), source)


def test_two_sets_of_weights_for_one_place_are_refused(gpt, tmp_path):
    source = nanochat_folder(tmp_path / "d4", gpt)
    weights = torch.load(tmp_path / "d4" / "model_000007.pt", weights_only=True)
    weights["lm_head.weight"] = torch.zeros(300, 256)
    torch.save(weights, tmp_path / "d4" / "model_000007.pt")
    with pytest.raises(CheckpointError, match=r"second set of weights for lm_head\.weight"):
        load_gpt(GPT(replace(SIZES, vocab_size=301)), source)


def test_nanochats_last_token_never_becomes_the_picture(gpt, tmp_path):
    """A tokenizer that happens to have as many tokens as the GPT: its last row is not <|image|>."""
    from nanoocr.pretrained.convert import Sources, sizes

    source = nanochat_folder(tmp_path / "d4", gpt)
    tokens = [bytes([value]) for value in range(256)] + [bytes([65, value]) for value in range(34)]
    assert Tokenizer(tokens).vocab_size == 300
    with pytest.raises(UsageError, match="300 tokens where 299 are needed"):
        sizes(Sources(gpt=source), "nano", Tokenizer(tokens))


def test_the_gpt_goes_to_transformers_and_back(gpt, tmp_path):
    weights, config = gpt_for_transformers(gpt)
    safetensors.torch.save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "config.json").write_text(json.dumps(config))
    reference = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert type(reference).__name__ == "NanoChatForCausalLM"
    ids = torch.randint(0, 300, (2, 33), generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        expected = reference(ids).logits
        ours = gpt.logits(gpt(gpt.embed(ids)))
    assert ours.std() > 0.1
    torch.testing.assert_close(ours, expected, atol=1e-4, rtol=1e-4)
    back = GPT(SIZES)
    load_gpt(back, str(tmp_path))
    assert all(torch.equal(a, b) for a, b in zip(back.state_dict().values(), gpt.state_dict().values()))


@pytest.mark.parametrize(
    ("field", "value"), [("model_type", "llama"), ("final_logit_softcapping", 30.0), ("intermediate_size", 8)]
)
def test_another_architecture_is_refused(gpt, tmp_path, field, value):
    weights, config = gpt_for_transformers(gpt)
    safetensors.torch.save_file(weights, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({**config, field: value}))
    with pytest.raises(CheckpointError, match=field):
        read_gpt_config(str(tmp_path))


def test_every_row_of_the_transformers_table_is_used(gpt):
    keys = {translate(key, NANOCHAT_TRANSFORMERS.names) for key in gpt_for_transformers(gpt)[0]}
    assert keys == set(gpt.state_dict())


def test_a_scrambled_gpt_does_not_pass_the_text_check(make_config, byte_tokenizer):
    """A small GPT learns the paragraph by heart; the same weights with other heads say nothing."""
    sizes = GPTConfig(
        vocab_size=byte_tokenizer.vocab_size, sequence_len=512, n_layer=2, n_head=2, n_kv_head=2, n_embd=64
    )
    model = VLM(replace(make_config(), gpt=sizes), image_id=byte_tokenizer.image_id)
    model.init_weights(0)
    ids = torch.tensor([[byte_tokenizer.bos_id, *byte_tokenizer.encode(PARAGRAPH)]])
    optimizer = torch.optim.AdamW(model.gpt.parameters(), lr=1e-2)
    for _ in range(120):
        optimizer.zero_grad()
        model(ids[:, :-1], ids[:, 1:]).mean.backward()
        optimizer.step()
    good = check_text(model, byte_tokenizer)
    assert good.passed and good.bits_per_byte < 1.0 and len(good.completions) == 3
    scrambled = VLM(replace(model.config, gpt=replace(sizes, n_head=4, n_kv_head=4)))
    scrambled.load_state_dict(model.state_dict())
    assert check_text(scrambled, byte_tokenizer).bits_per_byte > LIMIT


# ---------------------------------------------------------------------------------------------------------
# nanochat's tokenizer


def nanochat_encoding(special: tuple[str, ...] = SPECIAL_TOKENS[:-1]) -> tiktoken.Encoding:
    ranks = {bytes([value]): value for value in range(256)} | {b"th": 256, b"the": 257}
    names = {token: 258 + place for place, token in enumerate(special)}
    return tiktoken.Encoding(name="rustbpe", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens=names)


def test_nanochats_tokenizer_is_read(tmp_path):
    encoding = nanochat_encoding()
    (tmp_path / "tokenizer.pkl").write_bytes(pickle.dumps(encoding))
    tokenizer = Tokenizer.from_nanochat(tmp_path / "tokenizer.pkl")
    text = "The other path, 42 %."
    assert tokenizer.encode(text) == encoding.encode_ordinary(text)
    assert tokenizer.bos_id == 258 and tokenizer.image_id == 258 + 9
    tokenizer.save(tmp_path / "tokenizer.json")
    assert Tokenizer.from_file(tmp_path / "tokenizer.json") == tokenizer


class Evil:
    def __reduce__(self):
        return os.system, ("touch pwned",)


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps(Evil()),
        pickle.dumps({"mergeable_ranks": {}}),
        b"cos\nsystem\n(S'touch pwned'\ntR.",
        pickle.dumps(nanochat_encoding(SPECIAL_TOKENS[::-1][1:])),
        b"",
        b"\x80\x04garbage",
    ],
)
def test_other_pickles_are_refused_and_nothing_runs(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    Path("tokenizer.pkl").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"tokenizer\.pkl is not a tokenizer\.pkl of nanochat"):
        Tokenizer.from_nanochat("tokenizer.pkl")
    assert os.listdir() == ["tokenizer.pkl"]


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


# ---------------------------------------------------------------------------------------------------------
# the command line


@pytest.fixture(scope="module")
def nano_folder(tmp_path_factory) -> Path:
    """A model folder of the nano preset with random weights."""
    from nanoocr.config import preset

    tokenizer = Tokenizer.bytes()
    model = VLM(preset("nano", tokenizer.vocab_size), image_id=tokenizer.image_id)
    model.init_weights(3)
    generator = torch.Generator().manual_seed(4)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1, generator=generator)
    folder = tmp_path_factory.mktemp("models") / "nano"
    save_model(folder, model, tokenizer)
    return folder


def test_export_and_convert_are_each_others_inverse(nano_folder, tmp_path, capsys):
    assert cli.main(["export", "--model", str(nano_folder), "--out", str(tmp_path / "out")]) == 0
    assert "26 tensors" in capsys.readouterr().out
    assert cli.main(["export", "--model", str(nano_folder), "--out", str(tmp_path / "out")]) == 2
    assert "exists already" in capsys.readouterr().err
    flags = [
        "--preset=nano",
        f"--deepseek_ocr={tmp_path / 'out' / 'encoder'}",
        f"--gpt={tmp_path / 'out' / 'gpt'}",  # with its tokenizer beside it
        f"--out={tmp_path / 'back'}",
    ]
    assert cli.main(["convert", *flags]) == 0
    out = capsys.readouterr().out
    assert "DeepSeek-OCR from" in out and "0 new, 2 dropped" in out and "random from seed 0: nothing" in out
    (before, tokenizer), (after, same) = load_model(nano_folder), load_model(tmp_path / "back")
    assert tokenizer == same and before.config == after.config
    pairs = zip(before.state_dict().items(), after.state_dict().items(), strict=True)
    assert all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)


def test_an_encoder_of_stage_1_becomes_a_model_folder(nano_folder, make_config, tmp_path, capsys):
    before, _ = load_model(nano_folder)
    file = tmp_path / "deepencoder_000005.safetensors"
    save_deepencoder(file, before)
    flags = ["--preset=nano", f"--deepencoder={file}"]
    assert cli.main(["convert", *flags, f"--out={tmp_path / 'm'}"]) == 0
    out = capsys.readouterr().out
    assert f"DeepEncoder from {file}: {len(before.encoder.state_dict())} loaded, 0 new" in out
    assert "random from seed 0: gpt" in out
    after, _ = load_model(tmp_path / "m")
    pairs = zip(before.encoder.state_dict().items(), after.encoder.state_dict().items(), strict=True)
    assert all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)
    save_deepencoder(file, VLM(make_config()))
    assert cli.main(["convert", *flags, f"--out={tmp_path / 'n'}"]) == 4
    assert "a DeepEncoder of preset 'tiny', this run is of preset 'nano'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        ([], 2, ["at least one source"]),
        (["--deepseek_ocr=x", "--sam=y"], 2, ["--deepseek_ocr", "--sam"]),
        (["--deepencoder=x", "--clip=y"], 2, ["--deepencoder", "--clip"]),
        (["--deepencoder=x", "--deepseek_ocr=y"], 2, ["--deepencoder", "--deepseek_ocr"]),
        (["--deepencoder=nowhere", "--preset=nano"], 4, ["nowhere", "no such DeepEncoder"]),
        (["--sam=x", "--verify"], 2, ["--verify", "--gpt"]),
        (["--sam=x", "--seed=99999999999999999999"], 2, ["--seed"]),
        (["--sam=../nowhere/else"], 4, ["no such file or folder"]),
        (["--sam=nowhere"], 4, ["nowhere", "no such file or folder"]),
        (["--preset=huge", "--sam=x"], 2, ["huge", "d20"]),
    ],
)
def test_wrong_conversions_are_one_sentence(tmp_path, capsys, flags, code, words):
    assert cli.main(["convert", f"--out={tmp_path / 'm'}", *flags]) == code
    err = capsys.readouterr().err
    assert all(word in err for word in words) and len(err.strip().splitlines()) == 1
    assert not (tmp_path / "m").exists()


def test_a_fresh_gpt_does_not_verify(nano_folder, tmp_path, capsys):
    cli.main(["export", "--model", str(nano_folder), "--out", str(tmp_path / "out")])
    flags = [f"--gpt={tmp_path / 'out' / 'gpt'}", f"--tokenizer={nano_folder / 'tokenizer.json'}"]
    code = cli.main(["convert", "--preset=nano", "--verify", f"--out={tmp_path / 'm'}", *flags])
    assert code == 4 and "does not know English" in capsys.readouterr().err
    assert not (tmp_path / "m").exists()


def test_a_vocabulary_that_does_not_fit_is_refused(gpt, tmp_path):
    from nanoocr.pretrained.convert import Sources, convert

    source = nanochat_folder(tmp_path / "d4", gpt)
    Tokenizer.bytes().save(tmp_path / "t.json")
    with pytest.raises(UsageError, match="has 300 tokens where 265 are needed"):
        convert(Sources(gpt=source, tokenizer=str(tmp_path / "t.json")), str(tmp_path / "m"))
