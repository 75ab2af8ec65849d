"""How fast batches are beside `nanoocr read`, and what scripts/scale.py needs to know.

python -m scripts.bench.batch compare --files ../scans/*.png [--repeats=3] [--engines=read,pool1,pool2,ray2]
python -m scripts.bench.batch measure --files ../scans/*.png [--out=docs/scale.json]

`compare` runs the commands in turn, again and again, so that what else the machine does meets all of them.
Beside the wall time it tells the processor's seconds of all processes, and the wall time less what the
readers waited for a processor (`processes.py`), which other work changes less. Every command is also run on
the first file alone, and what a page costs is the difference: so the start, and the loading of the model, do
not count as pages.
"""

from __future__ import annotations

import json
import os
import pickle
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nanoocr.commandline import parse, run
from nanoocr.errors import OutputError, UsageError
from nanoocr.eval.evaluate import split_names
from nanoocr.machine import machine
from scripts.bench.processes import Cost, cost_of
from scripts.common import refuse_below, refuse_missing

PROGRAM = "python -m scripts.bench.batch"
BATCH = ("batch", "--threads=1", "-q")
COMMANDS = {
    "read": ("read", "--threads=1", "-q", "--format=json"),
    "pool1": (*BATCH, "--workers=1"),
    "pool2": (*BATCH, "--workers=2"),
    "ray1": (*BATCH, "--workers=1", "--engine=ray"),
    "ray2": (*BATCH, "--workers=2", "--engine=ray"),
}


@dataclass(frozen=True)
class CompareConfig:
    """Runs whole commands in turn, and prints what a page costs in each."""

    files: tuple[Path, ...]  # pictures or PDFs, at least two
    engines: str = "read,pool1,pool2"  # some of read, pool1, pool2, ray1 and ray2
    repeats: int = 3  # rounds; each one takes every engine in turn

    def __post_init__(self) -> None:
        """Refuse what would end in the middle of the measurement."""
        refuse_below(self, repeats=1)
        refuse_missing("--files", *self.files)
        if len(self.files) < 2:
            raise UsageError("--files: name at least two, since what a page costs is a difference")
        unknown = [name for name in split_names(self.engines) if name not in COMMANDS]
        if unknown or not split_names(self.engines):
            raise UsageError(f"--engines={self.engines}: choose among {', '.join(COMMANDS)}")


@dataclass(frozen=True)
class MeasureConfig:
    """Measures each page, a start and a note of the driver, and writes what scripts/scale.py needs."""

    files: tuple[Path, ...]  # pictures or PDFs
    out: Path = Path("docs/scale.json")  # the file to write

    def __post_init__(self) -> None:
        """Refuse what would end in the middle of the measurement."""
        refuse_missing("--files", *self.files)
        if not self.files:
            raise UsageError("--files: name at least one")


def run_once(name: str, files: Sequence[Path]) -> Cost:
    """One command into a fresh folder.

    Raises:
        UsageError: it failed, and has said why.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = f"{folder}/out"
        where = ["-o", f"{out}/"] if name == "read" else [f"--out={out}"]
        command = [sys.executable, "-m", "nanoocr", *COMMANDS[name], *where, *map(str, files)]
        try:
            return cost_of(command)
        except subprocess.CalledProcessError as error:
            raise UsageError(f"{name} ended with exit code {error.returncode}: see why above") from error


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def compare(argv: Sequence[str], prog: str) -> None:
    """Print for each command what a page costs, in turn, and the medians."""
    options = parse(CompareConfig, argv, prog=prog)
    pages: dict[str, list[Cost]] = {name: [] for name in split_names(options.engines)}
    for _ in range(options.repeats):
        for name, costs in pages.items():
            first, whole = run_once(name, options.files[:1]), run_once(name, options.files)
            count = len(options.files) - 1
            costs.append(Cost(*((b - a) / count for a, b in zip(first, whole, strict=True))))
            print(
                f"{name}: {_shown(costs[-1])}; start {first.wall:.1f} s, load {os.getloadavg()[0]:.1f}",
                flush=True,
            )
    for name, costs in pages.items():
        print(f"median {name}: {_shown(Cost(*map(statistics.median, zip(*costs, strict=True))))}")


def _shown(page: Cost) -> str:
    return f"{page.wall:.3f} s a page, {page.cpu:.3f} of processors, {page.unhindered:.3f} unhindered"


# ---------------------------------------------------------------------------------------------------
# For the simulation


def measure(argv: Sequence[str], prog: str) -> None:
    """Write what a processor was seen to do."""
    options = parse(MeasureConfig, argv, prog=prog)
    seconds, records = page_costs(options.files)
    about = {
        **machine(),
        "command": "python -m scripts.bench.batch measure",
        "pages": len(seconds),
        "page_seconds": [round(one, 4) for one in sorted(seconds)],
        "page_bytes": round(statistics.mean(path.stat().st_size for path in options.files)),
        "start_seconds": round(start_cost(), 2),
        "note_seconds": round(note_cost(records), 6),
    }
    try:
        options.out.write_text(json.dumps(about, indent=1) + "\n")
    except OSError as error:
        raise OutputError(f"--out={options.out} cannot be written ({error.strerror})") from error
    print(json.dumps({key: value for key, value in about.items() if key != "page_seconds"}))
    print(
        f"a page: {statistics.mean(seconds):.3f} s of the processor, median {statistics.median(seconds):.3f}"
    )


def page_costs(files: Sequence[Path]) -> tuple[list[float], list[dict[str, Any]]]:
    """Processor's seconds of each page, on one thread, and the records."""
    import dataclasses

    from nanoocr.inference.reader import ReaderChoice
    from nanoocr.pages import open_source

    reader = ReaderChoice().load(1)
    seconds, records = [], []
    for path in files:
        for picture in open_source(path):
            started = time.process_time()
            (page,) = reader.read_pictures([picture])
            seconds.append(time.process_time() - started)
            records.append(dataclasses.asdict(page))
    return seconds, records


def start_cost() -> float:
    """Processor's seconds from nothing to a loaded model."""
    code = "from nanoocr.inference.reader import ReaderChoice; ReaderChoice().load(1)"
    before = _children()
    subprocess.run([sys.executable, "-c", code], check=True)
    return _children() - before


def note_cost(records: Sequence[dict[str, Any]], pages: int = 3000) -> float:
    """Processor's seconds of the driver for each page: the ledger, in blocks as on Ray, and the shards."""
    from nanoocr.batch import shards
    from nanoocr.batch.drive import Plan
    from nanoocr.batch.ledger import Found, Ledger
    from nanoocr.batch.ray_actor import block_of
    from nanoocr.batch.ray_engine import note_answers
    from nanoocr.batch.ray_process import BATCHES_PER_TASK
    from nanoocr.batch.record import packed

    with tempfile.TemporaryDirectory() as name:
        ledger = Ledger(Path(name))
        ledger.add([Found("{}", "a.pdf", "a")])
        with ledger.changing() as db:
            ledger.opened(db, 1, "0" * 64, pages)
        told = [packed(record) for record in records]
        block = BATCHES_PER_TASK * Plan().pages_at_once
        said = [("read", 1, page, told[page % len(told)]) for page in range(1, pages + 1)]
        parts = (block_of(said[first : first + block]).to_pylist() for first in range(0, pages, block))
        blocks = [pickle.dumps(part) for part in parts]  # as they come through the pipe
        started = time.process_time()
        for answers in blocks:
            note_answers(ledger, pickle.loads(answers), False, print)
            shards.flush(Path(name), ledger)
        shards.finish(Path(name), ledger)
        return (time.process_time() - started) / pages


WAYS = {"compare": compare, "measure": measure}


def main(argv: list[str] | None = None) -> None:
    """Do what the first word says with the flags behind it."""
    way, *flags = (sys.argv[1:] if argv is None else argv) or [""]
    if way in ("-h", "--help"):
        print(__doc__)
        return
    if way not in WAYS:
        raise UsageError(f"write compare or measure, and then flags; found {way!r} (see {PROGRAM} --help)")
    WAYS[way](flags, f"{PROGRAM} {way}")


if __name__ == "__main__":
    sys.exit(run(main))
