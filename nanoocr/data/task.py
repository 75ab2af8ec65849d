"""A `Task` is a data set seen as a sequence of rows, as in nanochat: len(task), task[i], and slices by flag.

A subclass answers two questions: how many rows there are, and what row i is. Everything that streams, mixes,
packs or shows data builds on these two.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from nanoocr.data.rows import NOT_UTF8, BadRowError, Row, row_from_record
from nanoocr.data.shards import Shards
from nanoocr.errors import UsageError

UNIT = 2**16  # rows of a unit where no rows are cheaper to read together; a unit is permuted as a whole


class Task:
    """Base class. `start`, `stop` and `step` select rows as a slice does."""

    missing: Sequence[str] = ()  # files that were left out when the set was opened, one phrase each

    def __init__(self, start: int = 0, stop: int | None = None, step: int = 1) -> None:
        if start < 0 or (stop is not None and stop < start) or step < 1:
            raise UsageError(
                f"start={start}, stop={stop}, step={step}: want 0 <= start <= stop and step >= 1"
            )
        self.start, self.stop, self.step = start, stop, step

    def num_rows(self) -> int:
        """How many rows the whole set has, before start, stop and step."""
        raise NotImplementedError

    def read(self, index: int) -> Row:
        """Read row `index` of the whole set. Pictures may stay encoded.

        Raises:
            BadRowError: the row cannot be used; the error says which row and why.
        """
        raise NotImplementedError

    def bounds(self) -> Sequence[int]:
        """Bounds of the units, whose rows are cheap to read together. By default they have UNIT rows."""
        return [*range(0, self.num_rows(), UNIT), self.num_rows()]

    def files(self) -> Sequence[int]:
        """Bounds of files that are fetched as a whole and may not all stay. By default there are none."""
        return [0, self.num_rows()]

    def marks(self) -> Iterable[object]:
        """Names, sizes and counts that tell this data from other data without reading a row."""
        return [self.num_rows()]

    def fingerprint(self) -> str:
        """A digest of the `marks` and the slice: it stays the same while row i is the same row."""
        return digest([*self.marks(), self.indices])

    @property
    def indices(self) -> range:
        """The indices of the whole set that the slice selects."""
        return range(self.num_rows())[self.start : self.stop : self.step]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, i: int) -> Row:
        return self.read(self.indices[i])

    def __iter__(self) -> Iterator[Row]:
        return (self[i] for i in range(len(self)))

    def units(self) -> list[range]:
        """The positions i (of `self[i]`) of every unit in turn, without units that the slice empties."""
        indices, bounds = self.indices, self.bounds()
        cuts = [max(0, -(-(bound - indices.start) // indices.step)) for bound in bounds]
        pieces = [range(min(a, len(indices)), min(b, len(indices))) for a, b in pairwise(cuts)]
        return [piece for piece in pieces if piece]


class ParquetTask(Task):
    """Shards that already follow FineVision's schema: every row with all its pictures and turns."""

    def __init__(self, shards: Shards, start: int = 0, stop: int | None = None, step: int = 1) -> None:
        super().__init__(start, stop, step)
        self.shards = shards

    def __getitem__(self, i: int) -> Row:
        """As `read`; a record of an unforeseen shape becomes a BadRowError as well."""
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
        """How many rows all shards have together."""
        return len(self.shards)

    def bounds(self) -> Sequence[int]:
        """Units are the row groups."""
        return self.shards.bounds

    def files(self) -> Sequence[int]:
        """Files are the shards, where they come from a hub."""
        return self.shards.files

    def marks(self) -> Iterable[object]:
        """The listing and the footers, and `files`, because the order of an epoch depends on them."""
        about = [(Path(shard.name).name, shard.size, shard.group_rows) for shard in self.shards.shards]
        return [about, self.files()]

    def read(self, index: int) -> Row:
        """Turn the record into a row."""
        return row_from_record(self.shards[index], self.shards.name_of(index), self.shards.folder_of(index))


def digest(marks: Sequence[object]) -> str:
    """16 hexadecimal digits of a digest of the printed marks."""
    return hashlib.sha256(repr(marks).encode()).hexdigest()[:16]
