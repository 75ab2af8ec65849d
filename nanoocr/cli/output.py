"""Writes the results of a command to stdout or a file, and flushes each piece at once."""

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
    """Open the file for the results, before the work, so that a bad path costs no time.

    The results of an older run stay in it until the first page arrives: see `empty`.
    """
    if output == "-":
        if sys.stdout is None:
            raise OutputError("stdout cannot be written: it is closed")
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(encoding="utf-8")  # the texts are Unicode, whatever the locale is
        yield sys.stdout
        return
    try:
        file = open(output, "a", encoding="utf-8")  # noqa: SIM115 - closed below
    except OSError as error:
        raise OutputError(f"{output} cannot be written: {error.strerror}") from error
    with file:
        yield file


def empty(out: TextIO, output: str) -> None:
    """Drop the results of an older run. stdout, a pipe or a device keeps what it received."""
    if output != "-" and stat.S_ISREG(os.fstat(out.fileno()).st_mode):
        out.truncate(0)


def write(out: TextIO, text: str, output: str) -> None:
    """Write and flush, so that everything read so far survives a later failure."""
    try:
        out.write(text)
        out.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        if output == "-":
            # Python flushes stdout once more at exit, so it needs a sink.
            os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
        name = "stdout" if output == "-" else output
        raise OutputError(f"{name} cannot be written: {error.strerror}") from error
