"""The grounding control: ask the same question about another sample's picture, and about a blank one.

A model that recites its language prior answers all three alike, so its score(right) - score(wrong) is 0.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Literal, NamedTuple, get_args

from PIL import Image

from nanoocr.errors import PictureError, UsageError
from nanoocr.eval.samples import EvalSample
from nanoocr.pages import Picture

Condition = Literal["right", "wrong", "blank"]
CONDITIONS: tuple[Condition, ...] = get_args(Condition)


class Ask(NamedTuple):
    """One sample's question about a picture: its own, another's, or a white one of its own size."""

    sample: EvalSample
    condition: Condition
    shown: EvalSample  # the sample whose picture is shown

    def picture(self) -> Picture:
        """The picture to show, or why there is none."""
        try:
            image = self.shown.open()
        except PictureError as error:
            return Picture(self.sample.id, 1, error=error)
        if self.condition == "blank":
            image = Image.new("RGB", image.size, "white")
        return Picture(self.sample.id, 1, image)


def asks_of(samples: Sequence[EvalSample], conditions: Sequence[Condition]) -> list[Ask]:
    """Every sample under every condition, condition by condition.

    Raises:
        UsageError: there is only one sample, so no other picture to show.
    """
    shown: dict[Condition, Sequence[EvalSample]] = {"right": samples, "blank": samples}
    if "wrong" in conditions:
        if len(samples) < 2:
            raise UsageError(
                "the grounding control needs two samples or more: take more, or add --grounding=False"
            )
        keys, truths = [(s.kind, s.prompt) for s in samples], [s.truth for s in samples]
        shown["wrong"] = [samples[wrong_picture(keys, truths, i)] for i in range(len(samples))]
    return [
        Ask(sample, condition, other)
        for condition in conditions
        for sample, other in zip(samples, shown[condition])
    ]


def wrong_picture(keys: Sequence[Hashable], truths: Sequence[str], i: int) -> int:
    """The sample whose picture sample i gets in the control: the next with the same key and another truth.

    If there is none, it is the next with another truth; if all truths are equal, it is simply the next.
    """
    following = [*range(i + 1, len(keys)), *range(i)]
    others = (j for j in following if truths[j] != truths[i])
    alike = (j for j in following if truths[j] != truths[i] and keys[j] == keys[i])
    return next(alike, next(others, following[0]))
