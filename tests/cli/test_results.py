"""`nanoocr read` with formats, folders and overlays: a stand-in reads, so that the words are known."""

import base64
import io
import json
import re
import sys
from pathlib import Path

import pypdfium2
import pytest
from lxml import etree
from PIL import Image

import nanoocr
import nanoocr.pages
from nanoocr import cli
from nanoocr.document import Box, Line, Word
from nanoocr.errors import UsageError
from nanoocr.inference.engine import TokenCount
from nanoocr.inference.page import Page, error_page
from nanoocr.inference.reader import Reader
from nanoocr.machine import choose_threads

FORMATS = {
    "txt": "a.txt",
    "json": "a.json",
    "md": "a.md",
    "hocr": "a.hocr",
    "alto": "a.alto.xml",
    "page": "a.page.xml",
    "tsv": "a.tsv",
    "pdf": "a.pdf",
}


def page_of(picture) -> Page:
    """One line in a picture: its file's stem and the word `page` with its number."""
    if picture.image is None:
        return error_page(picture)
    texts = [Path(picture.file).stem.lstrip("-") or "stdin", f"page{picture.page}"]
    boxes = [Box(20, 30, 100, 50), Box(110, 30, 180, 50)]
    words = tuple(Word(text, box.quad(), 0.9) for text, box in zip(texts, boxes, strict=True))
    line = Line(" ".join(texts), Box(20, 30, 180, 50).quad(), 0.9, words)
    tokens, size = TokenCount(4, 5, 6), picture.image.size
    return Page(
        picture.file, picture.page, line.text, "ok", None, 0.1, tokens, 0.9, (line,), *size, left_out=2
    )


@pytest.fixture
def read(tmp_path, monkeypatch, capsys):
    """Run the command in a folder of pictures: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Reader, "__init__", lambda self, *_, **__: setattr(self, "by_lines", True))
    monkeypatch.setattr(Reader, "read_pictures", lambda _, pictures, *__, **___: map(page_of, pictures))
    picture = Image.new("RGB", (240, 120), "white")
    picture.save("a.png")
    picture.save("b.jpg")
    picture.save("two.pdf", save_all=True, append_images=[picture])
    Path("tree/deep").mkdir(parents=True)
    picture.save("tree/a.png")
    picture.save("tree/deep/a.png")
    picture.save("tree/deep/a.tif")

    def call(*arguments: str) -> tuple[int, str, str]:
        code = cli.main(["read", *arguments])
        return code, *capsys.readouterr()

    return call


def written(folder: str) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())


def pdf_words(path: str) -> list[list[str]]:
    return [page.get_textpage().get_text_range().split() for page in pypdfium2.PdfDocument(path)]


def test_all_formats_at_once(read):
    code, out, err = read("a.png", f"--format={','.join(FORMATS)}", "-o", "out")
    assert (code, out) == (0, "")
    assert written("out") == sorted(FORMATS.values())
    assert Path("out/a.txt").read_text() == "a page1\n"
    assert json.loads(Path("out/a.json").read_text())["pages"][0]["lines"][0]["words"][1]["text"] == "page1"
    assert pdf_words("out/a.pdf") == [["a", "page1"]]
    for name in ("a.alto.xml", "a.page.xml", "a.hocr"):
        etree.parse(f"out/{name}")
    assert "a.png: ok, 6 tokens" in err


def test_marks_of_doubt(read):
    """On the screen, in one file and in a folder; JSON has confidences instead."""
    assert read("a.png", "--mark_below=0.95")[1] == "[a page1?]\n"
    assert read("a.png", "--mark_below=0.9")[1] == "a page1\n"
    assert read("two.pdf", "--mark_below=1", "--format=md")[1].count("?") == 2
    assert read("a.png", "--mark_below=1", "--format=txt,json", "-o", "out/")[0] == 0
    assert Path("out/a.txt").read_text() == "[a page1?]\n" and "?" not in Path("out/a.json").read_text()
    assert "leave it out, or add --format=txt" in read("a.png", "--mark_below=1", "--json")[2]


def test_a_document_of_several_pages(read):
    assert read("two.pdf", "--format=txt,alto,pdf", "-o", "out/")[0] == 0
    assert written("out") == ["two-0001.alto.xml", "two-0002.alto.xml", "two.pdf", "two.txt"]
    assert Path("out/two.txt").read_text() == "two page1\n\ftwo page2\n"
    assert pdf_words("out/two.pdf") == [["two", "page1"], ["two", "page2"]]


def test_a_tree_of_scans_gives_the_same_tree_of_texts(read):
    assert read("tree", "-o", "out/")[0] == 0
    assert written("out") == ["a.txt", "deep/a.png.txt", "deep/a.tif.txt"]


def test_inputs_of_one_name_do_not_share_a_file(read):
    assert read("a.png", "tree/a.png", "a.png", "-o", "out/")[0] == 0
    assert written("out") == ["a.png-2.txt", "a.png-3.txt", "a.png.txt"]


def test_json_into_a_folder_is_the_format(read):
    assert read("a.png", "--json", "-o", "out/")[0] == 0
    assert written("out") == ["a.json"]


@pytest.mark.parametrize("name", ["json", "md", "hocr", "alto", "page", "tsv"])
def test_one_format_goes_to_stdout_or_a_file(read, name):
    code, out, _ = read("a.png", f"--format={name}")
    assert code == 0 and "page1" in out
    Path("x.out").write_text("an older reading, which is longer" * 999)
    assert read("a.png", f"--format={name}", "-o", "x.out")[:2] == (0, "")
    assert re.sub(r"\d\d:\d\d:\d\d", "", Path("x.out").read_text()) == re.sub(r"\d\d:\d\d:\d\d", "", out)


def test_one_pdf_of_many_inputs(read, monkeypatch):
    content = Path("b.jpg").read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    assert read("a.png", "two.pdf", "-", "--format=pdf", "-o", "all.pdf")[0] == 0
    assert pdf_words("all.pdf") == [["a", "page1"], ["two", "page1"], ["two", "page2"], ["stdin", "page1"]]
    assert content in Path("all.pdf").read_bytes()  # the JPEG as it was


def test_what_cannot_be_read_gets_no_file_and_the_others_do(read):
    code, _, err = read("none.png", "a.png", "-o", "out/")
    assert (code, written("out")) == (5, ["a.txt"])
    assert "error: none.png does not exist" in err
    Path("old.md").write_text("an older reading")
    assert read("none.png", "--format=md", "-o", "old.md")[0] == 3
    assert Path("old.md").read_text() == "an older reading"


def test_what_is_left_out_is_told(read):
    assert "a.png: 2 places left out" in read("a.png")[2]
    assert read("a.png", "-q")[2] == ""
    assert json.loads(read("a.png", "--json")[1])["left_out"] == 2


def test_overlays_are_drawn_beside_the_results(read):
    code, out, _ = read("a.png", "two.pdf", "none.png", "tree", "--overlay=look")
    assert code == 5 and "a page1" in out
    deep = ["deep/a.png.overlay.png", "deep/a.tif.overlay.png"]
    a = ["a.png-2.overlay.png", "a.png.overlay.png"]
    assert written("look") == [*a, *deep, "two-0002.overlay.png", "two.overlay.png"]
    drawn = Image.open("look/a.png.overlay.png")
    assert drawn.size == (240, 120)
    assert drawn.getpixel((60, 34)) != (255, 255, 255)


def test_an_overlay_as_svg_holds_its_picture(read):
    assert read("a.png", "two.pdf", "--overlay=look", "--overlay_format=svg,png")[0] == 0
    stems = ["a.overlay", "two-0002.overlay", "two.overlay"]
    assert written("look") == [f"{stem}.{kind}" for stem in stems for kind in ("png", "svg")]
    root = etree.parse("look/a.overlay.svg").getroot()
    assert root.xpath("//*[local-name()='text']/text()") == ["1", "90%"]
    assert root.xpath("//*[local-name()='polygon']/*/text()") == ["a 90%", "page1 90%"]
    (address,) = root.xpath("//*[local-name()='image']/@href")
    held = Image.open(io.BytesIO(base64.b64decode(address.removeprefix("data:image/jpeg;base64,"))))
    assert held.size == (240, 120)


def test_overlays_that_cannot_be_meant(read):
    assert "--overlay=DIR" in read("a.png", "--overlay_format=svg")[2]
    assert "choose png, svg" in read("a.png", "--overlay=look", "--overlay_format=gif")[2]
    Path("b.jpg").rename("a.overlay.png")  # an input where an overlay would go
    code, _, err = read("a.png", "a.overlay.png", "--overlay=.")
    assert code == 2 and "a.overlay.png, which is to be read" in err


def test_an_input_is_never_replaced(read):
    before = Path("two.pdf").read_bytes()
    for output in ("two.pdf", "./"):
        code, _, err = read("a.png", "two.pdf", "--format=pdf", "-o", output)
        assert code == 2 and "two.pdf, which is to be read" in err
    assert Path("two.pdf").read_bytes() == before


@pytest.mark.parametrize(
    "flags", [["-o", "a.png/"], ["--format=md", "-o", "no/such/x.md"], ["--overlay=a.png"]]
)
def test_a_place_that_cannot_be_written(read, flags):
    code, out, err = read("b.jpg", *flags)
    assert (code, out) == (6, "")
    assert re.fullmatch(r"error: [^\n]* cannot be written: [^\n]*\n", err)


def test_a_device_stays_a_device(read):
    assert read("a.png", "--format=md", "-o", "/dev/null")[0] == 0
    assert not Path("/dev/null").is_file()


def test_python_draws_saves_and_merges(read, tmp_path):
    from nanoocr.pages import open_source

    pages = [page_of(picture) for name in ("a.png", "two.pdf") for picture in open_source(name)]
    assert nanoocr.draw(pages[0]).size == (240, 120)
    assert nanoocr.draw(pages[2]).size == (pages[2].width, pages[2].height)
    pages[0].save_pdf("one.pdf")
    assert nanoocr.merge_pdf(pages, "all.pdf") == []
    assert pdf_words("one.pdf") == [["a", "page1"]]
    assert pdf_words("all.pdf") == [["a", "page1"], ["two", "page1"], ["two", "page2"]]
    with pytest.raises(UsageError, match=r"two\.pdf"):
        nanoocr.merge_pdf(pages, "two.pdf")


def test_threads_are_as_many_as_are_idle(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    monkeypatch.setattr("torch.get_num_threads", lambda: 4)
    for load, expected in ((0.2, 4), (5.8, 2), (9.0, 1)):
        monkeypatch.setattr("os.getloadavg", lambda load=load: (load, 0, 0))
        assert choose_threads() == expected
    assert choose_threads(7) == 7
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert choose_threads() == 0


def test_the_examples_of_the_guide_run(read, capsys):
    guide = (Path(__file__).parents[2] / "docs" / "guide" / "read.md").read_text()
    shell = [block.splitlines() for block in re.findall(r"```sh\n(.*?)```", guide, re.DOTALL)]
    commands = [line.split()[2:] for block in shell for line in block]
    assert len(commands) == 12
    for command in commands:
        assert read(*command)[0] == 0, command
    assert {"a.txt", "texts", "out", "all.pdf", "look"} <= {path.name for path in Path().iterdir()}
    (example,) = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    patched = example.replace("reader.read(", "read(")  # the stand-in reads pictures, not names

    def read_file(name):
        pages = [page_of(picture) for picture in nanoocr.pages.open_source(name)]
        return pages if len(pages) > 1 else pages[0]

    exec(patched, {"read": read_file})
    assert capsys.readouterr().out.startswith("a page1\n")
    assert pdf_words("all.pdf") == [["a", "page1"], ["two", "page1"], ["two", "page2"]]
