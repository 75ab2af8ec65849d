"""Facts about this machine and process: memory, processor, threads, devices."""

from __future__ import annotations

import datetime
import os
import platform
import resource
import sys
from pathlib import Path
from typing import Any, Literal

import torch

from nanoocr.errors import UsageError

# ---------------------------------------------------------------------------------------------------
# Memory


def counted(counter: Literal["VmRSS", "VmHWM"], pid: int | str | None = "self") -> int | None:
    """Bytes that a process holds (VmRSS) or has held at most (VmHWM); None where there is no /proc."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(f"{counter}:")), None)


def peak_resident() -> int:
    """The most bytes that this process has held.

    On Linux this is the process's own high-water mark, because getrusage starts from the parent's memory.
    """
    return counted("VmHWM") or peak_of_usage(resource.RUSAGE_SELF)


def peak_of_usage(who: int) -> int:
    """getrusage's peak in bytes: of this process (RUSAGE_SELF) or of its largest child (RUSAGE_CHILDREN)."""
    return resource.getrusage(who).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


# ---------------------------------------------------------------------------------------------------
# Processor


def choose_threads(threads: int | None = None) -> int:
    """How many torch threads to use: the given number, or as many as there are idle processors.

    A thread that waits for a processor holds up all other threads of a layer. Beside a training run on two
    processors, two threads read a page 50 to 100 times slower than one. So without a number this looks at the
    machine's load, and obeys OMP_NUM_THREADS.

    Raises:
        UsageError: the number is above this machine's processors, or below one.
    """
    processors = os.cpu_count() or 1
    if threads is not None:
        if not 1 <= threads <= processors:
            raise UsageError(f"--threads={threads}: this machine has {processors}, as in --threads=1")
        return threads
    if "OMP_NUM_THREADS" in os.environ or not hasattr(os, "getloadavg"):
        return 0
    idle = processors - round(os.getloadavg()[0])
    return max(1, min(idle, torch.get_num_threads()))


def has_fast_bf16(device: str) -> bool:
    """Does the device multiply bf16 in hardware? Emulated bf16 is slower than fp32."""
    if device.startswith("cuda"):
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    # Processors with AMX, whose kernels torch takes by itself, have these instructions too.
    return device == "cpu" and bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())


def note_on_dtype(dtype: str, device: torch.device) -> str:
    """A sentence if bfloat16 was asked for on a device that only emulates it; empty otherwise."""
    if dtype != "bfloat16" or device.type == "mps" or has_fast_bf16(device.type):
        return ""
    return f"note: this {device.type} has no instructions for bfloat16: --dtype=float32 is faster"


def use_threads(threads: int) -> None:
    """Set the number of torch threads; 0 leaves torch's choice."""
    if threads:
        torch.set_num_threads(threads)


def machine() -> dict[str, Any]:
    """The date and machine of a measurement."""
    return {
        "date": datetime.date.today().isoformat(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "cpu": cpu_name(),
    }


def cpu_name() -> str:
    """The processor's name, as the system gives it."""
    about = Path("/proc/cpuinfo")
    lines = about.read_text().splitlines() if about.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def check_device(name: str) -> torch.device:
    """The torch device called `name`.

    Raises:
        UsageError: torch does not know it, this machine lacks it, or it cannot hold values (meta).
    """
    others = (("cuda", torch.cuda), ("mps", torch.backends.mps))
    found = ["cpu", *(kind for kind, module in others if module.is_available())]
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    # AssertionError: torch was built without CUDA. ImportError: the device needs another package.
    except (RuntimeError, AssertionError, ImportError, NotImplementedError) as error:
        raise UsageError(
            f"device {name!r} cannot be used here: choose {' or '.join(found)}, as in --device=cpu"
        ) from error
    return device
