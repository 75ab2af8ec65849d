"""Bodies of requests: read within limits of size and time, then taken apart."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any, NamedTuple

from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from nanoocr.serve.errors import ApiError, bad, in_utf8, stopped

LOOK_SECONDS = 0.25  # seconds between two looks whether the server is stopping
FORM = "send the document as one part called file, as curl -F file=@scan.pdf does"
BODY_SECONDS = 60.0  # seconds within which a body must arrive, since a slow one keeps its place in the queue


class Upload(NamedTuple):
    """A document and the fields that came with it."""

    data: bytes
    name: str
    fields: dict[str, str]


def quiet_forms() -> None:
    """Silence python-multipart, because anybody could fill the server's log by sending odd forms."""
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL + 1)


async def read_body(
    request: Request, limit: int, hold: Callable[[int], None], stopping: Callable[[], bool]
) -> bytearray:
    """Read the whole body. `hold` is called with the size of each part, and may refuse it by raising.

    Raises:
        ApiError: 413 for more than `limit` bytes, before they are read where the client says how many;
            408 where it does not arrive in time; 400 where the client goes away; 503 where the server is
            `stopping` before the body is whole.
    """
    too_large = ApiError(
        413,
        f"the body is larger than {limit / 2**20:g} MiB, the limit of this server (--max_body_mb)",
        code="body_too_large",
    )
    declared = request.headers.get("content-length", "0")
    # isascii, because "²" counts as a digit too; the length, because int() refuses thousands of digits.
    if not (declared.isascii() and declared.isdigit()) or len(declared) > 18 or int(declared) > limit:
        raise too_large

    async def collect() -> bytearray:
        """The body, counted while it comes; raises ApiError where it is too large."""
        parts = bytearray()
        async for part in request.stream():
            hold(len(part))
            parts += part
            if len(parts) > limit:
                raise too_large
        return parts  # not converted to bytes: copying a large body would block the event loop

    end = asyncio.get_running_loop().time() + BODY_SECONDS
    collecting = asyncio.ensure_future(collect())
    try:
        while not (await asyncio.wait({collecting}, timeout=min(LOOK_SECONDS, BODY_SECONDS)))[0]:
            if stopping():
                raise stopped()  # whoever sends slowly must not keep the server from stopping
            if asyncio.get_running_loop().time() >= end:
                raise ApiError(408, f"the body did not arrive within {BODY_SECONDS:.0f} s", code="timeout")
        return collecting.result()
    except ClientDisconnect:
        raise bad("the client went away before the body was whole", code="disconnected") from None
    finally:
        collecting.cancel()


def parse_json(body: bytes | bytearray) -> dict[str, Any]:
    """The JSON object of a body.

    Raises:
        ApiError: the body is not a JSON object.
    """
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise bad(
            "the body is not JSON: send an object as OpenAI's interface has it", code="invalid_json"
        ) from None
    if not isinstance(value, dict):
        raise bad("the body must be a JSON object", code="invalid_json")
    return value


def parse_upload(body: bytes | bytearray, content_type: str, query: Mapping[str, str]) -> Upload:
    """The document of a body: the part `file` of a multipart form, or else the whole body.

    Raises:
        ApiError: no document, or a form that cannot be read.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if not kind.startswith("multipart/"):
        if kind == "application/json" and body[:1] in (b"{", b"["):
            raise bad("the body is JSON: send the document itself, or a form with a part called file", "file")
        if not body:
            raise bad("the body is empty: send a picture, a PDF or a form with a part called file", "file")
        return Upload(bytes(body), "document", dict(query))

    # Parsing a large form takes long, so it runs in a thread of its own, which needs its own event loop.
    return asyncio.run(_parse_form(bytes(body), content_type, query))


async def _parse_form(body: bytes, content_type: str, query: Mapping[str, str]) -> Upload:
    async def once() -> AsyncGenerator[bytes]:
        """The body as a stream of one piece, which the parser of forms wants."""
        yield body

    try:
        form = await MultiPartParser(
            Headers({"content-type": content_type}), once(), max_files=1, max_fields=20
        ).parse()
    except (MultiPartException, KeyError, UnicodeError) as error:
        raise bad(
            f"the form cannot be read ({str(error).rstrip('.')}): {FORM}", code="invalid_form"
        ) from None
    try:
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise bad(f"the form has no part called file that is a file: {FORM}", "file")
        texts = {name: value for name, value in form.items() if isinstance(value, str)}
        # The client's name is for records only; it never becomes a path.
        return Upload(await file.read(), in_utf8(file.filename or "document"), {**query, **texts})
    finally:
        await form.close()
