"""One synthetic sample, and the row it becomes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from nanoocr.data.synth.dice import Dice
from nanoocr.data.synth.fonts import Font
from nanoocr.data.synth.text import sentence

TEXT = "text"  # the kind of rows without a picture; only files contain them


@dataclass(frozen=True)
class SynthSample:
    """A drawn picture with a question, its true answer, and the place of every character in it."""

    image: Image.Image  # RGB
    prompt: str  # what the user asks
    answer: str  # the truth
    kind: str  # a key of ALL_KINDS
    font: str  # families used, joined by ", "
    chars: str  # one drawn character per box, in reading order, without spaces
    boxes: np.ndarray  # (len(chars), 4) float32: x0, y0, x1, y1 in pixels of `image`
    guessable: bool  # whether the text is natural language


def joined_families(fonts: Sequence[Font]) -> str:
    """The families of `fonts`, each once, in order of use."""
    return ", ".join(dict.fromkeys(font.family for font in fonts))


def to_row(sample: SynthSample) -> dict[str, Any]:
    """The sample as a row of FineVision's schema plus `font`, `guessable` and `char_boxes`."""
    stored = io.BytesIO()
    sample.image.save(stored, "PNG", compress_level=1)
    boxes = [
        {"text": char, "x0": x0, "y0": y0, "x1": x1, "y1": y1}
        for char, (x0, y0, x1, y1) in zip(sample.chars, sample.boxes.tolist())
    ]
    return {
        "images": [{"bytes": stored.getvalue(), "path": None}],
        "texts": [{"user": sample.prompt, "assistant": sample.answer}],
        "source": f"synth/{sample.kind}",
        "font": sample.font,
        "guessable": sample.guessable,
        "char_boxes": boxes,
    }


def text_row(seed: int, index: int) -> dict[str, Any]:
    """Plain natural text as a row of the same columns: one or two sentences, no picture, an empty question.

    As in nanoocr/tasks/plain_text.py, every token of it is supervised. Depends on (seed, index) alone.
    """
    dice = Dice.for_sample(TEXT, seed, index)
    sentences = [sentence(dice) for _ in range(dice.whole(1, 2))]
    return {
        "images": [],
        "texts": [{"user": "", "assistant": " ".join(sentences)}],
        "source": f"synth/{TEXT}",
        "font": "",
        "guessable": True,
        "char_boxes": [],
    }
