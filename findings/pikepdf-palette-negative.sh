#!/bin/sh
# pikepdf and pypdf give the negative of a one-bit scan whose palette begins with white, where viewers draw it right.
#
# A one-bit image of a PDF may have a palette, and which of its two colours comes first is free (ISO 32000-1,
# 8.6.6.3). With black first both libraries give the page. With white first and CCITT data with /BlackIs1, both
# give it inverted, letters white on black; pdfium and MuPDF draw black on white, as the palette says. It hurts
# whoever takes scans out of PDFs to train on or to recognize. To avoid it: draw the page, or compare what was
# extracted with the drawn page. Ends with 0 as long as this is so, else with 1.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet pikepdf==10.18.0 pypdf==7.1.1 pillow==13.0.0 pypdfium2==5.15.2 PyMuPDF==2.0
cat > show.py <<'PYTHON'
import importlib.metadata
import io
import sys

import pikepdf
import pymupdf
import pypdf
import pypdfium2
from pikepdf import Array, Dictionary, Name, String
from PIL import Image, ImageDraw

SIZE = (64, 32)


def fax(paper):
    """A white page with a black box as CCITT data, whose bits are 1 where it is `paper`."""
    image = Image.new("1", SIZE, paper)
    ImageDraw.Draw(image).rectangle((10, 10, 20, 20), fill=not paper)
    out = io.BytesIO()
    image.save(out, "TIFF", compression="group4", strip_size=1 << 20)
    with Image.open(out) as written:
        (start,), (length,) = written.tag_v2[273], written.tag_v2[279]
    return out.getvalue()[start : start + length]


def write(data, colours, black_is_1):
    pdf = pikepdf.new()
    page = pdf.add_blank_page(page_size=SIZE).obj
    colours = Array([Name.Indexed, Name.DeviceGray, 1, String(colours)]) if colours else Name.DeviceGray
    image = pdf.make_stream(data, Type=Name.XObject, Subtype=Name.Image, Width=64, Height=32, BitsPerComponent=1)
    image.ColorSpace, image.Filter = colours, Name.CCITTFaxDecode
    image.DecodeParms = Dictionary(K=-1, Columns=64, Rows=32, BlackIs1=black_is_1)
    page.Resources = Dictionary(XObject=Dictionary(Im=image))
    page.Contents = pdf.make_stream(b"64 0 0 32 0 0 cm /Im Do")
    out = io.BytesIO()
    pdf.save(out)
    return out.getvalue()


BLACK_RUNS, WHITE_RUNS = fax(0), fax(1)  # the box in black runs, or the paper
CASES = {
    "no palette": write(BLACK_RUNS, None, False),
    "black first": write(BLACK_RUNS, b"\x00\xff", False),
    "black first, /BlackIs1": write(WHITE_RUNS, b"\x00\xff", True),
    "white first, /BlackIs1": write(BLACK_RUNS, b"\xff\x00", True),
}
print(*(f"{one} {importlib.metadata.version(one)}" for one in ("pikepdf", "pypdf", "pypdfium2", "PyMuPDF")))
as_known = True
for name, data in CASES.items():
    page = pymupdf.open(stream=data)[0].get_pixmap(colorspace=pymupdf.csGRAY)
    opened = pikepdf.open(io.BytesIO(data))
    images = {
        "pdfium": pypdfium2.PdfDocument(data)[0].render().to_pil(),
        "MuPDF": Image.frombytes("L", (page.width, page.height), page.samples),
        "pikepdf": pikepdf.PdfImage(opened.pages[0].Resources.XObject.Im).as_pil_image(),
        "pypdf": pypdf.PdfReader(io.BytesIO(data)).pages[0].images[0].image,
    }
    papers = {who: image.convert("RGB").getpixel((0, 0))[0] for who, image in images.items()}
    boxes = {who: image.convert("RGB").getpixel((15, 15))[0] for who, image in images.items()}
    print(f"{name}: paper {papers}, box {boxes}")
    white = [255, 255, 0, 0] if name.startswith("white") else [255] * 4
    as_known &= list(papers.values()) == white and list(boxes.values()) == [255 - one for one in white]
print("as known" if as_known else "this has changed")
sys.exit(not as_known)
PYTHON
venv/bin/python -W ignore show.py
