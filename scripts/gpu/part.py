"""Shared by all parts of the half hour on a GPU: a deadline, results saved at once, a table, JSON.

A part makes one measurement after another, the most important first. Each becomes a row of the results, and
the part's file is written anew after every row. So whatever ends a part (its deadline, a kernel that fails,
the lease of the machine), all earlier rows are kept. Three things stop a part: it begins no measurement when
less time is left than the last one took, an alarm ends the current one at the deadline, and runs/gpu.sh ends
the process a minute later.
"""

from __future__ import annotations

import gc
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from statistics import median
from types import FrameType
from typing import Any

import torch
from rich.table import Table

from nanoocr.config import ModelConfig, preset
from nanoocr.errors import UsageError
from nanoocr.eval.console import result_console
from nanoocr.inference.reader import choose_device
from nanoocr.machine import machine, peak_resident
from nanoocr.model.folder import empty_model
from nanoocr.model.vlm import VLM
from scripts.common import refuse_below, timed, write_json

# Dense bf16 TFLOP/s from the vendor's data sheets (SXM boards), for MFU.
PEAK_TFLOPS = {"H200": 989.0, "H100": 989.0, "A100": 312.0}
# GB/s of the memory from the same sheets, for the bandwidth of decoding.
PEAK_GB_PER_S = {"H200": 4800.0, "H100": 3350.0, "A100": 2039.0}


@dataclass(frozen=True)
class PartConfig:
    """The flags that every part has."""

    preset: str = "d20"  # sizes of the model: nano, small or d20; nano is the miniature
    device: str = "cuda"  # cuda or cpu
    minutes: float = 8.5  # after this time the part begins nothing, and keeps its results
    out: str = ""  # folder of the results; empty means $OUT, or out/gpu

    def __post_init__(self) -> None:
        """Refuse settings that cannot run, in words of this script."""
        preset(self.preset)
        if self.minutes <= 0:
            raise UsageError("--minutes must be above 0")
        # A wrong count would cost minutes of a GPU before it showed.
        counts = [field.name for field in fields(self) if type(getattr(self, field.name)) is int]
        refuse_below(self, **{name: int(name != "workers") for name in counts})
        if self.device not in ("cuda", "cpu"):
            raise UsageError("--device is cuda or cpu")
        choose_device(self.device)

    @property
    def folder(self) -> Path:
        """The folder of the part's JSON."""
        return Path(self.out or os.environ.get("OUT") or "out/gpu")

    @property
    def miniature(self) -> bool:
        """Whether to use sizes that take seconds on a CPU instead of a GPU's sizes."""
        return self.preset == "nano"

    @property
    def torch_device(self) -> torch.device:
        """The device as a torch device."""
        return torch.device(self.device)


class DeadlineError(BaseException):
    """The part's time is over. It is no Exception, so that no library mistakes it for one of its own."""


# ---------------------------------------------------------------------------------------------------------
# Results


class Results:
    """The rows of a part: name, state, numbers. They are on disk as soon as they are known."""

    def __init__(self, part: str, config: PartConfig) -> None:
        self.part, self.config = part, config
        self.started = time.monotonic()
        self.last = 0.0  # seconds that the last measurement took
        self.lines: list[dict[str, Any]] = []
        self.about = {**machine(), **device_facts(config.torch_device), "preset": config.preset}
        self.write()

    @property
    def left(self) -> float:
        """Seconds until the deadline."""
        return 60 * self.config.minutes - (time.monotonic() - self.started)

    def measure(self, name: str, function: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
        """Add the row `name` with the numbers that `function` returns; returns {} if it gave none."""
        if self.left <= self.last:
            self.add(name, "not reached", {})
            return {}
        began, values, state = time.monotonic(), dict[str, Any](), "ok"
        try:
            with alarm(self.left):
                values = dict(function())
        except DeadlineError:
            state = "cut off"
        except torch.OutOfMemoryError:
            state = "out of memory"
        except Exception as error:  # noqa: BLE001 (whatever one kernel does, the other lines count)
            state = f"failed: {type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"
        self.last = time.monotonic() - began
        self.add(name, state, values)
        release(self.config.torch_device)
        return values

    def add(self, name: str, state: str, values: Mapping[str, Any]) -> None:
        """Add a row, write the file, and print a line for people."""
        self.lines.append({"what": name, "state": state, "took_s": round(self.last, 2), **values})
        self.write()
        print(f"{self.part}: {name}: {state}, {self.left:.0f} s left", file=sys.stderr, flush=True)

    def write(self) -> None:
        """Write the whole file anew."""
        self.config.folder.mkdir(parents=True, exist_ok=True)
        path = self.config.folder / f"{self.part}.json"
        write_json(path, {"part": self.part, **self.about, "lines": self.lines})

    def finish(self, columns: Mapping[str, tuple[str, str]]) -> int:
        """Print a table of `columns` (key: heading, format) that have a value; returns 1 if a row failed."""
        keys = [key for key in columns if any(line.get(key) not in (None, "") for line in self.lines)]
        title = f"{self.part}, {self.config.preset}, {self.about['gpu']}"
        table = Table("What", *(columns[key][0] for key in keys), "state", title=title)
        for line in self.lines:
            cells = (shown(line.get(key), columns[key][1]) for key in keys)
            table.add_row(line["what"], *cells, line["state"])
        result_console().print(table)
        return int(any(line["state"].startswith("failed") for line in self.lines))


def shown(value: Any, form: str) -> str:
    """Format a cell of the table."""
    if value is None:
        return "-"
    return f"{value:{form}}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


@contextmanager
def alarm(seconds: float) -> Iterator[None]:
    """Raise DeadlineError in the `with` block after `seconds`."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise DeadlineError

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, max(0.01, seconds))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def run_child(command: Sequence[str], seconds: float, grace: float = 60.0) -> str:
    """Run a training script. After `seconds` it is asked to stop and saves its step. Returns how it ended.

    Raises:
        RuntimeError: it ended by itself with a code other than success or "interrupted".
    """
    child = subprocess.Popen(command, stdout=sys.stderr)
    try:
        code = child.wait(timeout=max(1.0, seconds))
    except subprocess.TimeoutExpired:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(timeout=grace)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            return "killed"
        return "stopped by the deadline"
    except BaseException:  # the part's own deadline or Ctrl-C: the child must not run on
        child.kill()
        child.wait()
        raise
    if code:
        raise RuntimeError(f"{' '.join(command[1:3])} ended with exit code {code}; its last lines say why")
    return "finished"


# ---------------------------------------------------------------------------------------------------------
# The device


def device_facts(device: torch.device) -> dict[str, Any]:
    """Facts on which the numbers depend: GPU, memory, versions."""
    facts: dict[str, Any] = {"python": platform.python_version(), "cpus": os.cpu_count(), "gpu": "no GPU"}
    if device.type != "cuda":
        return facts
    about = torch.cuda.get_device_properties(device)
    return facts | {
        "gpu": about.name,
        "gpu_gb": round(about.total_memory / 1e9, 1),
        "multiprocessors": about.multi_processor_count,
        "capability": f"{about.major}.{about.minor}",
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "peak_tflops": of_gpu(PEAK_TFLOPS, device),
        "peak_gb_per_s": of_gpu(PEAK_GB_PER_S, device),
    }


def of_gpu(table: Mapping[str, float], device: torch.device) -> float | None:
    """This GPU's number in a table by name; None for a CPU or a GPU that is not in it."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    return next((value for key, value in table.items() if key in name), None)


def share_of(value: float, peak: float | None) -> float | None:
    """`value` as a share of a peak, which may be unknown."""
    return None if peak is None else value / peak


def release(device: torch.device) -> None:
    """Free memory, because the next measurement may need all of it."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def start_peak(device: torch.device) -> None:
    """Start counting peak memory."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)


def peak_gb(device: torch.device) -> float:
    """The most GB in tensors since `start_peak`; on a CPU the process's peak since it began."""
    used = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else peak_resident()
    return used / 1e9


def median_seconds(function: Callable[[], Any], device: torch.device, repeats: int) -> float:
    """Median time of a call after two warm-up calls: the first compiles and allocates, the second settles."""
    for _ in range(2):
        timed(function, device)
    return median(timed(function, device) for _ in range(repeats))


def back_end(device: torch.device) -> str:
    """The backend of torch.compile. In miniature, on a CPU, it only traces."""
    return "inductor" if device.type == "cuda" else "eager"


def random_model(sizes: ModelConfig, device: torch.device, dtype: torch.dtype, seed: int = 0) -> VLM:
    """A model whose weights are drawn on the device: a CPU takes half a minute for a billion numbers."""
    model = empty_model(sizes, compute_dtype=dtype).to_empty(device=device)
    generator = torch.Generator(device).manual_seed(seed)
    model.encoder.init_weights(generator)
    model.gpt.init_weights(generator)
    # weights that start at zero would hide mistakes, and a GPT without output says nothing
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("c_proj.weight") or name == "gpt.lm_head.weight":
                parameter.normal_(std=parameter.size(1) ** -0.5, generator=generator)
            elif "rel_pos" in name:
                parameter.normal_(std=0.1, generator=generator)
    return model
