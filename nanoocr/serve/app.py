"""The HTTP side: routes, limits, the key, streams. It never computes; a desk does the work (messages.py)."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import anyio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from nanoocr.serve.body import read_body
from nanoocr.serve.errors import (
    ApiError,
    as_api_error,
    bad,
    error_body,
    error_response,
    from_fields,
    stopped,
    unknown_model,
)
from nanoocr.serve.heartbeat import beats
from nanoocr.serve.messages import Desk, Head, Job, Reply, event_line
from nanoocr.serve.metrics import Metrics

LOG = logging.getLogger("nanoocr.serve")
LOOK_SECONDS = 0.25  # seconds between two checks whether a waiting client is still connected
LOOK_MOST = 1.0  # seconds for which /metrics waits for the process with the model
HELD_BODIES = 16  # all bodies together may be as large as this many of the largest
SHOWN = 100  # characters of an address that an error repeats
RETRY_SECONDS = 2  # what a client is told to wait when the queue is full
# What each address is for, as errors tell it.
USES = {
    "/v1/chat/completions": "send POST with OpenAI's JSON",
    "/v1/ocr": "send POST with a picture or a PDF as the body, or as the part `file` of a form",
    "/v1/models": "send GET",
    "/health": "send GET",
    "/ready": "send GET",
    "/metrics": "send GET",
    "/": "open it with GET in a browser",
}
STREAMED = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # nginx would hold it back until its end
SAFE = {  # the page loads nothing from elsewhere, and no other site may frame it
    "Content-Security-Policy": "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; connect-src 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True)
class Limits:
    """What a server accepts. `keys` are the clients' keys; if there are none, it asks for none."""

    max_body: int = 64 * 2**20
    max_queue: int = 128
    timeout_s: float = 600.0
    keys: tuple[str, ...] = ()


@dataclass
class State:
    """A running server: its desk, its limits, and how many requests are inside."""

    desk: Desk
    limits: Limits
    metrics: Metrics = field(default_factory=Metrics)
    inside: int = 0
    held: int = 0  # bytes of the bodies inside
    stopping: bool = False

    @contextlib.contextmanager
    def place(self) -> Iterator[Callable[[int], None]]:
        """Take a place in the queue before the body is read. Yields a function that counts the body's bytes.

        Bodies fill memory, so the sum of all of them is limited as well.
        """
        if self.stopping:
            raise stopped()
        wait = {"Retry-After": str(RETRY_SECONDS)}
        full = ApiError(429, "the server is full: try again in a moment", code="queue_full", headers=wait)
        if self.inside >= self.limits.max_queue:
            raise full
        held = 0

        def hold(count: int) -> None:
            """Count bytes of a body that came; raises ApiError where all bodies together are too large."""
            nonlocal held
            held += count
            self.held += count
            if self.held > HELD_BODIES * self.limits.max_body:
                raise full

        self.inside += 1
        try:
            yield hold
        finally:
            self.inside -= 1
            self.held -= held


Work = Callable[[State, Request], Awaitable[Response]]  # what a route does


def make_app(desk: Desk, limits: Limits) -> Starlette:
    """The application; its `state.server` is the State."""
    state = State(desk, limits)
    desk.note = state.metrics.note
    guarded = partial(_guarded, state)

    async def health(_: Request) -> Response:
        """Whether the process answers."""
        return JSONResponse({"status": "ok"})

    async def ready(_: Request) -> Response:
        """Whether a new request would be taken: 200 or 503."""
        ok = desk.ready() and not state.stopping and state.inside < limits.max_queue
        return JSONResponse({"ready": ok}, 200 if ok else 503)

    async def metrics(_: Request) -> Response:
        """What Prometheus reads."""
        state.metrics.look(state.inside, **await _rows(state))
        return Response(state.metrics.text(), media_type="text/plain; version=0.0.4")

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        """What runs beside the requests, from the start of the server to its end."""
        # Both import what they need when they are first used, and the first client would wait for that.
        async with anyio.create_task_group():
            state.metrics.text()
        watching = asyncio.ensure_future(_watch(state.metrics))
        yield
        watching.cancel()

    app = Starlette(
        lifespan=lifespan,
        routes=[
            Route("/", _page),
            Route("/health", health),
            Route("/ready", ready),
            Route("/metrics", metrics),
            Route("/v1/models", guarded(_models)),
            Route("/v1/models/{name}", guarded(_model)),
            Route("/v1/chat/completions", guarded(partial(_answer, kind="chat")), methods=["POST"]),
            Route("/v1/ocr", guarded(partial(_answer, kind="ocr")), methods=["POST"]),
        ],
        exception_handlers={HTTPException: _http_error},
    )
    app.state.server = state
    # A redirect would name the address as this server knows it, which a proxy before it may not.
    app.router.redirect_slashes = False
    return app


def _guarded(state: State, work: Work) -> Callable[..., Awaitable[Response]]:
    """The handler of a route: `work` behind a check of the key, with its errors as answers."""

    async def answer(request: Request) -> Response:
        """Answer one request, and count it."""
        started = time.perf_counter()
        try:
            _check_key(request, state.limits.keys)
            response = await work(state, request)
        except asyncio.CancelledError:
            if not state.stopping:
                raise
            response = error_response(stopped())  # a second Ctrl-C ends what runs
        except Exception as error:
            # Where the error is told by the process with the model, that one has logged it.
            if (known := as_api_error(error)).status == 500 and known is not error:
                LOG.exception("a request failed")
            response = error_response(known)
        state.metrics.request(request.url.path, response.status_code, time.perf_counter() - started)
        return response

    return answer


async def _watch(metrics: Metrics) -> None:
    """Check again and again whether the event loop is on time."""
    async for beat in beats():
        metrics.stalled(beat)


async def _page(_: Request) -> Response:
    return HTMLResponse(Path(__file__).with_name("page.html").read_text(encoding="utf-8"), headers=SAFE)


async def _http_error(request: Request, error: Exception) -> Response:
    """The answer to what no route takes, with what would be taken."""
    assert isinstance(error, HTTPException)
    path, method, message = request.url.path[:SHOWN], request.method, str(error.detail)
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "invalid_http")
    if error.status_code == 405:
        known = "/v1/models" if path.startswith("/v1/models/") else path
        message = f"{path} does not take {method}: {USES.get(known, 'send GET')}"
    elif error.status_code == 404:
        message = f"there is nothing at {path}: the addresses are {', '.join(USES)}"
    return JSONResponse(error_body(error.status_code, message, code), error.status_code, error.headers)


def _check_key(request: Request, keys: tuple[str, ...]) -> None:
    """Raise ApiError 401 if none of the keys was sent. The time this takes reveals nothing about the keys."""
    header = request.headers.get("authorization", "")
    scheme, _, rest = header.partition(" ")
    sent = (rest if scheme.lower() == "bearer" else header).strip().encode("latin-1")  # the bytes that came
    # Letters beyond ASCII come in one of two encodings. All keys are compared even after a match, so the time
    # does not depend on which one matches.
    spelled = [key.encode(codec, "backslashreplace") for key in keys for codec in ("utf-8", "latin-1")]
    matches = [hmac.compare_digest(sent, key) for key in spelled]
    if keys and not any(matches):
        wanted = {"WWW-Authenticate": "Bearer"}
        message = "the key of the API is missing or wrong: send it as `Authorization: Bearer KEY`"
        raise ApiError(401, message, code="invalid_api_key", headers=wanted)


async def _models(state: State, _: Request) -> Response:
    return JSONResponse({"object": "list", "data": [_about_model(state)]})


async def _model(state: State, request: Request) -> Response:
    if (asked := request.path_params["name"]) != state.desk.name:
        raise unknown_model(asked, state.desk.name)
    return JSONResponse(_about_model(state))


def _about_model(state: State) -> dict[str, Any]:
    return {"id": state.desk.name, "object": "model", "created": 0, "owned_by": "nanoocr"}


# ---------------------------------------------------------------------------------------------------
# Answers


class Parts(StreamingResponse):
    """An answer in parts. However it ends, even before it begins, it gives its place in the queue back."""

    def __init__(
        self, parts: AsyncGenerator[bytes, None], head: Head, stack: contextlib.AsyncExitStack
    ) -> None:
        headers = STREAMED if head.length is None else {"content-length": str(head.length)}
        super().__init__(parts, media_type=head.media_type, headers=headers)
        self.stack = stack

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As of StreamingResponse."""
        try:
            await super().__call__(scope, receive, send)
        except ApiError as error:
            # Half an answer is out. uvicorn breaks the connection, so that no client takes it for whole.
            LOG.error("an answer broke off: %s", error)
        except asyncio.CancelledError:
            LOG.error("an answer broke off: the server was stopped at once")
        finally:
            await self.stack.aclose()


async def _answer(state: State, request: Request, kind: Literal["chat", "ocr"]) -> Response:
    async with contextlib.AsyncExitStack() as stack:
        hold = stack.enter_context(state.place())
        body = await read_body(request, state.limits.max_body, hold, lambda: state.stopping)
        headers = request.headers
        job = Job(
            kind,
            body,
            headers.get("content-type", ""),
            headers.get("accept", ""),
            dict(request.query_params),
        )
        replies = _replies(state, job)
        del body, job  # the desk has the bytes, and the answer may take long
        stack.push_async_callback(replies.aclose)
        head = await _head(request, replies)
        # After the first part it is too late for a status: only an event of the stream can tell.
        return Parts(_parts(replies, head), head, stack.pop_all())


async def _replies(state: State, job: Job) -> AsyncGenerator[Reply, None]:
    """The desk's replies to a job. The work ends as soon as nobody takes them any more.

    Raises:
        ApiError: the one that ended the job; 504 if it took longer than the server allows.
    """
    loop, queue = asyncio.get_running_loop(), asyncio.Queue[Reply]()

    def tell(reply: Reply) -> None:
        """Hand a reply to the loop; called in other threads."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: the server has stopped
            loop.call_soon_threadsafe(queue.put_nowait, reply)

    end = loop.time() + state.limits.timeout_s
    cancel = state.desk.begin(job, tell)
    del job
    try:
        while True:
            try:
                reply = await asyncio.wait_for(queue.get(), max(0.0, end - loop.time()))
            except asyncio.TimeoutError:
                message = f"the request took more than {state.limits.timeout_s:g} s (--timeout_s): send less"
                raise ApiError(504, message, code="timeout") from None
            if reply.kind == "error":
                raise from_fields(reply.value)
            if reply.kind == "end":
                return
            yield reply
    finally:
        cancel()


async def _head(request: Request, replies: AsyncGenerator[Reply, None]) -> Head:
    """Wait for the head of an answer; if the client goes away meanwhile, the work ends."""
    work = asyncio.ensure_future(anext(replies))
    try:
        while not (await asyncio.wait({work}, timeout=LOOK_SECONDS))[0]:
            if await request.is_disconnected():
                raise bad("the client has gone", code="disconnected")
        return work.result().value
    finally:
        if not work.done():
            work.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await work


async def _parts(replies: AsyncGenerator[Reply, None], head: Head) -> AsyncGenerator[bytes, None]:
    try:
        async for reply in replies:
            yield reply.value
    except Exception as error:
        if head.length is not None:
            raise
        known = as_api_error(error)
        yield event_line(error_body(known.status, str(known), known.code, known.param))


async def _rows(state: State) -> dict[str, int]:
    """How many rows the decoder has; empty if the process with the model does not answer in time."""

    async def collect() -> bytes:
        """Ask the process with the model, and join its answer."""
        async with contextlib.aclosing(_replies(state, Job("look"))) as replies:
            return b"".join([reply.value async for reply in replies if reply.kind == "part"])

    try:
        return json.loads(await asyncio.wait_for(collect(), LOOK_MOST))
    except (ApiError, asyncio.TimeoutError):
        return {"batch": 0, "waiting": 0}
