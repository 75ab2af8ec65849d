"""What the server does for a request: open its pages, find lines, have them read by the shared decoder.

Each request runs in a thread of its own, so that the event loop of the HTTP side never waits for it.
"""

from __future__ import annotations

import base64
import contextlib
import io
import os
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from PIL import Image

from nanoocr.errors import UsageError
from nanoocr.inference.engine import MAX_BATCH, Completion, Request
from nanoocr.inference.lines import PageReading, StripReading, assemble
from nanoocr.inference.page import Page, error_page, make_page, with_doubt
from nanoocr.inference.reader import Reader, make_request, page_of_lines
from nanoocr.inference.sampling import SamplingConfig
from nanoocr.layout import cut_strips
from nanoocr.model.vlm import VLM
from nanoocr.pages import ALL_PAGES, PageRanges, Picture, count_pages, open_source
from nanoocr.serve.decoder import CancelledError, Decoder

THREADS = 64  # requests that are read at the same time; others wait in the queue
MOST_PIXELS = 200_000_000  # pages in work hold at most this, some 2 GB with what reading makes of them
PREVIEW = 1400  # pixels of the longer side of a page that is shown to somebody
# pdfium takes one caller at a time in the whole process.
OPENING = threading.Lock()

Event = dict[str, Any]
Tell = Callable[[Event], None]


class TooManyPagesError(UsageError):
    """A document of more pages than a request may have."""


@dataclass(frozen=True)
class Task:
    """One document of a request and how it is to be read."""

    data: bytes
    name: str
    prompt: str | None = None  # None: what the model was trained to be asked
    pages: PageRanges = ALL_PAGES
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    max_tokens: int | None = None
    preview: bool = False
    cancelled: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True)
class Read:
    """A page, and what the model said of it in the order of the page's text."""

    page: Page
    completions: tuple[Completion, ...] = ()


class Room:
    """Pixels that all pages which are being read may have together: pixels are what fills memory."""

    def __init__(self, most: int) -> None:
        self.most, self.used = most, 0
        self.change = threading.Condition()

    @contextlib.contextmanager
    def taken(self, pixels: int) -> Iterator[None]:
        """A place for so many pixels; one that is larger than all of the room has it alone."""
        with self.change:
            self.change.wait_for(lambda: not self.used or self.used + pixels <= self.most)
            self.used += pixels
        try:
            yield
        finally:
            with self.change:
                self.used -= pixels
                self.change.notify_all()


@dataclass(frozen=True)
class _Asking:
    """The decoder as one request sees it: with its sign of being cancelled.

    `slot` is the processor that the request's thread computes on, which is free while it waits here.
    """

    decoder: Decoder
    task: Task
    slot: threading.Semaphore
    tell: Callable[[int, Completion], None] | None = None
    first: int = 0
    note: Callable[[str, float], None] = lambda _, __: None

    def generate(
        self,
        requests: Sequence[Request],
        sampling: SamplingConfig | None = None,
        *,
        max_batch: int = MAX_BATCH,
    ) -> list[Completion]:
        self.slot.release()
        started = time.perf_counter()
        try:
            return self.decoder.generate(
                requests,
                sampling,
                max_batch=max_batch,
                first=self.first,
                cancelled=self.task.cancelled,
                tell=self.tell,
            )
        finally:
            self.note("decode", time.perf_counter() - started)
            self.slot.acquire()

    @property
    def model(self) -> VLM:
        return self.decoder.model


class Service:
    """A model, its decoder, and the threads that use it; call `close` at the end."""

    def __init__(self, reader: Reader, name: str, max_pages: int) -> None:
        self.reader, self.name, self.max_pages = reader, name, max_pages
        self.decoder = Decoder(reader.model, reader.tokenizer)
        self.note: Callable[[str, float], None] = lambda _, __: None  # is told a stage and its seconds
        self.room = Room(MOST_PIXELS)
        # Threads that compute pass Python's lock around, and the event loop waits for its turn among them.
        self.slots = threading.Semaphore(os.cpu_count() or 1)
        self.threads = ThreadPoolExecutor(THREADS, thread_name_prefix="request")

    def close(self) -> None:
        """End the decoder and the threads."""
        self.decoder.close()
        self.threads.shutdown()

    def read(self, task: Task, tell: Tell = lambda _: None) -> list[Read]:
        """The pages of a document. `tell` gets a dict for each thing that happens, see docs/guide/serve.md.

        Raises:
            TooManyPagesError: more than `max_pages` pages.
            PictureError: the document cannot be opened.
            CancelledError: `task.cancelled` was set.
        """
        with OPENING:
            count = len(task.pages.select(count_pages(task.data, task.name), task.name))
        if count > self.max_pages:
            raise TooManyPagesError(
                f"{task.name} has {count} pages, this server reads at most {self.max_pages} of a request: "
                "choose some with pages=1-10"
            )
        tell({"type": "start", "file": task.name, "pages": count})
        read = []
        with closing(self._opened(task)) as pictures:
            for number, picture in enumerate(pictures):
                with self.slots:
                    read.append(self._page(task, picture, tell, number))
                tell({"type": "page", "index": number, "page": read[-1].page.to_dict()})
        return read

    def _opened(self, task: Task) -> Generator[Picture]:
        """The pages, each opened when it is asked for, and with a place in the room until the next one."""
        with closing(open_source(task.data, task.name, task.pages)) as pictures:  # type: ignore[type-var]
            while True:
                with contextlib.ExitStack() as stack:
                    # The next page is opened when this one has its place: else all would wait opened.
                    with OPENING:
                        if task.cancelled.is_set():
                            raise CancelledError("the request was cancelled")
                        started = time.perf_counter()
                        picture = next(pictures, None)
                        self.note("open", time.perf_counter() - started)
                        if picture is None:
                            return
                        if picture.image is not None:
                            stack.enter_context(self.room.taken(picture.image.width * picture.image.height))
                    yield picture

    def _page(self, task: Task, picture: Picture, tell: Tell, number: int) -> Read:
        if picture.image is None:
            return Read(error_page(picture))
        started = time.perf_counter()
        size = {"width": picture.image.width, "height": picture.image.height}
        shown = {"image": preview(picture.image)} if task.preview else {}
        tell({"type": "page_start", "index": number, **size, **shown})
        if self.reader.by_lines:
            reading = self._by_lines(task, picture.image, tell, number)
            page = page_of_lines(picture, reading, time.perf_counter() - started)
            return Read(page, reading.completions)
        request = make_request(
            self.reader.model,
            self.reader.tokenizer,
            picture.image,
            task.prompt or self.reader.prompt,
            task.max_tokens,
            self.reader.mode,
        )
        waited = time.perf_counter() - started
        asking = _Asking(self.decoder, task, self.slots, first=number, note=self.note)
        done = asking.generate([request], task.sampling)
        return Read(
            with_doubt(make_page(picture, done[0], waited), self.reader.doubt_of(picture.image)), tuple(done)
        )

    def _by_lines(self, task: Task, image: Image.Image, tell: Tell, number: int) -> PageReading:
        """As LineReader.read, and each strip is told of as soon as it is read."""
        # Such a model knows one question; chat.py refuses others.
        reader = replace(
            self.reader.line_reader(self.reader.prompt, task.max_tokens),
            engine=_Asking(self.decoder, task, self.slots),
            sampling=task.sampling,
        )
        started = time.perf_counter()
        layout = reader.upright_layout(image)
        self.note("lines", time.perf_counter() - started)  # and the strips that were read to know what is up
        strips = [s for place, line in enumerate(layout.lines) for s in cut_strips(image, line, place)]
        # In the order in which they are decoded, which is that of LineReader.look.
        order = sorted(strips, key=lambda strip: strip.image.shape[1])

        def tell_strip(reading: StripReading) -> None:
            line = reading.strip.line
            quad = [[round(x, 1), round(y, 1)] for x, y in layout.lines[line].quad]
            event = {"type": "line", "index": number, "line": line, "quad": quad, "of": len(strips)}
            tell({**event, "text": reading.completion.text, "confidence": round(reading.confidence, 4)})

        def told(index: int, completion: Completion) -> None:
            reading = StripReading(order[index], completion)
            # What is doubtful gets a second look, and only then its text is known.
            if not reader.doubts(reading):
                tell_strip(reading)

        asking = _Asking(self.decoder, task, self.slots, told, note=self.note)
        first = replace(reader, engine=asking).look(strips)
        readings = replace(reader, engine=replace(asking, tell=None)).look_again(first)
        for before, reading in zip(first, readings, strict=True):
            if reader.doubts(before):
                tell_strip(reading)
        return assemble(layout, readings, reader.least_confidence)


def preview(image: Image.Image) -> str:
    """A picture as a data URL, small enough for a screen."""
    small = image.copy()
    small.thumbnail((PREVIEW, PREVIEW))
    out = io.BytesIO()
    small.save(out, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(out.getvalue()).decode()}"


def load_service(
    model: Path | None, device: str | None, dtype: str, threads: int | None, max_pages: int
) -> Service:
    """A service of a model folder; None is the model in the package.

    Raises:
        CheckpointError, UsageError: as `Reader`.
    """
    from nanoocr.machine import choose_threads, use_threads

    use_threads(choose_threads(threads))
    reader = Reader(model, device=device, dtype=dtype)
    return Service(reader, "nanoocr" if model is None else model.resolve().name, max_pages)
