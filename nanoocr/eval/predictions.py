"""Reads folders of predictions by any model, one text file per page, and names everything odd."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nanoocr.errors import UsageError
from nanoocr.files import read_text
from nanoocr.folders import files_below


@dataclass(frozen=True)
class Predictions:
    """Texts by name, and one sentence for each odd file."""

    texts: dict[str, str]
    problems: tuple[str, ...] = ()

    def find(self, *names: str) -> str | None:
        """The first of the names that has a text."""
        return next((name for name in names if name in self.texts), None)


def read_predictions(folder: str | Path, suffix: str = ".md") -> Predictions:
    """Read the files of a folder, then those of its subfolders. A file's name without `suffix` is its key.

    Two files with one name are a problem, and the first counts. Bytes that are not UTF-8 are a problem too,
    and are read with replacement characters.

    Raises:
        UsageError: the folder does not exist or has no such file.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder of predictions")
    texts: dict[str, str] = {}
    problems: list[str] = []
    found = [path for path in files_below(folder)[0] if path.name.endswith(suffix)]
    for path in sorted(found, key=lambda path: (len(path.parts), path)):
        name = path.name.removesuffix(suffix)
        if name in texts:
            problems.append(f"{path}: a second file of this name, not read")
            continue
        texts[name], problem = read_text(path)
        problems += [problem] if problem else []
    if not texts:
        raise UsageError(f"{folder}: holds no *{suffix} files")
    return Predictions(texts, tuple(problems))
