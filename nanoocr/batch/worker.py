"""A worker process: one reader, which it keeps, and the assignments that come through a pipe.

It writes nothing itself but the files beside, which are replaced whole, so it may be killed at any moment.
Before each page it tells which one it begins: if it dies, that one may be the reason.
"""

from __future__ import annotations

import hashlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from multiprocessing.connection import Connection
from typing import Any, NamedTuple, Protocol

from nanoocr.batch.ledger import Document
from nanoocr.batch.record import packed
from nanoocr.batch.sources import read_place, survey, unchanged_file
from nanoocr.errors import NanoOCRError, PictureError
from nanoocr.pages import PageRanges, Picture, open_source


class PageReader(Protocol):
    """What a worker keeps. It reads pictures, and writes the files beside a document."""

    def load(self) -> None:
        """Load the model, before the first page; the other two kinds of assignments need none."""

    def read(self, pictures: Iterable[Picture]) -> Iterator[dict[str, Any]]:
        """A record for each picture, in order: the fields of `inference.page.Page`, plain values."""

    def write_beside(self, document: Document) -> list[str]:
        """Write a whole document, whose records are in the ledger, in each format; gives notes."""


# It is sent to other processes, so it is a function of a module, or a partial of one.
MakeReader = Callable[[], PageReader]


class Assignment(NamedTuple):
    """What a worker is to do. `survey`: look into documents; `read`: pages of them; `beside`: write files."""

    kind: str
    documents: list[Document]
    pages: tuple[int, ...] = ()  # of `read`, one for each entry of documents

    def items(self) -> Iterator[tuple[str, int, int]]:
        """(kind, document, page) of everything in it; page 0 is the document itself."""
        for document, page in zip(self.documents, self.pages or (0,) * len(self.documents), strict=True):
            yield self.kind, document.id, page


def work(pipe: Connection, make: MakeReader, threads: int) -> None:
    """Do assignments until the pipe is closed."""
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches all processes, but the driver ends its workers
    threading.Thread(target=end_with, args=(os.getppid(),), daemon=True).start()
    os.environ["OMP_NUM_THREADS"] = str(threads)  # set before anything imports torch
    try:
        reader = make()
        reader.load()
        pipe.send(("ready", 0, 0, None))
        while True:
            for answer in answers(pipe.recv(), reader):
                pipe.send(answer)
            pipe.send(("idle", 0, 0, None))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the driver has ended
    except NanoOCRError as error:
        pipe.send(("broken", 0, 0, error))


def end_with(parent: int) -> None:
    """End this process as soon as its parent is no longer `parent`, which has then died."""
    # Otherwise a worker whose driver was killed would read on beside the workers of the next run.
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)


def answers(assignment: Assignment, reader: PageReader) -> Iterator[tuple[str, int, int, Any]]:
    """Carry out an assignment; yields (what, document, page, value) for the driver, in order."""
    if assignment.kind == "survey":
        for document in assignment.documents:
            yield "begun", document.id, 0, None
            yield _survey(document)
    elif assignment.kind == "beside":
        (document,) = assignment.documents
        yield "begun", document.id, 0, None
        yield "written", document.id, 0, reader.write_beside(document)
    else:
        yield from _read(assignment, reader)


def _survey(document: Document) -> tuple[str, int, int, Any]:
    try:
        return "opened", document.id, 0, survey(document.place, document.name)
    except PictureError as error:
        return "unreadable", document.id, 0, str(error)
    except Exception as error:  # noqa: BLE001 - a foreign file must not end a run of days
        return "unreadable", document.id, 0, f"{document.name} cannot be opened: {_said(error)}."


def _read(assignment: Assignment, reader: PageReader) -> Iterator[tuple[str, int, int, Any]]:
    """All pages of an assignment go through one call of the reader, so that they share its batches."""
    keys = list(zip(assignment.documents, assignment.pages, strict=True))
    done = 0
    pictures = (picture_of(document, page) for document, page in keys)
    yield "begun", keys[0][0].id, keys[0][1], None
    try:
        for record in reader.read(pictures):
            yield "read", keys[done][0].id, keys[done][1], packed(record)
            done += 1
            if done < len(keys):
                yield "begun", keys[done][0].id, keys[done][1], None
    except NanoOCRError:
        raise
    except Exception as error:  # noqa: BLE001 - as above; the pages of its batch are tried one by one
        if len(keys) == 1:
            document, page = keys[0]
            sentence = f"{document.name}, page {page}: it cannot be read: {_said(error)}."
            yield "read", document.id, page, packed(error_record(document.name, page, sentence))
            return
        for document, page in keys[done:]:
            yield from _read(Assignment("read", [document], (page,)), reader)


def picture_of(document: Document, page: int) -> Picture:
    """One page, opened; or the reason why it cannot be."""
    try:
        path = unchanged_file(document.place, document.stamp)
        content = _content(document.place, document.name, document.sha256) if path is None else path
        picture = next(open_source(content, document.name, PageRanges(((page, page),))))
        return picture._replace(page=page)
    except PictureError as error:
        return Picture(document.name, page, error=error)


@lru_cache(maxsize=1)
def _content(place: str, name: str, sha256: str) -> bytes:
    """The bytes of a document; the pages of one come one after another."""
    content = read_place(place)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise PictureError(f"{name} was changed while the batch ran: give it to another batch.")
    return content


def error_record(name: str, page: int, sentence: str) -> dict[str, Any]:
    """The record of a page that could not be read."""
    return {"file": name, "page": page, "text": "", "status": "error", "error": sentence, "seconds": 0.0}


def _said(error: Exception) -> str:
    said = str(error).strip().splitlines()
    return f"{type(error).__name__}: {said[0][:200].rstrip('.')}" if said else type(error).__name__
