"""Progress of long work on stderr: a bar with ETA on a terminal, occasional plain lines elsewhere.

All bars of the project come from `make_bar`, so that they look alike.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

T = TypeVar("T")

LINE_EVERY = 10.0  # seconds between two plain lines


def track(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """Yield the `total` items, and show on stderr how many have passed."""
    return _bar(items, total, what) if sys.stderr.isatty() else _lines(items, total, what)


def make_bar(console: Console | None = None, *, disable: bool = False, transient: bool = False) -> Progress:
    """A bar with a counter and the remaining time, for work that does not come item by item.

    Args:
            console: where the bar is drawn; None means stderr.
            disable: draw nothing, but accept every call.
            transient: remove the bar from the screen at the end.
    """
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console or Console(stderr=True),
        disable=disable,
        transient=transient,
    )


def _bar(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    with make_bar() as progress:
        yield from progress.track(items, total=total, description=what)


def _lines(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    started = said = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if done == total or now - said >= LINE_EVERY:
            said = now
            left = clock((now - started) / done * (total - done))
            print(f"{what}: {done} of {total} in {clock(now - started)}, {left} left", file=sys.stderr)


def clock(seconds: float) -> str:
    """3723.4 as 1:02:03."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
