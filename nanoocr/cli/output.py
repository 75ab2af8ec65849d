"""Where the results of a command go: stdout or a file, each piece flushed as soon as it is there."""

from __future__ import annotations

import contextlib
import io
import os
import stat
import sys
from collections.abc import Iterator
from typing import TextIO

from nanoocr.errors import OutputError


@contextlib.contextmanager
def opened(output: str) -> Iterator[TextIO]:
    """The file for the results; opened before the work, so that a bad path costs no time.

    What an older run wrote stays in it until the first page arrives: see `empty`.
    """
    if output == "-":
        if sys.stdout is None:
            raise OutputError("stdout cannot be written: it is closed")
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(encoding="utf-8")  # the texts are Unicode, whatever the locale
        yield sys.stdout
        return
    try:
        file = open(output, "a", encoding="utf-8")  # noqa: SIM115 - closed below
    except OSError as error:
        raise OutputError(f"{output} cannot be written: {error.strerror}") from error
    with file:
        yield file


def empty(out: TextIO, output: str) -> None:
    """Drop what an older run wrote; stdout, a pipe or a device keeps what it has got."""
    if output != "-" and stat.S_ISREG(os.fstat(out.fileno()).st_mode):
        out.truncate(0)


def write(out: TextIO, text: str, output: str) -> None:
    """Write and flush, so that what was read survives whatever comes next."""
    try:
        out.write(text)
        out.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        if output == "-":
            # Python flushes stdout once more at exit; give it a sink.
            os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
        name = "stdout" if output == "-" else output
        raise OutputError(f"{name} cannot be written: {error.strerror}") from error
