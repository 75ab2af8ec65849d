"""Load on a server that runs: pages per second of one client after another and of many at once.

nanoocr serve --port=8000 &
python -m scripts.bench.serve --file=assets/samples/card_1_line_dark.png --clients=64
"""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx

from nanoocr.commandline import parse, run


@dataclass(frozen=True)
class Config:
    """The server and what it is asked."""

    file: str  # the picture that every client sends
    url: str = "http://127.0.0.1:8000"  # of the server
    clients: int = 64  # at once
    alone: int = 8  # requests of the client that has the server to itself


def main(argv: list[str] | None = None) -> None:
    """Print both rates, their ratio, and whether all answers were the same."""
    config = parse(Config, argv)
    data = Path(config.file).read_bytes()

    def ask(_: int) -> str:
        answer = httpx.post(f"{config.url}/v1/ocr?format=txt", content=data, timeout=120)
        return f"{answer.status_code} {answer.text}"

    started = time.perf_counter()
    answers = [ask(number) for number in range(config.alone)]
    alone = config.alone / (time.perf_counter() - started)
    started = time.perf_counter()
    with ThreadPoolExecutor(config.clients) as threads:
        answers += threads.map(ask, range(config.clients))
    together = config.clients / (time.perf_counter() - started)
    print(f"one after another {alone:.2f} pages/s, {config.clients} at once {together:.2f} pages/s")
    print(f"ratio {together / alone:.2f}, different answers: {len(set(answers))}")


if __name__ == "__main__":
    sys.exit(run(main))
