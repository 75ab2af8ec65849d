"""A client's connection: headers must arrive in time, must not be too large, and answers must be taken.

h11 limits headers to 64 KiB; uvicorn's other parser accepts megabytes. uvicorn itself waits
forever for headers that come byte by byte, and for a client that takes nothing of its answer; here it
does not.
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
TAKE_SECONDS = 60.0  # seconds within which a client must take a part of its answer (messages.PART)
MOST_CONNECTIONS = 800  # further clients get a 503
OPEN_FILES = 4096  # the limit that is asked for; that of most shells is 1024
OTHER_FILES = 24  # open files of the process that are no connections


class Connection(H11Protocol):
    """uvicorn's connection, which ends if headers do not arrive or answers are not taken in time."""

    _due: asyncio.TimerHandle | None = None
    _untaken: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock at once, because a client may never send a byte."""
        super().connection_made(transport)
        # So pause_writing is called as soon as anything waits for the client, even after the last part.
        transport.set_write_buffer_limits(high=0)
        # uvicorn refuses requests alone, in plain text; connections without any would use up all open files.
        most, self.limit_concurrency = self.config.limit_concurrency, None
        if most is not None and len(self.connections) > most:
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
        """Stop the clocks."""
        self._forget()
        self._taken()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Something waits for the client: start the clock. Otherwise it could keep its place forever."""
        super().pause_writing()
        # Not closed: that would wait as well until the client takes the rest.
        self._untaken = self.loop.call_later(TAKE_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """The client has taken all of it."""
        self._taken()
        super().resume_writing()

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

    def _taken(self) -> None:
        if self._untaken is not None:
            self._untaken.cancel()
            self._untaken = None

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
