#!/bin/sh
# pdfium draws an annotation whose layer is switched off, though it leaves out page content of the same layer.
#
# A stamp or a form field may belong to an optional content group by its entry /OC (ISO 32000-1, 8.11.3.3), as
# marks of reviewers do that are not to be printed. With the group in /OFF, pdfium hides text and forms of the
# page that belong to it, and still shows the annotation; MuPDF hides both. Who reads pages that pdfium draws
# gets words that no reader of the document sees. Ends with 0 as long as this is so, else with 1.
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

LAYER = b"<< /Type /OCG /Name (draft) >>"
DRAWN = b"0 0 100 40 re f"
FORM = b"<< /Type /XObject /Subtype /Form /BBox [0 0 100 40] %b /Length 15 >>\nstream\n0 0 100 40 re f\nendstream"
STAMP = b"<< /Type /Annot /Subtype /Stamp /OC 5 0 R /F 4 /Rect [20 20 120 60] /AP << /N 6 0 R >> >>"


def write(content, annotations, form_layer, is_off):
    """A page of 200 x 100 points with a black box in a layer."""
    state = b"/OFF" if is_off else b"/ON"
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R /OCProperties << /OCGs [5 0 R] /D << %b [5 0 R] >> >> >>" % state,
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 200 100] /Contents 4 0 R %b "
        b"/Resources << /XObject << /Fm 6 0 R >> /Properties << /L 5 0 R >> >> >>" % annotations,
        b"<< /Length %d >>\nstream\n%b\nendstream" % (len(content), content),
        LAYER,
        FORM % form_layer,
        STAMP,
    ]
    out, places = b"%PDF-1.7\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%b\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    return out + b"xref\n0 8\n0000000000 65535 f \n%btrailer\n<< /Size 8 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (
        table,
        len(out),
    )


CASES = {
    "text of the page": (b"/OC /L BDC " + DRAWN + b" EMC", b"", b""),
    "a form on the page": (b"/Fm Do", b"", b"/OC 5 0 R"),
    "an annotation": (b"", b"/Annots [7 0 R]", b""),
}


def is_drawn(data):
    """Whether pdfium and MuPDF draw the box."""
    by_pdfium = pypdfium2.PdfDocument(data)[0].render().to_pil().convert("L").getextrema()[0] < 128
    pixmap = pymupdf.open(stream=data)[0].get_pixmap(colorspace=pymupdf.csGRAY)
    return by_pdfium, min(pixmap.samples) < 128


print("pypdfium2", importlib.metadata.version("pypdfium2"), "pdfium", pypdfium2.version.PDFIUM_INFO)
as_known = True
for name, case in CASES.items():
    on, off = is_drawn(write(*case, False)), is_drawn(write(*case, True))
    print(f"{name}: layer on: pdfium {on[0]}, MuPDF {on[1]}; layer off: pdfium {off[0]}, MuPDF {off[1]}")
    as_known &= on == (True, True) and off == (name == "an annotation", False)
print("as known" if as_known else "this has changed")
sys.exit(not as_known)
PYTHON
venv/bin/python -W ignore show.py
