"""The generator's front: one call makes one sample, and the same arguments always make the same pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nanoocr.data.synth.card import MAX_LINES, make_card
from nanoocr.data.synth.card_line import make_card_line
from nanoocr.data.synth.chart import make_chart, make_chart_question
from nanoocr.data.synth.dice import Dice
from nanoocr.data.synth.fonts import Font
from nanoocr.data.synth.form import make_form, make_form_question
from nanoocr.data.synth.paragraph import make_paragraph
from nanoocr.data.synth.receipt import make_receipt
from nanoocr.data.synth.sample import SynthSample
from nanoocr.data.synth.scene import make_scene
from nanoocr.data.synth.strip import make_strip
from nanoocr.data.synth.table import make_table
from nanoocr.errors import UsageError

# Held-out pictures use seeds from here on; training seeds lie below.
VALIDATION_SEED = 1_000_000

KINDS: dict[str, Callable[..., SynthSample]] = {
    "card": make_card,
    "receipt": make_receipt,
    "paragraph": make_paragraph,
    "form": make_form,
    "table": make_table,
    "chart": make_chart,
    "scene": make_scene,
}
# These kinds only ask questions, while `chart` and `form` mostly read. Held-out tables and "all" use KINDS.
QUESTION_KINDS: dict[str, Callable[..., SynthSample]] = {
    "chart_question": make_chart_question,
    "form_question": make_form_question,
}
# One line of a page or of a card, 64 pixels high, as the packaged model sees it.
LINE_KINDS: dict[str, Callable[..., SynthSample]] = {"strip": make_strip, "card_line": make_card_line}
ALL_KINDS = {**KINDS, **QUESTION_KINDS, **LINE_KINDS}


def make_sample(
    kind: str, seed: int, index: int, *, fonts: Sequence[Font], max_lines: int = 3, min_lines: int = 1
) -> SynthSample:
    """Sample `index` of the endless series (kind, seed).

    The pixels depend on the arguments alone, `fonts` included: other fonts, other pictures. `min_lines` and
    `max_lines` (1 to 4) matter for cards only.

    Raises UsageError for an unknown kind, a negative seed or index, no fonts, or impossible lines.
    """
    check_request(kind, seed, fonts, min_lines, max_lines)
    if index < 0:
        raise UsageError(f"index is {index}; samples count from 0.")
    dice = Dice.for_sample(kind, seed, index)
    if kind == "card":
        return make_card(dice, fonts, min_lines, max_lines)
    return ALL_KINDS[kind](dice, fonts)


def check_request(kind: str, seed: int, fonts: Sequence[Font], min_lines: int, max_lines: int) -> None:
    """Raises UsageError, naming the value and the mend, for a request that no sample can meet."""
    if kind not in ALL_KINDS:
        raise UsageError(f"Unknown kind {kind!r}: choose one of {', '.join(ALL_KINDS)}.")
    if seed < 0:
        raise UsageError(f"seed is {seed}; use 0 or more.")
    if not fonts:
        raise UsageError("The list of fonts is empty; pass find_fonts().")
    if not 1 <= min_lines <= max_lines <= MAX_LINES:
        raise UsageError(
            f"min_lines={min_lines} and max_lines={max_lines} do not fit: "
            f"1 <= min_lines <= max_lines <= {MAX_LINES}."
        )
