"""Tokenizers that several files here use."""

import random
from functools import cache

import pytest

from nanoocr.bpe import SPECIAL_TOKENS, Tokenizer

BYTES = Tokenizer.bytes()
LITERALS = [*SPECIAL_TOKENS, "<image>", "<|endoftext|>", "<|audio|>"]


@cache
def trained() -> Tokenizer:
    pytest.importorskip("rustbpe")
    return Tokenizer.train(corpus(), 500)


def corpus() -> list[str]:
    dice = random.Random(0)
    words = ["".join(dice.choices("abcdefghij", k=dice.randint(2, 7))) for _ in range(300)]
    return [" ".join(dice.choices(words, k=12)) + f", {i}\n" for i in range(500)]
