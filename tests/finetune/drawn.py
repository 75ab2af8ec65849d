"""Small documents that the tests draw themselves."""

from PIL import Image, ImageDraw, ImageFont

from nanoocr.data.synth import find_fonts

WORDS = ("garden", "window", "market", "bottle", "silver", "orange", "summer", "doctor", "castle", "pencil")
STEP, LEFT, SIZE = 46, 30, 26


def line_of(seed, number):
    """A line of five words and a price that no other line of the same seed has."""
    picked = [WORDS[(seed * 7 + number * 5 + k * (seed + 3)) % len(WORDS)] for k in range(4)]
    return " ".join([*picked, f"{seed * 13 + number * 37:03d}.{number}{seed % 10}"])


def draw(lines, width=640):
    """The lines as a page (RGB) and their boxes, (left, top, right, bottom)."""
    font = ImageFont.truetype(next(f.path for f in find_fonts() if f.family.startswith("DejaVu Sans")), SIZE)
    page = Image.new("RGB", (width, STEP * (len(lines) + 1)), "white")
    pen = ImageDraw.Draw(page)
    boxes = []
    for number, line in enumerate(lines):
        at = (LEFT, STEP * number + STEP // 2)
        pen.text(at, line, "black", font)
        boxes.append(pen.textbbox(at, line, font))
    return page, boxes


def document(seed, count=4):
    """The page, its lines and their boxes."""
    lines = [line_of(seed, number) for number in range(count)]
    page, boxes = draw(lines)
    return page, lines, boxes
