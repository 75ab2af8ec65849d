"""Parses jobs and does them, each in a thread of its own, in the process with the model.

body -> what is asked (chat.py, body.py) -> Service.read -> the answer, whole (answer.py) or in events.py
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from nanoocr.formats import FORMATS, render
from nanoocr.inference.page import Page
from nanoocr.pages import parse_pages
from nanoocr.serve.answer import Form, usage_of
from nanoocr.serve.body import parse_json, parse_upload, quiet_forms
from nanoocr.serve.chat import Address, ChatRequest, Rules, parse_chat
from nanoocr.serve.decoder import CancelledError
from nanoocr.serve.errors import as_api_error, bad, unknown_model
from nanoocr.serve.events import ChatEvents, ChatWhole, OcrEvents, Stream
from nanoocr.serve.fetch import Fetcher
from nanoocr.serve.messages import Job, Note, Tell, tell_error, tell_whole
from nanoocr.serve.service import OPENING, DocumentRequest, Read, Service, Watch

LOG = logging.getLogger("nanoocr.serve")
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
FIELDS = frozenset(("format", "pages", "stream", "preview", "model"))  # the fields of /v1/ocr


@dataclass(frozen=True)
class Grants:
    """What a server allows besides the model's own question. `max_body` limits fetched pictures too."""

    any_prompt: bool = False
    fetcher: Fetcher | None = None
    max_body: int = 64 * 2**20


class ThreadDesk:
    """A desk whose jobs are done by threads of this process."""

    def __init__(self, service: Service, grants: Grants | None = None) -> None:
        self.service, self.grants = service, grants or Grants()
        self.name = service.name
        quiet_forms()
        self.note: Note = lambda _, __: None
        service.note = lambda stage, seconds: self.note("stage", (stage, seconds))

    def ready(self) -> bool:
        """Always."""
        return True

    def begin(self, job: Job, tell: Tell) -> Callable[[], None]:
        """As Desk.begin."""
        if job.kind == "look":  # at once: when the threads are all busy, somebody wants to know how much
            self._look(tell)
            return lambda: None
        cancelled = threading.Event()
        self.service.threads.submit(self._do, job, tell, cancelled)
        return cancelled.set

    def _do(self, job: Job, tell: Tell, cancelled: threading.Event) -> None:
        do = self._chat if job.kind == "chat" else self._ocr
        try:
            do(job, tell, cancelled)
        except Exception as error:
            known = as_api_error(error)
            if known.status == 500:
                LOG.exception("a request failed")
            tell_error(tell, known)

    def _look(self, tell: Tell) -> None:
        decoder = self.service.decoder
        rows = {"batch": decoder.rows(), "waiting": decoder.waiting()}
        tell_whole(tell, json.dumps(rows).encode(), TYPES["json"])

    def _read(self, wanted: Sequence[DocumentRequest], watch: Watch) -> list[Read]:
        reads: list[Read] = []
        for document in wanted:
            if not watch.has_enough():
                reads += self.service.read(document, watch)
        for page in (one.page for one in reads):
            self.note("page", (page.status, page.seconds, page.tokens._asdict()))
        return reads

    # -----------------------------------------------------------------------------------------------
    # /v1/chat/completions

    def _chat(self, job: Job, tell: Tell, cancelled: threading.Event) -> None:
        service, grants = self.service, self.grants
        question = service.reader.prompt if service.reader.by_lines else None
        rules = Rules(service.name, question, grants.any_prompt, grants.fetcher is not None)
        asked = parse_chat(parse_json(job.body), rules)
        if len(asked.documents) > service.max_pages:
            message = (
                f"{len(asked.documents)} documents in a request, this server reads {service.max_pages}: "
                "send several requests"
            )
            raise bad(message, "messages", "too_many_pages")
        documents = self._fetched(asked.documents, cancelled)
        wanted = [
            _document_request(asked, data, number, cancelled) for number, data in enumerate(documents, 1)
        ]
        asked = replace(asked, documents=())  # they are in `wanted`, and may be large
        form = Form(service.name, service.reader.tokenizer, asked.logprobs, asked.sampling.alternatives > 0)
        if asked.stream:
            events = ChatEvents(Stream(tell), asked, form, service.reader.min_confidence)
            reads = self._read(wanted, events)
            if not events.stream.begun:
                raise_broken(reads)
            events.done(reads)
            return
        whole = ChatWhole(asked, form)
        reads = self._read(wanted, whole)
        raise_broken(reads)
        tell_whole(tell, whole.answer(reads), TYPES["json"])

    def _fetched(self, documents: Sequence[bytes | Address], cancelled: threading.Event) -> Iterator[bytes]:
        """The documents; those at addresses are fetched, and all together may be as large as a body."""
        left = self.grants.max_body
        for document in documents:
            if isinstance(document, bytes):
                yield document
                continue
            if cancelled.is_set():
                raise CancelledError("the request was cancelled")
            assert self.grants.fetcher is not None  # without a fetcher parse_chat refuses addresses
            content = self.grants.fetcher.fetch(document.url, document.where, left)
            left -= len(content)
            yield content

    # -----------------------------------------------------------------------------------------------
    # /v1/ocr

    def _ocr(self, job: Job, tell: Tell, cancelled: threading.Event) -> None:
        upload = parse_upload(job.body, job.content_type, job.query)
        fields = upload.fields
        if unknown := sorted(set(fields) - FIELDS):
            raise bad(f"the field {unknown[0]!r} is not known here", unknown[0], "unsupported_parameter")
        if (model := fields.get("model") or self.service.name) != self.service.name:
            raise unknown_model(model, self.service.name)
        ranges, name = parse_pages(fields.get("pages") or "1-end"), wanted_format(job.accept, fields)
        stream, preview = _flag(fields, "stream"), _flag(fields, "preview")
        wanted = DocumentRequest(upload.data, upload.name, pages=ranges, cancelled=cancelled)
        if stream:
            if fields.get("format", "json") not in ("", "json"):
                raise bad("a stream sends events in JSON: leave format or stream out", "format")
            events = OcrEvents(Stream(tell), preview)
            reads = self._read([wanted], events)
            if not events.stream.begun:
                raise_broken(reads)
            events.done(reads)
            return
        if preview:
            raise bad("preview is of the events of a stream: send stream=true as well", "preview")
        reads = self._read([wanted], OnePage() if name == "page" else Watch())
        raise_broken(reads)
        pages = [one.page for one in reads]
        content = _ocr_json(self.service.name, pages) if name is None else _rendered(pages, name, wanted)
        tell_whole(tell, content, TYPES[name or "json"])


def _document_request(
    asked: ChatRequest, data: bytes, number: int, cancelled: threading.Event
) -> DocumentRequest:
    return DocumentRequest(
        data,
        f"document {number}",
        prompt=asked.prompt,
        sampling=asked.sampling,
        max_tokens=asked.max_tokens,
        cancelled=cancelled,
    )


def _ocr_json(model: str, pages: Sequence[Page]) -> bytes:
    head, usage = json.dumps({"object": "ocr", "model": model})[1:-1], json.dumps(usage_of(pages))
    return f'{{{head}, "pages": [{",".join(page.to_json() for page in pages)}], "usage": {usage}}}'.encode()


def _rendered(pages: Sequence[Page], name: str, wanted: DocumentRequest) -> bytes:
    if name == "pdf":
        # Of a page whose name has no source, a PDF takes the name for a path. A client's must not become one.
        pages = [replace(page, file="document") for page in pages]
    with OPENING:  # a PDF of the results opens its source again, and pdfium takes one caller at a time
        content = render(pages, name, {"document": wanted.data} if name == "pdf" else None)
    return content.encode() if isinstance(content, str) else content


def raise_broken(reads: Sequence[Read]) -> None:
    """Raise ApiError if no page could be read."""
    if reads and all(one.page.status == "error" for one in reads):
        raise bad(str(reads[0].page.error), "file", "picture_unreadable")


def _flag(fields: dict[str, str], name: str) -> bool:
    values = {"": False, "false": False, "0": False, "true": True, "1": True}
    value = fields.get(name, "").lower()
    if value not in values:
        raise bad(f"{name} must be true or false", name)
    return values[value]


class OnePage(Watch):
    """Refuses documents of several pages before they are read, for a format that holds one."""

    def opened(self, file: str, pages: int) -> None:
        """A document has been opened."""
        if pages > 1:
            raise bad(f"PAGE XML holds one page, and {file} has {pages}: choose one, as in pages=1", "format")


def wanted_format(accept: str, fields: dict[str, str]) -> str | None:
    """The name of the format asked for; None for the JSON of this interface."""
    name = fields.get("format") or accepted_format(accept)
    if name not in FORMATS:
        raise bad(f"unknown format {name!r}: choose {', '.join(FORMATS)}", "format")
    return None if name == "json" else name


def accepted_format(accept: str) -> str:
    """The format that a header Accept likes most: of equal ones the first, and JSON if it names none of ours.

    Clients such as axios send "application/json, text/plain, */*" without anybody's having asked for it.
    """
    kinds = {kind: name for name, kind in TYPES.items()} | {"text/*": "txt"}
    kinds |= dict.fromkeys(("application/*", "*/*"), "json")
    best, most = "json", 0.0
    for one in accept.lower().split(","):
        kind, *parameters = map(str.strip, one.split(";"))
        weight = next(map(_weight, (value for value in parameters if value.startswith("q="))), 1.0)
        if kind in kinds and weight > most:
            best, most = kinds[kind], weight
    return best


def _weight(parameter: str) -> float:
    """The number behind `q=`; 1 where it is none."""
    try:
        return float(parameter.removeprefix("q="))
    except ValueError:
        return 1.0
