"""Records in JSON become the same rows as their values would, without Python looking into them."""

import contextlib
import io
import json
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from nanoocr.batch import shards
from nanoocr.batch.ledger import Found, Ledger
from nanoocr.batch.ray_actor import block_of
from nanoocr.batch.ray_engine import note_answers
from nanoocr.batch.record import packed
from nanoocr.cli import main

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


def test_an_archive_that_was_mended_is_listed_again(tmp_path, capsys):
    """Not taken for a picture, as it was; what is still wrong keeps its own sentence."""
    good, broken, out = tmp_path / "good.tar", tmp_path / "broken.tar", tmp_path / "out"
    with tarfile.open(good, "w") as archive:
        picture = io.BytesIO()
        Image.new("L", (40, 20), 255).save(picture, "PNG")
        member = tarfile.TarInfo("a.png")
        member.size = len(picture.getvalue())
        archive.addfile(member, io.BytesIO(picture.getvalue()))
        link = tarfile.TarInfo("b.png")
        link.type, link.linkname = tarfile.SYMTYPE, "nothing.png"
        archive.addfile(link)
    broken.write_bytes(b"no archive " * 100)
    assert main(["batch", str(broken), f"--out={out}", "-q", "--workers=1"]) == 3
    again = ["batch", f"--out={out}", "--resume", "--retry_failed", "-q", "--workers=1"]
    assert main(again) == 3
    assert capsys.readouterr().err.count("broken.tar cannot be opened: ") == 2
    good.rename(broken)
    for _ in range(2):
        assert main(again) == 5
        (failure,) = pq.read_table(out / "failed.parquet").to_pylist()
        assert "is a link to nothing.png, which the archive does not hold" in failure["error"]
    with contextlib.closing(Ledger(out)) as ledger:
        assert (ledger.counts().documents, ledger.counts().done) == (2, 1)


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
