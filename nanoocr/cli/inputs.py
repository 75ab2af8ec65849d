"""What `nanoocr read` is asked to read: files by name, folders by what is in them, stdin.

A file that is named outright is always tried. In a folder the first bytes of each file say whether it can be
read; what cannot is told in one line.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from nanoocr.errors import PictureError, UsageError

# A file of such a name was meant as a picture, so an empty or damaged one is an error and not passed over.
SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".pdf"))
HEAD = 1024  # bytes; a PDF's signature may stand anywhere in them
SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a")
TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
BMP_HEADERS = frozenset((12, 16, 40, 52, 56, 64, 108, 124))  # bytes; two letters alone are in many texts, too
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
    paths, failed = _walk(folder)
    readable, others = 0, []
    for path in sorted(paths, key=lambda path: tuple(map(counting_order, path.parts))):
        is_asked = path.name.lower().endswith(endings)
        if path.suffix.lower() in SUFFIXES or is_asked or looks_readable(path):
            name = shown(str(path))
            found.files.append(Input(name, path, place=path.relative_to(folder)))
            readable += 1
        else:
            others.append(shown(str(path.relative_to(folder))))
    found.left_out.extend(others)
    found.files.extend(failed)
    if not readable and not failed:
        name = shown(str(folder))
        error = PictureError(f"{name} holds no pictures or PDFs.", kind="empty")
        found.files.append(Input(name, error=error))


def _walk(folder: Path) -> tuple[list[Path], list[Input]]:
    """The files below a folder, and a failed Input for each folder that cannot be searched.

    Links to folders come after all real folders, so that a folder keeps its own name; each real folder is
    entered once, which also ends circles.
    """
    found: list[Path] = []
    failed: list[Input] = []
    seen: set[str] = set()
    waiting, links = [folder], list[Path]()
    while waiting or links:
        where = waiting.pop() if waiting else links.pop(0)
        real = os.path.realpath(where)
        if real in seen:
            continue
        seen.add(real)
        try:
            entries = sorted(os.scandir(where), key=lambda entry: counting_order(entry.name))
        except OSError as error:
            name = shown(str(where))
            failed.append(Input(name, error=PictureError(f"{name} cannot be searched: {error.strerror}.")))
            continue
        for entry in entries:
            if entry.name.startswith("."):
                continue
            path = where / entry.name
            if os.path.isdir(path):  # unlike entry.is_dir, it takes a link into a closed folder for no folder
                (links if entry.is_symlink() else waiting).append(path)
            else:
                found.append(path)
    return found, failed


def counting_order(name: str) -> tuple[tuple[int | str, ...], str]:
    """A key that sorts names as people do: page2 before page10, capitals beside small letters."""
    parts = re.split(r"([0-9]+)", name.casefold())
    # Text and digits come in turn, so numbers only ever meet numbers. The name itself breaks ties.
    return tuple(int(part) if index % 2 else part for index, part in enumerate(parts)), name


def looks_readable(path: Path) -> bool:
    """Whether a file begins like a PDF or a picture that can be read; a pipe or a locked file does not."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            head = file.read(HEAD)
    except OSError:
        return False
    is_webp = head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    is_bmp = head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in BMP_HEADERS
    return head.startswith((*SIGNATURES, *TIFF_SIGNATURES)) or is_webp or is_bmp or b"%PDF-" in head


def shown(name: str) -> str:
    """A file name as valid UTF-8, which file systems do not promise."""
    return os.fsencode(name).decode("utf-8", "replace")
