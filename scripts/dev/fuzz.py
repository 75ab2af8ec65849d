"""Feed spoiled pictures, PDFs, rows, model folders, flags and requests in, and count what they break.

python -m scripts.dev.fuzz --count=1000
python -m scripts.dev.fuzz --kinds=pictures,pdfs --count=100000 --seed=1

A child process works through the inputs under a limit of memory; this one watches it. What is right is a
result or an error of nanoocr/errors.py. A finding is anything else: another exception, a death, an input that
takes more than --seconds, or a child that holds more than --gigabytes. A finding is named by its kind and
number and made again by --kinds=KIND --only=NUMBER with the same seed. Ends with code 1 where there are any.
"""

from __future__ import annotations

import json
import os
import random
import resource
import select
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from nanoocr.commandline import ending, parse, run
from nanoocr.errors import NanoOCRError, UsageError
from nanoocr.machine import counted
from scripts.dev.fuzz_inputs import TARGETS

ADDRESSES = 12 * 2**30  # bytes of address space of a child: torch maps much more than it holds
STARTING_S = 120.0  # what a child may take for its imports on a busy machine
SHOWN = 400  # characters of a finding
HEARD = 3  # lines of noise that are kept
OWN_LINES = ("error: ", "read ", "warning: ")


@dataclass(frozen=True)
class FuzzConfig:
    """How much, of what."""

    count: int = 200  # inputs of each kind
    kinds: str = ",".join(TARGETS)  # of these, with commas between
    seed: int = 0  # of the inputs
    seconds: float = 20.0  # most that one input may take
    gigabytes: float = 1.5  # most that the process may hold
    only: int = -1  # this input alone, in this process: the traceback is shown; -1 is all
    first: int = 0  # where to begin; for the child
    child: bool = False  # be the process that is watched; for the script itself


@dataclass
class Tally:
    """What became of the inputs of one kind."""

    kind: str
    inputs: int = 0
    refused: int = 0  # by an error of nanoocr/errors.py
    slowest_s: float = 0.0
    peak_mb: int = 0
    noise: int = 0  # lines that somebody else's library wrote to stderr
    heard: list[str] = field(default_factory=list)  # the first of them
    findings: list[str] = field(default_factory=list)


# ---------------------------------------------------------------------------------------------------
# The child


def feed(kind: str, seed: int, number: int, folder: Path) -> str:
    """One input: `fine`, `refused`, or the finding. The same numbers make the same input."""
    rng = random.Random(f"{kind}/{seed}/{number}")
    try:
        TARGETS[kind](rng, folder)
    except NanoOCRError as error:
        _, line = ending(error) or (0, "\n")
        return "refused" if line.isprintable() else f"a message that is no plain line: {line!r}"
    except SystemExit as stop:
        return f"SystemExit({stop.code})" if stop.code else "fine"
    except BaseException as error:  # noqa: BLE001 - what this script looks for
        where = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"
    return "fine"


def be_watched(config: FuzzConfig) -> None:
    """Work through the inputs; a line before and after each on the pipe that was stdout."""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.filterwarnings("ignore")
    pipe = os.fdopen(os.dup(1), "w")
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - what commands print is no matter here
    os.dup2(sys.stdout.fileno(), 1)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(config.first, config.count):
            print(f"begin {number}", file=pipe, flush=True)
            started = time.monotonic()
            outcome = feed(config.kinds, config.seed, number, Path(folder))
            told = [number, outcome[:SHOWN], time.monotonic() - started, counted("VmHWM") or 0]
            print("end", json.dumps(told), file=pipe, flush=True)


# ---------------------------------------------------------------------------------------------------
# The watcher


def watch(kind: str, config: FuzzConfig) -> Tally:
    """All inputs of one kind; a child that dies or hangs is followed by one that begins behind that input."""
    tally, first = Tally(kind), 0
    while first < config.count:
        first = watch_child(kind, first, config, tally)
    tally.inputs = config.count
    return tally


def watch_child(kind: str, first: int, config: FuzzConfig, tally: Tally) -> int:
    """Follow one child as far as it gets; returns the number to go on with."""
    told = {"kinds": kind, "count": config.count, "seed": config.seed, "first": first, "child": True}
    flags = [f"--{name}={value}" for name, value in told.items()]
    with tempfile.TemporaryFile() as noise:
        command = [sys.executable, "-m", "scripts.dev.fuzz", *flags]
        child = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=noise, bufsize=0
        )  # select sees no buffer
        try:
            reached = _follow(child, first, config, tally)
        finally:
            child.kill()
            code = child.wait()
        noise.seek(0)
        lines = [line for line in noise.read().decode(errors="replace").splitlines() if line.strip()]
    noise_lines = [line for line in lines if not line.startswith(OWN_LINES)]
    tally.noise += len(noise_lines)
    tally.heard = [*tally.heard, *(line[:SHOWN] for line in noise_lines)][:HEARD]
    if reached < config.count and not (
        tally.findings and tally.findings[-1].startswith(f"{kind} {reached - 1}:")
    ):
        last = lines[-1] if lines else "nothing on stderr"
        tally.findings.append(f"{kind} {reached}: the process died with code {code}: {last}"[:SHOWN])
        return reached + 1
    return reached


def _follow(child: subprocess.Popen[bytes], first: int, config: FuzzConfig, tally: Tally) -> int:
    """Read what a child says until it ends or must be ended; returns the first number that is not done."""
    assert child.stdout is not None
    number, patience = first, STARTING_S
    while select.select([child.stdout], [], [], patience)[0]:
        line = child.stdout.readline().decode()
        if not line:
            return number
        patience = config.seconds
        if line.startswith("begin"):
            continue
        done, outcome, seconds, held = json.loads(line.removeprefix("end "))
        number = done + 1
        tally.refused += outcome == "refused"
        tally.slowest_s = max(tally.slowest_s, round(seconds, 2))
        tally.peak_mb = max(tally.peak_mb, held // 2**20)
        if outcome not in ("fine", "refused"):
            tally.findings.append(f"{tally.kind} {done}: {outcome}")
        if held > config.gigabytes * 2**30:
            tally.findings.append(f"{tally.kind} {done}: holds {held / 2**30:.1f} GB")
            return number
    tally.findings.append(f"{tally.kind} {number}: takes more than {patience:.0f} s")
    return number + 1


# ---------------------------------------------------------------------------------------------------


def chosen_kinds(config: FuzzConfig) -> list[str]:
    """The kinds that were asked for."""
    kinds = config.kinds.split(",")
    if unknown := [kind for kind in kinds if kind not in TARGETS]:
        raise UsageError(f"--kinds={config.kinds}: no {unknown[0]!r}; known are {','.join(TARGETS)}")
    if config.count < 1:
        raise UsageError("--count must be above 0, as in --count=200")
    return kinds


def show_one(config: FuzzConfig, kind: str) -> None:
    """Make one input again and let what it breaks show."""
    with tempfile.TemporaryDirectory() as folder:
        TARGETS[kind](random.Random(f"{kind}/{config.seed}/{config.only}"), Path(folder))


def fuzz(config: FuzzConfig) -> Iterator[Tally]:
    """All kinds, one after the other."""
    return (watch(kind, replace(config, kinds=kind)) for kind in chosen_kinds(config))


def short(findings: list[str]) -> dict[str, Any]:
    """How often each kind of finding came, without the numbers of the inputs."""
    return dict(Counter(text.partition(": ")[2][:SHOWN] for text in findings).most_common())


def main(argv: list[str] | None = None) -> int:
    """Feed, count, print; 1 where there are findings."""
    config = parse(FuzzConfig, argv)
    if config.child:
        be_watched(config)
        return 0
    if config.only >= 0:
        show_one(config, chosen_kinds(config)[0])
        return 0
    found = False
    for tally in fuzz(config):
        for finding in tally.findings:
            print(finding, file=sys.stderr)
        # As soon as a kind is done: a long run must not lose what it knows.
        print(json.dumps({**asdict(tally), "findings": short(tally.findings)}), flush=True)
        found = found or bool(tally.findings)
    return int(found)


if __name__ == "__main__":
    sys.exit(run(main))
