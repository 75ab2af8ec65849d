"""Files that are there whole or not at all: killed at every step, damaged in every file, disk full."""

from __future__ import annotations

import errno
import itertools
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from nanoocr import files
from nanoocr.errors import CheckpointError
from nanoocr.files import MANIFEST, read_folder, read_manifest, write_file, write_folder

OLD = {"weights.bin": b"old weights" * 1000, "config.json": b'{"a": 1}', "empty": b""}
NEW = {"weights.bin": b"NEW WEIGHTS" * 900, "config.json": b'{"a": 2}', "more.txt": b"more"}


def test_round_trip(tmp_path):
    folder = tmp_path / "deep" / "er" / "step"
    write_folder(folder, OLD, {"step": 7})
    assert read_folder(folder) == OLD
    assert read_manifest(folder)["step"] == 7
    assert sorted(path.name for path in folder.iterdir()) == sorted([*OLD, MANIFEST])


def test_replacing_leaves_nothing_of_the_old_one(tmp_path):
    write_folder(tmp_path / "step", OLD)
    write_folder(tmp_path / "step", NEW)
    assert read_folder(tmp_path / "step") == NEW
    assert [path.name for path in tmp_path.iterdir()] == ["step"]
    assert not (tmp_path / "step" / "empty").exists()


def test_skipped_files_are_not_read(tmp_path):
    write_folder(tmp_path / "step", OLD)
    (tmp_path / "step" / "weights.bin").unlink()
    assert set(read_folder(tmp_path / "step", skip=("weights.bin",))) == {"config.json", "empty"}


# ---------------------------------------------------------------------------------------------------------
# killed


def killed_before(place: int, action: Callable[[], None]) -> bool:
    """Run `action` in a child that dies, without any clean-up, before its call number `place` that changes
    the disk. False when `action` ended before."""
    child = os.fork()
    if child == 0:
        calls = itertools.count()

        def deadly(function: Callable) -> Callable:
            def wrapped(*arguments, **options):
                if next(calls) == place:
                    os._exit(9)
                return function(*arguments, **options)

            return wrapped

        for name in ("fsync", "rename", "replace", "mkdir", "unlink", "rmdir"):
            setattr(os, name, deadly(getattr(os, name)))
        try:
            action()
        except BaseException:  # noqa: BLE001 (a child must never go on as a second pytest)
            os._exit(1)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 9)
    return code == 9


def places(action: Callable[[], None], prepare: Callable[[], None]):
    """Every place at which `action` can be killed, each after a fresh `prepare`."""
    for place in itertools.count():
        prepare()
        if not killed_before(place, action):
            assert place > 3  # there were places to be killed at
            return
        yield place


def test_killed_while_replacing_a_folder_leaves_a_whole_one(tmp_path):
    folder = tmp_path / "model"
    broken = []
    for place in places(lambda: write_folder(folder, NEW), lambda: write_folder(folder, OLD)):
        try:
            whole = read_folder(folder) in (OLD, NEW)
        except CheckpointError:
            whole = False
        broken += [] if whole else [place]
        write_folder(folder, NEW)  # whatever was left behind is not in the way
        assert read_folder(folder) == NEW
    assert broken == []


def test_killed_while_writing_a_new_folder_leaves_none_or_a_whole_one(tmp_path):
    folder = tmp_path / "step_000001"
    numbers = itertools.count()

    def elsewhere() -> None:
        nonlocal folder
        folder = tmp_path / str(next(numbers)) / "step_000001"

    seen = set()
    for _ in places(lambda: write_folder(folder, NEW), elsewhere):
        seen.add(folder.exists())
        if folder.exists():
            assert read_folder(folder) == NEW
        else:
            with pytest.raises(CheckpointError, match="step_000001"):
                read_folder(folder)
    assert seen == {False, True}  # it appears before the last call, the flush of its parent


def test_killed_while_writing_a_file_leaves_the_old_or_the_new_one(tmp_path):
    path = tmp_path / "file.bin"
    seen = set()
    for place in itertools.count():
        path.write_bytes(b"old" * 5000)
        if not killed_before(place, lambda: write_file(path, b"new" * 4000)):
            break
        seen.add(path.read_bytes())
    assert seen == {b"old" * 5000, b"new" * 4000}


# ---------------------------------------------------------------------------------------------------------
# damaged


@pytest.mark.parametrize("name", [name for name, content in OLD.items() if content])
@pytest.mark.parametrize("place", [0, -1])
def test_one_flipped_bit_is_noticed_and_named(tmp_path, name, place):
    write_folder(tmp_path / "step", OLD)
    content = bytearray(OLD[name])
    content[place] ^= 1
    (tmp_path / "step" / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{name}.*damaged"):
        read_folder(tmp_path / "step")


@pytest.mark.parametrize("name", sorted(OLD))
@pytest.mark.parametrize("change", [lambda content: content + b"x", lambda content: content[:-1] or b"y"])
def test_another_length_is_noticed_and_named(tmp_path, name, change):
    write_folder(tmp_path / "step", OLD)
    (tmp_path / "step" / name).write_bytes(change(OLD[name]))
    with pytest.raises(CheckpointError, match=name):
        read_folder(tmp_path / "step")


@pytest.mark.parametrize("name", sorted(OLD))
def test_a_missing_file_is_named(tmp_path, name):
    write_folder(tmp_path / "step", OLD)
    (tmp_path / "step" / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        read_folder(tmp_path / "step")


def test_no_folder_and_no_manifest(tmp_path):
    with pytest.raises(CheckpointError, match="nowhere"):
        read_folder(tmp_path / "nowhere")
    write_folder(tmp_path / "step", OLD)
    (tmp_path / "step" / MANIFEST).unlink()
    with pytest.raises(CheckpointError, match=MANIFEST):
        read_folder(tmp_path / "step")


SHA = "0" * 64


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b"7",
        b"null",
        b'{"version": 1}',
        b'{"version": 1, "files": 3}',
        b'{"version": 1, "files": []}',
        b'{"version": 1, "files": {"weights.bin": null}}',
        b'{"version": 1, "files": {"weights.bin": {}}}',
        b'{"version": 1, "files": {"weights.bin": "sha256"}}',
        b'{"version": 2, "files": {}}',
        b'{"files": {}}',
        json.dumps({"version": 1, "files": {"../secret": {"sha256": SHA}}}).encode(),
        json.dumps({"version": 1, "files": {"/etc/hostname": {"sha256": SHA}}}).encode(),
        json.dumps({"version": 1, "files": {"..": {"sha256": SHA}}}).encode(),
    ],
)
def test_a_manifest_that_is_none_is_named(tmp_path, content):
    write_folder(tmp_path / "step", OLD)
    (tmp_path / "step" / MANIFEST).write_bytes(content)
    with pytest.raises(CheckpointError, match="step"):
        read_folder(tmp_path / "step")


def test_a_manifest_cannot_reach_outside_of_its_folder(tmp_path, monkeypatch):
    (tmp_path / "secret").write_bytes(b"secret")
    write_folder(tmp_path / "step", OLD)
    entry = {"version": 1, "files": {"../secret": {"sha256": files.hashlib.sha256(b"secret").hexdigest()}}}
    (tmp_path / "step" / MANIFEST).write_text(json.dumps(entry))
    with pytest.raises(CheckpointError):
        read_folder(tmp_path / "step")


# ---------------------------------------------------------------------------------------------------------
# full


@pytest.mark.parametrize("place", range(4))  # three files and the manifest
def test_full_disk_keeps_the_old_folder(tmp_path, monkeypatch, place):
    folder = tmp_path / "model"
    write_folder(folder, OLD)
    calls = itertools.count()
    write = files._write_through

    def full(path: Path, content: bytes) -> None:
        if next(calls) == place:
            path.write_bytes(content[: len(content) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        write(path, content)

    monkeypatch.setattr(files, "_write_through", full)
    with pytest.raises(OSError, match="No space left"):
        write_folder(folder, NEW)
    monkeypatch.undo()
    assert read_folder(folder) == OLD
    write_folder(folder, NEW)  # space again
    assert read_folder(folder) == NEW
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_full_disk_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_file(path, b"old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_file(path, b"new")
    assert path.read_bytes() == b"old"


def test_a_folder_that_may_not_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_bytes(b"not a folder")
    with pytest.raises(OSError, match="file"):
        write_folder(tmp_path / "file" / "step", OLD)
    assert (tmp_path / "file").read_bytes() == b"not a folder"


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="names of descriptors are Linux's")
def test_everything_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    """All four files and the folder are flushed before the rename, the parent after it."""
    calls = []
    real_fsync, real_rename = os.fsync, os.rename

    def fsync(descriptor: int) -> None:
        calls.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        real_fsync(descriptor)

    def rename(source: Path, target: Path) -> None:
        calls.append("rename")
        real_rename(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "rename", rename)
    write_folder(tmp_path / "step", OLD)
    before, after = calls[: calls.index("rename")], calls[calls.index("rename") + 1 :]
    assert {*OLD, MANIFEST} <= set(before) and ".step.writing" in before
    assert before.index(".step.writing") > before.index(MANIFEST)
    assert after == [tmp_path.name]


def test_a_manifest_that_is_nested_too_deeply_is_no_manifest(tmp_path):
    (tmp_path / MANIFEST).write_text("[" * 100_000)
    with pytest.raises(CheckpointError, match="not a manifest"):
        read_manifest(tmp_path)
