"""A folder of pictures or PDFs with a .txt or .md file of the same name beside each.

nanoocr/folders.py decides which files are pictures, their order, and which text belongs to which picture.
Content counts, not names; subfolders are read too; a .gt.txt wins over a .md, and that over a .txt. A PDF or
TIFF of several pages is one row with several pictures, up to MAX_PAGES. An empty text means a blank page.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from nanoocr.config import PROMPT
from nanoocr.data.rows import Row, checked_row
from nanoocr.data.task import Task
from nanoocr.errors import UsageError
from nanoocr.folders import files_below, pair_texts
from nanoocr.tasks.common import existing, file_bytes, read_text

SHOWN = 5  # an error message names this many files


class Folder(Task):
    """`pairs` are (picture or PDF, text). `missing` names every file without a partner."""

    source = "folder"

    def __init__(
        self,
        path: str | Path,
        prompt: str = PROMPT,
        start: int = 0,
        stop: int | None = None,
        step: int = 1,
    ) -> None:
        super().__init__(start, stop, step)
        root = existing(path, "folder")
        self.prompt = prompt
        self.pairs, self.missing = pair_files(root)
        if not self.pairs:
            found = f": {'; '.join(self.missing[:SHOWN])}" if self.missing else ""
            raise UsageError(f"{root}: no picture or PDF has a .txt or .md of its name beside it{found}")

    def num_rows(self) -> int:
        """How many pairs there are."""
        return len(self.pairs)

    def marks(self) -> Iterable[object]:
        """The file names."""
        return [(picture.name, text.name) for picture, text in self.pairs]

    def read(self, index: int) -> Row:
        """The picture, or the pages of the PDF or TIFF, still encoded, and the whole text."""
        picture, text = self.pairs[index]
        name = str(picture)
        answer = read_text(text, name)
        return checked_row(name, [file_bytes(picture, name)], [(self.prompt, answer)], self.source)


def pair_files(root: Path) -> tuple[list[tuple[Path, Path]], list[str]]:
    """The (picture, text) pairs under `root` in the order of names, and a sentence for each unused file."""
    files, failed = files_below(root)
    found = pair_texts(files)
    alone = [f"{path}: no .txt or .md beside it" for path in found.pictures]
    alone += [f"{path}: no picture or PDF beside it" for path in found.texts]
    alone += [f"{other}: {used.name} beside it is used" for used, other in found.doubled]
    alone += [f"{folder}: cannot be searched ({reason})" for folder, reason in failed]
    return list(found.pairs), alone
