"""The own strips as an endless data set: each time a little otherwise, as another photograph shows them."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import replace

import cv2
import numpy as np
from PIL import Image, ImageFilter

from nanoocr.config import PROMPT
from nanoocr.data.rows import Row, Turn
from nanoocr.data.synth.degrade import add_noise, through_jpeg
from nanoocr.data.synth.dice import Dice
from nanoocr.data.synth.strip import inside
from nanoocr.data.task import Task
from nanoocr.finetune.types import LineStrip

ROWS = 1_000_000  # more than any run draws
UNCHANGED = 0.2  # share of the rows that show a strip as it was cut


class OwnStrips(Task):
    """Row i shows strip i mod n, varied by dice that depend on seed and i alone."""

    def __init__(self, strips: Sequence[LineStrip], seed: int = 0) -> None:
        super().__init__()
        self.strips, self.seed = strips, seed

    def num_rows(self) -> int:
        """A fixed large number, so that steps may be added to a run."""
        return ROWS

    def marks(self) -> Iterable[object]:
        """What all strips say, and the seed."""
        return [self.seed, [(strip.document, strip.truth) for strip in self.strips]]

    def read(self, index: int) -> Row:
        """The varied strip as a row."""
        strip = self.strips[index % len(self.strips)]
        dice = Dice.for_sample("own", self.seed, index)
        name = f"{strip.document}/{index}"
        if dice.chance(UNCHANGED):
            return row_of(strip, name)
        pixels, boxes = moved(dice, strip)
        return _row(strip, name, worn(dice, Image.fromarray(pixels)), boxes)


def row_of(strip: LineStrip, name: str) -> Row:
    """A strip as it was cut."""
    return _row(strip, name, Image.fromarray(strip.pixels), strip.boxes)


def _row(strip: LineStrip, name: str, image: Image.Image, boxes: np.ndarray) -> Row:
    return Row(name, (image,), (Turn(PROMPT, strip.truth),), "own", strip.chars, boxes)


class Asking(Task):
    """A task's rows with the question that the model to start from is asked."""

    def __init__(self, task: Task, prompt: str) -> None:
        super().__init__()
        self.task, self.prompt = task, prompt

    def num_rows(self) -> int:
        """As many as the task has."""
        return self.task.num_rows()

    def marks(self) -> Iterable[object]:
        """Those of the task; a run that was begun without another question goes on."""
        return self.task.marks() if self.prompt == PROMPT else [*self.task.marks(), self.prompt]

    def read(self, index: int) -> Row:
        """The task's row, with the question."""
        return asking(self.task.read(index), self.prompt)


def asking(row: Row, prompt: str) -> Row:
    """The row of one turn with another question."""
    return replace(row, turns=(Turn(prompt, row.answer),))


def moved(dice: Dice, strip: LineStrip) -> tuple[np.ndarray, np.ndarray]:
    """The strip shifted, scaled and sheared by what a finder of lines gets wrong; boxes move along."""
    height, width = strip.pixels.shape[:2]
    # Reading looks at doubtful strips once more, with letters that are 15 % wider.
    scale, wider = 1 + dice.between(-0.08, 0.08), 1 + dice.between(-0.05, 0.15)
    lean, slant = dice.between(-0.06, 0.06), dice.between(-0.006, 0.006)
    left, right = strip.used
    # The ink must stay inside, so that the truth is what is visible.
    scale_x = min(scale * wider, (width - 8) / max(right - left, 1))
    middle = (left + right) / 2
    matrix = np.array([[scale_x, -lean, 0.0], [slant, scale, 0.0]])
    place = np.array([middle + dice.between(-4, 4), 48 + dice.between(-2.5, 2.5)])
    half = scale_x * (right - left) / 2
    place[0] = np.clip(place[0], min(half + 4, width / 2), max(width - half - 4, width / 2))
    matrix[:, 2] = place - matrix[:, :2] @ np.array([middle, 48.0])
    flags = cv2.INTER_CUBIC if dice.chance(0.7) else cv2.INTER_LINEAR
    pixels = cv2.warpAffine(
        strip.pixels, matrix, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE
    )
    if not len(strip.boxes):
        return pixels, strip.boxes
    corners = strip.boxes.reshape(-1, 2, 2) @ matrix[:, :2].T + matrix[:, 2]
    return pixels, inside(corners.reshape(-1, 4).astype(np.float32), width)


def worn(dice: Dice, image: Image.Image) -> Image.Image:
    """Other light, another focus, another file."""
    if dice.chance(0.5):
        contrast, shift = dice.between(0.75, 1.2), dice.between(-30, 30)
        curve = np.clip((np.arange(256) - 128) * contrast + 128 + shift, 0, 255).astype(int).tolist()
        image = image.point(curve * 3)
    if dice.chance(0.25):
        image = image.filter(ImageFilter.GaussianBlur(dice.between(0.3, 1.3)))
    if dice.chance(0.2):
        size = image.size
        share = dice.between(0.4, 0.9)
        small = image.resize((max(8, round(size[0] * share)), max(8, round(size[1] * share))))
        image = small.resize(size, Image.Resampling.BICUBIC)
    if dice.chance(0.3):
        image = add_noise(image, dice, dice.between(2, 14))
    if dice.chance(0.2):
        image = through_jpeg(image, dice.whole(30, 90))
    return image


def as_png(pixels: np.ndarray) -> bytes:
    """Pixels (H, W, 3) uint8 as an encoded picture."""
    stored = io.BytesIO()
    Image.fromarray(pixels).save(stored, "PNG")
    return stored.getvalue()
