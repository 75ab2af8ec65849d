"""Trains the tokenizer, writes it as a readable file, and measures it on unseen texts.

    python -m scripts.tok_train --vocab_size=1024 --out=tokenizer.json
    python -m scripts.tok_train --vocab_size=4096 --texts=a.txt --texts=b.txt --synth_count=0

The last line on stdout is a JSON object with the measurements.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from nanoocr.bpe import SPECIAL_TOKENS, Tokenizer
from nanoocr.commandline import parse, run
from nanoocr.errors import UsageError


@dataclass(frozen=True)
class Config:
    """Train the tokenizer on the truths of synthetic pictures, on text files, or on both."""

    vocab_size: int = 1024
    """Ids in all: 256 bytes, the merges, 10 special tokens."""
    out: Path = Path("tokenizer.json")
    """The file to write."""
    texts: Annotated[tuple[Path, ...], tyro.conf.UseAppendAction] = ()
    """A UTF-8 text file, read line by line; repeat the flag for more files."""
    synth_count: int = 20_000
    """Synthetic samples to take the answers of, over all kinds in turn; 0 for none."""
    synth_kinds: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """A kind of synthetic sample; repeat the flag for more. None named: every kind there is."""
    seed: int = 0
    """Seed of the synthetic samples."""
    held_out: int = 20
    """Every n-th text is kept out of training and used to measure the compression."""


def main(argv: list[str] | None = None) -> None:
    """Train, save, and print what was measured."""
    config = parse(Config, argv)
    if config.held_out < 2:
        raise UsageError(
            f"held_out is {config.held_out}; it must be 2 or more, or nothing is left to train on."
        )
    if config.vocab_size < 256 + len(SPECIAL_TOKENS):  # told before thousands of pictures are drawn
        raise UsageError(
            f"vocab_size is {config.vocab_size}; bytes and special tokens need {256 + len(SPECIAL_TOKENS)}."
        )
    if config.synth_count < 0:
        raise UsageError(f"synth_count is {config.synth_count}; use 0 or more.")
    texts = list(file_lines(config.texts)) + list(synthetic_texts(config))
    unseen = texts[:: config.held_out]
    seen = [text for place, text in enumerate(texts) if place % config.held_out]
    if not seen:
        raise UsageError("There is no text to train on: name files with --texts or raise --synth_count.")
    started = time.perf_counter()
    tokenizer = Tokenizer.train(seen, config.vocab_size)
    save(tokenizer, config.out)
    measured, as_bytes = measure(tokenizer, unseen), measure(Tokenizer.bytes(), unseen)
    report = {
        "out": str(config.out),
        "vocab_size": tokenizer.vocab_size,
        "texts": len(seen),
        "characters": sum(map(len, seen)),
        "seconds": round(time.perf_counter() - started, 3),
        "characters_per_token": measured,
        "characters_per_byte_token": as_bytes,
        "fingerprint": tokenizer.fingerprint(),
    }
    print(f"{config.out}: {tokenizer.vocab_size} tokens, trained on {len(seen):,} texts.")
    print(f"Characters per token in {len(unseen):,} unseen texts: {measured} (as bytes: {as_bytes}).")
    print(json.dumps(report))


def file_lines(paths: Sequence[Path]) -> Iterator[str]:
    """Yield the lines of the files with their line breaks. Raises UsageError for an unreadable file."""
    for path in paths:
        try:
            yield from path.read_text(encoding="utf-8").splitlines(keepends=True)
        except FileNotFoundError:
            raise UsageError(f"The text file {path} does not exist.") from None
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"The text file {path} cannot be read as UTF-8: {error}.") from error


def synthetic_texts(config: Config) -> Iterator[str]:
    """Yield answers of synthetic samples. Only drawing shows which text fits, so pictures are drawn too."""
    if not config.synth_count:
        return
    from nanoocr.data.synth import KINDS, find_fonts, make_sample

    fonts = find_fonts()
    kinds = config.synth_kinds or tuple(KINDS)
    reported = time.perf_counter()
    for place in range(config.synth_count):
        sample = make_sample(kinds[place % len(kinds)], config.seed, place // len(kinds), fonts=fonts)
        yield sample.answer
        if time.perf_counter() - reported > 5:
            reported = time.perf_counter()
            print(f"{place + 1:,} of {config.synth_count:,} synthetic samples", file=sys.stderr)


def save(tokenizer: Tokenizer, path: Path) -> None:
    """Write the file. A place that cannot be written raises UsageError."""
    try:
        tokenizer.save(path)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error}.") from error


def measure(tokenizer: Tokenizer, texts: Sequence[str]) -> float:
    """Characters per token over all texts."""
    tokens = sum(len(tokenizer.encode(text)) for text in texts)
    return round(sum(map(len, texts)) / max(tokens, 1), 3)


if __name__ == "__main__":
    sys.exit(run(main))
