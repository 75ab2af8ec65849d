"""What a batch takes in: archives, tables, patterns, lists; and the sentences where that does not work."""

import io
import json
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from nanoocr.batch.ledger import Ledger
from nanoocr.batch.sources import open_container, read_place, survey, unique_stems
from nanoocr.cli import main
from nanoocr.cli.batch import _expanded, _found
from nanoocr.errors import PictureError, UsageError
from nanoocr.train.lock import give_back, take


def png(shade):
    out = io.BytesIO()
    Image.new("RGB", (4, 4), (shade, 0, 0)).save(out, "PNG")
    return out.getvalue()


def make_tar(path, members):
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            about = tarfile.TarInfo(name)
            about.size = len(content)
            archive.addfile(about, io.BytesIO(content))


def test_a_tar_gives_its_pictures_and_no_way_out(tmp_path):
    make_tar(tmp_path / "set.tar", {"a/1.png": png(1), "a/1.json": b"{}", "../../2.png": png(2)})
    found = list(open_container(tmp_path / "set.tar"))
    assert [one.stem for one in found] == ["set/a/1.png", "set/2.png"]
    assert [read_place(one.place) for one in found] == [png(1), png(2)]
    assert survey(found[0].place, "x")[1] == 1


def test_broken_and_compressed_archives_are_named(tmp_path):
    (tmp_path / "bad.tar").write_bytes(b"nonsense" * 99)
    (one,) = open_container(tmp_path / "bad.tar")
    assert "bad.tar cannot be opened" in one.error
    (tmp_path / "set.tar.gz").write_bytes(b"")
    with pytest.raises(UsageError, match=r"unpack it to \.tar"):
        list(open_container(tmp_path / "set.tar.gz"))


@pytest.mark.parametrize("shape", ["bytes", "struct", "list"])
def test_a_table_gives_its_rows(tmp_path, shape):
    cells = [png(n) for n in range(20)]
    wrapped = {"bytes": cells, "struct": [{"bytes": c, "path": None} for c in cells]}
    wrapped["list"] = [[cell] for cell in wrapped["struct"]]
    table = pa.table({"id": list(range(20)), "image": wrapped[shape]})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=12)
    found = list(open_container(tmp_path / "t.parquet"))
    assert [read_place(found[n].place) for n in (0, 11, 19, 3)] == [cells[n] for n in (0, 11, 19, 3)]


def test_a_table_without_pictures_is_named(tmp_path):
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "t.parquet")
    with pytest.raises(UsageError, match="no column with pictures"):
        list(open_container(tmp_path / "t.parquet"))


def test_folders_patterns_and_names_that_look_like_patterns(tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a1.png", "a2.png", "[x].png"):
        (tmp_path / "in" / name).write_bytes(png(1))
    assert len(list(_expanded([str(tmp_path / "in" / "a*.png"), str(tmp_path / "in" / "[x].png")]))) == 3
    with pytest.raises(UsageError, match="nothing fits the pattern"):
        list(_expanded([str(tmp_path / "no*")]))
    found = list(unique_stems(_found([str(tmp_path / "in"), str(tmp_path / "in" / "a1.png")], True), set()))
    assert len({one.stem for one in found}) == 4 and len({one.place for one in found}) == 3


def test_a_missing_file_is_a_sentence(tmp_path):
    with pytest.raises(PictureError, match="does not exist"):
        read_place(json.dumps({"path": str(tmp_path / "no.png")}))


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--resume"], "holds no batch to go on with"),
        ([], "there is nothing to read"),
        (["x.png", "--retry_failed"], "goes with --resume"),
        (["x.png", "--address=auto"], "goes with --engine=ray"),
        (["x.png", "--format=nonsense"], "unknown format"),
    ],
)
def test_mistyped_batches(tmp_path, capsys, flags, said):
    assert main(["batch", f"--out={tmp_path / 'out'}", *flags]) == 2
    assert said in capsys.readouterr().err


def test_an_older_batch_and_a_running_one_are_not_touched(tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    Ledger(out).close()
    assert main(["batch", "x.png", f"--out={out}"]) == 2
    assert "go on with --resume" in capsys.readouterr().err
    assert take(out) == ""
    assert main(["batch", "--resume", f"--out={out}"]) == 2
    assert "is written by process" in capsys.readouterr().err
    give_back(out)


def test_an_output_that_cannot_be_written_is_told(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["batch", "x.png", f"--out={tmp_path / 'file' / 'out'}"]) == 6
    assert "cannot be written" in capsys.readouterr().err


def test_nothing_but_a_missing_file(tmp_path, capsys):
    """No document can be opened: the whole way without a model being asked for a page."""
    out = tmp_path / "out"
    assert main(["batch", str(tmp_path), f"--out={out}", "--workers=1", "-q"]) == 3
    summary = json.loads(capsys.readouterr().out)
    assert (summary["done"], summary["failed"]) == (0, 1)
    assert "holds no pictures" in pq.read_table(out / "failed.parquet").to_pylist()[0]["error"]
