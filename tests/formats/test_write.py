"""Files that are written whole or not at all, under names that say what they hold."""

import os
import signal
import subprocess
import sys
from pathlib import Path, PurePath

import pytest
from format_pages import make_page
from PIL import Image

from nanoocr.document import Box, Line, TextPage, Word
from nanoocr.errors import OutputError, UsageError
from nanoocr.formats import FORMATS, name_outputs, save, write
from nanoocr.inference.engine import TokenCount
from nanoocr.inference.page import Page
from nanoocr.pictures import find_dpi, open_image

LINE = Line("word", Box(1, 1, 40, 20).quad(), 0.9)


def names(written):
    return [path.name for path in written.paths]


def test_all_formats_at_once(tmp_path):
    page, png = make_page(file="scan.v2.png")
    written = write([page], list(FORMATS), tmp_path / "out", {"scan.v2.png": png})
    assert names(written) == [f"scan.v2{chosen.suffix}" for chosen in FORMATS.values()]
    assert all(path.stat().st_size > 100 for path in written.paths)
    assert written.notes == []


def test_a_file_for_each_page_where_the_format_wants_it(tmp_path):
    pages = [TextPage("book.pdf", number, 50, 50, (LINE,)) for number in (1, 2, 12)]
    written = write(pages, ["txt", "alto"], tmp_path)
    assert names(written) == ["book.txt", "book-0001.alto.xml", "book-0002.alto.xml", "book-0012.alto.xml"]
    assert names(write(pages[1:2], ["page"], tmp_path)) == ["book-0002.page.xml"]


def test_inputs_of_one_name_do_not_overwrite_each_other(tmp_path):
    pages = [TextPage(name, 1, 50, 50, (LINE,)) for name in ("a/x.png", "b/x.jpg", "c/x.jpg", "y.png", "-")]
    assert names(write(pages, ["txt"], tmp_path)) == [
        "x.png.txt",
        "x.jpg.txt",
        "x.jpg-2.txt",
        "y.txt",
        "page.txt",
    ]


def test_an_output_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    page = TextPage("x.png", 1, 50, 50, (LINE,))
    path = tmp_path / "x.txt"
    path.write_text("older and much longer than what comes next\n" * 9)
    write([page], ["txt"], tmp_path)
    assert path.read_text() == "word\n"

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OutputError, match=r"x\.txt cannot be written: No space left"):
        write([TextPage("x.png", 1, 50, 50)], ["txt"], tmp_path)
    assert path.read_text() == "word\n"


def test_what_was_read_is_not_overwritten(tmp_path):
    source = tmp_path / "x.pdf"
    source.write_bytes(b"%PDF-1.4 the only copy")
    with pytest.raises(UsageError, match="what was read"):
        write([TextPage(str(source), 1, 50, 50)], ["pdf"], tmp_path)
    assert source.read_bytes() == b"%PDF-1.4 the only copy"


def test_notes_tell_what_was_left_out(tmp_path):
    bad = TextPage("x.png", 1, 50, 50, (Line("a\x00", LINE.quad, words=(Word("a\x00", LINE.quad),)),))
    whole = TextPage("y.png", 1, 50, 50, text="no lines")
    written = write([bad, whole], ["txt", "hocr", "pdf"], tmp_path)
    assert written.notes == [
        "x.png: 1 characters that XML forbids were left out.",
        "no PDF was written: x.png is not to be found, so it cannot be put into a PDF.",
        "y.png: its text has no places, so hocr, pdf hold none of it.",
        "no PDF was written: y.png is not to be found, so it cannot be put into a PDF.",
    ]
    assert names(written) == ["x.txt", "x.hocr", "y.txt", "y.hocr"]


def test_an_unknown_format_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(UsageError, match="unknown format 'docx': choose txt, json"):
        write([TextPage("x.png", 1, 50, 50)], ["txt", "docx"], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_page_that_was_read_gives_every_text_format_as_text():
    word = Word("Łódź", Box(10, 20, 90, 50).quad(), 0.9)
    line = Line("Łódź", word.quad, 0.9, (word,))
    page = Page("scan.png", 1, "Łódź", "ok", None, 0.1, TokenCount(0, 0, 0), 0.9, (line,), 200, 100)
    for text in (page.to_hocr(), page.to_alto(), page.to_page_xml(), page.to_markdown()):
        assert isinstance(text, str) and "Łódź" in text
    assert page.lines[0].words[0].box == Box(10, 20, 90, 50) == page.lines[0].box


@pytest.mark.parametrize(
    ("dpi", "known"), [((600, 600), 600), ((204, 98), 204), ((1, 1), None), (None, None)]
)
def test_the_resolution_of_a_picture_stays_with_it(tmp_path, dpi, known):
    path = tmp_path / "scan.png"
    Image.new("L", (60, 40), 255).save(path, **({} if dpi is None else {"dpi": dpi}))
    assert find_dpi(open_image(path)) == (None if known is None else pytest.approx(known, abs=0.1))


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from format_pages import make_page
from nanoocr.formats import FORMATS, name_outputs, save, write
os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
page, png = make_page(file="scan.png")
write([page], [{name!r}], Path({folder!r}), {{"scan.png": png}})
"""


@pytest.mark.parametrize("name", ["pdf", "alto"])
def test_a_kill_while_a_file_is_written_leaves_the_older_one(tmp_path, name):
    target = tmp_path / f"scan{FORMATS[name].suffix}"
    target.write_text("older")
    folder = os.path.dirname(__file__)
    code = KILLED.format(tests=folder, folder=str(tmp_path), name=name)
    environment = {**os.environ, "PYTHONPATH": os.path.dirname(os.path.dirname(folder))}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
    assert done.returncode == -signal.SIGKILL
    assert target.read_text() == "older"


def test_no_page_of_one_input_takes_the_file_of_another():
    places = [PurePath(name) for name in ("scan.tif", "scan-0002.png", "other-0002.png", "a/scan-0002.png")]
    right = ["scan", "scan-0002.png", "other-0002", "a/scan-0002"]
    assert [str(stem) for stem in name_outputs(places, numbered=True)] == right
    assert [str(stem) for stem in name_outputs(places)] == ["scan", "scan-0002", "other-0002", "a/scan-0002"]


def test_long_names_leave_room_for_suffixes():
    places = [PurePath("é" * 120 + end) for end in ("1.png", "2.png", ".tif")]
    stems = name_outputs(places)
    assert len(set(stems)) == 3
    assert all(len(str(stem).encode()) <= 210 for stem in stems)


def test_a_link_leads_to_the_file_that_is_written(tmp_path):
    (tmp_path / "real.pdf").write_bytes(b"old")
    (tmp_path / "link.pdf").symlink_to("real.pdf")
    save(tmp_path / "link.pdf", b"new")
    assert (tmp_path / "link.pdf").is_symlink()
    assert (tmp_path / "real.pdf").read_bytes() == b"new"


def test_an_open_file_is_written_to_and_not_replaced(tmp_path):
    with open(tmp_path / "log", "wb") as log:
        log.write(b"before ")
        log.flush()
        save(Path(f"/dev/fd/{log.fileno()}"), b"text")
    assert (tmp_path / "log").read_bytes() == b"before text"
    assert [path.name for path in tmp_path.iterdir()] == ["log"]
