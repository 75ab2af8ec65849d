"""Draws pictures for measuring, never for training: pictures without text, and rotated pages.

Both come from seeds: a number always gives the same picture (for rotated pages, with the same fonts). Except
for fonts and words, nothing is drawn as in training, so a model cannot recognise these pictures by how they
were made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from nanoocr.config import PROMPT
from nanoocr.data.synth import find_fonts, text
from nanoocr.data.synth.dice import Dice
from nanoocr.eval.samples import EvalSample

EMPTY_COUNT = 300
EMPTY_SEED = 20_261_128
TURNED_COUNT = 12
TURNED_SEED = 1_000_128
UPRIGHT = "turned_0"  # the set with which the other rotated sets are compared
TURNS = {  # maps each set to degrees clockwise
    UPRIGHT: 0.0,
    "turned_90": 90.0,
    "turned_180": 180.0,
    "turned_270": 270.0,
    "tilted_2": 2.0,
    "tilted_5": -5.0,
    "tilted_10": 10.0,
}

Size = tuple[int, int]  # (height, width)
Draw = Callable[[np.random.Generator, Size], Image.Image]


# ---------------------------------------------------------------------------------------------------
# Pictures without text


def _as_picture(values_HW: np.ndarray) -> Image.Image:
    return Image.fromarray(np.clip(values_HW, 0, 255).astype(np.uint8)).convert("RGB")


def _smooth(rng: np.random.Generator, size: Size, cells: int) -> np.ndarray:
    """A field in 0..1 that changes over 1 / `cells` of the picture."""
    coarse = rng.random((cells + 1, cells + 1)).astype(np.float32)
    return np.asarray(Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BICUBIC)).clip(0, 1)


def _colour(rng: np.random.Generator, low: int = 0, high: int = 256) -> tuple[int, int, int]:
    red, green, blue = (int(v) for v in rng.integers(low, high, 3))
    return red, green, blue


def _paper(rng: np.random.Generator, size: Size) -> Image.Image:
    return Image.new("RGB", size[::-1], _colour(rng, 200))


def blank(rng: np.random.Generator, size: Size) -> Image.Image:
    """One colour."""
    return Image.new("RGB", size[::-1], _colour(rng) if rng.random() < 0.5 else "white")


def noise(rng: np.random.Generator, size: Size) -> Image.Image:
    """Grain, or pepper on white."""
    if rng.random() < 0.5:
        return _as_picture(rng.normal(rng.uniform(60, 220), rng.uniform(4, 60), size))
    return _as_picture(np.where(rng.random(size) < rng.uniform(0.0005, 0.02), 0, 255))


def gradient(rng: np.random.Generator, size: Size) -> Image.Image:
    """A shade that runs across, as on a page by a window."""
    y, x = np.mgrid[0 : 1 : size[0] * 1j, 0 : 1 : size[1] * 1j]
    angle = rng.uniform(0, 2 * np.pi)
    along = np.cos(angle) * x + np.sin(angle) * y
    low, high = np.sort(rng.uniform(0, 255, 2))
    return _as_picture(low + (high - low) * (along - along.min()) / (np.ptp(along) + 1e-9))


def texture(rng: np.random.Generator, size: Size) -> Image.Image:
    """Weave: two waves across each other, with a little grain."""
    y, x = np.mgrid[0 : size[0], 0 : size[1]]
    first, second = rng.uniform(0.1, 1.2, 2)
    waves = np.sin(first * x + rng.uniform(-0.3, 0.3) * y) * np.sin(second * y)
    return _as_picture(170 + rng.uniform(15, 70) * waves + rng.normal(0, 6, size))


def rules(rng: np.random.Generator, size: Size) -> Image.Image:
    """Ruled paper: lines across, whole, dashed or dotted, sometimes with a margin line."""
    image = _paper(rng, size)
    draw = ImageDraw.Draw(image)
    ink, width = _colour(rng, 0, 140), int(rng.integers(1, 5))
    style, step = int(rng.integers(3)), int(rng.integers(18, 70))
    for y in range(step, size[0] - step // 2, step):
        if style == 0:
            draw.line((20, y, size[1] - 20, y), ink, width)
        for x in range(20, size[1] - 20, 24 if style == 1 else 9) if style else ():
            draw.line((x, y, x + (14 if style == 1 else 1), y), ink, width)
    if rng.random() < 0.5:
        x = int(rng.integers(30, 90))
        draw.line((x, 0, x, size[0]), ink, width)
    return image


def boxes(rng: np.random.Generator, size: Size) -> Image.Image:
    """An empty form: a grid of cells, and some boxes to tick."""
    image = _paper(rng, size)
    draw = ImageDraw.Draw(image)
    ink, width = _colour(rng, 0, 120), int(rng.integers(1, 4))
    rows, columns = (int(n) for n in rng.integers(2, 12, 2))
    height, across = (size[0] - 80) // rows, (size[1] - 80) // columns
    for row in range(rows):
        for column in range(columns):
            x, y = 40 + column * across, 40 + row * height
            draw.rectangle((x, y, x + across, y + height), outline=ink, width=width)
            if rng.random() < 0.15:
                draw.rectangle((x + 8, y + 8, x + 22, y + 22), outline=ink, width=width)
    return image


def clouds(rng: np.random.Generator, size: Size) -> Image.Image:
    """Soft colours at several scales, as a photo out of focus."""
    channels = []
    for _ in range(3):
        field = sum(_smooth(rng, size, cells) / cells for cells in (2, 5, 11, 23))
        channels.append(255 * field / np.max(field))
    grain = rng.normal(0, rng.uniform(0, 6), (*size, 3))
    return Image.fromarray(np.clip(np.stack(channels, -1) + grain, 0, 255).astype(np.uint8))


def halftone(rng: np.random.Generator, size: Size) -> Image.Image:
    """A shade as printers make it: dots in rows, larger where it is darker."""
    y, x = np.mgrid[0 : size[0], 0 : size[1]]
    pitch, angle = rng.uniform(4, 14), rng.uniform(0, np.pi / 2)
    u, v = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    screen = np.cos(2 * np.pi * u / pitch) + np.cos(2 * np.pi * v / pitch)
    return _as_picture(np.where(screen > 4 * _smooth(rng, size, 3) - 2, 0, 255))


def shapes(rng: np.random.Generator, size: Size) -> Image.Image:
    """Large discs, rectangles, triangles and curves, as in a drawing or a logo without letters."""
    image = _paper(rng, size)
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(2, 9))):
        x, y = int(rng.integers(0, size[1] - 80)), int(rng.integers(0, size[0] - 80))
        w, h = (int(n) for n in rng.integers(60, 300, 2))
        ink, kind = _colour(rng), int(rng.integers(4))
        if kind == 0:
            draw.ellipse((x, y, x + w, y + h), fill=ink)
        elif kind == 1:
            draw.rectangle((x, y, x + w, y + h), fill=ink)
        elif kind == 2:
            draw.polygon([(x, y + h), (x + w // 2, y), (x + w, y + h)], fill=ink)
        else:
            draw.arc((x, y, x + w, y + h), float(rng.uniform(0, 180)), float(rng.uniform(180, 360)), ink, 4)
    return image


def back_side(rng: np.random.Generator, size: Size) -> Image.Image:
    """The empty back of a scanned page: grain, a dark edge, specks, two punched holes."""
    image = _as_picture(rng.normal(240, 3, size))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, int(rng.integers(2, 16)), size[0]), fill=_colour(rng, 0, 90))
    for _ in range(int(rng.integers(0, 60))):
        x, y, r = int(rng.integers(size[1])), int(rng.integers(size[0])), int(rng.integers(0, 3))
        draw.ellipse((x, y, x + r, y + r), fill=_colour(rng, 0, 120))
    for y in (size[0] // 3, 2 * size[0] // 3):
        draw.ellipse((30, y, 54, y + 24), fill=_colour(rng, 20, 110))
    return image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0, 1))))


EMPTY_KINDS: dict[str, Draw] = {
    "blank": blank,
    "noise": noise,
    "gradient": gradient,
    "texture": texture,
    "rules": rules,
    "boxes": boxes,
    "clouds": clouds,
    "halftone": halftone,
    "shapes": shapes,
    "back_side": back_side,
}


def empty_picture(number: int) -> tuple[str, Image.Image]:
    """Picture `number` without text, and its kind; sides of 300 to 1000 pixels."""
    rng = np.random.default_rng([EMPTY_SEED, number])
    kind = list(EMPTY_KINDS)[number % len(EMPTY_KINDS)]
    size = (int(rng.integers(300, 1000)), int(rng.integers(300, 1000)))
    return kind, EMPTY_KINDS[kind](rng, size)


def empty_samples(count: int = EMPTY_COUNT) -> Iterator[EvalSample]:
    """Yield the pictures without text. `groups` holds the kind; engines are told that each is a document."""
    for number in range(count):
        kind, image = empty_picture(number)
        yield EvalSample(f"{number:03d}-{kind}", image, PROMPT, "", "document", (kind,))


# ---------------------------------------------------------------------------------------------------
# Turned pages

PAGE_SIZE = (1000, 760)
MARGIN = 70
FAMILIES = ("DejaVu Sans", "Liberation Serif", "DejaVu Serif", "Liberation Sans")


def upright_page(number: int) -> tuple[Image.Image, str]:
    """Page `number`, level, and its text: sentences with a token that nobody can guess every few words."""
    dice = Dice.for_sample("turned page", TURNED_SEED, number)
    fonts = find_fonts()
    known = [font for font in fonts if font.family in FAMILIES] or list(fonts)
    face = ImageFont.truetype(str(known[number % len(known)].path), 20 + number % 4)
    lines = _wrapped(dice, face, PAGE_SIZE[1] - 2 * MARGIN, rows=22 + number % 5)
    image = Image.new("RGB", PAGE_SIZE[::-1], "white")
    draw = ImageDraw.Draw(image)
    for row, line in enumerate(lines):
        draw.text((MARGIN, MARGIN + row * 32), line, "black", face)
    return image, "\n".join(lines)


def _wrapped(dice: Dice, face: ImageFont.FreeTypeFont, width: float, rows: int) -> list[str]:
    """`rows` lines of sentences and loose tokens; a piece wider than a line is left out."""
    lines = [""]
    while True:
        for word in f"{text.sentence(dice)} {text.random_token(dice)}".split():
            longer = f"{lines[-1]} {word}".strip()
            if face.getlength(longer) <= width:
                lines[-1] = longer
            elif len(lines) == rows:
                return lines
            elif face.getlength(word) <= width:
                lines.append(word)


def turned_samples(degrees: float, count: int = TURNED_COUNT) -> Iterator[EvalSample]:
    """Yield the pages, each rotated clockwise by `degrees` on paper that grows with it."""
    for number in range(count):
        image, truth = upright_page(number)
        turned = image.rotate(-degrees, Image.Resampling.BICUBIC, expand=True, fillcolor="white")
        yield EvalSample(f"{number:02d}", turned, PROMPT, truth, "document")
