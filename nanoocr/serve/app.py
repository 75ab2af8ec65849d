"""The HTTP side: routes, limits, the key, streams. It never computes; it waits for threads of service.py."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import logging
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from nanoocr.formats import FORMATS, render
from nanoocr.inference.page import Page
from nanoocr.pages import parse_pages
from nanoocr.serve.answer import chunks, completion, make_answer, usage_of
from nanoocr.serve.body import parse_json, parse_upload, read_body
from nanoocr.serve.chat import Address, ChatRequest, Rules, parse_chat
from nanoocr.serve.errors import ApiError, as_api_error, bad, error_body, error_response
from nanoocr.serve.fetch import Fetcher
from nanoocr.serve.metrics import Metrics
from nanoocr.serve.service import OPENING, Event, Read, Service, Task

LOG = logging.getLogger("nanoocr.serve")
LOOK_SECONDS = 0.25  # between two looks whether a client that waits is still there
TICK = 0.02  # seconds between two looks whether the loop runs in time
HELD_BODIES = 16  # so many of the largest bodies may be inside at a time
RETRY_SECONDS = 2  # what a client is told to wait when the queue is full
TYPES = {
    "txt": "text/plain",
    "json": "application/json",
    "md": "text/markdown",
    "hocr": "text/vnd.hocr+html",
    "alto": "application/alto+xml",
    "page": "application/vnd.prima.page+xml",
    "tsv": "text/tab-separated-values",
    "pdf": "application/pdf",
}
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
    any_prompt: bool = False
    fetcher: Fetcher | None = None


@dataclass
class State:
    """A running server: its service, its limits, and how many requests are inside."""

    service: Service
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


def make_app(service: Service, limits: Limits) -> Starlette:
    """The application; its `state.server` is the State."""
    state = State(service, limits)
    service.note = state.metrics.stage

    def guarded(work: Callable[[State, Request], Awaitable[Response]]) -> Callable[..., Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            started = time.perf_counter()
            try:
                _check_key(request, limits.keys)
                response = await work(state, request)
            except Exception as error:
                if (known := as_api_error(error)).status == 500:
                    LOG.exception("a request failed")
                response = error_response(known)
            state.metrics.request(request.url.path, response.status_code, time.perf_counter() - started)
            return response

        return answer

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def ready(_: Request) -> Response:
        ok = not state.stopping and state.inside < limits.max_queue
        return JSONResponse({"ready": ok}, 200 if ok else 503)

    async def metrics(_: Request) -> Response:
        decoder = service.decoder
        state.metrics.look(state.inside, len(decoder.members), decoder.waiting())
        return Response(state.metrics.text(), media_type="text/plain; version=0.0.4")

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
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
            Route("/v1/chat/completions", guarded(_chat), methods=["POST"]),
            Route("/v1/ocr", guarded(_ocr), methods=["POST"]),
        ],
        exception_handlers={HTTPException: _http_error},
    )
    app.state.server = state
    return app


async def _watch(metrics: Metrics) -> None:
    """Look again and again whether the loop runs in time."""
    loop = asyncio.get_running_loop()
    while True:
        due, computed = loop.time() + TICK, time.process_time()
        await asyncio.sleep(TICK)
        metrics.stalled(loop.time() - due, time.process_time() - computed)


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
    model = {"id": state.service.name, "object": "model", "created": 0, "owned_by": "nanoocr"}
    return JSONResponse({"object": "list", "data": [model]})


# ---------------------------------------------------------------------------------------------------
# Reading, and waiting for it


async def _events(state: State, tasks: list[Task]) -> AsyncGenerator[Event | list[Read], None]:
    """What happens while the documents are read, then their pages; the work ends where nobody listens.

    Raises what the reading ended by, and ApiError 504 after the server's time.
    """
    loop, queue = asyncio.get_running_loop(), asyncio.Queue[Any]()
    cancelled = threading.Event()
    tasks = [replace(task, cancelled=cancelled) for task in tasks]

    def tell(event: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the server has stopped
            loop.call_soon_threadsafe(queue.put_nowait, event)

    def work() -> None:
        try:
            tell([page for task in tasks for page in state.service.read(task, tell)])
        except Exception as error:  # noqa: BLE001 - raised again where it is waited for
            tell(error)

    state.service.threads.submit(work)
    end = loop.time() + state.limits.timeout_s
    try:
        while True:
            try:
                event = await asyncio.wait_for(queue.get(), max(0.0, end - loop.time()))
            except asyncio.TimeoutError:
                message = f"the request took more than {state.limits.timeout_s:g} s (--timeout_s)"
                raise ApiError(504, message, code="timeout") from None
            if isinstance(event, Exception):
                raise event
            if isinstance(event, list):
                # Before they are handed on: who has the pages asks for nothing more.
                state.metrics.read([one.page for one in event])
                yield event
                return
            yield event
    finally:
        cancelled.set()


async def _pages(state: State, request: Request, tasks: list[Task]) -> list[Read]:
    """The pages of documents, for a client that waits for all of them; its going away ends the work."""

    async def collect() -> list[Read]:
        async with contextlib.aclosing(_events(state, tasks)) as events:
            async for event in events:
                if isinstance(event, list):
                    return event
        raise AssertionError("a reading ends in its pages or an error")

    work = asyncio.ensure_future(collect())
    try:
        while not (await asyncio.wait({work}, timeout=LOOK_SECONDS))[0]:
            if await request.is_disconnected():
                raise bad("the client has gone", code="disconnected")
        return work.result()
    finally:
        work.cancel()


async def _chat(state: State, request: Request) -> Response:
    limits, service = state.limits, state.service
    question = service.reader.prompt if service.reader.by_lines else None
    rules = Rules(service.name, question, limits.any_prompt, limits.fetcher is not None)
    with state.place() as hold:
        body = await read_body(request, limits.max_body, hold)
        asked = await asyncio.to_thread(_parsed, body, rules)
        del body  # its pictures are in `asked`, and reading them may take long
        documents = [await _fetched(state, document) for document in asked.documents]
        tasks = [_task(asked, data, f"document {number}") for number, data in enumerate(documents, 1)]
        asked = replace(asked, documents=())
        # Also a stream waits for all pages here: an error behind the first piece reaches few clients.
        reads = await _pages(state, request, tasks)
    _raise_broken(reads)
    # A long answer takes its time, and the loop must not stand still.
    made = await asyncio.to_thread(_answer, service, reads, asked)
    if isinstance(made, bytes):
        return Response(made, media_type="application/json")
    return StreamingResponse(_sent(made), media_type="text/event-stream")


def _answer(service: Service, reads: list[Read], asked: ChatRequest) -> bytes | list[Event]:
    """The JSON of an answer, or its events."""
    answer, tokenizer = make_answer(reads, asked), service.reader.tokenizer
    if asked.stream:
        return list(chunks(answer, service.name, asked.usage, tokenizer))
    # In pieces: what json.dumps makes of a long list at once holds up all threads.
    values = completion(answer, service.name, tokenizer)
    return "".join(json.JSONEncoder(ensure_ascii=False).iterencode(values)).encode()


def _parsed(body: bytes, rules: Rules) -> ChatRequest:
    return parse_chat(parse_json(body), rules)


def _task(asked: ChatRequest, data: bytes, name: str) -> Task:
    return Task(data, name, prompt=asked.prompt, sampling=asked.sampling, max_tokens=asked.max_tokens)


async def _fetched(state: State, document: bytes | Address) -> bytes:
    """A document, fetched where it is an address."""
    fetcher = state.limits.fetcher
    if isinstance(document, bytes):
        return document
    assert fetcher is not None  # else parse_chat has refused it
    return await asyncio.to_thread(fetcher.fetch, document.url, document.where, state.limits.max_body)


def _raise_broken(reads: list[Read]) -> None:
    """Raises ApiError where not one page could be read."""
    if reads and all(one.page.status == "error" for one in reads):
        raise bad(str(reads[0].page.error), "file", "picture_unreadable")


async def _sent(events: list[Event]) -> AsyncIterator[str]:
    for event in events:
        yield _line(event)
    yield "data: [DONE]\n\n"


def _line(event: Event) -> str:
    return f"data: {json.dumps(event, ensure_ascii=False)}\n\n"


async def _ocr(state: State, request: Request) -> Response:
    with contextlib.ExitStack() as stack:
        body = await read_body(request, state.limits.max_body, stack.enter_context(state.place()))
        upload = await asyncio.to_thread(parse_upload, request, body)
        del body
        fields = upload.fields
        if unknown := sorted(set(fields) - {"format", "pages", "stream", "preview", "model"}):
            raise bad(f"the field {unknown[0]!r} is not known here", unknown[0], "unsupported_parameter")
        ranges = parse_pages(fields.get("pages") or "1-end")
        task = Task(upload.data, upload.name, pages=ranges, preview=_flag(fields, "preview"))
        name = _format(request, fields)
        if _flag(fields, "stream"):
            return await _stream(state, task, stack)
        read = await _pages(state, request, [task])
        _raise_broken(read)
        pages = [one.page for one in read]
        if name is None:
            content: str | bytes = await asyncio.to_thread(_ocr_json, state.service.name, pages)
        else:
            content = await asyncio.to_thread(_rendered, pages, name, task)
    return Response(content, media_type=TYPES[name or "json"])


def _ocr_json(model: str, pages: list[Page]) -> str:
    head, usage = json.dumps({"object": "ocr", "model": model})[1:-1], json.dumps(usage_of(pages))
    return f'{{{head}, "pages": [{",".join(page.to_json() for page in pages)}], "usage": {usage}}}'


def _rendered(pages: list[Page], name: str, task: Task) -> str | bytes:
    with OPENING:  # a PDF of the results opens its source again
        return render(pages, name, {task.name: task.data} if name == "pdf" else None)


def _flag(fields: dict[str, str], name: str) -> bool:
    values = {"": False, "false": False, "0": False, "true": True, "1": True}
    value = fields.get(name, "").lower()
    if value not in values:
        raise bad(f"{name} must be true or false", name)
    return values[value]


def _format(request: Request, fields: dict[str, str]) -> str | None:
    """The name of the format asked for; None for the JSON of this interface."""
    if name := fields.get("format"):
        if name not in FORMATS:
            raise bad(f"unknown format {name!r}: choose {', '.join(FORMATS)}", "format")
        return None if name == "json" else name
    accepted = [one.partition(";")[0].strip() for one in request.headers.get("accept", "").split(",")]
    return next((name for kind in accepted for name in TYPES if TYPES[name] == kind and name != "json"), None)


async def _stream(state: State, task: Task, stack: contextlib.ExitStack) -> Response:
    """Events as they come. The first is awaited here, so that a document that cannot be opened is a 400."""
    events = _events(state, [task])
    first = await anext(events)
    stack = stack.pop_all()  # the place in the queue is given back when the stream has ended

    async def sent() -> AsyncIterator[str]:
        try:
            yield _line(first) if isinstance(first, dict) else ""
            async for event in events:
                if isinstance(event, list):
                    event = {"type": "done", "usage": usage_of([one.page for one in event])}
                yield _line(event)
            yield "data: [DONE]\n\n"
        except Exception as error:  # noqa: BLE001 - the status has gone out: the stream itself must tell
            known = as_api_error(error)
            yield _line(error_body(known.status, str(known), known.code, known.param))
        finally:
            await events.aclose()
            stack.close()

    return StreamingResponse(sent(), media_type="text/event-stream")
