"""What a worker keeps to read with: the model, loaded once, and the formats of the files beside."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nanoocr.batch.ledger import Document, records_of
from nanoocr.batch.sources import read_place
from nanoocr.document import Line, Word
from nanoocr.pages import Picture

if TYPE_CHECKING:
    from nanoocr.inference.page import Page
    from nanoocr.inference.reader import Reader, ReaderChoice

FILES = "files"  # the folder, in the output, of the files beside


@dataclass(frozen=True)
class Settings:
    """How pages are read and what is written of them: everything on which a text depends."""

    out: Path
    choice: ReaderChoice
    model_name: str  # for the column `model`: the folder's name and the beginning of its weights' sha256
    version: str
    formats: tuple[str, ...] = ()
    prompt: str | None = None  # None is what the model was trained to be asked
    max_tokens: int | None = None
    mark_below: float | None = None  # see `formats.marks`; in the files beside alone


@dataclass
class ModelReading:
    """A model, its settings, and the threads it reads with; see `worker.PageReader`."""

    settings: Settings
    threads: int

    @cached_property
    def reader(self) -> Reader:
        """The loaded model."""
        return self.settings.choice.load(self.threads)

    def load(self) -> None:
        """Load the model.

        Raises:
            CheckpointError, UsageError: as `Reader`.
        """
        from nanoocr.formats.marks import check_marks

        check_marks(self.settings.mark_below, self.reader.by_lines)

    def read(self, pictures: Iterable[Picture]) -> Iterator[dict[str, Any]]:
        """A record for each picture, in order."""
        s = self.settings
        for page in self.reader.read_pictures(pictures, s.prompt, max_tokens=s.max_tokens):
            yield {**dataclasses.asdict(page), "model": s.model_name, "version": s.version}

    def write_beside(self, document: Document) -> list[str]:
        """Write the files of a document; one of which no page could be read gets none."""
        from nanoocr.batch.ledger import LEDGER
        from nanoocr.formats import write_document

        pages = [page_of(record) for record in records_of(self.settings.out / LEDGER, document.id)]
        if all(page.status == "error" for page in pages):
            return []
        sources = {document.name: read_place(document.place)} if "pdf" in self.settings.formats else None
        stem = self.settings.out / FILES / document.stem
        return write_document(pages, self.settings.formats, stem, sources, self.settings.mark_below).notes


def page_of(record: dict[str, Any]) -> Page:
    """The page of a record, as it was when it was read."""
    from nanoocr.inference.engine import TokenCount
    from nanoocr.inference.page import Page

    known = {field.name for field in dataclasses.fields(Page)}
    values = {key: value for key, value in record.items() if key in known}
    values["tokens"] = TokenCount(*record.get("tokens", (0, 0, 0)))
    values["lines"] = tuple(_line(line) for line in record.get("lines", ()))
    values.setdefault("confidence", None)
    return Page(**values)


def _line(values: dict[str, Any]) -> Line:
    words = tuple(Word(**{**word, "quad": _points(word["quad"])}) for word in values["words"])
    baseline = _points(values["baseline"]) if values["baseline"] is not None else None
    return Line(**{**values, "quad": _points(values["quad"]), "words": words, "baseline": baseline})


def _points(values: list[list[float]]) -> Any:
    return tuple(tuple(point) for point in values)
