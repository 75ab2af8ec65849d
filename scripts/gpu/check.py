"""Checks the GPU's speed, and that the model computes the same numbers on it as elsewhere.

python -m scripts.gpu.check --preset=d20 --device=cuda

First it measures the machine: a bf16 product and a copy, with which other parts compare their numbers. Then
it compares the encoder and the GPT with transformers' at the same random weights, in fp32 without TF32 and in
bf16. Last it compares one packed training step of preset nano on the CPU and on the device.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from nanoocr.commandline import parse, run
from nanoocr.config import ModelConfig, preset
from nanoocr.data.batch import Batch
from nanoocr.data.loader import multimodal_data_generator
from nanoocr.errors import DefectError
from nanoocr.model.components import component_of
from nanoocr.tasks.choose import make_task
from nanoocr.train.config import TrainConfig
from nanoocr.train.data import plan_data
from nanoocr.train.distributed import World
from nanoocr.train.recipes import recipe
from nanoocr.train.run import Run
from nanoocr.train.setup import load_tokenizer, new_model
from nanoocr.train.state import build_state
from nanoocr.train.step import Totals, compute_losses
from scripts.bench.encoder import build, picture
from scripts.bench.reference import reference_gpt, square_sizes
from scripts.gpu.part import PartConfig, Results, median_seconds, random_model, share_of

# for the largest difference of outputs with a spread near 1, since sums depend on their order
FP32_TOLERANCE = 1e-3
# bf16 keeps 8 bits, so both sides have errors. Ours may be 1.5 times as large as theirs.
BF16_TOLERANCE = 1.5
STEP_TOLERANCE = 1e-3  # for a component's gradient, relative to its norm
COLUMNS = {
    "tflops": ("TFLOP/s", ".1f"),
    "of_peak": ("of peak", ".1%"),
    "gb_per_s": ("GB/s", ".0f"),
    "max_difference": ("largest difference", ".1e"),
    "rms_difference": ("rms", ".1e"),
    "theirs_rms": ("theirs, rms", ".1e"),
    "spread": ("spread", ".2f"),
}


@dataclass(frozen=True)
class CheckConfig(PartConfig):
    """Measures the machine's speed, and compares the model with transformers' on the device."""


# ---------------------------------------------------------------------------------------------------------
# Speed of the machine


def product_rate(config: CheckConfig, dtype: torch.dtype, peak: float | None) -> dict[str, Any]:
    """TFLOP/s of a square product of random numbers (zeros would draw less power and run faster)."""
    n, device = 256 if config.miniature else 8192, config.torch_device
    a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
    tflops = 2 * n**3 / median_seconds(lambda: a @ b, device, 10) / 1e12
    return {"tflops": tflops, "of_peak": share_of(tflops, peak)}


def copy_rate(config: CheckConfig, source: str) -> dict[str, Any]:
    """GB/s of a copy to the device; for a copy within the device both reading and writing count."""
    size, device = 2**20 if config.miniature else 2**31, config.torch_device
    there = torch.empty(size, dtype=torch.uint8, device=device)
    if source == "device":
        here, moved = torch.ones_like(there), 2 * size
    else:
        here, moved = torch.ones(size, dtype=torch.uint8, pin_memory=device.type == "cuda"), size
    seconds = median_seconds(lambda: there.copy_(here, non_blocking=True), device, 10)
    return {"gb_per_s": moved / seconds / 1e9}


# ---------------------------------------------------------------------------------------------------------
# Parity


@contextmanager
def without_tf32() -> Iterator[None]:
    """Use true fp32 in the `with` block: by default torch lets cuDNN's convolutions round to 10 bits."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def differences(ours: Tensor, theirs: Tensor) -> dict[str, float]:
    """The largest and the root mean square difference, and the spread to compare them with."""
    apart = ours.float() - theirs.float()
    return {
        "max_difference": float(apart.abs().max()),
        "rms_difference": float(apart.square().mean().sqrt()),
        "spread": float(theirs.float().std()),
    }


def hold(passed: bool, found: dict[str, Any], tolerance: float) -> dict[str, Any]:
    """Return `found`, or raise an error that says how large the difference is."""
    if not passed:
        raise DefectError(f"differs by more than {tolerance:g}: {found}", "")
    return {**found, "tolerance": tolerance}


Forward = Callable[[nn.Module], Tensor]


@torch.inference_mode()
def compare(pair: tuple[nn.Module, nn.Module], theirs: Forward, ours: Forward, bf16: bool) -> dict[str, Any]:
    """Compare both in fp32; or in bf16, where each is compared with transformers' in fp32."""
    with without_tf32():
        expected = theirs(pair[0])
        if not bf16:
            found = differences(ours(pair[1]), expected)
            limit = FP32_TOLERANCE * max(1.0, found["spread"])
            return hold(found["max_difference"] < limit, found, FP32_TOLERANCE)
    half_theirs, half_ours = (copy.deepcopy(model).bfloat16() for model in pair)
    reference = differences(theirs(half_theirs), expected)["rms_difference"]
    found = {**differences(ours(half_ours), expected), "theirs_rms": reference}
    return hold(found["rms_difference"] <= BF16_TOLERANCE * reference, found, BF16_TOLERANCE)


def encoder_parity(config: CheckConfig, sizes: ModelConfig, side: int, bf16: bool) -> dict[str, Any]:
    """Compare the encoder at one size."""
    device = config.torch_device
    reference, encoder = (model.to(device) for model in build(sizes))
    views = picture(side, 1, device)

    def pixels(model: nn.Module) -> Tensor:
        return views.to(next(model.parameters()).dtype)

    def ours(model: nn.Module) -> Tensor:
        features = model(pixels(model))
        return torch.cat([features.clip, features.sam], dim=-1)

    return compare((reference, encoder), lambda model: model(pixels(model)).last_hidden_state, ours, bf16)


def gpt_parity(config: CheckConfig, sizes: ModelConfig, bf16: bool) -> dict[str, Any]:
    """Compare the GPT on random ids. Logits are a few units wide, so the softcap's tanh hides nothing."""
    device = config.torch_device
    gpt = random_model(sizes, device, torch.float32).gpt.requires_grad_(False)
    length = 64 if config.miniature else 1024
    ids = torch.randint(0, sizes.gpt.vocab_size, (2, length), device=device)

    def ours(model: nn.Module) -> Tensor:
        assert isinstance(model, type(gpt))
        return model.logits(model(model.embed(ids)))

    return compare((reference_gpt(gpt), gpt), lambda model: model(input_ids=ids).logits, ours, bf16)


# ---------------------------------------------------------------------------------------------------------
# A step


def packed_batch(flags: TrainConfig) -> Batch:
    """One packed micro-batch of preset nano's own data."""
    tokenizer = load_tokenizer(flags)
    data = plan_data(flags, preset("nano", tokenizer.vocab_size), tokenizer, make_task)
    return next(multimodal_data_generator(data))[0].batch


def gradients(flags: TrainConfig, batch: Batch, device: str) -> dict[str, Tensor]:
    """The gradients of one step by component, each as a single vector on the CPU."""
    flags = replace(flags, device=device)
    tokenizer = load_tokenizer(flags)
    run = Run(flags, recipe("scratch", 1), world=World(device=device))
    model = new_model(run, preset("nano", tokenizer.vocab_size), tokenizer)
    with torch.no_grad():
        model.gpt.lm_head.weight.fill_(0.01).mul_(torch.arange(1.0, 257.0, device=device).cos())
    state = build_state(run, model)
    with without_tf32():
        compute_losses(state, batch, run.recipe, Totals.of([batch], run.world))["total"].backward()
    parts: dict[str, list[Tensor]] = {}
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            parts.setdefault(component_of(name), []).append(parameter.grad.flatten().cpu())
    return {name: torch.cat(of_part) for name, of_part in parts.items()}


def step_parity(config: CheckConfig) -> dict[str, Any]:
    """Compare the gradients of a packed fp32 step of preset nano on the CPU and on the device."""
    flags = TrainConfig(steps=1, batch_size=2, pack=True, dtype="float32", workers=0, eval_samples=0)
    batch = packed_batch(flags)
    here, there = gradients(flags, batch, "cpu"), gradients(flags, batch, config.device)
    apart = {name: float((here[name] - there[name]).norm() / here[name].norm()) for name in here}
    worst = max(apart.values())
    return hold(worst < STEP_TOLERANCE, {"max_difference": worst, "by_component": apart}, STEP_TOLERANCE)


def main(argv: list[str] | None = None) -> int:
    """Make one measurement after the other."""
    config = parse(CheckConfig, argv)
    results = Results("check", config)
    peak, sizes = results.about.get("peak_tflops"), square_sizes(preset(config.preset))
    results.measure("product, bf16", partial(product_rate, config, torch.bfloat16, peak))
    results.measure("product, fp32", partial(product_rate, config, torch.float32, None))
    results.measure("copy on the device", partial(copy_rate, config, "device"))
    results.measure("copy to the device, pinned", partial(copy_rate, config, "host"))
    results.measure("step of nano, fp32, CPU and device", partial(step_parity, config))
    for bf16, dtype in ((False, "fp32"), (True, "bf16")):
        results.measure(f"GPT against transformers, {dtype}", partial(gpt_parity, config, sizes, bf16))
        for side in (128,) if config.miniature else (512, 1024):
            name = f"encoder against transformers, {dtype}, {side} px"
            results.measure(name, partial(encoder_parity, config, sizes, side, bf16))
    return results.finish(COLUMNS)


if __name__ == "__main__":
    sys.exit(run(main))
