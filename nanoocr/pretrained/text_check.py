"""Does a GPT know English? A gate for weights that were loaded from elsewhere.

A wrong number of heads fits every shape and scrambles the model; only what it says shows it.
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
LIMIT = 2.0  # bits per byte: nanochat's d20 is near 1 on plain prose, a scrambled model above 3
COMPLETION_TOKENS = 12


class TextCheck(NamedTuple):
    """What the gate saw; `passed` is its verdict."""

    bits_per_byte: float  # of PARAGRAPH, teacher-forced
    completions: tuple[str, ...]  # greedy, of PROMPTS

    @property
    def passed(self) -> bool:
        """Whether the model writes plain prose about as well as a trained one does."""
        return self.bits_per_byte < LIMIT

    def __str__(self) -> str:
        shown = "; ".join(f"{prompt!r} -> {text!r}" for prompt, text in zip(PROMPTS, self.completions))
        return f"{self.bits_per_byte:.2f} bits per byte of a plain paragraph (limit {LIMIT}); {shown}"


@torch.inference_mode()
def check_text(model: VLM, tokenizer: Tokenizer) -> TextCheck:
    """Loss of a fixed paragraph after `<|bos|>`, and what greedy decoding makes of three beginnings."""
    ids = torch.tensor([[tokenizer.bos_id, *tokenizer.encode(PARAGRAPH)]], device=model.device)
    loss = model(ids[:, :-1], ids[:, 1:])
    bits = float(loss.total) / math.log(2) / len(PARAGRAPH.encode())
    requests = [
        Request((tokenizer.bos_id, *tokenizer.encode(prompt)), (), COMPLETION_TOKENS) for prompt in PROMPTS
    ]
    completions = Engine(model, tokenizer).generate(requests)
    return TextCheck(bits, tuple(completion.text for completion in completions))
