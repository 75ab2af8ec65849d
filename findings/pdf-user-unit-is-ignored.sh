#!/bin/sh
# pdfium draws a page with /UserUnit at a fraction of its resolution, where MuPDF draws it at its true size.
#
# /UserUnit (ISO 32000-1, table 30) says how many 1/72 inches one unit of a page is, and large plans use it. A
# letter page of /UserUnit 10 holds 61 x 79 units; at 200 dpi it has 1700 x 2200 pixels. pdfium, which
# most Python OCR programs draw with, gives 170 x 220 or so, in which no letter can be read; nothing is said.
# Ends with 0 as long as this is so, else with 1.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet pypdfium2==5.15.2 PyMuPDF==2.0 pillow==13.0.0
cat > show.py <<'PYTHON'
import importlib.metadata
import sys

import pymupdf
import pypdfium2

DPI = 200


def write(unit):
    """A letter page whose numbers count in units of `unit`/72 inch, with 12-point text."""
    content = b"BT /F %g Tf %g %g Td (Total 17.50) Tj ET" % (12 / unit, 72 / unit, 700 / unit)
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 %g %g] /UserUnit %g /Contents 4 0 R "
        b"/Resources << /Font << /F 5 0 R >> >> >>" % (612 / unit, 792 / unit, unit),
        b"<< /Length %d >>\nstream\n%b\nendstream" % (len(content), content),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    out, places = b"%PDF-1.7\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%b\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    return out + b"xref\n0 6\n0000000000 65535 f \n%btrailer\n<< /Size 6 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (
        table,
        len(out),
    )


print("pypdfium2", importlib.metadata.version("pypdfium2"), "pdfium", pypdfium2.version.PDFIUM_INFO)
as_known = True
for unit in (1, 2, 10):
    data = write(unit)
    by_pdfium = pypdfium2.PdfDocument(data)[0].render(scale=DPI / 72).to_pil().size
    pixmap = pymupdf.open(stream=data)[0].get_pixmap(dpi=DPI)
    print(f"/UserUnit {unit}: pdfium {by_pdfium[0]} x {by_pdfium[1]} pixels, MuPDF {pixmap.width} x {pixmap.height}")
    as_known &= pixmap.width == 1700 and abs(by_pdfium[0] - 1700 / unit) <= 1
print("as known" if as_known else "this has changed")
sys.exit(not as_known)
PYTHON
venv/bin/python -W ignore show.py
