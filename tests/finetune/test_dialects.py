"""PAGE-XML, ALTO, hOCR, Label Studio and lists as other tools write them: the text, and where it stands."""

import json

import pytest
from PIL import Image

from nanoocr.errors import UsageError
from nanoocr.finetune.sources import gather, plain_of_markdown

BOX = ((10, 10), (300, 10), (300, 50), (10, 50))
COORDS = '<Coords points="10,10 300,10 300,50 10,50"/>'
PLACE = 'HPOS="10" VPOS="10" WIDTH="290" HEIGHT="40"'


def page_xml(lines, width=800, height=600, picture="a.png"):
    return (
        '<PcGts xmlns="http://schema.primaresearch.org/PAGE/gts/pagecontent/2019-07-15">'
        f'<Page imageFilename="{picture}" imageWidth="{width}" imageHeight="{height}">'
        f"<TextRegion>{lines}</TextRegion></Page></PcGts>"
    )


def page_line(inner):
    return page_xml(f"<TextLine>{COORDS}{inner}</TextLine>")


def said(text, index=""):
    return f"<TextEquiv {index}><Unicode>{text}</Unicode></TextEquiv>"


def page_word(left, text):
    points = f"{left},10 {left + 90},10 {left + 90},50 {left},50"
    return f'<Word><Coords points="{points}"/>{said(text)}</Word>'


def alto(lines, size='WIDTH="800" HEIGHT="600"', unit="pixel", number='PHYSICAL_IMG_NR="1"', picture="a.png"):
    return (
        '<alto xmlns="http://www.loc.gov/standards/alto/ns-v4#"><Description>'
        f"<MeasurementUnit>{unit}</MeasurementUnit><sourceImageInformation><fileName>{picture}</fileName>"
        f"</sourceImageInformation></Description><Layout><Page {size} {number}><PrintSpace>{lines}"
        "</PrintSpace></Page></Layout></alto>"
    )


def alto_line(inner, place=PLACE):
    return f"<TextLine {place}>{inner}</TextLine>"


def string(text, left=10):
    return f'<String HPOS="{left}" VPOS="10" WIDTH="90" HEIGHT="40" CONTENT="{text}"/>'


def hocr(body, title='image "a.png"; bbox 0 0 800 600', head='<meta charset="utf-8"/>', doctype=""):
    page = f"<div class='ocr_page' title='{title}'>{body}</div>"
    return f"{doctype}<html><head>{head}</head><body>{page}</body></html>"


def hocr_line(inner, box="10 10 300 50"):
    return f'<span class="ocr_line" title="bbox {box}">{inner}</span>'


def gathered(folder, name, content, picture="a.png", **options):
    Image.new("L", (800, 600), 255).save(folder / picture, **options)
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return gather(folder)


def placed(document):
    return [(line.text, tuple((round(x), round(y)) for x, y in line.quad)) for line in document.lines]


DTD = '<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Strict//EN" "http://www.w3.org/TR/xhtml1/xhtml1-strict.dtd">'
INNER = '<!DOCTYPE PcGts [<!ENTITY ue "ü">]>'
ONE_LINE = {
    "page, the better of two readings": (
        "a.xml",
        page_line(said("Bad", 'index="1"') + said("Good", 'index="0"')),
        "Good",
    ),
    "page, an empty reading first": ("a.xml", page_line(said("") + said("Good")), "Good"),
    "page, words alone": ("a.xml", page_line(page_word(10, "Good") + page_word(110, "day")), "Good day"),
    "page, a line's own text before its words'": (
        "a.xml",
        page_line(page_word(10, "x") + said("Good day!")),
        "Good day!",
    ),
    "page, a comment in the text": ("a.xml", page_line(said("Go<!-- o -->od")), "Good"),
    "page, an entity of its own": ("a.xml", INNER + page_line(said("K&ue;che")), "Küche"),
    "page, points without commas": (
        "a.xml",
        page_xml(f'<TextLine><Coords points="10 10 300 10 300 50 10 50"/>{said("Good")}</TextLine>'),
        "Good",
    ),
    "alto, no number of the page": ("a.xml", alto(alto_line(string("Good")), number=""), "Good"),
    "alto, a name for a number": (
        "a.xml",
        alto(alto_line(string("Good")), number='PHYSICAL_IMG_NR="p1"'),
        "Good",
    ),
    "alto, page 7 of a book": (
        "a.xml",
        alto(alto_line(string("Good")), number='PHYSICAL_IMG_NR="7"'),
        "Good",
    ),
    "alto, a hyphen": ("a.xml", alto(alto_line(string("Good") + '<HYP CONTENT="-"/>')), "Good-"),
    "alto, a soft hyphen": ("a.xml", alto(alto_line(string("Good") + '<HYP CONTENT="&#xAD;"/>')), "Good-"),
    "alto, a hyphen twice": ("a.xml", alto(alto_line(string("Good-") + '<HYP CONTENT="-"/>')), "Good-"),
    "alto, a comma of its own": (
        "a.xml",
        alto(alto_line(string("Good") + string(",") + "<SP/>" + string("day"))),
        "Good, day",
    ),
    "alto, no SP at all": ("a.xml", alto(alto_line(string("Good") + string("day"))), "Good day"),
    "alto, a polygon": (
        "a.xml",
        alto(
            '<TextLine><Shape><Polygon POINTS="10 10 300 10 300 50 10 50"/></Shape>'
            f"{string('Good')}</TextLine>"
        ),
        "Good",
    ),
    "alto, words' boxes": (
        "a.xml",
        alto(f"<TextLine>{string('Good')}<SP/>{string('day', 210)}</TextLine>"),
        "Good day",
    ),
    "alto, inches without a page's size": (
        "a.xml",
        alto(alto_line(string("Good"), 'HPOS="40" VPOS="40" WIDTH="1160" HEIGHT="160"'), "", "inch1200"),
        "Good",
    ),
    "hocr, names of characters": ("a.hocr", hocr(hocr_line("K&uuml;che&nbsp;1")), "Küche 1"),
    "hocr, names by a DTD": ("a.hocr", hocr(hocr_line("K&uuml;che&nbsp;1"), doctype=DTD), "Küche 1"),
    "hocr, called .xml": ("a.xml", hocr(hocr_line("K&uuml;che")), "Küche"),
    "hocr, HTML without a charset": (
        "a.html",
        hocr(hocr_line("Küche<br>"), head="<title>x</title>"),
        "Küche",
    ),
    "hocr, a line in a caption": (
        "a.hocr",
        hocr(f'<p class="ocr_caption" title="bbox 0 0 700 90">{hocr_line("Good")}</p>'),
        "Good",
    ),
    "hocr, a word without a line": (
        "a.hocr",
        hocr('<span class="ocrx_word" title="bbox 10 10 300 50">Good</span>'),
        "Good",
    ),
}


@pytest.mark.parametrize("case", ONE_LINE)
def test_a_line_of_another_tools_dialect(tmp_path, case):
    name, content, text = ONE_LINE[case]
    found = (
        gathered(tmp_path, name, content, dpi=(300, 300))
        if "inch" in case
        else gathered(tmp_path, name, content)
    )
    assert not found.problems
    assert placed(found.documents[0]) == [(text, BOX)]


def test_a_page_with_texts_of_regions_alone_is_a_text(tmp_path):
    region = f"{COORDS}<TextEquiv><Unicode>One\nTwo</Unicode></TextEquiv>"
    (found,) = gathered(tmp_path, "a.xml", page_xml(region)).documents
    assert (found.kind, found.text, found.page) == ("text", "One\nTwo", 0)


@pytest.mark.parametrize(
    ("picture", "xml"),
    [("0001.png", "page/0001.xml"), ("images/0001.png", "alto/0001.xml"), ("my scan.png", "p.xml")],
)
def test_pictures_lie_above_in_a_sister_folder_or_have_percent_signs(tmp_path, picture, xml):
    for name in (picture, xml):
        (tmp_path / name).parent.mkdir(exist_ok=True)
    named = picture.rpartition("/")[2].replace(" ", "%20")
    content = page_xml(f"<TextLine>{COORDS}{said('Good')}</TextLine>", picture=named)
    found = gathered(tmp_path, xml, content, picture)
    assert placed(found.documents[0]) == [("Good", BOX)] and not found.problems


def test_places_in_a_stored_picture_follow_its_orientation(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    (found,) = gathered(
        tmp_path, "a.xml", page_line(said("Good")).replace("a.png", "a.jpg"), "a.jpg", exif=exif
    ).documents
    # The picture is shown as 600 x 800, turned clockwise: the stored left upper corner is the right one.
    assert placed(found) == [("Good", ((590, 10), (590, 300), (550, 300), (550, 10)))]


def test_places_on_a_pdf_and_on_the_page_that_the_file_says(tmp_path):
    pages = [Image.new("L", (800, 600), 255) for _ in range(3)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    line = hocr_line("Good", "20 20 600 100")
    content = hocr(line, 'image "a.tif"; bbox 0 0 1600 1200; ppageno 2')
    (found,) = gathered(tmp_path, "a.hocr", content, "unused.png").documents
    assert found.page == 3 and placed(found) == [("Good", BOX)]
    pages[0].save(tmp_path / "b.pdf", resolution=100)
    tenths = alto(
        alto_line(string("Good"), 'HPOS="254" VPOS="254" WIDTH="508" HEIGHT="127"'),
        'WIDTH="2032" HEIGHT="1524"',
        "mm10",
        picture="b.pdf",
    )
    (tmp_path / "b.xml").write_text(tenths)
    (found,) = gather(tmp_path / "b.xml").documents
    # One inch from the corner, two inches wide, on a page that is rendered at 200 dpi.
    assert placed(found) == [("Good", ((200, 200), (600, 200), (600, 300), (200, 300)))]


def test_millimetres_without_any_size_are_named(tmp_path):
    content = alto(alto_line(string("Good")), size="", unit="mm10")
    with pytest.raises(UsageError, match="neither the size of the page nor the resolution"):
        gathered(tmp_path, "a.xml", content)


def test_a_file_of_another_kind_does_not_take_the_text_beside_a_picture(tmp_path):
    for name in ("a.html", "a.xml"):
        (tmp_path / name).write_text(
            "<html><body>nothing</body></html>" if "html" in name else "<annotation/>"
        )
    found = gathered(tmp_path, "a.txt", "Good day")
    assert [one.text for one in found.documents] == ["Good day"]


# ---------------------------------------------------------------------------------------------------
# Label Studio


def region(text=None, name="r", x=10.0, y=10.0, **more):
    value = {"x": x, "y": y, "width": 30.0, "height": 5.0, "rotation": 0}
    return {
        "original_width": 800,
        "original_height": 600,
        "id": name,
        "value": value if text is None else {**value, "text": [text]},
        **more,
    }


def tasks(*results, data="a.png"):
    return [{"data": {"ocr": data}, "annotations": [{"result": list(one)} for one in results]}]


SPOT = ((80, 60), (320, 60), (320, 90), (80, 90))
EXPORTS = {
    "the last annotation is empty": tasks([region("Good")], []),
    "another one is marked as true": [
        {
            "data": {"thumb": "small.png", "ocr": "a.png"},
            "annotations": [
                {"ground_truth": True, "result": [region("Good")]},
                {"result": [region("Bad")]},
            ],
        }
    ],
    "a text beside the region": tasks([region(meta={"text": ["Good"]})]),
    "a single task": tasks([region("Good")])[0],
    "an annotation of a storage": {"result": [region("Good")], "task": {"data": {"ocr": "a.png"}}},
    "a task that nobody has opened first": [{"data": {"ocr": "a.png"}}, *tasks([region("Good")])],
    # The view was turned clockwise: what stands at the left of the top was at the left of the bottom.
    "a view that was turned": tasks(
        [
            region("Good", image_rotation=90)
            | {"value": {"x": 85, "y": 10, "width": 5, "height": 30, "text": "Good"}}
        ]
    ),
}


@pytest.mark.parametrize("case", EXPORTS)
def test_label_studio_as_projects_differ(tmp_path, case):
    Image.new("L", (800, 600), 255).save(tmp_path / "a.png")
    (tmp_path / "export.json").write_text(json.dumps(EXPORTS[case]))
    (found,) = gather(tmp_path / "export.json").documents
    (line,) = placed(found)
    assert line[0] == "Good" and set(line[1]) == set(SPOT)


def test_one_broken_region_and_an_address_that_is_no_path_spoil_only_themselves(tmp_path):
    Image.new("L", (800, 600), 255).save(tmp_path / "a.png")
    broken = region("lost", "b", x=None)
    long = tasks([region("Good")], data="data:image/png;base64," + "A" * 3000)
    (tmp_path / "export.json").write_text(json.dumps(tasks([region("Good"), broken]) + long))
    found = gather(tmp_path / "export.json")
    assert [line.text for line in found.documents[0].lines] == ["Good"]
    assert "1 of 2 lines lack" in found.problems[0] and "not a picture" in found.problems[1]


# ---------------------------------------------------------------------------------------------------
# Lists


TABLES = {
    "quotes of a table": ("l.tsv", 'a.png\t"She said ""hi"""\n', 'She said "hi"'),
    "quotes of the print": ("l.tsv", 'a.png\t"hi"\n', '"hi"'),
    "all cells in quotes": ("l.tsv", '"a.png"\t"Good"\n', "Good"),
    "a heading and more columns": ("l.csv", 'id,text,file_name\n1,"Good, day",a.png\n', "Good, day"),
    "semicolons": ("l.csv", "a.png;Good, day\n", "Good, day"),
    "a separator of lines in a text": ("l.csv", "a.png,Good\u2028day\n", "Good\u2028day"),
    "a blank": ("l.txt", "a.png Good day\n", "Good day"),
    "a path of Windows": ("l.tsv", ".\\a.png\tGood\n", "Good"),
    "rows of an image folder": ("metadata.jsonl", '{"file_name": "a.png", "text": "Good"}\n', "Good"),
    "a list of objects": ("l.json", '[{"image": "a.png", "label": "Good"}]', "Good"),
}


@pytest.mark.parametrize("case", TABLES)
def test_lists_of_crops_as_programs_write_them(tmp_path, case):
    name, content, text = TABLES[case]
    Image.new("L", (300, 40), 255).save(tmp_path / "a.png")
    (tmp_path / name).write_text(content)
    found = gather(tmp_path / name)
    assert [one.text for one in found.documents] == [text] and not found.problems


def test_an_open_quote_takes_no_other_line_and_a_long_line_is_no_path(tmp_path):
    for name in ("a.png", "b.png"):
        Image.new("L", (300, 40), 255).save(tmp_path / name)
    for name, content in (("l.csv", 'a.png,"Good\nb.png,day\n'), ("l.txt", f"{'x' * 3000}\tq\nb.png\tday\n")):
        (tmp_path / name).write_text(content)
        found = gather(tmp_path / name)
        assert [one.text for one in found.documents] == ["day"] and len(found.problems) == 1


def test_labels_of_paddle_ocr_have_boxes(tmp_path):
    Image.new("L", (800, 600), 255).save(tmp_path / "a.png")
    label = [{"transcription": text, "points": BOX, "difficult": False} for text in ("Good", "###")]
    (tmp_path / "Label.txt").write_text(f"a.png\t{json.dumps(label)}\n")
    found = gather(tmp_path / "Label.txt")
    assert placed(found.documents[0]) == [("Good", BOX)] and "1 of 2 lines" in found.problems[0]


def test_markdown_with_a_head_html_and_escapes():
    text = "---\nprimary_language: en\n---\n*All* _of_ it: 3 * 4 * 5, a_b_c\n"
    text += "<table><tr><td>x</td></tr></table>\n1\\. a < b &amp; c"
    assert " ".join(plain_of_markdown(text).split()) == "All of it: 3 * 4 * 5, a_b_c x 1. a < b & c"


def test_tags_within_a_word_leave_it_whole():
    text = "H<sub>2</sub>O and <b>W</b>ater<br>x<sup>2</sup> <strong>all</strong>"
    assert plain_of_markdown(text).split() == ["H2O", "and", "Water", "x2", "all"]
