"""Addresses of pictures, with a stand-in for the network: every public address is a server of this test."""

from __future__ import annotations

import base64
import contextlib
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

httpx = pytest.importorskip("httpx")
pytest.importorskip("starlette")

from nanoocr.errors import UsageError  # noqa: E402
from nanoocr.serve.decoder import CancelledError  # noqa: E402
from nanoocr.serve.errors import ApiError  # noqa: E402
from nanoocr.serve.fetch import Fetcher, is_public, parse_hosts  # noqa: E402

CARD = Path(__file__).parents[2] / "assets" / "samples" / "card_1_line_dark.png"
NAMES = {
    "pictures.example": ["93.184.215.14"],
    "other.example": ["93.184.215.15"],
    "within.example": ["10.0.0.7"],
    "both.example": ["93.184.215.14", "127.0.0.1"],
}


class Answers(BaseHTTPRequestHandler):
    """Pictures, redirects, and what goes wrong, each at its path."""

    def do_GET(self):
        self.server.asked.append((self.headers["host"], self.path))
        leads = {"/moved": "/card.png", "/round": "/round", "/within": "http://within.example/card.png"}
        leads["/nowhere"] = "http://[pictures.example/"
        leads["/file"] = "file:///etc/passwd"
        leads["/metadata"] = "http://169.254.169.254/"
        if self.path in leads:
            self.send_response(302)
            self.send_header("location", leads[self.path])
            self.end_headers()
            return
        self.send_response(404 if self.path == "/none" else 200)
        if self.path == "/short":
            self.send_header("content-length", str(10**5))
        self.end_headers()
        with contextlib.suppress(OSError):  # the client has gone
            for piece in self.pieces():
                self.wfile.write(piece)
                self.wfile.flush()

    def pieces(self):
        if self.path == "/large":
            yield b"x" * 100_001
        elif self.path == "/slow":
            for _ in range(40):
                time.sleep(0.1)
                yield b"x"
        else:
            yield CARD.read_bytes()

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def stand_in():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    server.asked = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def fetcher(stand_in):
    stand_in.asked.clear()
    stand_in.connected = []

    def connect(address, port, seconds):
        stand_in.connected.append((address, port))
        return socket.create_connection(stand_in.server_address, seconds)

    hosts = parse_hosts("pictures.example, within.example,both.example,other.example:8080,10.0.0.7,localhost")
    names = {**NAMES, "localhost": ["127.0.0.1"], "10.0.0.7": ["10.0.0.7"]}
    return Fetcher(hosts, lambda host, _: names[host], connect, seconds=1.0)


def test_a_picture_of_a_named_host_comes(fetcher, stand_in):
    assert fetcher.fetch("http://pictures.example/card.png?a=1", "here", 10**6) == CARD.read_bytes()
    assert stand_in.asked == [("pictures.example", "/card.png?a=1")]
    assert stand_in.connected == [("93.184.215.14", 80)]  # what was looked at, not the name again
    assert fetcher.fetch("http://Other.Example:8080/moved", "here", 10**6) == CARD.read_bytes()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://strange.example/card.png", "does not fetch from strange.example:80"),
        ("http://other.example/card.png", "does not fetch from other.example:80"),
        ("http://pictures.example:22/card.png", "does not fetch from pictures.example:22"),
        ("http://within.example/card.png", "no public address"),
        ("http://both.example/card.png", "no public address"),
        ("http://localhost/card.png", "no public address"),
        ("http://10.0.0.7/card.png", "no public address"),
        ("http://pictures.example/within", "within.example has no public address"),
        ("http://pictures.example/metadata", "does not fetch from 169.254.169.254:80"),
        ("http://pictures.example/file", "looks like https://HOST/PATH"),
        ("http://pictures.example/round", "leads on more than 3 times"),
        ("http://pictures.example/nowhere", "leads on to one that cannot be understood"),
        ("http://pictures.example/none", "status 404"),
        ("http://pictures.example/short", "cannot be fetched"),
        ("http://pictures.example/large", "larger than 100000 bytes"),
        ("http://pictures.example/slow", "did not come within 1 s"),
        ("http://user@pictures.example/card.png", "without a user"),
        ("http://pictures.example:http/", "port"),
        ("http://pictures.example/a b", "plain ASCII"),
        ("http://[pictures.example/", "cannot be understood"),
        ("https:///card.png", "looks like https://HOST/PATH"),
    ],
)
def test_what_is_not_fetched_is_told(fetcher, url, says):
    started = time.monotonic()
    with pytest.raises(ApiError, match="here: ") as raised:
        fetcher.fetch(url, "here", 100_000)
    assert says in str(raised.value)
    assert time.monotonic() - started < 3


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.1.2.3", "192.168.0.1", "172.16.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0"),
        *("224.0.0.1", "240.0.0.1", "255.255.255.255", "::1", "::", "fe80::1%eth0", "fc00::1", "ff02::1"),
        *("::ffff:127.0.0.1", "64:ff9b::a00:1", "2002:a00:1::", "fec0::1", "2001::1"),
    ],
)
def test_addresses_within_are_not_public(address):
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "::ffff:8.8.8.8"]
)
def test_addresses_outside_are_public(address):
    assert is_public(address)


@pytest.mark.parametrize("text", ["", "a,,b", "http://a", "a:0", "a:x", "a:99999"])
def test_hosts_that_are_none_are_refused(text):
    with pytest.raises(UsageError, match="--allow_fetch"):
        parse_hosts(text)


def test_the_server_reads_a_picture_at_an_address(service, served, fetcher):
    def ask(url: str, address: str) -> dict:
        content = [{"type": "image_url", "image_url": {"url": url}}]
        body = {"model": "nanoocr", "messages": [{"role": "user", "content": content}]}
        return httpx.post(f"{address}/v1/chat/completions", json=body, timeout=60).json()

    with served(service, fetcher=fetcher) as (address, _):
        fetched = ask("http://pictures.example/card.png", address)
        sent = ask(f"data:image/png;base64,{base64.b64encode(CARD.read_bytes()).decode()}", address)
        refused = ask("http://within.example/card.png", address)
    assert fetched["choices"][0]["message"] == sent["choices"][0]["message"]
    assert refused["error"]["code"] == "fetch_not_allowed"


def test_the_pictures_of_a_request_are_bounded_together(service, served, fetcher, stand_in):
    content = [{"type": "image_url", "image_url": {"url": "http://pictures.example/card.png"}}] * 3
    body = {"model": "nanoocr", "messages": [{"role": "user", "content": content}]}
    size = len(CARD.read_bytes())
    with served(service, fetcher=fetcher, max_body=2 * size + 1) as (address, _):
        answer = httpx.post(f"{address}/v1/chat/completions", json=body, timeout=60)
    assert answer.status_code == 413 and "is larger than 1 bytes" in answer.json()["error"]["message"]


def test_pictures_that_nobody_waits_for_any_more_are_not_fetched(service, fetcher, stand_in):
    from nanoocr.serve.chat import Address
    from nanoocr.serve.jobs import Grants, ThreadDesk

    cancelled = threading.Event()
    documents = ThreadDesk(service, Grants(fetcher=fetcher))._fetched(
        [Address("http://pictures.example/card.png", "here")] * 9, cancelled
    )
    next(documents)
    cancelled.set()
    with pytest.raises(CancelledError):
        next(documents)
    assert len(stand_in.asked) == 1
