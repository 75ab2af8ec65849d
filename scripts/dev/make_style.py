"""Draws documents in a style that no training picture has, to try fine-tuning on them.

python -m scripts.dev.make_style --count=20 --seed=1 --out=tune

They are delivery notes of an invented trade, set in a chancery hand, in violet ink on green ledger paper with
rules, and photographed slightly askew. Each picture's text lies beside it. Other seeds give other documents
of the same style.
"""

from __future__ import annotations

import io
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from nanoocr.commandline import parse, run
from nanoocr.data.synth import text, words
from nanoocr.data.synth.dice import Dice
from nanoocr.data.synth.fonts import SYSTEM_FOLDER
from nanoocr.errors import UsageError
from nanoocr.files import write_file
from scripts.common import refuse_below

SIZE, PITCH = 30, 44  # font and line height, pixels
PAPER, RULE, INK = (216, 230, 208), (170, 196, 176), (74, 44, 110)
WIDTH = 760


@dataclass(frozen=True)
class MakeStyleConfig:
    """Draws documents of a style of their own, with their texts."""

    out: str  # folder that gets NNN.jpg and NNN.txt
    count: int = 20  # documents
    seed: int = 1  # other seeds give other documents of the same style
    font: str = ""  # a .ttf or .otf file; empty means Z003, which training data never use
    rows: int = 10  # items in a document

    def __post_init__(self) -> None:
        """Refuse to draw nothing."""
        refuse_below(self, count=1, rows=1)


def find_font(name: str) -> str:
    """The file that --font names, or Z003 of the system.

    Raises:
        UsageError: neither is there.
    """
    if name:
        if not Path(name).is_file():
            raise UsageError(f"--font={name}: no such file")
        return name
    found = sorted(Path(SYSTEM_FOLDER).rglob("Z003*.[ot]tf"))
    if not found:
        raise UsageError("Z003 is not installed: run `apt-get install fonts-urw-base35`, or name a --font")
    return str(found[0])


def rows_of(dice: Dice, items: int) -> list[tuple[str, str]]:
    """The left and the right part of every row."""
    rows = [(f"Delivery note {text.code(dice)}", text.date(dice))]
    rows.append((f"To {dice.pick(words.LAST_NAMES)} & {dice.pick(words.LAST_NAMES)}", ""))
    total = 0
    for _ in range(items):
        cents = dice.whole(50, 99999)
        total += cents
        good = dice.pick(words.GOODS) if dice.chance(0.6) else text.random_word(dice)
        rows.append(
            (f"{dice.whole(1, 40)} {dice.pick(words.GOOD_KINDS)} {good}", f"{cents // 100}.{cents % 100:02d}")
        )
    rows.append(("Carried forward", f"{total // 100}.{total % 100:02d}"))
    rows.append((f"Received by {dice.pick(words.LAST_NAMES)}, {text.clock_time(dice)}", ""))
    return rows


def document(dice: Dice, font: ImageFont.FreeTypeFont, items: int) -> tuple[Image.Image, str]:
    """The picture of one delivery note and its text."""
    rows = rows_of(dice, items)
    page = Image.new("RGB", (WIDTH, PITCH * (len(rows) + 2)), PAPER)
    pen = ImageDraw.Draw(page)
    for number, (left, right) in enumerate(rows, start=1):
        y = PITCH * number
        pen.line([(0, y + 38), (WIDTH, y + 38)], fill=RULE, width=1)
        pen.text((40, y), left, INK, font)
        pen.text((WIDTH - 40 - font.getlength(right), y), right, INK, font)
    return photographed(dice, page), "\n".join(" ".join(filter(None, row)) for row in rows) + "\n"


def photographed(dice: Dice, page: Image.Image) -> Image.Image:
    """Turn the page slightly, and make it soft, noisy and lit from one side."""
    turned = page.rotate(dice.between(-1.0, 1.0), Image.Resampling.BICUBIC, fillcolor=PAPER)
    soft = np.asarray(turned.filter(ImageFilter.GaussianBlur(dice.between(0.6, 1.2)))).astype(np.float32)
    light = np.linspace(dice.between(0.8, 1.0), dice.between(0.8, 1.0), page.width)[None, :, None]
    noise = np.random.default_rng(dice.whole(0, 10**6)).normal(0, 6, (*soft.shape[:2], 1))
    return Image.fromarray(np.clip(soft * light + noise, 0, 255).astype(np.uint8))


def main(argv: list[str] | None = None) -> None:
    """Write the pictures and their texts."""
    config = parse(MakeStyleConfig, argv)
    path = find_font(config.font)
    try:
        font = ImageFont.truetype(path, SIZE, layout_engine=ImageFont.Layout.BASIC)
    except OSError as error:
        raise UsageError(f"--font={path}: not a font ({error})") from error
    for number in range(config.count):
        picture, truth = document(Dice.for_sample("style", config.seed, number), font, config.rows)
        stored = io.BytesIO()
        picture.save(stored, "JPEG", quality=80)
        write_file(Path(config.out) / f"{number:03d}.jpg", stored.getvalue())
        write_file(Path(config.out) / f"{number:03d}.txt", truth.encode())
    print(f"{config.count} documents are in {config.out}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(run(main))
