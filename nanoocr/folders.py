"""How a folder is read: which files count, in which order, and which text belongs to which picture.

Reading, training, fine-tuning and evaluation all ask here, so that they agree. Hidden files and folders are
left out, links to folders are followed once, and page2 comes before page10. A file's first bytes show whether
it can be read. If several texts lie beside a picture, TEXTS decides. This module imports nothing slow.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

# A file with such a name was meant as a picture, so if it is empty or damaged that is an error.
SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".pdf"))
# Suffixes of texts beside a picture; the first one that exists counts. Other tools write .gt.txt for line
# crops.
TEXTS = (".gt.txt", ".md", ".txt")
HEAD = 1024  # bytes; a PDF's signature may stand anywhere in them
SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a")
TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# sizes of BMP headers, in bytes: its two-letter signature alone also begins ordinary texts
BMP_HEADERS = frozenset((12, 16, 40, 52, 56, 64, 108, 124))


# ---------------------------------------------------------------------------------------------------
# Files


PIPE = "a pipe or a device"  # why a name in a folder is not opened


def files_below(folder: Path) -> tuple[list[Path], list[tuple[Path, str]]]:
    """The files below a folder in natural order, and whatever cannot be searched or read, with the reason.

    Links to folders come after all real folders, so that a folder keeps its own name. Each real folder is
    entered once, which also ends circles.
    """
    found: list[Path] = []
    failed: list[tuple[Path, str]] = []
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
            failed.append((where, error.strerror or str(error)))
            continue
        for entry in entries:
            if entry.name.startswith("."):
                continue
            path = where / entry.name
            if os.path.isdir(path):  # entry.is_dir raises for a link into a closed folder; isdir says False
                (links if entry.is_symlink() else waiting).append(path)
            elif path.suffix and _is_special(path):
                # One that is called like a picture or a text would be opened, and may never answer.
                failed.append((path, PIPE))
            else:
                found.append(path)
    return sorted(found, key=lambda path: tuple(map(counting_order, path.parts))), failed


def counting_order(name: str) -> tuple[tuple[int | str, ...], str]:
    """A key that sorts names as people do: page2 before page10, and capitals beside small letters."""
    parts = re.split(r"([0-9]+)", name.casefold())
    # Text and digits alternate, so numbers are only compared with numbers. The name itself breaks ties.
    return tuple(int(part) if index % 2 else part for index, part in enumerate(parts)), name


def by_stem(files: Iterable[Path]) -> dict[str, list[Path]]:
    """The files by their names without suffix; folders may hold several of one name."""
    found: dict[str, list[Path]] = {}
    for path in files:
        found.setdefault(path.stem, []).append(path)
    return found


def is_document(path: Path) -> bool:
    """Whether a file in a folder is a picture or PDF, or was meant as one."""
    # Reading from a pipe waits until somebody writes into it, which may be never.
    return (path.suffix.lower() in SUFFIXES and not _is_special(path)) or looks_readable(path)


def _is_special(path: Path) -> bool:
    """Whether something is there that is neither a file nor a folder: a pipe, a socket, a device."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False  # a broken link was meant as a file
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def looks_readable(path: Path) -> bool:
    """Whether a file begins like a readable picture or PDF. Pipes and locked files do not."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return begins_readable(file.read(HEAD))
    except OSError:
        return False


def begins_readable(head: bytes) -> bool:
    """Whether a file that begins so is a picture or PDF; HEAD bytes are enough."""
    head = head[:HEAD]
    is_webp = head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    is_bmp = head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in BMP_HEADERS
    # A bitmap without its file header begins with the size of its own, and has one plane.
    is_dib = int.from_bytes(head[:4], "little") in BMP_HEADERS and head[12:14] == b"\x01\x00"
    is_other = is_webp or is_bmp or is_dib
    return head.startswith((*SIGNATURES, *TIFF_SIGNATURES)) or is_other or b"%PDF-" in head


# ---------------------------------------------------------------------------------------------------
# Texts beside them


@dataclass(frozen=True)
class Pairs:
    """Pictures with the text beside each, and the files that are alone or doubled.

    `doubled` are texts that lost against another text beside the same picture. `pictures` and `texts` have no
    partner.
    """

    pairs: tuple[tuple[Path, Path], ...]
    pictures: tuple[Path, ...]
    texts: tuple[Path, ...]
    doubled: tuple[tuple[Path, Path], ...]  # (the one that is used, the other)


def pair_texts(files: Iterable[Path], kinds: Sequence[str] = TEXTS) -> Pairs:
    """Match texts with pictures: those of one name in one folder, and the first of `kinds` wins.

    A text matches if both names are equal without their endings, or if its name is the picture's whole name
    with an ending added (scan.png matches scan.txt and scan.png.txt).
    """
    beside: dict[Path, list[Path]] = {}
    documents: list[Path] = []
    for path in files:
        if (stem := text_stem(path, kinds)) is not None:
            beside.setdefault(stem, []).append(path)
        elif is_document(path):
            documents.append(path)
    pairs, alone, doubled = [], [], []
    used: set[Path] = set()
    for document in documents:
        stems = dict.fromkeys((document.with_suffix(""), document))
        found = [text for stem in stems for text in beside.get(stem, [])]
        if not found:
            alone.append(document)
            continue
        text = min(found, key=lambda one: (_rank(one, kinds), found.index(one)))
        pairs.append((document, text))
        doubled += [(text, other) for other in found if other != text]
        used.update(found)
    texts = [text for held in beside.values() for text in held if text not in used]
    return Pairs(tuple(pairs), tuple(alone), tuple(texts), tuple(doubled))


def text_stem(path: Path, kinds: Sequence[str] = TEXTS) -> Path | None:
    """`scan.gt.txt` and `scan.txt` give `scan`; None for a file that is no text of `kinds`."""
    name = path.name.lower()
    end = max((kind for kind in kinds if name.endswith(kind) and name != kind), key=len, default=None)
    return None if end is None else path.with_name(path.name[: -len(end)])


def _rank(text: Path, kinds: Sequence[str]) -> int:
    return next(place for place, kind in enumerate(kinds) if text.name.lower().endswith(kind))
