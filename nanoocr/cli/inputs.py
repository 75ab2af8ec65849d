"""What `nanoocr read` is asked to read: files by name, folders by what is in them, stdin.

A file that is named outright is always tried. In a folder the first bytes of each file say whether it can be
read; what cannot is told in one line.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from nanoocr.errors import PictureError, UsageError
from nanoocr.folders import files_below, is_document

STDIN = PurePath("stdin")  # what files of results are called that have no name to follow
NAMED = 6  # of the files that are left out, in the line that tells of them


@dataclass(frozen=True)
class Input:
    """One file to read, by path or (stdin) by content; or why there is none.

    `name` is what messages and results call it. `place` says where its results go in an output folder: it is
    the path below the folder that was named, so a tree of scans gives the same tree of texts.
    """

    name: str
    source: Path | None = None
    error: PictureError | None = None
    place: PurePath = STDIN


@dataclass(frozen=True)
class Inputs:
    """What to read, in order, and the files of folders that hold nothing readable."""

    files: list[Input] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def told(self) -> str | None:
        """The line about what is left out, None where nothing is."""
        count = len(self.left_out)
        if not count:
            return None
        rest = f" and {count - NAMED} more" if count > NAMED else ""
        return f"{count} file{'s' * (count > 1)} left out: {', '.join(self.left_out[:NAMED])}{rest}"


def find_inputs(names: Sequence[str], endings: tuple[str, ...] = ()) -> Inputs:
    """Files in the order named, folders replaced by what is in them, in the order in which people count.

    `endings` are of names that the caller can read beside pictures and PDFs.

    Raises:
        UsageError: `-` is named twice; stdin can be read once.
    """
    if names.count("-") > 1:
        raise UsageError("- (stdin) is named twice, but it can be read only once")
    found = Inputs()
    for name in names:
        if name == "-":
            found.files.append(Input(name))
        elif os.path.isdir(name):
            _search(Path(name), found, endings)
        else:
            place = PurePath(os.path.basename(name) or "page")
            found.files.append(Input(shown(name), Path(name), place=place))
    return found


def _search(folder: Path, found: Inputs, endings: tuple[str, ...]) -> None:
    """Add what lies below a folder; hidden files and folders are left out, links followed once."""
    paths, failed = files_below(folder)
    readable, others = 0, []
    for path in paths:
        if path.name.lower().endswith(endings) or is_document(path):
            name = shown(str(path))
            found.files.append(Input(name, path, place=path.relative_to(folder)))
            readable += 1
        else:
            others.append(shown(str(path.relative_to(folder))))
    found.left_out.extend(others)
    for where, reason in failed:
        name = shown(str(where))
        found.files.append(Input(name, error=PictureError(f"{name} cannot be searched: {reason}.")))
    if not readable and not failed:
        name = shown(str(folder))
        error = PictureError(f"{name} holds no pictures or PDFs.", kind="empty")
        found.files.append(Input(name, error=error))


def shown(name: str) -> str:
    """A file name as valid UTF-8, which file systems do not promise."""
    return os.fsencode(name).decode("utf-8", "replace")
