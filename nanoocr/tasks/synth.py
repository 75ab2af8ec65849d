"""The project's own pictures, drawn when they are asked for, so that there are as many as one likes.

Row i depends on kind, seed, i and the fonts of the machine alone. Validation draws from seed 1,000,000 on, so
train with smaller seeds.
"""

from __future__ import annotations

from collections.abc import Iterable

from nanoocr.data.rows import Row, row_from_synth
from nanoocr.data.synth import KINDS, find_fonts, make_sample
from nanoocr.data.synth.make import check_request
from nanoocr.data.task import Task
from nanoocr.errors import UsageError


class Synth(Task):
    """`count` rows of one kind, or of all kinds in turn."""

    def __init__(
        self,
        kind: str = "card",
        count: int = 1_000_000,
        seed: int = 0,
        min_lines: int = 1,
        max_lines: int = 3,
        held_out_fonts: bool = False,
        start: int = 0,
        stop: int | None = None,
        step: int = 1,
    ) -> None:
        """`min_lines` and `max_lines` matter for cards. `held_out_fonts` draws with the test's fonts."""
        super().__init__(start, stop, step)
        if count < 1:
            raise UsageError(f"count={count}: must be above 0")
        self.kinds = list(KINDS) if kind == "all" else [kind]
        self.fonts = find_fonts(held_out=held_out_fonts)
        self.count, self.seed, self.lines = count, seed, (min_lines, max_lines)
        for name in self.kinds:
            check_request(name, seed, self.fonts, min_lines, max_lines)

    def num_rows(self) -> int:
        """As many as were asked for."""
        return self.count

    def marks(self) -> Iterable[object]:
        """Everything that a row is drawn from."""
        fonts = [(font.family, font.style) for font in self.fonts]
        return [self.kinds, self.seed, self.lines, fonts]

    def read(self, index: int) -> Row:
        """Draw row `index` now. Several kinds alternate."""
        turn, place = divmod(index, len(self.kinds))
        kind, (low, high) = self.kinds[place], self.lines
        sample = make_sample(kind, self.seed, turn, fonts=self.fonts, min_lines=low, max_lines=high)
        return row_from_synth(sample, f"{kind}/{self.seed}/{turn}")
