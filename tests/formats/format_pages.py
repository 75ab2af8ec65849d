"""Drawn pages whose words and places are known, for the tests of the formats."""

import io
import math

import pytest
from PIL import Image, ImageDraw, ImageFont

from nanoocr.document import Box, Line, TextPage, Word

TEXTS = (
    "The quick brown fox jumps over the lazy dog",
    "Total: 12.50 EUR on 3 May 1998 i.e. I am",
    "Ärger façade naïve Łódź ﬁnal oﬃce",
    "second block begins a b c here",
    "illicit filling millimetre WWW MMM",
    "end of text.",
)


def make_page(
    texts=TEXTS, *, size=40, degrees=0.0, width=1240, height=1240, dpi=150.0, touch=False, file="scan.png"
):
    """A page of text and its PNG; the text is turned clockwise by `degrees` around the page's middle."""
    picture = Image.new("L", (width, height), 255)
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(size)
    ascent, descent = font.getmetrics()
    tall, top, lines = ascent + descent, 250, []
    for index, text in enumerate(texts):
        left, words = 150.0, []
        for word in text.split():
            wide = font.getlength(word)
            pen.text((left, top), word, font=font, fill=0)
            quad = turned(Box(left, top, left + wide, top + tall), degrees, width, height)
            words.append(Word(word, quad, 0.9))
            left += wide + (1 if touch else font.getlength(" "))
        line_box = turned(Box(150, top, left, top + tall), degrees, width, height)
        lines.append(Line(text, line_box, 0.9, tuple(words), index // 3, None, 0.73 * size))
        top += round(1.6 * size)
    if degrees:
        picture = picture.rotate(-degrees, fillcolor=255)
    page = TextPage(file, 1, width, height, tuple(lines), dpi)
    return page, encode(picture, "PNG", dpi=(dpi, dpi))


def turned(box, degrees, width, height):
    """The corners of a box, turned clockwise around the middle of the page."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    moved = [(x - width / 2, y - height / 2) for x, y in box.quad()]
    return tuple((width / 2 + x * cosine - y * sine, height / 2 + x * sine + y * cosine) for x, y in moved)


def encode(picture, kind, **options):
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def plain_words(text):
    """The text's words with ligatures taken apart, as some PDF readers do."""
    return text.replace("ﬁ", "fi").replace("ﬃ", "ffi").replace("\ufffe", "-").split()


def iou(one, other):
    wide = min(one[2], other[2]) - max(one[0], other[0])
    tall = min(one[3], other[3]) - max(one[1], other[1])
    if wide <= 0 or tall <= 0:
        return 0.0
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return wide * tall / (areas - wide * tall)


def find_rule(gray, dpi):
    """Two points of the rule across the middle of the page, or None if it is not there."""
    points = []
    for x in (round(1.2 * dpi), round(3.8 * dpi)):
        dark = [y for y in range(round(3 * dpi), round(5 * dpi)) if gray.getpixel((x, y)) < 128]
        if not dark:
            return None
        points.append((x, sum(dark) / len(dark)))
    return tuple(points)


def original(rotate=0, crop=None, count=1):
    """A PDF of drawn rectangles whose content leaves a coordinate system behind, as real ones do."""
    pikepdf = pytest.importorskip("pikepdf")
    document = pikepdf.new()
    for _ in range(count):
        document.add_blank_page(page_size=(600, 400))
        page = document.pages[-1]
        page.contents_add(b"0.5 0 0 0.5 30 40 cm 10 10 200 100 re f")
        page.obj.Rotate = rotate
        if crop:
            page.obj.CropBox = pikepdf.Array(crop)
    document.docinfo["/Title"] = "kept"
    file = io.BytesIO()
    document.save(file)
    return file.getvalue()
