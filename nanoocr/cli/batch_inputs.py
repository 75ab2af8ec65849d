"""The inputs of `nanoocr batch`: files, folders, patterns, lists, archives, tables, remote systems.

They are turned into documents of the ledger one by one, so a list may be of any length.
"""

from __future__ import annotations

import codecs
import glob
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePath

from nanoocr.batch.ledger import Found
from nanoocr.batch.readings import FILES
from nanoocr.batch.remote import find_remote
from nanoocr.batch.sources import CONTAINERS, file_place, is_container, open_container, unique_stems
from nanoocr.batch.streams import local_file
from nanoocr.cli.inputs import Input, find_inputs, shown
from nanoocr.errors import UsageError

# What a batch writes into its folder, besides the files beside.
OWN = re.compile(
    r"pages-\d{6,}\.parquet|failed\.parquet|ledger\.sqlite(-\w+)?|summary\.json|run\.lock|ray\.log"
)


def named(inputs: Sequence[str], listed: str | None) -> list[str]:
    """The names of inputs and of a list (a file with one input a line, `-` for stdin), patterns replaced.

    Raises:
        UsageError: the list cannot be read or is empty, or a pattern matches nothing.
    """
    names = [*inputs, *_lines(listed)]
    if listed is not None and not names:
        raise UsageError(f"--list={listed} is empty: there is nothing to read")
    if "" in names:
        raise UsageError("the name of an input is empty: see whether a variable is unset")
    return list(_expanded(names))


def refuse_missing(names: Sequence[str]) -> None:
    """Raise UsageError if none of the inputs exists, so that a mistyped name costs no time and no folder."""
    if names and all(map(_is_missing, names)):
        several = f", nor does any of the other {len(names) - 1} inputs" if len(names) > 1 else ""
        raise UsageError(f"{shown(names[0])} does not exist{several}: see whether the name is right")


def _is_missing(name: str) -> bool:
    if "://" in name or name == "-":
        return False
    try:
        os.stat(name)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):
        return False  # it is told later why it cannot be opened
    return False


def documents(
    names: Sequence[str],
    known: Mapping[str, str],
    quiet: bool,
    out: Path | None = None,
    numbered: bool = False,
) -> Iterator[Found]:
    """Yield, once each, the documents that the names mean and the ledger does not know.

    Args:
        names: as `named` gives them.
        known: maps the place of each document in the ledger to its stem.
        out: the folder of the batch, whose own files are no input even if they lie in a named folder.
        numbered: as of `unique_stems`.

    Raises:
        UsageError: a remote system does not answer.
    """
    fresh = (found for found in _found(names, quiet, out) if found.place not in known)
    yield from unique_stems(fresh, set(known.values()), numbered)


def _lines(name: str | None) -> list[str]:
    """The lines of a list, without empty ones."""
    if name is None:
        return []
    try:
        text = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise UsageError(f"--list={name} cannot be read: {error.strerror}") from error
    if text.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise UsageError(f"--list={name} is UTF-16: save it as UTF-8")
    text = text.removeprefix(codecs.BOM_UTF8)
    # Not splitlines, which also splits at bytes that may occur in file names. `find -print0` ends names by 0.
    lines = text.split(b"\0") if b"\0" in text else [line.removesuffix(b"\r") for line in text.split(b"\n")]
    return [os.fsdecode(line) for line in lines if line.strip()]


def _found(names: Sequence[str], quiet: bool, out: Path | None) -> Iterator[Found]:
    plain: list[str] = []
    for name in names:
        if "://" in name:
            yield from find_remote(name)
        else:
            plain.append(name)
    yield from _files(plain, quiet, out)


def _expanded(names: Iterable[str]) -> Iterator[str]:
    """Replace patterns by the files that they match. A name that exists is never taken for a pattern."""
    for name in names:
        if "://" in name or os.path.exists(name) or not glob.has_magic(name):
            yield name
            continue
        fitting = sorted(glob.glob(name, recursive=True))
        if not fitting:
            raise UsageError(f"nothing fits the pattern {name}: see whether the folder is right")
        yield from fitting


def _files(names: Sequence[str], quiet: bool, out: Path | None) -> Iterator[Found]:
    """Yield the named files, and the files in named folders."""
    if "-" in names:
        raise UsageError("a batch reads no picture from stdin: write --list=- for a list of files")
    own = _own_files(out) if out is not None else None
    inputs = find_inputs(names, CONTAINERS, own)
    if (told := inputs.told()) and not quiet:
        print(told, file=sys.stderr)
    for item in inputs.files:
        if own is None or item.source is None or not own(item.source):
            yield from _documents_of(item)


def _own_files(out: Path) -> Callable[[Path], bool]:
    """Tells whether a path is a file that a batch in `out` writes."""
    folder = os.path.realpath(out)
    beside = os.path.join(folder, FILES) + os.sep

    def is_own(path: Path) -> bool:
        """By its name and place alone."""
        where, name = os.path.split(os.path.realpath(path))
        return f"{where}{os.sep}".startswith(beside) or (where == folder and bool(OWN.fullmatch(name)))

    return is_own


def _documents_of(item: Input) -> Iterator[Found]:
    stem = shown(str(PurePath(item.place).with_suffix("")))
    if item.source is not None and is_container(item.name) and item.source.is_file():
        yield from open_container(local_file(item.source), item.name, stem)
        return
    place = file_place(item.source if item.source is not None else Path(item.name))
    yield Found(place, item.name, stem, None if item.error is None else str(item.error))
