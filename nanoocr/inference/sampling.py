"""Choosing the next token: greedy or temperature and top-k, the no-repeat guard, the loop detector.

All randomness is one uniform number per row and step, drawn from a generator that belongs to the row alone.
So what a row samples depends on its seed, and not on which rows happen to share its batch.

Letters: B rows, V vocabulary, K candidates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from nanoocr.errors import require
from nanoocr.inference.forms import FORM_COPIES, is_form

# A loop is a cycle of at most LOOP_CYCLE tokens that fills the tail LOOP_COPIES times and LOOP_SPAN tokens.
# A form (nanoocr/inference/forms.py) is a loop only where it fills FORM_SPAN tokens and FORM_COPIES copies.
LOOP_CYCLE = 64
LOOP_COPIES = 8
LOOP_SPAN = 96
FORM_SPAN = 1024


@dataclass(frozen=True)
class SamplingConfig:
    """How tokens are chosen. The defaults are plain greedy decoding."""

    temperature: float = 0.0  # 0 is greedy
    top_k: int | None = None  # sample among the k likeliest; None means all
    top_p: float = 1.0  # sample among the likeliest that together have this probability
    seed: int = 0  # row i draws from a generator seeded with (seed, i)
    no_repeat_ngram: int = 0  # forbid repeating an n-gram of this length; 0 is off, otherwise >= 2
    no_repeat_window: int = 90  # only n-grams that start within the last so many generated tokens count
    no_repeat_allowed: tuple[int, ...] = ()  # ids the guard never forbids (table cells repeat rightly)
    stop_loops: bool = True  # end a row that repeats one short cycle over and over
    ignore_stop: bool = False  # never end before max_tokens (for benchmarks)
    alternatives: int = 0  # so many of the likeliest tokens are told at each place

    def __post_init__(self) -> None:
        """Refuse values without a meaning.

        Raises:
            UsageError: naming the field.
        """
        require(0.0 <= self.temperature < float("inf"), "temperature must be 0 (greedy) or more")
        require(self.top_k is None or self.top_k >= 1, "top_k must be at least 1")
        require(0.0 < self.top_p <= 1.0, "top_p must be above 0 and at most 1")
        require(self.alternatives >= 0, "alternatives must not be negative")
        require(self.no_repeat_ngram == 0 or self.no_repeat_ngram >= 2, "no_repeat_ngram must be 0 or >= 2")
        require(self.no_repeat_window >= 1, "no_repeat_window must be at least 1")


class NgramGuard:
    """Which tokens would complete an n-gram that one row has generated before (inside the window)."""

    def __init__(self, config: SamplingConfig) -> None:
        self.config = config
        self.ids: list[int] = []
        self.starts: dict[tuple[int, ...], list[int]] = {}  # first n-1 ids of an n-gram -> its positions

    def push(self, token: int) -> None:
        """Note a generated token."""
        self.ids.append(token)
        n = self.config.no_repeat_ngram
        start = len(self.ids) - n
        if start >= 0:
            # Filed under all ids but the last, which is the one that must not follow again.
            self.starts.setdefault(tuple(self.ids[start:-1]), []).append(start)

    def forbidden(self) -> list[int]:
        """Ids that must not come next."""
        n = self.config.no_repeat_ngram
        # Looking up the prefix costs the same however long the text has become.
        prefix = tuple(self.ids[len(self.ids) - n + 1 :])
        oldest = len(self.ids) - self.config.no_repeat_window
        found = (self.ids[start + n - 1] for start in self.starts.get(prefix, ()) if start >= oldest)
        return [token for token in found if token not in self.config.no_repeat_allowed]


class Sampler:
    """Picks one token for every row of a batch that may shrink from step to step."""

    def __init__(self, config: SamplingConfig, rows: Sequence[int], steps: int, never: Tensor) -> None:
        """`rows` are the rows' numbers among all requests, `steps` the most tokens any of them may take,
        `never` (V,) bool the ids that must not be generated."""
        self.config = config
        self.never = never
        self.step = 0
        self.uniform_BS: Tensor | None = None
        if config.temperature > 0:
            self.uniform_BS = uniform_numbers(config.seed, rows, steps).to(never.device)
        self.guards = [NgramGuard(config) for _ in rows] if config.no_repeat_ngram else None

    def pick(self, logits_BV: Tensor) -> tuple[list[int], list[float]]:
        """The chosen ids and their probabilities, one each per row.

        A probability is that of the model itself: before temperature, guard and forbidden ids.
        """
        # This makes a copy: the probabilities below are those of the untouched logits.
        allowed_BV = logits_BV.masked_fill(self.never, float("-inf"))
        for row, guard in enumerate(self.guards or ()):
            allowed_BV[row, guard.forbidden()] = float("-inf")
        if self.uniform_BS is None:
            ids = allowed_BV.argmax(dim=-1)
        else:
            ids = draw(allowed_BV, self.uniform_BS[:, self.step], self.config)
        chosen = logits_BV.gather(-1, ids[:, None])[:, 0]
        probabilities = (chosen - logits_BV.logsumexp(dim=-1)).exp()
        self.step += 1
        tokens = ids.tolist()
        for guard, token in zip(self.guards or (), tokens):
            guard.push(token)
        return tokens, probabilities.tolist()

    def keep_rows(self, rows: list[int]) -> None:
        """Drop all rows but these (indices into the present batch, in order)."""
        # Each row keeps its own numbers and its own history when others leave the batch.
        if self.uniform_BS is not None:
            self.uniform_BS = self.uniform_BS[rows]
        if self.guards is not None:
            self.guards = [self.guards[row] for row in rows]


def uniform_numbers(seed: int, rows: Sequence[int], steps: int) -> Tensor:
    """(B, steps) fp32 in [0, 1): row i of the requests always gets the same numbers for the same seed."""
    # Drawn on the CPU, because a GPU gives other numbers for the same seed.
    numbers = torch.empty(len(rows), steps)
    for numbers_S, row in zip(numbers, rows):
        # Seeds that differ in few bits give related first numbers in some generators: spread them.
        generator = torch.Generator().manual_seed((seed * 1_000_003 + row) * 0x9E3779B97F4A7C15 % 2**63)
        numbers_S.uniform_(generator=generator)
    return numbers


def draw(logits_BV: Tensor, uniform_B: Tensor, config: SamplingConfig) -> Tensor:
    """Sample ids (B,) by inverting the cumulative distribution at `uniform_B`; -inf is never drawn."""
    count = logits_BV.size(-1) if config.top_k is None else min(config.top_k, logits_BV.size(-1))
    # Sorted, likeliest first: so the sums below can be cut off for top-p.
    best_BK, ids_BK = (logits_BV / config.temperature).topk(count)  # likeliest first
    probabilities_BK = best_BK.softmax(dim=-1)
    cumulative_BK = probabilities_BK.cumsum(dim=-1)
    possible_BK = best_BK > float("-inf")
    if config.top_p < 1:
        # A candidate stays while those before it have not yet reached top_p: the first one always does.
        possible_BK &= cumulative_BK - probabilities_BK < config.top_p
        cumulative_BK = (probabilities_BK * possible_BK).cumsum(dim=-1)
    # The number of candidates whose sum lies below the drawn number is the index of the one chosen.
    rank_B = (cumulative_BK <= uniform_B[:, None] * cumulative_BK[:, -1:]).sum(dim=-1)
    # The sum of many roundings may not reach the last candidate's true bound: stay among the possible.
    last_B = possible_BK.sum(dim=-1) - 1
    return ids_BK.gather(-1, rank_B.clamp(max=last_B)[:, None])[:, 0]


def likeliest(logits_BV: Tensor, count: int) -> list[list[tuple[int, float]]]:
    """For each row the `count` likeliest tokens with the model's own probabilities, likeliest first."""
    best_BK, ids_BK = logits_BV.log_softmax(dim=-1).topk(min(count, logits_BV.size(-1)))
    return [list(zip(ids, best)) for ids, best in zip(ids_BK.tolist(), best_BK.exp().tolist())]


class Loop(NamedTuple):
    """A cycle of tokens that the end of a row repeats."""

    cycle: int  # tokens
    surplus: int  # tokens behind the first copy


def find_loop(ids: Sequence[int]) -> Loop | None:
    """The shortest cycle that the end of a row repeats often enough, or None.

    `ids[:len(ids) - surplus]` keeps everything before the loop and one copy of its cycle.
    """
    for cycle in range(1, LOOP_CYCLE + 1):
        span = max(LOOP_SPAN, LOOP_COPIES * cycle)
        if len(ids) < span:
            return None  # longer cycles need a longer span still
        # Comparing one pair first is cheap, and it rules out nearly every cycle.
        if ids[-1] == ids[-1 - cycle] and ids[-span + cycle :] == ids[-span:-cycle]:
            start = len(ids) - span
            # The loop may have begun long before the span that proves it.
            while start > 0 and ids[start - 1] == ids[start - 1 + cycle]:
                start -= 1
            return Loop(cycle, len(ids) - start - cycle)
    return None


def stopped_by_loop(ids: Sequence[int], decode: Callable[[list[int]], str]) -> Loop | None:
    """The loop for which a row is to be stopped: none while it may be the form of the page."""
    loop = find_loop(ids)
    if loop is None or loop.cycle + loop.surplus >= max(FORM_SPAN, FORM_COPIES * loop.cycle):
        return loop
    two, three = (decode(list(ids[-copies * loop.cycle :])) for copies in (2, 3))
    return None if is_form(two, three) else loop
