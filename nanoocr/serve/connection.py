"""A client's connection: the headers of a request must arrive in time, and must not be too large.

h11 limits headers to 64 KiB; uvicorn's other parser accepts megabytes. uvicorn itself waits
forever for headers that come byte by byte; here it does not.
"""

from __future__ import annotations

import asyncio
import json
import resource
import socket

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from nanoocr.serve.errors import error_body

HEAD_SECONDS = 20.0  # seconds within which the headers of a request must arrive
MOST_CONNECTIONS = 800  # further clients get a 503
OPEN_FILES = 4096  # the limit that is asked for; that of most shells is 1024
OTHER_FILES = 24  # open files of the process that are no connections


class Connection(H11Protocol):
    """uvicorn's connection, which is closed if the headers do not arrive in time."""

    _due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock at once, because a client may never send a byte."""
        super().connection_made(transport)
        # uvicorn refuses requests alone, and connections without any would use up all open files.
        if self.limit_concurrency is not None and len(self.connections) > self.limit_concurrency:
            body = json.dumps(error_body(503, "the server has too many connections", "too_many_connections"))
            head = f"content-type: application/json\r\ncontent-length: {len(body)}\r\nretry-after: 5\r\n"
            transport.write(
                f"HTTP/1.1 503 Service Unavailable\r\n{head}connection: close\r\n\r\n{body}".encode()
            )
            transport.close()
            return
        self._expect()

    def data_received(self, data: bytes) -> None:
        """After an answer, start the clock again when the next request begins."""
        super().data_received(data)
        if not self._waits():
            self._forget()
        elif self._due is None:
            self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._forget()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP by an error in our usual JSON, unless an answer is already under way."""
        body = json.dumps(error_body(400, msg, "invalid_http")).encode()
        head = [
            ("content-type", "application/json"),
            ("content-length", str(len(body))),
            ("connection", "close"),
        ]
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            for event in (h11.Response(status_code=400, headers=head), h11.Data(data=body)):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _waits(self) -> bool:
        """Whether no request is under way."""
        return self.cycle is None or self.cycle.response_complete

    def _expect(self) -> None:
        self._due = self.loop.call_later(HEAD_SECONDS, self._late)

    def _forget(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None

    def _late(self) -> None:
        self._due = None
        if self._waits():
            self.transport.close()


class Server(uvicorn.Server):
    """uvicorn's server, which tells the application as soon as it is asked to stop."""

    def handle_exit(self, sig: int, frame: object) -> None:
        """Answer SIGINT and SIGTERM: `/ready` says no from now on, and what runs is finished."""
        self.config.app.state.server.stopping = True  # type: ignore[union-attr]  # tells connected clients
        super().handle_exit(sig, frame)  # type: ignore[arg-type]

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As of uvicorn, which after a second Ctrl-C prints a traceback of what it left running."""
        await super().shutdown(sockets)
        if self.force_exit:
            await self.lifespan.shutdown()


def most_connections() -> int:
    """How many clients may be connected, once this process may have as many files open as the system allows.

    If no file can be opened, asyncio prints a traceback for each of two thousand tries to accept a client, so
    there is room for a burst of clients beyond those that are served.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= soft < OPEN_FILES:
        soft = OPEN_FILES if hard < 0 else min(hard, OPEN_FILES)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return MOST_CONNECTIONS if soft < 0 else max(1, min(MOST_CONNECTIONS, soft - OTHER_FILES))
