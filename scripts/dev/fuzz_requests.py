"""Sends broken requests to `nanoocr serve`, by calling its application in this process, without a socket.

A request may get an answer below 500 (or 503 and 504, which the server gives on purpose); errors must be
JSON. The defect behind a 500 is raised unchanged.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import json
import logging
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote_from_bytes

from scripts.dev.fuzz_seeds import pdfs, pictures, tiny_model, write_model
from scripts.dev.fuzz_spoiling import ODD, spoil, spoil_json

MEANT = (503, 504)  # a server above its limits answers with these
BOUNDARY = b"frontier"
HEADERS = (b"content-type", b"content-length", b"accept", b"authorization", b"transfer-encoding", b"expect")

App = Callable[..., Any]
Pairs = list[tuple[bytes, bytes]]
Seed = tuple[str, bytes, Pairs, bytes]  # (path, query, headers, body)


@functools.cache
def apps() -> tuple[App, App]:
    """A server with the smallest model for lines, and one with the smallest model for whole pictures."""
    from nanoocr import Reader
    from nanoocr.serve.app import Limits, make_app
    from nanoocr.serve.jobs import ThreadDesk
    from nanoocr.serve.service import Service

    made = []
    for views in (((64, 64),), ((128, 128),)):
        with tempfile.TemporaryDirectory() as folder:
            write_model(Path(folder), tiny_model(views, 64))
            reader = Reader(folder, device="cpu", dtype="float32")
        made.append(
            make_app(ThreadDesk(Service(reader, "tiny", max_pages=3)), Limits(max_body=2**20, timeout_s=15.0))
        )
    return made[0], made[1]


def seeds(rng: random.Random) -> Seed:
    """A request that would be answered, before it is spoiled."""
    data = rng.choice((*pictures(), *pdfs()))
    length = (b"content-type", b"application/octet-stream")
    match rng.randrange(4):
        case 0:
            query = rng.choice((b"", b"format=hocr", b"stream=true&preview=1", b"pages=1-end", b"format=pdf"))
            return "/v1/ocr", query, [length], data
        case 1:
            form = (b"multipart/form-data; boundary=" + BOUNDARY, _form({b"format": b"json"}, data))
            return "/v1/ocr", b"", [(b"content-type", form[0])], form[1]
        case 2:
            return "/v1/models", b"", [(b"authorization", b"Bearer x")], b""
        case _:
            body = _spoiled_chat(data, rng)
            return "/v1/chat/completions", b"", [(b"content-type", b"application/json")], body


def _form(fields: dict[bytes, bytes], data: bytes) -> bytes:
    parts = [b'form-data; name="' + name + b'"\r\n\r\n' + value for name, value in fields.items()]
    parts.append(b'form-data; name="file"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n' + data)
    start = b"--" + BOUNDARY + b"\r\nContent-Disposition: "
    return b"".join(start + part + b"\r\n" for part in parts) + b"--" + BOUNDARY + b"--\r\n"


def _spoiled_chat(data: bytes, rng: random.Random) -> bytes:
    """A chat whose JSON is wrong in one place, or whose picture is spoiled."""
    data = spoil(data, rng) if rng.random() < 0.3 else data
    url = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    parts: list[Any] = [{"type": "text", "text": "Read."}, {"type": "image_url", "image_url": {"url": url}}]
    if rng.random() < 0.3:
        parts.append({"type": "file", "file": {"file_data": url, "filename": "a.pdf"}})
    chat = {
        "model": "tiny", "messages": [{"role": "user", "content": parts}], "max_tokens": 8, "stop": ["x"],
        "stream": rng.random() < 0.5, "stream_options": {"include_usage": True}, "temperature": 0.5,
        "seed": 1, "n": 1, "top_p": 1, "response_format": {"type": "text"}, "metadata": {},
    }  # fmt: skip
    return json.dumps(spoil_json(chat, rng) if rng.random() < 0.8 else chat).encode()


def spoiled(seed: Seed, rng: random.Random) -> Seed:
    """The request with up to three of its parts replaced by nonsense."""
    path, query, headers, body = seed
    for _ in range(rng.randint(0, 3)):
        odd = rng.choice(ODD).encode("utf-8", "replace")
        match rng.randrange(6):
            case 0:
                body = spoil(body, rng)
            case 1:
                query = quote_from_bytes(spoil(query + b"&pages=" + odd, rng), safe="=&+%").encode()
            case 2:
                headers = [(name, _header(spoil(value, rng))) for name, value in headers]
            case 3:
                headers = [*headers, (rng.choice(HEADERS), _header(odd + b"\xb2" * rng.randrange(2)))]
            case 4:
                path = rng.choice((path, "/", "/health", "/metrics", "/v1/ocr/", path.upper(), path + "\x00"))
            case _:
                body = rng.choice((b"", b"[" * 100_000, b"null", b'{"model": 1e999}', b"\xff\xfe", body * 2))
    return path, query, headers, body


def _header(value: bytes) -> bytes:
    """A header value as HTTP parsers let it through: without line ends and NUL."""
    return value.translate(None, b"\r\n\x00")


class _Kept(logging.Handler):
    """Keeps the defects that the server logs."""

    def __init__(self) -> None:
        super().__init__()
        self.defects: list[BaseException] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the exception of a log record, if it has one."""
        if record.exc_info and record.exc_info[1] is not None:
            self.defects.append(record.exc_info[1])


async def ask(app: App, method: str, seed: Seed, rng: random.Random) -> tuple[int, bytes]:
    """Status and body of an answer. A client that leaves early gets what has arrived until then."""
    path, query, headers, body = seed
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": query, "headers": headers, "root_path": "",
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
    }  # fmt: skip
    cut, leaves = rng.randrange(len(body) + 1), rng.random() < 0.1
    waiting = [body[:cut]] if leaves else [body[:cut], body[cut:]]
    status, parts = 0, list[bytes]()

    async def receive() -> dict[str, Any]:
        if waiting:
            part = waiting.pop(0)
            return {"type": "http.request", "body": part, "more_body": bool(waiting) or leaves}
        if not leaves:
            await asyncio.Event().wait()  # a client that only listens sends nothing more
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        nonlocal status
        status = message.get("status", status)
        parts.append(message.get("body", b""))

    await app(scope, receive, send)
    return status, b"".join(parts)


def send_request(rng: random.Random, folder: Path) -> None:
    """Send one broken request. Raises the server's defect, or ValueError for an answer that is none."""
    app = rng.choice(apps())
    seed = spoiled(seeds(rng), rng)
    method = "POST" if rng.random() < 0.9 else rng.choice(("GET", "PUT", "HEAD", "POST "))
    kept, log = _Kept(), logging.getLogger("nanoocr.serve")
    log.addHandler(kept)
    log.propagate = False
    try:
        status, body = asyncio.run(ask(app, method, seed, rng))
    finally:
        log.removeHandler(kept)
    if kept.defects:
        raise kept.defects[0]
    if (status >= 500 and status not in MEANT) or status < 200:
        raise ValueError(f"{method} {seed[0]} got status {status}")
    if status >= 400 and method != "HEAD" and not isinstance(json.loads(body).get("error"), dict):
        raise ValueError(f"{method} {seed[0]}: an error without its object: {body[:80]!r}")


def close_apps() -> None:
    """End the servers' threads."""
    if apps.cache_info().currsize:
        for app in apps():
            with contextlib.suppress(RuntimeError):
                app.state.server.desk.service.close()  # type: ignore[attr-defined]
        apps.cache_clear()
