"""A client's connection: the headers of a request must arrive in time, and must not be too large.

h11 limits headers to 64 KiB; uvicorn's other parser accepts megabytes. uvicorn itself waits
forever for headers that come byte by byte; here it does not.
"""

from __future__ import annotations

import asyncio
import json

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from nanoocr.serve.errors import error_body

HEAD_SECONDS = 20.0  # seconds within which the headers of a request must arrive
MOST_CONNECTIONS = 800  # stays below the 1024 open files that most systems allow; further clients get a 503


class Connection(H11Protocol):
    """uvicorn's connection, which is closed if the headers do not arrive in time."""

    _due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock at once, because a client may never send a byte."""
        super().connection_made(transport)
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
