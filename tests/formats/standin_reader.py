"""A plugin for OCRmyPDF that puts a reader without a model under our engine, so its tests need no model.

It knows the words of one page by their places in inches (a JSON file named in NANOOCR_TEST_WORDS). From a
black square at the page's top left corner it sees how the picture is turned, and from a rule how it leans.
"""

import json
import os
from pathlib import Path

from format_pages import find_rule
from PIL import Image

from nanoocr.cli import ocrmypdf_plugin
from nanoocr.document import Box, Line, TextPage, Word, hull

CORNERS = ((0, 0), (1, 0), (1, 1), (0, 1))  # clockwise from the top left, as shares of width and height


def read(picture):
    with Image.open(picture) as image:
        gray, dpi = image.convert("L"), image.info.get("dpi", (72, 72))[0]
    turns = find_turns(gray)
    if turns is None:
        return TextPage(str(picture), 1, gray.width, gray.height)  # a page without the mark is blank
    known = json.loads(Path(os.environ["NANOOCR_TEST_WORDS"]).read_text())
    if known.get("fail"):
        raise RuntimeError("the stand-in was told to fail")
    lines = []
    for block, row in enumerate(known["lines"]):
        words = [Word(text, Box(*(side * dpi for side in box)).quad(), 0.9) for text, box in row]
        box = hull(point for word in words for point in word.quad)
        text, baseline = " ".join(word.text for word in words), find_rule(gray, dpi)
        lines.append(Line(text, box.quad(), 0.9, tuple(words), block, baseline))
    return TextPage(str(picture), 1, gray.width, gray.height, tuple(lines), dpi, turns)


def find_turns(gray):
    """The quarter turns clockwise that bring the dark corner to the top left; None if all are white."""
    margin = max(1, min(gray.size) // 12)  # so deep that a lean does not carry the square away
    for index, (x, y) in enumerate(CORNERS):
        place = (round(x * (gray.width - 1)), round(y * (gray.height - 1)))
        inside = (abs(place[0] - margin), abs(place[1] - margin))
        if gray.getpixel(inside) < 128:
            return -index % 4
    return None


ocrmypdf_plugin.read_for_ocrmypdf = ocrmypdf_plugin.find_lines_for_ocrmypdf = read
