"""What other people's PDF readers say where the words of a page stand."""

import importlib.util
import io
import shutil
import subprocess
from typing import NamedTuple

import pypdfium2
import pytest
from lxml import etree


class Found(NamedTuple):
    """A word that a reader found, its box in pixels of the page as it is shown."""

    text: str
    box: tuple


def find_with_pdfium(content, scale):
    """The words of every page; pdfium knows letters alone, and blanks part them."""
    return [_words_of_letters(_pdfium_letters(page), scale) for page in pypdfium2.PdfDocument(content)]


def _pdfium_letters(page):
    text, turns = page.get_textpage(), page.get_rotation() // 90
    # Boxes lie on the page as it is before /Rotate.
    wide, tall = page.get_width(), page.get_height()
    size = (tall, wide) if turns % 2 else (wide, tall)
    for index in range(text.count_chars()):
        letter = text.get_text_range(index, 1)
        if not letter.strip():
            yield letter, None
            continue
        left, low, right, high = text.get_charbox(index)
        yield letter, _shown((left, size[1] - high, right, size[1] - low), size, turns)


def find_with_pdfminer(content, scale):
    """The words of every page, put together from pdfminer's letters; it turns pages itself."""
    high_level = pytest.importorskip("pdfminer.high_level")
    layout = pytest.importorskip("pdfminer.layout")

    def letters(element, top):
        if isinstance(element, layout.LTChar):
            left, low, right, high = element.bbox
            yield (
                element.get_text(),
                (left, top - high, right, top - low) if element.get_text().strip() else None,
            )
        elif isinstance(element, layout.LTAnno):
            yield " ", None
        elif isinstance(element, layout.LTContainer):
            for child in element:
                yield from letters(child, top)
            yield " ", None

    pages = high_level.extract_pages(io.BytesIO(content))
    return [_words_of_letters(letters(page, page.height), scale) for page in pages]


def find_with_pdftotext(content, scale):
    """The words of every page in poppler's own list of boxes."""
    if shutil.which("pdftotext") is None:
        pytest.skip("pdftotext is not installed")
    done = subprocess.run(["pdftotext", "-bbox", "-", "-"], input=content, capture_output=True, check=True)
    pages = etree.fromstring(done.stdout, etree.XMLParser(recover=True)).iter("{*}page")
    sides = ("xMin", "yMin", "xMax", "yMax")
    return [
        [
            Found(word.text, tuple(float(word.get(side)) * scale for side in sides))
            for word in page.iter("{*}word")
        ]
        for page in pages
    ]


def find_with_mupdf(content, scale):
    """The words of every page as MuPDF parts them."""
    mupdf = pytest.importorskip("pymupdf")
    found = []
    for page in mupdf.open(stream=content):
        rows = [(word[4], mupdf.Rect(word[:4]) * page.rotation_matrix) for word in page.get_text("words")]
        found.append([Found(text, tuple(side * scale for side in box)) for text, box in rows])
    return found


READERS = {
    "pypdfium2": find_with_pdfium,
    "pdfminer": find_with_pdfminer,
    "pdftotext": find_with_pdftotext,
    "mupdf": find_with_mupdf,
}


def installed_readers():
    """The functions of READERS whose programs and libraries are there; pdfium always is."""
    needs = {"pdfminer": "pdfminer", "mupdf": "pymupdf"}
    there = {name for name, module in needs.items() if importlib.util.find_spec(module)} | {"pypdfium2"}
    if shutil.which("pdftotext"):
        there.add("pdftotext")
    return [read for name, read in READERS.items() if name in there]


def _shown(box, size, turns):
    """A box on a page of this (width, height), y downwards, as it lies when the page is turned clockwise."""
    (left, top, right, bottom), (wide, tall) = box, size
    for _ in range(turns):
        left, top, right, bottom = tall - bottom, left, tall - top, right
        wide, tall = tall, wide
    return left, top, right, bottom


def _words_of_letters(letters, scale):
    """Words from (letter, box) pairs; a letter without a box ends a word."""
    words, new = [], True
    for letter, box in letters:
        if box is None:
            new = True
            continue
        box = tuple(side * scale for side in box)
        if new:
            words.append(Found(letter, box))
        else:
            old = words[-1].box
            whole = (min(old[0], box[0]), min(old[1], box[1]), max(old[2], box[2]), max(old[3], box[3]))
            words[-1] = Found(words[-1].text + letter, whole)
        new = False
    return words
