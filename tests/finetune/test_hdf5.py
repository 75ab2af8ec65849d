"""Shards of the schema that nvidia/OCR-Synthetic-Multilingual-v1 has, made here."""

import io
import json

import pytest

from nanoocr.errors import UsageError
from nanoocr.finetune.hdf5 import hdf5_documents
from nanoocr.finetune.sources import gather
from tests.finetune.drawn import document

h5py = pytest.importorskip("h5py")


def shard(path, pages):
    """`pages` is (picture, lines, boxes); every line has one box for all of its words together."""
    pictures, notes, sizes = [], [], []
    for page, lines, boxes in pages:
        stored = io.BytesIO()
        page.save(stored, "JPEG", quality=100)
        pictures.append(stored.getvalue())
        sizes.append((page.height, page.width))
        whole = [
            {"text": text, "bbox": [b[0], b[1], b[2] - b[0], b[3] - b[1]]} for text, b in zip(lines, boxes)
        ]
        words = [{**one, "quad": [[0, 0], [9, 0], [9, 9], [0, 9]]} for one in whole]
        lined = [{**one, "para_idx": 0, "line_idx": i, "word_indices": [i]} for i, one in enumerate(whole)]
        graph = [[[i] for i in range(len(lines))]]
        notes.append(
            json.dumps(
                {"word_bboxes": words, "line_bboxes": lined, "para_bboxes": [], "relation_graph": graph}
            )
        )
    with h5py.File(path, "w") as file:
        images = file.create_dataset("images", (len(pages),), dtype=h5py.vlen_dtype("uint8"))
        for i, content in enumerate(pictures):
            images[i] = list(content)
        file.create_dataset("annotations", data=notes, dtype=h5py.string_dtype())
        file.create_dataset("dimensions", data=sizes)
        file.create_dataset("labels", data=["x"] * len(pages), dtype=h5py.string_dtype())
        file.create_dataset("sample_ids", data=list(range(len(pages))))


def test_pages_come_with_lines_and_words(tmp_path):
    page, lines, boxes = document(5)
    shard(tmp_path / "train_000.h5", [(page, lines, boxes), document(6)])
    found = gather(tmp_path).documents
    assert [one.name for one in found] == ["train_000.h5/0", "train_000.h5/1"]
    assert [line.text for line in found[0].lines] == lines
    assert found[0].lines[1].quad[0] == (boxes[1][0], boxes[1][1])
    assert found[0].lines[1].words[0].quad[2] == (9.0, 9.0)


def test_more_pages_than_are_needed_are_counted(tmp_path):
    shard(tmp_path / "a.h5", [document(n) for n in range(3)])
    found = list(hdf5_documents(tmp_path / "a.h5", most=2))
    assert len(found) == 3 and "1 of 3 pages are left out" in found[2]


def test_another_schema_and_a_damaged_file_are_one_sentence(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["images"] = [1]
    with pytest.raises(UsageError, match="no data set 'annotations'"):
        list(hdf5_documents(tmp_path / "a.h5"))
    (tmp_path / "b.h5").write_bytes(b"nothing")
    with pytest.raises(UsageError, match="not a readable HDF5 file"):
        list(hdf5_documents(tmp_path / "b.h5"))
