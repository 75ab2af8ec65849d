"""The documents of a batch and how to get at one: files, members of tar archives, pictures in Parquet.

A document is known by its place, a line of JSON that any worker can open by itself, whatever it did before.
"""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
import re
import stat
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path, PurePath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nanoocr.batch.ledger import Found
from nanoocr.batch.streams import Where, first_line, local_file, name_of, open_stream, place_of, stamp_of
from nanoocr.errors import PictureError
from nanoocr.folders import begins_readable
from nanoocr.pages import MAX_BYTES, count_pages

ARCHIVES = (".tar",)
PACKED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
CONTAINERS = (*ARCHIVES, *PACKED, ".parquet")
# A member of such a name is a picture; WebDataset puts labels (.json, .txt, .cls) beside them.
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".pdf")
LONGEST_NAME = 200  # bytes of a name without its suffixes; most file systems take 255 with them
PAGE_NUMBER = re.compile(r"-\d{4,}$")  # as of a page's own file
ROWS_AT_ONCE = 8  # rows are read in small batches, because `read_row_group` fails on groups above 2 GiB


def is_container(name: str) -> bool:
    """Whether a file holds many documents, by the end of its name."""
    return name.lower().endswith(CONTAINERS)


def is_listed(place: str) -> bool:
    """Whether a place has no bytes of a document: it is of a container, or of a dead link in one."""
    where = json.loads(place)
    return is_container(name_of(where)) and not {"offset", "group"} & where.keys()


def file_place(path: Path) -> str:
    """The place of a file of this machine."""
    return place_of(local_file(path))


def open_container(where: Where, name: str, stem: str) -> Iterator[Found]:
    """The documents of an archive or a table, whose files go below `stem`.

    What cannot be opened, or only up to some point, gives one document more, with the error.
    """
    try:
        yield from (
            _parquet(where, name, stem) if name.lower().endswith(".parquet") else _tar(where, name, stem)
        )
    except PictureError as error:
        yield Found(place_of(where), name, stem, str(error))
    except (OSError, tarfile.TarError, pa.ArrowException) as error:
        yield Found(place_of(where), name, stem, f"{name} cannot be opened: {first_line(error)}.")


def read_place(place: str) -> bytes:
    """The bytes of a document.

    Raises:
        PictureError: it is gone, cannot be read, or is larger than MAX_BYTES.
    """
    where = json.loads(place)
    try:
        content = _cell(where) if "group" in where else _read(where)
    except FileNotFoundError:
        raise PictureError(f"{name_of(where)} does not exist.", kind="missing") from None
    except (OSError, ValueError, pa.ArrowException) as error:
        raise PictureError(f"{name_of(where)} cannot be opened: {first_line(error)}.") from error
    if len(content) > MAX_BYTES:
        raise PictureError(f"{name_of(where)} is larger than {MAX_BYTES // 2**20} MiB.", kind="too_large")
    return content


def _read(where: Where) -> bytes:
    """A file, or of an archive the bytes of one member; never more than just above the limit."""
    # A pipe gives its bytes once, and a document is looked at before it is read; opening may wait forever.
    if "path" in where and not stat.S_ISREG(os.stat(where["path"]).st_mode):
        raise PictureError(f"{name_of(where)} is a pipe or a device, not a file: save what it gives to one.")
    with open_stream(where) as file:
        file.seek(where.get("offset", 0))
        return file.read(min(where.get("size", MAX_BYTES + 1), MAX_BYTES + 1))


def survey(place: str, name: str) -> tuple[str, int, str]:
    """sha256, number of pages and stamp of a document.

    Raises:
        PictureError: it cannot be opened.
    """
    stamp = stamp_of(json.loads(place))  # before the reading, so that a change during it shows
    content = read_place(place)
    return hashlib.sha256(content).hexdigest(), count_pages(content, name), stamp


def unchanged_file(place: str, stamp: str) -> Path | None:
    """The path of a file that is as it was surveyed; None where only its content can tell.

    So a worker that has some pages of a large PDF reads those, and not all of it: a PDF of 3,000 pages is
    read by 200 tasks.
    """
    where = json.loads(place)
    return Path(where["path"]) if stamp and stamp_of(where) == stamp else None


# ---------------------------------------------------------------------------------------------------
# Archives


def _tar(where: Where, name: str, stem: str) -> Iterator[Found]:
    """The pictures of an archive, by where their bytes begin, so that a worker need not walk along it."""
    if name.lower().endswith(PACKED):
        raise PictureError(f"{name} is compressed, so its members cannot be found: unpack it to .tar first.")
    links: list[tuple[str, str]] = []
    found = 0
    for member in _members(where):
        if not _is_picture(member.name):
            continue
        if member.isfile():
            yield _member(where, name, stem, member.name, member)
        elif member.islnk() or member.issym():
            links.append((member.name, _target(member)))
        else:
            continue
        found += 1
    if links:
        yield from _linked(where, name, stem, links)
    if not found:
        raise PictureError(f"{name} holds no pictures or PDFs.", kind="empty")


def _members(where: Where) -> Iterator[tarfile.TarInfo]:
    with open_stream(where) as file, tarfile.open(fileobj=file, mode="r:") as archive:
        while (member := archive.next()) is not None:
            archive.members.clear()  # type: ignore[attr-defined]  # else tarfile keeps every header for the sake of getmembers()
            yield member


def _is_picture(name: str) -> bool:
    inside = PurePath(name)
    return inside.suffix.lower() in PICTURES and not inside.name.startswith(".")


def _member(where: Where, name: str, stem: str, called: str, member: tarfile.TarInfo) -> Found:
    place = place_of(where, offset=member.offset_data, size=member.size)
    return Found(place, f"{name}/{called}", _inside(stem, called))


def _target(link: tarfile.TarInfo) -> str:
    """The member that a link means. A hard link names it from the archive's root, a symbolic one does not."""
    folder = posixpath.dirname(link.name) if link.issym() else ""
    return posixpath.normpath(posixpath.join(folder, link.linkname))


def _linked(where: Where, name: str, stem: str, links: Sequence[tuple[str, str]]) -> Iterator[Found]:
    """The members that links mean, under the links' names: tar stores a file of two names once."""
    # A second walk along the archive: to keep the places of all members for the few links would fill memory.
    wanted = {target for _, target in links}
    known = {
        posixpath.normpath(member.name): member
        for member in _members(where)
        if member.isfile() and posixpath.normpath(member.name) in wanted
    }
    for called, target in links:
        if target in known:
            found = _member(where, name, stem, called, known[target])
            # Of its own: the place of a document is unique in the ledger.
            yield found._replace(place=place_of({**json.loads(found.place), "link": called}))
        else:
            place = place_of(where, link=called)
            sentence = f"{name}/{called} is a link to {target}, which the archive does not hold."
            yield Found(place, f"{name}/{called}", _inside(stem, called), sentence)


def _inside(stem: str, name: str) -> str:
    """Where a member's files go; `..` and a leading slash would lead out of the output folder."""
    parts = [part for part in PurePath(name).with_suffix("").parts if part not in ("..", "/", ".")]
    return str(PurePath(stem, *parts))


# ---------------------------------------------------------------------------------------------------
# Tables


def _parquet(where: Where, name: str, stem: str) -> Iterator[Found]:
    """A document for each picture of the column that holds pictures."""
    number = 0
    with open_stream(where) as file:
        table = pq.ParquetFile(file)
        column = picture_column(table, name)
        for group in range(table.num_row_groups):
            for row, count in enumerate(_pictures_in_rows(table, group, column)):
                for item in range(max(count, 1)):
                    place = place_of(where, group=group, row=row, column=column, item=item)
                    part = f"-{item + 1}" if count > 1 else ""
                    yield Found(place, f"{name}, row {number}{part}", f"{stem}/{number:08d}{part}")
                number += 1
    if not number:
        raise PictureError(f"{name} holds no rows.", kind="empty")


def _pictures_in_rows(table: pq.ParquetFile, group: int, column: str) -> Iterator[int]:
    """How many pictures each row of a group holds; only lists have to be read for that."""
    if not _is_list(table.schema_arrow.field(column).type):
        yield from (1 for _ in range(table.metadata.row_group(group).num_rows))
        return
    for part in table.iter_batches(batch_size=ROWS_AT_ONCE, row_groups=[group], columns=[column]):
        yield from (length or 0 for length in pc.list_value_length(part.column(0)).to_pylist())


def _is_list(kind: pa.DataType) -> bool:
    t = pa.types
    views = t.is_list_view(kind) or t.is_large_list_view(kind)
    return views or t.is_list(kind) or t.is_large_list(kind) or t.is_fixed_size_list(kind)


def _is_bytes(kind: pa.DataType) -> bool:
    t = pa.types
    return t.is_binary(kind) or t.is_large_binary(kind) or t.is_binary_view(kind)


def picture_column(table: pq.ParquetFile, name: str) -> str:
    """The column with pictures: encoded bytes, or a struct with a field `bytes`, or a list of one of these.

    Of several columns of bytes the first one counts whose first cell begins like a picture or a PDF, since
    bytes may be keys or hashes as well.

    Raises:
        PictureError: there is none, or it holds paths alone.
    """
    fitting = [field.name for field in table.schema_arrow if _may_hold_pictures(field.type)]
    if not fitting:
        raise PictureError(
            f"{name} has no column with pictures, which are bytes or a struct with bytes: its columns are "
            f"{', '.join(table.schema_arrow.names)}."
        )
    if len(fitting) == 1:
        return fitting[0]
    return next((one for one in fitting if _begins_with_picture(table, one)), fitting[0])


def _may_hold_pictures(kind: pa.DataType) -> bool:
    kind = kind.value_type if _is_list(kind) else kind
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return (pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0) or _is_bytes(kind)


def _begins_with_picture(table: pq.ParquetFile, column: str) -> bool:
    """Whether the first cell of a column that is not empty begins like a picture or a PDF."""
    for part in table.iter_batches(batch_size=ROWS_AT_ONCE, columns=[column]):
        for value in part.column(0).to_pylist():
            if content := _encoded(value, 0):
                return begins_readable(content)
    return False


def _encoded(value: Any, item: int) -> bytes | None:
    """Picture number `item` of a cell, as its file holds it."""
    if isinstance(value, list):
        value = value[item] if len(value) > item else None
    return value.get("bytes") if isinstance(value, dict) else value


def _cell(where: Where) -> bytes:
    """The encoded picture of a row."""
    file: Where = {key: where[key] for key in ("path", "uri", "inside") if key in where}
    value = _rows(place_of(file), where["group"], where["column"]).get(where["row"])
    content = _encoded(value, where["item"])
    if not content:
        raise PictureError(f"{name_of(where)} holds no picture in row {where['row']}.", kind="empty")
    return content


class _Rows:
    """The cells of a column in one row group, read along: rows are asked for nearly in order."""

    def __init__(self, file: str, group: int, column: str) -> None:
        self.key = (file, group, column)
        self._begin()

    def _begin(self) -> None:
        file, group, column = self.key
        table = pq.ParquetFile(open_stream(json.loads(file)))
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
def _rows(file: str, group: int, column: str) -> _Rows:
    return _Rows(file, group, column)


# ---------------------------------------------------------------------------------------------------
# Lists


def unique_stems(found: Iterable[Found], taken: set[str], numbered: bool = False) -> Iterator[Found]:
    """Documents with names that files and the ledger can have: in UTF-8, short enough, different by a number.

    With `numbered`, pages have files of their own: then scan-0002 is called otherwise beside scan, of which
    page 2 is called so.
    """
    last = dict[str, int]()  # the number that a stem was given last: a million files may be called page.png
    wholes = {PAGE_NUMBER.sub("", stem) for stem in taken if PAGE_NUMBER.search(stem)} if numbered else set()
    for one in found:
        stem = whole = _shortened(_in_utf8(one.stem).replace("\0", "_"))
        while stem in taken or (numbered and (stem in wholes or PAGE_NUMBER.sub("", stem) in taken)):
            last[whole] = last.get(whole, 1) + 1
            stem = f"{whole}-{last[whole]}"
        taken.add(stem)
        if numbered and PAGE_NUMBER.search(stem):
            wholes.add(PAGE_NUMBER.sub("", stem))
        error = None if one.error is None else _in_utf8(one.error)
        yield one._replace(name=_in_utf8(one.name), stem=stem, error=error)


def _in_utf8(text: str) -> str:
    """A name, or a sentence with one; in an old archive it may be in any encoding."""
    return os.fsencode(text).decode("utf-8", "replace")


def _shortened(stem: str) -> str:
    """A stem whose parts are short enough that, with the suffixes of files, a file system takes them."""
    if len(stem) < LONGEST_NAME // 4:  # characters have at most four bytes
        return stem
    parts = (os.fsencode(part)[:LONGEST_NAME].decode("utf-8", "ignore") for part in stem.split("/"))
    return "/".join(parts)
