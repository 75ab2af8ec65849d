"""Documents of the same content are read once; each of them gets its files all the same."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from nanoocr.batch.ledger import Ledger
from nanoocr.formats import FORMATS, save


def copy_twins(ledger: Ledger, files: Path, formats: Sequence[str]) -> int:
    """Copy the files of what was read to the names of its twins; gives the number of files.

    Raises:
        OutputError: a file cannot be written.
    """
    suffixes = "|".join(re.escape(FORMATS[name].suffix) for name in formats)
    copied = 0
    for read, twin in ledger.twins() if formats else ():
        source, target = files / read, files / twin
        own = re.compile(rf"{re.escape(source.name)}((?:-\d{{4}})?(?:{suffixes}))")
        for path in source.parent.iterdir() if source.parent.is_dir() else ():
            if match := own.fullmatch(path.name):
                save(target.with_name(target.name + match[1]), path.read_bytes())
                copied += 1
    return copied
