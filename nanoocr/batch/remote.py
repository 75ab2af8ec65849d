"""Files of remote systems by URI: one file, a folder with all that is below it, or a pattern."""

from __future__ import annotations

import glob
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.fs as pafs

from nanoocr.batch.ledger import Found
from nanoocr.batch.sources import CONTAINERS, PICTURES, is_container, open_container
from nanoocr.batch.streams import Where, first_line, name_of, place_of, remote_file, remote_system
from nanoocr.errors import UsageError


def find_remote(uri: str) -> Iterator[Found]:
    """The documents that a URI names; `*` and `[...]` are a pattern within a folder's name, `?` is none.

    Raises:
        UsageError: the system does not answer, or there is no such thing.
    """
    where = remote_file(uri)
    system, inside = remote_system(where["uri"]), where["inside"]
    try:
        if glob.has_magic(inside):
            yield from _fitting(where, system, uri)
            return
        kind = system.get_file_info(inside).type
        if kind == pafs.FileType.NotFound:
            raise UsageError(f"{uri} does not exist: see whether its name is right")
        if kind == pafs.FileType.Directory:
            yield from _folder(where, system)
        else:
            yield from _documents(where, PurePosixPath(inside).name)
    except (OSError, pa.ArrowException) as error:
        raise UsageError(f"{uri} cannot be searched: {first_line(error)}") from error


def _folder(where: Where, system: pafs.FileSystem) -> Iterator[Found]:
    """All pictures, PDFs, archives and tables below a folder, by name."""
    folder = where["inside"].rstrip("/")
    found = 0
    for path in sorted(_files(system, folder)):
        if path.lower().endswith((*PICTURES, *CONTAINERS)):
            found += 1
            yield from _documents({**where, "inside": path}, path[len(folder) + 1 :])
    if not found:
        yield Found(place_of(where), name_of(where), "", f"{name_of(where)} holds no pictures or PDFs.")


def _fitting(where: Where, system: pafs.FileSystem, uri: str) -> Iterator[Found]:
    """The files that fit a pattern, each part of it within one folder's or file's name."""
    wanted = where["inside"].split("/")
    fixed = next(number for number, part in enumerate(wanted) if glob.has_magic(part))
    fitting = []
    for path in _files(system, "/".join(wanted[:fixed])):
        parts = path.split("/")
        if len(parts) == len(wanted) and all(map(fnmatchcase, parts, wanted)):
            fitting.append(path)
    if not fitting:
        raise UsageError(f"nothing fits the pattern {uri}: see whether the folder is right")
    for path in sorted(fitting):
        yield from _documents({**where, "inside": path}, "/".join(path.split("/")[fixed:]))


def _files(system: pafs.FileSystem, folder: str) -> list[str]:
    selector = pafs.FileSelector(folder, recursive=True)
    return [one.path for one in system.get_file_info(selector) if one.type == pafs.FileType.File]


def _documents(where: Where, place: str) -> Iterator[Found]:
    stem = str(PurePosixPath(place).with_suffix(""))
    if is_container(place):
        yield from open_container(where, name_of(where), stem)
    else:
        yield Found(place_of(where), name_of(where), stem)
