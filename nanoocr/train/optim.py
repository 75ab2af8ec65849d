"""Optimisers and learning-rate schedules.

Muon (orthogonalised momentum) updates the hidden matrices and convolutions, AdamW everything else; or AdamW
updates all. There is one learning rate per component, and rate 0 means frozen: see nanoocr/train/recipes.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from nanoocr.machine import has_fast_bf16
from nanoocr.train.distributed import World
from nanoocr.train.sharding import is_split, on_whole_matrices, own_part

# Quintic iteration X <- aX + (bA + cA^2)X with A = XX': each triple is tuned for its step, so that five
# steps take singular values from [0.001, 1] to about 1 (Polar Express, arXiv 2505.16932, table of the paper).
POLAR_STEPS = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)


def orthogonalise(matrices: Tensor, steps: int = len(POLAR_STEPS)) -> Tensor:
    """The nearest (semi-)orthogonal matrices of a stack (n, rows, columns), in bf16.

    After five steps singular values lie within 14 % of 1, after three between 0.13 and 1.87.
    """
    # In bf16, because the result only has to be roughly orthogonal, and the products are the cost. Where a
    # processor has no such products, torch's take 25 times as long as those in fp32.
    x = matrices.bfloat16() if has_fast_bf16(matrices.device.type) else matrices.float()
    # The product of a matrix with its transpose is smaller along the short side.
    tall = x.size(-2) > x.size(-1)
    x = x.mT if tall else x
    # The iteration converges for singular values up to 1. The norm bounds the largest; 2 % more keeps it
    # below 1 after rounding, and the small number keeps a matrix of zeros finite.
    x = x / (x.norm(dim=(-2, -1), keepdim=True) * 1.02 + 1e-6)
    for a, b, c in POLAR_STEPS[:steps]:
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    x = x.bfloat16()  # the same everywhere, since ranks of any processors send it to each other
    return x.mT if tall else x


class Keeping(torch.optim.Optimizer):
    """An optimiser that keeps its moments in a dtype of their own and computes with them in fp32."""

    MOMENTS = ("momentum", "exp_avg", "exp_avg_sq")

    def __init__(
        self, groups: Iterable[dict[str, Any]], defaults: dict[str, Any], moments: torch.dtype
    ) -> None:
        super().__init__(groups, defaults)
        self.moments = moments

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load as torch does, which converts every moment to its weight's dtype, and convert back exactly."""
        # Going through the weight's dtype loses nothing: every bf16 number is an fp32 number too.
        super().load_state_dict(state_dict)
        for state in self.state.values():
            state.update({name: state[name].to(self.moments) for name in self.MOMENTS if name in state})

    def moment(self, parameter: nn.Parameter, name: str) -> Tensor:
        """A stored moment of a parameter; zeros at first."""
        state = self.state[parameter]
        if name not in state:
            # Allocated at the first update: a frozen parameter never needs one.
            state[name] = torch.zeros_like(parameter, dtype=self.moments)
        return state[name]


class AdamW(Keeping):
    """AdamW (arXiv 1711.05101) with both moments in bf16. For fp32 moments torch's own AdamW is faster.

    Rounding to bf16 loses a change below 1/256 of a number. With beta2 = 0.95 the second moment moves by 5 %
    of its distance to the squared gradient, so that it may stop within 8 % of where it belongs, which is 4 %
    of an update; where gradients vary it does not stop, and updates are off by less than 0.5 %. Kept as its
    root it is farther off; random rounding would need random numbers that a checkpoint keeps. With 0.99 the
    error is above 1.5 %: refused (tests/train/test_moments.py measures all three).
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
        moments: torch.dtype = torch.bfloat16,
    ) -> None:
        if moments == torch.bfloat16 and betas[1] > 0.95:
            raise ValueError(f"beta2={betas[1]}: a second moment in bf16 follows up to 0.95 only")
        super().__init__(groups, {"lr": 1e-3, "betas": betas, "eps": eps, "weight_decay": 0.0}, moments)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(group, parameter, parameter.grad)

    def _update(self, group: dict[str, Any], parameter: nn.Parameter, grad: Tensor) -> None:
        state, (beta1, beta2) = self.state[parameter], group["betas"]
        state["step"] = state.get("step", torch.zeros(())) + 1
        steps = state["step"].item()
        # Element-wise updates need no whole matrix, so each rank works on its own rows.
        kept = [own_part(self.moment(parameter, name)) for name in ("exp_avg", "exp_avg_sq")]
        own, grad = own_part(parameter), own_part(grad)
        mean = kept[0].float().lerp_(grad, 1 - beta1)
        square = kept[1].float().mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
        for moment, value in zip(kept, (mean, square)):
            moment.copy_(value)
        # Both moments start at zero, so early means are too small: the divisions by 1 - beta^steps correct
        # that.
        root = square.sqrt().div_((1 - beta2**steps) ** 0.5).add_(group["eps"])
        own.mul_(1 - group["lr"] * group["weight_decay"])
        own.addcdiv_(mean, root, value=-group["lr"] / (1 - beta1**steps))


class Stack(NamedTuple):
    """Parameters of one group and one shape. Their directions are computed in one batch."""

    group: dict[str, Any]
    shape: tuple[int, int]
    parameters: list[nn.Parameter]


class Muon(Keeping):
    """Nesterov momentum, orthogonalised per matrix. Matrices of one shape are processed in one batch.

    Where parameters are split over ranks, each rank keeps and updates its rows. Where every rank holds the
    whole matrix, each rank orthogonalises its share and sends it to all, as in nanochat; the update is the
    same, and its cost does not grow with the number of ranks. A convolution counts as the matrix (out, in *
    kernel). The update is scaled by sqrt(rows / columns) where that is above one, so that a rate means the
    same for every shape. (K. Jordan, Muon, 2024.)
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        lr: float = 0.02,
        momentum: float = 0.95,
        moments: torch.dtype = torch.float32,
        polar_steps: int = len(POLAR_STEPS),
        world: World | None = None,
    ) -> None:
        super().__init__(groups, {"lr": lr, "momentum": momentum, "weight_decay": 0.0}, moments)
        self.orthogonalise = partial(orthogonalise, steps=polar_steps)
        self.world = world or World()

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        shared = []
        for stack in self._stacks():
            if self.world.size > 1 and not is_split(stack.parameters[0]):
                shared.append(stack)
            else:
                self._update(stack)
        if shared:
            self._update_shared(shared)

    def _stacks(self) -> list[Stack]:
        """Collect parameters with a gradient by group and shape, in the same order on every rank."""
        stacks = []
        for group in self.param_groups:
            # One product handles many matrices: small ones one by one would leave a GPU idle.
            by_shape: dict[tuple[int, int], list[nn.Parameter]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    rows = parameter.size(0)
                    by_shape.setdefault((rows, parameter.numel() // rows), []).append(parameter)
            stacks += [Stack(group, shape, parameters) for shape, parameters in by_shape.items()]
        return stacks

    def _update(self, stack: Stack) -> None:
        momentum = stack.group["momentum"]
        directions = torch.stack([self._momentum(p, momentum).flatten(1) for p in stack.parameters])
        for parameter, update in zip(
            stack.parameters, on_whole_matrices(self.orthogonalise, directions, of=stack.parameters[0])
        ):
            apply_update(stack, parameter, update)

    def _update_shared(self, stacks: list[Stack]) -> None:
        """As `_update`, but each rank holds whole matrices, works on its share and receives the rest."""
        owners = share_out([stack.shape for stack in stacks for _ in stack.parameters], self.world.size)
        done, lengths, place = [], [0] * self.world.size, iter(owners)
        for stack in stacks:
            mine = []
            for parameter in stack.parameters:
                direction, owner = self._momentum(parameter, stack.group["momentum"]), next(place)
                lengths[owner] += direction.numel()
                if owner == self.world.rank:
                    mine.append(direction.flatten(1))
            if mine:
                done.append(self.orthogonalise(torch.stack(mine)).flatten())
        device = stacks[0].parameters[0].device
        own = torch.cat(done) if done else torch.zeros(0, dtype=torch.bfloat16, device=device)
        of_ranks, used, place = self.world.exchange(own, lengths), [0] * self.world.size, iter(owners)
        for stack in stacks:
            for parameter in stack.parameters:
                owner = next(place)
                start, used[owner] = used[owner], used[owner] + parameter.numel()
                apply_update(stack, parameter, of_ranks[owner][start : used[owner]])

    def _momentum(self, parameter: nn.Parameter, momentum: float) -> Tensor:
        grad, kept = parameter.grad, self.moment(parameter, "momentum")
        assert grad is not None
        own, own_kept = own_part(grad), own_part(kept)
        # This works in place where the moment is kept in fp32.
        mean = own_kept.float().lerp_(own, 1 - momentum)
        own_kept.copy_(mean)
        # Nesterov: the direction looks ahead by adding the fresh gradient to the mean once more.
        return own.lerp(mean, momentum)


def apply_update(stack: Stack, parameter: nn.Parameter, update: Tensor) -> None:
    """Move a parameter, or this rank's rows of it, against its orthogonalised direction."""
    own, rate = own_part(parameter), stack.group["lr"]
    own.mul_(1 - rate * stack.group["weight_decay"])
    own.sub_(update.float().reshape(own.shape), alpha=rate * max(1.0, stack.shape[0] / stack.shape[1]) ** 0.5)


def share_out(shapes: Sequence[tuple[int, int]], ranks: int) -> list[int]:
    """Assign each matrix to a rank: the most expensive first, each to the rank with the least work."""
    work, owners = [0] * ranks, [0] * len(shapes)
    costs = [rows * columns * min(rows, columns) for rows, columns in shapes]
    for number in sorted(range(len(shapes)), key=lambda i: (-costs[i], i)):
        owners[number] = min(range(ranks), key=lambda rank: (work[rank], rank))
        work[owners[number]] += costs[number]
    return owners


def is_hidden_matrix(name: str, parameter: Tensor) -> bool:
    """Whether Muon updates it: matrices and convolutions inside the networks, but no tables and no ends."""
    # A table is looked up row by row, so there is no product whose spectrum Muon could even out.
    ends = ("wte", "lm_head", "pos_embed", "rel_pos", "position_embedding", "patch_embed", "head")
    return parameter.ndim in (2, 4) and not any(end in name for end in ends)


def learning_rate_factor(
    step: int,
    steps: int,
    *,
    schedule: str,
    warmup: int,
    cooldown: float = 0.4,
    step_every: int = 2000,
    step_factor: float = 0.1,
) -> float:
    """The factor on the base rate at `step` of `steps`.

    Schedules: `cosine` to zero; `trapezoid`: constant, then linear to zero over the last share `cooldown`;
    `step`: times `step_factor` after every `step_every` steps; `constant`. All after a linear warm-up.
    """
    if step < warmup:
        # Plus one, because a first step at rate zero would be wasted.
        return (step + 1) / warmup
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
    if schedule == "trapezoid":
        # The line reaches zero after the last step, so that even the last one moves the weights.
        return min(1.0, (steps - step) / max(1.0, cooldown * steps))
    if schedule == "step":
        return step_factor ** (step // step_every)
    return 1.0
