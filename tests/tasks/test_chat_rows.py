"""Chat rows as other trainers write them: where pictures may be, which marks count, what is not learnt."""

from __future__ import annotations

import base64
import io
import json
from base64 import encodebytes
from pathlib import Path
from urllib.parse import quote

import pytest
from PIL import Image

from nanoocr.data.rows import BadRowError, Row, checked_row
from nanoocr.errors import UsageError
from nanoocr.tasks.common import without_marks
from nanoocr.tasks.jsonl import Jsonl

ANSWER = {"role": "assistant", "content": "Hi"}
READ = {"type": "text", "text": "Read."}


def user(content: object) -> dict:
    return {"role": "user", "content": content}


@pytest.fixture
def folder(tmp_path) -> Path:
    Image.new("RGB", (20, 9), "white").save(tmp_path / "a b.png")
    (tmp_path / "sub").mkdir()
    Image.new("RGB", (30, 9), "white").save(tmp_path / "sub" / "b.png")
    return tmp_path


def row_of(folder: Path, record: dict) -> Row:
    (folder / "rows.jsonl").write_text(json.dumps(record))
    return Jsonl(folder / "rows.jsonl")[0]


def as_base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


@pytest.mark.parametrize(
    "part",
    [
        lambda at: {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{as_base64(at)}"}},
        lambda at: {"type": "input_image", "image_url": f"data:image/png;base64,{as_base64(at)}"},
        lambda at: {"type": "image_url", "image_url": {"url": at.as_uri()}},
        lambda at: {"type": "image", "url": at.name},
        lambda at: {"type": "image", "path": str(at)},
        lambda at: {"type": "image", "image": at.name},
        lambda at: {"image": at.name},
        lambda at: {"type": "image", "image": {"bytes": as_base64(at), "path": None}},
        lambda at: {"type": "image", "base64": as_base64(at)},
        lambda at: {"type": "image", "file_name": at.name},
        lambda at: {"type": "image", "source": {"type": "base64", "data": as_base64(at)}},
        lambda at: {"type": "image", "image": encodebytes(at.read_bytes() + bytes(6000)).decode()},
        lambda at: {"type": "image", "url": f"data:image/png;charset=x;BASE64,{as_base64(at).rstrip('=')}"},
        lambda at: {
            "type": "image",
            "url": "data:;base64," + as_base64(at).replace("/", "_").replace("+", "-"),
        },
        lambda at: {"type": "image", "url": f"data:image/png;base64,{quote(as_base64(at), safe='')}"},
        lambda at: {"type": "image", "url": f"data:image/png,{quote(at.read_bytes())}"},
        lambda at: {"type": "image", "url": f"file://localhost{quote(str(at))}"},
        lambda at: {"type": "image", "url": "file://a%20b.png"},
    ],
)
def test_a_part_may_name_or_hold_its_picture(folder, part):
    row = row_of(folder, {"messages": [user([part(folder / "a b.png"), READ]), ANSWER]})
    assert [image.size for image in row.images()] == [(20, 9)]
    assert row.turns == (("Read.", "Hi"),)


@pytest.mark.parametrize("listed", [["sub\\b.png"], "sub/b.png", [None, "sub/b.png"]])
def test_pictures_may_be_listed_beside_the_messages(folder, listed):
    row = row_of(folder, {"messages": [user("<image>Read."), ANSWER], "images": listed})
    assert [image.size for image in row.images()] == [(30, 9)]


def test_bytes_of_the_hub_are_base64(folder):
    listed = [{"bytes": as_base64(folder / "a b.png"), "path": None}]
    assert row_of(folder, {"messages": [user("<image>Read."), ANSWER], "images": listed}).images()[
        0
    ].size == (20, 9)
    with pytest.raises(BadRowError, match="not base64"):
        row_of(folder, {"messages": [user("<image>Read."), ANSWER], "images": [{"bytes": "?"}]})


def test_a_picture_in_its_part_and_in_the_list_is_one(folder):
    part = {"type": "image", "image": "a b.png"}
    row = row_of(folder, {"messages": [user([part, READ]), ANSWER], "images": ["a b.png"]})
    assert len(row.pictures) == 1


@pytest.mark.parametrize(
    "record",
    [
        {"messages": [{"role": "User", "content": "<image>Read."}, {"role": "ASSISTANT", "content": "Hi"}]},
        {
            "messages": [
                {"role": None, "content": None, "from": "human", "value": "<image>Read."},
                {"role": None, "content": None, "from": "gpt", "value": "Hi"},
            ]
        },
        {"messages": json.dumps([user("<image>Read."), ANSWER])},
        {"messages": [user({"type": "text", "text": "<image>Read."}), ANSWER]},
        {"messages": [user("<image_1>Read."), ANSWER]},
        {"messages": [{"role": "system", "content": ""}, user("<image>Read."), ANSWER]},
    ],
)
def test_other_spellings_of_messages(folder, record):
    row = row_of(folder, {**record, "images": [["a b.png"]]})
    assert row.turns == (("Read.", "Hi"),) and [image.size for image in row.images()] == [(20, 9)]


@pytest.mark.parametrize(
    "picture",
    [
        as_base64,  # without a word about what it is, and shorter than a path may be
        lambda at: {"bytes": list(at.read_bytes())},
        lambda at: f"file://{at}",  # by hand, with its blank
        lambda at: f"file:{at.name}",
    ],
)
def test_other_spellings_of_pictures(folder, picture):
    record = {"messages": [user("<image>Read."), ANSWER], "images": [picture(folder / "a b.png")]}
    assert [image.size for image in row_of(folder, record).images()] == [(20, 9)]


def test_parts_of_a_table_have_nulls_for_what_they_are_not(folder):
    parts = [{"text": None, "image": "a b.png"}, {"text": "Read.", "image": None}]
    row = row_of(folder, {"messages": [user(parts), ANSWER]})
    assert row.turns == (("Read.", "Hi"),) and len(row.pictures) == 1


@pytest.mark.parametrize("url", ["https://example.org/a.png", "s3://bucket/a.png"])
def test_pictures_elsewhere_are_not_fetched(folder, url):
    with pytest.raises(BadRowError, match="fetch it and give its path"):
        row_of(folder, {"messages": [user([{"type": "image", "url": url}, READ]), ANSWER]})


def test_role_and_content_may_stand_under_conversations(folder):
    row = row_of(folder, {"conversations": [user("<image>\nRead."), ANSWER], "image": "a b.png"})
    assert row.turns == (("Read.", "Hi"),)


@pytest.mark.parametrize(
    "mark", [{"loss": False}, {"weight": 0}, {"train_on_turn": False}, {"loss_mask": "0"}, {"masked": True}]
)
def test_an_answer_that_is_not_to_be_learnt_is_refused(folder, mark):
    with pytest.raises(BadRowError, match=f"{next(iter(mark))} says not to learn"):
        row_of(folder, {"messages": [user("Hi."), {**ANSWER, **mark}]})
    part = {"type": "text", "text": "Hi", **mark}
    with pytest.raises(BadRowError, match="not to learn"):
        row_of(folder, {"messages": [user("Hi."), {"role": "assistant", "content": [part]}]})
    row = row_of(folder, {"messages": [{**user("Hi."), **mark}, {**ANSWER, "weight": 1, "loss": True}]})
    assert row.answer == "Hi"  # questions are never learnt, so that the mark says nothing there


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("Look at <image> and read.", "Look at and read."),
        ("Compare <image> with <image>, please.", "Compare with, please."),
        ("Page one: <image>\nPage two: <image>\nRead both.", "Page one:\nPage two:\nRead both."),
        ("<image>\n<|image_2|>\nWhat differs?", "What differs?"),
        ("  indented\n    code <image>", "  indented\n    code"),
        ("Read.<image>", "Read."),
        ("<image>Read.", "Read."),
        ("before<image>behind", "before behind"),
        ("  no mark  ", "  no mark  "),
    ],
)
def test_a_mark_goes_and_joins_no_words(text, cleaned):
    assert without_marks(text) == cleaned


@pytest.mark.parametrize(
    "text",
    [
        "Look at <image> and read.",
        "Look at<image>and read.",
        "Compare <image> with <image>, please.",
        "Page one:\n<image>\nPage two:\n<image>\nRead both.",
        "<image> <image>\n\nRead.",
        "Read.\n<image>",
    ],
)
def test_a_picture_part_joins_no_words_and_reads_as_a_mark_does(folder, text):
    picture = {"type": "image", "image": "a b.png"}
    parts = [part for piece in text.split("<image>") for part in ({"type": "text", "text": piece}, picture)]
    of_parts = row_of(folder, {"messages": [user(parts[:-1]), ANSWER]})
    listed = ["a b.png"] * text.count("<image>")
    of_marks = row_of(folder, {"messages": [user(text), ANSWER], "images": listed})
    assert of_parts.turns == of_marks.turns == ((without_marks(text), "Hi"),)
    in_list = [part if part["type"] == "text" else {"type": "image"} for part in parts[:-1]]
    assert row_of(folder, {"messages": [user(in_list), ANSWER], "images": listed}).turns == of_parts.turns


def test_text_parts_side_by_side_are_joined_as_they_are(folder):
    row = row_of(folder, {"messages": [user([READ, READ]), {**ANSWER, "content": [READ, READ]}]})
    assert row.turns == (("Read.Read.", "Read.Read."),)


@pytest.mark.parametrize("end", ["\r\n", "\r"])
def test_line_ends_are_line_feeds_whoever_wrote_them(folder, end):
    answer = {**ANSWER, "content": f"one{end}two"}
    record = {"messages": [user(f"Look:{end}<image>{end}Read."), answer], "images": ["a b.png"]}
    assert row_of(folder, record).turns == (("Look:\nRead.", "one\ntwo"),)
    assert checked_row("row", [], [(f"a{end}b", f"c{end}{end}d")], "test").turns == (("a\nb", "c\n\nd"),)


def test_marks_that_are_text_stay(folder):
    part = {"type": "image", "image": "a b.png"}
    question = {"type": "text", "text": "What does <image> mean?"}
    answer = {"role": "assistant", "content": "Use <image> tags."}
    row = row_of(
        folder,
        {"messages": [{"role": "system", "content": "<image> is a tag."}, user([part, question]), answer]},
    )
    assert row.turns == (("<image> is a tag.\n\nWhat does <image> mean?", "Use <image> tags."),)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"[]\n", r"rows\.json"),
        (b'{"a": 1}\r{"a": 2}', "CR alone"),
        ('{"a": 1}\n'.encode("utf-16"), "UTF-16"),
    ],
)
def test_a_file_that_is_no_text_of_lines_says_so(tmp_path, data, complaint):
    (tmp_path / "rows.jsonl").write_bytes(data)
    with pytest.raises(UsageError, match=complaint):
        Jsonl(tmp_path / "rows.jsonl")


# ---------------------------------------------------------------------------------------------------
# Pages


def of_two_pages(kind: str) -> bytes:
    stored = io.BytesIO()
    pages = [Image.new("L", (72, 36 * (1 + i)), 255) for i in range(2)]
    pages[0].save(stored, kind, save_all=True, append_images=pages[1:])
    return stored.getvalue()


@pytest.mark.parametrize("kind", ["TIFF", "PDF"])
def test_a_row_takes_all_pages_of_a_file(kind):
    row = checked_row("row", [of_two_pages(kind)], [("Read.", "both")], "test")
    first, second = row.images()
    assert second.height == pytest.approx(2 * first.height, abs=1)


def test_a_damaged_page_is_named():
    with pytest.raises(BadRowError, match="row"):
        checked_row("row", [b"%PDF-1.7 nothing"], [("Read.", "both")], "test")


def test_json_that_is_nested_too_deeply_is_a_bad_row(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"messages": ' + "[" * 100_000 + "]" * 100_000 + "}\n")
    with pytest.raises(BadRowError, match=r"line 1: not JSON.*nested too deeply"):
        Jsonl(path)[0]


def test_an_answer_that_counts_in_part_is_refused(folder):
    with pytest.raises(BadRowError, match=r"weight is 0\.5, and here every answer counts once"):
        row_of(folder, {"messages": [user("Hi."), {**ANSWER, "weight": 0.5}]})


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"\x1f\x8b\x08", "compressed by gzip: unpack it"),
        (b"PAR1....", "name it as parquet:FILE"),
        ("{}\n{}".encode("utf-16-le"), "is UTF-16"),
        (b'{\n"messages": []}', "several lines; write each on one line"),
    ],
)
def test_what_is_no_file_of_lines_is_refused_at_once(tmp_path, content, complaint):
    (tmp_path / "rows.jsonl").write_bytes(content)
    with pytest.raises(UsageError, match=complaint):
        Jsonl(tmp_path / "rows.jsonl")
    with pytest.raises(UsageError, match="is a folder; name a file of chat rows"):
        Jsonl(tmp_path)


# ---------------------------------------------------------------------------------------------------
# What stands beside the messages


READ_A_PICTURE = {"messages": [user("<image>Read."), ANSWER], "images": ["a b.png"]}


@pytest.mark.parametrize(
    ("beside", "why"),
    [
        ({"weight": 0}, "weight says not to learn"),
        ({"weight": 2.0}, r"weight is 2\.0, and here every answer counts once"),
        ({"loss": False}, "loss says not to learn"),
        ({"loss_mask": [0, 1]}, r"loss_mask is \[0, 1\], and here every answer counts once"),
        ({"skip_loss": "yes"}, "skip_loss says not to learn"),
        ({"label": False}, "label is false, a bad example"),
        ({"kto_tag": False}, "kto_tag is false, a bad example"),
        ({"videos": ["a.mp4"]}, "has videos, and only pictures are read"),
        ({"audios": ["a.wav"]}, "has audios, and only pictures are read"),
    ],
)
def test_a_row_that_does_not_count_once_is_refused(folder, beside, why):
    with pytest.raises(BadRowError, match=why):
        row_of(folder, {**READ_A_PICTURE, **beside})


@pytest.mark.parametrize(
    "beside",
    [
        {"weight": 1.0, "loss": True, "loss_scale": [1.0], "skip_loss": False},
        {"weight": None, "videos": [], "audios": [None]},
        {"train": "stage 1", "label": 0, "kto_tag": True, "image_url": "https://where.it/came/from.png"},
        {"objects": {"bbox": [[1, 2, 3, 4]]}},
    ],
)
def test_notes_beside_a_row_change_nothing(folder, beside):
    assert row_of(folder, {**READ_A_PICTURE, **beside}).turns == (("Read.", "Hi"),)


@pytest.mark.parametrize("content", ["Read.", "<image>Read.", [READ], [{"type": "image"}, READ]])
@pytest.mark.parametrize("beside", [{"images": ["a b.png"]}, {"image": "a b.png"}])
def test_a_message_may_list_its_pictures(folder, content, beside):
    row = row_of(folder, {"messages": [{**user(content), **beside}, ANSWER]})
    assert row.turns == (("Read.", "Hi"),) and [image.size for image in row.images()] == [(20, 9)]


def test_pictures_of_messages_keep_their_order_among_those_of_the_row(folder):
    first, second = user("<image>Read."), {**user("And this?"), "images": ["sub/b.png"]}
    row = row_of(folder, {"messages": [first, ANSWER, second, ANSWER], "images": '["a b.png"]'})
    assert [image.size for image in row.images()] == [(20, 9), (30, 9)]
    with pytest.raises(BadRowError, match="2 <image> marks for 1 pictures"):
        row_of(folder, {"messages": [{**user("<image><image>"), "images": ["a b.png"]}, ANSWER]})


@pytest.mark.parametrize("key", ["image_path", "image_urls", "img"])
@pytest.mark.parametrize("text", ["Read.", "<image>Read."])
def test_a_picture_under_an_unknown_key_is_not_passed_over(folder, key, text):
    with pytest.raises(BadRowError, match=f"its picture stands under {key}"):
        row_of(folder, {"messages": [user(text), ANSWER], key: "a b.png"})


def test_what_is_not_learnt_within_the_messages_is_refused(folder):
    calls = {**ANSWER, "tool_calls": [{"function": {"name": "read"}}]}
    with pytest.raises(BadRowError, match="calls tools"):
        row_of(folder, {**READ_A_PICTURE, "messages": [user("<image>Read."), calls]})
    boxes = [user("<image>Where is <ref-object>?"), {**ANSWER, "content": "<bbox>"}]
    with pytest.raises(BadRowError, match="write the boxes into its texts"):
        row_of(folder, {**READ_A_PICTURE, "messages": boxes, "objects": {"ref": ["it"]}})
    with pytest.raises(BadRowError, match="names a picture within its text"):
        row_of(folder, {"messages": [user("Picture 1: <img>a b.png</img> Read."), ANSWER]})


@pytest.mark.parametrize("indices", [(0, 1), (None, None), (1, 0), (0, 0)])
def test_parts_that_name_pictures_by_index_name_them_in_order(folder, indices):
    parts = [{"type": "image", "text": None, "index": index} for index in indices]
    record = {"messages": [user([*parts, READ]), ANSWER], "images": ["a b.png", "sub/b.png"]}
    if indices in ((0, 1), (None, None)):
        assert [image.size for image in row_of(folder, record).images()] == [(20, 9), (30, 9)]
        return
    with pytest.raises(BadRowError, match="list them in the order of the parts"):
        row_of(folder, record)
