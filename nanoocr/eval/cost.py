"""Measures what reading costs: seconds per page and peak memory of one engine in a process of its own.

Engines share no process, because memory that one has touched would count for the next. Pages are read one by
one, as for somebody who has a single page; scripts.peers shows the gain of batches beside it.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from nanoocr.errors import NanoOCRError, PictureError, UsageError
from nanoocr.eval.peers import PEERS, PeerError, make_peer
from nanoocr.machine import peak_of_usage, peak_resident

if TYPE_CHECKING:
    from nanoocr.eval.samples import EvalSample

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Cost:
    """The time and memory that one engine needed for some pages, one after the other."""

    pages: int
    failed: int
    start_seconds: float  # from the start of the engine until it had read its first page
    seconds_per_page: float  # mean over all further pages
    peak_bytes: int  # the largest process's most memory, Python included
    threads: int


def measure_cost(engine: str, samples: Sequence[EvalSample], threads: int = 1, prompt: str = "Read.") -> Cost:
    """Let `engine` (a peer's name or a model folder) read the samples in a fresh process.

    Raises:
        UsageError: there are fewer than two readable pictures, or the engine cannot start (it says why).
    """
    with tempfile.TemporaryDirectory() as folder:
        for i, sample in enumerate(samples):
            try:
                sample.open().save(Path(folder, f"{i:04d}.{sample.kind}.png"), "PNG", compress_level=1)
            except PictureError:
                continue  # the evaluation has counted it already
        command = [sys.executable, "-m", "nanoocr.eval.cost", engine, folder, str(threads), prompt]
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path})
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise UsageError(f"the cost of {engine} cannot be measured: {reason.removeprefix('error: ')}")
    return Cost(**json.loads(done.stdout.splitlines()[-1]))


def read_folder(engine: str, folder: Path, threads: int, prompt: str) -> Cost:
    """Read every picture NUMBER.KIND.png of `folder` with a new engine in this process.

    Raises:
        UsageError: fewer than two pictures, or the engine is not installed.
    """
    pictures = [(Image.open(path).convert("RGB"), path.suffixes[0][1:]) for path in sorted(folder.iterdir())]
    if len(pictures) < 2:
        raise UsageError(
            "the cost of reading takes two pictures or more: one to start with, and one to measure"
        )
    started = time.perf_counter()
    read = _reading(engine, threads, prompt)
    failed = 0
    for i, (image, kind) in enumerate(pictures):
        try:
            read(image, kind)
        except PeerError:
            failed += 1
        if i == 0:
            first = time.perf_counter()
    seconds = (time.perf_counter() - first) / (len(pictures) - 1)
    return Cost(len(pictures), failed, first - started, seconds, peak_bytes(), threads)


def _reading(engine: str, threads: int, prompt: str) -> Callable[[Image.Image, str], object]:
    """The function that reads one picture; torch is imported only where a model needs it."""
    if engine in PEERS:
        return make_peer(engine, threads).read
    import torch

    from nanoocr.inference.reader import Reader

    torch.set_num_threads(threads)
    reader = Reader(engine, device="cpu")
    return lambda image, kind: reader.read(image, prompt)


def peak_bytes() -> int:
    """The most memory that this process, or the largest that it started, has held."""
    return max(peak_of_usage(resource.RUSAGE_CHILDREN), peak_resident())


if __name__ == "__main__":
    try:
        print(json.dumps(asdict(read_folder(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]))))
    except NanoOCRError as error:
        sys.exit(f"error: {error}")
