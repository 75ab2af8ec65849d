#!/bin/sh
# pdfium finds no text at all where hidden text runs straight up or down and its font has empty glyphs.
#
# Text layers of scans are commonly written with such fonts. At 0, 45 and 180 degrees pdfium reads them; at
# 90 degrees it leaves out every letter, while MuPDF reads all four. One line without area in each glyph is
# enough to bring the text back. Ends with 0 as long as this is so, else with 1.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet pypdfium2==5.15.2 fpdf2==2.8.9 fonttools==4.68.0 PyMuPDF==2.0
cat > show.py <<'PYTHON'
import importlib.metadata
import sys

import pymupdf
import pypdfium2
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from fpdf import FPDF
from fpdf.enums import TextMode

LETTERS = {code: f"g{code}" for code in range(32, 127)}


def write_font(path, with_line):
    """A font for ASCII whose glyphs draw nothing: without an outline, or with one that has no area."""
    builder = FontBuilder(1000, isTTF=True)
    names = [".notdef", *LETTERS.values()]
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap(LETTERS)
    glyphs = {}
    for name in names:
        pen = TTGlyphPen(None)
        if with_line:
            pen.moveTo((0, -200))
            pen.lineTo((500, 800))
            pen.closePath()
        glyphs[name] = pen.glyph()
    builder.setupGlyf(glyphs)
    builder.setupHorizontalMetrics({name: (500, 0) for name in names})
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Empty", "styleName": "Regular", "psName": "Empty"})
    builder.setupOS2(sTypoAscender=800, usWinAscent=800, usWinDescent=200)
    builder.setupPost()
    builder.save(path)


def read(font, angle):
    """What pdfium and MuPDF find in a page with two hidden words at this angle."""
    document = FPDF(unit="pt", format=(400, 400))
    document.add_page()
    document.add_font("empty", fname=font)
    document.set_font("empty", size=12)
    document.text_mode = TextMode.INVISIBLE
    with document.rotation(angle, 200, 200):
        document.text(200, 200, "hidden words")
    content = bytes(document.output())
    by_pdfium = pypdfium2.PdfDocument(content)[0].get_textpage().get_text_range()
    return by_pdfium, pymupdf.open(stream=content)[0].get_text().strip()


print("pypdfium2", importlib.metadata.version("pypdfium2"), "pdfium", pypdfium2.version.PDFIUM_INFO)
as_known = True
for with_line in (False, True):
    write_font("empty.ttf", with_line)
    for angle in (0, 45, 90, 180):
        by_pdfium, by_mupdf = read("empty.ttf", angle)
        kind = "a line in each glyph" if with_line else "empty glyphs"
        print(f"{kind}, {angle:3} degrees: pdfium {by_pdfium!r}, MuPDF {by_mupdf!r}")
        expected = "" if angle == 90 and not with_line else "hidden words"
        as_known &= (by_pdfium, by_mupdf) == (expected, "hidden words")
print("as known" if as_known else "this has changed")
sys.exit(not as_known)
PYTHON
venv/bin/python -W ignore show.py
