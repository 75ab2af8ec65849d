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
from typing import Literal

import anyio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from nanoocr.serve.body import read_body
from nanoocr.serve.errors import ApiError, as_api_error, bad, error_body, error_response, from_fields
from nanoocr.serve.heartbeat import beats
from nanoocr.serve.messages import Desk, Head, Job, Reply
from nanoocr.serve.metrics import Metrics

LOG = logging.getLogger("nanoocr.serve")
LOOK_SECONDS = 0.25  # between two looks whether a client that waits is still there
LOOK_MOST = 1.0  # seconds that /metrics waits for the side that reads
HELD_BODIES = 16  # so many of the largest bodies may be inside at a time
RETRY_SECONDS = 2  # what a client is told to wait when the queue is full
SAFE = {  # the page brings all that it needs, and nobody may frame it
    "Content-Security-Policy": "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; connect-src 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True)
class Limits:
    """What a server takes on. `keys` are those of its clients; without any it asks for none."""

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
        """A place in the queue, taken before the body is read; what it gives is told the body's bytes.

        Bodies fill memory, so that all of them together are bounded too.
        """
        if self.stopping:
            raise ApiError(503, "the server is stopping", code="stopping", headers={"Retry-After": "5"})
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
            Route("/v1/chat/completions", guarded(partial(_answer, kind="chat")), methods=["POST"]),
            Route("/v1/ocr", guarded(partial(_answer, kind="ocr")), methods=["POST"]),
        ],
        exception_handlers={HTTPException: _http_error},
    )
    app.state.server = state
    return app


def _guarded(state: State, work: Work) -> Callable[..., Awaitable[Response]]:
    """The handler of a route: `work` behind a check of the key, with its errors as answers."""

    async def answer(request: Request) -> Response:
        """Answer one request, and count it."""
        started = time.perf_counter()
        try:
            _check_key(request, state.limits.keys)
            response = await work(state, request)
        except Exception as error:
            if (known := as_api_error(error)).status == 500:
                LOG.exception("a request failed")
            response = error_response(known)
        state.metrics.request(request.url.path, response.status_code, time.perf_counter() - started)
        return response

    return answer


async def _watch(metrics: Metrics) -> None:
    """Look again and again whether the loop runs in time."""
    async for beat in beats():
        metrics.stalled(beat)


async def _page(_: Request) -> Response:
    return HTMLResponse(Path(__file__).with_name("page.html").read_text(encoding="utf-8"), headers=SAFE)


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    body = error_body(error.status_code, str(error.detail), str(error.status_code))
    return JSONResponse(body, error.status_code, error.headers)


def _check_key(request: Request, keys: tuple[str, ...]) -> None:
    """Raises ApiError 401 where none of the keys is sent; the time that takes says nothing about them."""
    sent = request.headers.get("authorization", "").removeprefix("Bearer ").strip().encode()
    # All are compared, whichever matches.
    matches = [hmac.compare_digest(sent, key.encode()) for key in keys]
    if keys and not any(matches):
        raise ApiError(401, "the key of the API is missing or wrong", code="invalid_api_key")


async def _models(state: State, _: Request) -> Response:
    model = {"id": state.desk.name, "object": "model", "created": 0, "owned_by": "nanoocr"}
    return JSONResponse({"object": "list", "data": [model]})


# ---------------------------------------------------------------------------------------------------
# Answers


class Parts(StreamingResponse):
    """An answer in parts. Its place in the queue is given back however it ends, also before it begins."""

    def __init__(
        self, parts: AsyncGenerator[bytes, None], head: Head, stack: contextlib.AsyncExitStack
    ) -> None:
        length = {} if head.length is None else {"content-length": str(head.length)}
        super().__init__(parts, media_type=head.media_type, headers=length)
        self.stack = stack

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As of StreamingResponse."""
        try:
            await super().__call__(scope, receive, send)
        except ApiError as error:
            # What has gone out is half an answer; uvicorn breaks the connection, so that nobody trusts it.
            LOG.error("an answer broke off: %s", error)
        finally:
            await self.stack.aclose()


async def _answer(state: State, request: Request, kind: Literal["chat", "ocr"]) -> Response:
    async with contextlib.AsyncExitStack() as stack:
        body = await read_body(request, state.limits.max_body, stack.enter_context(state.place()))
        headers = request.headers
        job = Job(
            kind,
            body,
            headers.get("content-type", ""),
            headers.get("accept", ""),
            dict(request.query_params),
        )
        replies = _replies(state, job)
        del body, job  # the desk has them, and the answer may take long
        stack.push_async_callback(replies.aclose)
        head = await _head(request, replies)
        # An error behind the first part has no status left: only a stream's own events can tell it.
        return Parts(_parts(replies, head), head, stack.pop_all())


async def _replies(state: State, job: Job) -> AsyncGenerator[Reply, None]:
    """What the desk says; the work ends where nobody listens.

    Raises what it ended by, and ApiError 504 after the server's time.
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
                message = f"the request took more than {state.limits.timeout_s:g} s (--timeout_s)"
                raise ApiError(504, message, code="timeout") from None
            if reply.kind == "error":
                raise from_fields(reply.value)
            if reply.kind == "end":
                return
            yield reply
    finally:
        cancel()


async def _head(request: Request, replies: AsyncGenerator[Reply, None]) -> Head:
    """The head of an answer. Its client is looked at meanwhile: its going away ends the work."""
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
        body = error_body(known.status, str(known), known.code, known.param)
        yield f"data: {json.dumps(body, ensure_ascii=False)}\n\n".encode()


async def _rows(state: State) -> dict[str, int]:
    """How many rows the decoder has; none where nobody tells in time."""

    async def collect() -> bytes:
        """The answer as it comes through the pipe."""
        async with contextlib.aclosing(_replies(state, Job("look"))) as replies:
            return b"".join([reply.value async for reply in replies if reply.kind == "part"])

    try:
        return json.loads(await asyncio.wait_for(collect(), LOOK_MOST))
    except (ApiError, asyncio.TimeoutError):
        return {"batch": 0, "waiting": 0}
