"""Parquet shards of a data set, read from a folder or fetched from the hub one by one.

A `HubSet` names files of a repository. Their footers are read by byte ranges and kept in an index, so the
rows of the resulting `Shards` can be counted before any shard is there. A shard is fetched when one of its
rows is first asked for.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol

import pyarrow.parquet as pq

from nanoocr.data.shard_cache import GIGABYTE, ShardCache, locked
from nanoocr.data.shards import Shard, Shards, group_sizes, local_shards
from nanoocr.errors import UsageError
from nanoocr.files import write_file
from nanoocr.folders import files_below
from nanoocr.progress import track

WAITS = (2.0, 10.0, 60.0)  # seconds before a download is tried again
# the split names that file names commonly carry
SPLITS = ("train", "test", "validation", "val", "dev", "eval")
OF_SPLIT = re.compile(r"-\d{5}-of-\d{5}")  # this follows a split's name


@dataclass(frozen=True)
class HubSet:
    """The files of a hub data set, named like SUBSET/SPLIT-00000-of-00004.parquet."""

    repo: str  # OWNER/NAME
    subset: str = ""  # a folder of the repository; empty means all of it
    split: str = "train"  # empty means every split
    revision: str = "main"  # a branch, a tag or a commit
    max_shards: int = 0  # take only this many shards, from the first on; 0 means all

    def __post_init__(self) -> None:
        """Refuse a name that cannot be one."""
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", self.repo) or self.max_shards < 0:
            raise UsageError(f"repo={self.repo}, shards={self.max_shards}: want OWNER/NAME and 0 or more")


@dataclass(frozen=True)
class ShardSource:
    """Where the shards of a data set are: below `path` on disk, or on the hub where no path is given."""

    files: HubSet
    path: str = ""
    cache: str = "~/.cache/nanoocr"  # the folder that keeps fetched shards
    max_gb: float = 50.0  # fetched shards of this subset may take this much space

    def open(self, *choices: Sequence[str]) -> Shards:
        """Open the shards with the first list of columns among `choices` that all of them have.

        Raises:
            UsageError: there is no such data, or no choice fits; the error says what the last choice lacks.
        """
        for columns in choices[:-1]:
            try:
                return self._open(columns)
            except UsageError:
                continue
        return self._open(choices[-1])

    def _open(self, columns: Sequence[str]) -> Shards:
        if self.path:
            return mirror_shards(Path(self.path), self.files, columns)
        return hub_shards(self.files, Path(self.cache).expanduser(), int(self.max_gb * GIGABYTE), columns)


# ---------------------------------------------------------------------------------------------------------
# Which files belong to a subset and a split


def select_files(paths: Iterable[str], which: HubSet, title: str) -> list[str]:
    """The sorted Parquet files of a subset and a split; errors call the place `title`.

    A subset is a folder. A split is a folder too, or stands in a file name: train-00000-of-00004,
    train-s2pdf, 00_documents_train. Files whose names carry no split belong to every split.

    Raises:
        UsageError: there is no Parquet file, or no such subset or split.
    """
    shards = sorted(path for path in paths if path.endswith(".parquet"))
    if not shards:
        raise UsageError(f"{title}: holds no .parquet files")
    found = [path for path in shards if not which.subset or f"/{which.subset}/" in f"/{path}"]
    if not found:
        raise UsageError(f"{title}: no subset {which.subset!r}; {_known_subsets(shards, which.subset)}")
    of_split = [path for path in found if not which.split or is_of_split(path, which.split)]
    if not of_split:
        if any(OF_SPLIT.search(path) or any(is_of_split(path, split) for split in SPLITS) for path in found):
            names = ", ".join(path.rpartition("/")[2] for path in found[:3])
            raise UsageError(f"{title}: no split {which.split!r} among {len(found)} files such as {names}")
        of_split = found
    return of_split[: which.max_shards or None]


def is_of_split(path: str, split: str) -> bool:
    """Whether the name of a file, or of a folder above it, says that it belongs to the split."""
    *folders, name = path.removesuffix(".parquet").split("/")
    return name == split or name.startswith(f"{split}-") or name.endswith(f"_{split}") or split in folders


def _known_subsets(shards: Sequence[str], wanted: str) -> str:
    known = sorted({path.rpartition("/")[0] for path in shards} - {""})
    close = get_close_matches(wanted, known, n=3)
    return f"did you mean {' or '.join(close)}?" if close else f"known are {', '.join(known) or 'none'}"


def mirror_shards(root: Path, which: HubSet, columns: Sequence[str] | None = None) -> Shards:
    """Open shards on disk: a Parquet file, or a folder laid out like the repository or like the subset alone.

    Raises:
        UsageError: as in `select_files`; also where a file is damaged or lacks a column of `columns`.
    """
    if not root.exists():
        raise UsageError(f"{root}: no such file or folder")
    if root.is_file():
        return local_shards([root], columns)
    shards = [path for path in files_below(root)[0] if path.suffix == ".parquet"]
    files = {path.relative_to(root).as_posix(): path for path in shards}
    is_subset = root.resolve().name == which.subset or all("/" not in name for name in files)
    if is_subset and not any(name.startswith(f"{which.subset}/") for name in files):
        files = {f"{which.subset}/{name}": path for name, path in files.items()}
    return local_shards([files[name] for name in select_files(files, which, str(root))], columns)


# ---------------------------------------------------------------------------------------------------------
# the hub


class Listing(NamedTuple):
    """The files of a repository at one commit."""

    commit: str
    sizes: dict[str, int]  # maps each path in the repository to its bytes


class Hub(Protocol):
    """The calls that fetching makes. Tests put a folder behind them instead of a network."""

    def list_files(self, repo: str, revision: str) -> Listing:
        """List every file at a revision."""

    def open(self, repo: str, commit: str, path: str) -> BinaryIO:
        """A seekable file that reads only the parts it is asked for."""

    def download(self, repo: str, commit: str, path: str, folder: Path) -> Path:
        """Fetch one file into `folder`."""


class HuggingFace:
    """The real hub, through huggingface_hub (extra `hub`)."""

    def __init__(self) -> None:
        try:
            import huggingface_hub
        except ImportError as error:
            raise UsageError(
                "data sets of the hub need the extra: pip install 'nano-deepseek-ocr[hub]'; "
                "files on disk are named with path=FOLDER"
            ) from error
        self.library = huggingface_hub

    def list_files(self, repo: str, revision: str) -> Listing:
        """Make one request for the commit, and one for every thousand files."""
        api = self.library.HfApi()
        commit = str(api.dataset_info(repo, revision=revision).sha)
        tree = api.list_repo_tree(repo, recursive=True, revision=commit, repo_type="dataset")
        return Listing(commit, {entry.path: entry.size for entry in tree if hasattr(entry, "size")})

    def open(self, repo: str, commit: str, path: str) -> BinaryIO:
        """Open a file that reads a megabyte at a time, since most footers are smaller than that."""
        name = f"datasets/{repo}@{commit}/{path}"
        file: BinaryIO = self.library.HfFileSystem().open(name, "rb", block_size=2**20)
        return file

    def download(self, repo: str, commit: str, path: str, folder: Path) -> Path:
        """Download past the library's own cache, because that cache has no size limit."""
        return Path(
            self.library.hf_hub_download(
                repo, path, repo_type="dataset", revision=commit, local_dir=str(folder)
            )
        )


def hub_shards(
    which: HubSet,
    folder: Path,
    max_bytes: int,
    columns: Sequence[str] | None = None,
    hub: Hub | None = None,
) -> Shards:
    """Open the shards of a hub data set; each is fetched into `folder`/hub when its rows are asked for.

    The list of files and the footers are kept there, so a set that was opened once opens without a network.
    Ranks and workers may share the folder. The budget counts the shards of this subset only. Other subsets
    lose shards only when the disk is full, and nothing else in `folder` is touched. An epoch reads
    `source.WINDOW` shards at a time: with room for twice as many, each shard is fetched once per epoch.

    Raises:
        UsageError: no such data set, subset, split or column exists, or the hub cannot be reached.
    """
    hub = HuggingFace() if hub is None else hub
    folder = folder / "hub"
    place = folder / which.repo.replace("/", "--")
    with locked(folder):
        listing = _listing(hub, which, place)
        names = select_files(listing.sizes, which, which.repo)
        footers = _footers(hub, which, listing.commit, names, place / f"{listing.commit}.json")
    for name in names:
        if missing := [column for column in columns or () if column not in footers[name]["columns"]]:
            known = ", ".join(footers[name]["columns"])
            raise UsageError(f"{which.repo}/{name}: has no column {missing[0]!r}, only {known}")
    cache = ShardCache(folder, max_bytes, f"{place.name}/{which.subset.replace('/', '--') or 'all'}")
    path_of = partial(_fetch, hub=hub, which=which, listing=listing, cache=cache)
    # An index that an older version wrote has no bytes.
    about = [(name, footers[name]) for name in names]
    shards = [
        Shard(name, tuple(of["rows"]), listing.sizes[name], tuple(of.get("bytes", ()))) for name, of in about
    ]
    return Shards(shards, path_of, columns, fetched=True)


def _listing(hub: Hub, which: HubSet, place: Path) -> Listing:
    """What the repository holds now, or what it held when it was last reached."""
    kept = place / f"{which.revision.replace('/', '--')}.json"
    try:
        listing = hub.list_files(which.repo, which.revision)
    except Exception as error:  # The hub's errors and those of its HTTP library share no base class.
        if kept.is_file():
            return Listing(*json.loads(kept.read_text(encoding="utf-8")))
        raise _unreachable(which, error) from error
    write_file(kept, json.dumps(listing).encode())
    return listing


def _footers(
    hub: Hub, which: HubSet, commit: str, names: Sequence[str], kept: Path
) -> dict[str, dict[str, Any]]:
    """Map each file to {"rows" and "bytes" of each row group, "columns"}, from the index `kept` or afresh."""
    index: dict[str, dict[str, Any]] = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
    missing = [name for name in names if name not in index]
    try:
        for name in track(missing, len(missing), f"footers of {which.repo}"):
            with hub.open(which.repo, commit, name) as source, pq.ParquetFile(source) as file:
                rows, sizes = group_sizes(file, source)
                index[name] = {"rows": rows, "bytes": sizes, "columns": file.schema_arrow.names}
    except Exception as error:  # see `_listing`
        raise _unreachable(which, error) from error
    finally:
        if missing:  # Keep what was read, even if the network failed in between.
            write_file(kept, json.dumps(index).encode())
    return index


def _fetch(name: str, *, hub: Hub, which: HubSet, listing: Listing, cache: ShardCache) -> Path:
    """The local file of a shard. A missing one is fetched, with a few tries, as networks fail at times."""
    title = f"{which.repo}/{name}"

    def download(folder: Path) -> Path:
        """Fetch the shard into `folder`, and try again after each of WAITS."""
        print(f"{title}: fetching {listing.sizes[name] / GIGABYTE:.2f} GB", file=sys.stderr)
        waits = iter(WAITS)
        while True:
            try:
                return hub.download(which.repo, listing.commit, name, folder)
            except Exception as error:  # see `_listing`
                wait = next(waits, None)
                if wait is None:
                    raise _unreachable(which, error) from error
                print(f"{title}: {type(error).__name__}, next try in {wait:.0f} s", file=sys.stderr)
                time.sleep(wait)

    return cache.get(f"{listing.commit}/{name}", listing.sizes[name], download)


def _unreachable(which: HubSet, error: Exception) -> UsageError:
    """One sentence about any network failure: why it failed, and how to fetch the data by other means."""
    reason = (str(error).strip() or "no reason given").splitlines()[0].rstrip(".")
    address = f"https://huggingface.co/datasets/{which.repo}/tree/{which.revision}/{which.subset}".rstrip("/")
    return UsageError(
        f"{which.repo}: the hub did not give it ({type(error).__name__}: {reason}): download the .parquet "
        f"files of {address} elsewhere and name their folder with path=FOLDER"
    )
