"""What a server must bear: floods, slow clients, costly documents. It answers in a sentence, and lives on."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
import socket
import struct
import time
import zlib
from pathlib import Path

import pytest

httpx = pytest.importorskip("httpx")
pytest.importorskip("uvicorn")
pikepdf = pytest.importorskip("pikepdf")

from nanoocr.serve import body, connection  # noqa: E402
from nanoocr.serve.messages import PART, Head, Reply  # noqa: E402

CARD = (Path(__file__).parents[2] / "assets" / "samples" / "card_1_line_dark.png").read_bytes()


@pytest.fixture
def hasty(monkeypatch):
    """Headers and bodies must come within half a second."""
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.5)
    monkeypatch.setattr(body, "BODY_SECONDS", 0.5)


@pytest.fixture
def address(service, served, hasty):
    with served(service, max_body=2**22) as (url, state):
        yield url
        assert httpx.get(f"{url}/health").status_code == 200
        assert (state.inside, state.held) == (0, 0)


def connected(url: str) -> socket.socket:
    host, port = url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=10)


def answer_of(link: socket.socket) -> bytes:
    """All that comes until the server closes."""
    parts = []
    try:
        while part := link.recv(2**16):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def test_a_flood_of_headers_is_cut_off(address):
    with connected(address) as link:
        with contextlib.suppress(OSError):  # the server does not take all of it
            link.sendall(b"GET / HTTP/1.1\r\n" + b"X-Flood: 1\r\n" * 200_000)
        assert answer_of(link)[:12] in (b"", b"HTTP/1.1 400")


def test_what_is_no_http_is_told_so_as_all_errors_are(address):
    with connected(address) as link:
        link.sendall(b"\x16\x03\x01 hello\r\n\r\n")
        head, _, body = answer_of(link).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400") and json.loads(body)["error"]["code"] == "invalid_http"


def test_nonsense_within_a_stream_ends_it(address, capfd):
    head = b"POST /v1/ocr?stream=true HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    with connected(address) as link:
        link.sendall(head + b"%x\r\n%s\r\n0\r\n\r\n" % (len(CARD), CARD))
        assert link.recv(15) == b"HTTP/1.1 200 OK"
        with contextlib.suppress(OSError):
            link.sendall(b"\x16 no request\r\n\r\n" * 3)
        answer_of(link)
    assert "Traceback" not in capfd.readouterr().err


def test_names_that_no_file_can_hold_are_told(address):
    """A lone half of a pair of UTF-16, which JSON can say and UTF-8 cannot."""
    answer = httpx.post(
        f"{address}/v1/chat/completions", content=b'{"\\ud800": 1, "model": "\\udfff"}', timeout=60
    )
    assert answer.status_code == 400 and answer.json()["error"]["message"]


def test_documents_are_counted_together(address):
    url = f"data:image/png;base64,{base64.b64encode(CARD).decode()}"
    content = [{"type": "image_url", "image_url": {"url": url}}] * 4
    body = {"model": "nanoocr", "messages": [{"role": "user", "content": content}]}
    answer = httpx.post(f"{address}/v1/chat/completions", json=body, timeout=60)
    assert answer.status_code == 400 and "4 documents" in answer.json()["error"]["message"]


@pytest.mark.parametrize("begun", [b"", b"GET / HTTP/1.1\r\nX-Slow: "])
def test_headers_that_do_not_come_end_the_connection(address, begun):
    with connected(address) as link:
        link.sendall(begun)
        started = time.monotonic()
        assert answer_of(link) == b""
        assert time.monotonic() - started < 8


def test_a_second_request_that_does_not_come_ends_the_connection(address):
    with connected(address) as link:
        link.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
        assert link.recv(12) == b"HTTP/1.1 200"
        link.sendall(b"GET /health HTTP/1.1\r\nX-Slow: ")
        answer_of(link)  # else this waits for ten seconds and raises


def test_connections_without_a_request_are_bounded(hasty):
    import uvicorn

    server = uvicorn.Config(lambda: None, http=connection.Connection, limit_concurrency=2, log_level="error")
    state = uvicorn.server.ServerState()

    async def connect():
        """What each of four clients gets who connect and send nothing."""
        loop = asyncio.get_running_loop()
        server.load()
        made = await loop.create_server(
            lambda: connection.Connection(server, state, {}, loop), "127.0.0.1", 0
        )
        port = made.sockets[0].getsockname()[1]
        clients = [await asyncio.open_connection("127.0.0.1", port) for _ in range(4)]
        told = [await reader.read() for reader, _ in clients]
        for _, writer in clients:
            writer.close()
        made.close()
        return told

    told = asyncio.run(connect())
    assert [one[:12] for one in told] == [b"", b"", b"HTTP/1.1 503", b"HTTP/1.1 503"]
    assert json.loads(told[3].partition(b"\r\n\r\n")[2])["error"]["code"] == "too_many_connections"


def test_the_last_connection_that_is_allowed_is_served(service, served):
    with served(service, most_connections=1) as (url, _), connected(url) as link:
        link.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
        assert link.recv(12) == b"HTTP/1.1 200"


class LongDesk:
    """A desk whose every answer is long."""

    name = "long"
    note = None

    def ready(self):
        return True

    def begin(self, job, tell):
        tell(Reply("head", Head("text/plain", None if b"stream" in job.body else 64 * PART)))
        for _ in range(64):
            tell(Reply("part", bytes(PART)))
        tell(Reply("end"))
        return lambda: None


@pytest.mark.parametrize("body", [b"whole", b"a stream"])
@pytest.mark.parametrize("taken", [0, 1])
def test_who_takes_nothing_of_an_answer_gives_the_place_back(served, monkeypatch, capfd, body, taken):
    monkeypatch.setattr(connection, "TAKE_SECONDS", 0.5)
    with served(None, desk=LongDesk()) as (url, state), connected(url) as link:
        head = f"POST /v1/ocr HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n"
        link.sendall(head.encode() + body)
        link.recv(taken * 2**16 + 1)
        assert state.inside == 1
        for _ in range(100):
            if not state.inside:
                break
            time.sleep(0.1)
        assert state.inside == 0
        assert len(answer_of(link)) < 64 * PART  # the connection was broken, so nobody takes it for whole
    assert "Traceback" not in capfd.readouterr().err


def test_a_slow_body_is_a_408(address):
    with connected(address) as link:
        link.sendall(b"POST /v1/ocr HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nx")
        told = link.recv(2**16)
    assert told.startswith(b"HTTP/1.1 408")


def test_bodies_are_bounded_together(service, served):
    with served(service, max_body=2**10) as (url, state):
        state.held = 16 * 2**10
        full = httpx.post(f"{url}/v1/ocr", content=b"x")
        assert full.status_code == 429 and full.json()["error"]["code"] == "queue_full"
        assert state.held == 16 * 2**10  # what was refused is given back


def refusal(address: str, data: bytes) -> str:
    """The sentence by which a document is refused, soon."""
    started = time.monotonic()
    answer = httpx.post(f"{address}/v1/ocr", content=data, timeout=60)
    assert answer.status_code == 400, answer.text
    assert time.monotonic() - started < 30
    return answer.json()["error"]["message"]


def test_a_pdf_of_ten_thousand_pages(address):
    pdf, out = pikepdf.new(), io.BytesIO()
    pdf.add_blank_page()
    for _ in range(9_999):
        pdf.pages.append(pdf.pages[0])
    pdf.save(out)
    assert "10000 pages" in refusal(address, out.getvalue())


def test_an_encrypted_pdf(address):
    pdf, out = pikepdf.new(), io.BytesIO()
    pdf.add_blank_page()
    pdf.save(out, encryption=pikepdf.Encryption(owner="a", user="b"))
    assert "password" in refusal(address, out.getvalue())


def test_a_picture_of_twelve_hundred_megapixels(address):
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 40_000, 30_000, 1, 0, 0, 0, 0)
    data = zlib.compress(bytes(5001))
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    assert "pixels" in refusal(address, png)


@pytest.mark.parametrize("data", [b"plain text", b"%PDF-1.7 and no more", b"\x89PNG\r\n\x1a\n", b"<svg/>"])
def test_what_is_no_picture(address, data):
    assert refusal(address, data).startswith("document ")
