"""Output formats: a page with lines and words becomes text, JSON, Markdown, hOCR, ALTO, PAGE, TSV or PDF.

Each format is a module with `render(pages)`, and `FORMATS` says which. Nothing of them is imported before
it is asked for, so a run that writes plain text needs no library for XML or PDF.
"""

from __future__ import annotations

import importlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, NamedTuple

from nanoocr.document import PageLike, TextPage
from nanoocr.errors import OutputError, UsageError
from nanoocr.files import is_stream, write_file
from nanoocr.formats.marks import MARKED, mark_pages

if TYPE_CHECKING:
    from nanoocr.formats.pdf import Sources


class Format(NamedTuple):
    """One output format: the end of its files' names, its module, and whether each page is a file."""

    suffix: str
    module: str
    per_page: bool = False


FORMATS = {
    "txt": Format(".txt", "nanoocr.formats.plain"),
    "json": Format(".json", "nanoocr.formats.json_text"),
    "md": Format(".md", "nanoocr.formats.markdown"),
    "hocr": Format(".hocr", "nanoocr.formats.hocr"),
    "alto": Format(".alto.xml", "nanoocr.formats.alto", per_page=True),
    "page": Format(".page.xml", "nanoocr.formats.page_xml", per_page=True),
    "tsv": Format(".tsv", "nanoocr.formats.tsv"),
    "pdf": Format(".pdf", "nanoocr.formats.pdf"),
}
MOST_NAME, MOST_SUFFIX = 200, 20  # bytes; file systems take names of 255, and ours get suffixes
_PAGE_NUMBER = re.compile(r"-[0-9]{4,}$")  # as of `part_name`
# Formats that can hold a page's text even if its place is unknown.
_WITHOUT_PLACES = ("txt", "json", "md")


class Written(NamedTuple):
    """The files that were written, and a sentence for each thing that was changed or left out."""

    paths: list[Path]
    notes: list[str]


def find_format(name: str) -> Format:
    """The format called `name`.

    Raises:
        UsageError: there is none.
    """
    if name not in FORMATS:
        raise UsageError(f"unknown format {name!r}: choose {', '.join(FORMATS)}")
    return FORMATS[name]


def render(
    pages: Sequence[PageLike], name: str, sources: Sources | None = None, mark_below: float | None = None
) -> str | bytes:
    """The pages in one file of the format called `name`.

    Args:
        sources: what a page's `file` stands for where that is no path (bytes, an image); only PDF asks.
        mark_below: words with less confidence than this stand in marks of doubt, in text and Markdown.

    Raises:
        UsageError: no such format, a library that it needs is missing, or PAGE XML of several pages.
        OutputError: a PDF none of whose pages can be shown.
    """
    chosen = find_format(name)
    pages = _marked(pages, name, mark_below)
    try:
        module = importlib.import_module(chosen.module)
        content: str | bytes = module.render(pages, sources) if name == "pdf" else module.render(pages)
    except ModuleNotFoundError as error:
        raise UsageError(f"the format {name} needs {error.name}: pip install {error.name}") from error
    return content


def write(
    pages: Iterable[PageLike], names: Sequence[str], folder: Path, sources: Sources | None = None
) -> Written:
    """Write the pages of each input into `folder`, in each of the formats; a file is replaced whole or not.

    A file is called like its input: `scan.png` gives `scan.hocr`, and of a document of several pages each
    page's own file is `scan-0002.page.xml`. Inputs of the same name keep their suffix, and then get a number.

    Raises:
        UsageError: no such format, or an input lies where its output would go.
        OutputError: a file cannot be written.
    """
    for name in names:
        find_format(name)
    documents = [list(members) for _, members in groupby(pages, key=lambda page: page.file)]
    places = [PurePath(PurePath(document[0].file).name or "page") for document in documents]
    stems = name_outputs(places, numbered=any(FORMATS[name].per_page for name in names))
    written = Written([], [])
    for document, stem in zip(documents, stems, strict=True):
        done = write_document(document, names, folder / stem, sources)
        written.paths.extend(done.paths)
        written.notes.extend(done.notes)
    return written


def write_document(
    pages: Sequence[PageLike],
    names: Sequence[str],
    stem: Path,
    sources: Sources | None = None,
    mark_below: float | None = None,
) -> Written:
    """Write the pages of one input in each of the formats, to files called `stem` and the format's suffix.

    Args:
        sources, mark_below: as of `render`.

    Raises:
        UsageError: no such format, or the input lies where its output would go.
        OutputError: a file cannot be written.
    """
    from nanoocr.formats.clean import with_clean_names

    cleaned, notes = clean_noting(pages, names)  # once for all formats
    sources = with_clean_names(pages, cleaned, sources)
    written = Written([], notes)
    for name in names:
        path = stem.with_name(f"{stem.name}{find_format(name).suffix}")
        _refuse_input(path, pages[0].file)
        _write_document(_marked(cleaned, name, mark_below), name, path, sources, written)
    return written


def _marked(pages: Sequence[PageLike], name: str, below: float | None) -> Sequence[PageLike]:
    """The pages with marks of doubt, where they are asked for and the format takes them."""
    return pages if below is None or name not in MARKED else mark_pages(pages, below)


def clean_noting(pages: Iterable[PageLike], names: Sequence[str]) -> tuple[list[TextPage], list[str]]:
    """The pages as every format can hold them, and a sentence for all that was changed or is left out.

    Args:
        names: the formats to be written; some of them hold nothing of a page whose lines nobody knows.
    """
    from nanoocr.formats.clean import clean

    cleaned = [clean(page) for page in pages]
    notes = [note for one in cleaned for note in one.notes]
    kept = [one.page for one in cleaned]
    return kept, [*notes, *_without_places(kept, names)]


def merge_pdf(pages: Iterable[PageLike], path: str | Path, sources: Sources | None = None) -> list[str]:
    """Write one searchable PDF of pages from any number of pictures and PDFs, in their order.

    Args:
        sources: what a page's `file` stands for where that is no path (bytes, an image).

    Returns:
        A sentence for everything that was changed or left out: characters, places of words, whole pages.

    Raises:
        UsageError: a page comes from the file that is to be written.
        OutputError: the file cannot be written, or not one of the pages can be shown.
    """
    from nanoocr.formats.clean import with_clean_names
    from nanoocr.formats.pdf import render_with_notes

    every, place = list(pages), Path(path)
    for name in dict.fromkeys(page.file for page in every):
        _refuse_input(place, name)
    cleaned, notes = clean_noting(every, ["pdf"])
    content, left_out = render_with_notes(cleaned, with_clean_names(every, cleaned, sources))
    save(place, content)
    return [*notes, *left_out]


def _write_document(
    document: Sequence[PageLike], name: str, path: Path, sources: Sources | None, written: Written
) -> None:
    """One input in one format: a file, or a file for each of its pages."""
    chosen = FORMATS[name]
    parts = [[page] for page in document] if chosen.per_page else [document]
    for part in parts:
        place = path
        if chosen.per_page:
            stem = path.name.removesuffix(chosen.suffix)
            place = path.with_name(f"{stem}{part_name(part[0], len(document) > 1)}{chosen.suffix}")
        _refuse_input(place, document[0].file)
        content = _render_noting(part, name, sources, written.notes)
        if content is not None:
            save(place, content)
            written.paths.append(place)


def _render_noting(
    pages: Sequence[PageLike], name: str, sources: Sources | None, notes: list[str]
) -> bytes | None:
    """The content of a file; None, and a note, for a PDF that would have no page."""
    if name != "pdf":
        content = render(pages, name)
        return content.encode("utf-8") if isinstance(content, str) else content
    try:
        from nanoocr.formats.pdf import render_with_notes

        pdf, left_out = render_with_notes(pages, sources)
    except ModuleNotFoundError as error:
        raise UsageError(f"the format pdf needs {error.name}: pip install {error.name}") from error
    except OutputError as error:
        notes.append(f"no PDF was written: {error}")
        return None
    notes.extend(left_out)
    return pdf


def _without_places(document: Sequence[PageLike], names: Sequence[str]) -> Iterable[str]:
    """Notes about pages whose text the chosen formats cannot hold, because its place is unknown."""
    with_places = [name for name in names if name not in _WITHOUT_PLACES]
    for page in document:
        if page.text.strip() and not page.lines and with_places:
            name = page.file if page.page == 1 else f"{page.file}, page {page.page}"
            yield f"{name}: its text has no places, so {', '.join(with_places)} hold none of it."


def name_outputs(places: Sequence[PurePath], numbered: bool = False) -> list[PurePath]:
    """A path without suffix for each input's files, all of them different; folders are kept.

    Inputs of the same name in one folder keep their suffix, and then get a number. With `numbered`, pages
    have files of their own; then `scan-0002.png` keeps its suffix beside `scan.tif`, as page 2 of that is
    called so.
    """
    whole = [_shorter(place.with_name(place.name.lstrip("-") or "page")) for place in places]
    short = [place.with_suffix("") for place in whole]
    counts = Counter(short)
    taken: set[PurePath] = set()
    stems: list[PurePath] = []
    for place, stem in zip(whole, short, strict=True):
        page_of = stem.with_name(_PAGE_NUMBER.sub("", stem.name) or stem.name)
        is_free = counts[stem] == 1 and not (numbered and page_of != stem and page_of in counts)
        name = stem if is_free else place
        number, candidate = 1, name
        while candidate in taken:
            number += 1
            candidate = name.with_name(f"{name.name}-{number}")
        taken.add(candidate)
        stems.append(candidate)
    return stems


def _shorter(place: PurePath) -> PurePath:
    """A path whose name leaves room for the suffix of a format, a page's number, and a temporary name."""
    name = os.fsencode(place.name)
    if len(name) <= MOST_NAME:
        return place
    end = os.fsencode(place.suffix)[-MOST_SUFFIX:]
    # A character that is cut in two is left out.
    start = name[: MOST_NAME - len(end)].decode("utf-8", "ignore")
    return place.with_name(start + os.fsdecode(end))


def part_name(page: PageLike, several: bool) -> str:
    """The suffix of a page's own file: the page's number, if the input has several pages."""
    return f"-{page.page:04d}" if several or page.page > 1 else ""


def _refuse_input(path: Path, source: str) -> None:
    """Raise UsageError if the output would overwrite what was read."""
    try:
        same = path.exists() and path.samefile(source)
    except (OSError, ValueError):  # the input is no file, or its name is none
        return
    if same:
        raise UsageError(f"{path} is to be written, but it is what was read: name another folder")


def save(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, also where a link leads to it; a pipe or a device is written to.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        if not is_stream(path):
            write_file(Path(os.path.realpath(path)) if path.is_symlink() else path, content)
            return
        with path.open("ab") as stream:
            stream.write(content)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}") from error
