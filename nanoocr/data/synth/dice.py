"""Random choices that cost a fraction of a microsecond each.

A synthetic page makes a few hundred small choices. One call into numpy's generator costs microseconds, so a
block of uniform numbers is drawn at once and spent one by one. All randomness of a page comes from here.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")

BLOCK = 256


class Dice:
    """Uniform choices from one seeded stream. The same seed words give the same choices, always."""

    def __init__(self, *seed_words: int) -> None:
        self._generator = np.random.default_rng(list(seed_words))
        self._block: list[float] = []

    @classmethod
    def for_sample(cls, kind: str, seed: int, index: int) -> Dice:
        """The dice of one picture: they depend on nothing but these three."""
        return cls(zlib.crc32(kind.encode()), seed, index)

    def unit(self) -> float:
        """A number in [0, 1)."""
        if not self._block:
            self._block = self._generator.random(BLOCK).tolist()
        return self._block.pop()

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return self.unit() < probability

    def between(self, low: float, high: float) -> float:
        """A number in [low, high)."""
        return low + (high - low) * self.unit()

    def whole(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return low + int((high - low + 1) * self.unit())

    def pick(self, items: Sequence[T]) -> T:
        """One item, all equally likely."""
        return items[int(len(items) * self.unit())]

    def sample(self, items: Sequence[T], count: int) -> list[T]:
        """`count` different items (by position) in random order."""
        left = list(items)
        return [left.pop(int(len(left) * self.unit())) for _ in range(count)]
