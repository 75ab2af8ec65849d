"""Records in JSON become the same rows as their values would, without Python looking into them."""

import json

import pyarrow as pa
import pyarrow.parquet as pq

from nanoocr.batch import shards
from nanoocr.batch.ledger import Found, Ledger
from nanoocr.batch.ray_actor import block_of
from nanoocr.batch.ray_engine import note_answers
from nanoocr.batch.record import packed

WORD = {"text": "süß “x”\n", "quad": [[0, 1.5], [2, 3], [4, 5], [6, 7]], "confidence": 1}
LINE = {
    **WORD,
    "words": [WORD, {**WORD, "confidence": None}],
    "baseline": [[0, 1], [2, 3]],
    "cap_height": 9.5,
}
RECORDS = [
    {"file": "a.png", "page": 1, "text": "süß", "lines": [LINE], "status": "ok", "error": None, "width": 7},
    {"file": "a.png", "page": 2, "text": "", "lines": [], "status": "doubtful", "tokens": [1, 2, 3]},
    {"page": 3, "file": "a.png", "seconds": 2, "status": "ok", "model": "m", "text": "x" * 70_000},
]


def test_rows_are_those_of_the_values(tmp_path):
    ledger = Ledger(tmp_path)
    ledger.add([Found("{}", "a.png", "a")])
    with ledger.changing() as db:
        ledger.opened(db, 1, "0f", 3)
    told = block_of([("read", 1, record["page"], packed(record)) for record in RECORDS])
    for _ in range(2):  # what Ray tells twice counts once
        note_answers(ledger, told.to_pylist(), False, print)
    shards.finish(tmp_path, ledger)
    wanted = pa.Table.from_pylist(
        [{**json.loads(json.dumps(record)), "sha256": "0f"} for record in RECORDS], schema=shards.SCHEMA
    )
    assert pq.read_table(tmp_path / shards.shard_name(1)).equals(wanted)
    assert not (tmp_path / shards.shard_name(2)).exists()
