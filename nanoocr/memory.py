"""What memory a process holds and has held."""

from __future__ import annotations

import resource
import sys
from pathlib import Path
from typing import Literal


def counted(counter: Literal["VmRSS", "VmHWM"], pid: int | str | None = "self") -> int | None:
    """Bytes that a process holds (VmRSS) or has held at most (VmHWM); None where no /proc tells."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(f"{counter}:")), None)


def peak_resident() -> int:
    """The most bytes that this process has held.

    On Linux by its own high-water mark: what getrusage tells begins with what the parent held.
    """
    return counted("VmHWM") or peak_of_usage(resource.RUSAGE_SELF)


def peak_of_usage(who: int) -> int:
    """getrusage's peak in bytes, RUSAGE_SELF or, of the largest process it started, RUSAGE_CHILDREN."""
    return resource.getrusage(who).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
