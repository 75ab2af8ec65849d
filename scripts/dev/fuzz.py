"""Feeds spoiled pictures, PDFs, rows, model folders, flags and requests in, and counts what breaks.

python -m scripts.dev.fuzz --count=1000
python -m scripts.dev.fuzz --kinds=pictures,pdfs --count=100000 --seed=1

A child process works through the inputs with limited memory, and this one watches it. A result is right, and
so is an error of nanoocr/errors.py. Everything else is a finding: another exception, a death, an input that
takes more than --seconds, or a child that holds more than --gigabytes. --kinds=KIND --only=NUMBER with the
same seed repeats a finding. The exit code is 1 if there are any.
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

ADDRESSES = 12 * 2**30  # bytes of a child's address space; torch maps much more than it uses
STARTING_S = 120.0  # a child may take this long for its imports on a busy machine
SHOWN = 400  # characters of a finding that are shown
HEARD = 3  # lines of noise that are kept
OWN_LINES = ("error: ", "read ", "warning: ")


@dataclass(frozen=True)
class FuzzConfig:
    """Spoils inputs and tells which of them the code does not answer in a sentence."""

    count: int = 200  # inputs of each kind
    kinds: str = ",".join(TARGETS)  # separated by commas
    seed: int = 0  # seeds the inputs
    seconds: float = 20.0  # an input may take this long
    gigabytes: float = 1.5  # the process may hold this much
    only: int = -1  # run only this input, in this process, and show its traceback; -1 means all
    first: int = 0  # the input to begin with; the child uses it
    child: bool = False  # be the watched process; only this script sets it


@dataclass
class Tally:
    """The outcomes of the inputs of one kind."""

    kind: str
    inputs: int = 0
    refused: int = 0  # inputs refused with an error of nanoocr/errors.py
    slowest_s: float = 0.0
    peak_mb: int = 0
    noise: int = 0  # lines that other libraries wrote to stderr
    heard: list[str] = field(default_factory=list)  # the first of those lines
    findings: list[str] = field(default_factory=list)


# ---------------------------------------------------------------------------------------------------
# The child


def feed(kind: str, seed: int, number: int, folder: Path) -> str:
    """Run one input; returns `fine`, `refused`, or the finding. The same numbers make the same input."""
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
    """Work through the inputs, with a line before and after each on the pipe that was stdout."""
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
    """Run all inputs of one kind. After a child that dies or hangs, another begins behind that input."""
    tally, first = Tally(kind), 0
    while first < config.count:
        first = watch_child(kind, first, config, tally)
    tally.inputs = config.count
    return tally


def watch_child(kind: str, first: int, config: FuzzConfig, tally: Tally) -> int:
    """Follow one child as far as it gets; returns the number to continue with."""
    told = {"kinds": kind, "count": config.count, "seed": config.seed, "first": first, "child": True}
    flags = [f"--{name}={value}" for name, value in told.items()]
    with tempfile.TemporaryFile() as noise:
        command = [sys.executable, "-m", "scripts.dev.fuzz", *flags]
        child = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=noise, bufsize=0
        )  # unbuffered, because select does not see Python's buffer
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
    """Follow a child's messages until it ends or must be ended; returns the first unfinished number."""
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
    """The kinds that the user named."""
    kinds = config.kinds.split(",")
    if unknown := [kind for kind in kinds if kind not in TARGETS]:
        raise UsageError(f"--kinds={config.kinds}: no {unknown[0]!r}; known are {','.join(TARGETS)}")
    if config.count < 1:
        raise UsageError("--count must be above 0, as in --count=200")
    if not (config.seconds > 0 and config.gigabytes > 0):
        raise UsageError("--seconds and --gigabytes must be above 0")
    return kinds


def show_one(config: FuzzConfig, kind: str) -> None:
    """Repeat one input, and let its exception through."""
    with tempfile.TemporaryDirectory() as folder:
        TARGETS[kind](random.Random(f"{kind}/{config.seed}/{config.only}"), Path(folder))


def fuzz(config: FuzzConfig) -> Iterator[Tally]:
    """All kinds, one after the other."""
    return (watch(kind, replace(config, kinds=kind)) for kind in chosen_kinds(config))


def short(findings: list[str]) -> dict[str, Any]:
    """How often each kind of finding occurred, without the numbers of the inputs."""
    return dict(Counter(text.partition(": ")[2][:SHOWN] for text in findings).most_common())


def main(argv: list[str] | None = None) -> int:
    """Feed, count and print; returns 1 if there are findings."""
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
        # Printed as soon as a kind is done, so that a long run does not lose its results.
        print(json.dumps({**asdict(tally), "findings": short(tally.findings)}), flush=True)
        found = found or bool(tally.findings)
    return int(found)


if __name__ == "__main__":
    sys.exit(run(main))
