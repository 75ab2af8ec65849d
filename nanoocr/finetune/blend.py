"""How far from the base model to go: the tuned weights, or a mean of both models that has forgotten less.

What training on a few pages gains grows about evenly on the way from the base's weights to the tuned ones,
while what it costs elsewhere grows faster at the end of it (Wortsman and others, arXiv 2109.01903). So the
largest share of the tuned weights is taken with which drawn lines are read about as well as before. Those
lines are neither trained on nor part of what is measured.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from nanoocr.bpe import Tokenizer
from nanoocr.data.rows import Row
from nanoocr.files import MANIFEST, write_file
from nanoocr.finetune.measure import cer, drawn_rows, read_rows
from nanoocr.finetune.task import asking
from nanoocr.model.folder import load_model, load_prompt, save_model
from nanoocr.model.vlm import VLM

FINEST = 1 / 8  # steps in which the share of the tuned weights is looked for, and the least share
# What drawn lines may lose with the share that is taken: half of what ends in a refusal, since the lines that
# choose are others than those that judge.
MOST_LOST = 0.0025
FIRST_DRAWN = 20_000  # neither the lines that measure nor those that say when to stop
ABOUT = "blend.json"


def blend(base: Path, tuned: Path, out: Path, count: int, device: str, letters: str = "") -> dict[str, Any]:
    """Write the blended model to the folder `out`, unless it is there, and say what was tried.

    `count` drawn lines are read with each model; the model that is written has its texts in `letters` (see
    `written_in`), and is asked what the base is asked. The result has `share`, that of the tuned weights, and
    `drawn`, the CER of those lines by share as text, "0" being the base.
    """
    about = out.with_name(ABOUT)
    if (out / MANIFEST).is_file() and about.is_file():
        told: dict[str, Any] = json.loads(about.read_bytes())
        return told
    model, tokenizer = load_model(base, device=device)
    other, _ = load_model(tuned, device=device)
    model.eval()
    prompt = load_prompt(base)
    rows = [asking(row, prompt) for row in drawn_rows(count, start=FIRST_DRAWN)]
    from_base, from_tuned = _copied(model), other.state_dict()
    drawn = {"0": _drawn_cer(model, tokenizer, rows)}

    def keeps(share: float) -> bool:
        """Whether drawn lines are read about as well with so much of the tuned weights."""
        set_share(model, from_base, from_tuned, share)
        drawn[f"{share:g}"] = _drawn_cer(model, tokenizer, rows)
        return drawn[f"{share:g}"] <= drawn["0"] + MOST_LOST

    share = largest_share(keeps)
    set_share(model, from_base, from_tuned, share)
    told = {"share": share, "drawn": drawn}
    write_file(about, json.dumps(told).encode())
    # Last: a kill before this leaves a folder that counts as not written.
    save_model(out, model, tokenizer, about={"share_of_tuned": share, "letters": letters, "prompt": prompt})
    return told


def largest_share(keeps: Callable[[float], bool]) -> float:
    """The largest share with which the lines are kept, of multiples of FINEST up to 1; at least FINEST.

    More of the tuned weights forget more, so half of what is left is ruled out by each try.
    """
    if keeps(1.0):
        return 1.0
    kept, lost = 0.0, 1.0
    while lost - kept > FINEST:
        middle = (kept + lost) / 2
        kept, lost = (middle, lost) if keeps(middle) else (kept, middle)
    return max(kept, FINEST)


def _copied(model: VLM) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def _drawn_cer(model: VLM, tokenizer: Tokenizer, rows: Sequence[Row]) -> float:
    return cer(read_rows(model, tokenizer, rows, [row.id for row in rows]))


@torch.no_grad()
def set_share(
    model: VLM, base: dict[str, torch.Tensor], tuned: dict[str, torch.Tensor], share: float
) -> None:
    """Give the model (1 - share) of the base's weights and `share` of the tuned ones."""
    for name, tensor in model.state_dict().items():
        tensor.copy_(torch.lerp(base[name], tuned[name], share) if share < 1 else tuned[name])
