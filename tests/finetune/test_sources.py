"""Every input format gives the same documents, and what cannot be used is named while the rest goes on."""

import json
import os
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from nanoocr.data.synth.parquet import SCHEMA
from nanoocr.document import Box, Line, TextPage, Word
from nanoocr.errors import UsageError
from nanoocr.finetune.sources import gather, plain_of_markdown
from nanoocr.formats import render
from tests.finetune.drawn import document


@pytest.fixture
def scan(tmp_path):
    """scan.png in a folder, with its lines and boxes."""
    page, lines, boxes = document(3)
    page.save(tmp_path / "scan.png")
    return tmp_path, page, lines, boxes


def as_page(page, lines, boxes):
    made = tuple(
        Line(text, Box(*box).quad(), words=(Word(text, Box(*box).quad()),)) for text, box in zip(lines, boxes)
    )
    return TextPage("scan.png", 1, page.width, page.height, made)


def write(path, content):
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def only(folder):
    found = gather(folder)
    assert len(found.documents) == 1, found.problems
    return found.documents[0]


def near(document, boxes):
    corners = [(*line.quad[0], *line.quad[2]) for line in document.lines]
    return all(abs(a - b) <= 1.5 for one, box in zip(corners, boxes, strict=True) for a, b in zip(one, box))


@pytest.mark.parametrize(("name", "suffix"), [("page", ".xml"), ("alto", ".xml"), ("hocr", ".hocr")])
def test_our_own_page_alto_and_hocr_come_back_with_their_boxes(scan, name, suffix):
    folder, page, lines, boxes = scan
    write(folder / f"scan{suffix}", render([as_page(page, lines, boxes)], name))
    found = only(folder)
    assert found.kind == "boxes" and [line.text for line in found.lines] == lines
    assert near(found, boxes)


def test_boxes_of_a_copy_of_another_size_are_scaled(scan):
    folder, page, lines, boxes = scan
    write(folder / "scan.xml", render([as_page(page, lines, boxes)], "page"))
    page.resize((page.width * 2, page.height * 2)).save(folder / "scan.png")
    assert near(only(folder), [[2 * side for side in box] for box in boxes])


def percent(box, page):
    left, top, right, bottom = box
    return {
        "x": 100 * left / page.width,
        "y": 100 * top / page.height,
        "width": 100 * (right - left) / page.width,
        "height": 100 * (bottom - top) / page.height,
        "rotation": 0,
        "original_width": page.width,
        "original_height": page.height,
    }


def test_label_studio_in_both_its_forms(scan):
    folder, page, lines, boxes = scan
    regions = [percent(box, page) for box in boxes]
    result = [
        entry
        for i, (text, region) in enumerate(zip(lines, regions))
        for entry in (
            {"id": str(i), "type": "rectangle", "value": region},
            {"id": str(i), "type": "textarea", "value": {**region, "text": [text]}},
        )
    ]
    full = [{"data": {"ocr": "/data/upload/1/0123abcd-scan.png"}, "annotations": [{"result": result}]}]
    small = [{"ocr": "/data/upload/1/0123abcd-scan.png", "bbox": regions, "transcription": lines}]
    for export in (full, small):
        (folder / "export.json").write_text(json.dumps(export))
        found = gather(folder / "export.json").documents[0]
        assert [line.text for line in found.lines] == lines and near(found, boxes)


def test_chat_rows_and_parquet_are_documents(scan):
    folder, _, lines, _ = scan
    said = "\n".join(lines)
    messages = [{"role": "user", "content": "<image>Read."}, {"role": "assistant", "content": said}]
    (folder / "rows.jsonl").write_text(json.dumps({"messages": messages, "images": ["scan.png"]}))
    record = {
        "images": [{"bytes": (folder / "scan.png").read_bytes(), "path": None}],
        "texts": [{"user": "Read.", "assistant": said}],
        "source": "own",
    }
    pq.write_table(pa.Table.from_pylist([record], SCHEMA), folder / "rows.parquet")
    for name in ("rows.jsonl", "rows.parquet"):
        found = gather(folder / name).documents[0]
        assert (found.kind, found.text) == ("text", said)


def test_line_crops_by_name_and_by_list_stay_with_their_page(scan, tmp_path_factory):
    _, page, lines, boxes = scan
    folder = tmp_path_factory.mktemp("crops")
    for i, (text, box) in enumerate(zip(lines, boxes)):
        page.crop((box[0] - 5, box[1] - 8, box[2] + 5, box[3] + 8)).save(folder / f"p1_{i}.png")
        (folder / f"p1_{i}.gt.txt").write_text(text)
    by_name = gather(folder).documents
    assert {one.kind for one in by_name} == {"crop"} and {one.group for one in by_name} == {"p1"}
    for path in folder.glob("*.txt"):
        path.unlink()
    (folder / "list.tsv").write_text("".join(f"p1_{i}.png\t{text}\n" for i, text in enumerate(lines)))
    assert [one.text for one in gather(folder / "list.tsv").documents] == lines
    # Both at once say the same, which is no problem; a list that says something else is one.
    for i, text in enumerate(lines):
        (folder / f"p1_{i}.gt.txt").write_text("something else" if i == 1 else f"{text}\n")
    both = gather(folder)
    assert len(both.documents) == len(lines) and len(both.problems) == 1
    assert "p1_1.png: a second text for one picture" in both.problems[0]


def test_what_cannot_be_used_is_named_and_the_rest_goes_on(scan):
    folder, page, lines, _ = scan
    (folder / "scan.txt").write_text("\n".join(lines))
    (folder / "scan.md").write_text("# " + "\n".join(lines))
    page.save(folder / "alone.png")
    page.save(folder / "blank.png")
    (folder / "blank.txt").write_text(" \n")
    page.save(folder / "latin.png")
    (folder / "latin.txt").write_bytes("Käse".encode("latin-1"))
    (folder / "text.txt").write_text("no picture")
    (folder / "broken.xml").write_text("<PcGts><Page")
    (folder / "other.xml").write_text("<svg/>")
    found = gather(folder)
    assert [one.name for one in found.documents] == ["scan.png"]
    told = "\n".join(found.problems)
    for words in (
        "scan.txt: a second text for one picture",
        "alone.png: no .txt",
        "blank.png: its text is empty",
        "latin.txt cannot be read as UTF-8",
        "text.txt: no picture",
        "broken.xml: cannot be read as XML",
        "<svg>",
    ):
        assert words in told


def test_boxes_outside_or_without_size_and_lines_without_text_are_counted(scan):
    folder, page, lines, boxes = scan
    odd = [(0, 0, 0, 0), (9000, 9000, 9100, 9040), boxes[0]]
    placed = zip([*lines, "flat", "outside", ""], [*boxes, *odd])
    listed = "".join(
        f'<TextLine><Coords points="{a},{b} {c},{b} {c},{d} {a},{d}"/>'
        f"<TextEquiv><Unicode>{text}</Unicode></TextEquiv></TextLine>"
        for text, (a, b, c, d) in placed
    )
    size = f'imageWidth="{page.width}" imageHeight="{page.height}"'
    write(
        folder / "scan.xml",
        f'<PcGts><Page imageFilename="scan.png" {size}><TextRegion>{listed}</TextRegion></Page></PcGts>',
    )
    found = gather(folder)
    assert len(found.documents[0].lines) == len(lines)
    assert "3 of 7 lines lack a text or a box" in found.problems[0]


def test_pipes_and_broken_links_are_named_and_never_waited_for(scan):
    folder, _, lines, _ = scan
    os.mkfifo(folder / "pipe.png")
    (folder / "link.png").symlink_to(folder / "gone.png")
    for name in ("scan.txt", "pipe.txt", "link.txt"):
        (folder / name).write_text("\n".join(lines))
    found = gather(folder)
    assert [one.name for one in found.documents] == ["scan.png"]
    told = "\n".join(found.problems)
    assert "pipe.png: cannot be searched (a pipe or a device)" in told
    assert "link.png: its picture cannot be opened" in told


def test_too_little_ends_in_one_sentence(tmp_path):
    with pytest.raises(UsageError, match="no such folder"):
        gather(tmp_path / "nothing")
    with pytest.raises(UsageError, match="holds no picture with a text"):
        gather(tmp_path)
    Image.new("RGB", (9, 9)).save(tmp_path / "a.gif")
    with pytest.raises(UsageError, match="give a folder, or a file of"):
        gather(tmp_path / "a.gif")
    shutil.rmtree(tmp_path)


def test_markdown_is_read_as_it_stands_on_the_page():
    text = (
        "# Title\n\n| a | b |\n|---|:-:|\n| 1 | **2** |\n\n- see [here](x.html) `code` snake_case_name\n---"
    )
    assert " ".join(plain_of_markdown(text).split()) == "Title a b 1 2 - see here code snake_case_name"


def label_studio(folder, tasks):
    (folder / "export.json").write_text(json.dumps(tasks))
    return gather(folder / "export.json")


def test_label_studio_turned_boxes_need_the_size_beside_the_value(scan):
    folder, page, *_ = scan
    size = {"original_width": page.width, "original_height": page.height}
    value = {"x": 10, "y": 10, "width": 50, "height": 10, "rotation": 90}
    result = [
        {**size, "id": "a", "value": value},
        {**size, "id": "a", "value": {**value, "text": ["two", "parts"]}},
        {"type": "relation", "from_id": "a", "to_id": "b"},  # has no value
    ]
    task = {"data": {"id": "7", "page": "/data/local-files/?d=scan.png"}, "annotations": [{"result": result}]}
    (line,) = label_studio(folder, [task]).documents[0].lines
    assert line.text == "two parts"
    # A quarter turn clockwise: what was as wide as half the picture is now as high.
    left, top = page.width / 10, page.height / 10
    wanted = [(left, top), (left, top + page.width / 2), (left - page.height / 10, top + page.width / 2)]
    assert all(abs(a - b) < 0.01 for p, q in zip(line.quad, wanted) for a, b in zip(p, q))


def test_label_studio_in_brief_with_names_of_its_own(scan):
    folder, page, lines, boxes = scan
    regions = [percent(box, page) for box in boxes]
    said = [lines[0], {**regions[1], "text": lines[1].split(" ", 1)}, *lines[2:]]
    task = {
        "annotation_id": 1,
        "created_at": "2026",
        "scan": "0123abcd-scan.png",
        "area": regions,
        "said": said,
    }
    found = label_studio(folder, [task]).documents[0]
    assert [line.text for line in found.lines] == lines and near(found, boxes)


def test_label_studio_in_brief_with_a_region_left_empty_is_refused(scan):
    folder, page, lines, boxes = scan
    good = {"ocr": "scan.png", "bbox": [percent(b, page) for b in boxes], "transcription": lines}
    for bad in (
        {**good, "transcription": lines[1:]},
        {"ocr": "scan.png", "transcription": "x"},
        {**good, "ocr": 1},
    ):
        with pytest.raises(UsageError, match="not of Label Studio's form"):
            label_studio(folder, [bad])


def test_one_picture_under_two_names_is_used_once(scan):
    folder, page, lines, boxes = scan
    (folder / "scan.txt").write_text("\n".join(lines))
    task = {"ocr": "scan.png", "bbox": [percent(b, page) for b in boxes], "transcription": lines}
    found = label_studio(folder, [task])
    assert not found.problems
    whole = gather(folder)
    assert len(whole.documents) == 1 and whole.documents[0].kind == "boxes"
    assert not whole.problems  # it says the same
    (folder / "scan.txt").write_text("something else")
    assert "scan.png: a second text for one picture" in gather(folder).problems[0]


def test_files_of_one_name_in_two_folders_are_two_documents(tmp_path):
    for number, folder in enumerate((tmp_path / "one", tmp_path / "two")):
        folder.mkdir()
        Image.new("L", (300, 40), 200 + number).save(folder / "a.png")
        (folder / "labels.csv").write_text(f"a.png,Text {number}\n")
        Image.new("L", (300, 40), 100 + number).save(folder / "b.png")
        turns = [{"role": "user", "content": "<image>"}, {"role": "assistant", "content": f"Row {number}"}]
        (folder / "r.jsonl").write_text(json.dumps({"messages": turns, "images": ["b.png"]}))
    found = gather(tmp_path)
    assert sorted(one.text for one in found.documents) == ["Row 0", "Row 1", "Text 0", "Text 1"]
    assert sorted(one.name for one in found.documents) == ["a.png", "r.jsonl/0", "r.jsonl/0 (2)", "two/a.png"]
    assert not any("second text" in problem for problem in found.problems)
