"""Checks whether a GPT knows English, before weights from elsewhere are trusted.

A wrong number of heads fits every shape but scrambles the model, and only its text shows that.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from nanoocr.bpe import Tokenizer
from nanoocr.inference.engine import Engine, Request
from nanoocr.model.vlm import VLM

PARAGRAPH = (
    "The harbour was quiet when the first boats came in. Two men carried a box of fish up the stairs, and a "
    "woman with a grey coat counted the coins in her hand. It had rained during the night, so the stones "
    "were dark, and the smell of salt and wood was everywhere. By noon the market would be full of people, "
    "but now there was only the sound of the water against the wall."
)
PROMPTS = ("The capital of France is", "The opposite of hot is", "One, two, three, four,")
LIMIT = 2.0  # bits per byte: nanochat's d20 has about 1 on plain prose, a scrambled model more than 3
COMPLETION_TOKENS = 12


class TextCheck(NamedTuple):
    """The measurements of the check; `passed` is its verdict."""

    bits_per_byte: float  # for PARAGRAPH, teacher-forced
    completions: tuple[str, ...]  # greedy completions of PROMPTS

    @property
    def passed(self) -> bool:
        """Whether the model writes plain prose about as well as a trained one does."""
        return self.bits_per_byte < LIMIT

    def __str__(self) -> str:
        shown = "; ".join(f"{prompt!r} -> {text!r}" for prompt, text in zip(PROMPTS, self.completions))
        return f"{self.bits_per_byte:.2f} bits per byte of a plain paragraph (limit {LIMIT}); {shown}"


@torch.inference_mode()
def check_text(model: VLM, tokenizer: Tokenizer) -> TextCheck:
    """Measure the loss of a fixed paragraph after `<|bos|>`, and complete three beginnings greedily."""
    ids = torch.tensor([[tokenizer.bos_id, *tokenizer.encode(PARAGRAPH)]], device=model.device)
    loss = model(ids[:, :-1], ids[:, 1:])
    bits = float(loss.total) / math.log(2) / len(PARAGRAPH.encode())
    requests = [
        Request((tokenizer.bos_id, *tokenizer.encode(prompt)), (), COMPLETION_TOKENS) for prompt in PROMPTS
    ]
    completions = Engine(model, tokenizer).generate(requests)
    return TextCheck(bits, tuple(completion.text for completion in completions))
