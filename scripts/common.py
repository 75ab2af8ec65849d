"""Helpers that several scripts share: stopwatch, memory, the typed command, output."""

from __future__ import annotations

import json
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from nanoocr.errors import OutputError, UsageError
from nanoocr.files import write_file
from nanoocr.machine import counted


def refuse_below(config: object, **least: float) -> None:
    """Refuse flags below their least values, as in `refuse_below(self, pages=1)`.

    Raises:
        UsageError: a sentence that names the flag.
    """
    for name, bound in least.items():
        if not getattr(config, name) >= bound:
            raise UsageError(f"--{name}={getattr(config, name)}: give at least {bound:g}")


def refuse_missing(flag: str, *paths: str | Path) -> None:
    """Refuse names of files and folders that are not there.

    Raises:
        UsageError: a sentence that names the flag and the first such path.
    """
    for path in paths:
        if not Path(path).exists():
            raise UsageError(f"{flag}: {path} does not exist")


@contextmanager
def folder_or_temporary(named: str) -> Iterator[Path]:
    """The named folder, which stays; for "" a temporary one, which is deleted at the end."""
    if named:
        yield Path(named)
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def timed(function: Callable[[], Any], device: torch.device) -> float:
    """Seconds of one call; on a GPU this waits until the work is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    function()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def resident() -> int:
    """Bytes that this process holds now.

    Raises:
        UsageError: the system does not say.
    """
    if (held := counted("VmRSS")) is None:
        raise UsageError("memory is read from /proc, which this system does not have")
    return held


def write_json(path: str | Path, data: Mapping[str, Any]) -> None:
    """Write `data` as a JSON file, whole or not at all.

    Raises:
        OutputError: the place is not writable.
    """
    try:
        write_file(Path(path), json.dumps(data, indent=1, ensure_ascii=False).encode())
    except OSError as error:
        raise OutputError(f"--json={path} cannot be written ({error.strerror})") from error


def command_line(module: str, argv: Sequence[str] | None) -> str:
    """The command that the user typed, for the record."""
    return shlex.join(["python", "-m", module, *(sys.argv[1:] if argv is None else argv)])
