"""The documents of a batch and how to get at one: files, members of tar archives, pictures in Parquet.

A document is known by its place, a line of JSON that any worker can open by itself, whatever it did before.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path, PurePath
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from nanoocr.batch.ledger import Found
from nanoocr.errors import PictureError, UsageError
from nanoocr.pages import MAX_BYTES, count_pages

ARCHIVES = (".tar",)
PACKED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
TABLES = (".parquet",)
# A member of such a name is a picture; WebDataset puts labels (.json, .txt, .cls) beside them.
PICTURES = frozenset((".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".pdf"))
ROWS_AT_ONCE = 8  # of a row group: `read_row_group` fails on groups above 2 GiB, small batches do not


def is_container(name: str) -> bool:
    """Whether a file holds many documents, by the end of its name."""
    return name.lower().endswith((*ARCHIVES, *PACKED, *TABLES))


def file_place(path: Path) -> str:
    """The place of a file, the same from whatever folder a run is started."""
    return _place(path=str(path.absolute()))


def open_container(path: Path) -> Iterator[Found]:
    """The documents of an archive or a table; what cannot be opened is one document with an error."""
    name = str(path)
    try:
        yield from _tar(path) if name.lower().endswith((*ARCHIVES, *PACKED)) else _parquet(path)
    except (OSError, tarfile.TarError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        yield Found(file_place(path), name, path.name, f"{name} cannot be opened: {reason}.")


def read_place(place: str) -> bytes:
    """The bytes of a document.

    Raises:
        PictureError: it is gone, cannot be read, or is larger than MAX_BYTES.
    """
    where = json.loads(place)
    try:
        if "group" in where:
            return _cell(where)
        return _from_tar(where) if "offset" in where else _from_file(where)
    except FileNotFoundError:
        raise PictureError(f"{_name(where)} does not exist.", kind="missing") from None
    except (OSError, ValueError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise PictureError(f"{_name(where)} cannot be opened: {reason}.") from error


def survey(place: str, name: str) -> tuple[str, int]:
    """sha256 and number of pages of a document.

    Raises:
        PictureError: it cannot be opened.
    """
    content = read_place(place)
    return hashlib.sha256(content).hexdigest(), count_pages(content, name)


def _place(**where: Any) -> str:
    return json.dumps(where, sort_keys=True)


def _name(where: dict[str, Any]) -> str:
    return str(where.get("path") or where.get("uri"))


def _from_file(where: dict[str, Any]) -> bytes:
    if "uri" in where:
        system, path = pafs.FileSystem.from_uri(where["uri"])
        with system.open_input_stream(path) as stream:
            return _limited(stream.read(MAX_BYTES + 1), where)
    with open(where["path"], "rb") as file:
        return _limited(file.read(MAX_BYTES + 1), where)


def _limited(content: bytes, where: dict[str, Any]) -> bytes:
    if len(content) > MAX_BYTES:
        raise PictureError(f"{_name(where)} is larger than {MAX_BYTES // 2**20} MiB.", kind="too_large")
    return content


def uri_document(uri: str) -> Found:
    """A file of a remote system that pyarrow knows, as s3://bucket/scan.png."""
    name = PurePath(uri.partition("://")[2])
    return Found(_place(uri=uri), uri, str(name))


# ---------------------------------------------------------------------------------------------------
# Archives


def _tar(path: Path) -> Iterator[Found]:
    """The pictures of an archive, by where their bytes begin, so that a worker need not walk along it."""
    if path.name.lower().endswith(PACKED):
        raise UsageError(f"{path} is compressed, so its members cannot be found: unpack it to .tar first")
    with tarfile.open(path, "r:") as archive:
        while (member := archive.next()) is not None:
            archive.members.clear()  # type: ignore[attr-defined]  # else tarfile keeps every header for the sake of getmembers()
            inside = PurePath(member.name)
            if member.isfile() and inside.suffix.lower() in PICTURES and not inside.name.startswith("."):
                place = _place(path=str(path.absolute()), offset=member.offset_data, size=member.size)
                yield Found(place, f"{path}/{member.name}", _inside(path, member.name))


def _from_tar(where: dict[str, Any]) -> bytes:
    if where["size"] > MAX_BYTES:
        raise PictureError(f"{_name(where)} is larger than {MAX_BYTES // 2**20} MiB.", kind="too_large")
    with open(where["path"], "rb") as file:
        file.seek(where["offset"])
        return file.read(where["size"])


def _inside(container: Path, name: str) -> str:
    """Where a member's files go; `..` and a leading slash would lead out of the output folder."""
    parts = [part for part in PurePath(name).parts if part not in ("..", "/", ".")]
    return str(PurePath(container.stem, *parts))


# ---------------------------------------------------------------------------------------------------
# Tables


def _parquet(path: Path) -> Iterator[Found]:
    """A document for each row of the column that holds pictures; only the numbers of rows are read."""
    table = pq.ParquetFile(path)
    column = picture_column(table.schema_arrow, path)
    number = 0
    for group in range(table.num_row_groups):
        for row in range(table.metadata.row_group(group).num_rows):
            place = _place(path=str(path.absolute()), group=group, row=row, column=column)
            yield Found(place, f"{path}, row {number}", str(PurePath(path.stem, f"{number:08d}")))
            number += 1


def picture_column(schema: pa.Schema, path: Path) -> str:
    """The column with pictures: encoded bytes, or a struct with a field `bytes`.

    Raises:
        UsageError: there is none, or it holds paths alone.
    """
    for field in schema:
        kind = field.type
        if pa.types.is_list(kind) or pa.types.is_large_list(kind):
            kind = kind.value_type
        if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
            return field.name
        if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
            return field.name
    raise UsageError(
        f"{path} has no column with pictures, which are bytes or a struct with bytes: its columns are "
        f"{', '.join(schema.names)}"
    )


def _cell(where: dict[str, Any]) -> bytes:
    value = _rows(where["path"], where["group"], where["column"]).get(where["row"])
    if isinstance(value, list):
        value = value[0] if value else None
    if isinstance(value, dict):
        value = value.get("bytes")
    if not value:
        raise PictureError(f"{_name(where)} holds no picture in row {where['row']}.", kind="empty")
    return _limited(value, where)


class _Rows:
    """The cells of a column in one row group, read along: rows are asked for nearly in order."""

    def __init__(self, path: str, group: int, column: str) -> None:
        self.key = (path, group, column)
        self._begin()

    def _begin(self) -> None:
        path, group, column = self.key
        table = pq.ParquetFile(path)
        self.parts = table.iter_batches(batch_size=ROWS_AT_ONCE, row_groups=[group], columns=[column])
        self.first, self.values = 0, list[Any]()

    def get(self, row: int) -> Any:
        """The value of one row, counted from the beginning of the group."""
        if row < self.first:
            self._begin()
        while row >= self.first + len(self.values):
            self.first += len(self.values)
            part = next(self.parts, None)
            if part is None:
                raise ValueError(f"it has no row {row}")
            self.values = part.column(0).to_pylist()
        return self.values[row - self.first]


@lru_cache(maxsize=1)
def _rows(path: str, group: int, column: str) -> _Rows:
    return _Rows(path, group, column)


# ---------------------------------------------------------------------------------------------------
# Lists


def unique_stems(found: Iterable[Found], taken: set[str]) -> Iterator[Found]:
    """Documents with their files' names made different: a suffix is kept, then a number is put behind."""
    for one in found:
        stem, number = one.stem, 1
        while stem in taken:
            number += 1
            stem = f"{one.stem}-{number}"
        taken.add(stem)
        yield one._replace(stem=stem)
