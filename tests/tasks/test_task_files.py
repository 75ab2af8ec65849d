"""Data sets that are folders of files: pairs, chat rows, olmOCR's PDFs, receipts, charts."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from nanoocr import pages as sources
from nanoocr.data import rows
from nanoocr.data.rows import BadRowError, Turn
from nanoocr.errors import UsageError
from nanoocr.tasks.choose import make_task
from nanoocr.tasks.olmocr_mix import front_matter


def png(path, size=(40, 20), colour="red", mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)
    return path


def pdf(path, pages=1):
    """Upright pages, wider than high, whose left upper quarter is black."""
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn = []
    for _ in range(pages):
        page = Image.new("RGB", (120, 60), "white")
        page.paste("black", (0, 0, 60, 30))
        drawn.append(page)
    drawn[0].save(path, save_all=True, append_images=drawn[1:], resolution=200)
    return path


def is_wide(image):
    return image.width > image.height


# ---------------------------------------------------------------------------------------------------------
# folders


def test_a_folder_pairs_names_and_tells_what_is_alone(tmp_path):
    for name in ("b.PNG", "a.jpg", "alone.png", "empty.png"):
        png(tmp_path / name)
    png(tmp_path / "sub/c.png", mode="RGBA", colour=(0, 0, 0, 0))
    pdf(tmp_path / "d.pdf", pages=2)
    texts = {"a.txt": "A\n", "b.txt": "no", "b.md": "# B", "sub/c.md": "C", "d.txt": "D", "e.txt": "E"}
    for name, text in texts.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "empty.txt").write_bytes(b"\xef\xbb\xbf\n")
    task = make_task(f"folder:{tmp_path}")
    assert [row.answer for row in task] == ["A", "# B", "D", "", "C"]
    assert [len(row.pictures) for row in task] == [1, 1, 2, 1, 1] and task[0].prompt == "Read."
    assert task[4].image.getpixel((0, 0)) == (255, 255, 255) and task[2].images()[1].getpixel((5, 5)) == (
        0,
        0,
        0,
    )
    assert [message.removeprefix(f"{tmp_path}/") for message in task.missing] == [
        "alone.png: no .txt or .md beside it",
        "e.txt: no picture or PDF beside it",
        "b.txt: b.md beside it is used",
    ]
    assert make_task(f"folder:{tmp_path}?prompt=Read.&start=1")[0].turns == (Turn("Read.", "# B"),)


def test_fingerprints_of_files(tmp_path):
    for name in ("a", "b"):
        png(tmp_path / f"img/{name}.jpg"), (tmp_path / f"img/{name}.txt").write_text("A")
    chat(tmp_path, {"messages": said("q")}, name="chat.jsonl")
    specs = (f"folder:{tmp_path}/img", f"sroie:{tmp_path}", f"jsonl:{tmp_path}/chat.jsonl")
    before = [make_task(spec).fingerprint() for spec in specs]
    assert [make_task(spec).fingerprint() for spec in specs] == before and len(set(before)) == 3
    png(tmp_path / "img/c.jpg"), (tmp_path / "img/c.txt").write_text("C")
    chat(tmp_path, {"messages": said("quite another")}, name="chat.jsonl")
    assert not set(before) & {make_task(spec).fingerprint() for spec in specs}


def test_a_tiff_of_several_pages_is_one_row_of_several_pictures(tmp_path):
    first, second = Image.new("RGB", (40, 20), "red"), Image.new("1", (20, 40))
    first.save(tmp_path / "a.tif", save_all=True, append_images=[second])
    (tmp_path / "a.txt").write_text("A")
    (row,) = make_task(f"folder:{tmp_path}")
    assert [image.size for image in row.images()] == [(40, 20), (20, 40)]


def test_a_folder_without_pairs_and_files_that_cannot_be_read(tmp_path):
    with pytest.raises(UsageError, match=r"no picture or PDF has a \.txt or \.md"):
        make_task(f"folder:{tmp_path}")
    png(tmp_path / "a.png"), (tmp_path / "a.txt").write_bytes(b"gr\xfcn")
    (tmp_path / "b.pdf").write_bytes(b"%PDF-1.4 cut"), (tmp_path / "b.txt").write_text("b")
    task = make_task(f"folder:{tmp_path}")
    for i, complaint in ((0, r"a\.png: a\.txt cannot be read as UTF-8"), (1, r"b\.pdf.* damaged")):
        with pytest.raises(BadRowError, match=complaint):
            task[i]


@pytest.fixture
def rendered(monkeypatch):
    """The numbers of the pages that were rendered."""
    numbers, render = [], sources._render
    monkeypatch.setattr(
        sources, "_render", lambda document, i, name: numbers.append(i) or render(document, i, name)
    )
    return numbers


def test_pages_wait_encoded_and_a_pdf_of_too_many_is_not_even_rendered(tmp_path, rendered, monkeypatch):
    monkeypatch.setattr(rows, "MAX_PAGES", 3)
    for name, pages in (("a", 3), ("b", 4)):
        pdf(tmp_path / f"{name}.pdf", pages), (tmp_path / f"{name}.txt").write_text("text")
    task = make_task(f"folder:{tmp_path}")
    row = task[0]
    assert rendered == [1, 2, 3] and all(isinstance(picture, bytes) for picture in row.pictures)
    original = list(sources.open_source(tmp_path / "a.pdf"))[2].image
    assert row.images()[2].tobytes() == original.tobytes()  # nothing is lost
    rendered.clear()
    with pytest.raises(BadRowError, match=r"b\.pdf has 4 pages, and a row has 3 at most: split"):
        task[1]
    assert not rendered


# ---------------------------------------------------------------------------------------------------------
# chat rows


def chat(tmp_path, *rows, name="chat.jsonl", options=""):
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (tmp_path / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    png(tmp_path / "a.png"), png(tmp_path / "sub/b.png", size=(10, 30))
    return make_task(f"jsonl:{tmp_path / name}{options}")


def said(user, assistant="Hi"):
    return [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]


A, B = (40, 20), (10, 30)  # sizes of the pictures
TEXT, MARK = {"type": "text", "text": "What?"}, {"type": "image"}
SYSTEM = {"role": "system", "content": "Be brief."}


@pytest.mark.parametrize(
    ("row", "question", "sizes"),
    [
        ({"messages": said("<image>What?"), "images": ["a.png"]}, "What?", [A]),
        ({"messages": said("What?")}, "What?", []),
        ({"messages": said("<image>\n<image>\nWhat?"), "images": ["sub/b.png", "a.png"]}, "What?", [B, A]),
        ({"messages": said([MARK, TEXT]), "images": [{"path": "a.png"}]}, "What?", [A]),
        ({"messages": said([{"type": "image", "image": "sub/b.png"}, TEXT])}, "What?", [B]),
        ({"messages": said([TEXT, {"type": "image_url", "image_url": {"url": "a.png"}}])}, "What?", [A]),
        ({"messages": [SYSTEM, *said("What?")]}, "Be brief.\n\nWhat?", []),
        ({"system": "Be brief.", "messages": said("What?")}, "Be brief.\n\nWhat?", []),
        (
            {
                "conversations": [
                    {"from": "human", "value": "<image>\nWhat?"},
                    {"from": "gpt", "value": "Hi"},
                ],
                "image": "a.png",
            },
            "What?",
            [A],
        ),
    ],
)  # fmt: skip
def test_forms_of_chat_rows(tmp_path, row, question, sizes):
    (loaded,) = chat(tmp_path, row)
    assert loaded.turns == (Turn(question, "Hi"),)
    assert [image.size for image in loaded.images()] == sizes


def test_lines_are_found_by_number_and_blank_ones_do_not_count(tmp_path):
    rows = [{"messages": said("q", f"answer {i} é"), "source": "mine"} for i in range(5)]
    task = chat(tmp_path, rows[0], "", rows[1], "   ", *rows[2:])
    assert [row.answer for row in task] == [f"answer {i} é" for i in range(5)]
    assert task[4].id.endswith("chat.jsonl: line 7") and task[4].source == "mine"
    (tmp_path / "list.json").write_text(json.dumps(rows))
    listed = make_task(f"jsonl:{tmp_path / 'list.json'}?start=3")
    assert [row.answer for row in listed] == ["answer 3 é", "answer 4 é"] and "row 3" in listed[0].id


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ("{cut", "not JSON"),
        ("[1]", "not a JSON object"),
        ({"text": "x"}, "neither messages nor conversations"),
        ({"messages": said("<image>What?")}, "1 <image> marks for 0 pictures"),
        ({"messages": said("What?"), "images": ["a.png"]}, "0 <image> marks for 1 pictures"),
        ({"messages": said([MARK, MARK]), "images": ["a.png"]}, "2 <image> marks for 1 pictures"),
        ({"messages": said("<image>x"), "images": ["gone.png"]}, r"gone\.png cannot be read"),
        ({"messages": said("<image>x"), "images": ["http://a/b.png"]}, "http://a/b.png is no file"),
        ({"messages": said("<image>x"), "images": [7]}, "a picture is named by 7"),
        ({"messages": said("<image>x"), "images": 7}, "a picture is named by 7"),
        ({"messages": said("x"), "system": ["Be brief."]}, "neither a string nor a list of parts"),
        ({"messages": said("x", "")}, "an answer is blank"),
        ({"messages": said("x", None)}, "neither a string nor a list"),
        ({"messages": said("x", "\ud83d")}, "the answer holds half a character"),
        ({"messages": said([{"type": "audio"}])}, "part of type 'audio'"),
        ({"messages": said([{"type": "text"}])}, "without a text"),
        ({"messages": said("x")[:1]}, "the roles are user"),
        ({"messages": [{"role": "user"}]}, "without role and content"),
        ({"messages": []}, "the roles are none"),
        ({"conversations": [{"from": "bot", "value": "x"}]}, "the roles are bot"),
    ],
)
def test_chat_rows_that_cannot_be_used_are_named(tmp_path, row, complaint):
    task = chat(tmp_path, {"messages": said("fine")}, row)
    assert task[0].prompt == "fine"
    with pytest.raises(BadRowError, match=rf"chat\.jsonl: line 2: .*{complaint}"):
        task[1]


def test_empty_and_wrong_chat_files(tmp_path):
    with pytest.raises(UsageError, match="holds no rows"):
        chat(tmp_path, "")
    for content, complaint in (("{}", "not a list"), ("{cut", "not JSON"), ("[]", "holds no rows")):
        (tmp_path / "list.json").write_text(content)
        with pytest.raises(UsageError, match=complaint):
            make_task(f"jsonl:{tmp_path / 'list.json'}")


def test_llava_instruct(tmp_path):
    turns = [{"from": "human", "value": "What?\n<image>"}, {"from": "gpt", "value": "A dog."}]
    rows = [{"id": "000000033471", "image": "000000033471.jpg", "conversations": turns * 2}]
    rows[0]["conversations"] = [*turns, {"from": "human", "value": "Sure?"}, {"from": "gpt", "value": "Yes."}]
    (tmp_path / "llava_instruct_150k.json").write_text(json.dumps(rows))
    png(tmp_path / "train2017/000000033471.jpg")
    task = make_task(f"llava_instruct:{tmp_path}/llava_instruct_150k.json?images={tmp_path}/train2017")
    assert task[0].turns == (Turn("What?", "A dog."), Turn("Sure?", "Yes."))
    assert task[0].image.size == (40, 20) and task[0].source == "llava_instruct"


# ---------------------------------------------------------------------------------------------------------
# olmOCR-mix

ABOUT = {"primary_language": "en", "is_rotation_valid": True, "rotation_correction": 0, "is_table": False}


def response(**about):
    return json.dumps({**ABOUT, "natural_text": "Text.", **about})


def test_olmocr_tables_of_0225(tmp_path):
    sideways = response(is_rotation_valid=False, rotation_correction=90)
    responses = [
        response(),
        sideways,
        response(natural_text=None),
        response(rotation_correction=90),
        "{cut",
        "[]",
    ]
    responses += ['{"is_rotation_valid": true}', response(natural_text=["Text."])]
    responses += [response(is_rotation_valid=False, rotation_correction=45), response()]
    rows = [
        {"id": f"page-{i}", "url": "x", "page_number": 7, "response": text}
        for i, text in enumerate(responses)
    ]
    (tmp_path / "tables").mkdir()
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "tables/train-s2pdf.parquet")
    for i in range(len(rows) - 1):
        pdf(tmp_path / f"pdfs/page-{i}.pdf")
    task = make_task(f"olmocr_mix:train-s2pdf?path={tmp_path}/tables&pdfs={tmp_path}/pdfs")
    assert task[0].turns == (Turn("Read.", "Text."),) and task[0].source == "olmocr_mix"
    assert is_wide(task[0].image) and task[0].image.getpixel((5, 5)) == (0, 0, 0)
    turned = task[1].image  # clockwise: what was on the left is on top, the black quarter comes to the right
    assert (
        not is_wide(turned) and turned.getpixel((55, 5)) == (0, 0, 0) and turned.getpixel((5, 5)) != (0, 0, 0)
    )
    assert task[2].answer == "" and is_wide(task[3].image)
    complaints = (
        "response is not JSON",
        "not a JSON object",
        "schema.*natural_text",
        r"the answer is \['Text\.'\]",
        "rotation_correction is 45",
        "page-9.pdf does not exist",
    )
    for i, complaint in enumerate(complaints, 4):
        with pytest.raises(BadRowError, match=rf"row {i}: .*{complaint}"):
            task[i]


def test_olmocr_tables_of_1025(tmp_path, rendered):
    columns = {"natural_text": "<table></table>", "is_rotation_valid": True, "rotation_correction": 0}
    path = "pdf_tarballs/00_documents_train_00000.tar.gz:0000/abc:1-8.pdf"
    paths = [path, path, "nowhere.pdf"]
    rows = [{**columns, "pdf_relpath": p, "page_number": n} for p, n in zip(paths, (2, 9, 1))]
    (tmp_path / "tables").mkdir()
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "tables/00_documents_train.parquet")
    pdf(tmp_path / "pdfs/00_documents_train_00000/0000/abc:1-8.pdf", pages=3)
    task = make_task(f"olmocr_mix:00_documents_train?path={tmp_path}/tables&pdfs={tmp_path}/pdfs")
    assert len(task[0].pictures) == 1 and task[0].answer == "<table></table>" and set(rendered) == {2}
    for i, complaint in ((1, "3 pages, and page_number is 9"), (2, "neither an id nor a pdf_relpath")):
        with pytest.raises(BadRowError, match=complaint):
            task[i]


def test_olmocr_on_disk(tmp_path):
    lines = [
        f"{key}: {value}"
        for key, value in {**ABOUT, "is_rotation_valid": False, "rotation_correction": 180}.items()
    ]
    pdf(tmp_path / "0123/a.pdf"), pdf(tmp_path / "0123/b.pdf"), pdf(tmp_path / "c.pdf")
    (tmp_path / "0123/a.md").write_text("\n".join(["---", *lines, "---", "First line", "---", "last"]))
    (tmp_path / "0123/b.md").write_text("\n".join(["---", *lines, "---"]))  # nothing to read
    (tmp_path / "c.md").write_text("No front matter: just text")
    task = make_task(f"olmocr_mix:{tmp_path}")
    assert [row.answer for row in task] == ["First line\n---\nlast", "", "No front matter: just text"]
    assert task[0].image.getpixel((115, 55)) == (0, 0, 0) and task[2].image.getpixel((5, 5)) == (0, 0, 0)
    assert front_matter("---\nprimary_language: None\nn: 7\n---\nx") == (
        {"primary_language": None, "n": 7},
        "x",
    )
    assert front_matter("---\nnever closed") == ({}, "---\nnever closed")
    assert front_matter("---\nn: 7\n---\na\u2028b") == ({"n": 7}, "a\u2028b")


# ---------------------------------------------------------------------------------------------------------
# receipts and charts

BOXES = (
    "10,50,90,50,90,70,10,70,TOTAL:\n100,52,150,52,150,72,100,72,4.95\n10,10,99,10,99,30,10,30,SHOP, LTD.\n\n"
)
KEYS = {"total": "4.95", "company": "SHOP, LTD.", "extra": "x"}


def test_sroie(tmp_path):
    png(tmp_path / "img/X1.jpg"), png(tmp_path / "img/X2.jpg"), png(tmp_path / "img/X3.jpg")
    for folder, name, text in (
        ("box", "X1.txt", BOXES),
        ("entities", "X1.txt", json.dumps(KEYS)),
        ("box", "X2.csv", "1,2,3,cut"),
        ("key", "X2.json", "no"),
    ):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / name).write_text(text)
    text = Turn("Read.", "SHOP, LTD.\nTOTAL: 4.95")
    fields = Turn("Give company, date, address, total as JSON.", '{"company": "SHOP, LTD.", "total": "4.95"}')
    assert make_task(f"sroie:{tmp_path}")[0].turns == (text,)
    assert make_task(f"sroie:{tmp_path}?ask=fields")[0].turns == (fields,)
    task = make_task(f"sroie:{tmp_path}?ask=both")
    assert len(task) == 3 and task[0].turns == (text, fields)
    for i, ask, complaint in (
        (1, "text", "box '1,2,3,cut'"),
        (1, "fields", "no JSON object"),
        (2, "text", "neither"),
    ):
        with pytest.raises(BadRowError, match=rf"X{i + 1}\.jpg: .*{complaint}"):
            make_task(f"sroie:{tmp_path}?ask={ask}")[i]
    with pytest.raises(UsageError, match="ask=words: choose one of text, fields, both"):
        make_task(f"sroie:{tmp_path}?ask=words")
    with pytest.raises(UsageError, match=r"img: holds no \.jpg"):
        make_task(f"sroie:{tmp_path / 'box'}")


def test_chartqa_in_its_own_folders(tmp_path):
    png(tmp_path / "train/png/1.png")
    human = [
        {"imgname": "1.png", "query": "How many?", "label": "3"},
        {"imgname": "2.png", "query": "q", "label": "a"},
    ]
    (tmp_path / "train/train_human.json").write_text(json.dumps(human))
    with pytest.raises(UsageError, match=r"train_augmented\.json: cannot be read"):
        make_task(f"chartqa:{tmp_path}")
    (tmp_path / "train/train_augmented.json").write_text(json.dumps([{"imgname": "1.png", "query": "Most?"}]))
    task = make_task(f"chartqa:{tmp_path}")
    assert len(task) == 3 and task[0].turns == (Turn("How many?", "3"),) and task[0].image.size == (40, 20)
    for i, complaint in (
        (1, r"human\.json: row 1: .*2\.png cannot be read"),
        (2, r"augmented\.json: row 0: needs"),
    ):
        with pytest.raises(BadRowError, match=complaint):
            task[i]
