"""PDF pages as pictures: what is filled into forms, and the resolution at which a page is drawn."""

import math

import numpy as np
import pypdfium2 as pdfium
import pytest
from PIL import Image

from nanoocr.pages import open_source
from nanoocr.pdf_scale import PDF_DPI, POINTS_PER_INCH, scale_of
from nanoocr.picture_header import MAX_PIXELS
from tests.pdf_files import document, form, one_page, scan, stream, text

PLAIN = 2524  # dark pixels of the label alone
DRAWN = (  # an appearance, as a viewer stores it beside a value
    b"/Tx BMC BT /F 24 Tf 0 g 4 8 Td (Filled) Tj ET EMC",
    b"/Type /XObject /Subtype /Form /BBox [0 0 150 40] /Resources << /Font << /F 5 0 R >> >>",
)
TICK = (b"0 g 2 2 16 16 re f", b"/Type /XObject /Subtype /Form /BBox [0 0 20 20]")
WIDE, SMALL = b"/Rect [120 90 270 130]", b"/Rect [120 90 140 110]"
LOOKS = b"/DA (/F 24 Tf 0 g) " + WIDE


def page(data: bytes) -> Image.Image:
    (only,) = open_source(data, "x.pdf")
    assert only.error is None
    return only.image


def ink(data: bytes) -> int:
    return int((np.asarray(page(data).convert("L")) < 128).sum())


TEXT_OR_CHOICE = {
    "text": b"/FT /Tx /V (Filled) ",
    "text of several lines": b"/FT /Tx /Ff 4096 /V (Filled) ",
    "choice from a list that drops down": b"/FT /Ch /Ff 131072 /Opt [(Empty) (Filled)] /V (Filled) ",
    "choice from a list": b"/FT /Ch /Opt [(Filled) (Empty)] /V (Filled) /I [0] ",
}


@pytest.mark.parametrize("kind", TEXT_OR_CHOICE)
@pytest.mark.parametrize("drawn", [True, False])
def test_what_was_typed_or_chosen_is_drawn(kind, drawn):
    field = TEXT_OR_CHOICE[kind] + LOOKS
    data = (
        form(field + b" /AP << /N 7 0 R >>", {7: stream(*DRAWN)}) if drawn else form(field, appearances=True)
    )
    assert ink(data) > PLAIN + 1500
    if kind == "text":
        assert ink(data) == pytest.approx(5159 if drawn else 5105, abs=40)


def test_a_signature_is_drawn():
    field = b"/FT /Sig /V << /Type /Sig /Filter /Adobe.PPKLite /Name (Ann Lee) >> " + WIDE
    assert ink(form(field + b" /AP << /N 7 0 R >>", {7: stream(*DRAWN)})) > PLAIN + 1500


@pytest.mark.parametrize("kind", [b"", b"/Ff 32768 "])  # a box to tick, one of several to choose
def test_a_tick_is_drawn_and_its_absence_is_not(kind):
    ticked = b"/FT /Btn " + kind + b"/V /Yes /AS /Yes /AP << /N << /Yes 7 0 R >> >> " + SMALL
    empty = ticked.replace(b"/V /Yes /AS /Yes", b"/V /Off /AS /Off")
    assert ink(form(ticked, {7: stream(*TICK)})) == pytest.approx(4549, abs=40)
    assert ink(form(empty, {7: stream(*TICK)})) == pytest.approx(PLAIN, abs=40)


def test_a_field_that_is_hidden_stays_so():
    field = b"/FT /Tx /V (Filled) /AP << /N 7 0 R >> " + WIDE
    data = form(field, {7: stream(*DRAWN)}).replace(b"/F 4 /P", b"/F 2 /P")
    assert ink(data) == pytest.approx(PLAIN, abs=40)


def test_a_page_without_a_form_is_as_it_was():
    assert page(one_page()).size == (800, 400)  # 4 x 2 inches at 200 dpi
    assert ink(one_page()) == pytest.approx(PLAIN, abs=40)


def stripes(width: int, height: int) -> Image.Image:
    """Lines of 4 pixels, which are gone where the picture is drawn smaller."""
    columns = np.where(np.arange(width) // 4 % 2, 255, 0).astype(np.uint8)
    return Image.fromarray(np.tile(columns, (height, 1)))


def test_a_scan_on_a_page_of_a_mistaken_unit_keeps_its_pixels():
    tiny = page(scan(stripes(768, 384), 27.6, 13.8))
    assert min(tiny.width / 768, tiny.height / 384) >= 0.99
    usual = page(scan(stripes(768, 384), 276, 138))
    assert usual.size == (768, 384)
    assert np.asarray(tiny.resize((768, 384)), float).std() == pytest.approx(
        np.asarray(usual, float).std(), rel=0.1
    )


def test_a_scan_of_more_than_200_dpi_keeps_its_pixels():
    assert page(scan(stripes(1200, 600), 288, 144)).size == (1200, 600)


def test_a_small_page_of_letters_is_large_enough_to_be_seen():
    small = page(one_page(text(b"Label:", 1, 4, 3), box=b"[0 0 20 10]"))
    assert max(small.size) == 200
    drawn = page(one_page(b"2 2 m 9 9 l S", box=b"[0 0 20 10]"))  # lines may be letters of any size
    assert max(drawn.size) == 600


CARD = stripes(768, 384)


def in_strips(columns: int, rows: int) -> bytes:
    """The card on a page of 27.6 x 13.8 points, cut into tiles that stand beside each other."""
    wide, high = 768 // columns, 384 // rows
    tile = scan(CARD.crop((0, 0, wide, high)), 27.6, 13.8)
    drawn = b"".join(
        b"q %.2f 0 0 %.2f %.2f %.2f cm /I Do Q\n"
        % (27.6 / columns, 13.8 / rows, 27.6 * x / columns, 13.8 * y / rows)
        for y in range(rows)
        for x in range(columns)
    )
    (start, length) = tile.index(b"27.6 0 0 13.8 0 0 cm /I Do"), len(b"27.6 0 0 13.8 0 0 cm /I Do")
    return tile[:start] + drawn + tile[start + length :]


def inside_forms(data: bytes, depth: int) -> bytes:
    """A page whose picture stands in so many forms, each a square of one point."""
    box = b"/Type /XObject /Subtype /Form /BBox [0 0 1 1] /Resources << /XObject << /I %d 0 R >> >>"
    forms = [b"%d 0 obj\n%b\nendobj\n" % (7 + n, stream(b"/I Do", box % (6 + n))) for n in range(depth)]
    return data.replace(b"/I 6 0 R", b"/I %d 0 R" % (6 + depth), 1).replace(
        b"xref\n", b"".join(forms) + b"xref\n", 1
    )


@pytest.mark.parametrize(
    "data",
    [
        in_strips(1, 16),
        in_strips(4, 4),
        inside_forms(scan(CARD, 27.6, 13.8), 1),
        inside_forms(scan(CARD, 27.6, 13.8), 4),
        scan(CARD, 27.6, 13.8).replace(
            b"27.6 0 0 13.8 0 0 cm", b"0 0 m 1 1 l S " * 1500 + b"27.6 0 0 13.8 0 0 cm"
        ),
        scan(CARD, 27.6, 13.8).replace(b"[0 0 27.6 13.8]", b"[-9 -9 63.6 40.]"),
    ],
    ids=["strips", "tiles", "in a form", "in forms", "behind other objects", "with a margin"],
)
def test_a_scan_keeps_its_pixels_however_the_page_holds_it(data):
    drawn = page(data)
    points = 72.6 if b"[-9 -9" in data else 27.6
    assert drawn.width / points >= 0.99 * 768 / 27.6


@pytest.mark.parametrize("hidden", [False, True])
def test_letters_that_would_be_too_small_are_enlarged_unless_they_are_hidden(hidden):
    lines = b"3 Tr " * hidden + text(b"Label: 17.50", 10, 50, 1) * 5
    drawn = page(
        one_page(b"BT " + lines.replace(b"BT ", b"").replace(b" ET", b"") + b"ET", page=b"/UserUnit 10")
    )
    assert drawn.width > 3000 if not hidden else drawn.width == 800


def test_a_crop_box_beside_the_page_is_no_crop_box():
    assert ink(one_page(page=b"/CropBox [900 900 1200 1200]")) == pytest.approx(PLAIN, abs=40)


def test_fields_of_a_document_without_a_list_of_fields_are_drawn():
    field = b"/FT /Tx /V (Filled) /AP << /N 7 0 R >> " + WIDE
    data = form(field, {7: stream(*DRAWN)}).replace(b"/AcroForm", b"/NoForms!")
    assert ink(data) == pytest.approx(5159, abs=40)


def test_a_form_that_only_adobe_shows_is_refused(capfd):
    xfa = b"/AcroForm << /Fields [] /XFA 6 0 R >> "
    more = {6: stream(b"<xdp:xdp/>")}
    (only,) = open_source(one_page(more=more, catalogue=xfa + b"/NeedsRendering true"), "x.pdf")
    assert "XFA form" in str(only.error) and "print it" in str(only.error)
    assert ink(one_page(more=more, catalogue=xfa)) == pytest.approx(PLAIN, abs=40)
    assert capfd.readouterr().err == ""


def test_a_small_picture_does_not_enlarge_the_page():
    data = scan(stripes(800, 400), 288, 144).replace(b"288 0 0 144 0 0 cm", b"  8 0 0   4 0 0 cm")
    assert page(data).size == (800, 400)


def test_a_large_sheet_is_drawn_as_large_as_the_limit_allows():
    a0 = page(one_page(text(b"Label:", 100, 2500, 400), box=b"[0 0 2384 3370]"))
    assert 45_000_000 < a0.width * a0.height <= 50_100_000
    assert (np.asarray(a0.convert("L")) < 128).sum() > 100_000


def test_a_page_that_would_be_illegible_is_refused():
    (only,) = open_source(one_page(box=b"[0 0 20000 20000]"), "x.pdf")
    assert only.error.kind == "too_large"


def test_a_document_without_pages_is_not_called_encrypted_behind_one_that_is():
    locked = document(
        {
            1: b"<< /Type /Catalog /Pages 2 0 R >>",
            2: b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
            3: b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 288 144] >>",
            4: b"<< /Filter /Standard /V 1 /R 2 /O <%b> /U <%b> /P -44 >>" % (b"00" * 32, b"11" * 32),
        }
    ).replace(b"/Root 1 0 R", b"/Root 1 0 R /Encrypt 4 0 R /ID [<00> <00>]")
    empty = document({1: b"<< /Type /Catalog /Pages 2 0 R >>", 2: b"<< /Type /Pages /Kids [] /Count 0 >>"})
    for data, sentence in ((locked, "is encrypted"), (empty, "is damaged or has no pages")):
        (only,) = open_source(data, "x.pdf")
        assert sentence in str(only.error)


@pytest.mark.parametrize("sides", [(11841, 4223), (14400, 4), (14400, 14400)])
def test_a_page_at_the_limit_has_no_pixel_too_many(sides):
    """Sides are rounded up, and Reader.read refuses a picture above the limit."""
    with pdfium.PdfDocument.new() as document:
        page = document.new_page(*sides)
        scale = scale_of(page, "a.pdf")
    width, height = (math.ceil(side * scale) for side in sides)
    assert width * height <= MAX_PIXELS
    assert scale >= PDF_DPI / POINTS_PER_INCH or (width + 2) * (height + 2) > MAX_PIXELS
