"""Shards row by row, and tasks as sequences with slices and units."""

from __future__ import annotations

import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanoocr.data.rows import BadRowError
from nanoocr.data.shards import Shards, local_shards
from nanoocr.data.task import ParquetTask
from nanoocr.errors import UsageError


def write(path, start: int, count: int, group: int) -> None:
    texts = [[{"user": "q", "assistant": str(start + i)}] for i in range(count)]
    table = pa.table({"images": pa.array([None] * count), "texts": texts, "source": ["test"] * count})
    pq.write_table(table, path, row_group_size=group)


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "a.parquet", 0, 7, 3)
    write(tmp_path / "b.parquet", 7, 5, 2)
    return tmp_path


def test_rows_of_several_files_are_one_sequence(folder):
    shards = local_shards([folder], columns=["images", "texts"])
    assert len(shards) == 12 and shards.bounds == [0, 3, 6, 7, 9, 11, 12]
    assert [shards[i]["texts"][0]["assistant"] for i in (11, 0, 6, 7, 3)] == ["11", "0", "6", "7", "3"]
    assert set(shards[0]) == {"images", "texts"}
    assert shards.name_of(6).endswith("a.parquet: row 6") and shards.name_of(10).endswith("b.parquet: row 3")
    with pytest.raises(IndexError):
        shards[12]


def test_one_row_group_is_read_once(folder, monkeypatch):
    read = []
    original = Shards._read
    monkeypatch.setattr(Shards, "_read", lambda self, group: read.append(group) or original(self, group))
    shards = local_shards([folder])
    for i in range(12):
        shards[i]
    assert read == [0, 1, 2, 3, 4, 5]


def test_a_row_group_that_cannot_be_read_is_named(folder):
    shards = local_shards([folder])
    content = bytearray((folder / "b.parquet").read_bytes())
    content[4:200] = bytes(196)  # the footer, at the end, stays whole
    (folder / "b.parquet").write_bytes(content)
    assert shards[6]["texts"][0]["assistant"] == "6"
    with pytest.raises(BadRowError, match=r"b\.parquet: row group 0"):
        shards[7]


def test_wrong_files_are_named(tmp_path, folder):
    with pytest.raises(UsageError, match="nowhere"):
        local_shards([tmp_path / "nowhere.parquet"])
    with pytest.raises(UsageError, match=r"a\.parquet.*'pictures'"):
        local_shards([folder], columns=["pictures"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"empty.*\.parquet"):
        local_shards([tmp_path / "empty"])
    (tmp_path / "a.parquet").write_text("not parquet")
    with pytest.raises(UsageError, match=r"a\.parquet"):
        local_shards([folder])


def test_a_parquet_task_keeps_turns_and_names(folder):
    task = ParquetTask(local_shards([folder]), start=1, stop=9, step=3)
    assert [row.answer for row in task] == ["1", "4", "7"] and len(task) == 3
    assert task[2].id.endswith("b.parquet: row 0") and task[0].pictures == ()


def test_a_fingerprint_stays_with_the_files_and_changes_with_the_rows(folder, tmp_path):
    def now(place=folder, **slice_):
        return ParquetTask(local_shards([place]), **slice_).fingerprint()

    before = now()
    moved = shutil.copytree(folder, tmp_path / "moved")
    assert before == now(moved) != now(start=1) and len(before) == 16
    (moved / "b.parquet").rename(moved / "c.parquet")  # other names come in another order
    assert now(moved) != before
    write(folder / "b.parquet", 7, 5, 3)  # the same rows in other groups: another order of an epoch
    assert now() != before
    write(folder / "b.parquet", 70000, 5, 2)  # as many, but others
    assert now() != before


@given(
    st.lists(st.integers(0, 6), max_size=8),
    st.integers(0, 12),
    st.none() | st.integers(0, 20),
    st.integers(1, 7),
)
def test_units_cover_the_slice_once_and_stay_within_their_group(numbered_task, lengths, start, more, step):
    task = numbered_task(lengths, start, None if more is None else start + more, step)
    units = task.units()
    assert [i for unit in units for i in unit] == list(range(len(task)))
    group_of = [g for g, length in enumerate(lengths) for _ in range(length)]
    for unit in units:
        assert len({group_of[task.indices[i]] for i in unit}) == 1


@pytest.mark.parametrize("wrong", [(-1, None, 1), (3, 2, 1), (0, None, 0)])
def test_slices_that_are_none(numbered_task, wrong):
    with pytest.raises(UsageError, match="start="):
        numbered_task([3], *wrong)


def test_row_groups_stay_while_they_fit(folder, monkeypatch):
    """Row streams of one process that take turns do not read their row groups again and again."""
    read = []
    original = Shards._read
    monkeypatch.setattr(Shards, "_read", lambda self, group: read.append(group) or original(self, group))
    shards = local_shards([folder])
    for i in (0, 7, 1, 8, 2):
        shards[i]
    assert read == [0, 3]
    monkeypatch.setattr("nanoocr.data.shards.HELD_BYTES", 0)
    for i in (0, 7, 1, 8):
        shards[i]
    assert len(read) > 4


# ---------------------------------------------------------------------------------------------------
# As others write Parquet


def test_a_large_row_group_is_read_in_pieces(tmp_path, monkeypatch):
    write(tmp_path / "a.parquet", 0, 50, 50)
    size = pq.ParquetFile(tmp_path / "a.parquet").metadata.row_group(0).total_byte_size
    monkeypatch.setattr("nanoocr.data.shards.PIECE_BYTES", size // 4)
    shards = local_shards([tmp_path])
    assert len(shards.bounds) > 4 and shards.bounds[-1] == len(shards) == 50
    assert [int(shards[i]["texts"][0]["assistant"]) for i in reversed(range(50))] == list(reversed(range(50)))
    assert shards.name_of(49).endswith("a.parquet: row 49")
    shards[0]
    assert max(held.num_rows for held in shards._held.values()) < 20


@pytest.mark.parametrize("options", [{}, {"compression": "none"}, {"data_page_version": "2.0"}])
def test_values_that_rows_share_count_as_often_as_they_are_read(tmp_path, monkeypatch, options):
    """A dictionary of three pictures, between rows that have none."""
    pictures = [bytes([shade]) * 10_000 for shade in range(3)]
    rows = [[] if i < 50 else [{"bytes": pictures[i % 3], "path": None}] for i in range(200)]
    texts = [[{"user": "q", "assistant": str(i)}] for i in range(200)]
    table = pa.table({"images": rows, "texts": texts})
    pq.write_table(table, tmp_path / "a.parquet", **options)
    monkeypatch.setattr("nanoocr.data.shards.PIECE_BYTES", 500_000)
    (shard,) = local_shards([tmp_path]).shards
    assert pq.ParquetFile(tmp_path / "a.parquet").metadata.row_group(0).total_byte_size < 50_000
    assert table.nbytes * 0.9 < shard.group_bytes[0] < table.nbytes * 1.5
    shards = local_shards([tmp_path])
    assert shards[199]["images"][0]["bytes"] == pictures[199 % 3]
    assert max(held.nbytes for held in shards._held.values()) < 600_000


def test_a_row_group_that_failed_is_not_tried_again(folder, monkeypatch):
    shards, opened = local_shards([folder]), []

    def fail(path):
        opened.append(path)
        raise OSError("gone")

    monkeypatch.setattr(pq, "ParquetFile", fail)
    for _ in range(3):
        with pytest.raises(BadRowError, match=r"a\.parquet: row group 0 cannot be read \(gone\)"):
            shards[0]
    assert len(opened) == 1


def test_hidden_files_are_no_shards(folder):
    (folder / "._a.parquet").write_text("what macOS leaves")
    write(folder / ".hidden.parquet", 0, 2, 2)
    (folder / ".cache").mkdir()
    write(folder / ".cache" / "c.parquet", 0, 2, 2)
    assert len(local_shards([folder])) == 12


def test_json_documents_are_texts_without_quotes(tmp_path):
    said = pa.array(['"line\\none"', '[{"type": "text"}]'], pa.string()).cast(pa.json_())
    turns = pa.StructArray.from_arrays([pa.array(["q", "q"]), said], ["user", "assistant"])
    texts = pa.ListArray.from_arrays([0, 1, 2], turns)
    pq.write_table(pa.table({"texts": texts, "images": pa.nulls(2)}), tmp_path / "a.parquet")
    task = ParquetTask(local_shards([tmp_path]))
    assert task[0].answer == "line\none"
    with pytest.raises(BadRowError, match=r"a\.parquet: row 1.* not a text"):
        task[1]


@pytest.mark.parametrize("images", [{"bytes": b"x", "path": None}, b"x", [b"x"]])
def test_one_picture_may_stand_for_a_list_of_one(tmp_path, images):
    table = pa.table({"images": [images], "texts": [[{"user": "q", "assistant": "a"}]]})
    pq.write_table(table, tmp_path / "a.parquet")
    assert ParquetTask(local_shards([tmp_path]))[0].pictures == (b"x",)


def test_a_picture_that_is_only_named_says_the_mend(tmp_path):
    images = [[{"bytes": None, "path": "/home/me/a.png"}]]
    pq.write_table(
        pa.table({"images": images, "texts": [[{"user": "q", "assistant": "a"}]]}), tmp_path / "a.parquet"
    )
    with pytest.raises(BadRowError, match=r"its path /home/me/a\.png cannot be read: put the pictures"):
        ParquetTask(local_shards([tmp_path]))[0]


def parquet(folder, **columns):
    """A file of one row; what is not named is as it should be."""
    row = {"images": [[]], "texts": [[{"user": "q", "assistant": "a"}]], **columns}
    pq.write_table(pa.table(row), folder / "a.parquet")
    return ParquetTask(local_shards([folder]))


@pytest.mark.parametrize(
    "images", [[{"bytes": None, "path": "b.png"}], {"path": "b.png"}, ["b.png"], "b.png", '["b.png"]']
)
def test_pictures_may_be_paths_beside_the_file(tmp_path, images):
    (tmp_path / "b.png").write_bytes(b"x")
    assert parquet(tmp_path, images=[images])[0].pictures == (b"x",)


@pytest.mark.parametrize(("label", "answer"), [(7, "7"), (0, "0"), (7.5, "7.5"), ("Ä".encode(), "Ä")])
def test_labels_may_be_numbers_and_texts_bytes(tmp_path, label, answer):
    assert parquet(tmp_path, texts=[[{"user": "q", "assistant": label}]])[0].answer == answer


def test_a_list_may_be_its_json(tmp_path):
    assert parquet(tmp_path, texts=['[{"user": "q", "assistant": "a"}]'])[0].turns == (("q", "a"),)
    with pytest.raises(BadRowError, match=r"a\.parquet: row 0"):
        parquet(tmp_path, texts=["[not"])[0]


@pytest.mark.parametrize("kind", ["bytes", "text"])
def test_a_text_that_is_not_utf8_is_one_bad_row(tmp_path, kind):
    said = pa.array([b"\xff\xfeA"], pa.binary())
    said = said if kind == "bytes" else said.view(pa.string())
    turns = pa.StructArray.from_arrays([pa.array(["q"]), said], ["user", "assistant"])
    with pytest.raises(BadRowError, match=r"a\.parquet: row 0: a text is not UTF-8: write"):
        parquet(tmp_path, texts=pa.ListArray.from_arrays([0, 1], turns))[0]
