"""When a reading is not to be trusted, whatever its text looks like: what was read is far from the training.

A model gives a text for everything. These are signs that it does not know, each found without the truth.
"""

from __future__ import annotations

from collections.abc import Sequence

from nanoocr.image_process import MODES, Mode, choose_view
from nanoocr.inference.assemble import PageReading

# A view that shrinks a picture more than this many times leaves letters of 24 pixels only 6 high.
FAR_SMALLER = 4.0
# With at least so many strips it counts that most are doubtful; on a page of few lines that is chance.
MANY_LEFT_OUT = 4

Size = tuple[int, int]  # (height, width)


def doubt_of_view(size: Size, views: Sequence[Size], mode: Mode | None, trained: Sequence[str]) -> str | None:
    """Why not to trust one look at a picture of `size`; None if nothing speaks against it.

    `trained` names the resolution modes of the training run, besides the model's own `views`.
    """
    if mode is not None:
        # The training has noted the names of its modes; here the mode comes as values.
        name = next((name for name, known in MODES.items() if known == mode), "")
        seen = name in trained or (not mode.tile and (mode.side, mode.side) in views)
        return None if seen else f"the model never saw --mode={name} in its training"
    height, width = choose_view(size, views)
    # The side that shrinks more decides, since letters squeezed in one direction are lost as well.
    shrunk = max(size[0] / height, size[1] / width)
    if shrunk > FAR_SMALLER:
        return f"the picture is {shrunk:.0f} times as large as the {height} x {width} pixels that are seen"
    return None


def doubt_of_lines(reading: PageReading) -> str | None:
    """Why not to trust what was read of a page in strips; None if nothing speaks against it.

    If no text is kept, nothing can be wrong; a picture without text ends like this.
    """
    total = reading.kept + reading.left_out
    # Of few strips most may be doubtful by chance.
    if reading.kept and total >= MANY_LEFT_OUT and reading.left_out > reading.kept:
        return f"the model is not sure of {reading.left_out} of {total} strips: it has seen no such page"
    return None
