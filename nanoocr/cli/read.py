"""The command `nanoocr read`: files in, their text out, and what went wrong on stderr.

Heavy imports stand inside the functions, so that --help and a mistyped flag answer at once.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from nanoocr.cli.output import empty, opened, write
from nanoocr.errors import PictureError, UsageError

if TYPE_CHECKING:
    from rich.progress import Progress

    from nanoocr.inference.reader import Page
    from nanoocr.pages import PageRanges, Picture

# What a folder is searched for; a file that is named outright is judged by its content alone.
SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".pdf"))

NOTHING_READ, SOME_FAILED = 3, 5


# ---------------------------------------------------------------------------------------------------
# The files


class Input(NamedTuple):
    """One file to read, by path or (stdin) by content; or why there is none."""

    name: str
    source: Path | bytes | None = None
    error: PictureError | None = None


def read_command(arguments: argparse.Namespace) -> int:
    """Read everything, report as it comes, and say in the exit code how it went."""
    from nanoocr.pages import parse_pages

    pages = parse_pages(arguments.pages)
    inputs = find_inputs(arguments.files)
    _refuse_overwriting(arguments.output, inputs)
    headed = len(arguments.files) > 1 or any(map(os.path.isdir, arguments.files))
    counts = {"read": 0, "failed": 0}
    with opened(arguments.output) as out, _bar(arguments.quiet, len(inputs)) as bar:
        written: Page | None = None
        ends: list[int] = []
        for page in _read_pages(arguments, inputs, pages, ends):
            if not any(counts.values()):
                empty(out, arguments.output)
            with _paused(bar):
                text = f"{page.to_json()}\n" if arguments.json else _as_text(page, written, headed)
                write(out, text, arguments.output)
                _report(page, arguments.quiet, brief=bar is not None)
            counts["failed" if page.status == "error" else "read"] += 1
            _advance(bar, sum(counts.values()), ends)
            written = written if page.status == "error" else page
    total = sum(counts.values())
    if total > 1 and not arguments.quiet:
        print(f"read {counts['read']} of {total} pages", file=sys.stderr)
    if counts["failed"]:
        return SOME_FAILED if counts["read"] else NOTHING_READ
    return 0


def find_inputs(names: Sequence[str]) -> list[Input]:
    """Files in the order named, folders replaced by what is in them, in name order.

    Raises:
        UsageError: `-` is named twice; stdin can be read once.
    """
    if names.count("-") > 1:
        raise UsageError("- (stdin) is named twice, but it can be read only once")
    inputs: list[Input] = []
    for name in names:
        if name == "-":
            inputs.append(Input(name))
        elif os.path.isdir(name):
            inputs.extend(_search(Path(name)))
        else:
            inputs.append(Input(_shown(name), Path(name)))
    return inputs


def _search(folder: Path) -> list[Input]:
    """The pictures and PDFs below a folder; hidden files and folders are left out."""
    found: list[Path] = []
    failed: list[Input] = []

    def note(error: OSError) -> None:
        name = _shown(str(error.filename or folder))
        failed.append(Input(name, error=PictureError(f"{name} cannot be searched: {error.strerror}.")))

    for where, folders, files in os.walk(folder, onerror=note):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            Path(where, name)
            for name in files
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES
        ]
    if not found and not failed:
        name = _shown(str(folder))
        failed.append(Input(name, error=PictureError(f"{name} holds no pictures or PDFs.", kind="empty")))
    return [*(Input(_shown(str(path)), path) for path in sorted(found, key=lambda path: path.parts)), *failed]


def _refuse_overwriting(output: str, inputs: Sequence[Input]) -> None:
    """Raises UsageError where the results would take the place of a picture."""
    if output == "-" or not os.path.exists(output):
        return
    for item in inputs:
        path = item.source
        if isinstance(path, Path) and os.path.exists(path) and os.path.samefile(path, output):
            raise UsageError(f"--output={output} is {item.name}, which is to be read: name another file")


def _shown(name: str) -> str:
    """A file name as valid UTF-8, which file systems do not promise."""
    return os.fsencode(name).decode("utf-8", "replace")


def _read_pages(
    arguments: argparse.Namespace, inputs: list[Input], pages: PageRanges, ends: list[int]
) -> Iterator[Page]:
    """The pages of all inputs, in order; `ends` as in `_pictures`."""
    from nanoocr.inference.reader import Reader, make_page

    pictures = _pictures(inputs, pages, ends)
    if not any(_may_be_readable(item) for item in inputs):
        # No model is needed to say that there is nothing to read.
        yield from (make_page(picture, None, 0.0) for picture in pictures)
        return
    reader = Reader(
        arguments.model,
        device=arguments.device,
        dtype=arguments.dtype,
        max_batch=arguments.max_batch,
        mode=arguments.mode,
    )
    yield from reader.read_pictures(pictures, arguments.prompt, max_tokens=arguments.max_tokens)


def _pictures(inputs: list[Input], pages: PageRanges, ends: list[int]) -> Iterator[Picture]:
    """The pages of all inputs, opened as they are asked for.

    `ends` gets the number of pages up to the end of each input, once that is opened to its end.
    """
    count = 0
    for item in inputs:
        for picture in _open(item, pages):
            count += 1
            yield picture
        ends.append(count)


def _open(item: Input, pages: PageRanges) -> Iterator[Picture]:
    from nanoocr.pages import Picture, open_source

    if item.error is not None:
        return iter([Picture(item.name, 1, error=item.error)])
    return open_source(_stdin() if item.source is None else item.source, item.name, pages)


def _may_be_readable(item: Input) -> bool:
    # Not Path.exists, which raises where a folder is closed to us or a name is too long.
    return item.error is None and (not isinstance(item.source, Path) or os.path.exists(item.source))


def _stdin() -> bytes:
    from nanoocr.pages import MAX_BYTES

    if sys.stdin is None:
        raise UsageError("- (stdin) cannot be read: it is closed")
    return sys.stdin.buffer.read(MAX_BYTES + 1)  # one more than is allowed: not cut, but refused


# ---------------------------------------------------------------------------------------------------
# What is said of a page


def _as_text(page: Page, before: Page | None, headed: bool) -> str:
    """The text of a page with what sets it apart from the page written before."""
    if page.status == "error":
        return ""
    if before is not None and before.file == page.file:
        return f"\f{page.text}\n"
    header = f"==> {page.file} <==\n" if headed else ""
    return f"{header if before is None else chr(10) + header}{page.text}\n"


def _report(page: Page, quiet: bool, brief: bool) -> None:
    """One line on stderr; `brief` leaves out the pages that went well, which the bar counts."""
    name = page.file if page.page == 1 else f"{page.file}, page {page.page}"
    if page.status == "error":
        print(f"error: {page.error}", file=sys.stderr)
    elif quiet:
        return
    elif page.status != "ok":
        print(f"warning: {name}: the text is cut off ({page.status})", file=sys.stderr)
    elif not brief:
        print(f"{name}: ok, {page.tokens.text} tokens, {page.seconds:.2f} s", file=sys.stderr)


@contextlib.contextmanager
def _bar(quiet: bool, total: int) -> Iterator[Progress | None]:
    """A progress bar over the inputs where stderr is a terminal, else None."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn

    columns = (*Progress.get_default_columns(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        bar.add_task("reading", total=total)
        yield bar


def _advance(bar: Progress | None, count: int, ends: list[int]) -> None:
    """Show that `count` pages have been read: inputs are opened ahead of that, a batch at a time."""
    if bar is not None:
        done = bisect_right(ends, count)
        bar.update(bar.task_ids[0], completed=done, description=f"reading, pages done: {count}")


@contextlib.contextmanager
def _paused(bar: Progress | None) -> Iterator[None]:
    """Take the bar off the terminal while text is printed: both may be the same screen."""
    if bar is not None:
        bar.stop()
    yield
    if bar is not None:
        bar.start()
