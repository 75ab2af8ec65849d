"""What `nanoocr read` writes: text or JSON page by page, one document, or a folder of files."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TextIO

from nanoocr.cli.inputs import Input
from nanoocr.cli.output import check_parent, empty, opened, write
from nanoocr.errors import OutputError, UsageError

if TYPE_CHECKING:
    from PIL import Image

    from nanoocr.inference.page import Page

TEXT = ("txt",)
OVERLAY_KINDS = ("png", "svg")


@dataclass(frozen=True)
class Target:
    """Where the results go: one file or stdout (`-`), or a folder that gets files for each input."""

    formats: tuple[str, ...]
    output: str
    is_folder: bool = False
    json_lines: bool = False
    mark_below: float | None = None  # words of less confidence are marked in text and Markdown


class Results(Protocol):
    """Takes the pages in order. `number` counts the inputs from 0."""

    def add(self, page: Page, number: int) -> None:
        """Take the next page of input `number`."""

    def finish(self) -> None:
        """Write everything that is still held back. No page comes after this."""


def choose_target(
    formats: str | None, json_lines: bool, output: str, mark_below: float | None = None
) -> Target:
    """What --format, --json, --output and --mark_below mean together.

    Raises:
        UsageError: they contradict each other, or there is no such format.
    """
    if not output:
        raise UsageError("--output is empty: name a file, a folder (DIR/), or - for the screen")
    if json_lines and formats is not None:
        raise UsageError("--json gives JSON lines, so it goes without --format: leave one of them out")
    names = tuple(dict.fromkeys(name.strip() for name in (formats or "txt").split(",")))
    from nanoocr.formats import find_format
    from nanoocr.formats.marks import check_formats

    for name in names:
        find_format(name)
    check_formats(mark_below, ("JSON",) if json_lines else names)
    # Several formats cannot share a file, so an output that does not exist yet must be a folder.
    is_new = output != "-" and not Path(output).exists()
    if output.endswith("/") or Path(output).is_dir() or (len(names) > 1 and is_new):
        return Target(("json",) if json_lines else names, output, is_folder=True, mark_below=mark_below)
    if len(names) > 1:
        raise UsageError(f"--format={','.join(names)} writes several files: name a folder, as in -o texts/")
    if names == ("pdf",) and output == "-":
        raise UsageError("a PDF is no text for the screen: name its file, as in -o scan.pdf")
    return Target(names, output, json_lines=json_lines, mark_below=mark_below)


@contextmanager
def open_results(
    target: Target, inputs: Sequence[Input], headed: bool, sources: Mapping[str, Path | bytes], quiet: bool
) -> Iterator[Results]:
    """Open the object that takes the pages. A place that cannot be written is reported before any work.

    Raises:
        UsageError: the results would overwrite an input.
        OutputError: the file or folder cannot be written.
    """
    if target.is_folder:
        from nanoocr.formats import FORMATS

        numbered = any(FORMATS[name].per_page for name in target.formats)
        stems = name_stems(target.output, inputs, numbered)
        yield Folder(target, stems, inputs, sources, quiet)
        return
    if target.output != "-":
        refuse_overwriting([target.output], inputs)
    if target.formats == TEXT:
        with opened(target.output) as out:
            yield Stream(target, out, headed)
        return
    check_parent(target.output)
    yield Document(target, inputs, sources, quiet)


# ---------------------------------------------------------------------------------------------------
# Page by page


@dataclass
class Stream:
    """Text or JSON lines. Each page is written as soon as it is read, so an interruption loses nothing."""

    target: Target
    out: TextIO
    headed: bool
    before: tuple[Page, int] | None = None  # the last written page and its input
    begun: bool = False

    def add(self, page: Page, number: int) -> None:
        """Write one page."""
        if not self.begun:
            empty(self.out, self.target.output)
            self.begun = True
        text = f"{page.to_json()}\n" if self.target.json_lines else self._as_text(page, number)
        write(self.out, text, self.target.output)

    def finish(self) -> None:
        """Do nothing: every page is already written."""

    def _as_text(self, page: Page, number: int) -> str:
        """The text of a page, with a separator from the page written before."""
        if page.status == "error":
            return ""
        before, self.before = self.before, (page, number)
        said = self._marked(page)
        if before is not None and before[1] == number:
            return f"\f{said}\n"
        header = f"==> {page.file} <==\n" if self.headed else ""
        return f"{header if before is None else chr(10) + header}{said}\n"

    def _marked(self, page: Page) -> str:
        """The text of a page, with marks of doubt where they are asked for."""
        if self.target.mark_below is None:
            return page.text
        from nanoocr.formats.marks import mark_page

        return mark_page(page, self.target.mark_below).text


# ---------------------------------------------------------------------------------------------------
# One document


@dataclass
class Document:
    """All pages in one file or on stdout, in one format; written at the end."""

    target: Target
    inputs: Sequence[Input]
    sources: Mapping[str, Path | bytes]
    quiet: bool
    pages: list[Page] = field(default_factory=list)

    def __post_init__(self) -> None:
        if len(self.inputs) > 1:
            self._refuse_several()

    def add(self, page: Page, number: int) -> None:
        """Keep one page."""
        self.pages.append(page)
        if len(self.pages) > 1:
            self._refuse_several()

    def finish(self) -> None:
        """Write the document. If no page could be read, the results of an older run stay."""
        from nanoocr.formats import clean_noting, merge_pdf, render, save

        (name,) = self.target.formats
        output = self.target.output
        if all(page.status == "error" for page in self.pages):
            return
        if name == "pdf":
            tell(merge_pdf(self.pages, output, self.sources), self.quiet)
            return
        pages, notes = clean_noting(self.pages, [name])
        tell(notes, self.quiet)
        content = render(pages, name, mark_below=self.target.mark_below)
        if output == "-":
            with opened(output) as out:
                write(out, content if isinstance(content, str) else content.decode(), output)
        else:
            save(Path(output), content.encode() if isinstance(content, str) else content)

    def _refuse_several(self) -> None:
        from nanoocr.formats import find_format

        (name,) = self.target.formats
        if find_format(name).per_page:
            raise UsageError(f"--format={name} writes a file for each page: name a folder, as in -o texts/")


# ---------------------------------------------------------------------------------------------------
# A folder


@dataclass
class Folder:
    """Files for each input, named after it, and written as soon as its last page is read."""

    target: Target
    stems: Sequence[Path]
    inputs: Sequence[Input]
    sources: Mapping[str, Path | bytes]
    quiet: bool
    number: int = -1
    pages: list[Page] = field(default_factory=list)

    def __post_init__(self) -> None:
        from nanoocr.formats import FORMATS

        suffixes = [FORMATS[name].suffix for name in self.target.formats]
        refuse_overwriting([f"{stem}{end}" for stem in self.stems for end in suffixes], self.inputs)
        make_folder(self.target.output)

    def add(self, page: Page, number: int) -> None:
        """Keep one page. If it begins another input, write the pages of the input before."""
        if number != self.number:
            self.finish()
            self.number = number
        self.pages.append(page)

    def finish(self) -> None:
        """Write the pages of the last input. An input that could not be read at all gets no files."""
        from nanoocr.formats import write_document

        pages, self.pages = self.pages, []
        if any(page.status != "error" for page in pages):
            target = self.target
            stem = self.stems[self.number]
            done = write_document(pages, target.formats, stem, self.sources, target.mark_below)
            tell(done.notes, self.quiet)


@dataclass
class Overlays:
    """Pictures of the pages with the words that were read drawn on them; `kinds` are of OVERLAY_KINDS."""

    folder: str
    kinds: Sequence[str]
    stems: Sequence[Path]
    inputs: Sequence[Input]

    def __post_init__(self) -> None:
        self._refuse([self._place(stem, 1, kind) for stem in self.stems for kind in self.kinds])
        make_folder(self.folder)

    def add(self, page: Page, number: int, image: Image.Image | None) -> None:
        """Draw one page. A page that could not be opened has no picture to draw on."""
        if image is None:
            return
        from nanoocr.formats import save
        from nanoocr.formats.overlay import draw, draw_svg, picture_uri

        for kind in self.kinds:
            path = self._place(self.stems[number], page.page, kind)
            self._refuse([path])
            if kind == "svg":
                save(path, draw_svg(page, picture_uri(image)).encode("utf-8"))
                continue
            content = io.BytesIO()
            draw(page, image).save(content, "PNG")
            save(path, content.getvalue())

    def _place(self, stem: Path, page: int, kind: str) -> Path:
        several = f"-{page:04d}" if page > 1 else ""
        return stem.with_name(f"{stem.name}{several}.overlay.{kind}")

    def _refuse(self, paths: Sequence[Path]) -> None:
        refuse_overwriting(map(str, paths), self.inputs, "--overlay")


def choose_overlays(folder: str | None, kinds: str | None, inputs: Sequence[Input]) -> Overlays | None:
    """What --overlay and --overlay_format mean together; None if no overlay is asked for.

    Raises:
        UsageError: they contradict each other, there is no such format, or an input would be overwritten.
        OutputError: the folder cannot be made.
    """
    if folder is None:
        if kinds is not None:
            raise UsageError(
                "--overlay_format goes with --overlay=DIR, which names the folder for the drawings"
            )
        return None
    if not folder:
        raise UsageError("--overlay is empty: name the folder for the drawings, as in --overlay=look")
    names = tuple(dict.fromkeys(name.strip() for name in (kinds or OVERLAY_KINDS[0]).split(",")))
    for name in names:
        if name not in OVERLAY_KINDS:
            raise UsageError(f"unknown overlay format {name!r}: choose {', '.join(OVERLAY_KINDS)}")
    return Overlays(folder, names, name_stems(folder, inputs, numbered=True), inputs)


# ---------------------------------------------------------------------------------------------------
# Names and notes


def name_stems(folder: str, inputs: Sequence[Input], numbered: bool) -> list[Path]:
    """A path without suffix in the folder for each input; `numbered` as of `name_outputs`."""
    from nanoocr.formats import name_outputs

    return [Path(folder, stem) for stem in name_outputs([item.place for item in inputs], numbered)]


def make_folder(folder: str) -> None:
    """Make the folder. Raises OutputError where that fails."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise OutputError(f"{folder} cannot be written: there is a file of that name") from error
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {error.strerror}") from error


def refuse_overwriting(outputs: Iterable[str], inputs: Sequence[Input], flag: str = "--output") -> None:
    """Raise UsageError if results would overwrite an input, under whatever name."""
    names = {identity(item.source): item.name for item in reversed(inputs) if item.source is not None}
    for output in outputs:
        file = identity(Path(output))
        if file is not None and file in names:
            raise UsageError(f"{flag}={output} is {names[file]}, which is to be read: name another file")


def identity(path: Path) -> tuple[int, int] | None:
    """What identifies a file whatever its path is; None where there is no file to be seen."""
    try:
        status = path.stat()
    except (OSError, ValueError):  # ValueError: the path holds a NUL byte
        return None
    return status.st_dev, status.st_ino


def tell(notes: Sequence[str], quiet: bool) -> None:
    """Print, one line each on stderr, what was changed or left out in a file."""
    for note in () if quiet else notes:
        print(f"note: {note}", file=sys.stderr)
