"""A service of the packaged model, and servers of it that run in a thread."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

import pytest


@pytest.fixture(scope="session")
def service():
    pytest.importorskip("starlette")
    from nanoocr import Reader
    from nanoocr.serve.service import Service

    made = Service(Reader(), "nanoocr", max_pages=3)
    yield made
    made.close()


@pytest.fixture(scope="session")
def served():
    """served(service, limits...) is a context: the address of a server, and its state."""
    return _served


@pytest.fixture(scope="module")
def address(service, served):
    """Where a server of the packaged model listens; it takes requests up to a megabyte."""
    with served(service, max_body=2**20) as (url, _):
        yield url


@contextlib.contextmanager
def _served(service, any_prompt=False, fetcher=None, desk=None, most_connections=None, **limits):
    """The address of a server that runs in a thread, and so does what it reads, unless a `desk` is given."""
    import uvicorn

    from nanoocr.serve.app import Limits, make_app
    from nanoocr.serve.connection import Connection
    from nanoocr.serve.jobs import Grants, ThreadDesk

    bounds = Limits(**limits)
    app = make_app(desk or ThreadDesk(service, Grants(any_prompt, fetcher, bounds.max_body)), bounds)
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    config = uvicorn.Config(
        app, port=port, http=Connection, log_level="error", limit_concurrency=most_connections
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port}", app.state.server
    finally:
        server.should_exit = True
        thread.join()
