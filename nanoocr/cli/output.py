"""Writes the results of a command to stdout or a file, and flushes each piece at once."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from nanoocr.errors import OutputError
from nanoocr.files import is_stream


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
    check_parent(output)
    try:
        file = open(output, "a", encoding="utf-8")  # noqa: SIM115 - closed below
    except OSError as error:
        raise OutputError(f"{output} cannot be written: {error.strerror}") from error
    try:
        yield file
    finally:
        try:
            file.close()  # what could not be written is tried once more
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(f"{output} cannot be written: {error.strerror}") from error


def check_parent(output: str) -> None:
    """Raise OutputError, which names the mend, where there is no folder for the file."""
    parent = os.path.dirname(output) or "."
    if not os.path.isdir(parent):
        missing = "is a file, not a folder" if os.path.exists(parent) else "is no folder: make it first"
        raise OutputError(f"{output} cannot be written: {parent} {missing}")


def empty(out: TextIO, output: str) -> None:
    """Drop the results of an older run. stdout, a pipe or a device keeps what it received."""
    if output != "-" and not is_stream(Path(output)):
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
