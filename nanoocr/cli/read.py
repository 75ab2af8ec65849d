"""The command `nanoocr read`: prints the text of files, and reports problems on stderr.

Heavy imports stand inside the functions, so that --help and mistyped flags are answered at once.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from nanoocr.cli.flags import reader_choice
from nanoocr.cli.inputs import Input, find_inputs
from nanoocr.cli.results import choose_overlays, choose_target, open_results
from nanoocr.commandline import on_one_line
from nanoocr.errors import UsageError

if TYPE_CHECKING:
    from PIL import Image
    from rich.progress import Progress

    from nanoocr.inference.page import Page
    from nanoocr.pages import PageRanges, Picture

NOTHING_READ, SOME_FAILED = 3, 5


@dataclass
class OpenInputs:
    """The inputs, and how far they are opened: opening runs ahead of reading by a batch.

    `waiting` has an entry for each page that is opened and not yet read: the number of its input and, for an
    overlay, its pixels. `ends` gets the number of pages up to the end of each input, once that input is
    opened to its end. `sources` maps the names of pages to their files or contents.
    """

    inputs: list[Input]
    pages: PageRanges
    keeps_pixels: bool
    sources: dict[str, Path | bytes]
    waiting: deque[tuple[int, Image.Image | None]] = field(default_factory=deque)
    ends: list[int] = field(default_factory=list)


def read_command(arguments: argparse.Namespace) -> int:
    """Read everything, report each page as it comes, and return the exit code."""
    from nanoocr.pages import parse_pages

    target = choose_target(arguments.format, arguments.json, arguments.output, arguments.mark_below)
    pages = parse_pages(arguments.pages)
    found = find_inputs(arguments.files)
    if (told := found.told()) and not arguments.quiet:
        print(told, file=sys.stderr)
    sources: dict[str, Path | bytes] = {item.name: item.source for item in found.files if item.source}
    opening = OpenInputs(found.files, pages, arguments.overlay is not None, sources)
    headed = len(arguments.files) > 1 or any(map(os.path.isdir, arguments.files))
    overlays = choose_overlays(arguments.overlay, arguments.overlay_format, opening.inputs)
    counts = {"read": 0, "failed": 0}
    with (
        open_results(target, opening.inputs, headed, sources, arguments.quiet) as results,
        _bar(arguments.quiet, len(opening.inputs)) as bar,
    ):
        for page in _read_pages(arguments, opening):
            number, image = opening.waiting.popleft()
            with _paused(bar):
                results.add(page, number)
                _report(page, arguments.quiet, brief=bar is not None)
            if overlays is not None:
                overlays.add(page, number, image)
            counts["failed" if page.status == "error" else "read"] += 1
            _advance(bar, sum(counts.values()), opening.ends)
        with _paused(bar):
            results.finish()
    return _summary(counts, arguments.quiet)


def _summary(counts: dict[str, int], quiet: bool) -> int:
    """Print how many pages were read; returns the exit code."""
    total = sum(counts.values())
    if total > 1 and not quiet:
        print(f"read {counts['read']} of {total} pages", file=sys.stderr)
    if counts["failed"]:
        return SOME_FAILED if counts["read"] else NOTHING_READ
    return 0


def _read_pages(arguments: argparse.Namespace, opening: OpenInputs) -> Iterator[Page]:
    """Yield the pages of all inputs, in order."""
    from nanoocr.formats.marks import check_marks
    from nanoocr.inference.page import make_page
    from nanoocr.inference.reader import choose_device
    from nanoocr.machine import note_on_dtype

    pictures = _pictures(opening)
    if not any(_may_be_readable(item) for item in opening.inputs):
        # If no input can be opened, the errors can be reported without loading a model.
        yield from (make_page(picture, None, 0.0) for picture in pictures)
        return
    reader = reader_choice(arguments, arguments.max_batch).load(arguments.threads)
    if told := note_on_dtype(arguments.dtype, choose_device(arguments.device)):
        print(told, file=sys.stderr)
    check_marks(arguments.mark_below, reader.by_lines)
    yield from reader.read_pictures(pictures, arguments.prompt, max_tokens=arguments.max_tokens)


def _pictures(opening: OpenInputs) -> Iterator[Picture]:
    """Yield the pictures of all inputs, each opened when it is asked for."""
    count = 0
    for number, item in enumerate(opening.inputs):
        for picture in _open(item, opening):
            count += 1
            opening.waiting.append((number, picture.image if opening.keeps_pixels else None))
            yield picture
        opening.ends.append(count)


def _open(item: Input, opening: OpenInputs) -> Iterator[Picture]:
    from nanoocr.pages import Picture, open_source

    if item.error is not None:
        return iter([Picture(item.name, 1, error=item.error)])
    if item.source is None:
        # A PDF of the results shows the picture again, so its source is kept.
        opening.sources[item.name] = _stdin()
    return open_source(opening.sources[item.name], item.name, opening.pages)


def _may_be_readable(item: Input) -> bool:
    # Not Path.exists, which raises where a folder is closed to us or a name is too long.
    return item.error is None and (not isinstance(item.source, Path) or os.path.exists(item.source))


def _stdin() -> bytes:
    from nanoocr.pages import MAX_BYTES

    if sys.stdin is None:
        raise UsageError("- (stdin) cannot be read: it is closed")
    # one byte more than allowed, so that a longer input is refused and not cut
    return sys.stdin.buffer.read(MAX_BYTES + 1)


# ---------------------------------------------------------------------------------------------------
# Reports about a page


def _report(page: Page, quiet: bool, brief: bool) -> None:
    """Print one line on stderr; `brief` leaves out pages that went well, because the bar counts them."""
    name = on_one_line(page.file if page.page == 1 else f"{page.file}, page {page.page}")
    if page.status == "error":
        print(on_one_line(f"error: {page.error}"), file=sys.stderr)
    elif quiet:
        return
    elif page.status == "doubtful":
        print(f"warning: {name}: the text is doubtful: {page.doubt}", file=sys.stderr)
    elif page.status != "ok":
        print(f"warning: {name}: the text is cut off ({page.status})", file=sys.stderr)
    elif not brief:
        print(f"{name}: ok, {page.tokens.text} tokens, {page.seconds:.2f} s", file=sys.stderr)
    if page.left_out and not quiet:
        places = "1 place" if page.left_out == 1 else f"{page.left_out} places"
        print(f"{name}: {places} left out, too doubtful for --min_confidence", file=sys.stderr)


@contextlib.contextmanager
def _bar(quiet: bool, total: int) -> Iterator[Progress | None]:
    """A progress bar over the inputs if stderr is a terminal, else None."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from nanoocr.progress import make_bar  # importing rich takes a tenth of a second

    with make_bar(transient=True) as bar:
        bar.add_task("reading", total=total)
        yield bar


def _advance(bar: Progress | None, count: int, ends: list[int]) -> None:
    """Show that `count` pages have been read. Inputs are opened ahead of that, by a batch."""
    if bar is not None:
        done = bisect_right(ends, count)
        bar.update(bar.task_ids[0], completed=done, description=f"reading, pages done: {count}")


@contextlib.contextmanager
def _paused(bar: Progress | None) -> Iterator[None]:
    """Take the bar off the terminal while text is printed, since both may use the same screen."""
    if bar is not None:
        bar.stop()
    yield
    if bar is not None:
        bar.start()
