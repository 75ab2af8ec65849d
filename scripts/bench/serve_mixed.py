"""Thousands of mixed requests to one server: is any lost, doubled or wrong, and does its memory stay?

python -m scripts.bench.serve_mixed --requests=2000 --clients=16

A tenth of the requests are mistakes, a twentieth are cut off in the middle. Every answer is compared with
what `nanoocr read` says of the same picture.
"""

from __future__ import annotations

import base64
import contextlib
import json
import random
import re
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from nanoocr.commandline import parse, run
from nanoocr.errors import UsageError
from scripts.bench.serve import Server, client, heartbeat, stalls, started
from scripts.common import refuse_below


@dataclass(frozen=True)
class Config:
    """Sends a server right, wrong and broken requests, and counts the answers."""

    requests: int = 2000  # in all
    clients: int = 16  # at once
    bad: float = 0.10  # share of mistakes
    cut: float = 0.05  # share that the client leaves in the middle
    folder: str = "assets/samples"  # whose pictures are sent
    names: str = "card_*.png"  # pattern of their names
    seed: int = 0  # seeds the order and the mistakes
    minutes: float = 60  # after which nothing more is sent

    def __post_init__(self) -> None:
        """Refuse to send nothing, or pictures that are not there."""
        refuse_below(self, requests=1, clients=1, bad=0, cut=0, minutes=0)
        if self.bad + self.cut > 1:
            raise UsageError("--bad and --cut are shares that together make at most 1")
        if not list(Path(self.folder).glob(self.names)):
            raise UsageError(f"--folder={self.folder}: no file in it is called like --names={self.names}")


class Outcome(NamedTuple):
    """How a request ended: right, refused (a mistake), cut off, or wrong; why, and the server's MiB then."""

    kind: str
    why: str
    memory: float


@dataclass(frozen=True)
class Asker:
    """A server, the pictures, and what `nanoocr read` says of each."""

    server: Server
    pictures: tuple[bytes, ...]
    texts: tuple[str, ...]
    http: httpx.Client
    end: float  # by time.monotonic(), when the asking stops

    def ask(self, number: int, config: Config) -> Outcome:
        """Send request `number`; what it is depends on the seed and its number alone."""
        chance = random.Random(config.seed * 1_000_003 + number)
        if time.monotonic() > self.end:
            return Outcome("not sent", "", 0.0)
        which, kind = chance.randrange(len(self.pictures)), chance.random()
        if kind < config.bad:
            name, wrong = "refused", self._bad(chance, which)
        elif kind < config.bad + config.cut:
            name, wrong = "cut off", self._cut(chance, which)
        else:
            ways = (self._txt, self._json, self._ocr_stream, self._chat, self._chat_stream)
            found, text = chance.choice(ways)(which), self.texts[which]
            name, wrong = "right", "" if found == text else f"{found!r}, expected {text!r}"
        memory = self.server.memory() / 2**20
        return Outcome("wrong" if wrong else name, f"request {number}: {wrong}", memory)

    def _post(self, path: str, **content: Any) -> httpx.Response:
        while True:
            answer = self.http.post(f"{self.server.url}{path}", **content)
            if answer.status_code != 429:
                return answer
            time.sleep(float(answer.headers["retry-after"]))

    def _txt(self, which: int) -> str:
        return self._post("/v1/ocr?format=txt", content=self.pictures[which]).text.strip("\n")

    def _json(self, which: int) -> str:
        answer = self._post("/v1/ocr", files={"file": ("a.png", self.pictures[which])})
        return str(answer.json()["pages"][0]["text"])

    def _ocr_stream(self, which: int) -> str:
        sent = _events(self._post("/v1/ocr?stream=true", content=self.pictures[which]).text)
        return str(next(event["page"]["text"] for event in sent if event["type"] == "page"))

    def _chat(self, which: int) -> str:
        answer = self._post("/v1/chat/completions", json=self._body(which, logprobs=True))
        return str(answer.json()["choices"][0]["message"]["content"])

    def _chat_stream(self, which: int) -> str:
        sent = _events(self._post("/v1/chat/completions", json=self._body(which, stream=True)).text)
        return "".join(choice["delta"].get("content", "") for event in sent for choice in event["choices"])

    def _body(self, which: int, **change: Any) -> dict[str, Any]:
        url = f"data:image/png;base64,{base64.b64encode(self.pictures[which]).decode()}"
        content = [{"type": "image_url", "image_url": {"url": url}}]
        return {"model": "nanoocr", "messages": [{"role": "user", "content": content}], **change}

    def _bad(self, chance: random.Random, which: int) -> str:
        """A mistake; it must be told with its own status, and as OpenAI's JSON."""
        chat, body = "/v1/chat/completions", self._body(which)
        mistakes: tuple[tuple[int, Callable[[], httpx.Response]], ...] = (
            (400, lambda: self._post(chat, content=b"{")),
            (400, lambda: self._post(chat, json={**body, "top_p": 7})),
            (404, lambda: self._post(chat, json={**body, "model": "other"})),
            (400, lambda: self._post("/v1/ocr", content=self.pictures[which][:200])),
            (400, lambda: self._post("/v1/ocr?format=docx", content=self.pictures[which])),
            (404, lambda: self._post("/v1/nowhere", content=b"")),
        )
        status, send = chance.choice(mistakes)
        answer = send()
        right = answer.status_code == status and answer.json()["error"]["message"]
        return "" if right else f"a mistake of status {status} gave {answer.status_code}: {answer.text}"

    def _cut(self, chance: random.Random, which: int) -> str:
        """A request whose client goes away: in its body, or while it waits for the answer."""
        host, port = self.server.url.removeprefix("http://").split(":")
        data = self.pictures[which]
        whole = chance.random() < 0.5
        head = f"POST /v1/ocr?stream={'true' if chance.random() < 0.5 else 'false'} HTTP/1.1\r\n"
        head += f"Host: {host}\r\nContent-Length: {len(data)}\r\n\r\n"
        with contextlib.closing(socket.create_connection((host, int(port)))) as connection:
            connection.sendall(head.encode() + (data if whole else data[: len(data) // 2]))
            time.sleep(chance.random() * 0.3)
        return ""


def _events(text: str) -> list[dict[str, Any]]:
    sent = re.findall(r"^data: (.*)$", text, re.MULTILINE)
    assert sent[-1] == "[DONE]", text[-200:]
    return [json.loads(one) for one in sent[:-1]]


def read_texts(files: list[Path]) -> tuple[str, ...]:
    """What `nanoocr read` says of each."""
    command = [sys.executable, "-m", "nanoocr", "read", "--quiet", "--json", *map(str, files)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return tuple(json.loads(line)["text"] for line in told.splitlines())


def memory_of(sent: list[float]) -> str:
    """MiB in each tenth of the requests; the first two tenths warm caches up."""
    tenths = [sent[len(sent) * i // 10 : len(sent) * (i + 1) // 10] for i in range(10)]
    means = [sum(tenth) / max(len(tenth), 1) for tenth in tenths]
    change = 100 * (means[-1] / means[2] - 1)
    told = f"memory in MiB, mean of each tenth {[round(mean) for mean in means]}, at most {max(sent):.0f}: "
    return told + f"from the third, when caches are warm, to the last {change:+.1f} %"


def main(argv: list[str] | None = None) -> None:
    """Start a server, send everything, and print what came back."""
    config = parse(Config, argv)
    files = sorted(Path(config.folder).glob(config.names))
    texts = read_texts(files)
    started_at = time.perf_counter()
    with started() as server, heartbeat() as bare, client() as http:
        pictures = tuple(file.read_bytes() for file in files)
        asker = Asker(server, pictures, texts, http, time.monotonic() + 60 * config.minutes)
        with ThreadPoolExecutor(config.clients) as threads:
            ended = list(threads.map(lambda number: asker.ask(number, config), range(config.requests)))
        seconds = time.perf_counter() - started_at
        time.sleep(2)  # what was cut off ends
        left, stall = server.metric("nanoocr_queue"), stalls(server, bare)
        pages, log = server.metric('nanoocr_pages_total{status="ok"}'), server.log.read_text().splitlines()
    counts = dict(Counter(one.kind for one in ended))
    print(f"{len(ended)} requests by {config.clients} clients in {seconds:.0f} s: {counts}")
    print(f"pages read {pages:.0f}: one for each right answer, and for some of those cut off")
    print(f"left in the server {left:.0f}; lines in its log behind the first: {log[1:]}")
    print(memory_of([one.memory for one in ended if one.memory]))
    print(stall)
    print("\n".join([one.why for one in ended if one.kind == "wrong"][:10]))


if __name__ == "__main__":
    sys.exit(run(main))
