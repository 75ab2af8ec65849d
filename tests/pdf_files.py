"""Small valid PDFs, written by hand."""

import io
from collections.abc import Mapping

from PIL import Image

FONT = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"
PAGE, CONTENT, FONT_AT, FIELD = 3, 4, 5, 6  # numbers of objects


def document(objects: Mapping[int, bytes]) -> bytes:
    """Objects by number, of which 1 is the catalogue."""
    out, places = b"%PDF-1.7\n", {}
    for number, body in sorted(objects.items()):
        places[number] = len(out)
        out += b"%d 0 obj\n%b\nendobj\n" % (number, body)
    table, top = len(out), max(objects) + 1
    out += b"xref\n0 %d\n0000000000 65535 f \n" % top
    for number in range(1, top):
        out += b"%010d 00000 n \n" % places[number]
    return out + b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (top, table)


def stream(data: bytes, extra: bytes = b"") -> bytes:
    return b"<< /Length %d %b >>\nstream\n%b\nendstream" % (len(data), extra, data)


def text(words: bytes, x: int = 20, y: int = 100, size: int = 24) -> bytes:
    return b"BT /F %d Tf %d %d Td (%b) Tj ET\n" % (size, x, y, words)


def one_page(
    content: bytes = text(b"Label:"),
    page: bytes = b"",
    box: bytes = b"[0 0 288 144]",
    more: Mapping[int, bytes] | None = None,
    catalogue: bytes = b"",
    resources: bytes = b"",
) -> bytes:
    """A page of 4 x 2 inches, `more` objects from FIELD on."""
    return document(
        {
            1: b"<< /Type /Catalog /Pages 2 0 R %b >>" % catalogue,
            2: b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
            PAGE: b"<< /Type /Page /Parent 2 0 R /MediaBox %b /Contents 4 0 R "
            b"/Resources << /Font << /F 5 0 R >> %b >> %b >>" % (box, resources, page),
            CONTENT: stream(content),
            FONT_AT: FONT,
            **(more or {}),
        }
    )


def form(field: bytes, more: Mapping[int, bytes] | None = None, appearances: bool = False) -> bytes:
    """The page with one field beside its label; `more` objects from 7 on."""
    need = b"/NeedAppearances true" if appearances else b""
    catalogue = b"/AcroForm << /Fields [6 0 R] /DR << /Font << /F 5 0 R >> >> /DA (/F 24 Tf 0 g) %b >>" % need
    widget = b"<< /Type /Annot /Subtype /Widget /T (field) /F 4 /P 3 0 R %b >>" % field
    return one_page(page=b"/Annots [6 0 R]", more={FIELD: widget, **(more or {})}, catalogue=catalogue)


def scan(image: Image.Image, width: float, height: float) -> bytes:
    """A page of width x height points that a picture fills."""
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=95)
    about = b"/Type /XObject /Subtype /Image /Width %d /Height %d /BitsPerComponent 8" % image.size
    pixels = stream(buffer.getvalue(), about + b" /ColorSpace /DeviceRGB /Filter /DCTDecode")
    return one_page(
        b"%g 0 0 %g 0 0 cm /I Do" % (width, height),
        box=b"[0 0 %g %g]" % (width, height),
        resources=b"/XObject << /I 6 0 R >>",
        more={6: pixels},
    )
