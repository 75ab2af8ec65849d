#!/bin/sh
# pdfium reads the wrong letters for ligatures whose glyph names are composed: "office" becomes "oBce", silently.
#
# Where a PDF's font has no /ToUnicode, its glyph names tell the text (ISO 32000-1, 9.10.2), by the rules of Adobe's
# glyph list: f_f_i is ffi, T_h is Th, uni00660069 is fi, one.oldstyle is 1. Older typesetting writes such PDFs with
# ligatures of OpenType fonts. pdfium knows the plain name "ffi" and takes the bare code as a letter for the
# composed ones, whatever code the writer has chosen; MuPDF keeps the first letter of T_h; pypdf gives the name
# itself. pdfminer follows the rules. It hurts whoever takes a page's picture and its text layer as a training pair
# or as ground truth. To avoid it: read such pages with pdfminer, too, and leave out those that differ. Ends with 0
# as long as this is so, else with 1.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet pypdfium2==5.15.2 PyMuPDF==2.0 pypdf==7.1.1 pdfminer.six==20260107 \
    pikepdf==10.18.0 fonttools==4.68.0
cat > show.py <<'PYTHON'
import importlib.metadata
import io
import sys
import unicodedata

import pikepdf
import pymupdf
import pypdf
import pypdfium2
from fontTools.agl import toUnicode
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.t2CharStringPen import T2CharStringPen
from pdfminer.high_level import extract_text
from pikepdf import Array, Dictionary, Name

CODE = 65  # of the first glyph
EXPECTED = {  # what pdfium, MuPDF, pypdf and pdfminer read
    "o ffi c e": ("office", "office", "office", "office"),
    "o f_f_i c e": ("oBce", "office", "office", "office"),
    "T_h e": ("Ae", "Te", "/T_he", "The"),
    "uni00660069 n": ("An", "An", "/uni00660069n", "fin"),
    "one.oldstyle": ("1", "1", "/one.oldstyle", "1"),
}


def write(names):
    """A page with these glyphs, each drawn as a line, of a font without /ToUnicode."""
    builder = FontBuilder(1000, isTTF=False)
    order = [".notdef", *names]
    builder.setupGlyphOrder(order)
    pen = T2CharStringPen(600, None)
    pen.moveTo((50, 0))
    pen.lineTo((550, 700))
    pen.closePath()
    builder.setupCFF("Lines", {}, {name: pen.getCharString() for name in order}, {})
    pdf = pikepdf.new()
    page = pdf.add_blank_page(page_size=(300, 200)).obj
    program = pdf.make_stream(builder.font["CFF "].compile(builder.font), Subtype=Name.Type1C)
    descriptor = Dictionary(
        Type=Name.FontDescriptor, FontName=Name.Lines, Flags=4, FontBBox=[0, -200, 600, 800], ItalicAngle=0,
        Ascent=800, Descent=-200, CapHeight=700, StemV=80, FontFile3=program,
    )  # fmt: skip
    font = Dictionary(
        Type=Name.Font, Subtype=Name.Type1, BaseFont=Name.Lines, FontDescriptor=descriptor,
        FirstChar=CODE, LastChar=CODE + len(names) - 1, Widths=[600] * len(names),
        Encoding=Dictionary(Type=Name.Encoding, Differences=Array([CODE, *(Name("/" + name) for name in names)])),
    )  # fmt: skip
    page.Resources = Dictionary(Font=Dictionary(F=pdf.make_indirect(font)))
    codes = bytes(range(CODE, CODE + len(names))).hex().encode()
    page.Contents = pdf.make_stream(b"BT /F 12 Tf 20 100 Td <%b> Tj ET" % codes)
    out = io.BytesIO()
    pdf.save(out)
    return out.getvalue()


print(*(f"{one} {importlib.metadata.version(one)}" for one in ("pypdfium2", "PyMuPDF", "pypdf", "pdfminer.six")))
as_known = True
for line, expected in EXPECTED.items():
    data = write(line.split())
    read = [pypdfium2.PdfDocument(data)[0].get_textpage().get_text_range(), pymupdf.open(stream=data)[0].get_text()]
    read += [pypdf.PdfReader(io.BytesIO(data)).pages[0].extract_text(), extract_text(io.BytesIO(data))]
    read += ["".join(toUnicode(name) for name in line.split())]
    *read, rule = (unicodedata.normalize("NFKC", text).strip("\n\f ") for text in read)
    print(f"{line}: by the rules {rule!r}; pdfium, MuPDF, pypdf, pdfminer: {read}")
    as_known &= tuple(read) == expected and read[3] == rule
print("as known" if as_known else "this has changed")
sys.exit(not as_known)
PYTHON
venv/bin/python -W ignore show.py
