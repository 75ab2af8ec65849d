"""Load on a server that this starts: many clients at once, and a short request beside a long document.

python -m scripts.bench.serve --file=assets/samples/card_1_line_dark.png --clients=64

Prints pages per second of one client after another and of many at once, the 95th percentile of a short
request alone and beside a PDF, and the longest time for which the server's event loop stood still.
"""

from __future__ import annotations

import contextlib
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
from typing import NamedTuple

import httpx
import pypdfium2

from nanoocr.commandline import parse, run
from nanoocr.errors import UsageError


@dataclass(frozen=True)
class Config:
    """What the server is asked."""

    file: str  # the picture that every client sends
    clients: int = 64  # at once
    alone: int = 16  # requests of the client that has the server to itself
    pdf: str = ""  # the long document; empty: `file` on many pages
    pages: int = 50  # pages of the long document
    short: int = 20  # short requests beside it


class Server(NamedTuple):
    """A server that runs: its address, its process, and what it has said."""

    url: str
    pid: int
    log: Path

    def metric(self, name: str) -> float:
        """The value of a metric without labels."""
        lines = httpx.get(f"{self.url}/metrics", timeout=60).text.splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))


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


def stalls(server: Server) -> str:
    """How long the event loop stood still at most, and how long while the server itself computed."""
    whole, own = (server.metric(f"nanoocr_loop_stall_{kind}seconds") for kind in ("", "own_"))
    return f"longest stall of the loop {whole:.3f} s, {own:.3f} s of it while the server computed"


def long_pdf(picture: Path, pages: int) -> bytes:
    """A PDF that shows a picture on each of its pages."""
    from PIL import Image

    with tempfile.NamedTemporaryFile(suffix=".pdf") as out:
        image = Image.open(picture).convert("RGB")
        image.save(out.name, save_all=True, append_images=[image] * (pages - 1))
        return Path(out.name).read_bytes()


def first_pages(path: Path, pages: int) -> bytes:
    """The first pages of a PDF, begun again where it has fewer."""
    with tempfile.NamedTemporaryFile(suffix=".pdf") as out:
        source, made = pypdfium2.PdfDocument(path), pypdfium2.PdfDocument.new()
        while len(made) < pages:
            made.import_pages(source, list(range(min(len(source), pages - len(made)))))
        made.save(out.name)
        return Path(out.name).read_bytes()


def throughput(config: Config, ask: Callable[[int], str]) -> None:
    """Print the rates of one client after another and of many at once."""
    ask(0)  # the first request warms up
    started_at = time.perf_counter()
    answers = [ask(number) for number in range(config.alone)]
    alone = config.alone / (time.perf_counter() - started_at)
    started_at = time.perf_counter()
    with ThreadPoolExecutor(config.clients) as threads:
        answers += threads.map(ask, range(config.clients))
    together = config.clients / (time.perf_counter() - started_at)
    print(f"one after another {alone:.2f} pages/s, {config.clients} at once {together:.2f} pages/s")
    print(f"ratio {together / alone:.2f}, different answers: {len(set(answers))}")


def beside(config: Config, server: Server, ask: Callable[[int], str]) -> None:
    """Print the 95th percentile of short requests alone, and while a long document is read."""
    made_of, make = (config.pdf, first_pages) if config.pdf else (config.file, long_pdf)
    pdf = make(Path(made_of), config.pages)
    alone = percentile([_seconds(ask) for _ in range(config.short)])
    done = threading.Event()

    def read_long() -> int:
        try:
            return httpx.post(f"{server.url}/v1/ocr", content=pdf, timeout=1200).status_code
        finally:
            done.set()

    with ThreadPoolExecutor(1) as thread:
        long = thread.submit(read_long)
        time.sleep(1.0)
        times: list[float] = []
        while len(times) < config.short and not done.is_set():
            times.append(_seconds(ask))
        ended = "before" if done.is_set() else "after"
        status = long.result()
    late = percentile(times)
    print(f"short request: p95 {alone:.3f} s alone, {late:.3f} s beside a PDF, ratio {late / alone:.2f}")
    print(f"{len(times)} short requests; the PDF of {config.pages} pages ended {ended} them ({status})")


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
    with started() as server:

        def ask(_: int) -> str:
            answer = httpx.post(f"{server.url}/v1/ocr?format=txt", content=data, timeout=600)
            return f"{answer.status_code} {answer.text}"

        throughput(config, ask)
        beside(config, server, ask)
        print(stalls(server))
        print(f"lines of tracebacks: {server.log.read_text().count('Traceback')}")


if __name__ == "__main__":
    sys.exit(run(main))
