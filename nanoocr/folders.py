"""What a folder is: the files in it in the order people mean, and which text belongs to which picture.

Reading, training, fine-tuning and evaluation ask here, so that they agree: hidden files and folders are left
out, links to folders are followed once, page2 comes before page10, the first bytes of a file say whether it
can be read, and of several texts beside a picture TEXTS says which one is meant. Imports nothing slow.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

# A file of such a name was meant as a picture, so an empty or damaged one is an error and not passed over.
SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".pdf"))
# What a text beside a picture ends in; the first one counts. Line crops of other tools have .gt.txt.
TEXTS = (".gt.txt", ".md", ".txt")
HEAD = 1024  # bytes; a PDF's signature may stand anywhere in them
SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a")
TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
BMP_HEADERS = frozenset((12, 16, 40, 52, 56, 64, 108, 124))  # bytes; two letters alone are in many texts, too


# ---------------------------------------------------------------------------------------------------
# Files


def files_below(folder: Path) -> tuple[list[Path], list[tuple[Path, str]]]:
    """The files below a folder in counting order, and each folder that cannot be searched with the reason.

    Links to folders come after all real folders, so that a folder keeps its own name; each real folder is
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
            if os.path.isdir(path):  # unlike entry.is_dir, it takes a link into a closed folder for no folder
                (links if entry.is_symlink() else waiting).append(path)
            else:
                found.append(path)
    return sorted(found, key=lambda path: tuple(map(counting_order, path.parts))), failed


def counting_order(name: str) -> tuple[tuple[int | str, ...], str]:
    """A key that sorts names as people do: page2 before page10, capitals beside small letters."""
    parts = re.split(r"([0-9]+)", name.casefold())
    # Text and digits come in turn, so numbers only ever meet numbers. The name itself breaks ties.
    return tuple(int(part) if index % 2 else part for index, part in enumerate(parts)), name


def is_document(path: Path) -> bool:
    """Whether a file of a folder is a picture or PDF, or was meant as one."""
    return path.suffix.lower() in SUFFIXES or looks_readable(path)


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


# ---------------------------------------------------------------------------------------------------
# Texts beside them


@dataclass(frozen=True)
class Pairs:
    """Pictures with the text beside each, and what is alone or doubled.

    `doubled` are texts that another one beside the same picture goes before; `pictures` and `texts` have no
    partner.
    """

    pairs: tuple[tuple[Path, Path], ...]
    pictures: tuple[Path, ...]
    texts: tuple[Path, ...]
    doubled: tuple[tuple[Path, Path], ...]  # (the one that is used, the other)


def pair_texts(files: Iterable[Path], kinds: Sequence[str] = TEXTS) -> Pairs:
    """Which text belongs to which picture: those of one name in one folder, the first of `kinds` at first.

    A text belongs to the picture whose name it has but for the ends of both, or but for its own end alone
    (scan.png with scan.txt, or with scan.png.txt).
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
    """`scan.gt.txt`, `scan.txt` -> `scan`; None for what is no text of `kinds`."""
    name = path.name.lower()
    end = max((kind for kind in kinds if name.endswith(kind) and name != kind), key=len, default=None)
    return None if end is None else path.with_name(path.name[: -len(end)])


def _rank(text: Path, kinds: Sequence[str]) -> int:
    return next(place for place, kind in enumerate(kinds) if text.name.lower().endswith(kind))
