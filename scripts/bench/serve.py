"""Load on a server that this starts: many clients at once, and a short request beside a long document.

python -m scripts.bench.serve --file=assets/samples/card_1_line_dark.png --clients=64

Prints pages per second of one client after another and of many at once, the 95th percentile of a short
request alone and beside a PDF, and the longest time for which the server's event loop stood still.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import NamedTuple

import httpx
import pypdfium2
from PIL import Image, ImageDraw, ImageFont

from nanoocr.commandline import parse, run
from nanoocr.errors import UsageError
from nanoocr.machine import counted
from scripts.common import refuse_below, refuse_missing

WORDS = ("the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "under", "old", "trees")


@dataclass(frozen=True)
class Config:
    """Measures a server: many clients at once, and a short request beside a long document."""

    file: str  # the picture that every client sends
    clients: int = 64  # at once
    alone: int = 16  # requests of the client that has the server to itself
    rounds: int = 3  # of both, in turn, so that other work on the machine falls on both
    pdf: str = ""  # the long document; empty: drawn pages full of words
    pages: int = 50  # of the long document
    short: int = 20  # short requests beside it

    def __post_init__(self) -> None:
        """Refuse to ask nothing, or with what is not there."""
        refuse_below(self, clients=1, alone=1, rounds=1, pages=1, short=1)
        refuse_missing("--file", self.file)
        if self.pdf:
            refuse_missing("--pdf", self.pdf)


class Server(NamedTuple):
    """A server that runs: its address, its process, and what it has said."""

    url: str
    pid: int
    log: Path

    def memory(self) -> int:
        """Bytes that the process and those that it started hold."""
        return sum(counted("VmRSS", pid) or 0 for pid in self._pids())

    def seconds(self) -> float:
        """Processor seconds that these processes have taken."""
        fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in self._pids()]
        return sum(int(one[11]) + int(one[12]) for one in fields) / os.sysconf("SC_CLK_TCK")

    def _pids(self) -> list[int]:
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return [self.pid, *map(int, children)]

    def metric(self, name: str) -> float:
        """The value of a metric; one with labels is named with them, as in pages_total{status="ok"}."""
        lines = httpx.get(f"{self.url}/metrics", timeout=60).text.splitlines()
        return next((float(line.split()[-1]) for line in lines if line.startswith(f"{name} ")), 0.0)


@contextlib.contextmanager
def started(*flags: str) -> Iterator[Server]:
    """A server of the packaged model, in a process of its own.

    Raises:
        UsageError: it did not start.
    """
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder, open(Path(folder) / "log", "w") as log:
        command = [sys.executable, "-m", "nanoocr", "serve", f"--port={port}", *flags]
        process = subprocess.Popen(command, stderr=log)
        server = Server(f"http://127.0.0.1:{port}", process.pid, Path(log.name))
        try:
            _wait(server, process)
            yield server
        finally:
            process.terminate()
            process.wait()


def _wait(server: Server, process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        with contextlib.suppress(httpx.TransportError):
            httpx.get(f"{server.url}/health", timeout=5)
            return
        if process.poll() is not None:
            break
        time.sleep(0.2)
    raise UsageError(f"the server did not start: {server.log.read_text()}")


@contextlib.contextmanager
def heartbeat() -> Iterator[Callable[[], str]]:
    """A bare event loop in a process of its own, for comparison; what it gives tells its longest stall."""
    command = [sys.executable, "-m", "scripts.bench.heartbeat"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield lambda: process.communicate()[0].strip()
    finally:
        process.kill()
        process.wait()


def client() -> httpx.Client:
    """A client for all threads: making one costs more than a short request, which would slow the asking."""
    return httpx.Client(timeout=600, limits=httpx.Limits(max_connections=None))


def stalls(server: Server, bare: Callable[[], str]) -> str:
    """How long the event loop stood still at most, the server's and the bare one's in the same time."""
    found = [server.metric(f"nanoocr_loop_stall_{kind}seconds") for kind in ("", "own_")]
    late, own = map(float, bare().split())
    return (
        f"longest stall of the server's loop {found[0]:.3f} s, without waits for a processor {found[1]:.3f}; "
        f"of a bare loop {late:.3f} and {own:.3f}"
    )


def dense_page(seed: int, lines: int = 45) -> Image.Image:
    """An A4 page of 150 dpi, full of words."""
    rng, font = random.Random(seed), ImageFont.load_default(22)
    image = Image.new("L", (1240, 1754), "white")
    for line in range(lines):
        words = " ".join(rng.choice(WORDS) for _ in range(rng.randint(6, 13)))
        ImageDraw.Draw(image).text((100, 100 + 34 * line), words, 0, font)
    return image


def dense_pdf(pages: int) -> bytes:
    """A PDF of such pages; the same ten again and again."""
    drawn = [dense_page(number % 10) for number in range(pages)]
    with tempfile.NamedTemporaryFile(suffix=".pdf") as out:
        drawn[0].save(out.name, save_all=True, append_images=drawn[1:])
        return Path(out.name).read_bytes()


def first_pages(path: Path, pages: int) -> bytes:
    """The first pages of a PDF, begun again where it has fewer."""
    with tempfile.NamedTemporaryFile(suffix=".pdf") as out:
        source, made = pypdfium2.PdfDocument(path), pypdfium2.PdfDocument.new()
        while len(made) < pages:
            made.import_pages(source, list(range(min(len(source), pages - len(made)))))
        made.save(out.name)
        return Path(out.name).read_bytes()


class Pace(NamedTuple):
    """Pages and the seconds that they took: by the clock, and of processors."""

    pages: int
    clock: float
    processor: float


def throughput(config: Config, server: Server, ask: Callable[[int], str]) -> None:
    """Print the rates of one client after another and of many at once, in rounds."""
    answers = {ask(0)}  # the first request warms up
    paces: dict[int, list[Pace]] = {1: [], config.clients: []}
    for _ in range(config.rounds):
        for clients, pages in ((1, config.alone), (config.clients, config.clients)):
            began, used = time.perf_counter(), server.seconds()
            with ThreadPoolExecutor(clients) as threads:
                answers.update(threads.map(ask, range(pages)))
            paces[clients].append(Pace(pages, time.perf_counter() - began, server.seconds() - used))
    for clients, found in paces.items():
        rates = " ".join(f"{one.pages / one.clock:.2f}" for one in found)
        cost = sum(one.processor for one in found) / sum(one.pages for one in found)
        print(f"{clients} at once: {rates} pages/s, {1000 * cost:.0f} ms of processor a page")
    pairs = zip(paces[1], paces[config.clients])
    ratios = [many.pages / many.clock / (one.pages / one.clock) for one, many in pairs]
    print(f"ratios {' '.join(f'{one:.2f}' for one in ratios)}, median {median(ratios):.2f}")
    print(f"different answers: {len(answers)}")


def beside(config: Config, server: Server, ask: Callable[[int], str]) -> None:
    """Print the 95th percentile of short requests alone, and while a long document is read."""
    pdf = first_pages(Path(config.pdf), config.pages) if config.pdf else dense_pdf(config.pages)
    alone = [_seconds(ask) for _ in range(config.short // 2)]  # the other half comes afterwards
    read, stop = threading.Event(), threading.Event()

    def read_long() -> int:
        """The events that came of the long document, which is left when the short ones have ended."""
        url, events = f"{server.url}/v1/ocr?stream=true", 0
        with httpx.stream("POST", url, content=pdf, timeout=1200) as answer:
            for line in answer.iter_lines():
                events += line.startswith("data:")
                if '"line"' in line:
                    read.set()
                if stop.is_set():
                    break
        return events

    with ThreadPoolExecutor(1) as thread:
        long = thread.submit(read_long)
        read.wait(60)
        late = [_seconds(ask) for _ in range(config.short)]
        over = long.done()
        stop.set()
        events = long.result()
    alone += [_seconds(ask) for _ in range(config.short - len(alone))]
    ninety = percentile(alone), percentile(late)
    ratio = f"{ninety[1] / ninety[0]:.2f}, of medians {median(late) / median(alone):.2f}"
    print(f"short request: p95 {ninety[0]:.3f} s alone, {ninety[1]:.3f} s beside a PDF, ratio {ratio}")
    print(f"{len(late)} short ones; of the PDF of {config.pages} pages {events} events, at an end {over}")


def percentile(values: list[float], share: float = 0.95) -> float:
    """The value that `share` of the values do not pass."""
    return sorted(values)[max(0, round(share * len(values)) - 1)]


def _seconds(ask: Callable[[int], str]) -> float:
    started_at = time.perf_counter()
    ask(0)
    return time.perf_counter() - started_at


def main(argv: list[str] | None = None) -> None:
    """Start a server and print all measures."""
    config = parse(Config, argv)
    data = Path(config.file).read_bytes()
    with started() as server, heartbeat() as bare, client() as http:

        def ask(_: int) -> str:
            answer = http.post(f"{server.url}/v1/ocr?format=txt", content=data)
            return f"{answer.status_code} {answer.text}"

        throughput(config, server, ask)
        beside(config, server, ask)
        print(stalls(server, bare))
        print(f"lines of tracebacks: {server.log.read_text().count('Traceback')}")


if __name__ == "__main__":
    sys.exit(run(main))
