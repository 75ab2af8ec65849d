"""Language weights and tokenizers of others, and the command that converts all of them."""

from __future__ import annotations

import json
import os
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import tiktoken
import torch

from nanoocr import cli
from nanoocr.bpe import PATTERN, SPECIAL_TOKENS, Tokenizer
from nanoocr.config import GPTConfig
from nanoocr.errors import CheckpointError, UsageError
from nanoocr.model.folder import load_model, save_deepencoder, save_model
from nanoocr.model.gpt import GPT
from nanoocr.model.vlm import VLM
from nanoocr.pretrained.load import (
    NANOCHAT_TRANSFORMERS,
    gpt_for_transformers,
    load_gpt,
    read_gpt_config,
    translate,
)
from nanoocr.pretrained.text_check import LIMIT, PARAGRAPH, check_text

transformers = pytest.importorskip("transformers")


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


@pytest.mark.slow
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


@pytest.mark.slow
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
