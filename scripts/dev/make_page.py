"""Draws the page on the README's first screen: a receipt as a phone sees it, and its truth.

python -m scripts.dev.make_page

The shop, the people and the goods are invented. The receipt is set in DejaVu Sans Mono, faded in streaks,
tilted, laid on a table, and saved as a JPEG of medium quality. It was drawn before the model read it.
"""

from __future__ import annotations

import io
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from nanoocr.commandline import parse, run
from nanoocr.errors import UsageError
from nanoocr.files import write_file
from scripts.dev.make_samples import matplotlib_fonts

ROOT = Path(__file__).resolve().parents[2]
SIZE, PITCH, COLUMNS = 19, 27, 36  # font and line height in pixels, characters per row
LEAN = 1.6  # degrees
ROWS = (
    ("", "BÄCKEREI & CAFÉ LINDNER"),
    ("", "Hauptstraße 14, 79100 Freiburg"),
    ("", "Tel. 0761 / 55 01 28"),
    None,
    ("Table 7", "12/11/2026 09:42"),
    ("Receipt No.", "A-004817"),
    None,
    ("2 x Croissant au beurre", "5.80"),
    ("1 x Crème brûlée", "4.90"),
    ("1 x Käsebrot (250 g)", "3.75"),
    ("3 x Espresso", "7.50"),
    ("1 x Señorita tea", "3.20"),
    None,
    ("Subtotal", "25.15"),
    ("VAT 7%", "1.65"),
    ("TOTAL EUR", "€25.15"),
    ("Cash", "30.00"),
    ("Change", "4.85"),
    None,
    ("", "Thank you – see you soon!"),
)


@dataclass(frozen=True)
class MakePageConfig:
    """Draws the README's receipt."""

    out: Path = ROOT / "assets" / "pages"  # folder that gets receipt.jpg and receipt.txt


def face() -> ImageFont.FreeTypeFont:
    """DejaVu Sans Mono, which matplotlib contains.

    Raises:
        UsageError: it is not there.
    """
    for font in matplotlib_fonts():
        if (font.family, font.style) == ("DejaVu Sans Mono", "Book"):
            return ImageFont.truetype(font.path, SIZE, layout_engine=ImageFont.Layout.BASIC)
    raise UsageError("DejaVu Sans Mono is missing: run `pip install matplotlib`")


def rows_of_text() -> list[str]:
    """The receipt's rows in reading order. Rules between its parts are not text."""
    return [" ".join(part for part in row if part) for row in ROWS if row is not None]


def receipt() -> Image.Image:
    """Draw the paper, level and clean: grey ink on white."""
    font = face()
    width = round(font.getlength("0") * COLUMNS)
    paper = Image.new("L", (width + 60, PITCH * (len(ROWS) + 2)), 246)
    pen = ImageDraw.Draw(paper)
    y = PITCH
    for row in ROWS:
        if row is None:
            pen.line([(30, y + PITCH // 2), (30 + width, y + PITCH // 2)], fill=90, width=1)
        elif not row[0]:
            pen.text(((paper.width - font.getlength(row[1])) / 2, y), row[1], 45, font)
        else:
            pen.text((30, y), row[0], 45, font)
            pen.text((30 + width - font.getlength(row[1]), y), row[1], 45, font)
        y += PITCH
    return paper


def photographed(paper: Image.Image) -> Image.Image:
    """Fade and tilt the paper, and put it on a table with a shadow and grain: RGB."""
    rng = np.random.default_rng(2026)
    ink = 255 - np.asarray(paper).astype(np.float32)
    streaks = 1 - 0.35 * (rng.standard_normal((1, paper.width)) > 1.3)
    faded = Image.fromarray((255 - ink * streaks).astype(np.uint8))
    table = Image.new("L", (paper.width + 90, paper.height + 80), 96)
    turned = faded.rotate(LEAN, Image.Resampling.BICUBIC, expand=True)
    mask = Image.new("L", paper.size, 255).rotate(LEAN, Image.Resampling.BICUBIC, expand=True)
    table.paste(turned, (30, 25), mask)
    soft = np.asarray(table.filter(ImageFilter.GaussianBlur(0.7))).astype(np.float32)
    shade = np.linspace(1.0, 0.8, table.width)[None] * np.linspace(1.0, 0.94, table.height)[:, None]
    grey = soft * shade + rng.normal(0, 5, soft.shape)
    warm = grey[..., None] * np.array([1.0, 0.985, 0.94])
    return Image.fromarray(np.clip(warm, 0, 255).astype(np.uint8))


def main(argv: list[str] | None = None) -> None:
    """Write the picture and its truth."""
    config = parse(MakePageConfig, argv)
    stored = io.BytesIO()
    photographed(receipt()).save(stored, "JPEG", quality=72)
    write_file(config.out / "receipt.jpg", stored.getvalue())
    write_file(config.out / "receipt.txt", ("\n".join(rows_of_text()) + "\n").encode())
    print(f"receipt.jpg and receipt.txt are in {config.out}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(run(main))
