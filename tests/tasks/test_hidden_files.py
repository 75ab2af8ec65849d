"""Archives of macOS put ._NAME beside every NAME: no set of files may take it for one of its own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from nanoocr.eval.olmocr.tests import read_pages, read_tests
from nanoocr.eval.page_benchmarks import load_icdar
from nanoocr.eval.predictions import read_predictions
from nanoocr.eval.question_sets import load_questions
from nanoocr.tasks.choose import make_task

BOX = "1,1,9,1,9,9,1,9,Total"


def with_twins(folder: Path) -> Path:
    """Give every file a hidden twin, and put a copy of all into a hidden folder."""
    for path in [one for one in sorted(folder.rglob("*")) if one.is_file()]:
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7 not what its name says")
    shutil.copytree(folder, folder.parent / ".copy")
    (folder.parent / ".copy").rename(folder / ".copy")
    return folder


def write(folder: Path, name: str, content: str) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def draw(folder: Path, name: str) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (40, 30), 255).save(path)


def test_shards_on_disk(tmp_path):
    table = pa.table({"question": ["1 + 1?"], "answer": ["#### 2"]})
    (tmp_path / "set").mkdir()
    pq.write_table(table, tmp_path / "set" / "train-00000.parquet")
    assert len(make_task(f"gsm8k?path={with_twins(tmp_path / 'set')}")) == 1


def test_receipts_of_any_kind_of_picture(tmp_path):
    for name in ("a.jpg", "b.JPG", "c.png"):
        draw(tmp_path / "set", f"img/{name}")
        write(tmp_path / "set", f"box/{name[0]}.txt", BOX)
    task = make_task(f"sroie:{with_twins(tmp_path / 'set')}")
    assert [row.answer for row in task] == ["Total"] * 3


def test_sets_of_evaluation(tmp_path):
    folder = tmp_path / "set"
    draw(folder, "img_1.jpg")
    write(folder, "gt_img_1.txt", BOX)
    row = {"questionId": 1, "question": "What?", "image_id": "img_1", "answers": ["Total"]}
    write(folder, "val.json", json.dumps({"data": [row]}))
    test = {"pdf": "a.pdf", "page": 1, "id": "x", "type": "present", "text": "Total", "max_diffs": 0}
    write(folder, "tests.jsonl", json.dumps(test))
    write(folder, "a_pg1_repeat1.md", "Total")
    with_twins(folder)
    assert load_icdar(folder).left_out == ()
    assert load_questions(folder).samples[0].picture == folder / "img_1.jpg"
    assert len(read_tests(folder).tests) == 1 and read_tests(folder).problems == ()
    assert read_pages(folder) == ({("a", 1): ["Total"]}, ())
    found = read_predictions(folder, ".md")
    assert list(found.texts) == ["a_pg1_repeat1"] and found.problems == ()
