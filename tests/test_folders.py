"""One idea of a folder for reading, training, fine-tuning and evaluation."""

import codecs
import os

import pytest
from PIL import Image

from nanoocr.cli.inputs import find_inputs
from nanoocr.data.rows import BadRowError
from nanoocr.eval.samples import load_folder
from nanoocr.finetune.sources import gather
from nanoocr.folders import files_below, pair_texts
from nanoocr.tasks.folder import Folder


def put(path, text: str | bytes | None = None, format_name: str = "PNG") -> None:
    """A picture, and the text beside it (page.png -> page.txt)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (20, 30), 255).save(path, format_name)
    if text is not None:
        path.with_suffix(".txt").write_bytes(text if isinstance(text, bytes) else text.encode())


@pytest.fixture
def scans(tmp_path):
    """Two scans whose names count, one called as nobody expects, one linked, one hidden, and a circle."""
    folder = tmp_path / "scans"
    for name in ("page10.png", "page2.png"):
        put(folder / name, name)
    put(folder / "phone.jfif", "phone", "JPEG")
    put(folder / "scan", "scan")
    put(folder / ".cache" / "old.png", "hidden")
    (folder / "._page2.png").write_bytes(b"of macOS")
    put(tmp_path / "elsewhere" / "far.png", "far")
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    (folder / "circle").symlink_to(folder)
    return folder


SEEN = ["link/far.png", "page2.png", "page10.png", "phone.jfif", "scan"]


def test_every_way_into_a_folder_sees_the_same_files(scans):
    read = [item.source for item in find_inputs([str(scans)]).files]
    trained = [picture for picture, _ in Folder(scans).pairs]
    tuned = [document.source for document in gather(scans).documents]
    scored = [sample.picture for sample in load_folder(scans).samples]
    for found in (read, trained, tuned, scored):
        assert [path.relative_to(scans).as_posix() for path in found] == SEEN


def test_a_pipe_in_a_folder_is_left_out_whatever_its_name_is(tmp_path):
    put(tmp_path / "a.png")
    os.mkfifo(tmp_path / "b.png")  # opening it would wait for a writer for ever
    found = find_inputs([str(tmp_path)])
    assert ([item.place.name for item in found.files], found.left_out) == (["a.png"], ["b.png"])


def test_every_way_into_a_folder_takes_the_same_text(tmp_path):
    put(tmp_path / "a.png", "plain")
    (tmp_path / "a.md").write_text("marked")
    put(tmp_path / "b.png", "plain")
    (tmp_path / "b.gt.txt").write_text("true")
    put(tmp_path / "c.png")
    (tmp_path / "c.png.txt").write_text("whole name")
    put(tmp_path / "d.v2.png", "dotted")
    right = ["marked", "true", "whole name", "dotted"]
    assert [row.answer for row in Folder(tmp_path)] == right
    assert [sample.truth for sample in load_folder(tmp_path).samples] == right
    assert [document.text for document in gather(tmp_path).documents] == right
    assert Folder(tmp_path).missing == [
        f"{tmp_path / 'a.txt'}: a.md beside it is used", f"{tmp_path / 'b.txt'}: b.gt.txt beside it is used"
    ]  # fmt: skip


def test_what_has_no_partner_is_named(tmp_path):
    put(tmp_path / "a.png")
    (tmp_path / "b.txt").write_text("alone")
    found = pair_texts(files_below(tmp_path)[0])
    assert (found.pairs, [path.name for path in found.pictures]) == ((), ["a.png"])
    assert [path.name for path in found.texts] == ["b.txt"]


@pytest.mark.parametrize(
    "content",
    [
        "Ä\nb".encode(),
        codecs.BOM_UTF8 + "Ä\r\nb\r\n".encode(),
        "Ä\rb".encode(),
        codecs.BOM_UTF16_LE + "Ä\r\nb".encode("utf-16-le"),
        codecs.BOM_UTF16_BE + "Ä\nb".encode("utf-16-be"),
    ],
)
def test_every_way_into_a_text_file_reads_the_same(tmp_path, content):
    put(tmp_path / "a.png", content)
    assert Folder(tmp_path)[0].answer == "Ä\nb"
    assert load_folder(tmp_path).samples[0].truth == "Ä\nb"
    assert gather(tmp_path).documents[0].text == "Ä\nb"


def test_another_encoding_is_named_with_the_mend(tmp_path):
    put(tmp_path / "a.png", "über".encode("latin-1"))
    with pytest.raises(BadRowError, match=r"a\.png: a\.txt cannot be read as UTF-8: save it as UTF-8"):
        Folder(tmp_path)[0]
