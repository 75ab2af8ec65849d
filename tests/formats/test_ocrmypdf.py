"""The engine for OCRmyPDF: its tree, its manners towards other engines, and runs of the real program."""

import io
import json
import math
import os
import shutil
import subprocess
import sys
from argparse import ArgumentParser
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import entry_points
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pypdfium2
import pytest
from format_pages import encode, find_rule, iou, make_page
from pdf_word_readers import READERS, installed_readers
from PIL import Image, ImageDraw

from nanoocr.document import Box, Line, TextPage, hull
from nanoocr.errors import CheckpointError, PictureError
from nanoocr.formats import pdf

pytest.importorskip("ocrmypdf")
from nanoocr.cli import ocrmypdf_plugin as plugin

SIDE = Line("side label", ((40, 900), (40, 600), (80, 600), (80, 900)), block=7)


def test_the_tree_holds_all_words_in_the_one_order_that_is_drawn():
    page, _ = make_page()
    tree = plugin.make_element(page, 4)
    assert [child.ocr_class for child in tree.children] == ["ocr_par", "ocr_par"]
    assert {line.ocr_class for par in tree.children for line in par.children} == {"ocr_line"}
    words = [word for par in tree.children for line in par.children for word in line.children]
    assert [word.text for word in words] == page.text.split()
    assert (tree.dpi, tree.page_number, tree.bbox.right) == (150, 4, 1240)
    assert all(word.confidence == 0.9 for word in words)


def test_touching_words_are_set_apart():
    page, _ = make_page(touch=True)
    words = plugin.make_element(page).children[0].children[0].children
    assert all(after.bbox.left - word.bbox.right > 3 for word, after in pairwise(words))


@pytest.mark.parametrize(
    ("degrees", "textangle"), [(90.0, -90.0), (-90.0, 90.0), (180.0, 180.0), (0.0, None)]
)
def test_turned_lines_say_so(degrees, textangle):
    page, _ = make_page(("one two",), degrees=degrees)
    line = plugin.make_element(page).children[0].children[0]
    assert line.textangle == textangle and line.baseline is None


def test_only_strong_leans_get_a_slope():
    def slope(degrees):
        page, _ = make_page(("one two three",), degrees=degrees)
        return plugin.make_element(page).children[0].children[0].baseline

    assert slope(1.0) is None
    # Falling to the right is positive here, whatever the interface's own words say.
    assert slope(5.0).slope == pytest.approx(0.0875, abs=1e-3)
    assert slope(-5.0).slope == pytest.approx(-0.0875, abs=1e-3)


def test_the_lean_of_a_page_is_that_of_most_lines():
    page, _ = make_page(degrees=2.0)
    assert plugin.find_lean([*page.lines, SIDE]) == pytest.approx(2.0, abs=0.01)
    assert plugin.find_lean([]) == 0.0


def options(engine):
    return SimpleNamespace(ocr_engine=engine)


def test_other_engines_are_left_alone(monkeypatch):
    monkeypatch.setattr(plugin, "has_tesseract", lambda: True)
    assert isinstance(plugin.get_ocr_engine(options("nanoocr")), plugin.NanoocrEngine)
    assert [plugin.get_ocr_engine(options(name)) for name in ("auto", "tesseract", "none")] == [None] * 3
    assert plugin.register_options() == {}
    monkeypatch.setattr(plugin, "has_tesseract", lambda: False)
    assert isinstance(plugin.get_ocr_engine(options("auto")), plugin.NanoocrEngine)
    assert plugin.get_ocr_engine(options("none")) is None
    assert set(plugin.register_options()) == {"tesseract"}


def test_the_name_joins_the_choices():
    parser = ArgumentParser()
    parser.add_argument("--ocr-engine", choices=["auto", "none"])
    plugin.add_options(parser)
    assert parser.parse_args(["--ocr-engine", "nanoocr"]).ocr_engine == "nanoocr"


def test_a_page_that_cannot_be_read_is_empty_and_a_missing_model_ends_the_run(monkeypatch, tmp_path):
    path = tmp_path / "p.png"
    path.write_bytes(make_page(("x",))[1])

    def fail(error):
        def read(_):
            raise error

        monkeypatch.setattr(plugin, "read_for_ocrmypdf", read)

    for error in (PictureError("p.png is damaged."), RuntimeError("a defect")):
        fail(error)
        tree, text = plugin.NanoocrEngine.generate_ocr(path, None, 0)
        assert (tree.children, text, tree.bbox.right) == ([], "", 1240)
    fail(CheckpointError("no model"))
    with pytest.raises(plugin.MissingDependencyError, match="no model"):
        plugin.NanoocrEngine.generate_ocr(path, None, 0)


def test_hocr_and_text_only_pdf(monkeypatch, tmp_path):
    page, png = make_page()
    path = tmp_path / "p.png"
    path.write_bytes(png)
    monkeypatch.setattr(plugin, "read_for_ocrmypdf", lambda _: page)
    hocr, layer, text = tmp_path / "p.hocr", tmp_path / "p.pdf", tmp_path / "p.txt"
    plugin.NanoocrEngine.generate_hocr(path, hocr, text, None)
    assert text.read_text() == page.text and b"ocrx_word" in hocr.read_bytes()
    plugin.NanoocrEngine.generate_pdf(path, layer, text, None)
    read = pypdfium2.PdfDocument(layer.read_bytes())[0]
    assert read.get_textpage().get_text_range().split()[:3] == ["The", "quick", "brown"]
    assert read.get_width() == pytest.approx(1240 / 150 * 72, abs=0.5)


def test_pages_read_at_once_share_the_packaged_model(tmp_path):
    page, png = make_page(("The quick brown fox", "jumps over the lazy dog"), width=700, height=500)
    upright, side = tmp_path / "upright.png", tmp_path / "side.png"
    upright.write_bytes(png)
    Image.open(upright).rotate(90, expand=True).save(side, dpi=(150, 150))
    with ThreadPoolExecutor(2) as pool:
        trees = list(pool.map(lambda path: plugin.NanoocrEngine.generate_ocr(path, None, 0), [upright] * 2))
    assert [text.split() for _, text in trees] == [page.text.split()] * 2
    assert not plugin.MODEL.threads_at_work and plugin.MODEL.load() is plugin.MODEL.load()
    # The layout alone tells how a page lies; only a turned one is read for that.
    assert plugin.NanoocrEngine.get_orientation(upright, None) == (0, plugin.SURE)
    assert plugin.NanoocrEngine.get_orientation(side, None) == (270, plugin.SURE)
    assert plugin.NanoocrEngine.get_deskew(upright, None) == pytest.approx(0, abs=0.3)


# ---------------------------------------------------------------------------------------------------
# The real program, with a stand-in under the engine

DPI = 150
WORDS = [
    [("upper", (1.0, 1.0, 1.8, 1.25)), ("left", (1.9, 1.0, 2.4, 1.25))],
    [("lower", (3.0, 6.0, 3.8, 6.25)), ("right", (3.9, 6.0, 4.6, 6.25))],
]


def draw_page(blank=False):
    """A sheet of 5 x 7 inches with a mark at its top left and bars where the words stand."""
    picture = Image.new("L", (5 * DPI, 7 * DPI), 255)
    if not blank:
        pen = ImageDraw.Draw(picture)
        pen.rectangle((0, 0, DPI // 1.5, DPI // 1.5), fill=0)
        pen.rectangle((0.5 * DPI, 4 * DPI, 4.5 * DPI, 4.05 * DPI), fill=0)  # the rule that shows a lean
        for _, box in (word for line in WORDS for word in line):
            pen.rectangle([side * DPI for side in box], fill=90)
    return picture


class Runs:
    """Calls of `ocrmypdf` in a folder of their own."""

    def __init__(self, folder):
        self.folder, self.words = folder, folder / "words.json"
        self.words.write_text(json.dumps({"lines": WORDS}))

    def ocr(self, source, *flags, path=None, standin=True):
        """Run on a list of pictures or the bytes of a PDF; without the stand-in the packaged model reads."""
        given, target = self.folder / "in.pdf", self.folder / "out.pdf"
        if isinstance(source, list):
            options = {"save_all": True, "append_images": source[1:], "resolution": DPI}
            source = encode(source[0], "PDF", **options)
        given.write_bytes(source)
        loaded = any(entry.value == plugin.__name__ for entry in entry_points(group="ocrmypdf"))
        plugins = [] if loaded else ["--plugin", plugin.__name__]
        if standin:
            plugins += ["--plugin", str(Path(__file__).with_name("standin_reader.py"))]
        command = [sys.executable, "-m", "ocrmypdf", *plugins, "--output-type", "pdf", *flags]
        environment = {**os.environ, "NANOOCR_TEST_WORDS": str(self.words)}
        environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])
        if path is not None:
            environment["PATH"] = path
        done = subprocess.run([*command, given, target], env=environment, capture_output=True, text=True)
        return done, target


@pytest.fixture
def runs(tmp_path):
    return Runs(tmp_path)


def text_of(content):
    document = pypdfium2.PdfDocument(content)
    return [page.get_textpage().get_text_range().split() for page in document]


ALL = ["upper", "left", "lower", "right"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags",
    [(), ("--force-ocr", "--no-use-threads", "-j2"), ("--skip-text",), ("--pdf-renderer", "sandwich")],
)
def test_modes(runs, flags):
    side = runs.folder / "side.txt"
    pictures = [draw_page(), draw_page(blank=True), draw_page()]
    done, out = runs.ocr(pictures, "--ocr-engine", "nanoocr", "--sidecar", str(side), *flags)
    assert done.returncode == 0, done.stderr
    assert text_of(out.read_bytes()) == [ALL, [], ALL]
    assert side.read_text() == "upper left\n\nlower right\f\fupper left\n\nlower right"


@pytest.mark.slow
def test_boxes_are_where_the_words_are(runs):
    done, out = runs.ocr([draw_page()], "--ocr-engine", "nanoocr")
    assert done.returncode == 0, done.stderr
    expected = [(text, [side * DPI for side in box]) for line in WORDS for text, box in line]
    for read in installed_readers():
        for found, (text, box) in zip(read(out.read_bytes(), DPI / 72)[0], expected, strict=True):
            assert found.text == text
            assert iou(found.box, box) > 0.5


@pytest.mark.slow
def test_our_own_searchable_pdf_can_be_renewed(runs):
    old = TextPage(
        "p.png", 1, 5 * DPI, 7 * DPI, (Line("older reading", Box(150, 150, 400, 190).quad()),), DPI
    )
    source = pdf.render([old], {"p.png": encode(draw_page(), "PNG")})
    assert text_of(source) == [["older", "reading"]]
    done, out = runs.ocr(source, "--ocr-engine", "nanoocr", "--redo-ocr")
    assert done.returncode == 0, done.stderr
    assert text_of(out.read_bytes()) == [ALL]


@pytest.mark.slow
def test_rotate_pages_sets_them_upright(runs):
    turned = [draw_page().rotate(90 * turns, expand=True) for turns in (1, 2, 3)]
    done, out = runs.ocr(turned, "--ocr-engine", "nanoocr", "--rotate-pages")
    assert done.returncode == 0, done.stderr
    for page in pypdfium2.PdfDocument(out.read_bytes()):
        assert page.get_width() < page.get_height()
        assert page.render(scale=1).to_pil().convert("L").getpixel((6, 6)) < 100
    assert text_of(out.read_bytes()) == [ALL] * 3


@pytest.mark.slow
def test_a_failing_page_does_not_cost_the_document(runs):
    runs.words.write_text(json.dumps({"fail": True}))
    done, out = runs.ocr([draw_page(), draw_page(blank=True)], "--ocr-engine", "nanoocr")
    assert done.returncode == 0 and "told to fail" in done.stderr
    assert text_of(out.read_bytes()) == [[], []]


@pytest.mark.slow
def test_without_tesseract(runs):
    bare = runs.folder / "bin"
    bare.mkdir()
    for name in ("gs", "qpdf"):
        if shutil.which(name):
            (bare / name).symlink_to(shutil.which(name))
    done, out = runs.ocr([draw_page()], "--tesseract-timeout", "9", path=str(bare))
    assert done.returncode == 0, done.stderr
    assert text_of(out.read_bytes()) == [ALL]
    done, _ = runs.ocr([draw_page()], "--ocr-engine", "tesseract", path=str(bare))
    assert done.returncode == 3 and "tesseract is not installed" in done.stderr


@pytest.mark.slow
def test_deskew_turns_the_right_way(runs):
    leans = (3.0, -3.0)
    leaning = [draw_page().rotate(-lean, fillcolor=255) for lean in leans]
    done, out = runs.ocr(leaning, "--ocr-engine", "nanoocr", "--deskew")
    assert done.returncode == 0, done.stderr
    pages = pypdfium2.PdfDocument(out.read_bytes())
    shown = [page.render(scale=DPI / 72).to_pil().convert("L") for page in pages]
    for picture, expected in zip([*leaning, *shown], [*leans, 0.0, 0.0], strict=True):
        (x0, y0), (x1, y1) = find_rule(picture, DPI)
        assert math.degrees(math.atan2(y1 - y0, x1 - x0)) == pytest.approx(expected, abs=0.3)


@pytest.mark.slow
def test_the_packaged_model_through_the_real_program(runs):
    page, png = make_page(("The quick brown fox", "jumps over the lazy dog"), width=700, height=500)
    picture = Image.open(io.BytesIO(png))
    side = runs.folder / "side.txt"
    flags = ("--ocr-engine", "nanoocr", "--sidecar", str(side), "-j2")
    done, out = runs.ocr([picture, picture], *flags, standin=False)
    assert done.returncode == 0, done.stderr
    words = page.text.split()
    assert side.read_text().split() == [*words, *words]
    assert text_of(out.read_bytes()) == [words, words]
    truth = [hull(word.quad) for line in page.lines for word in line.words]
    (found, _) = READERS["pypdfium2"](out.read_bytes(), DPI / 72)
    for (_, (left, top, right, bottom)), box in zip(found, truth, strict=True):
        assert box.left < (left + right) / 2 < box.right and box.top < (top + bottom) / 2 < box.bottom
