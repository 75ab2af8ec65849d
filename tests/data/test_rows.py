"""Rows from Parquet and JSON, and one sentence for each way in which a file can be wrong."""

from __future__ import annotations

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from nanoocr.data.rows import read_rows, row_from_record, row_from_synth
from nanoocr.data.synth import find_fonts, make_sample, write_parquet
from nanoocr.errors import NanoOCRError, UsageError


def png(colour: str = "red", size: tuple[int, int] = (40, 20)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def record(**columns: object) -> dict:
    return {
        "images": [{"bytes": png(), "path": None}],
        "texts": [{"user": "Read.", "assistant": "hello"}],
        "source": "test",
        **columns,
    }


# ---------------------------------------------------------------------------------------------------------
# Parquet


def test_synthetic_parquet_comes_back_as_it_was_drawn(tmp_path):
    fonts = find_fonts()[:3]
    write_parquet(tmp_path / "cards.parquet", "card", 5, 11, fonts=fonts)
    rows = read_rows(tmp_path / "cards.parquet")
    assert len(rows) == 5
    for i, row in enumerate(rows):
        sample = make_sample("card", 11, i, fonts=fonts)
        live = row_from_synth(sample, "x")
        assert np.array_equal(np.asarray(row.image), np.asarray(sample.image))
        assert (row.prompt, row.answer, row.chars) == (live.prompt, live.answer, live.chars)
        assert row.source == live.source == "synth/card"
        assert np.array_equal(row.boxes, live.boxes) and row.boxes.dtype == np.float32
        assert len(row.boxes) == len(row.chars) > 0
    assert len({row.id for row in rows}) == 5 and "row 3" in rows[3].id


def test_limit(tmp_path):
    table = pa.Table.from_pylist([record(source=str(i)) for i in range(200)])
    pq.write_table(table, tmp_path / "rows.parquet", row_group_size=50)
    assert [row.source for row in read_rows(tmp_path / "rows.parquet", limit=3)] == ["0", "1", "2"]
    assert [row.source for row in read_rows(tmp_path / "rows.parquet")] == [str(i) for i in range(200)]


def test_finevision_rows_without_our_columns():
    row = row_from_record(record(relevance_ratings=[5]), "r")
    assert (row.prompt, row.answer, row.source, row.chars) == ("Read.", "hello", "test", "")
    assert row.image.size == (40, 20) and row.boxes.shape == (0, 4)


@pytest.mark.parametrize("images", [None, []])
def test_a_row_of_text_alone(images):
    assert row_from_record(record(images=images), "r").image is None


def test_all_pictures_and_turns_are_kept_in_order():
    images = [{"bytes": png("red")}, {"bytes": png("blue")}]
    texts = [{"user": "a", "assistant": "b"}, {"user": "c", "assistant": "d"}]
    row = row_from_record(record(images=images, texts=texts), "r")
    assert [image.getpixel((0, 0)) for image in row.images()] == [(255, 0, 0), (0, 0, 255)]
    assert row.turns == (("a", "b"), ("c", "d")) and (row.prompt, row.answer) == ("a", "b")


@pytest.mark.parametrize(
    "columns",
    [
        {"texts": None},
        {"texts": []},
        {"texts": [None]},
        {"texts": [{"user": "a"}]},
        {"texts": [{"user": None, "assistant": "b"}]},
        {"texts": [{"user": "a", "assistant": None}]},
        {"images": [{"path": "a.png"}]},
        {"images": [{"bytes": None, "path": "a.png"}]},
        {"images": [None]},
        {"images": [{"bytes": b"", "path": None}]},
        {"images": [{"bytes": b"not a picture", "path": None}]},
        {"images": [{"bytes": png()[:60], "path": None}]},
        {"char_boxes": [{"text": "a", "x0": 0.0, "y0": 0.0, "x1": 1.0}]},
        {"char_boxes": [{"x0": 0.0, "y0": 0.0, "x1": 1.0, "y1": 1.0}]},
        {"char_boxes": [{"text": None, "x0": 0.0, "y0": 0.0, "x1": 1.0, "y1": 1.0}]},
        {"char_boxes": [{"text": "a", "x0": None, "y0": 0.0, "x1": 1.0, "y1": 1.0}]},
        {"char_boxes": [{"text": "abc", "x0": 0.0, "y0": 0.0, "x1": 1.0, "y1": 1.0}]},
    ],
)
def test_a_row_that_is_not_of_the_schema_is_named(columns):
    with pytest.raises(NanoOCRError, match="file: row 7"):
        row_from_record(record(**columns), "file: row 7").decoded()


def test_missing_columns_are_a_row_that_is_named(tmp_path):
    pq.write_table(pa.table({"text": ["a", "b"]}), tmp_path / "rows.parquet")
    with pytest.raises(UsageError, match=r"rows\.parquet: row 0"):
        read_rows(tmp_path / "rows.parquet")


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no parquet at all" * 10])
def test_a_file_that_is_no_parquet_is_named(tmp_path, content):
    (tmp_path / "rows.parquet").write_bytes(content)
    with pytest.raises(UsageError, match=r"rows\.parquet"):
        read_rows(tmp_path / "rows.parquet")


@pytest.mark.parametrize("place", [0.1, 0.3, 0.5, 0.9])
def test_a_damaged_parquet_is_one_sentence(tmp_path, place):
    """Where the damage is noticed at all: Parquet has no checksum either."""
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_pylist([record(source=str(i)) for i in range(50)]), path)
    content = bytearray(path.read_bytes())
    start = int(len(content) * place)
    content[start : start + 40] = bytes(40)
    path.write_bytes(content)
    try:
        read_rows(path)
    except UsageError as error:
        assert "rows.parquet" in str(error)  # noqa: PT017 (not raising is allowed too)


# ---------------------------------------------------------------------------------------------------------
# JSON


def write_json(tmp_path, entries: object) -> str:
    (tmp_path / "pictures").mkdir(exist_ok=True)
    (tmp_path / "pictures" / "a.png").write_bytes(png("green"))
    path = tmp_path / "ten.json"
    path.write_text(json.dumps(entries))
    return str(path)


ENTRY = {"id": "receipt_000", "image": "pictures/a.png", "prompt": "Read.", "answer": "total 7"}


def test_json_rows_with_pictures_relative_to_the_file(tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    boxes = {"chars": "ab", "boxes": [[0, 1, 2, 3], [4, 5, 6, 7]]}
    first, second = read_rows(write_json(tmp_path, [ENTRY, {**ENTRY, "id": "b", **boxes}]))
    assert (first.id, first.prompt, first.answer, first.chars) == ("receipt_000", "Read.", "total 7", "")
    assert first.image.getpixel((0, 0)) == (0, 128, 0) and first.boxes.shape == (0, 4)
    assert second.chars == "ab" and second.boxes.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]


@pytest.mark.parametrize("key", ["id", "image", "prompt", "answer"])
def test_json_entry_without_a_key_is_named(tmp_path, key):
    entry = {name: value for name, value in ENTRY.items() if name != key}
    with pytest.raises(UsageError, match=f"ten.json: row 1.*{key}"):
        read_rows(write_json(tmp_path, [ENTRY, entry]))


@pytest.mark.parametrize(
    "entries",
    [
        5,
        None,
        {},
        [],
        {"a": 1},
        [7],
        [{**ENTRY, "boxes": [1, 2, 3]}],
        [{**ENTRY, "boxes": "no"}],
        [{**ENTRY, "chars": "abc", "boxes": [[0, 0, 1, 1]]}],
        [{**ENTRY, "prompt": None}],
        [{**ENTRY, "answer": 7}],
        [{**ENTRY, "image": 7}],
        [{**ENTRY, "image": None}],
    ],
)
def test_json_that_is_not_of_the_schema_is_named(tmp_path, entries):
    with pytest.raises(UsageError, match=r"ten\.json"):
        read_rows(write_json(tmp_path, entries))


def test_missing_picture_is_named(tmp_path):
    with pytest.raises(NanoOCRError, match=r"b\.png"):
        read_rows(write_json(tmp_path, [{**ENTRY, "image": "pictures/b.png"}]))


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00"])
def test_a_file_that_is_no_json_is_named(tmp_path, content):
    (tmp_path / "ten.json").write_bytes(content)
    with pytest.raises(UsageError, match=r"ten\.json"):
        read_rows(tmp_path / "ten.json")


def test_missing_file_and_unknown_suffix(tmp_path):
    with pytest.raises(UsageError, match=r"nowhere\.json"):
        read_rows(tmp_path / "nowhere.json")
    (tmp_path / "rows.csv").write_text("a,b")
    with pytest.raises(UsageError, match=r"rows\.csv.*\.parquet"):
        read_rows(tmp_path / "rows.csv")
    with pytest.raises(UsageError):
        read_rows(tmp_path)
