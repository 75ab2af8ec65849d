"""Turns a training step into the model folder of the package: weights in fp16, no training state.

The step's glyph head is included, because it makes reading strips faster.

python -m scripts.dev.ship_model --checkpoint=checkpoints/nano_mid/step_007000 --out=nanoocr/weights/nano
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nanoocr.commandline import parse, run
from nanoocr.errors import UsageError
from nanoocr.model.folder import STATE, head_weights, load_heads, load_model, save_model
from nanoocr.model.glyph_heads import PatchHead
from nanoocr.model.vlm import VLM
from nanoocr.train.checkpoint import load_state

LIMIT = 20_000_000  # the weights in the package may have this many bytes


@dataclass(frozen=True)
class ShipConfig:
    """Makes the model folder of the package from a training step."""

    checkpoint: str  # a training step or model folder
    out: str = "nanoocr/weights/nano"  # the model folder to write; an older one is replaced


def main(argv: list[str] | None = None) -> int:
    """Write the folder and print its size."""
    config = parse(ShipConfig, argv)
    folder = Path(config.checkpoint)
    model, tokenizer = load_model(folder)
    about = json.loads((folder / "config.json").read_text())["about"]
    about["run"] = without_places(about.get("run", {}))
    card = Path(config.out) / "MODEL_CARD.md"
    text = card.read_bytes() if card.is_file() else None
    weights = sum(2 * parameter.numel() for parameter in model.parameters())
    if weights > LIMIT:  # the other files have only a few kilobytes
        raise UsageError(f"{folder}: {weights} bytes of weights in fp16, the package may carry {LIMIT}")
    head = head_of_step(folder, model)
    save_model(config.out, model, tokenizer, dtype=torch.float16, about=about, head=head)
    if text is not None:
        card.write_bytes(text)  # the card is prose beside the model, and not in its manifest
    size = sum(path.stat().st_size for path in Path(config.out).iterdir())
    print(json.dumps({"out": config.out, "bytes": size}))
    return 0


def head_of_step(folder: Path, model: VLM) -> PatchHead | None:
    """The glyph head on SAM's patches that was trained with the model; the reader drafts with it."""
    if not (folder / STATE).is_file():
        return load_heads(folder, model.config)
    trained = load_state(folder).get("heads")
    if trained is None:
        return None
    head = PatchHead(model.config)
    head.load_state_dict(head_weights(trained))
    return head


def without_places(flags: dict[str, Any]) -> dict[str, Any]:
    """A run's flags without the folders of the machine that it ran on, which mean nothing elsewhere."""
    kept = {name: value for name, value in flags.items() if name != "out"}
    places = {name: Path(value) for name, value in kept.items() if isinstance(value, str)}
    return {**kept, **{name: "/".join(p.parts[-2:]) for name, p in places.items() if p.is_absolute()}}


if __name__ == "__main__":
    sys.exit(run(main))
