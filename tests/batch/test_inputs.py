"""What a batch takes in: archives, tables, patterns, lists; and the sentences where that does not work."""

import contextlib
import io
import json
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from nanoocr.batch.ledger import Found, Ledger
from nanoocr.batch.remote import find_remote
from nanoocr.batch.sources import open_container, read_place, survey, unique_stems
from nanoocr.batch.streams import local_file
from nanoocr.cli import main
from nanoocr.cli.batch_inputs import documents, named
from nanoocr.errors import PictureError, UsageError
from nanoocr.inference import reader
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


def opened(path):
    return list(open_container(local_file(path), path.name, path.stem))


def test_a_tar_gives_its_pictures_and_no_way_out(tmp_path):
    make_tar(tmp_path / "set.tar", {"a/1.png": png(1), "a/1.json": b"{}", "../../2.png": png(2)})
    found = opened(tmp_path / "set.tar")
    assert [one.stem for one in found] == ["set/a/1", "set/2"]
    assert [read_place(one.place) for one in found] == [png(1), png(2)]
    assert survey(found[0].place, "x")[1] == 1


def test_links_in_a_tar_are_the_members_that_they_mean(tmp_path):
    """tar stores a file that has two names once, and the other name as a link."""
    (tmp_path / "in" / "sub").mkdir(parents=True)
    (tmp_path / "in" / "a.png").write_bytes(png(1))
    os.link(tmp_path / "in" / "a.png", tmp_path / "in" / "b.png")
    (tmp_path / "in" / "sub" / "c.png").symlink_to("../a.png")
    (tmp_path / "in" / "sub" / "d.png").symlink_to("/etc/passwd")
    with tarfile.open(tmp_path / "set.tar", "w") as archive:
        archive.add(tmp_path / "in", ".")
    found = {one.stem: one for one in opened(tmp_path / "set.tar")}
    assert len({one.place for one in found.values()}) == 4
    assert [read_place(found[f"set/{name}"].place) for name in ("a", "b", "sub/c")] == [png(1)] * 3
    assert "is a link to /etc/passwd, which the archive does not hold" in found["set/sub/d"].error


def test_archives_that_are_broken_compressed_cut_off_or_empty_are_named(tmp_path):
    (tmp_path / "bad.tar").write_bytes(b"nonsense" * 99)
    (one,) = opened(tmp_path / "bad.tar")
    assert "bad.tar cannot be opened" in one.error
    (tmp_path / "set.tar.gz").write_bytes(b"")
    assert "unpack it to .tar" in opened(tmp_path / "set.tar.gz")[0].error
    make_tar(tmp_path / "labels.tar", {"a.json": b"{}"})
    assert "holds no pictures" in opened(tmp_path / "labels.tar")[0].error
    make_tar(tmp_path / "cut.tar", {"1.png": png(1), "2.png": bytes(2000)})
    (tmp_path / "cut.tar").write_bytes((tmp_path / "cut.tar").read_bytes()[:2000])
    found = opened(tmp_path / "cut.tar")
    assert read_place(found[0].place) == png(1) and "cannot be opened" in found[-1].error


@pytest.mark.parametrize("shape", ["bytes", "struct", "list", "view", "pair", "words"])
def test_a_table_gives_its_rows(tmp_path, shape):
    cells = [png(n) for n in range(20)]
    wrapped = {"bytes": cells, "struct": [{"bytes": c, "path": None} for c in cells]}
    wrapped["list"] = [[cell] for cell in wrapped["struct"]]
    wrapped["view"] = pa.array([[cell] for cell in cells], pa.list_view(pa.binary()))
    wrapped["pair"] = pa.array([[cell] for cell in cells], pa.list_(pa.large_binary(), 1))
    wrapped["words"] = pa.array(cells).dictionary_encode()
    keys = [None, *(b"%d" % n for n in range(19))]  # a column of bytes that are no pictures
    table = pa.table({"id": keys, "image": wrapped[shape]})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=12)
    found = opened(tmp_path / "t.parquet")
    assert [read_place(found[n].place) for n in (0, 11, 19, 3)] == [cells[n] for n in (0, 11, 19, 3)]
    assert found[19].stem == "t/00000019" and len(found) == 20


def test_every_picture_of_a_row_is_a_document_and_a_row_without_one_is_told(tmp_path):
    pq.write_table(pa.table({"images": [[png(1), png(2)], [], None, [png(3)]]}), tmp_path / "t.parquet")
    found = opened(tmp_path / "t.parquet")
    assert [one.stem for one in found] == [f"t/0000000{n}" for n in ("0-1", "0-2", "1", "2", "3")]
    assert [read_place(found[n].place) for n in (0, 1, 4)] == [png(1), png(2), png(3)]
    with pytest.raises(PictureError, match="no picture in row 1"):
        read_place(found[2].place)


def test_a_table_without_pictures_is_named(tmp_path):
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "t.parquet")
    assert "no column with pictures" in opened(tmp_path / "t.parquet")[0].error


def test_a_folder_gives_its_archives_too_and_a_tree_of_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("in/sub").mkdir(parents=True)
    for name in ("in/a1.png", "in/a1.bmp", "in/[x].png", "in/sub/a1.png"):
        Path(name).write_bytes(png(1))
    make_tar("in/sub/set.tar", {"1.png": png(2)})
    stems = {one.name: one.stem for one in documents(["in", "in/a1.png"], {}, True)}
    assert stems["in/sub/a1.png"] == "sub/a1" and stems["in/sub/set.tar/1.png"] == "sub/set/1"
    assert len(stems) == len(set(stems.values())) == 5


def test_long_names_are_shortened_and_a_great_many_of_one_name_are_told_apart_soon():
    found = [Found(str(n), "x", f"{'é' * 150}/page") for n in range(30_000)]
    started = time.process_time()
    stems = {one.stem for one in unique_stems(found, set())}
    assert time.process_time() - started < 5 and len(stems) == 30_000
    assert max(len(part.encode()) for stem in stems for part in stem.split("/")) == 200


def test_names_in_an_archive_may_be_in_any_encoding(tmp_path):
    """Old archives have no UTF-8, and new ones may hold a zero byte."""
    out = tmp_path / "out"
    with tarfile.open(tmp_path / "old.tar", "w") as archive:
        for place, name in enumerate(("a/caf\udce9.png", "a/caf\udce8.png", "zero\0.png")):
            member = tarfile.TarInfo(name)
            member.pax_headers = {"path": name} if "\0" in name else {}
            member.size = len(png(place))
            archive.addfile(member, io.BytesIO(png(place)))
        link = tarfile.TarInfo("link\udce9.png")
        link.type, link.linkname = tarfile.SYMTYPE, "nothing\udce9.png"
        archive.addfile(link)
    command = ["batch", str(tmp_path / "old.tar"), f"--out={out}", "--format=txt", "--workers=1", "-q"]
    assert main(command) == 5
    with contextlib.closing(Ledger(out)) as ledger:
        assert (ledger.counts().done, ledger.counts().failed) == (3, 1)
    texts = [path.name for path in (out / "files").rglob("*.txt")]
    assert sorted(texts) == ["caf\ufffd-2.txt", "caf\ufffd.txt", "zero_.txt"]


@pytest.mark.parametrize("order", [1, -1])
def test_no_document_is_called_like_a_page_of_another(order):
    """Page 2 of scan.tif gets scan-0002.page.xml."""
    found = [Found(stem, stem, stem) for stem in ("a/scan", "a/scan-0002", "b/scan-0002", "c-0003")][::order]
    stems = [one.stem for one in unique_stems(found, {"c"}, numbered=True)]
    assert len(set(stems)) == 4 and "b/scan-0002" in stems and "c-0003" not in stems
    assert not {"a/scan", "a/scan-0002"} <= set(stems)
    assert [one.stem for one in unique_stems(found, {"c"})] == [one.stem for one in found]


def test_files_of_pages_and_of_documents_do_not_replace_each_other(tmp_path):
    out = tmp_path / "out"
    Image.new("L", (40, 20), 250).save(tmp_path / "scan-0002.png")
    pages = [Image.new("L", (40, 20), shade) for shade in (251, 252)]
    pages[0].save(tmp_path / "scan.tif", save_all=True, append_images=pages[1:])
    assert main(["batch", str(tmp_path), f"--out={out}", "--format=page", "--workers=1", "-q"]) == 0
    assert len(list((out / "files").rglob("*.page.xml"))) == 3


def test_a_pipe_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "x.png")  # to open it would wait without end
    with pytest.raises(PictureError, match="is a pipe or a device"):
        survey(local_place(tmp_path / "x.png"), "x.png")


@pytest.mark.parametrize("text", ["\ufeffa.png\r\nb c.png", "a.png\0b c.png\0"])
def test_lists_of_other_programs(tmp_path, text):
    (tmp_path / "list").write_bytes(text.encode())
    assert named([], str(tmp_path / "list")) == ["a.png", "b c.png"]
    (tmp_path / "list").write_bytes(text.encode("utf-16"))
    with pytest.raises(UsageError, match="is UTF-16: save it as UTF-8"):
        named([], str(tmp_path / "list"))


def test_patterns_and_names_that_look_like_patterns(tmp_path):
    for name in ("a1.png", "a2.png", "[x].png"):
        (tmp_path / name).write_bytes(png(1))
    assert len(named([str(tmp_path / "a*.png"), str(tmp_path / "[x].png")], None)) == 3
    with pytest.raises(UsageError, match="nothing fits the pattern"):
        named([str(tmp_path / "no*")], None)


def test_a_list_from_stdin_and_what_the_ledger_knows(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(png(1))
    (tmp_path / "b.png").write_bytes(png(2))

    class Stdin:
        buffer = io.BytesIO(f"{tmp_path}/a.png\r\n\n{tmp_path}/b.png\n{tmp_path}/a.png".encode())

    monkeypatch.setattr(sys, "stdin", Stdin)
    ledger = Ledger(tmp_path)
    ledger.add([Found(local_place(tmp_path / "b.png"), "b", "b")])
    ledger.add(documents(named([], "-"), ledger.known(), True))
    assert ledger.counts().documents == 2
    with pytest.raises(UsageError, match="is empty"):
        named([], "-")


def local_place(path):
    return json.dumps({"path": str(path)})


def test_remote_files_folders_patterns_and_containers(tmp_path):
    (tmp_path / "x" / "deep").mkdir(parents=True)
    (tmp_path / "x" / "a b%20?.png").write_bytes(png(1))
    (tmp_path / "x" / "deep" / "c.png").write_bytes(png(2))
    (tmp_path / "x" / "notes.txt").write_text("none")
    make_tar(tmp_path / "x" / "set.tar", {"1.png": png(3)})
    pq.write_table(pa.table({"image": [png(4)]}), tmp_path / "x" / "t.parquet")
    found = list(find_remote(f"file://{tmp_path}/x"))
    assert [one.stem for one in found] == ["a b%20?", "deep/c", "set/1", "t/00000000"]
    assert [read_place(one.place) for one in found] == [png(1), png(2), png(3), png(4)]
    assert [one.stem for one in find_remote(f"file://{tmp_path}/*/deep/*.png")] == ["x/deep/c"]
    assert [one.stem for one in find_remote(f"file://{tmp_path}/x/deep/c.png")] == ["c"]
    with pytest.raises(UsageError, match="does not exist"):
        list(find_remote(f"file://{tmp_path}/x/none.png"))
    with pytest.raises(UsageError, match="cannot be reached"):
        list(find_remote("gopher://x/none.png"))
    with pytest.raises(UsageError, match="nothing fits"):
        list(find_remote(f"file://{tmp_path}/x/*.gif"))


def test_a_missing_file_is_a_sentence(tmp_path):
    with pytest.raises(PictureError, match="does not exist"):
        read_place(json.dumps({"path": str(tmp_path / "no.png")}))


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--out="], "the name is empty: name a folder"),
        ([""], "the name of an input is empty"),
        (["https://example.org/a.png"], "a web address, which a batch does not fetch"),
        (["--resume"], "holds no batch to go on with"),
        ([], "there is nothing to read"),
        (["x.png", "--retry_failed"], "goes with --resume"),
        ([__file__, "--mark_below=0.9"], "add --format=txt"),
        (["x.png", "--address=auto"], "goes with --engine=ray"),
        ([__file__, "--format=nonsense"], "unknown format"),
        ([__file__, "--format="], "--format is empty: name formats"),
        (["--list=nowhere.txt"], "--list=nowhere.txt cannot be read"),
    ],
)
def test_mistyped_batches(tmp_path, capsys, flags, said):
    assert main(["batch", f"--out={tmp_path / 'out'}", *flags]) == 2
    assert said in capsys.readouterr().err


def test_an_older_batch_and_a_running_one_are_not_touched(tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    ledger = Ledger(out)
    ledger.add([Found("{}", "a", "a", "it is broken")])
    ledger.close()
    assert main(["batch", __file__, f"--out={out}"]) == 2
    assert "go on with --resume" in capsys.readouterr().err
    assert take(out) == ""
    assert main(["batch", "--resume", f"--out={out}"]) == 2
    assert "is written by process" in capsys.readouterr().err
    give_back(out)


def test_a_batch_that_was_refused_can_be_begun_again_with_other_words(tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["batch", str(tmp_path / "no*"), f"--out={out}"]) == 2
    assert "nothing fits" in capsys.readouterr().err
    assert main(["batch", str(tmp_path / "no.png"), f"--out={out}"]) == 2
    assert "no.png does not exist: see whether" in capsys.readouterr().err and not out.exists()
    assert main(["batch", empty(tmp_path), f"--out={out}", "--max_tokens=9", "-q"]) == 3


def empty(tmp_path):
    """A folder without pictures: a document that fails as soon as it is looked for."""
    (tmp_path / "empty").mkdir(exist_ok=True)
    return str(tmp_path / "empty")


def test_inputs_of_which_none_exists_are_refused_before_anything_large_is_loaded(tmp_path):
    code = (
        "import sys; from nanoocr.cli import main; code = main(sys.argv[1:]); "
        "print(code, 'torch' in sys.modules)"
    )
    (tmp_path / "names.txt").write_text(f"{tmp_path}/a.png\n{tmp_path}/b.png\n")
    command = [sys.executable, "-c", code, "batch", f"--list={tmp_path}/names.txt", f"--out={tmp_path}/out"]
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    assert told.stdout == "2 False\n" and not (tmp_path / "out").exists()
    assert "a.png does not exist, nor does any of the other 1 inputs" in told.stderr


def test_an_output_that_cannot_be_written_is_told(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["batch", __file__, f"--out={tmp_path / 'file' / 'out'}"]) == 6
    assert "cannot be written" in capsys.readouterr().err


def test_nothing_but_a_missing_file(tmp_path, capsys):
    """No document can be opened: the whole way without a model being asked for a page."""
    out = tmp_path / "out"
    assert main(["batch", str(tmp_path), f"--out={out}", "--workers=1", "-q"]) == 3
    summary = json.loads(capsys.readouterr().out)
    assert (summary["done"], summary["failed"]) == (0, 1)
    assert "holds no pictures" in pq.read_table(out / "failed.parquet").to_pylist()[0]["error"]


def test_a_resumed_command_need_not_say_again_what_the_first_said(tmp_path, capsys):
    out = tmp_path / "out"
    first = ["batch", empty(tmp_path), f"--out={out}", "--max_tokens=9", "--format=json", "-q"]
    assert main(first) == 3
    assert main(["batch", f"--out={out}", "--resume", "-q"]) == 3
    assert main(["batch", f"--out={out}", "--resume", "--max_tokens=8"]) == 2
    assert "is of a run with max_tokens=9, not 8" in capsys.readouterr().err


def test_a_resumed_command_need_not_name_the_device_again(tmp_path, capsys):
    """By a name such as cuda or cpu:0 `auto` is decided where the model is loaded."""
    out = tmp_path / "out"
    assert main(["batch", empty(tmp_path), f"--out={out}", "--device=cpu:0", "-q"]) == 3
    assert main(["batch", f"--out={out}", "--resume", "-q"]) == 3
    with contextlib.closing(Ledger(out)) as ledger:
        assert ledger.options()["device"] == "cpu:0"


@pytest.mark.parametrize("name", ["pages-000001.parquet", "pages-1000000.parquet", "failed.parquet"])
def test_files_of_an_unknown_batch_are_not_replaced(tmp_path, capsys, name):
    """The ledger of an older batch was deleted, or another program has written them."""
    (tmp_path / name).write_bytes(b"mine")
    assert main(["batch", empty(tmp_path), f"--out={tmp_path}", "-q"]) == 2
    assert f"{name} is there and of no batch that is known here" in capsys.readouterr().err
    assert (tmp_path / name).read_bytes() == b"mine"


def test_what_is_not_called_like_a_shard_stays(tmp_path):
    for name in ("pages-of-mine.parquet", "pages-1.parquet"):
        (tmp_path / name).write_bytes(b"mine")
    assert main(["batch", empty(tmp_path), f"--out={tmp_path}", "-q"]) == 3
    assert (tmp_path / "pages-of-mine.parquet").exists() and (tmp_path / "pages-1.parquet").exists()


def test_a_batch_whose_inputs_were_never_noted_is_not_done(tmp_path, capsys):
    Ledger(tmp_path).close()  # as where the disk was full before the first document was noted
    assert main(["batch", f"--out={tmp_path}", "--resume"]) == 2
    assert "name the inputs again" in capsys.readouterr().err


def begin_as_an_older_version(out):
    """Begin a batch whose ledger says dtype=auto, as those did whatever the processor was."""
    main(["batch", empty(out.parent), f"--out={out}", "-q", "--workers=1"])
    with contextlib.closing(Ledger(out)) as ledger:
        ledger.settle({"dtype": "auto"})
        ledger.agree(ledger._meta("options"), {"model": None})


@pytest.mark.parametrize("fast", [False, True])
def test_auto_of_an_older_version_goes_on_as_the_float32_that_it_was(tmp_path, monkeypatch, capsys, fast):
    monkeypatch.setattr(reader, "has_fast_bf16", lambda device: fast)
    begin_as_an_older_version(tmp_path / "out")
    again = ["batch", f"--out={tmp_path / 'out'}", "--resume", "-q", "--device=cpu", "--workers=1"]
    assert main([*again, "--dtype=bfloat16"]) == 2
    assert "a run with dtype=float32, not bfloat16" in capsys.readouterr().err
    assert main([*again, *(["--dtype=float32"] if fast else [])]) == 3  # there is no picture
    with contextlib.closing(Ledger(tmp_path / "out")) as ledger:
        assert ledger.options()["dtype"] == "float32"


def test_auto_of_a_named_gpu_is_not_taken_for_float32(tmp_path, capsys):
    begin_as_an_older_version(tmp_path)
    with contextlib.closing(Ledger(tmp_path)) as ledger:
        ledger.agree(ledger._meta("options"), {"model": None, "device": "cuda"})
    assert main(["batch", f"--out={tmp_path}", "--resume", "--device=cpu"]) == 2
    assert "a run with dtype=auto, not" in capsys.readouterr().err
