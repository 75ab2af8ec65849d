"""Writes files and folders whole or not at all, and checks them when they are read.

Everything in a checkpoint goes through this module. Files are written into a temporary folder beside the
target, flushed to disk, and listed with their sha256 in `manifest.json`; then the folder is renamed into
place. A folder without a manifest does not count, and verifying the manifest finds damaged files.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from nanoocr.errors import CheckpointError, UsageError

MANIFEST = "manifest.json"
MANIFEST_VERSION = 1
# The mark of UTF-32 in little-endian order begins with that of UTF-16, so it comes first.
BYTE_ORDER_MARKS = {
    "utf-32": (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE),
    "utf-16": (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE),
}


def parse_json(text: str | bytes | bytearray) -> Any:
    """What a JSON text that others wrote says.

    Python's parser gives up at some thousand brackets within brackets with an error of another kind.

    Raises:
        ValueError: it is not JSON, or nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_json_list(path: Path, of: str = "rows", mend: str = "give another file") -> list[Any]:
    """Read a JSON list. Errors call its entries `of`, and `mend` says what to do if there is no such file.

    Raises:
        UsageError: the file cannot be read, is not JSON, or is not a list.
    """
    try:
        entries = parse_json(path.read_bytes())
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}): {mend}") from error
    except ValueError as error:
        raise UsageError(f"{path}: not JSON ({error})") from error
    if not isinstance(entries, list):
        raise UsageError(f"{path}: not a list of {of}")
    return entries


def read_text(path: Path) -> tuple[str, str]:
    """Read a file with `decode_text`.

    Raises:
        UsageError: the file cannot be read at all.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from error
    return decode_text(data, str(path))


def decode_text(data: bytes, name: str) -> tuple[str, str]:
    """(text, problem). All text files are read here: lines end in newlines, and there is no byte order mark.

    The problem is a sentence about an encoding other than UTF-8, or "" for clean UTF-8.
    """
    marked = next((codec for codec, marks in BYTE_ORDER_MARKS.items() if data.startswith(marks)), "")
    codec_name, codec = (marked.upper(), marked) if marked else ("UTF-8", "utf-8-sig")
    problem = f"{name}: {codec_name}, read as such" if marked else ""
    try:
        text = data.decode(codec)
    except UnicodeDecodeError as error:
        text = data.decode(codec, errors="replace")
        problem = f"{name}: not {codec_name} at byte {error.start}, read with replacement characters"
    return lines_as_lf(text), problem


def lines_as_lf(text: str) -> str:
    """The text with every kind of line end as \\n."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def write_folder(
    folder: Path,
    files: Mapping[str, bytes],
    about: Mapping[str, Any] | None = None,
    ready: Sequence[Path] = (),
) -> None:
    """Write `files` (name -> content) and their manifest as `folder`, replacing an older folder.

    `ready` are files that are already on the same disk; they are moved in.

    Raises:
        UsageError: `folder` exists and holds something else.
        OSError: the disk is full or the place is not writable. The old folder is then untouched.
    """
    folder = folder.resolve()
    if folder.exists() and not (folder / MANIFEST).is_file():
        raise UsageError(f"{folder} exists and was not written by this code: name another folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = folder.with_name(f".{folder.name}.writing")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    try:
        _fill(aside, files, about or {}, ready)
        _put_in_place(aside, folder)
    except OSError:
        # A full disk needs the room, and half a folder is of no use.
        shutil.rmtree(aside, ignore_errors=True)
        raise
    shutil.rmtree(_old(folder), ignore_errors=True)


def _fill(aside: Path, files: Mapping[str, bytes], about: Mapping[str, Any], ready: Sequence[Path]) -> None:
    """Write the files and their manifest, and move in the ready ones."""
    entries = {}
    for name, content in files.items():
        _write_through(aside / name, content)
        entries[name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    for path in ready:
        _flush(path)
        entries[path.name] = {"bytes": path.stat().st_size, "sha256": _sha256(path)}
        os.rename(path, aside / path.name)
    manifest = {"version": MANIFEST_VERSION, **about, "files": entries}
    _write_through(aside / MANIFEST, json.dumps(manifest, indent=2).encode())
    _flush(aside)


def _put_in_place(aside: Path, folder: Path) -> None:
    """Rename a whole folder to its final name. The folder that it replaces is kept as `_old` until then."""
    if folder.exists():
        shutil.rmtree(_old(folder), ignore_errors=True)
        os.rename(folder, _old(folder))
    try:
        os.rename(aside, folder)
    except OSError:
        if _old(folder).is_dir():
            os.rename(_old(folder), folder)
        raise
    _flush(folder.parent)


def drop_unfinished(folder: Path) -> None:
    """Remove unfinished writes of killed processes from `folder`. Nobody may be writing there now."""
    for aside in folder.glob(".*.writing"):
        shutil.rmtree(aside) if aside.is_dir() else aside.unlink()


def write_file(path: Path, content: bytes) -> None:
    """Write one file under another name and rename it into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.writing")
    try:
        _write_through(aside, content)
        os.replace(aside, path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise
    _flush(path.parent)


def is_stream(path: Path) -> bool:
    """Whether a path names a device, a pipe or an open file (/dev/stdout): written to, but never replaced."""
    if not path.exists():
        return False
    # Renaming a file into the place of /dev/stdout would replace that link for everybody.
    is_open_file = path.is_symlink() and os.path.abspath(path).startswith(("/dev/", "/proc/"))
    return is_open_file or not path.is_file()


def read_folder(folder: Path, *, skip: tuple[str, ...] = (), only: str = "*") -> dict[str, bytes]:
    """Read a folder that `write_folder` wrote, and check every file against the manifest.

    Files in `skip` stay unread, and so do files that do not match `only` (names, or patterns as `shard-*`).

    Raises:
        CheckpointError: there is no such folder, no manifest (an unfinished write), or a file is damaged.
    """
    files = {}
    for name, entry in read_manifest(folder)["files"].items():
        if any(fnmatch(name, pattern) for pattern in skip) or not fnmatch(name, only):
            continue
        try:
            content = (folder / name).read_bytes()
        except OSError as error:
            raise CheckpointError(f"{folder / name}: cannot be read ({error.strerror})") from error
        _compare(folder / name, hashlib.sha256(content).hexdigest(), entry)
        files[name] = content
    return files


def check_files(folder: Path, pattern: str) -> None:
    """Check files whose names match `pattern` against the manifest, without holding them in memory.

    Raises:
        CheckpointError: as in `read_folder`.
    """
    for name, entry in read_manifest(folder)["files"].items():
        if not fnmatch(name, pattern):
            continue
        try:
            sha256 = _sha256(folder / name)
        except OSError as error:
            raise CheckpointError(f"{folder / name}: cannot be read ({error.strerror})") from error
        _compare(folder / name, sha256, entry)


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of a folder.

    Raises:
        CheckpointError: it is missing, not JSON, or of a version that this code does not know.
    """
    if not folder.is_dir() and _old(folder).is_dir():
        os.rename(_old(folder), folder)  # a kill came between the two renames of `write_folder`
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such checkpoint folder")
    try:
        manifest = parse_json((folder / MANIFEST).read_bytes())
        entries = manifest["files"]
        well_formed = all(Path(name).name == name and str(e["sha256"]) for name, e in entries.items())
    except OSError as error:
        raise CheckpointError(f"{folder}: no {MANIFEST}, so this is no complete checkpoint") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{folder / MANIFEST}: not a manifest ({error})") from error
    if manifest.get("version") != MANIFEST_VERSION or not well_formed:
        raise CheckpointError(
            f"{folder / MANIFEST}: format version {manifest.get('version')!r}, this code reads "
            f"{MANIFEST_VERSION}"
        )
    return manifest


def _old(folder: Path) -> Path:
    """Where `write_folder` keeps the folder that it replaces, until the new one is in place."""
    return folder.with_name(f".{folder.name}.old")


def _write_through(path: Path, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _compare(path: Path, sha256: str, entry: Mapping[str, Any]) -> None:
    if sha256 != entry["sha256"]:
        raise CheckpointError(f"{path}: damaged (its sha256 is not the one in {MANIFEST})")


def _sha256(path: Path) -> str:
    total = hashlib.sha256()
    with open(path, "rb") as file:
        while part := file.read(2**24):
            total.update(part)
    return total.hexdigest()


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
