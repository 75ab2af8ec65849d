"""A task is a data set as a sequence of rows, nanochat's pattern: len(task), task[i], and slices by flag.

A subclass answers two questions, how many rows there are and what row i is. Everything that streams, mixes,
packs or shows data needs no more than that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from nanoocr.data.rows import NOT_UTF8, BadRowError, Row, row_from_record
from nanoocr.data.shards import Shards
from nanoocr.errors import UsageError

UNIT = 2**16  # rows of a unit where nothing is cheaper to read together: what is permuted in one piece


class Task:
    """Base class. `start`, `stop` and `step` choose rows as a slice does."""

    missing: Sequence[str] = ()  # what was left out when the set was opened, a phrase for each file

    def __init__(self, start: int = 0, stop: int | None = None, step: int = 1) -> None:
        if start < 0 or (stop is not None and stop < start) or step < 1:
            raise UsageError(
                f"start={start}, stop={stop}, step={step}: want 0 <= start <= stop and step >= 1"
            )
        self.start, self.stop, self.step = start, stop, step

    def num_rows(self) -> int:
        """Rows of the whole set, before start, stop and step."""
        raise NotImplementedError

    def read(self, index: int) -> Row:
        """Row `index` of the whole set; pictures may stay encoded.

        Raises:
            BadRowError: the row cannot be used; says which and why.
        """
        raise NotImplementedError

    def bounds(self) -> Sequence[int]:
        """Where units of rows begin that are cheap to read together, and the end. Here: many rows each."""
        return [*range(0, self.num_rows(), UNIT), self.num_rows()]

    def files(self) -> Sequence[int]:
        """Where files begin that are fetched as a whole and may not all stay, and the end. Here: none are."""
        return [0, self.num_rows()]

    def marks(self) -> Iterable[object]:
        """What tells the data from others without reading a row: names, sizes, counts."""
        return [self.num_rows()]

    def fingerprint(self) -> str:
        """Stays while row i is the same row, wherever the files lie: of the `marks` and the slice."""
        return digest([*self.marks(), self.indices])

    @property
    def indices(self) -> range:
        """The indices of the whole set that the slice leaves."""
        return range(self.num_rows())[self.start : self.stop : self.step]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, i: int) -> Row:
        return self.read(self.indices[i])

    def __iter__(self) -> Iterator[Row]:
        return (self[i] for i in range(len(self)))

    def units(self) -> list[range]:
        """Positions i (of `self[i]`) of every unit in turn, without units that the slice leaves empty."""
        indices, bounds = self.indices, self.bounds()
        cuts = [max(0, -(-(bound - indices.start) // indices.step)) for bound in bounds]
        pieces = [range(min(a, len(indices)), min(b, len(indices))) for a, b in pairwise(cuts)]
        return [piece for piece in pieces if piece]


class ParquetTask(Task):
    """Shards in FineVision's schema as they are: every row with all its pictures and turns."""

    def __init__(self, shards: Shards, start: int = 0, stop: int | None = None, step: int = 1) -> None:
        super().__init__(start, stop, step)
        self.shards = shards

    def __getitem__(self, i: int) -> Row:
        """As `read`, where a record of a shape that it did not foresee is a bad row as well."""
        index = self.indices[i]
        try:
            return self.read(index)
        except BadRowError:
            raise
        except UnicodeDecodeError as error:
            raise BadRowError(f"{self.shards.name_of(index)}: {NOT_UTF8}") from error
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            name = self.shards.name_of(index)
            raise BadRowError(f"{name}: is not of the data set's schema ({error!r})") from error

    def num_rows(self) -> int:
        """Rows of all shards."""
        return len(self.shards)

    def bounds(self) -> Sequence[int]:
        """Row groups."""
        return self.shards.bounds

    def files(self) -> Sequence[int]:
        """Shards, where they come from a hub."""
        return self.shards.files

    def marks(self) -> Iterable[object]:
        """What the listing and the footers say, and `files`, which the order of an epoch depends on."""
        about = [(Path(shard.name).name, shard.size, shard.group_rows) for shard in self.shards.shards]
        return [about, self.files()]

    def read(self, index: int) -> Row:
        """The record as a row."""
        return row_from_record(self.shards[index], self.shards.name_of(index), self.shards.folder_of(index))


def digest(marks: Sequence[object]) -> str:
    """16 hexadecimal digits of what the marks print as."""
    return hashlib.sha256(repr(marks).encode()).hexdigest()[:16]
