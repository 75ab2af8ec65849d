"""`nanoocr read` of pages that no file can hold as they are: valid files, and a sentence for each page."""

import csv
import io
import json
import os
import re
from pathlib import Path

import pypdfium2
import pytest
from lxml import etree
from PIL import Image

from nanoocr import cli
from nanoocr.document import Box, Line, Word
from nanoocr.errors import PictureError
from nanoocr.formats import FORMATS
from nanoocr.formats.clean import FORBIDDEN
from nanoocr.inference.engine import TokenCount
from nanoocr.inference.page import Page, error_page
from nanoocr.inference.reader import Reader

WIDTH, HEIGHT = 240, 120
GOOD = Box(20, 30, 60, 50)
BAD = {
    "forbidden": [("nul\x00", GOOD), ("ok\x0b\ufffe", Box(70, 30, 110, 50))],
    "flat": [("flat", Box(30, 30, 30, 50)), ("low", Box(50, 50, 80, 50))],
    "outside": [("gone", Box(900, -50, 990, -20)), ("half", Box(200, 90, 300, 150))],
    "many": [
        (f"w{i}", Box(i % 100 * 2.4, i // 100 * 1.2, i % 100 * 2.4 + 2, i // 100 * 1.2 + 1.1))
        for i in range(10_000)
    ],
    "empty": [],
}
NOTES = {
    "forbidden": "note: forbidden.png: 3 characters that XML forbids were left out.",
    "flat": "note: flat.png: 2 words that stood outside the page or had no size were moved into it.",
    "outside": "note: outside.png: 2 words that stood outside the page or had no size were moved into it.",
}
ALL = f"--format={','.join(FORMATS)}"


def page_of(picture):
    """The words of BAD for a file of that name; the second page of any file cannot be read."""
    if picture.image is None or picture.page == 2:
        error = picture.error or PictureError(f"{picture.file}, page 2, is damaged.")
        return error_page(picture._replace(image=None, error=error))
    words = [Word(text, box.quad(), 0.9) for text, box in BAD.get(Path(picture.file).stem, [("word", GOOD)])]
    rows = [words[start : start + 100] for start in range(0, len(words), 100)]
    lines = tuple(Line(" ".join(word.text for word in row), row[0].quad, 0.9, tuple(row)) for row in rows)
    text = "\n".join(line.text for line in lines)
    return Page(
        picture.file, picture.page, text, "ok", None, 0.1, TokenCount(1, 1, 1), 0.9, lines, WIDTH, HEIGHT
    )


@pytest.fixture
def read(tmp_path, monkeypatch, capsys):
    """Run the command in a folder of pictures: (exit code, stdout, the notes and errors of stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Reader, "__init__", lambda self, *_, **__: setattr(self, "by_lines", True))
    monkeypatch.setattr(Reader, "read_pictures", lambda _, pictures, *__, **___: map(page_of, pictures))
    picture = Image.new("L", (WIDTH, HEIGHT), 255)
    for name in BAD:
        picture.save(f"{name}.png")
    picture.save("half.pdf", save_all=True, append_images=[picture])

    def call(*arguments):
        code = cli.main(["read", *arguments])
        out, err = capsys.readouterr()
        return code, out, [line for line in err.splitlines() if line.startswith(("note:", "error:"))]

    return call


def boxes_of_xml(name, root):
    """(left, top, right, bottom) of every word of an hOCR, ALTO or PAGE file."""
    if name == "hocr":
        titles = root.xpath("//*[@class='ocrx_word']/@title")
        return [
            tuple(map(int, re.match(r"bbox (\d+) (\d+) (\d+) (\d+)", title).groups())) for title in titles
        ]
    if name == "alto":
        rows = [
            [int(word.get(key)) for key in ("HPOS", "VPOS", "WIDTH", "HEIGHT")]
            for word in root.iter("{*}String")
        ]
        return [(left, top, left + wide, top + tall) for left, top, wide, tall in rows]
    outlines = root.xpath("//*[local-name()='Word']/*[local-name()='Coords']/@points")
    quads = [[tuple(map(int, point.split(","))) for point in outline.split()] for outline in outlines]
    return [(*map(min, zip(*quad, strict=True)), *map(max, zip(*quad, strict=True))) for quad in quads]


def boxes_of(name, path):
    """The same for every format that has places."""
    if name in ("hocr", "alto", "page"):
        return boxes_of_xml(name, etree.parse(path).getroot())
    if name == "json":
        words = [
            word
            for page in json.loads(path.read_text())["pages"]
            for line in page["lines"]
            for word in line["words"]
        ]
        quads = [word["quad"] for word in words]
        return [(*map(min, zip(*quad, strict=True)), *map(max, zip(*quad, strict=True))) for quad in quads]
    rows = list(csv.DictReader(path.open(), delimiter="\t", quoting=csv.QUOTE_NONE))
    words = [row for row in rows if row["level"] == "5"]
    places = [[int(row[key]) for key in ("left", "top", "width", "height")] for row in words]
    return [(left, top, left + wide, top + tall) for left, top, wide, tall in places]


def test_bad_pages_give_valid_files_and_one_sentence_each(read):
    names = [f"{name}.png" for name in BAD]
    code, _, told = read(*names, "none.png", ALL, "-o", "out")
    assert code == 5
    assert told == [*NOTES.values(), "error: none.png does not exist."]
    for stem, words in BAD.items():
        expected = [FORBIDDEN.sub("", text) for text, _ in words]
        for name in ("json", "hocr", "alto", "page", "tsv"):
            boxes = boxes_of(name, Path(f"out/{stem}{FORMATS[name].suffix}"))
            assert len(boxes) == len(expected), (stem, name)
            for left, top, right, bottom in boxes:
                assert 0 <= left < right <= WIDTH and 0 <= top < bottom <= HEIGHT, (stem, name)
        for name in ("txt", "md"):
            assert Path(f"out/{stem}{FORMATS[name].suffix}").read_text().split() == expected
        (page,) = pypdfium2.PdfDocument(f"out/{stem}.pdf")
        assert sorted(page.get_textpage().get_text_range().split()) == sorted(expected), stem


def test_a_page_with_an_error_among_good_ones(read):
    code, _, told = read("half.pdf", ALL, "-o", "out")
    assert (code, told) == (5, ["error: half.pdf, page 2, is damaged."])
    pages = json.loads(Path("out/half.json").read_text())["pages"]
    assert [page["error"] for page in pages] == [None, "half.pdf, page 2, is damaged."]
    assert Path("out/half.txt").read_text() == "word\n\f\n"
    for name in ("alto", "page"):
        counts = [
            len(boxes_of(name, Path(f"out/half-{number:04d}{FORMATS[name].suffix}"))) for number in (1, 2)
        ]
        assert counts == [1, 0]
    assert len(boxes_of("hocr", Path("out/half.hocr"))) == len(boxes_of("tsv", Path("out/half.tsv"))) == 1
    texts = [page.get_textpage().get_text_range().strip() for page in pypdfium2.PdfDocument("out/half.pdf")]
    assert texts == ["word", ""]


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "txt"])
def test_a_single_document_tells_what_it_left_out(read, name):
    code, _, told = read("forbidden.png", f"--format={name}", "-o", "x.out")
    assert (code, told) == (0, [NOTES["forbidden"]])


@pytest.mark.parametrize("flags", [["-o", "out"], ["--format=hocr", "-o", "out/flat.hocr"]])
def test_an_output_that_exists_is_replaced_whole_or_not_at_all(read, monkeypatch, flags):
    def fail(*_):
        raise OSError(28, "No space left on device")

    places = [Path("out", f"flat{kind.suffix}") for kind in FORMATS.values()]
    Path("out").mkdir()
    for place in places:
        place.write_text("an older reading")
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fail)
        code, _, told = read("flat.png", ALL if flags[1] == "out" else "-q", *flags)
    assert code == 6 and "cannot be written: No space left on device" in told[-1]
    assert [place.read_text() for place in places] == ["an older reading"] * len(places)
    assert sorted(Path("out").iterdir()) == sorted(places)  # nothing half written is left beside them
    assert read("flat.png", ALL if flags[1] == "out" else "-q", *flags)[0] == 0
    assert all("older" not in path.read_bytes().decode("latin-1") for path in places if flags[1] == "out")


def test_a_name_that_is_no_unicode_is_found_again(read):
    path = os.fsdecode(b"sc\xffan.png")
    try:
        Path("empty.png").rename(path)
    except OSError:
        pytest.skip("this file system takes no such name")
    assert read(path, ALL, "-o", "out")[0] == 0
    assert len(pypdfium2.PdfDocument(io.BytesIO(Path("out", os.fsdecode(b"sc\xffan.pdf")).read_bytes()))) == 1
    assert "word" in Path("out", os.fsdecode(b"sc\xffan.txt")).read_text()
