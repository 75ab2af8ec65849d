"""Reads a folder of pictures with their truth beside them (name.png, name.txt), and scores each.

python -m scripts.read_samples --folder=assets/samples
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from nanoocr import Page, Reader
from nanoocr.commandline import parse, run
from nanoocr.errors import UsageError
from nanoocr.eval.metrics import character_error_rate, corpus_character_error_rate
from nanoocr.eval.samples import load_folder


@dataclass(frozen=True)
class ReadSamplesConfig:
    """Reads a folder of pictures and compares with the texts beside them."""

    folder: str = "assets/samples"  # pictures, each with a .txt of the same name
    model: str = ""  # model folder; empty means the packaged model


def pictures_with_truth(folder: Path) -> list[tuple[Path, str]]:
    """All pictures of `folder` in name order, with the text beside them.

    Raises:
        UsageError: there is no such folder, no picture in it, or a picture without truth.
    """
    found = load_folder(folder)
    if found.left_out:
        raise UsageError(f"{folder}: {found.left_out[0]}")
    return [(Path(str(sample.picture)), sample.truth) for sample in found.samples]


def print_table(pages: list[Page], truths: list[str], seconds: float) -> None:
    """Picture, text, error rate and time of each page, and the averages."""
    table = Table("picture", "text read", "CER", "seconds", show_lines=True)
    for page, truth in zip(pages, truths):
        rate = f"{character_error_rate(page.text, truth):.1%}"
        table.add_row(Path(page.file).name, page.text or f"({page.error})", rate, f"{page.seconds:.2f}")
    console = Console(markup=False, emoji=False, highlight=False)
    console.print(table)
    overall = corpus_character_error_rate([page.text for page in pages], truths)
    console.print(f"{len(pages)} pictures, character error rate {overall:.2%}, {seconds:.1f} s in all")


def main(argv: list[str] | None = None) -> int:
    """Read and score the folder."""
    config = parse(ReadSamplesConfig, argv)
    found = pictures_with_truth(Path(config.folder))
    reader = Reader(config.model or None)
    start = time.monotonic()
    pages = reader.read([str(path) for path, _ in found])
    assert isinstance(pages, list)
    print_table(pages, [truth for _, truth in found], time.monotonic() - start)
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
