"""`nanoocr convert` and `nanoocr export`: reads others' weights and writes ours, as whole folders.

convert   SAM, CLIP, DeepSeek-OCR, nanochat (hub or files), our stage 1  ->  a model folder to train from
export    a model folder  ->  OUT/gpt (transformers' NanoChat) and OUT/encoder (DeepSeek-OCR's keys)
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch

from nanoocr.bpe import Tokenizer
from nanoocr.config import ModelConfig, preset
from nanoocr.errors import CheckpointError, UsageError
from nanoocr.files import write_folder
from nanoocr.model.components import COMPONENTS
from nanoocr.model.folder import Report, load_deepencoder, load_model, save_model
from nanoocr.model.vlm import VLM
from nanoocr.pretrained.files import OUR_SIZES, fetch, find_files, is_our_export, read_gpt_config
from nanoocr.pretrained.load import (
    encoder_for_deepseek_ocr,
    gpt_for_transformers,
    load_clip,
    load_deepseek_ocr_encoder,
    load_gpt,
    load_sam,
)
from nanoocr.pretrained.text_check import TextCheck, check_text

EXPORTED_TOKENIZER = "nanoocr_tokenizer.json"


@dataclass(frozen=True)
class Sources:
    """The source of each part: a hub name OWNER/NAME@REVISION, a folder or a file; empty means fresh."""

    sam: str = ""
    clip: str = ""
    # the whole encoder, as is the next one; neither goes together with another part of it
    deepseek_ocr: str = ""
    deepencoder: str = ""  # an encoder file of this project's stage 1
    gpt: str = ""
    # our tokenizer.json or nanochat's tokenizer.pkl; empty means the one beside the GPT, or bytes
    tokenizer: str = ""

    def __post_init__(self) -> None:
        """Refuse sources that contradict each other."""
        flags = ("deepseek_ocr", "deepencoder", "sam", "clip")
        given = [f"--{flag}" for flag in flags if getattr(self, flag)]
        if len(given) > 1 and (self.deepseek_ocr or self.deepencoder):
            others = " or ".join(given[1:])
            raise UsageError(f"{given[0]} brings the whole encoder: not together with {others}")
        if not given and not self.gpt:
            raise UsageError(f"name at least one source: --{', --'.join(flags)} or --gpt")

    def local(self) -> Sources:
        """Resolve every hub name to its snapshot once, so that "the newest" cannot change in between."""
        found = {
            part: str(fetch(source))
            if source and part not in ("tokenizer", "deepencoder") and not Path(source).exists()
            else source
            for part, source in asdict(self).items()
        }
        return Sources(**found)


class Converted(NamedTuple):
    """The result of a conversion."""

    reports: list[Report]  # one per source
    fresh: tuple[str, ...]  # components that no source had, which are random from the seed
    check: TextCheck | None  # the result of `verify`, if it was asked for


def convert(
    sources: Sources, out: str, *, preset_name: str = "d20", seed: int = 0, verify: bool = False
) -> Converted:
    """Write a model folder from `sources`. Parts without a source are fresh, drawn from `seed`.

    Raises:
            CheckpointError: a source is missing, damaged, or of another kind than expected; or with `verify`
            the GPT does not know English.
        UsageError: `out` exists, or tokenizer and GPT do not fit.
    """
    refuse_existing(out)
    if verify and not sources.gpt:
        raise UsageError("--verify reads text with the GPT: name one with --gpt")
    if not 0 <= seed < 2**31:
        raise UsageError("--seed must be from 0 to 2147483647")
    preset(preset_name)  # so that a mistyped preset costs no download
    local = sources.local()
    tokenizer = find_tokenizer(local)
    model = VLM(sizes(local, preset_name, tokenizer), image_id=tokenizer.image_id)
    model.init_weights(seed)
    loads = (
        (
            "sam compressor clip projector",
            local.deepseek_ocr,
            partial(load_deepseek_ocr_encoder, model.encoder),
        ),
        ("sam compressor clip projector", local.deepencoder, partial(load_deepencoder, model=model)),
        ("sam", local.sam, partial(load_sam, model.encoder)),
        ("clip", local.clip, partial(load_clip, model.encoder)),
        ("gpt", local.gpt, partial(load_gpt, model.gpt)),
    )
    reports = [load(source) for _, source, load in loads if source]
    brought = {part for parts, source, _ in loads if source for part in parts.split()}
    check = check_text(model, tokenizer) if verify else None
    if check is not None and not check.passed:
        raise CheckpointError(f"the GPT of {sources.gpt} does not know English: {check}")
    about = {"converted_from": asdict(sources), "read_from": asdict(local), "seed": seed}
    if sources.deepseek_ocr:
        about["prompt"] = "Free OCR."  # the prompt that DeepSeek-OCR was trained with
    save_model(out, model, tokenizer, about=about)
    return Converted(reports, tuple(part for part in COMPONENTS if part not in brought), check)


def refuse_existing(out: str | Path) -> None:
    """Raise UsageError if something exists at `out`; this is checked before the work."""
    if Path(out).exists():
        raise UsageError(f"{out} exists already: name another folder")


def find_tokenizer(sources: Sources) -> Tokenizer:
    """The named tokenizer, else the one beside the GPT (nanochat's or ours). Without a GPT it is bytes."""
    if not sources.tokenizer and not sources.gpt:
        return Tokenizer.bytes()
    path = Path(sources.tokenizer)
    if not sources.tokenizer:
        weights = find_files(sources.gpt)[0]
        beside = [weights.with_name(name) for name in ("tokenizer.pkl", EXPORTED_TOKENIZER)]
        path = next((file for file in beside if file.is_file()), weights)
        if path == weights:
            raise UsageError(f"{sources.gpt}: no tokenizer.pkl beside the weights: name one with --tokenizer")
    return Tokenizer.from_nanochat(path) if path.suffix == ".pkl" else Tokenizer.from_file(path)


def sizes(sources: Sources, preset_name: str, tokenizer: Tokenizer) -> ModelConfig:
    """The preset's encoder sizes, and the GPT sizes that the source states, plus a row for `<|image|>`.

    Raises:
        UsageError: the tokenizer has another vocabulary than the GPT.
    """
    config = preset(preset_name, tokenizer.vocab_size)
    if not sources.gpt:
        return config
    gpt = read_gpt_config(sources.gpt)
    # nanochat's last row is <|output_end|>. It must not become <|image|> just because the sizes match.
    wanted = tokenizer.vocab_size - (0 if is_our_export(sources.gpt) else 1)
    if gpt.vocab_size != wanted:
        raise UsageError(
            f"{sources.gpt} has {gpt.vocab_size} tokens where {wanted} are needed: "
            f"the tokenizer has {tokenizer.vocab_size} with <|image|>"
        )
    return replace(config, gpt=replace(gpt, vocab_size=tokenizer.vocab_size))


def export(folder: str, out: str) -> dict[str, Any]:
    """Write `out`/gpt and `out`/encoder from a model folder; returns the number of tensors of each.

    The GPT computes the same as ours in transformers (NanoChatForCausalLM); the encoder's file holds the keys
    that DeepSeek-OCR's own code loads. The tokenizer goes along in this project's readable form.
    """
    for part in ("gpt", "encoder"):
        refuse_existing(Path(out) / part)
    model, tokenizer = load_model(folder)
    gpt, config = gpt_for_transformers(model.gpt)
    special = {"bos_token_id": tokenizer.bos_id, "eos_token_id": tokenizer.assistant_end_id}
    header = {"format": "pt"}  # transformers requires it
    write_folder(
        Path(out) / "gpt",
        {
            "model.safetensors": safetensors.torch.save(gpt, metadata=header),
            "config.json": json.dumps({**config, **special}, indent=2).encode(),
            EXPORTED_TOKENIZER: tokenizer.to_json().encode(),
        },
    )
    encoder = encoder_for_deepseek_ocr(model.encoder)
    write_folder(
        Path(out) / "encoder",
        {
            "model.safetensors": safetensors.torch.save(encoder, metadata=header),
            OUR_SIZES: json.dumps(asdict(model.config), indent=2).encode(),
        },
    )
    return {"gpt": len(gpt), "encoder": len(encoder)}
