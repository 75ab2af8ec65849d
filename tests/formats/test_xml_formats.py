"""hOCR, ALTO and PAGE: read back by other people's readers, and held against what their schemas ask."""

import importlib.util
import io
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from format_pages import make_page
from lxml import etree
from PIL import Image

from nanoocr.document import Box, Line, TextPage, Word, hull
from nanoocr.errors import UsageError
from nanoocr.formats import alto, hocr, page_xml
from nanoocr.formats.shapes import pixels

ALTO = {"a": alto.NAMESPACE}
PAGE = {"p": page_xml.NAMESPACE}


def truth(page):
    return [(word.text, tuple(pixels(word.quad))) for line in page.lines for word in line.words]


@pytest.fixture(scope="module", params=[0.0, 2.0, 90.0, 180.0], ids=lambda degrees: f"turned {degrees:g}")
def page(request):
    return make_page(degrees=request.param)[0]


# ---------------------------------------------------------------------------------------------------
# hOCR


def test_hocr_read_by_ocrmypdf(page, tmp_path):
    parser = pytest.importorskip("ocrmypdf.hocrtransform").HocrParser
    path = tmp_path / "page.hocr"
    path.write_bytes(hocr.render([page]))
    tree = parser(path).parse()
    assert [(w.text, (w.bbox.left, w.bbox.top, w.bbox.right, w.bbox.bottom)) for w in tree.words] == [
        # OCRmyPDF takes ligatures apart.
        (text.replace("ﬁ", "fi").replace("ﬃ", "ffi"), box)
        for text, box in truth(page)
    ]
    assert {word.confidence for word in tree.words} == {0.9}
    assert tree.dpi == 150
    assert len(tree.paragraphs) == 2 and len(tree.lines) == 6


def test_hocr_read_by_archive_hocr_tools(page):
    parse = pytest.importorskip("hocr.parse")
    words = [
        (word["text"], tuple(word["bbox"]), word["confidence"])
        # The iterator empties a page when it goes on to the next one.
        for element in parse.hocr_page_iterator(io.BytesIO(hocr.render([page])))
        for paragraph in parse.hocr_page_to_word_data(element)
        for line in paragraph["lines"]
        for word in line["words"]
    ]
    assert words == [(*word, 90) for word in truth(page)]


@pytest.mark.parametrize("tool", ["hocr-lines", "hocr-check"])
def test_hocr_taken_by_hocr_tools(page, tool, tmp_path):
    program = Path(sys.executable).with_name(tool)
    if not program.exists():
        pytest.skip("hocr-tools-lib is not installed")
    path = tmp_path / "page.hocr"
    path.write_bytes(hocr.render([page]))
    done = subprocess.run([program, path], capture_output=True, text=True, check=True)
    if tool == "hocr-lines":
        assert done.stdout.split() == page.text.split()
    else:
        failed = [line for line in done.stdout.splitlines() if line.startswith("not ok")]
        # Boxes of leaning lines overlap; that is no fault of the file.
        assert [line for line in failed if "nonoverlapping" not in line] == []


def test_hocr_tools_cut_out_the_words_at_their_places(page, tmp_path, monkeypatch):
    extract = pytest.importorskip("hocr_tools_lib.tools.hocr_extract_images").extract_images
    monkeypatch.chdir(tmp_path)
    # The color of each pixel tells where it is, so a cut-out tells where it came from.
    x, y = np.meshgrid(np.arange(page.width), np.arange(page.height))
    places = np.stack([x % 256, y % 256, x // 256 * 16 + y // 256], axis=2).astype(np.uint8)
    Image.fromarray(places).save(page.file)
    Path("page.hocr").write_bytes(hocr.render([page]))
    extract("page.hocr", "", "%03d.png", "ocrx_word")
    found = []
    for path in sorted(tmp_path.glob("[0-9]*.png")):
        cut = np.asarray(Image.open(path)).astype(int)
        left, top = cut[0, 0, 0] + cut[0, 0, 2] // 16 * 256, cut[0, 0, 1] + cut[0, 0, 2] % 16 * 256
        text = path.with_suffix(".txt").read_text(encoding="utf-8")
        found.append((text, (left, top, left + cut.shape[1], top + cut.shape[0])))
    assert found == truth(page)


def test_hocr_has_what_tools_search_for(page):
    html = etree.fromstring(hocr.render([page, page]))
    titles = [(node.get("class"), node.get("title")) for node in html.iter() if node.get("title")]
    assert all(title.startswith("bbox ") for _, title in titles)
    used = {kind for kind, _ in titles}
    (listed,) = html.xpath("//*[@name='ocr-capabilities']/@content")
    assert used == set(listed.split())
    ids = html.xpath("//@id")
    assert len(ids) == len(set(ids))
    assert len(html.xpath("//*[@class='ocr_page']")) == 2
    # Fractions make some readers give up, but for slope and letter size.
    for kind, title in titles:
        if kind == "ocrx_word":
            assert re.fullmatch(r"bbox \d+ \d+ \d+ \d+; x_wconf \d+", title)


def test_hocr_tells_a_consumer_what_that_of_tesseract_tells(tmp_path):
    parser = pytest.importorskip("ocrmypdf.hocrtransform").HocrParser
    if shutil.which("tesseract") is None:
        pytest.skip("tesseract is not installed")
    page, png = make_page(("The quick brown fox", "jumps over the lazy dog"), height=600)
    picture, ours = tmp_path / "scan.png", tmp_path / "ours.hocr"
    picture.write_bytes(png)
    ours.write_bytes(hocr.render([page]))
    command = ["tesseract", picture, tmp_path / "theirs", "--dpi", "150", "hocr"]
    subprocess.run(command, env={**os.environ, "OMP_THREAD_LIMIT": "1"}, capture_output=True, check=True)
    trees = [parser(path).parse() for path in (ours, tmp_path / "theirs.hocr")]
    for tree in trees:
        assert [word.text for word in tree.words] == page.text.split()
        assert all(word.confidence is not None and word.bbox is not None for word in tree.words)
        assert all(line.baseline is not None for line in tree.lines)
        assert (tree.dpi, tree.bbox.right, tree.bbox.bottom, len(tree.lines)) == (150, 1240, 600, 2)
    for mine, other in zip(trees[0].words, trees[1].words, strict=True):
        assert (mine.bbox.left + mine.bbox.right) / 2 == pytest.approx(
            (other.bbox.left + other.bbox.right) / 2, abs=8
        )
    known = [
        {
            part.split()[0]
            for node in etree.parse(path).xpath("//*[@class='ocr_page']")
            for part in node.get("title").split("; ")
        }
        for path in (ours, tmp_path / "theirs.hocr")
    ]
    assert known[0] == known[1] == {"bbox", "image", "ppageno", "scan_res"}


def test_hocr_baseline_and_turn():
    def line_title(degrees):
        html = etree.fromstring(hocr.render([make_page(("one two three",), degrees=degrees)[0]]))
        return html.xpath("string(//*[@class='ocr_line']/@title)")

    rising = re.search(r"baseline ([-.\d]+) ([-\d]+)", line_title(-3.0))
    assert float(rising[1]) == pytest.approx(-0.0524, abs=1e-3)
    level = re.search(r"baseline ([-.\d]+) ([-\d]+)", line_title(0.0))
    assert float(level[1]) == 0 and -20 < int(level[2]) < 0
    # 90 is text that runs upwards, 270 text that runs downwards.
    assert "textangle 90" in line_title(-90.0) and "textangle 270" in line_title(90.0)


# ---------------------------------------------------------------------------------------------------
# ALTO. Facts of the 4.2 schema: which elements may stand in which, in which order, and what is required.

ALTO_CHILDREN = {
    "alto": ["Description", "Styles", "Tags", "Layout"],
    "Description": ["MeasurementUnit", "sourceImageInformation", "OCRProcessing", "Processing"],
    "sourceImageInformation": ["fileName", "fileIdentifier", "documentIdentifier"],
    "Processing": [
        *("processingCategory", "processingDateTime", "processingAgency", "processingStepDescription"),
        *("processingStepSettings", "processingSoftware"),
    ],
    "processingSoftware": ["softwareCreator", "softwareName", "softwareVersion", "applicationDescription"],
    "Layout": ["Page"],
    "Page": ["TopMargin", "LeftMargin", "RightMargin", "BottomMargin", "PrintSpace"],
    "PrintSpace": ["Shape", "TextBlock"],
    "TextBlock": ["Shape", "TextLine"],
    "Shape": ["Polygon"],
    "String": ["Shape", "ALTERNATIVE", "Glyph"],
}
ALTO_REQUIRED = {"Page": {"ID", "PHYSICAL_IMG_NR"}, "TextBlock": {"ID"}, "String": {"CONTENT"}}


def check_alto(content):
    root = etree.fromstring(content)
    for node in root.iter():
        tag = etree.QName(node).localname
        children = [etree.QName(child).localname for child in node]
        if tag == "TextLine":
            assert re.fullmatch(r"(Shape )?(String (SP )?)+(HYP )?", "".join(f"{name} " for name in children))
        elif tag in ALTO_CHILDREN:
            order = [ALTO_CHILDREN[tag].index(name) for name in children]
            assert order == sorted(order), (tag, children)
        else:
            assert not children, tag
        assert ALTO_REQUIRED.get(tag, set()) <= set(node.keys())
        for name in ("HPOS", "VPOS", "WIDTH", "HEIGHT"):
            assert re.fullmatch(r"\d+", node.get(name, "0"))
    ids = root.xpath("//@ID")
    assert len(ids) == len(set(ids))
    assert all(0 <= float(share) <= 1 for share in root.xpath("//@WC"))
    return root


def test_alto_keeps_to_its_schema_and_holds_the_words(page):
    root = check_alto(alto.render([page]))
    words = []
    for string in root.iterfind(".//a:String", ALTO):
        left, top, width, height = (int(string.get(name)) for name in ("HPOS", "VPOS", "WIDTH", "HEIGHT"))
        words.append((string.get("CONTENT"), (left, top, left + width, top + height)))
    assert words == truth(page)
    lines = root.findall(".//a:TextLine", ALTO)
    assert all(re.fullmatch(r"\d+ \d+ \d+ \d+", line.get("BASELINE")) for line in lines)
    assert root.findtext(".//a:fileName", namespaces=ALTO) == "scan.png"
    assert root.findtext(".//a:MeasurementUnit", namespaces=ALTO) == "pixel"


def test_alto_has_blanks_only_where_the_text_has_them():
    box = Box(1, 1, 9, 9).quad()
    words = tuple(Word(text, box) for text in ("漢字", "かな", "ok"))
    root = check_alto(alto.render([TextPage("x.png", 1, 20, 20, (Line("漢字かな ok", box, words=words),))]))
    line = root.find(".//a:TextLine", ALTO)
    assert [etree.QName(node).localname for node in line] == ["Shape", "String", "String", "SP", "String"]


@pytest.mark.parametrize(
    "page", [TextPage("x.png", 1, 20, 20), TextPage("x.png", 1, 0, 0, error="It is gone.")]
)
def test_empty_alto(page):
    root = check_alto(alto.render([page]))
    assert root.find(".//a:TextLine", ALTO) is None


# ---------------------------------------------------------------------------------------------------
# PAGE


def page_schema():
    """The official schema, from ocrd where that is installed; it is not part of this project."""
    found = importlib.util.find_spec("ocrd_validators")
    if found is None or found.submodule_search_locations is None:
        pytest.skip("ocrd, which ships the PAGE schema, is not installed")
    return etree.XMLSchema(file=str(Path(found.submodule_search_locations[0], "page.xsd")))


EMPTY = (TextPage("x.png", 1, 20, 20), TextPage("x.png", 3, 0, 0, error="It is gone."))


@pytest.mark.parametrize("empty", EMPTY)
def test_page_is_valid(page, empty):
    schema = page_schema()
    for one in (page, empty):
        assert schema.validate(etree.fromstring(page_xml.render([one]))), schema.error_log


def test_page_holds_words_and_lines(page):
    root = etree.fromstring(page_xml.render([page]))
    assert [child.tag.split("}")[1] for child in root] == ["Metadata", "Page"]
    for line in root.iterfind(".//p:TextLine", PAGE):
        tags = [child.tag.split("}")[1] for child in line]
        words = line.findall("p:Word", PAGE)
        assert tags == ["Coords", "Baseline", *["Word"] * len(words), "TextEquiv"]
        joined = " ".join(word.findtext(".//p:Unicode", namespaces=PAGE) for word in words)
        assert joined == line.findtext("p:TextEquiv/p:Unicode", namespaces=PAGE)
    points = root.xpath("//@points")
    assert all(re.fullmatch(r"\d+,\d+( \d+,\d+)+", value) for value in points)
    outlines = root.xpath("//p:Coords/@points", namespaces=PAGE)
    assert all(len(value.split()) >= 3 for value in outlines)
    texts = root.xpath("//p:Word/p:TextEquiv/p:Unicode/text()", namespaces=PAGE)
    assert texts == [text for text, _ in truth(page)]
    ids = root.xpath("//@id")
    assert len(ids) == len(set(ids)) and set(root.xpath("//@regionRef")) < set(ids)
    assert all(0 <= float(share) <= 1 for share in root.xpath("//@conf"))
    # The namespace must be the default one: an editor looks for it.
    assert root.prefix is None and root.find(".//p:Page", PAGE).get("imageFilename") == "scan.png"


def test_page_opened_by_ocrd(page, tmp_path):
    parse = pytest.importorskip("ocrd_models.ocrd_page").parse
    path = tmp_path / "page.xml"
    path.write_bytes(page_xml.render([page]))
    regions = (
        parse(str(path), silence=True).get_Page().get_AllRegions(classes=["Text"], order="reading-order")
    )
    lines = [line for region in regions for line in region.get_TextLine()]
    words = [
        (word.get_TextEquiv()[0].Unicode, points_box(word.get_Coords().points, ","))
        for line in lines
        for word in line.get_Word()
    ]
    assert words == truth(page)
    assert [line.get_TextEquiv()[0].Unicode for line in lines] == [line.text for line in page.lines]
    assert all(word.get_TextEquiv()[0].conf == 0.9 for line in lines for word in line.get_Word())
    validator = pytest.importorskip("ocrd_validators").PageValidator
    assert validator.validate(filename=str(path)).errors == []


@pytest.mark.parametrize("kind", ["alto", "page"])
def test_lines_opened_by_kraken(page, kind, tmp_path):
    xml_page = pytest.importorskip("kraken.lib.xml", exc_type=ImportError).XMLPage
    path = tmp_path / "page.xml"
    path.write_bytes({"alto": alto, "page": page_xml}[kind].render([page]))
    lines = list(xml_page(path, filetype=kind).lines.values())
    assert [line.text for line in lines] == [line.text for line in page.lines]
    for line, expected in zip(lines, page.lines, strict=True):
        assert hull(line.boundary) == tuple(pixels(expected.quad))
        assert len(line.baseline) == 2


def points_box(points, between):
    """The box around points such as `1,2 3,4`."""
    return tuple(map(int, hull([tuple(map(int, point.split(between))) for point in points.split()])))


def test_page_of_two_pages_is_refused(page):
    with pytest.raises(UsageError, match="one page, found 2"):
        page_xml.render([page, page])


def test_words_keep_their_order_in_all_three(page):
    order = [text for text, _ in truth(page)]
    for content, path in (
        (hocr.render([page]), "//*[@class='ocrx_word']/text()"),
        (alto.render([page]), "//@CONTENT"),
        (page_xml.render([page]), "//*[local-name()='Word']//*[local-name()='Unicode']/text()"),
    ):
        assert etree.fromstring(content).xpath(path) == order
