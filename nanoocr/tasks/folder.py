"""A folder of pictures or PDFs with a .txt or .md file of the same name beside each: what most people have.

Folders within are read too, in the order of names. A .md is preferred to a .txt. A PDF or TIFF of several
pages is one row with several pictures, up to MAX_PAGES. An empty text is the truth of a blank page.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from nanoocr.config import PROMPT
from nanoocr.data.rows import Row, checked_row
from nanoocr.data.task import Task
from nanoocr.errors import UsageError
from nanoocr.tasks.common import existing, file_bytes, read_text

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".gif")
SHOWN = 5  # names in a message


class Folder(Task):
    """`pairs` are (picture or PDF, text); `missing` names every file without its partner."""

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
        """Pairs."""
        return len(self.pairs)

    def marks(self) -> Iterable[object]:
        """Names."""
        return [(picture.name, text.name) for picture, text in self.pairs]

    def read(self, index: int) -> Row:
        """The picture, or the pages of the PDF or TIFF, still encoded, and the whole text."""
        picture, text = self.pairs[index]
        name = str(picture)
        answer = read_text(text, name)
        return checked_row(name, [file_bytes(picture, name)], [(self.prompt, answer)], self.source)


def pair_files(root: Path) -> tuple[list[tuple[Path, Path]], list[str]]:
    """(picture, text) under `root` in the order of names, and a sentence about each that is alone."""
    files = [path for path in sorted(root.rglob("*")) if path.is_file() and not path.name.startswith(".")]
    pictures = [path for path in files if path.suffix.lower() in (*PICTURES, ".pdf")]
    texts = {path.with_suffix(""): path for path in files if path.suffix.lower() == ".txt"}
    texts |= {path.with_suffix(""): path for path in files if path.suffix.lower() == ".md"}
    pairs = [(path, texts[path.with_suffix("")]) for path in pictures if path.with_suffix("") in texts]
    used = {picture.with_suffix("") for picture, _ in pairs}
    alone = [f"{path}: no .txt or .md beside it" for path in pictures if path.with_suffix("") not in used]
    alone += [f"{path}: no picture or PDF beside it" for stem, path in texts.items() if stem not in used]
    return pairs, alone
