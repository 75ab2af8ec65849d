"""The 962M model at full size on this machine: counts, one forward pass, memory, and equality.

python -m scripts.bench.full_size

Builds preset d20 with random weights, reads one 1024 x 1024 picture in fp32, and holds the encoder against
transformers' with the same weights. Minutes and about 10 GB; a line per check, exit code 1 if one fails.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import torch

from nanoocr.commandline import parse, run
from nanoocr.config import d20
from nanoocr.errors import UsageError
from nanoocr.machine import peak_resident, use_threads
from nanoocr.model.vlm import VLM, count_parameters
from scripts.bench.encoder import build, picture

SIDE, TOKENS = 1024, 273
PARAMETERS = {  # reference: published checkpoints, counted
    "SAM with compressor": 95_569_152,
    "CLIP without its dead patch embedding": 302_575_616,
    "projector": 2_622_720,
    "GPT with <|image|>": 560_990_720,
}
MEMORY_LIMIT = 12e9  # bytes, peak of the forward pass
TOLERANCE = 1e-3  # absolute, at features of a spread near 1; fp32 sums differ by their order


@dataclass(frozen=True)
class CheckConfig:
    """Checks the full-size model."""

    threads: int = 0  # torch threads; 0 is torch's choice
    equality: bool = True  # also hold the encoder against transformers'

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        if self.threads < 0:
            raise UsageError("--threads must not be negative")


def check(name: str, passed: bool, found: str) -> bool:
    """One line per check."""
    print(f"{'ok  ' if passed else 'FAIL'} {name}: {found}", flush=True)
    return passed


def check_counts(model: VLM) -> bool:
    """Parameters of every part."""
    parts = (model.encoder.sam_model, model.encoder.vision_model, model.encoder.projector, model.gpt)
    found = dict(zip(PARAMETERS, map(count_parameters, parts)))
    passed = [check(name, found[name] == n, f"{found[name]:,} parameters") for name, n in PARAMETERS.items()]
    return all(passed)


@torch.inference_mode()
def check_forward(model: VLM) -> bool:
    """One picture through everything, and what it took."""
    vision = model.encode(picture(SIDE, 1, torch.device("cpu")))
    passed = check("vision tokens", len(vision) == TOKENS, f"{len(vision)} at {SIDE} x {SIDE}")
    ids = torch.tensor([[0, *[model.image_id] * TOKENS, 1, 2, 3]])
    logits = model.logits(model.gpt(model.embed(ids, vision)))
    finite = bool(logits[..., : model.image_id].isfinite().all())
    passed &= check("logits", finite and logits.shape == (1, TOKENS + 4, 65537), f"{tuple(logits.shape)}")
    peak = peak_resident()
    return passed & check(
        "peak memory", peak < MEMORY_LIMIT, f"{peak / 1e9:.1f} GB, limit {MEMORY_LIMIT / 1e9:.0f}"
    )


@torch.inference_mode()
def check_equality() -> bool:
    """Our encoder and transformers', the same weights, the same picture."""
    reference, encoder = build(d20())
    views = picture(SIDE, 1, torch.device("cpu"))
    expected = reference(views).last_hidden_state
    features = encoder(views)
    difference = float((torch.cat([features.clip, features.sam], -1) - expected).abs().max())
    found = f"max difference {difference:.1e} at a spread of {float(expected.std()):.2f}"
    return check("encoder equals transformers'", difference < TOLERANCE, found)


def main(argv: list[str] | None = None) -> int:
    """Run the checks."""
    config = parse(CheckConfig, argv)
    use_threads(config.threads)
    model = VLM(d20())
    model.init_weights(0)
    passed = check_counts(model) & check_forward(model.eval())
    del model
    if config.equality:
        passed &= check_equality()
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(run(main))
