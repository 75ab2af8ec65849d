"""The inputs of `nanoocr read`: files by name, folders by their contents, stdin.

A file that is named is always tried. In a folder the first bytes of each file show whether it can be read,
and one line reports the others.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from nanoocr.errors import PictureError, UsageError
from nanoocr.folders import PIPE, SUFFIXES, files_below, is_document

STDIN = PurePath("stdin")  # stands in for a file name when results of stdin are named
NAMED = 6  # the line about files that are left out names this many


@dataclass(frozen=True)
class Input:
    """One file to read, by path or (for stdin) by content; or the reason why there is none.

    Messages and results call it `name`. `place` is where its results go in an output folder: its path below
    the named folder, so that a tree of scans becomes the same tree of texts.
    """

    name: str
    source: Path | None = None
    error: PictureError | None = None
    place: PurePath = STDIN


@dataclass(frozen=True)
class Inputs:
    """The files to read, in order, and the files in folders that cannot be read."""

    files: list[Input] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def told(self) -> str | None:
        """The line about files that are left out; None where there are none."""
        count = len(self.left_out)
        if not count:
            return None
        rest = f" and {count - NAMED} more" if count > NAMED else ""
        return f"{count} file{'s' * (count > 1)} left out: {', '.join(self.left_out[:NAMED])}{rest}"


def find_inputs(
    names: Sequence[str], endings: tuple[str, ...] = (), is_own: Callable[[Path], bool] | None = None
) -> Inputs:
    """Find the files in the order named. Folders are replaced by their files in natural order (2 before 10).

    `endings` are name endings that the caller can read besides pictures and PDFs. Files in folders of which
    `is_own` is true belong to the caller: they are not looked into.

    Raises:
        UsageError: `-` is named twice, but stdin can be read only once.
    """
    if names.count("-") > 1:
        raise UsageError("- (stdin) is named twice, but it can be read only once")
    found = Inputs()
    for name in names:
        if not name:
            error = PictureError("a name of a file is empty: leave it out, or name a file.", kind="missing")
            found.files.append(Input("(no name)", error=error))
        elif name == "-":
            found.files.append(Input(name))
        elif os.path.isdir(name):
            _search(Path(name), found, endings, is_own)
        else:
            place = PurePath(os.path.basename(name) or "page")
            found.files.append(Input(shown(name), Path(name), place=place))
    return found


def _search(
    folder: Path, found: Inputs, endings: tuple[str, ...], is_own: Callable[[Path], bool] | None
) -> None:
    """Add the files below a folder. Hidden files and folders are left out, and links are followed once."""
    paths, failed = files_below(folder)
    readable, others = 0, []
    for path in paths:
        # It is not even opened: closing a file gives up all locks that the process has on it (POSIX), and the
        # caller may have it open as a database.
        if is_own is not None and is_own(path):
            readable += path.name.lower().endswith((*endings, *SUFFIXES))
            continue
        if path.name.lower().endswith(endings) or is_document(path):
            name = shown(str(path))
            found.files.append(Input(name, path, place=path.relative_to(folder)))
            readable += 1
        else:
            others.append(shown(str(path.relative_to(folder))))
    # Nobody can have meant a pipe for a page, so that it is no failure of the folder.
    others += [shown(str(where.relative_to(folder))) for where, reason in failed if reason == PIPE]
    found.left_out.extend(others)
    failed = [(where, reason) for where, reason in failed if reason != PIPE]
    for where, reason in failed:
        name = shown(str(where))
        found.files.append(Input(name, error=PictureError(f"{name} cannot be searched: {reason}.")))
    if not readable and not failed:
        name = shown(str(folder))
        error = PictureError(f"{name} holds no pictures or PDFs.", kind="empty")
        found.files.append(Input(name, error=error))


def shown(name: str) -> str:
    """A file name as valid UTF-8, which file systems do not guarantee."""
    return os.fsencode(name).decode("utf-8", "replace")
