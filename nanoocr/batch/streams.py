"""The files that documents lie in, opened by any process: of this machine, or of what pyarrow reaches (s3://...).

A file is known by `where`: {"path": ...}, or {"uri": root of a file system, "inside": path in it}.
"""

from __future__ import annotations

import io
import json
import os
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.fs as pafs

from nanoocr.errors import UsageError

BUFFER = 2**20  # bytes that are read at once; otherwise each header of an archive would be a request

Where = dict[str, Any]


def place_of(where: Where, **more: Any) -> str:
    """The one line of JSON that a place is known by in the ledger."""
    return json.dumps({**where, **more}, sort_keys=True)


def name_of(where: Where) -> str:
    """What messages call a file."""
    if "path" in where:
        return str(where["path"])
    return f"{urlsplit(where['uri']).scheme}://{where['inside']}"


def open_stream(where: Where) -> BinaryIO:
    """A file to read from, with `seek`.

    Raises:
        OSError: it is gone or cannot be opened.
    """
    if "path" in where:
        return open(where["path"], "rb")
    raw = remote_system(where["uri"]).open_input_file(where["inside"])
    return io.BufferedReader(raw, BUFFER)  # pyarrow's file has what is needed of a RawIOBase


@lru_cache(maxsize=8)
def remote_system(root: str) -> pafs.FileSystem:
    """The file system of a root; kept, since S3 asks for a bucket's region each time."""
    return pafs.FileSystem.from_uri(root)[0]


def remote_file(uri: str) -> Where:
    """Where a URI leads.

    Raises:
        UsageError: pyarrow knows no such file system, or it does not answer.
    """
    parts = urlsplit(uri)
    if parts.scheme in ("http", "https"):
        raise UsageError(
            f"{uri} is a web address, which a batch does not fetch: download it and name the file"
        )
    try:
        inside = pafs.FileSystem.from_uri(uri)[1]
    except (OSError, pa.ArrowException, ValueError) as error:
        raise UsageError(f"{uri} cannot be reached: {first_line(error)}") from error
    return {"uri": parts._replace(path="/", fragment="").geturl(), "inside": inside}


def local_file(path: Path) -> Where:
    """Where a file is, the same from whatever folder a run is started."""
    return {"path": str(path.absolute())}


def stamp_of(where: Where) -> str:
    """Size and time of change of a file of this machine, which tell that it is still the same; else ""."""
    if "path" not in where or len(where) > 1:
        return ""
    try:
        about = os.stat(where["path"])
    except OSError:
        return ""
    return f"{about.st_size} {about.st_mtime_ns}"


def first_line(error: Exception) -> str:
    """The reason of a foreign error in one line."""
    return str(error).splitlines()[0][:300].rstrip(".") if str(error) else type(error).__name__
