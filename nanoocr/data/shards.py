"""Reads Parquet files row by row, with only footers and a few row groups in memory.

A data set of many shards is one long sequence of rows. Rows of one row group (some 100 pictures), or of one
piece of a large row group, are cheap to read together. So callers should go through `bounds` piece by piece,
and shuffle within a piece.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from nanoocr.data.columns import record_maker
from nanoocr.data.rows import BadRowError
from nanoocr.errors import UsageError
from nanoocr.folders import files_below

# Pieces that a process keeps may take this much memory; row streams stand in different ones.
HELD_BYTES = 2**28
# Larger row groups are read in pieces: a writer that sets no size puts 100,000 rows into one.
PIECE_BYTES = 2**27
# A page's header is shorter than this; in it, this type of field is a structure.
PAGE_HEADER, STRUCTURE = 64, 12


@dataclass(frozen=True)
class Shard:
    """One Parquet file, as its footer describes it."""

    name: str  # `Shards.path_of` turns it into a path; errors use it too
    group_rows: tuple[int, ...]  # the rows of each row group
    size: int  # bytes of the file
    group_bytes: tuple[int, ...] = ()  # decoded bytes of each row group; () where nobody noted them

    def pieces(self) -> Iterator[Piece]:
        """Yield the row groups; one of more than PIECE_BYTES comes in several pieces."""
        before = 0
        sizes = self.group_bytes or (0,) * len(self.group_rows)
        for group, (rows, size) in enumerate(zip(self.group_rows, sizes)):
            step = max(1, rows if size <= PIECE_BYTES else rows * PIECE_BYTES // size)
            # An empty group stays a piece without rows, so that numbers keep matching.
            for start in range(0, max(rows, 1), step):
                yield Piece(self.name, group, before + start, min(step, rows - start), start // step, step)
            before += rows


class Piece(NamedTuple):
    """Rows that are read together: a row group, or part of a large one."""

    file: str
    group: int  # the row group's number within its file
    first: int  # the first row, counted within the file
    rows: int
    number: int  # the piece's number within its group
    step: int  # how many rows a whole piece of this group has


class Shards:
    """The rows of all shards by number, as dictionaries of the requested columns."""

    def __init__(
        self,
        shards: Sequence[Shard],
        path_of: Callable[[str], Path] = Path,
        columns: Sequence[str] | None = None,
        *,
        fetched: bool = False,
    ) -> None:
        """`path_of` gives the local file of a shard's name. `fetched`: not all files can stay here."""
        self.shards = shards
        self.path_of = path_of
        self.columns = None if columns is None else list(columns)
        self.pieces = [piece for shard in shards for piece in shard.pieces()]
        rows = [piece.rows for piece in self.pieces]
        self.bounds = [0, *accumulate(rows)]  # rows bounds[i] .. bounds[i + 1] - 1 are piece i
        of_file = [sum(shard.group_rows) for shard in shards] if fetched else [sum(rows)]
        # the rows at which the next file begins, which may have to be fetched
        self.files = [0, *accumulate(of_file)]
        self._held: dict[int, pa.Table] = {}  # the pieces used last, oldest first
        self._failed: dict[int, str] = {}  # why a piece cannot be read; it is not tried again

    def __len__(self) -> int:
        return self.bounds[-1]

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Row `index` as {column: value}.

        Raises:
            BadRowError: its row group cannot be read; the error names the file.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        number = bisect_right(self.bounds, index) - 1
        table = self._held.pop(number) if number in self._held else self._read(number)
        self._held[number] = table
        while len(self._held) > 1 and sum(held.nbytes for held in self._held.values()) > HELD_BYTES:
            del self._held[next(iter(self._held))]
        (record,) = table.slice(index - self.bounds[number], 1).to_pylist()
        return record_maker(table.schema)(record)

    def name_of(self, index: int) -> str:
        """How errors call the row: `FILE: row 7`, counted within the file."""
        number = bisect_right(self.bounds, index) - 1
        piece = self.pieces[number]
        return f"{piece.file}: row {piece.first + index - self.bounds[number]}"

    def folder_of(self, index: int) -> Path:
        """The folder of the file that holds a row. Paths of pictures in the row are relative to it."""
        return self.path_of(self.pieces[bisect_right(self.bounds, index) - 1].file).parent

    def _read(self, number: int) -> pa.Table:
        piece = self.pieces[number]
        if number in self._failed:
            raise BadRowError(self._failed[number])
        try:
            with pq.ParquetFile(self.path_of(piece.file)) as file:
                # `read_row_group` cannot assemble nested columns of more than 2 GiB (pyarrow 25).
                batches = file.iter_batches(piece.step, row_groups=[piece.group], columns=self.columns)
                taken = list(islice(batches, piece.number, piece.number + 1))
                return pa.Table.from_batches(taken, None if taken else file.schema_arrow)
        except (pa.ArrowException, OSError) as error:
            reason = f"{piece.file}: row group {piece.group} cannot be read ({error})"
            self._failed[number] = reason
            raise BadRowError(reason) from error


def local_shards(paths: Iterable[str | Path], columns: Sequence[str] | None = None) -> Shards:
    """Open Parquet files on disk. A folder stands for its .parquet files in natural order (2 before 10).

    Raises:
        UsageError: nothing is there, or a file is no Parquet or lacks a column of `columns`.
    """
    files: list[Path] = []
    for path in map(Path, paths):
        found = [path]
        if path.is_dir():
            found = [one for one in files_below(path)[0] if one.suffix.lower() == ".parquet"]
        if not found:
            raise UsageError(f"{path}: holds no .parquet files")
        files += found
    return Shards([read_footer(path, columns or ()) for path in files], columns=columns)


def read_footer(path: Path, columns: Sequence[str] = ()) -> Shard:
    """Read the footer of a local Parquet file.

    Raises:
        UsageError: the file is missing, is no Parquet, or lacks one of `columns`.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such data file")
    try:
        with path.open("rb") as source, pq.ParquetFile(source) as file:
            names = file.schema_arrow.names
            rows, sizes = group_sizes(file, source)
    except (pa.ArrowException, OSError) as error:
        raise UsageError(f"{path}: not a readable Parquet file ({error})") from error
    if missing := [name for name in columns if name not in names]:
        raise UsageError(f"{path}: has no column {missing[0]!r}, only {', '.join(names)}")
    return Shard(str(path), tuple(rows), path.stat().st_size, tuple(sizes))


def group_sizes(file: pq.ParquetFile, source: BinaryIO) -> tuple[list[int], list[int]]:
    """(rows, decoded bytes) of each row group; `source` is the open file itself.

    A footer counts a value that many rows share once, as it is stored.
    """
    groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
    sizes = []
    for group in groups:
        columns = [group.column(i) for i in range(group.num_columns)]
        sizes.append(group.total_byte_size + sum(_shared_bytes(column, source) for column in columns))
    return [group.num_rows for group in groups], sizes


def _shared_bytes(column: pq.ColumnChunkMetaData, source: BinaryIO) -> int:
    """By how much a column grows when each row gets its own copy of a value in the dictionary."""
    stored, values = column.total_uncompressed_size, column.num_values
    is_text = column.physical_type == "BYTE_ARRAY"
    # Whatever the dictionary holds, no value is larger than the column.
    if not is_text or not column.has_dictionary_page or values * stored <= PIECE_BYTES:
        return 0
    source.seek(column.dictionary_page_offset)
    size, distinct = _dictionary_of(source.read(PAGE_HEADER))
    return max(0, values * size // distinct - stored) if distinct else 0


def _dictionary_of(header: bytes) -> tuple[int, int]:
    """(bytes, values) of a dictionary page, from its header in Thrift's compact protocol; (0, 0) if damaged.

    Its fields are numbers until the structure about the dictionary, which begins with how many values it has.
    """
    place = iter(header)
    numbers: list[int] = []
    try:
        while next(place) & 15 != STRUCTURE:
            numbers.append(_number(place))
        next(place)
        return numbers[1], _number(place)
    except (StopIteration, IndexError):
        return 0, 0


def _number(place: Iterator[int]) -> int:
    """The next number: 7 bits a byte, the lowest first, and its sign in the lowest bit of all."""
    value = shift = 0
    while (byte := next(place)) >= 128:
        value, shift = value | (byte & 127) << shift, shift + 7
    value |= byte << shift
    return value >> 1 ^ -(value & 1)
