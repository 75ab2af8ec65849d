"""Operation counts against the published table and against what torch itself counts."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from nanoocr.config import d20, nano
from nanoocr.model.components import COMPONENTS, freeze
from nanoocr.model.deepencoder import DeepEncoder
from nanoocr.model.flops import encoder_flops, gpt_flops, training_flops
from nanoocr.model.gpt import GPT
from nanoocr.model.vlm import VLM


@pytest.mark.parametrize(
    ("side", "sam", "clip", "projector"),
    [
        (512, 0.228e12, 0.040e12, 0.3e9),
        (640, 0.326e12, 0.062e12, 0.5e9),
        (1024, 0.977e12, 0.162e12, 1.3e9),
        (1280, 1.683e12, 0.258e12, 2.1e9),
    ],
)
def test_counts_of_the_full_size_encoder(side, sam, clip, projector):
    """The published counts put the padding of the windows through qkv and proj; ours leaves it out."""
    flops = encoder_flops(d20(), (side, side))
    padding = (-(-side // 16 // 14) * 14) ** 2 - (side // 16) ** 2
    assert flops.sam + 8 * 2 * padding * 4 * 768**2 == pytest.approx(sam, rel=0.005)
    assert flops.clip == pytest.approx(clip, rel=0.02)
    assert flops.projector == pytest.approx(projector, rel=0.15)


@pytest.mark.parametrize("view", [(128, 256), (192, 192)])
def test_counts_equal_torchs(view):
    """torch counts the products that run, on the meta device without running them."""
    config = nano()
    with torch.device("meta"):
        encoder, gpt = DeepEncoder(config), GPT(config.gpt)
        views, x = torch.empty(1, 3, *view), torch.empty(1, 60, config.gpt.n_embd)
    with FlopCounterMode(display=False) as counter:
        encoder(views)
    assert encoder_flops(config, view).total == pytest.approx(counter.get_total_flops(), rel=1e-9)
    with FlopCounterMode(display=False) as counter:
        gpt.logits(gpt(x))
    assert gpt_flops(config.gpt, 60) == counter.get_total_flops()
    assert gpt_flops(config.gpt, 60, logits=0) < gpt_flops(config.gpt, 60)


@pytest.mark.parametrize(
    "trained",
    [COMPONENTS, ("clip", "projector", "gpt"), ("compressor", "projector"), ("projector", "gpt"), ("gpt",)],
)
def test_training_counts_follow_what_is_frozen(trained):
    """torch counts forward and backward of the real model, to the gradient of the first layer's input."""
    config = nano()
    with torch.device("meta"):
        model = VLM(config)
        views, rest = torch.empty(2, 3, 128, 256), torch.empty(1, 60, config.gpt.n_embd)
    freeze(model, trained)
    with FlopCounterMode(display=False) as counter:
        tokens = model.encoder(views).tokens.flatten(0, 1)
        hidden = model.gpt(torch.cat([tokens[None], rest], dim=1))
        model.gpt.logits(hidden[:, -40:]).sum().backward()
    T = len(tokens) + 60
    ours = training_flops(config, trained, {(128, 256): 2}, tokens=T, pairs=T * T, logits=40)
    assert set(ours) == set(COMPONENTS)
    assert sum(ours.values()) == pytest.approx(counter.get_total_flops(), rel=0.06)


def test_recomputing_costs_one_forward_pass_of_what_trains():
    config, size = nano(), {"tokens": 100, "pairs": 2000, "logits": 50}
    plain = training_flops(config, ("gpt",), {(128, 256): 3}, **size)
    again = training_flops(config, ("gpt",), {(128, 256): 3}, **size, recompute=True)
    assert again["gpt"] == pytest.approx(plain["gpt"] * 4 / 3) and again["sam"] == plain["sam"]
