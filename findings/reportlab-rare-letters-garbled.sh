#!/bin/sh
# ReportLab and PyMuPDF write PDFs whose letters beyond U+FFFF are drawn right and read wrong.
#
# The text of a glyph is in the font's /ToUnicode map, in UTF-16 (ISO 32000-1, 9.10.3), so that U+1D465, the italic
# x of formulas, takes a pair of surrogates. Both libraries write the bare number 1D465 there, and every reader takes
# its first four digits: x becomes U+1D46, and the kanji U+20BB7 of the name Yoshida becomes U+20BB. fpdf2 writes
# the pair. It hurts whoever writes a text layer over a scan, or makes pages whose text is read back as ground
# truth: the picture and the text differ, with nothing to see in a viewer. To avoid it: write such layers with fpdf2,
# or read each file back and compare. Ends with 0 as long as this is so, else with 1.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet reportlab==5.1.0 PyMuPDF==2.0 fpdf2==2.8.9 fonttools==4.68.0 pypdfium2==5.15.2
cat > show.py <<'PYTHON'
import importlib.metadata
import sys

import pymupdf
import pypdfium2
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from fpdf import FPDF
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas

TEXT = "f\u03b1 = \U0001d465, \U00020bb7"
GARBLED = "f\u03b1 = \u1d46, \u20bb"


names = {code: f"g{code}" for code in sorted({32, *map(ord, TEXT)})}
order = [".notdef", *names.values()]
pen = TTGlyphPen(None)  # every glyph is a box
pen.moveTo((0, 0))
for point in ((0, 700), (400, 700), (400, 0)):
    pen.lineTo(point)
pen.closePath()
builder = FontBuilder(1000, isTTF=True)
builder.setupGlyphOrder(order)
builder.setupCharacterMap(names)
builder.setupGlyf(dict.fromkeys(order, pen.glyph()))
builder.setupHorizontalMetrics(dict.fromkeys(order, (500, 0)))
builder.setupHorizontalHeader(ascent=800, descent=-200)
builder.setupNameTable({"familyName": "Boxes", "styleName": "Regular", "psName": "Boxes"})
builder.setupOS2(sTypoAscender=800, usWinAscent=800, usWinDescent=200)
builder.setupPost()
builder.save("boxes.ttf")

canvas = Canvas("unused.pdf")
pdfmetrics.registerFont(TTFont("Boxes", "boxes.ttf"))
canvas.setFont("Boxes", 12)
canvas.drawString(100, 500, TEXT)
by_mupdf = pymupdf.open()
by_mupdf.new_page().insert_text((100, 100), TEXT, fontname="Boxes", fontfile="boxes.ttf")
by_fpdf = FPDF()
by_fpdf.add_page()
by_fpdf.add_font("Boxes", fname="boxes.ttf")
by_fpdf.set_font("Boxes", size=12)
by_fpdf.text(50, 50, TEXT)
WRITTEN = {"reportlab": canvas.getpdfdata(), "PyMuPDF": by_mupdf.tobytes(), "fpdf2": bytes(by_fpdf.output())}

print("written:", ascii(TEXT))
as_known = True
for name, data in WRITTEN.items():
    by_pdfium = pypdfium2.PdfDocument(data)[0].get_textpage().get_text_range()
    by_mupdf = pymupdf.open(stream=data)[0].get_text().strip()
    print(f"{name} {importlib.metadata.version(name)}: pdfium reads {by_pdfium!a}, MuPDF {by_mupdf!a}")
    as_known &= by_pdfium == by_mupdf == (TEXT if name == "fpdf2" else GARBLED)
print("as known" if as_known else "this has changed")
sys.exit(not as_known)
PYTHON
venv/bin/python -W ignore show.py
