"""A folder of fetched files with a size limit. The files used longest ago are dropped first.

Data sets share the folder, each with a budget of its own. When the disk is full, files of any set may go.
Many processes may share it too. One of them fetches or drops at a time, while readers of present files never
wait. A file that is dropped while somebody reads it stays readable to that reader.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nanoocr.errors import UsageError

GIGABYTE = 1_000_000_000
RESERVE = GIGABYTE  # this much of the disk stays free for checkpoints and logs


@dataclass(frozen=True)
class ShardCache:
    """Keeps at most `max_bytes` of Parquet files of one data set, in its `folder` below the common `root`."""

    root: Path
    max_bytes: int
    folder: str = ""

    def get(self, name: str, size: int, download: Callable[[Path], Path]) -> Path:
        """The file `name`, of `size` bytes. If it is missing, `download(folder)` puts it into a folder.

        Raises:
            UsageError: the file does not fit into the budget or onto the disk, or arrived cut short.
        """
        target = self.root / self.folder / name
        if _touch(target):
            return target
        with locked(self.root):
            if _touch(target):  # another process fetched it meanwhile
                return target
            aside = self.root / ".fetching"
            shutil.rmtree(aside, ignore_errors=True)  # A process that was killed may have left it.
            try:
                self._make_room(name, size)
                aside.mkdir()
                fetched = download(aside)
                if fetched.stat().st_size != size:
                    raise UsageError(f"{name}: {fetched.stat().st_size:,} bytes arrived of {size:,}")
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(fetched, target)
            except OSError as error:
                raise UsageError(f"{target}: cannot be written ({error.strerror or error})") from error
            finally:
                shutil.rmtree(aside, ignore_errors=True)
        return target

    def _make_room(self, name: str, size: int) -> None:
        """Drop the files used longest ago until `size` more bytes fit into the budget and onto the disk."""
        if size > self.max_bytes:
            needed, budget = size / GIGABYTE, self.max_bytes / GIGABYTE
            raise UsageError(f"{name} has {needed:.2f} GB and the budget is {budget:.2f}: raise max_gb")
        held = held_files(self.root)
        if self._free() + sum(held.values()) < size + RESERVE:
            raise UsageError(
                f"{self.root}: {self._free() / GIGABYTE:.1f} GB are free, and {name} needs "
                f"{(size + RESERVE) / GIGABYTE:.1f} with the reserve: make room or name another cache folder"
            )
        own = held_files(self.root / self.folder)
        while sum(own.values()) + size > self.max_bytes:
            oldest = next(iter(own))
            oldest.unlink()
            del own[oldest], held[oldest]
        while held and self._free() < size + RESERVE:
            oldest = next(iter(held))
            oldest.unlink()
            del held[oldest]

    def _free(self) -> int:
        return shutil.disk_usage(self.root).free


def held_files(folder: Path) -> dict[Path, int]:
    """The bytes of every Parquet file below a folder, in order of last use."""
    held = [(path.stat(), path) for path in folder.rglob("*.parquet")]
    held.sort(key=lambda pair: pair[0].st_mtime_ns)
    return {path: about.st_size for about, path in held}


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Let only one process at a time change `root`.

    Raises:
        UsageError: the folder cannot be made or written.
    """
    import fcntl  # Windows has no fcntl. All that needs no hub still works there.

    try:
        root.mkdir(parents=True, exist_ok=True)
        file = open(root / ".lock", "w")  # noqa: SIM115 (closed below; opening must fail in words)
    except OSError as error:
        raise UsageError(
            f"{root}: cannot be written ({error.strerror}): name another cache folder"
        ) from error
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _touch(path: Path) -> bool:
    """Whether the file exists; if so, mark it as used just now."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    return True
