"""Searchable PDF: what other readers get out of it, where they see it, and what became of the picture."""

import io
import struct
from dataclasses import replace

import numpy as np
import pytest
from format_pages import encode, iou, make_page, original, plain_words
from pdf_text_readers import (
    READERS,
    read_with_mupdf,
    read_with_pdfium,
    read_with_pdfminer,
    read_with_pdftotext,
)
from pdf_word_readers import READERS as WORD_READERS
from PIL import Image, ImageChops, TiffImagePlugin

from nanoocr.document import Box, Line, TextPage, Word, hull
from nanoocr.errors import OutputError
from nanoocr.formats import pdf
from nanoocr.pictures import find_dpi, open_image

pikepdf = pytest.importorskip("pikepdf")
pdfium = pytest.importorskip("pypdfium2")

PAGES = {
    "plain": {},
    "touching": {"touch": True},
    "small": {"size": 14},
    "72 dpi": {"dpi": 72.0},
    "600 dpi": {"dpi": 600.0, "size": 70, "width": 2480},
    "leaning 1": {"degrees": 1.0},
    "leaning 3": {"degrees": 3.0},
    "rising, touching": {"degrees": -1.0, "touch": True},
}


@pytest.fixture(scope="module")
def written():
    """Each of PAGES as (page, PNG, PDF)."""
    cases = {}
    for name, options in PAGES.items():
        page, png = make_page(**options)
        cases[name] = (page, png, pdf.render([page], {page.file: png}))
    return cases


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", PAGES)
def test_words_come_out_in_order_and_with_blanks(written, name, reader):
    page, _, content = written[name]
    assert plain_words(reader(content)) == plain_words(page.text)


def test_pdfminer_sees_no_second_blank(written):
    for _, _, content in written.values():
        assert "  " not in read_with_pdfminer(content)


@pytest.mark.parametrize("reader", WORD_READERS)
@pytest.mark.parametrize("name", PAGES)
def test_boxes_cover_the_words(written, name, reader):
    page, _, content = written[name]
    shares = overlaps(page, WORD_READERS[reader](content, page.dpi / 72)[0])
    assert sum(share >= 0.5 for share in shares) >= 0.95 * len(shares), sorted(shares)[:4]
    if reader == "pypdfium2":
        assert min(shares) > (0.6 if "touching" in name else 0.75)


@pytest.mark.parametrize("reader", WORD_READERS)
@pytest.mark.parametrize("rotate", [90, 180, 270])
def test_boxes_cover_the_words_of_pages_with_rotate(rotate, reader):
    source = original(rotate)
    shown = pdfium.PdfDocument(source)[0].render(scale=2).to_pil()
    options = {"width": shown.width, "height": shown.height, "dpi": 144.0, "touch": True}
    page, _ = make_page(size=24, file="x.pdf", **options)
    shares = overlaps(page, WORD_READERS[reader](pdf.render([page], {"x.pdf": source}), 2)[0])
    assert sum(share >= 0.5 for share in shares) >= 0.95 * len(shares), sorted(shares)[:4]


def overlaps(page, found):
    """For each word of the page, how well the best box that was found with its text fits."""
    words = [word for line in page.lines for word in line.words]
    return [
        max(
            (iou(box, hull(word.quad)) for text, box in found if plain_words(text) == plain_words(word.text)),
            default=0.0,
        )
        for word in words
    ]


@pytest.mark.parametrize("name", PAGES)
def test_size(written, name):
    page, png, content = written[name]
    assert len(content) <= len(png) + 5_000 + 20 * len(page.text)


def test_nothing_is_seen_of_the_text(written):
    page, png, content = written["plain"]
    bare = pdf.render([replace(page, lines=(), text="")], {page.file: png})
    shown, without = (pdfium.PdfDocument(one)[0].render(scale=2).to_pil() for one in (content, bare))
    assert shown.tobytes() == without.tobytes()


@pytest.mark.parametrize("turns", [1, 2, 3])
@pytest.mark.parametrize(
    "reader", [read_with_pdfium, read_with_pdfminer, read_with_pdftotext, read_with_mupdf]
)
def test_a_page_that_was_read_turned_is_shown_upright(reader, turns):
    page, png = make_page(degrees=-90.0 * turns)
    content = pdf.render([replace(page, quarter_turns=turns)], {page.file: png})
    assert pdfium.PdfDocument(content)[0].get_rotation() == 90 * turns
    assert plain_words(reader(content)) == plain_words(page.text)


def test_a_label_on_its_side_is_read():
    page, png = make_page(("upright text here",))
    side = Line("side label", ((40, 900), (40, 600), (80, 600), (80, 900)), block=7)
    content = pdf.render([replace(page, lines=(*page.lines, side))], {page.file: png})
    for reader in (read_with_pdfium, read_with_pdftotext, read_with_mupdf):
        assert {"side", "label", "upright"} <= set(reader(content).split())


def test_every_script_and_beyond_the_first_plane():
    words = ["Ελληνικά", "Кириллица", "漢字", "😀", "𝒳", "x"]
    boxes = [Box(50 + 200 * i, 50, 200 + 200 * i, 90).quad() for i in range(len(words))]
    line = Line(" ".join(words), boxes[0], words=tuple(map(Word, words, boxes)))
    page = TextPage("x.png", 1, 1300, 200, (line,), 150.0)
    content = pdf.render([page], {"x.png": encode(Image.new("L", (1300, 200), 255), "PNG")})
    assert read_with_pdfium(content).split() == words
    assert read_with_pdfminer(content).split() == words
    assert read_with_mupdf(content).split() == words


# ---------------------------------------------------------------------------------------------------
# Pictures


def first_image(content):
    document = pikepdf.open(io.BytesIO(content))
    return document, document.pages[0].Resources.XObject.Picture


def drawn(mode, size=(60, 40)):
    picture = Image.new("RGB", size, "white")
    picture.paste((200, 30, 30), (5, 5, 25, 15))
    picture.paste((30, 30, 200), (40, 25, 55, 38))
    return picture.convert(mode)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_the_bytes_of_a_jpeg_are_untouched(mode):
    jpeg = encode(drawn(mode), "JPEG", quality=90)
    document, image = first_image(pdf.render([TextPage("x.jpg", 1, 60, 40)], {"x.jpg": jpeg}))
    assert image.read_raw_bytes() == jpeg
    assert document is not None


@pytest.mark.parametrize(
    "case",
    [
        *("PNG:1", "PNG:L", "PNG:P", "PNG:RGB", "PNG:I;16", "PNG:RGBA", "PNG:LA"),
        *("TIFF:1", "TIFF:RGB", "TIFF:CMYK", "GIF:P", "BMP:RGB", "WEBP:RGB"),
    ],
)
def test_other_pictures_keep_every_pixel(case):
    kind, mode = case.split(":")
    picture = drawn("L").convert("I;16") if mode == "I;16" else drawn(mode)
    options = {"lossless": True} if kind == "WEBP" else {}
    # At 72 dpi each pixel of the picture is one that is drawn, so that nothing is smoothed.
    content = pdf.render([TextPage("x", 1, 60, 40, dpi=72.0)], {"x": encode(picture, kind, **options)})
    shown = pdfium.PdfDocument(content)[0].render(scale=1).to_pil().convert("RGB")
    expected = drawn("L") if mode == "I;16" else picture  # whose largest value says how many bits it uses
    assert ImageChops.difference(shown, expected.convert("RGB")).getextrema() == ((0, 0),) * 3


@pytest.mark.parametrize("bits", [10, 12, 16])
def test_a_deep_grey_is_shown_as_it_is_read(bits):
    values = (np.asarray(drawn("L"), np.uint32) * (2**bits - 1) // 255).astype(np.uint16)
    inverted = TiffImagePlugin.ImageFileDirectory_v2()
    inverted[262] = 0
    for content in (
        encode(Image.fromarray(values), "PNG"),
        encode(Image.fromarray(2**bits - 1 - values), "TIFF", tiffinfo=inverted),
    ):
        made = pdf.render([TextPage("x", 1, 60, 40, dpi=72.0)], {"x": content})
        shown = pdfium.PdfDocument(made)[0].render(scale=1).to_pil().convert("L")
        assert max(ImageChops.difference(shown, drawn("L")).getextrema()) <= 2


def test_letters_that_only_alpha_shows_are_shown():
    white = Image.new("RGBA", (60, 40), (255, 255, 255, 0))
    white.putalpha(ImageChops.invert(drawn("L")))
    made = pdf.render([TextPage("x", 1, 60, 40, dpi=72.0)], {"x": encode(white, "PNG")})
    shown = pdfium.PdfDocument(made)[0].render(scale=1).to_pil().convert("L")
    assert shown.tobytes() == open_image(white).convert("L").tobytes()
    assert shown.getextrema() != (255, 255)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("turned", [False, True])
def test_a_fax_is_shown_with_square_pixels(kind, turned):
    exif = Image.Exif()
    exif[274] = 6 if turned else 1
    exif[282], exif[283], exif[296] = 204.0, 102.0, 2
    fax = Image.new("L", (204, 102), 255)
    how = (
        {"tiffinfo": {key: exif[key] for key in exif}}
        if kind == "TIFF"
        else {"exif": exif, "dpi": (204, 102)}
    )
    content = encode(fax, kind, **how)
    read = open_image(content)
    made = pdf.render([TextPage("x", 1, *read.size, dpi=find_dpi(read))], {"x": content})
    assert pdfium.PdfDocument(made)[0].get_size() == pytest.approx((72, 72), abs=0.5)


def test_the_rows_of_a_png_are_untouched():
    png = encode(drawn("RGB"), "PNG")
    _, image = first_image(pdf.render([TextPage("x", 1, 60, 40)], {"x": png}))
    assert image.read_raw_bytes() in png


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation):
    exif = Image.Exif()
    exif[274] = orientation
    jpeg = encode(drawn("RGB", (64, 48)), "JPEG", quality=95, exif=exif)
    size = (48, 64) if orientation > 4 else (64, 48)
    content = pdf.render([TextPage("x", 1, *size)], {"x": jpeg})
    page = pdfium.PdfDocument(content)[0]
    shown = page.render(scale=size[0] / page.get_width()).to_pil().convert("RGB")
    from PIL import ImageOps

    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(jpeg)))
    assert shown.size == upright.size
    difference = ImageChops.difference(shown, upright).convert("L")
    assert sum(difference.histogram()[60:]) < 20


def test_pages_of_a_tiff_and_of_two_files():
    frames = [drawn("L"), drawn("L").rotate(180)]
    tiff = encode(frames[0], "TIFF", save_all=True, append_images=frames[1:])
    pages = [TextPage("a.tif", 1, 60, 40), TextPage("a.tif", 2, 60, 40), TextPage("b.png", 1, 60, 40)]
    content = pdf.render(pages, {"a.tif": tiff, "b.png": encode(drawn("1"), "PNG")})
    assert len(pdfium.PdfDocument(content)) == 3


def test_a_page_of_a_tiff_that_has_no_width_costs_only_itself():
    data = bytearray(encode(drawn("L"), "TIFF", save_all=True, append_images=[drawn("L")]))
    (first,) = struct.unpack_from("<I", data, 4)
    (tags,) = struct.unpack_from("<H", data, first)
    (second,) = struct.unpack_from("<I", data, first + 2 + 12 * tags)
    places = [second + 2 + 12 * k for k in range(struct.unpack_from("<H", data, second)[0])]
    (width,) = (place for place in places if struct.unpack_from("<H", data, place)[0] == 256)
    struct.pack_into("<H", data, width, 255)
    made, notes = pdf.render_with_notes([TextPage("a.tif", 1, 60, 40)] * 2, {"a.tif": bytes(data)})
    assert (len(pdfium.PdfDocument(made)), notes) == (2, [])
    with pytest.raises(OutputError, match="cannot be put into a PDF"):
        pdf.render([TextPage("a.tif", 2, 60, 40)], {"a.tif": bytes(data)})


def test_dpi_sets_the_size_of_the_page_and_no_page_is_too_large():
    def width(page, png):
        with pikepdf.open(io.BytesIO(pdf.render([page], {page.file: png}))) as document:
            return float(document.pages[0].MediaBox[2])

    page, png = make_page(("x",))
    assert width(page, png) == pytest.approx(1240 / 150 * 72, abs=0.01)
    assert width(replace(page, dpi=None), png) == pytest.approx(1240 / 150 * 72, abs=0.1)  # the file says it
    assert width(replace(page, dpi=1.0), png) == 14_400
    assert width(TextPage("x", 1, 60, 40), encode(drawn("L"), "PNG")) == pytest.approx(60 / 200 * 72)


@pytest.mark.parametrize("touching", [False, True])
def test_words_that_run_leftwards_come_out_in_their_own_order(touching):
    first, second = Box(170, 20, 300, 60), Box(20, 20, 170 if touching else 150, 60)
    words = (Word("שלום", first.quad()), Word("ב2024", second.quad()))
    line = Line("שלום ב2024", Box(20, 20, 300, 60).quad(), words=words)
    made = pdf.render([TextPage("x", 1, 600, 400, (line,))], {"x": Image.new("L", (600, 400), 255)})
    assert read_with_pdfium(made).split() == ["שלום", "ב2024"]
    assert read_with_pdftotext(made, "-raw").split()[0].strip("\u202a\u202b\u202c") == "שלום"


# ---------------------------------------------------------------------------------------------------
# Bad input


def test_what_cannot_be_shown_is_left_out_and_told():
    page, png = make_page(("x",))
    bad = TextPage("broken.png", 1, 9, 9, error="broken.png is damaged.")
    content, notes = pdf.render_with_notes([page, bad], {"scan.png": png, "broken.png": b"no picture"})
    assert len(pdfium.PdfDocument(content)) == 1
    assert len(notes) == 1 and notes[0].startswith("broken.png cannot be put into a PDF")
    with pytest.raises(OutputError, match=r"gone\.png is not to be found"):
        pdf.render([TextPage("gone.png", 1, 9, 9)])
    with pytest.raises(OutputError, match="no pages"):
        pdf.render([])


def test_words_without_width_and_many_words():
    quads = [
        Box(i % 100 * 10, i // 100 * 4, i % 100 * 10 + i % 10, i // 100 * 4 + 3).quad() for i in range(5_000)
    ]
    words = [Word(f"w{i}", quad) for i, quad in enumerate(quads)]
    lines = tuple(
        Line(" ".join(word.text for word in words[i : i + 100]), quads[i], words=tuple(words[i : i + 100]))
        for i in range(0, 5_000, 100)
    )
    png = encode(Image.new("1", (1000, 200)), "PNG")
    content = pdf.render([TextPage("x", 1, 1000, 200, lines, 150.0)], {"x": png})
    assert read_with_pdfium(content).split() == [word.text for word in words]


def test_sources_are_found_under_names_that_formats_have_to_clean(tmp_path):
    """Otherwise what is left of the name is taken for a path."""
    page, _ = make_page()
    other = tmp_path / "scan.png"
    Image.new("RGB", (page.width, page.height), "black").save(other)
    white = io.BytesIO()
    Image.new("RGB", (page.width, page.height), "white").save(white, "PNG")
    odd = replace(page, file=str(other.with_name("scan\x01.png")))
    content = pdf.render([odd], {odd.file: white.getvalue()})
    assert pdfium.PdfDocument(content)[0].render().to_pil().getpixel((1, 1)) == (255, 255, 255)
