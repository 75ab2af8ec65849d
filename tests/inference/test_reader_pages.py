"""Pages of PDFs and TIFFs, and ranges of pages."""

from __future__ import annotations

import io

import pypdfium2
import pytest
from PIL import Image, TiffImagePlugin

from nanoocr.errors import PictureError, UsageError
from nanoocr.pages import PageRanges, open_source, parse_pages
from tests.inference.encoded_files import encoded, pdf, picture


def test_pdf_pages(reader):
    pages = reader.read(pdf((200, 90), (90, 200), (200, 90)), max_tokens=4)
    assert [(page.page, page.status) for page in pages] == [
        (1, "truncated"),
        (2, "truncated"),
        (3, "truncated"),
    ]
    assert reader.read(pdf((200, 90)), max_tokens=4).page == 1
    chosen = reader.read(pdf((200, 90), (90, 200)), pages=parse_pages("2,1,end"), max_tokens=4)
    assert [page.page for page in chosen] == [2, 1, 2]
    with pytest.raises(PictureError, match="has 2 pages, so there is no page 3"):
        reader.read(pdf((200, 90), (90, 200)), pages=parse_pages("1-3"))


@pytest.mark.parametrize("name", ["~draft.pdf", "~"])
def test_a_tilde_is_a_letter_like_others(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(pdf((72, 36)))
    (page,) = open_source(name)
    assert (page.file, page.error) == (name, None)


def test_a_bad_page_spoils_only_itself(reader):
    pages = reader.read(pdf((200, 90), (20_000, 20_000), (90, 200)), max_tokens=4)
    assert [page.status for page in pages] == ["truncated", "error", "truncated"]
    assert "page 2" in pages[1].error


def test_a_bad_first_page_does_not_lose_the_others(reader):
    pages = reader.read(pdf((20_000, 20_000), (90, 200)), max_tokens=4)
    assert [(page.page, page.status) for page in pages] == [(1, "error"), (2, "truncated")]
    with pytest.raises(PictureError, match="page 1"):  # the only page that is asked for
        reader.read(pdf((20_000, 20_000), (90, 200)), pages=parse_pages("1"))


def test_pdf_is_rendered_one_page_at_a_time(monkeypatch):
    rendered = []
    render = pypdfium2.PdfPage.render
    monkeypatch.setattr(pypdfium2.PdfPage, "render", lambda *a, **k: rendered.append(1) or render(*a, **k))
    pages = open_source(pdf((72, 36), (72, 36), (72, 36)))
    first = next(pages)
    assert first.image.size == (200, 100)  # 200 dpi
    assert len(rendered) == 1
    pages.close()


def tiff(*pages: Image.Image) -> bytes:
    out = io.BytesIO()
    pages[0].save(out, "TIFF", save_all=True, append_images=pages[1:])
    return out.getvalue()


def test_tiff_pages(reader, tmp_path):
    alone = [pytest.approx(reader.read(picture(seed), max_tokens=4).confidence) for seed in range(3)]
    assert alone[0] != alone[2].expected
    content = tiff(*map(picture, range(3)))
    (tmp_path / "scan.tif").write_bytes(content)
    for source in (content, tmp_path / "scan.tif"):
        pages = reader.read(source, max_tokens=4)
        assert [(page.page, page.confidence) for page in pages] == list(enumerate(alone, start=1))
    chosen = reader.read(content, pages=parse_pages("3,1"), max_tokens=4)
    assert [page.confidence for page in chosen] == [alone[2], alone[0]]
    with pytest.raises(PictureError, match="has 3 pages, so there is no page 4"):
        reader.read(content, pages=parse_pages("4"))


@pytest.mark.parametrize("source", [encoded(picture(0)), picture(0)])
def test_a_picture_that_never_has_more_pages_ignores_pages(source):
    (page,) = open_source(source, pages=parse_pages("4"))
    assert (page.page, page.image.size) == (1, (200, 90))


def test_a_tiff_of_one_page_has_no_second():
    (page,) = open_source(tiff(picture(0)), "a.tif", pages=parse_pages("1-end"))
    assert (page.page, page.image.size) == (1, (200, 90))
    (page,) = open_source(tiff(picture(0)), "a.tif", pages=parse_pages("2-end"))
    assert str(page.error) == "a.tif has 1 page, so there is no page 2."


def test_an_opened_tiff_is_the_picture_at_which_it_stands():
    image = Image.open(io.BytesIO(tiff(picture(0), picture(1, (30, 20)))))
    image.seek(1)
    (page,) = open_source(image)
    assert page.image.size == (30, 20)


def test_a_bad_frame_spoils_only_itself(tmp_path):
    pages = [picture(seed) for seed in range(3)]
    (tmp_path / "scan.tif").write_bytes(tiff(*pages)[:-1000])
    first, second, third = open_source(tmp_path / "scan.tif")
    assert (first.image.tobytes(), second.image.tobytes()) == (pages[0].tobytes(), pages[1].tobytes())
    assert third.image is None
    assert str(third.error).startswith(f"{tmp_path / 'scan.tif'}, page 3, is damaged or cut off")


def test_a_tiff_is_read_from_disk_once_and_decoded_page_by_page(tmp_path, monkeypatch):
    (tmp_path / "scan.tif").write_bytes(tiff(*map(picture, range(3))))
    pages = open_source(tmp_path / "scan.tif")
    next(pages)
    (tmp_path / "scan.tif").unlink()
    decoded = []
    load = TiffImagePlugin.TiffImageFile.load
    monkeypatch.setattr(TiffImagePlugin.TiffImageFile, "load", lambda s: decoded.append(s.tell()) or load(s))
    next(pages)
    assert set(decoded) == {1}
    pages.close()


@pytest.mark.parametrize(
    ("text", "ranges", "chosen"),
    [
        ("1-end", ((1, 0),), [1, 2, 3, 4, 5]),
        ("1-3,2,end", ((1, 3), (2, 2), (0, 0)), [1, 2, 3, 2, 5]),
        ("4-end, 1", ((4, 0), (1, 1)), [4, 5, 1]),
    ],
)
def test_page_ranges(text, ranges, chosen):
    assert parse_pages(text) == PageRanges(ranges)
    assert parse_pages(text).select(5, "x") == chosen


@pytest.mark.parametrize("text", ["", "0", "3-1", "a", "1,,2", "1-", "-1", "end-2", "1-2-3", "1.5", "\u0661"])
def test_bad_page_ranges(text):
    with pytest.raises(UsageError, match="pages"):
        parse_pages(text)
