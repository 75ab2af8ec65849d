"""Notices NaN and infinity before anything computed from them is saved, and names where they are.

A step only updates a flag on the device, so that nobody has to wait for a GPU. The run stops when somebody
reads the flag: on a CPU before every update, elsewhere with each log line and before each checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from nanoocr.errors import DivergedError
from nanoocr.model.components import component_of
from nanoocr.model.folder import complete_steps
from nanoocr.train.run import Run
from nanoocr.train.sharding import own_part
from nanoocr.train.state import TrainState


@torch.no_grad()
def some_are_not_finite(tensors: Iterable[Tensor]) -> Tensor:
    """Whether any of the tensors, all on one device, holds NaN or infinity; a bool scalar on that device."""
    # A rank may hold no row of a small split tensor, and the norm of nothing is an error.
    own = [part for part in map(own_part, tensors) if part.numel()]
    if not own:
        return torch.zeros((), dtype=torch.bool)
    # the sum of squares could overflow
    largest = torch._foreach_norm([part.float() for part in own], float("inf"))
    return ~torch.stack(list(largest)).isfinite().all()


def trained(state: TrainState) -> list[nn.Parameter]:
    """All parameters that the optimisers update."""
    return [p for o in state.optimizers for group in o.param_groups for p in group["params"]]


def notice(state: TrainState, losses: Mapping[str, Tensor]) -> None:
    """Update the flag with this step's losses and gradients, without waiting for the device."""
    seen = [*losses.values(), *(p.grad for p in trained(state) if p.grad is not None)]
    # The result stays on the device: reading it would wait for everything that the GPU still has to do.
    now = some_are_not_finite(seen).to(state.model.device)
    state.broken = now if state.broken is None else state.broken | now


def stop_if_diverged(
    run: Run, state: TrainState, losses: Mapping[str, Tensor], *, weights: bool = True
) -> None:
    """Read the flag and, with `weights`, check the weights too. All ranks must call this.

    Raises:
        DivergedError: something is not finite. It names the components and the step to resume from.
    """
    # Reading the flag waits for the GPU.
    broken = state.broken is not None and bool(state.broken)
    if weights:
        broken = broken or bool(some_are_not_finite(trained(state)))
    if not run.world.sum([float(broken)])[0]:
        return
    # Every rank names what it sees; each name is said once, in the order of the ranks.
    culprits = list(dict.fromkeys(name for names in run.world.gather(named(state, losses)) for name in names))
    steps = complete_steps(run.folder)
    mend = (
        f"the last good step is {steps[-1]}: go on with --resume=True and lower rates (--lr, --muon_lr)"
        if steps
        else "nothing was saved yet: start anew with lower rates (--lr, --muon_lr) or a longer --warmup"
    )
    what = ", ".join(culprits) or "a loss or a gradient, for a moment"
    raise DivergedError(
        f"stopped after step {state.step}: no finite numbers any more in {what}; nothing of it is saved; "
        f"{mend}"
    )


def named(state: TrainState, losses: Mapping[str, Tensor]) -> list[str]:
    """Name what holds NaN or infinity on this rank: weights and gradients by component, losses by name."""
    parts: dict[str, list[Tensor]] = {}
    for name, parameter in state.model.named_parameters():
        parts.setdefault(f"the weights of {component_of(name)}", []).append(parameter)
        if parameter.grad is not None:
            parts.setdefault(f"the gradients of {component_of(name)}", []).append(parameter.grad)
    for parameter in () if state.heads is None else state.heads.parameters():
        parts.setdefault("the weights of the glyph heads", []).append(parameter)
        if parameter.grad is not None:
            parts.setdefault("the gradients of the glyph heads", []).append(parameter.grad)
    parts |= {f"the loss {name!r}": [loss] for name, loss in losses.items()}
    found = [name for name, tensors in parts.items() if bool(some_are_not_finite(tensors))]
    # Weights first, then losses: a broken weight explains everything that follows from it.
    return sorted(found, key=lambda name: ("weights" not in name, "loss" not in name))
