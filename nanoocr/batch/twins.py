"""Documents of the same content are read once; each of them gets its files all the same."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nanoocr.batch.again import names_of
from nanoocr.batch.ledger import Ledger
from nanoocr.formats import save


def copy_twins(ledger: Ledger, files: Path, formats: Sequence[str]) -> int:
    """Copy the files of what was read to the names of its twins; gives the number of files.

    Raises:
        OutputError: a file cannot be written.
    """
    copied = 0
    for read, twin, pages in ledger.twins() if formats else ():
        sources, targets = (names_of(files / stem, pages, formats) for stem in (read, twin))
        for source, target in zip(sources, targets, strict=True):
            if source.exists():
                save(target, source.read_bytes())
                copied += 1
    return copied
