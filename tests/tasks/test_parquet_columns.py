"""Parquet as other programs write it: where a picture is, what a number says, which columns there are."""

import base64
import json
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from nanoocr.data.rows import BadRowError, read_rows
from nanoocr.errors import UsageError
from nanoocr.tasks.choose import make_task

TURN = {"user": "Read.", "assistant": "Hi"}


@pytest.fixture
def folder(tmp_path):
    Image.new("RGB", (20, 9), "white").save(tmp_path / "ä b.png")
    return tmp_path


def only(folder, table, **options):
    pq.write_table(table, folder / "t.parquet", **options)
    return make_task(f"parquet:{folder / 't.parquet'}")[0]


def as_base64(path):
    return base64.b64encode(path.read_bytes()).decode()


@pytest.mark.parametrize(
    "images",
    [
        lambda at: [at.name],
        lambda at: [at.as_uri()],
        lambda at: [f".\\{at.name}"],
        lambda at: [f"data:image/png;base64,{as_base64(at)}"],
        lambda at: as_base64(at),
        lambda at: [{"bytes": as_base64(at)}],
        lambda at: [[{"bytes": at.read_bytes(), "path": None}]],
        lambda at: [{"bytes": np.frombuffer(at.read_bytes(), np.uint8)}],
        lambda at: json.dumps([{"bytes": as_base64(at), "path": None}]),
        lambda at: [{"url": at.name}],
    ],
)
def test_pictures_are_found_in_every_form(folder, images):
    row = only(folder, pa.table({"images": [images(folder / "ä b.png")], "texts": [[TURN]]}))
    assert [image.size for image in row.images()] == [(20, 9)]


@pytest.mark.parametrize(
    ("answer", "kind", "text"),
    [
        (0.1, pa.float32(), "0.1"),
        (0.1, pa.float16(), "0.1"),
        (0.1, pa.float64(), "0.1"),
        (7, pa.int8(), "7"),
        (Decimal("4.50"), pa.decimal128(5, 2), "4.50"),
    ],
)
def test_numbers_are_texts_as_people_write_them(folder, answer, kind, text):
    answer = np.float16(answer) if kind == pa.float16() else answer
    turns = pa.array(
        [[{"user": "x", "assistant": answer}]],
        pa.list_(pa.struct([("user", pa.string()), ("assistant", kind)])),
    )
    assert only(folder, pa.table({"images": [[]], "texts": turns})).answer == text


def labelled(folder, answer, feature):
    noted = json.dumps({"info": {"features": {"texts": feature}}})
    turns = [[{"user": "x", "assistant": answer}]]
    table = pa.table({"images": [["ä b.png"]], "texts": turns}).replace_schema_metadata(
        {"huggingface": noted}
    )
    return only(folder, table)


def test_labels_have_the_names_that_stand_beside_the_schema(folder):
    turn = {
        "user": {"dtype": "string", "_type": "Value"},
        "assistant": {"names": ["cat", "dog"], "_type": "ClassLabel"},
    }
    for feature in ([turn], {"feature": turn, "_type": "List"}):
        assert labelled(folder, 1, feature).answer == "dog"
        assert read_rows(folder / "t.parquet")[0].answer == "dog"
        with pytest.raises(BadRowError, match="the answer is None"):
            labelled(folder, -1, feature)


@pytest.mark.parametrize("texts", [None, [None], [{"user": "x", "assistant": float("nan")}]])
def test_what_is_missing_is_no_text(folder, texts):
    kind = pa.list_(pa.struct([("user", pa.string()), ("assistant", pa.float64())]))
    with pytest.raises(BadRowError, match=r"null|None"):
        only(folder, pa.table({"images": [[]], "texts": pa.array([texts], kind)}))


def test_chat_rows_may_be_columns(folder):
    messages = [{"role": "user", "content": "<image>Read."}, {"role": "assistant", "content": "Hi"}]
    as_json = pa.ExtensionArray.from_storage(pa.json_(), pa.array([json.dumps(messages)]))
    for column in ([messages], [json.dumps(messages)], as_json):
        row = only(folder, pa.table({"images": [["ä b.png"]], "messages": column}))
        assert row.turns == (("Read.", "Hi"),) and len(row.pictures) == 1


def test_columns_of_no_known_kind_are_refused_at_once(folder):
    with pytest.raises(
        UsageError, match="no column images: rows have images and texts, or messages; here are"
    ):
        only(folder, pa.table({"image": ["ä b.png"], "texts": [[TURN]]}))


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ({"weight": [0.5]}, r"weight is 0\.5, and here every answer counts once"),
        ({"loss": [False]}, "loss says not to learn"),
        ({"texts": [[{**TURN, "weight": 0}]]}, "weight says not to learn"),
        ({"texts": [json.dumps([{**TURN, "weight": 0}])]}, "weight says not to learn"),
    ],
)
def test_a_row_that_does_not_count_once_is_refused(folder, columns, why):
    with pytest.raises(BadRowError, match=why):
        only(folder, pa.table({"images": [["ä b.png"]], "texts": [[TURN]], **columns}))


@pytest.mark.parametrize("weight", [1.0, None, float("nan")])
def test_a_weight_of_one_or_none_changes_nothing(folder, weight):
    columns = {"weight": pa.array([weight], pa.float64(), from_pandas=False)}
    assert only(folder, pa.table({"images": [["ä b.png"]], "texts": [[TURN]], **columns})).answer == "Hi"
