"""Parquet files row by row: only footers and a few row groups are ever in memory.

A data set of many shards is one long sequence of rows. What is cheap to read together is a row group (some
100 pictures), so readers should go through `bounds` group by group and shuffle within.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from nanoocr.data.rows import BadRowError
from nanoocr.errors import UsageError

HELD_BYTES = 2**28  # of row groups that a process keeps: readers that take turns stand in different ones


@dataclass(frozen=True)
class Shard:
    """One Parquet file as its footer describes it."""

    name: str  # what `Shards.path_of` turns into a path, and errors call the file
    group_rows: tuple[int, ...]  # rows of each row group
    size: int  # bytes of the file


class Shards:
    """The rows of all shards by number, as dictionaries of the chosen columns."""

    def __init__(
        self,
        shards: Sequence[Shard],
        path_of: Callable[[str], Path] = Path,
        columns: Sequence[str] | None = None,
        *,
        fetched: bool = False,
    ) -> None:
        """`path_of` gives the local file of a shard's name; `fetched`: not all of them can stay here."""
        self.shards = shards
        self.path_of = path_of
        self.columns = None if columns is None else list(columns)
        self.groups = [(shard.name, i) for shard in shards for i in range(len(shard.group_rows))]
        rows = [count for shard in shards for count in shard.group_rows]
        self.bounds = [0, *accumulate(rows)]  # rows bounds[g] .. bounds[g + 1] - 1 are row group g
        of_file = [sum(shard.group_rows) for shard in shards] if fetched else [sum(rows)]
        self.files = [0, *accumulate(of_file)]  # where the next file has to be fetched
        self._held: dict[int, pa.Table] = {}  # the row groups that were used last, oldest first

    def __len__(self) -> int:
        return self.bounds[-1]

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Row `index` as {column: value}.

        Raises:
            BadRowError: its row group cannot be read; names the file.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        group = bisect_right(self.bounds, index) - 1
        table = self._held.pop(group) if group in self._held else self._read(group)
        self._held[group] = table
        while len(self._held) > 1 and sum(held.nbytes for held in self._held.values()) > HELD_BYTES:
            del self._held[next(iter(self._held))]
        return table.slice(index - self.bounds[group], 1).to_pylist()[0]

    def name_of(self, index: int) -> str:
        """`FILE: row 7`, counted within the file: what errors call the row."""
        group = bisect_right(self.bounds, index) - 1
        name, within = self.groups[group]
        return f"{name}: row {index - self.bounds[group - within]}"

    def _read(self, group: int) -> pa.Table:
        name, within = self.groups[group]
        try:
            with pq.ParquetFile(self.path_of(name)) as file:
                return file.read_row_group(within, columns=self.columns)
        except (pa.ArrowException, OSError) as error:
            raise BadRowError(f"{name}: row group {within} cannot be read ({error})") from error


def local_shards(paths: Iterable[str | Path], columns: Sequence[str] | None = None) -> Shards:
    """Parquet files on disk; a folder stands for all .parquet files in it, in the order of their names.

    Raises:
        UsageError: nothing there, a file that is no Parquet, or one without a column of `columns`.
    """
    files: list[Path] = []
    for path in map(Path, paths):
        found = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
        if not found:
            raise UsageError(f"{path}: holds no .parquet files")
        files += found
    return Shards([read_footer(path, columns or ()) for path in files], columns=columns)


def read_footer(path: Path, columns: Sequence[str] = ()) -> Shard:
    """What the footer of a local Parquet file says.

    Raises:
        UsageError: missing, no Parquet, or without one of `columns`.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such data file")
    try:
        with pq.ParquetFile(path) as file:
            names, about = file.schema_arrow.names, file.metadata
            rows = tuple(about.row_group(i).num_rows for i in range(about.num_row_groups))
    except (pa.ArrowException, OSError) as error:
        raise UsageError(f"{path}: not a readable Parquet file ({error})") from error
    if missing := [name for name in columns if name not in names]:
        raise UsageError(f"{path}: has no column {missing[0]!r}, only {', '.join(names)}")
    return Shard(str(path), rows, path.stat().st_size)
