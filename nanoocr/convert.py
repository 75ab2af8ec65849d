"""`nanoocr convert` and `nanoocr export`: others' weights in, ours out, as whole folders.

convert   hub names or files of SAM, CLIP, DeepSeek-OCR, nanochat  ->  a model folder to train from
export    a model folder  ->  OUT/gpt (transformers' NanoChat) and OUT/encoder (DeepSeek-OCR's keys)
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import safetensors.torch

from nanoocr.config import ModelConfig, preset
from nanoocr.errors import UsageError
from nanoocr.eval.text_check import TextCheck, check_text
from nanoocr.files import write_folder
from nanoocr.model.pretrained import (
    Report,
    encoder_for_deepseek_ocr,
    find_files,
    gpt_for_transformers,
    load_clip,
    load_deepseek_ocr_encoder,
    load_gpt,
    load_sam,
    read_gpt_config,
)
from nanoocr.model.vlm import VLM
from nanoocr.tokenizer import Tokenizer
from nanoocr.train.checkpoint import load_model, save_model


@dataclass(frozen=True)
class Sources:
    """Where each part comes from: a hub name OWNER/NAME@REVISION, a folder or a file; empty stays fresh."""

    sam: str = ""
    clip: str = ""
    deepseek_ocr: str = ""  # the whole encoder; not together with sam or clip
    gpt: str = ""
    tokenizer: str = ""  # tokenizer.json of ours or nanochat's tokenizer.pkl; empty: beside the GPT, or bytes

    def __post_init__(self) -> None:
        """Refuse what contradicts itself."""
        if self.deepseek_ocr and (self.sam or self.clip):
            raise UsageError("--deepseek_ocr brings the whole encoder: not together with --sam or --clip")
        if not (self.sam or self.clip or self.deepseek_ocr or self.gpt):
            raise UsageError("name at least one source: --sam, --clip, --deepseek_ocr or --gpt")


def convert(
    sources: Sources, out: str, *, preset_name: str = "d20", seed: int = 0, verify: bool = False
) -> tuple[list[Report], TextCheck | None]:
    """Write a model folder whose parts come from `sources`; what no source brings is fresh from `seed`.

    Raises:
        CheckpointError: a source is missing, damaged, or not what it is given as.
        UsageError: tokenizer and GPT do not fit, or with `verify` the GPT does not know English.
    """
    tokenizer = find_tokenizer(sources)
    config = sizes(sources, preset_name, tokenizer)
    model = VLM(config, image_id=tokenizer.image_id)
    model.init_weights(seed)
    loads = (
        (sources.deepseek_ocr, lambda source: load_deepseek_ocr_encoder(model.encoder, source)),
        (sources.sam, lambda source: load_sam(model.encoder, source)),
        (sources.clip, lambda source: load_clip(model.encoder, source)),
        (sources.gpt, lambda source: load_gpt(model.gpt, source)),
    )
    reports = [load(source) for source, load in loads if source]
    check = check_text(model, tokenizer) if verify else None
    if check is not None and not check.passed:
        raise UsageError(f"the GPT of {sources.gpt or 'no source'} does not know English: {check}")
    about = {"converted_from": asdict(sources), "commits": commits(sources), "seed": seed}
    save_model(out, model, tokenizer, about=about)
    return reports, check


def find_tokenizer(sources: Sources) -> Tokenizer:
    """The tokenizer that was named, else the tokenizer.pkl beside the GPT, else bytes."""
    path = Path(sources.tokenizer) if sources.tokenizer else None
    if path is None and sources.gpt:
        beside = find_files(sources.gpt)[0].with_name("tokenizer.pkl")
        if not beside.is_file():
            raise UsageError(f"{sources.gpt}: no tokenizer.pkl beside the weights: name one with --tokenizer")
        path = beside
    if path is None:
        return Tokenizer.bytes()
    return Tokenizer.from_nanochat(path) if path.suffix == ".pkl" else Tokenizer.from_file(path)


def sizes(sources: Sources, preset_name: str, tokenizer: Tokenizer) -> ModelConfig:
    """The preset's encoder, and the GPT that the source states, grown by `<|image|>`.

    Raises:
        UsageError: the tokenizer has another vocabulary than the GPT.
    """
    config = preset(preset_name, tokenizer.vocab_size)
    if not sources.gpt:
        return config
    gpt = read_gpt_config(sources.gpt)
    if gpt.vocab_size not in (tokenizer.vocab_size, tokenizer.vocab_size - 1):
        raise UsageError(
            f"{sources.gpt} has {gpt.vocab_size} tokens, the tokenizer {tokenizer.vocab_size} with <|image|>"
        )
    return replace(config, gpt=replace(gpt, vocab_size=tokenizer.vocab_size))


def commits(sources: Sources) -> dict[str, str]:
    """The commit of every source that came from the hub: the name of its snapshot folder."""
    found = {}
    for part, source in asdict(sources).items():
        if source and part != "tokenizer" and not Path(source).exists():
            found[part] = find_files(source)[0].parent.name
    return found


def export(folder: str, out: str) -> dict[str, Any]:
    """Write `out`/gpt and `out`/encoder from a model folder; returns the number of tensors of each.

    The GPT computes the same as ours in transformers (NanoChatForCausalLM); the encoder's file holds the keys
    that DeepSeek-OCR's own code loads. The tokenizer goes along in this project's readable form.
    """
    model, tokenizer = load_model(folder)
    gpt, config = gpt_for_transformers(model.gpt)
    special = {"bos_token_id": tokenizer.bos_id, "eos_token_id": tokenizer.assistant_end_id}
    header = {"format": "pt"}  # transformers asks for it
    write_folder(
        Path(out) / "gpt",
        {
            "model.safetensors": safetensors.torch.save(gpt, metadata=header),
            "config.json": json.dumps({**config, **special}, indent=2).encode(),
            "nanoocr_tokenizer.json": tokenizer.to_json().encode(),
        },
    )
    encoder = encoder_for_deepseek_ocr(model.encoder)
    write_folder(
        Path(out) / "encoder",
        {
            "model.safetensors": safetensors.torch.save(encoder, metadata=header),
            "nanoocr_config.json": json.dumps(asdict(model.config), indent=2).encode(),
        },
    )
    return {"gpt": len(gpt), "encoder": len(encoder)}
