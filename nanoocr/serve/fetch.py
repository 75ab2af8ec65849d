"""Pictures at addresses, for servers started with --allow_fetch: from named public hosts alone.

address -> is its host named? -> resolve -> is every answer public? -> connect to that very answer -> body

The name is resolved once, and the connection goes to the address that was checked. So a name that resolves
to a private address a moment later does no harm. A redirect goes through all checks again.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import SplitResult, urljoin, urlsplit

from nanoocr.errors import UsageError
from nanoocr.serve.errors import ApiError, bad

SECONDS = 20.0  # seconds for a whole fetch, redirects included
MOST_REDIRECTS = 3
REDIRECTS = (301, 302, 303, 307, 308)
PORTS = {"http": 80, "https": 443}
# IPv6 addresses whose last four bytes are an IPv4 address that a gateway would reach.
NAT64 = ipaddress.ip_network("64:ff9b::/96")


class Host(NamedTuple):
    """A host that may be fetched from. Without a port, the usual one of the scheme is meant."""

    name: str
    port: int | None


def system_resolve(host: str, port: int) -> list[str]:
    """The IP addresses of a host, from the system's resolver."""
    return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def system_connect(address: str, port: int, seconds: float) -> socket.socket:
    """Connect to an IP address; a name is never given here."""
    return socket.create_connection((address, port), seconds)


@dataclass(frozen=True)
class Fetcher:
    """Fetches from allowed hosts. Tests bring their own resolver and network."""

    hosts: frozenset[Host]
    resolve: Callable[[str, int], list[str]] = system_resolve
    connect: Callable[[str, int, float], socket.socket] = system_connect
    seconds: float = SECONDS
    context: ssl.SSLContext = field(default_factory=ssl.create_default_context)

    def fetch(self, url: str, where: str, limit: int) -> bytes:
        """Fetch an address; the answer may have at most `limit` bytes.

        Raises:
            ApiError: the host is not named, is not public, or does not give it in time. `where` is named.
        """
        end = time.monotonic() + self.seconds
        for _ in range(MOST_REDIRECTS + 1):
            try:
                answer = self._ask(url, where, limit, end)
            except (OSError, http.client.HTTPException, ValueError) as error:
                raise self._failed(where, error, end) from None
            if isinstance(answer, bytes):
                return answer
            url = answer
        raise _refused(where, f"the address leads on more than {MOST_REDIRECTS} times")

    def _failed(self, where: str, error: Exception, end: float) -> ApiError:
        if time.monotonic() >= end:
            return _refused(where, f"the picture did not come within {self.seconds:g} s")
        return _refused(where, f"the picture cannot be fetched ({type(error).__name__})")

    def _ask(self, url: str, where: str, limit: int, end: float) -> bytes | str:
        """The body at an address, or the address of a redirect."""
        parts = _split(url, where)
        host, port = self._checked(parts, where)
        addresses = self._public_addresses(host, port, where)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection = http.client.HTTPConnection(host, port)
        # TLS takes the socket over, so the timer needs a handle of its own on the connection.
        with (
            closing(self._connected(addresses, port, end)) as plain,
            closing(plain.dup()) as handle,
            _cut_off(handle, end),
        ):
            secure = parts.scheme == "https"
            connection.sock = self.context.wrap_socket(plain, server_hostname=host) if secure else plain
            with closing(connection):
                connection.request("GET", path, headers={"Accept": "image/*, application/pdf"})
                answer = connection.getresponse()
                if answer.status in REDIRECTS and (location := answer.getheader("location")):
                    return _joined(url, location, where)
                if answer.status != 200:
                    raise _refused(where, f"the address answers with status {answer.status}")
                body = answer.read(limit + 1)
                # If the length is not told, a body that was cut off would look whole.
                if time.monotonic() >= end:
                    raise TimeoutError
                if len(body) <= limit and answer.length:
                    raise http.client.IncompleteRead(body, answer.length)
        if len(body) > limit:
            message = f"{where}: the picture is larger than {limit} bytes, what is left of --max_body_mb"
            raise ApiError(413, message, code="body_too_large")
        return body

    def _connected(self, addresses: list[str], port: int, end: float) -> socket.socket:
        """Connect to the first address that accepts."""
        for address in addresses[:-1]:
            with contextlib.suppress(OSError):
                return self.connect(address, port, _left(end))
        return self.connect(addresses[-1], port, _left(end))

    def _checked(self, parts: SplitResult, where: str) -> tuple[str, int]:
        """Host and port of an address, if they may be fetched from."""
        name = _canonical(parts.hostname or "", where)
        usual = PORTS[parts.scheme]
        try:
            port = parts.port or usual
        except ValueError:
            raise _refused(where, "the port of the address is no number") from None
        if Host(name, port) in self.hosts or (port == usual and Host(name, None) in self.hosts):
            return name, port
        raise _refused(where, f"this server does not fetch from {name}:{port}", "fetch_not_allowed")

    def _public_addresses(self, host: str, port: int, where: str) -> list[str]:
        """The IP addresses of a host. All of them must be public."""
        found = self.resolve(host, port)
        if not found or not all(map(is_public, found)):
            raise _refused(where, f"{host} has no public address", "fetch_not_allowed")
        return found


def is_public(text: str) -> bool:
    """Whether an IP address is public; if an IPv6 address wraps an IPv4 one, both must be."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in NAT64:
            inner = ipaddress.IPv4Address(address.packed[-4:])
        if inner is not None:
            return is_public(str(inner))
        if address.teredo is not None or address.is_site_local:
            return False
    return address.is_global and not (address.is_multicast or address.is_reserved)


def parse_hosts(text: str) -> frozenset[Host]:
    """The hosts of --allow_fetch: names with or without a port, between commas.

    Raises:
        UsageError: one of them is not a host name.
    """
    hosts = set()
    for one in text.split(","):
        name, colon, port = one.strip().partition(":")
        wrong = not name or "/" in name or (colon and not (port.isdigit() and 0 < int(port) < 2**16))
        if wrong:
            raise UsageError(
                f"--allow_fetch={text}: {one!r} is no host, as in example.org or example.org:8080"
            )
        hosts.add(Host(name.lower().rstrip("."), int(port) if port else None))
    return frozenset(hosts)


def _split(url: str, where: str) -> SplitResult:
    try:
        parts = urlsplit(url)
    except ValueError:
        raise _refused(where, "the address cannot be understood") from None
    # A control character could smuggle a second header into the request.
    if not url.isascii() or not url.isprintable() or " " in url:
        raise _refused(where, "the address must be plain ASCII, other signs written as %XX")
    if parts.scheme not in PORTS or not parts.hostname or "@" in parts.netloc:
        raise _refused(where, "an address looks like https://HOST/PATH, without a user")
    return parts


def _joined(url: str, location: str, where: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError:
        raise _refused(where, "the address leads on to one that cannot be understood") from None


def _canonical(host: str, where: str) -> str:
    try:
        return host.encode("idna").decode().lower().rstrip(".")
    except UnicodeError:
        raise _refused(where, "the host of the address is no name") from None


@contextlib.contextmanager
def _cut_off(connection: socket.socket, end: float) -> Iterator[None]:
    """End a connection when its time is over, even if bytes still trickle in."""

    def stop() -> None:
        """Wake the thread that reads from the connection; its read ends with an error."""
        with contextlib.suppress(OSError):  # the connection has already ended
            connection.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(_left(end), stop)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _left(end: float) -> float:
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _refused(where: str, message: str, code: str = "fetch_failed") -> ApiError:
    return bad(f"{where}: {message}", where, code)
