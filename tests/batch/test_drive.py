"""A batch loses nothing and doubles nothing, whatever is killed; bad pages and killers are set aside."""

import multiprocessing
import os
import random
import signal
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from nanoocr.batch import shards
from nanoocr.batch.again import forget_failures, restore
from nanoocr.batch.drive import BatchRun, Plan, drive, next_assignment
from nanoocr.batch.ledger import Document, Found, Ledger, records_of
from nanoocr.batch.pool import start_deaf
from nanoocr.batch.record import packed
from nanoocr.batch.sources import file_place, survey, unchanged_file
from nanoocr.batch.twins import copy_twins
from nanoocr.batch.worker import picture_of
from nanoocr.errors import OutputError, UsageError
from tests.batch.crash import crash, make_pages, read_out, run
from tests.batch.fake import FakeReading, tell_mask


def start_ledger(folder, out):
    out.mkdir(exist_ok=True)
    ledger = Ledger(out)
    ledger.add(Found(file_place(p), p.name, p.stem) for p in sorted(folder.iterdir()))
    return ledger


def finish(ledger, out, **plan):
    said = []
    drive(ledger, out, partial(FakeReading, 0.0, str(out)), Plan(**plan), said.append, lambda: None)
    return said


def paint(path, colour):
    Image.new("RGB", (4, 4), colour).save(path)


@pytest.mark.slow
def test_killed_at_random_every_page_is_there_once(tmp_path):
    make_pages(tmp_path / "in", 120)
    hit = crash(tmp_path / "in", tmp_path / "out", 5, random.Random(0))
    run(tmp_path / "in", tmp_path / "whole", 0.0)
    texts, times = read_out(tmp_path / "out")
    assert hit.total() >= 3
    assert texts == read_out(tmp_path / "whole")[0] and len(texts) == 120
    assert set(times.values()) == {1}


def test_bad_documents_twins_and_killers(tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    paint(folder / "a.png", (1, 1, 1))
    paint(folder / "b.png", (1, 1, 1))  # the same bytes as a
    paint(folder / "killer.png", (6, 6, 6))
    paint(folder / "hangs.png", (5, 5, 5))
    paint(folder / "seven.png", (7, 7, 7))
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.png").write_bytes(b"no picture at all")
    ledger = start_ledger(folder, out)
    said = finish(ledger, out, workers=1, rows=2, page_limit=1.5)
    counts = ledger.counts()
    assert (counts.documents, counts.same, counts.done, counts.failed) == (7, 1, 1, 5)
    texts, times = read_out(out)
    assert set(times.values()) == {1}
    assert texts["a.png", 1] == "(4, 4) (1, 1, 1)"
    failures = {name: error for name, _, _, error in ledger.failures()}
    assert "3 workers died or hung" in failures["hangs.png"]
    assert "3 workers died" in failures["killer.png"] and "ZeroDivisionError: seven" in failures["seven.png"]
    assert sum("killer.png" in line for line in said) == 2

    # Mended, the page is tried again and is then in the output once, and no longer among the failures.
    paint(folder / "seven.png", (8, 8, 8))
    (folder / "killer.png").unlink()
    (folder / "hangs.png").unlink()
    forget_failures(ledger)
    finish(ledger, out, workers=1, rows=2)
    assert (ledger.counts().done, ledger.counts().failed) == (2, 4)
    texts, times = read_out(out)
    assert set(times.values()) == {1} and texts["seven.png", 1] == "(4, 4) (8, 8, 8)"


def test_what_was_deleted_from_the_output_is_there_again_after_a_resume(tmp_path):
    """A shard that is gone, one that is cut off, a file beside; what another shard has stays there."""
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for name in ("a", "d"):
        paint(folder / f"{name}.png", (ord(name), 1, 1))
    images = [Image.new("RGB", (4, 4), (n, 2, 2)) for n in range(3)]
    images[0].save(folder / "c.tif", save_all=True, append_images=images[1:])
    ledger = start_ledger(folder, out)
    make = partial(FakeReading, 0.0, str(out), str(ledger.path))

    def read_all(beside=True):
        drive(ledger, out, make, Plan(workers=1, rows=2, beside=beside), print, lambda: None)
        files = {path.name: path.read_text() for path in out.glob("*.txt")}
        return read_out(out), files, ledger.counts()

    whole = read_all()
    (texts, times), files, counts = whole
    assert (len(texts), counts.done, set(times.values())) == (5, 5, {1}) and len(files) == 3
    assert files["c.txt"].count("\n") == 2
    assert restore(ledger, out, out, ["txt"]) == []

    def shard():
        """The one with the last page of c.tif, whose first page is in another."""
        (found,) = (p for p in out.glob("*.parquet") if {"file": "c.tif", "page": 3} in named_rows(p))
        return found

    for spoil in (Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-9])):
        spoiled = shard()
        spoil(spoiled)
        (out / "a.txt").unlink()
        (out / "c.txt").write_text("to be written anew")
        shards_said, files_said = restore(ledger, out, out, ["txt"])
        assert f"{spoiled.name} is gone from the output or cut off: 2 pages are written again" in shards_said
        assert "a.txt is gone" in files_said
        assert read_all() == whole
    shard().unlink()
    assert len(restore(ledger, out, out, [])) == 1 and ledger.counts().done == 3
    assert read_all(beside=False) == whole


def test_twins_get_the_files_of_what_was_read_and_of_nothing_else(tmp_path):
    """a-0001 is no page of a."""
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for name, shade in (("a", 1), ("a-0001", 2), ("twin", 1)):
        paint(folder / f"{name}.png", (shade, 1, 1))
    images = [Image.new("RGB", (4, 4), (n, 2, 2)) for n in range(2)]
    for name in ("c", "twin-of-c"):
        images[0].save(folder / f"{name}.tif", save_all=True, append_images=images[1:])
    finish(ledger := start_ledger(folder, out), out, workers=1)
    names = ["a.json", "a-0001.json", "a.page.xml", "a-0001.page.xml", "c.json", "c-0001.page.xml"]
    for name in names:
        (out / name).write_text(name)
    assert copy_twins(ledger, out, ["json", "page"]) == 4
    copies = {path.name: path.read_text() for path in out.glob("twin*")}
    assert copies == {
        "twin.json": "a.json",
        "twin.page.xml": "a.page.xml",
        "twin-of-c.json": "c.json",
        "twin-of-c-0001.page.xml": "c-0001.page.xml",
    }


def named_rows(path):
    return pq.read_table(path, columns=["file", "page"]).to_pylist()


def test_good_pages_stay_for_the_files_of_a_document_that_is_tried_again(tmp_path):
    """Also where the run was killed before they came into a shard."""
    ledger = Ledger(tmp_path)
    ledger.add([Found("{}", "a.tif", "a")])
    with ledger.changing() as db:
        ledger.opened(db, 1, "abc", 2)
        ledger.read(db, 1, 1, packed({"file": "a.tif", "page": 1, "text": "one", "status": "ok"}))
        ledger.read(db, 1, 2, packed({"file": "a.tif", "page": 2, "text": "", "status": "error"}))
        ledger.finished(db, 1)
    forget_failures(ledger)
    shards.flush(tmp_path, ledger, at_least=1)
    with ledger.changing() as db:
        ledger.read(db, 1, 2, packed({"file": "a.tif", "page": 2, "text": "two", "status": "ok"}))
    assert [page["text"] for page in records_of(ledger.path, 1)] == ["one", "two"]
    with ledger.changing() as db:
        ledger.finished(db, 1)
    shards.finish(tmp_path, ledger)
    assert set(read_out(tmp_path)[1].values()) == {1} and records_of(ledger.path, 1) == []


def test_ctrl_c_reaches_us_and_none_of_the_workers():
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=tell_mask, args=(theirs,))
    start_deaf(process)
    assert ours.recv() is True
    process.join()
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_a_shard_that_the_ledger_does_not_know_is_written_anew(tmp_path, monkeypatch):
    make_pages(tmp_path / "in", 9)
    ledger = start_ledger(tmp_path / "in", tmp_path / "out")

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "sharded", killed)  # the shard is in its place, and then the process dies
        with pytest.raises(KeyboardInterrupt):
            finish(ledger, tmp_path / "out", rows=3)
    assert len(list((tmp_path / "out").glob("pages-*.parquet"))) == 1
    finish(ledger, tmp_path / "out", rows=4)
    texts, times = read_out(tmp_path / "out")
    assert len(texts) == 9 and set(times.values()) == {1}


def test_options_and_versions_of_ledgers(tmp_path):
    ledger = Ledger(tmp_path)
    ledger.agree({"mode": None, "model": "of a run that noted nothing"})
    ledger.agree({"mode": None, "model": "abc"}, {"folder": "a"})
    ledger.add([Found("{}", "a", "a")])
    ledger.agree({"mode": None, "model": "abc"}, {"folder": "b"})
    assert ledger.options() == {"mode": None, "model": "abc", "folder": "b"}
    with pytest.raises(UsageError, match="model=abc, not def"):
        ledger.agree({"mode": None, "model": "def"})
    ledger.db.execute("PRAGMA user_version=7")
    ledger.close()
    with pytest.raises(UsageError, match="version 7"):
        Ledger(tmp_path)


def test_a_file_that_is_no_ledger_and_a_folder_that_is_none(tmp_path):
    (tmp_path / "ledger.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(UsageError, match="no ledger"):
        Ledger(tmp_path)
    with pytest.raises(OutputError, match="cannot be written"):
        Ledger(tmp_path / "missing")


def test_a_full_disk_is_one_sentence_and_the_next_run_goes_on(tmp_path, monkeypatch):
    make_pages(tmp_path / "in", 6)
    ledger = start_ledger(tmp_path / "in", tmp_path / "out")

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(shards, "write_file", full)
        with pytest.raises(OutputError, match=r"pages-000001.parquet cannot be written \(No space left"):
            finish(ledger, tmp_path / "out", rows=3)
    finish(ledger, tmp_path / "out", rows=3)
    assert len(read_out(tmp_path / "out")[0]) == 6


def test_a_large_document_is_spread_and_only_a_changed_one_is_read_whole(tmp_path):
    make_pages(tmp_path / "in", 40)
    paint(tmp_path / "a.png", (1, 1, 1))
    place = file_place(tmp_path / "a.png")
    sha256, pages, stamp = survey(place, "a.png")
    assert unchanged_file(place, stamp) == tmp_path / "a.png"
    document = Document(1, place, "a.png", "a", sha256, pages, stamp)
    assert picture_of(document, 1).image.size == (4, 4)
    paint(tmp_path / "a.png", (200, 1, 1))
    os.utime(tmp_path / "a.png", ns=(1, 1))
    assert unchanged_file(place, stamp) is None
    assert "was changed while the batch ran" in str(picture_of(document, 1).error)


def test_pages_of_different_documents_share_a_task_and_those_of_one_go_to_several(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a", "b"):
        paint(folder / f"{name}.png", (ord(name), 1, 1))
    images = [Image.new("RGB", (4, 4), (n, 2, 2)) for n in range(6)]
    images[0].save(folder / "c.tif", save_all=True, append_images=images[1:])
    ledger = start_ledger(folder, tmp_path / "out")
    with ledger.changing() as db:
        for number, pages in ((1, 1), (2, 1), (3, 6)):
            ledger.opened(db, number, str(number), pages)
    batch = BatchRun(ledger, tmp_path, None, Plan(pages_at_once=4), print)
    first = next_assignment(batch, set())
    assert list(first.items()) == [("read", 1, 1), ("read", 2, 1), ("read", 3, 1), ("read", 3, 2)]
    assert next_assignment(batch, set(first.items())).pages == (3, 4)  # the last assignments are short
