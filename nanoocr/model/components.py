"""The five components of the model, by the names of their parameters."""

from __future__ import annotations

from nanoocr.model.vlm import VLM

COMPONENTS = ("sam", "compressor", "clip", "projector", "gpt")


def component_of(name: str) -> str:
    """The component that a parameter of a VLM belongs to, by its name."""
    if name.startswith("gpt."):
        return "gpt"
    if name.startswith("encoder.vision_model."):
        return "clip"
    if name.startswith(("encoder.sam_model.net_2", "encoder.sam_model.net_3")):
        return "compressor"
    return "sam" if name.startswith("encoder.sam_model.") else "projector"  # with the special vectors


def freeze(model: VLM, trained: tuple[str, ...]) -> None:
    """Let gradients reach the parameters of the `trained` components only."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(component_of(name) in trained)
