"""Pages drawn for the tests of nanoocr.layout, with the place of each text known."""

from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont

SANS = Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"
PROSE = [
    "In",
    "this",
    "town",
    "nobody",
    "hurries",
    "before",
    "noon",
    "and",
    "the",
    "ferry",
    "waits",
    "for",
    "its",
    "last",
    "passenger",
    "even",
    "when",
    "the",
    "wind",
    "turns",
    "west",
    "although",
    "the",
    "captain",
    "always",
    "says",
    "that",
    "he",
    "will",
    "not",
    "do",
    "so",
    "again",
    "next",
    "year",
]


def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(SANS.with_stem("DejaVuSans-Bold") if bold else SANS), size)


def paper(width: int, height: int, colour="white") -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.new("RGB", (width, height), colour)
    return image, ImageDraw.Draw(image)


def cap_height(size: int) -> int:
    """Pixels from the baseline to the top of an H."""
    return -font(size).getbbox("H", anchor="ls")[1]


def write(draw: ImageDraw.ImageDraw, x: float, baseline: float, text: str, size=20, fill="black", bold=False):
    """Writes text on a baseline; returns the box of its ink (x0, y0, x1, y1)."""
    draw.text((x, baseline), text, font=font(size, bold), fill=fill, anchor="ls")
    alone = Image.new("L", draw.im.size)
    ImageDraw.Draw(alone).text((x, baseline), text, font=font(size, bold), fill=255, anchor="ls")
    return alone.point(lambda value: 255 * (value > 100)).getbbox()


def prose(draw, x: float, baseline: float, width: float, rows: int, size=16, pitch=24) -> list[tuple]:
    """Fills a column with running text; returns the boxes of its lines."""
    boxes, word = [], 0
    for row in range(rows):
        text = PROSE[word % len(PROSE)]
        word += 1
        while font(size).getlength(text + " " + PROSE[word % len(PROSE)]) < width:
            text += " " + PROSE[word % len(PROSE)]
            word += 1
        boxes.append(write(draw, x, baseline + row * pitch, text, size))
    return boxes


def hull(quad) -> tuple[float, float, float, float]:
    xs, ys = zip(*quad)
    return min(xs), min(ys), max(xs), max(ys)


def holds(box, quad) -> bool:
    """Whether a found line covers the most of a drawn box: nine tenths of its width, its middle height."""
    x0, y0, x1, y1 = hull(quad)
    common = min(box[2], x1) - max(box[0], x0)
    return common > 0.9 * (box[2] - box[0]) and y0 < (box[1] + box[3]) / 2 < y1


def found_order(layout, boxes) -> list[int]:
    """For each drawn box the number of the found line that holds it, -1 where none does."""
    return [next((k for k, line in enumerate(layout.lines) if holds(box, line.quad)), -1) for box in boxes]
