"""Operation counts against the published table and against what torch itself counts."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from nanoocr.config import d20, nano
from nanoocr.model.deepencoder import DeepEncoder
from nanoocr.model.flops import encoder_flops, gpt_flops
from nanoocr.model.gpt import GPT


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
    flops = encoder_flops(d20(), (side, side))
    assert flops.sam == pytest.approx(sam, rel=0.005)
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
