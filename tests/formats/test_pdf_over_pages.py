"""Text laid over the pages of a PDF: where it is found, and what becomes of the page."""

import io

import pytest
from format_pages import iou, original
from pdf_text_readers import (
    read_with_mupdf,
    read_with_pdfium,
    read_with_pdfminer,
    read_with_pdftotext,
)
from PIL import ImageChops

from nanoocr.document import Box, Line, TextPage, Word, hull
from nanoocr.formats import pdf

pikepdf = pytest.importorskip("pikepdf")
pdfium = pytest.importorskip("pypdfium2")


@pytest.mark.parametrize("rotate", [0, 90, 180, 270])
@pytest.mark.parametrize("crop", [None, [50, 30, 550, 330]])
def test_text_is_laid_over_the_page_as_it_is_shown(rotate, crop):
    source = original(rotate, crop)
    shown = pdfium.PdfDocument(source)[0].render(scale=2).to_pil()
    # A page of the size that is shown, with words at places that no turn maps onto each other.
    boxes = [Box(60, 40, 200, 80).quad(), Box(230, 40, 300, 80).quad(), Box(100, 300, 260, 340).quad()]
    first = Line("over the", boxes[0], words=(Word("over", boxes[0]), Word("the", boxes[1])))
    second = Line("page", boxes[2], words=(Word("page", boxes[2]),))
    page = TextPage("x.pdf", 1, shown.width, shown.height, (first, second))
    content = pdf.render([page], {"x.pdf": source})
    for reader in (read_with_pdfium, read_with_pdfminer, read_with_pdftotext, read_with_mupdf):
        assert reader(content).split() == ["over", "the", "page"]
    mupdf = pytest.importorskip("pymupdf")
    read = mupdf.open(stream=content)[0]
    for word, quad in zip(read.get_text("words"), boxes, strict=True):
        seen = mupdf.Rect(word[:4]) * read.rotation_matrix  # from the page as it lies to how it is shown
        assert iou([value * 2 for value in seen], hull(quad)) > 0.9
    again = pdfium.PdfDocument(content)[0].render(scale=2).to_pil()
    assert ImageChops.difference(shown.convert("RGB"), again.convert("RGB")).getbbox() is None


def with_content(content, form=None):
    """A page of 600 x 400 points with these commands; `form` are those of its form /Fm."""
    document = pikepdf.new()
    document.add_blank_page(page_size=(600, 400))
    page = document.pages[0]
    font = pikepdf.Dictionary(
        Type=pikepdf.Name.Font, Subtype=pikepdf.Name.Type1, BaseFont=pikepdf.Name.Helvetica
    )
    page.obj.Resources = pikepdf.Dictionary(Font=pikepdf.Dictionary(F=font))
    if form is not None:
        stream = document.make_stream(form, Type=pikepdf.Name.XObject, Subtype=pikepdf.Name.Form)
        stream.BBox = pikepdf.Array([0, 0, 600, 400])
        stream.Resources = page.obj.Resources
        page.obj.Resources = pikepdf.Dictionary(
            Font=page.obj.Resources.Font, XObject=pikepdf.Dictionary(Fm=stream)
        )
    page.contents_add(content)
    file = io.BytesIO()
    document.save(file)
    return file.getvalue()


WORD = TextPage("x.pdf", 1, 600, 400, (Line("word", Box(100, 100, 180, 130).quad()),))


@pytest.mark.parametrize(
    "content", [b"q 2 0 0 2 0 0 cm q", b"Q Q 2 0 0 2 0 0 cm", b"q Q Q q q 2 0 0 2 9 9 cm"]
)
def test_states_that_a_page_saves_or_restores_too_often_move_no_text(content):
    made = pdf.render([WORD], {"x.pdf": with_content(content)})
    for reader in (read_with_pdfium, read_with_pdftotext, read_with_mupdf):
        assert reader(made).split() == ["word"]
    seen = pytest.importorskip("pymupdf").open(stream=made)[0].get_text("words")[0]
    assert iou(seen[:4], Box(100, 100, 180, 130)) > 0.9


HIDDEN = b"BT 3 Tr /F 20 Tf 100 280 Td (older) Tj ET"


@pytest.mark.parametrize(
    "source", [with_content(HIDDEN), with_content(b"/Fm Do", HIDDEN)], ids=["page", "form"]
)
def test_hidden_text_of_an_older_reading_is_replaced(source):
    made, notes = pdf.render_with_notes([WORD], {"x.pdf": source})
    assert (read_with_pdfium(made).split(), notes) == (["word"], [])
    again, notes = pdf.render_with_notes([WORD], {"x.pdf": made})
    assert (read_with_pdfium(again).split(), notes) == (["word"], [])


def test_a_page_without_area_is_shown_and_written_on_as_a_letter():
    source = pikepdf.open(io.BytesIO(with_content(b"")))
    source.pages[0].obj.MediaBox = pikepdf.Array([0, 0, 0, 0])
    file = io.BytesIO()
    source.save(file)
    page = TextPage("x.pdf", 1, 612, 792, WORD.lines)
    made = pdf.render([page], {"x.pdf": file.getvalue()})
    text = pdfium.PdfDocument(made)[0].get_textpage()
    assert text.get_text_range().split() == ["word"]
    text.count_rects()
    left, bottom, right, top = text.get_rect(0)  # with a blank behind the word
    assert iou([left, 792 - top, right, 792 - bottom], Box(100, 100, 180, 130)) > 0.8


def test_text_that_is_seen_stays_and_is_told():
    seen = b"q 3 Tr Q BT /F 20 Tf 100 280 Td (seen) Tj ET"
    made, notes = pdf.render_with_notes([WORD], {"x.pdf": with_content(seen)})
    assert sorted(read_with_pdfium(made).split()) == ["seen", "word"]
    assert notes == ["x.pdf has text of its own, which stays: words of it are found twice."]


def test_all_pages_of_a_pdf_keep_what_the_document_knows():
    source = original(count=2)
    line = Line("word", Box(10, 10, 90, 40).quad())
    pages = [TextPage("x.pdf", number, 600, 400, (line,)) for number in (1, 2)]
    document = pikepdf.open(io.BytesIO(pdf.render(pages, {"x.pdf": source})))
    assert document.docinfo["/Title"] == "kept"
    assert read_with_pdfium(pdf.render(pages, {"x.pdf": source})).split() == ["word", "word"]


def test_chosen_pages_and_the_same_page_twice():
    source, box = original(count=3), Box(10, 10, 90, 40).quad()
    pages = [TextPage("x.pdf", number, 600, 400, (Line(f"p{i}", box),)) for i, number in enumerate((3, 1, 3))]
    assert read_with_pdfium(pdf.render(pages, {"x.pdf": source})).split() == ["p0", "p1", "p2"]
