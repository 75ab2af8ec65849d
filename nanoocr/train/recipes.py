"""The three recipes as data: what trains in which stage, and how fast.

Stage 1 (`vis_tok_train`) makes the encoder. Stage 2 (`vis_mid_train`) starts from it, with a fresh GPT.
`deepseek` follows the paper (arXiv 2510.18234, section 4). `llava` trains only the connection between two
pretrained halves. `scratch` has no pretrained weights at all, and uses the glyph loss instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from nanoocr.errors import UsageError
from nanoocr.model.components import COMPONENTS, component_of
from nanoocr.model.vlm import VLM, count_parameters
from nanoocr.train.distributed import World
from nanoocr.train.optim import POLAR_STEPS, AdamW, Muon, is_hidden_matrix
from nanoocr.train.sharding import is_split

# Pixels and ids enter here, and logits leave. Ends may have rates of their own, besides the component's.
ENDS = {
    "encoder.sam_model.patch_embed.proj.weight": "patch_embed",
    "gpt.transformer.wte.weight": "wte",
    "gpt.lm_head.weight": "lm_head",
}


@dataclass(frozen=True)
class Recipe:
    """Defaults, which flags of the stage scripts may override. Components that are not named stay frozen."""

    trained: tuple[str, ...]  # components that train
    optimizer: str  # "muon" (with AdamW for everything but hidden matrices) or "adamw"
    lr: float  # AdamW's learning rate
    muon_lr: float
    schedule: str  # see optim.learning_rate_factor
    warmup: float  # share of the steps
    glyph_weight: float  # weight of the glyph loss; 0 turns it off
    # (component or end, factor on its rates); the others have factor 1
    factors: tuple[tuple[str, float], ...] = ()
    feature_weight: float = 0.0  # weight of the feature regulariser; 0 turns it off

    def factor_of(self, component: str) -> float:
        """The factor on both rates of a component, or the further factor of an end."""
        return dict(self.factors).get(component, 1.0)

    def factor_of_parameter(self, name: str) -> float:
        """The factor on the rate of a VLM's parameter, found by its name."""
        return self.factor_of(component_of(name)) * self.factor_of(ENDS.get(name, ""))


ALL = COMPONENTS
BETAS = (0.9, 0.95)  # for AdamW
# Factors for ends that start from random weights (docs/log.md, 2026-11-22): at the usual rate one step
# changes the filters of the patch embedding by a seventh of their size, while the word table spreads too
# slowly.
FROM_NOTHING = (("patch_embed", 0.03), ("wte", 20.0), ("lm_head", 3.0))
RECIPES: dict[tuple[str, int], Recipe] = {
    ("deepseek", 1): Recipe(ALL, "adamw", 5e-5, 0.0, "cosine", 0.03, 0.0),
    ("deepseek", 2): Recipe(("clip", "projector", "gpt"), "adamw", 3e-5, 0.0, "step", 0.0, 0.0),
    ("llava", 1): Recipe(("compressor", "projector"), "adamw", 1e-3, 0.0, "cosine", 0.03, 0.0),
    ("llava", 2): Recipe(("projector", "gpt"), "adamw", 2e-5, 0.0, "cosine", 0.03, 0.0),
    ("scratch", 1): Recipe(ALL, "muon", 3e-3, 0.02, "trapezoid", 0.01, 1.0, FROM_NOTHING),
    ("scratch", 2): Recipe(
        ("clip", "projector", "gpt"), "muon", 3e-3, 0.02, "trapezoid", 0.01, 0.2, FROM_NOTHING
    ),
}


def recipe(name: str, stage: int) -> Recipe:
    """The recipe called `name` for stage 1 or 2.

    Raises:
        UsageError: there is no such recipe.
    """
    if (name, stage) not in RECIPES:
        known = sorted({known for known, _ in RECIPES})
        raise UsageError(f"unknown recipe {name!r}: choose one of {', '.join(known)}")
    return RECIPES[name, stage]


def make_optimizers(
    model: VLM,
    heads: nn.Module | None,
    recipe: Recipe,
    weight_decay: float,
    moments: torch.dtype = torch.float32,
    polar_steps: int = len(POLAR_STEPS),
    world: World | None = None,
) -> list[torch.optim.Optimizer]:
    """Make Muon for the hidden matrices, if the recipe says so, and AdamW for the rest and the glyph heads.

    Components of one rate share a group. Every group carries `base_lr`, which the schedule multiplies. Both
    optimisers keep their moments in the dtype `moments`, fp32 or bf16. `polar_steps` is the number of Muon's
    iterations. The ranks of a `world` share Muon's work.
    """
    matrices: Rates = {}
    # A group cannot hold both split and whole tensors. The heads are always whole.
    others: Rates = {(1.0, False): [] if heads is None else list(heads.parameters()), (1.0, True): []}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            # Muon is for matrices inside the networks; norms, biases, tables and the two ends stay with
            # AdamW.
            to_muon = recipe.optimizer == "muon" and is_hidden_matrix(name, parameter)
            factor = recipe.factor_of_parameter(name)
            by_rate = matrices if to_muon else others
            by_rate.setdefault((factor, is_split(parameter)), []).append(parameter)
    optimizers: list[torch.optim.Optimizer] = []
    if matrices:
        to_orthogonal = groups(matrices, recipe.muon_lr, weight_decay)
        optimizers.append(Muon(to_orthogonal, moments=moments, polar_steps=polar_steps, world=world))
    if rest := groups(others, recipe.lr, weight_decay):
        # torch's fused AdamW keeps its moments in the dtype of the weights, so bf16 moments need ours.
        if moments == torch.bfloat16:
            optimizers.append(AdamW(rest, BETAS))
        else:
            optimizers.append(torch.optim.AdamW(rest, betas=BETAS, weight_decay=weight_decay, fused=True))
    return optimizers


# keyed by (factor on the rate, whether the parameters are split)
Rates = dict[tuple[float, bool], list[nn.Parameter]]


def groups(by_factor: Rates, rate: float, decay: float) -> list[dict[str, Any]]:
    """Build the parameter groups of one optimiser."""
    return [
        {"params": parameters, "lr": rate * factor, "base_lr": rate * factor, "weight_decay": decay}
        for (factor, _), parameters in by_factor.items()
        if parameters
    ]


def describe(model: VLM, recipe: Recipe) -> list[dict[str, Any]]:
    """One row per component for the table at the start of a run: parameters, trained, optimiser, rate."""
    lines = []
    for component in COMPONENTS:
        named = [(n, p) for n, p in model.named_parameters() if component_of(n) == component]
        size = sum(parameter.numel() for _, parameter in named)
        trained = component in recipe.trained
        lr, muon_lr = (rate * recipe.factor_of(component) for rate in (recipe.lr, recipe.muon_lr))
        rates = f"{lr:g}" if recipe.optimizer == "adamw" else f"{muon_lr:g} / {lr:g}"
        optimizer = recipe.optimizer if recipe.optimizer == "adamw" else "muon / adamw"
        lines.append(
            {
                "component": component,
                "parameters": size,
                "optimizer": optimizer if trained else "frozen",
                "lr": rates if trained else "-",
            }
        )
    for name, parameter in model.named_parameters():
        if recipe.factor_of(ENDS.get(name, "")) == 1:
            continue
        trained = component_of(name) in recipe.trained
        lines.append(
            {
                "component": f"{component_of(name)}: {ENDS[name]}",
                "parameters": parameter.numel(),
                "optimizer": "adamw" if trained else "frozen",
                "lr": f"{recipe.lr * recipe.factor_of_parameter(name):g}" if trained else "-",
            }
        )
    return [*lines, {"component": "all", "parameters": count_parameters(model), "optimizer": "", "lr": ""}]
