"""What a folder is: what content says is readable is read, the rest is one line, links are followed once."""

import os
import random
import struct
import subprocess
import sys

import pytest
from PIL import Image

from nanoocr.cli.inputs import find_inputs
from nanoocr.folders import counting_order, looks_readable
from nanoocr.pages import open_source

PICTURE = Image.new("L", (60, 40), 255)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def names(*given: str) -> list[str]:
    return [item.name for item in find_inputs(given).files]


def test_content_decides_whatever_the_name_is(folder):
    saved = {"a.jfif": "JPEG", "b.jpe": "JPEG", "c.dib": "BMP", "d": "GIF", "e.TIFF": "TIFF", "f.tmp": "WEBP"}
    for name, kind in saved.items():
        PICTURE.save(folder / name, kind)
    PICTURE.save(folder / "g.apng", "PNG", save_all=True, append_images=[PICTURE.point(lambda _: 0)])
    PICTURE.save(folder / "h.scan", "PDF")
    (folder / "scan.jp2").write_bytes(b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(50))
    (folder / "photo.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(50))
    (folder / "BMW.txt").write_text("BMW builds cars")
    found = find_inputs(["in"])
    assert [item.place.name for item in found.files] == [*saved, "g.apng", "h.scan"]
    assert found.told() == "3 files left out: BMW.txt, photo.heic, scan.jp2"
    for item in found.files:
        assert [page.error for page in open_source(item.source)] == [None]
    for name in found.left_out:
        assert [page.image for page in open_source(folder / name)] == [None]


def test_a_file_called_a_picture_is_an_error_and_not_passed_over(folder):
    (folder / "empty.png").touch()
    (folder / "words.jpg").write_text("no picture")
    (folder / "lost.tif").symlink_to("nowhere")
    assert names("in") == ["in/empty.png", "in/lost.tif", "in/words.jpg"]


def test_many_files_left_out_are_one_short_line(folder):
    for number in range(30):
        (folder / f"{number}.txt").touch()
    PICTURE.save(folder / "a.png")
    assert (
        find_inputs(["in"]).told()
        == "30 files left out: 0.txt, 1.txt, 2.txt, 3.txt, 4.txt, 5.txt and 24 more"
    )
    assert find_inputs(["in/a.png"]).told() is None


def test_numbers_in_names_count():
    right = ["1", "2.png", "10.png", "A2", "a3", "a10", "a10b", "page", "page2-9", "page2-10", "Page10", "²"]
    shuffled = random.Random(0).sample(right, len(right))
    assert sorted(shuffled, key=counting_order) == right


def test_hidden_files_and_folders_are_left_out_without_a_word(folder):
    for name in ("a.png", "._a.png", ".git/b.png", "sub/c.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        PICTURE.save(folder / name)
    found = find_inputs(["in"])
    assert (names("in"), found.told()) == (["in/a.png", "in/sub/c.png"], None)


def test_linked_folders_are_followed_once(folder, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (folder / "z").mkdir()
    PICTURE.save(tmp_path / "elsewhere/a.png")
    PICTURE.save(folder / "z/b.png")
    (folder / "away").symlink_to(tmp_path / "elsewhere")
    (folder / "away2").symlink_to(tmp_path / "elsewhere")
    (folder / "copy_of_z").symlink_to("z")
    (folder / "z/circle").symlink_to(folder)
    assert names("in") == ["in/away/a.png", "in/z/b.png"]


def test_places_are_below_the_folder_that_was_named(folder):
    (folder / "m").mkdir()
    PICTURE.save(folder / "m/2.png")
    files = find_inputs(["in", "in/m", "in/m/2.png", "-"]).files
    assert [str(item.place) for item in files] == ["m/2.png", "2.png", "2.png", "stdin"]


def test_a_pipe_in_a_folder_is_not_waited_for(folder):
    os.mkfifo(folder / "pipe")
    PICTURE.save(folder / "a.png")
    assert not looks_readable(folder / "pipe")
    assert find_inputs(["in"]).left_out == ["pipe"]


def test_what_pillow_logs_does_not_reach_stderr(tmp_path):
    path = tmp_path / "samples.tif"
    Image.new("RGB", (40, 20), "white").save(path)
    data = bytearray(path.read_bytes())
    entry = data.index(struct.pack("<HHL", 277, 3, 1))  # SamplesPerPixel, a short
    data[entry + 8 : entry + 10] = struct.pack("<H", 32771)
    path.write_bytes(data)
    # In a process of its own: pytest's handlers would take what Pillow logs.
    main = (
        "from nanoocr.pictures import open_image; from nanoocr.commandline import run; import pathlib, sys; "
    )
    main += "sys.exit(run(lambda argv: open_image(pathlib.Path(argv[0])) and None, sys.argv[1:]))"
    done = subprocess.run([sys.executable, "-c", main, str(path)], capture_output=True, text=True)
    assert done.returncode == 3 and done.stderr.count("\n") == 1 and "samples.tif" in done.stderr
