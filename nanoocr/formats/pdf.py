"""Searchable PDF: the pages as they were, and their text hidden over them so that it can be found and copied.

A picture becomes a page that shows it, without a second encoding. A page of a PDF stays what it is and gets
the text on top. The text is part of the page's own content, not a form, and in render mode 3: so readers lay
it out as text, and tools that renew hidden text can take it off again. A page that was read turned is shown
turned, by its /Rotate: some readers give the words of a page on its head in reverse.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nanoocr.document import PageLike, Point, TextPage
from nanoocr.errors import OutputError, PictureError
from nanoocr.formats.clean import clean, with_clean_names
from nanoocr.formats.hidden_font import ASCENT, DESCENT, UNITS, WIDTHS, HiddenFont, font_file
from nanoocr.formats.pdf_content import look_at
from nanoocr.formats.pdf_picture import Embedded, PictureSource, embed
from nanoocr.formats.text_layer import ToPoints, layer

if TYPE_CHECKING:
    import pikepdf

POINTS_PER_INCH = 72
ASSUMED_DPI = 200  # dpi of pictures that name no resolution; scans of text usually have 200 to 300
LETTER = (0.0, 0.0, 612.0, 792.0)  # the box of a page that names none
MOST_POINTS, FEWEST_POINTS = 14_400, 3  # the sizes of a page that every viewer takes
PDF_HEAD = 1024  # a PDF's signature stands somewhere in its first 1024 bytes
FONT_NAME = "HiddenText"
LAYER_FONT = "F1"  # the font's name in a layer alone, because OCRmyPDF takes over no font of another name

Sources = Mapping[str, PictureSource]


@dataclass
class _Writing:
    """The PDF under construction and what its pages share."""

    pdf: pikepdf.Pdf
    font_object: pikepdf.Object
    font: HiddenFont = field(default_factory=HiddenFont)
    notes: list[str] = field(default_factory=list)


def render(pages: Iterable[PageLike], sources: Sources | None = None) -> bytes:
    """One PDF of all the pages. `sources` holds what a page's `file` stands for, where that is no path.

    Raises:
        OutputError: not one of the pages can be shown.
    """
    return render_with_notes(pages, sources)[0]


def render_with_notes(pages: Iterable[PageLike], sources: Sources | None = None) -> tuple[bytes, list[str]]:
    """`render`, and a sentence for each page that had to be left out.

    Raises:
        OutputError: not one of the pages can be shown.
    """
    import pikepdf

    pages = list(pages)
    cleaned = [clean(page).page for page in pages]
    sources = with_clean_names(pages, cleaned, sources)
    opened = _whole_document(cleaned, sources)
    pdf = opened or pikepdf.new()
    writing = _Writing(pdf, pdf.make_indirect(pikepdf.Dictionary(Type=pikepdf.Name.Font)))
    if opened is not None:
        for page, pdf_page in zip(cleaned, opened.pages, strict=True):
            _cover(writing, pdf_page, page)
    else:
        for name, members in groupby(cleaned, key=lambda page: page.file):
            _add_file(writing, name, list(members), sources.get(name, name))
    if not pdf.pages:
        raise OutputError(" ".join(writing.notes) or "there are no pages for a PDF")
    return _finish(writing), writing.notes


def render_text_only(pages: Iterable[PageLike]) -> bytes:
    """A PDF with nothing but the hidden text, on pages of the pictures' size: to be laid over other pages."""
    import pikepdf

    pdf = pikepdf.new()
    writing = _Writing(pdf, pdf.make_indirect(pikepdf.Dictionary(Type=pikepdf.Name.Font)))
    for page in (clean(page).page for page in pages):
        scale = POINTS_PER_INCH / (page.dpi or ASSUMED_DPI)
        box = (0.0, 0.0, page.width * scale, page.height * scale)
        pdf.add_blank_page(page_size=box[2:])
        fonts = pikepdf.Dictionary({f"/{LAYER_FONT}": writing.font_object})
        pdf.pages[-1].obj["/Resources"] = pikepdf.Dictionary(Font=fonts)
        content = layer(page.lines, _to_points(box, 0, page), writing.font, LAYER_FONT)
        pdf.pages[-1].obj["/Contents"] = _deflated(pdf, content)
    return _finish(writing)


def _whole_document(pages: Sequence[TextPage], sources: Sources) -> pikepdf.Pdf | None:
    """The PDF that all pages come from, if they are all of its pages in order; so its outline is kept."""
    if not pages or len({page.file for page in pages}) > 1:
        return None
    source = sources.get(pages[0].file, pages[0].file)
    if not _is_pdf(source):
        return None
    try:
        pdf = _open_pdf(source)
    except PictureError:
        return None  # told where the page is added
    numbers = [page.page for page in pages]
    return pdf if numbers == list(range(1, len(pdf.pages) + 1)) else None


def _add_file(writing: _Writing, name: str, pages: list[TextPage], source: PictureSource) -> None:
    """The pages of one input, each with its text; what cannot be shown is noted."""
    try:
        original = _open_pdf(source) if _is_pdf(source) else None
    except PictureError as error:
        writing.notes.append(str(error))
        return
    if original is None:
        for page in pages:
            _add_picture(writing, page, source)
        return
    found = [page for page in pages if page.page <= len(original.pages)]
    for page in pages:
        if page not in found:
            writing.notes.append(f"{name} has no page {page.page}, so it is left out of the PDF.")
    start = len(writing.pdf.pages)
    # All pages are copied before any gets text, because a page taken twice is copied from its first copy.
    for page in found:
        writing.pdf.pages.append(original.pages[page.page - 1])
    for index, page in enumerate(found, start):
        _cover(writing, writing.pdf.pages[index], page)


def _is_pdf(source: PictureSource) -> bool:
    if isinstance(source, bytes):
        return b"%PDF-" in source[:PDF_HEAD]
    if not isinstance(source, str | Path):
        return False
    try:
        with open(source, "rb") as file:
            return b"%PDF-" in file.read(PDF_HEAD)
    except (OSError, ValueError):
        return False


def _open_pdf(source: PictureSource) -> pikepdf.Pdf:
    import pikepdf

    assert isinstance(source, bytes | str | Path)  # _is_pdf has checked this
    try:
        return pikepdf.open(io.BytesIO(source) if isinstance(source, bytes) else source)
    except (pikepdf.PdfError, OSError) as error:
        name = "the PDF" if isinstance(source, bytes) else source
        raise PictureError(f"{name} cannot be written again with its text: {error}.") from error


# ---------------------------------------------------------------------------------------------------
# Pages


def _add_picture(writing: _Writing, page: TextPage, source: PictureSource) -> None:
    """A page that shows the picture, with its text."""
    import pikepdf

    try:
        embedded = embed(writing.pdf, source, page.page, page.file)
    except PictureError as error:
        writing.notes.append(str(error))
        return
    width, height = embedded.size
    scale = _points_per_pixel(page, embedded)
    box = pikepdf.Array([0, 0, round(width * scale, 3), round(height * scale, 3)])
    resources = pikepdf.Dictionary(
        XObject=pikepdf.Dictionary(Picture=embedded.image),
        Font=pikepdf.Dictionary({f"/{FONT_NAME}": writing.font_object}),
    )
    draw = _draw_picture(embedded, width * scale, height * scale)
    # The reader may have counted other pixels than the file has, so places are taken as shares of the page.
    to_points = _to_points((0, 0, width * scale, height * scale), 0, page)
    content = _deflated(writing.pdf, draw + layer(page.lines, to_points, writing.font, FONT_NAME))
    new = pikepdf.Dictionary(Type=pikepdf.Name.Page, MediaBox=box, Resources=resources, Contents=content)
    if page.quarter_turns:
        new.Rotate = 90 * page.quarter_turns
    writing.pdf.pages.append(pikepdf.Page(writing.pdf.make_indirect(new)))


def _points_per_pixel(page: TextPage, embedded: Embedded) -> float:
    # The picture may have been read at a smaller size than the file has.
    of_reading = page.dpi and page.dpi * max(embedded.size) / max(page.width, page.height)
    scale = POINTS_PER_INCH / (of_reading or embedded.dpi or ASSUMED_DPI)
    longest, shortest = max(embedded.size), min(embedded.size)
    return min(max(scale, FEWEST_POINTS / shortest), MOST_POINTS / longest)


def _draw_picture(embedded: Embedded, width: float, height: float) -> bytes:
    a, b, c, d, e, f = embedded.matrix
    values = (a * width, b * height, c * width, d * height, e * width, f * height)
    return f"q {' '.join(f'{value:.3f}' for value in values)} cm /Picture Do Q\n".encode("ascii")


def _cover(writing: _Writing, pdf_page: pikepdf.Page, page: TextPage) -> None:
    """Lay the text over a page of the source."""
    import pikepdf

    box = _visible_box(pdf_page)
    turns = int(_inherited(pdf_page, "/Rotate", 0)) // 90 % 4
    name = _unused_name(pdf_page)
    content = layer(page.lines, _to_points(box, turns, page), writing.font, name)
    if not content:
        return
    resources = pikepdf.Dictionary(dict(_inherited(pdf_page, "/Resources", {})))
    fonts = pikepdf.Dictionary(dict(resources.get("/Font", {})))
    fonts[f"/{name}"] = writing.font_object
    # Copies: other pages may share the dictionaries of this one.
    resources["/Font"] = fonts
    own = look_at(pdf_page)
    _take_hidden_text_off(writing.pdf, resources)
    pdf_page.obj["/Resources"] = resources
    pdf_page.obj["/Rotate"] = 90 * ((turns + page.quarter_turns) % 4)
    if own.has_visible_text:
        shown = page.file if page.page == 1 else f"{page.file}, page {page.page},"
        writing.notes.append(f"{shown} has text of its own, which stays: words of it are found twice.")
    # The list of streams is a new one, since a page that is taken twice shares the old one with its twin.
    streams = pdf_page.obj.get("/Contents", pikepdf.Array())
    listed = list(streams) if isinstance(streams, pikepdf.Array) else [streams]
    if own.kept is not None:
        listed = [_deflated(writing.pdf, own.kept)]
    # The page's own commands may leave another coordinate system behind.
    before, after = own.brackets()
    pdf_page.obj["/Contents"] = pikepdf.Array(
        [_deflated(writing.pdf, before), *listed, _deflated(writing.pdf, b"\n" + after + b"\n" + content)]
    )


def _take_hidden_text_off(pdf: pikepdf.Pdf, resources: pikepdf.Dictionary) -> None:
    """Replace forms that hold the hidden text of an older reading, as OCRmyPDF writes it."""
    import pikepdf

    forms = pikepdf.Dictionary(dict(resources.get("/XObject", {})))
    for name, form in list(forms.items()):
        if form.get("/Subtype") == pikepdf.Name.Form and (kept := look_at(form).kept) is not None:
            bare = _deflated(pdf, kept)
            for key, value in form.items():
                if key not in ("/Length", "/Filter", "/DecodeParms"):
                    bare[key] = value
            forms[name] = bare
    if forms:
        resources["/XObject"] = forms


def _visible_box(page: pikepdf.Page) -> tuple[float, float, float, float]:
    """(left, bottom, right, top) in points of what a viewer shows: the crop box within the media box."""
    media = _sorted_box(_inherited(page, "/MediaBox", LETTER))
    if media[0] == media[2] or media[1] == media[3]:
        media = LETTER  # as viewers do where the page has no area
    crop = _sorted_box(_inherited(page, "/CropBox", list(media)))
    both = (max(media[0], crop[0]), max(media[1], crop[1]), min(media[2], crop[2]), min(media[3], crop[3]))
    return both if both[0] < both[2] and both[1] < both[3] else media


def _sorted_box(values: Iterable[Any]) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = (float(value) for value in values)
    return (min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))


def _inherited(page: pikepdf.Page, key: str, default: Any) -> Any:
    """A value of the page, or of the nearest node above it in the page tree."""
    node: Any = page.obj
    depth = 0
    while node is not None and depth < 64:  # in damaged files the parents may form a circle
        if key in node:
            return node[key]
        node, depth = node.get("/Parent"), depth + 1
    return default


def _unused_name(page: pikepdf.Page) -> str:
    """A resource name that the page has not given to another font."""
    resources = _inherited(page, "/Resources", {})
    fonts = resources.get("/Font", {})
    number, name = 1, FONT_NAME
    while f"/{name}" in fonts:
        number, name = number + 1, f"{FONT_NAME}{number}"
    return name


def _to_points(box: tuple[float, float, float, float], turns: int, page: TextPage) -> ToPoints:
    """From pixels of the shown page to the page's own coordinates.

    Args:
        box: (left, bottom, right, top) of what is shown, in points.
        turns: quarter turns clockwise with which viewers show the page, its /Rotate.
    """
    left, bottom, right, top = box
    wide, high = right - left, top - bottom

    def to_points(point: Point) -> Point:
        """(x, y) in pixels of the picture -> (x, y) in points of the PDF page."""
        across, down = point[0] / page.width, point[1] / page.height
        if turns == 0:
            return (left + across * wide, top - down * high)
        if turns == 1:  # what is shown at the top left is the page's lower left corner
            return (left + down * wide, bottom + across * high)
        if turns == 2:
            return (right - across * wide, bottom + down * high)
        return (right - down * wide, top - across * high)

    return to_points


# ---------------------------------------------------------------------------------------------------
# Font and file


def _finish(writing: _Writing) -> bytes:
    """The file's content, once all pages are there."""
    import pikepdf

    _finish_font(writing)
    file = io.BytesIO()
    writing.pdf.save(file, object_stream_mode=pikepdf.ObjectStreamMode.generate, deterministic_id=True)
    return file.getvalue()


def _finish_font(writing: _Writing) -> None:
    """Fill in the font object, now that all codes are known."""
    from pikepdf import Array, Dictionary, Name, String

    pdf, font = writing.pdf, writing.font
    file = font_file()
    base = Name("/NanoocrHidden")
    descriptor = Dictionary(
        Type=Name.FontDescriptor,
        FontName=base,
        Flags=4,  # letters of its own, none of a standard set
        FontBBox=Array([0, DESCENT, round(max(WIDTHS) * UNITS), ASCENT]),
        ItalicAngle=0,
        Ascent=ASCENT,
        Descent=DESCENT,
        CapHeight=ASCENT,
        StemV=80,
        FontFile2=_deflated(pdf, file, Length1=len(file)),
    )
    descendant = Dictionary(
        Type=Name.Font,
        Subtype=Name.CIDFontType2,
        BaseFont=base,
        CIDSystemInfo=Dictionary(Registry=String("Adobe"), Ordering=String("Identity"), Supplement=0),
        FontDescriptor=pdf.make_indirect(descriptor),
        CIDToGIDMap=_deflated(pdf, font.glyphs()),
        DW=UNITS // 2,
        W=Array([1, Array(font.widths())]),
    )
    writing.font_object.Subtype = Name.Type0
    writing.font_object.BaseFont = base
    writing.font_object.Encoding = Name("/Identity-H")
    writing.font_object.DescendantFonts = Array([pdf.make_indirect(descendant)])
    writing.font_object.ToUnicode = _deflated(pdf, font.to_unicode())


def _deflated(pdf: pikepdf.Pdf, content: bytes, **entries: int) -> pikepdf.Object:
    from pikepdf import Name

    stream = pdf.make_stream(zlib.compress(content, 9), **entries)
    stream.Filter = Name.FlateDecode
    return stream
