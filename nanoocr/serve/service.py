"""What the server does for a request: open its pages, find lines, have them read by the shared decoder.

Each request runs in a thread of its own (jobs.py). A `Watch` hears of each stage; streams are made from it.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from PIL import Image

from nanoocr.errors import UsageError
from nanoocr.inference.assemble import PageReading, StripReading
from nanoocr.inference.engine import MAX_BATCH, Completion, Request
from nanoocr.inference.lines import LineReader, cut_page, reading_order
from nanoocr.inference.page import Page, error_page, make_page, with_doubt
from nanoocr.inference.reader import Reader, make_request, page_of_lines
from nanoocr.inference.sampling import SamplingConfig
from nanoocr.layout import PageLayout, Strip
from nanoocr.model.vlm import VLM
from nanoocr.pages import ALL_PAGES, PageRanges, Picture, count_pages, open_source
from nanoocr.serve.decoder import CancelledError, Decoder

THREADS = 64  # requests that are read at the same time; others wait in the queue
STRIPS_OF_STREAM = 32  # strips per portion where a page is streamed from its top on
# Most pixels of all pages in work, which is some 2 GB with what reading makes of them.
MOST_PIXELS = 200_000_000
# pdfium takes one caller at a time in the whole process.
OPENING = threading.Lock()

Note = Callable[[str, float], None]  # called with the name of a stage of a page, and its seconds


class TooManyPagesError(UsageError):
    """A document of more pages than a request may have."""


@dataclass(frozen=True)
class DocumentRequest:
    """One document of a request, and how it is to be read."""

    data: bytes
    name: str
    prompt: str | None = None  # None: the question that the model was trained with
    pages: PageRanges = ALL_PAGES
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    max_tokens: int | None = None
    cancelled: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True)
class Read:
    """A page that was read, and the model's completions in the order of the page's text."""

    page: Page
    completions: tuple[Completion, ...] = ()


class Watch:
    """Hears of each stage of a reading, in the thread of the request. This base class ignores them all.

    `number` counts the pages of a document from 0, and `place` the strips of a page in reading order. If
    `in_order` is true, the strips of a page are decoded from its top on.
    """

    in_order = False

    def opened(self, file: str, pages: int) -> None:
        """A document has been opened."""

    def page_begun(self, number: int, image: Image.Image) -> None:
        """A page is looked at."""

    def found(self, layout: PageLayout, strips: Sequence[Strip]) -> None:
        """The lines of the page are known."""

    def strip_read(self, number: int, place: int, reading: StripReading) -> None:
        """A strip of the page has been read."""

    def page_read(self, number: int, read: Read) -> None:
        """A page has been read, or could not be."""

    def has_enough(self) -> bool:
        """Whether the pages that are left need not be read."""
        return False


class Room:
    """Limits the sum of pixels of all pages in work, because pixels are what fills memory."""

    def __init__(self, most: int) -> None:
        self.most, self.used = most, 0
        self.change = threading.Condition()

    @contextlib.contextmanager
    def taken(self, pixels: int) -> Iterator[None]:
        """Wait for room for so many pixels, and hold it. A page larger than the room gets all of it."""
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
    """The decoder as one request uses it: it knows whether the request was cancelled.

    `slot` is the request's right to compute on a processor, which it gives back while it waits here.
    """

    decoder: Decoder
    wanted: DocumentRequest
    slot: threading.Semaphore
    tell: Callable[[int, Completion], None] | None = None
    first: int = 0
    note: Note = lambda _, __: None

    def generate(
        self,
        requests: Sequence[Request],
        sampling: SamplingConfig | None = None,
        *,
        max_batch: int = MAX_BATCH,
    ) -> list[Completion]:
        """As `Engine.generate`, by the decoder of all requests; only the request's own thread may call it."""
        self.slot.release()
        started = time.perf_counter()
        try:
            return self.decoder.generate(
                requests,
                sampling,
                max_batch=max_batch,
                first=self.first,
                cancelled=self.wanted.cancelled,
                tell=self.tell,
            )
        finally:
            self.note("decode", time.perf_counter() - started)
            self.slot.acquire()

    @property
    def model(self) -> VLM:
        """The decoder's model."""
        return self.decoder.model


class Service:
    """A model, its decoder, and the threads that use it; call `close` at the end."""

    def __init__(self, reader: Reader, name: str, max_pages: int) -> None:
        self.reader, self.name, self.max_pages = reader, name, max_pages
        self.decoder = Decoder(reader.model, reader.tokenizer, reader.engine.head)
        self.note: Note = lambda _, __: None
        self.room = Room(MOST_PIXELS)
        # With more computing threads than processors, they would only pass Python's lock around.
        self.slots = threading.Semaphore(os.cpu_count() or 1)
        self.threads = ThreadPoolExecutor(THREADS, thread_name_prefix="request")

    def close(self) -> None:
        """End the decoder and the threads."""
        self.decoder.close()
        self.threads.shutdown()

    def read(self, wanted: DocumentRequest, watch: Watch | None = None) -> list[Read]:
        """Read the pages of a document, until `watch`, which hears of each stage, has enough.

        Raises:
            TooManyPagesError: more than `max_pages` pages.
            PictureError: the document cannot be opened.
            CancelledError: `wanted.cancelled` was set.
        """
        watch = watch or Watch()
        with OPENING:
            count = len(wanted.pages.select(count_pages(wanted.data, wanted.name), wanted.name))
        if count > self.max_pages:
            raise TooManyPagesError(
                f"{wanted.name} has {count} pages, this server reads at most {self.max_pages} of a request: "
                f"ask /v1/ocr for some of them, as in pages=1-{self.max_pages}"
            )
        watch.opened(wanted.name, count)
        read = []
        with closing(self._opened(wanted)) as pictures:
            for number, picture in enumerate(pictures):
                with self.slots:
                    read.append(self._page(wanted, picture, watch, number))
                watch.page_read(number, read[-1])
                if watch.has_enough():
                    break
        return read

    def _opened(self, wanted: DocumentRequest) -> Generator[Picture]:
        """The pages. Each is opened when it is asked for, and holds its room until the next one."""
        with closing(open_source(wanted.data, wanted.name, wanted.pages)) as pictures:  # type: ignore[type-var]
            while True:
                with contextlib.ExitStack() as stack:
                    # OPENING is held until the page has room: else every waiting request would hold a page.
                    with OPENING:
                        if wanted.cancelled.is_set():
                            raise CancelledError("the request was cancelled")
                        started = time.perf_counter()
                        picture = next(pictures, None)
                        self.note("open", time.perf_counter() - started)
                        if picture is None:
                            return
                        if picture.image is not None:
                            stack.enter_context(self.room.taken(picture.image.width * picture.image.height))
                    yield picture

    def _page(self, wanted: DocumentRequest, picture: Picture, watch: Watch, number: int) -> Read:
        if picture.image is None:
            return Read(error_page(picture))
        started = time.perf_counter()
        watch.page_begun(number, picture.image)
        if self.reader.by_lines:
            reading = self._by_lines(wanted, picture.image, watch, number)
            page = page_of_lines(picture, reading, time.perf_counter() - started)
            return Read(page, reading.completions)
        request = make_request(
            self.reader.model,
            self.reader.tokenizer,
            picture.image,
            wanted.prompt or self.reader.prompt,
            wanted.max_tokens,
            self.reader.mode,
        )
        waited = time.perf_counter() - started
        asking = _Asking(self.decoder, wanted, self.slots, first=number, note=self.note)
        done = asking.generate([request], wanted.sampling)
        return Read(
            with_doubt(make_page(picture, done[0], waited), self.reader.doubt_of(picture.image)), tuple(done)
        )

    def _by_lines(
        self, wanted: DocumentRequest, image: Image.Image, watch: Watch, number: int
    ) -> PageReading:
        """As LineReader.read, but `watch` hears of each strip as soon as it is read."""
        decoding = []

        def note(stage: str, seconds: float) -> None:
            """Note the time of decoding, and keep it."""
            decoding.append(seconds)
            self.note(stage, seconds)

        # Such a model knows one question, so the request's prompt is not used; chat.py refuses others.
        reader = replace(
            self.reader.line_reader(self.reader.prompt, wanted.max_tokens),
            engine=_Asking(self.decoder, wanted, self.slots, note=note),
            sampling=wanted.sampling,
        )
        started = time.perf_counter()
        found = reader.upright_layout(image)
        # The strips that are read to find out which way is up count as decoding.
        self.note("lines", time.perf_counter() - started - sum(decoding))
        strips, known = cut_page(image, found)
        watch.found(found.layout, strips)
        size = STRIPS_OF_STREAM if watch.in_order else len(strips)
        readings: list[StripReading] = []
        for first in range(0, len(strips), size or 1):
            part = strips[first : first + size]
            known_here = {i: known[first + i] for i in range(len(part)) if first + i in known}
            readings += self._strips(reader, part, known_here, watch, number, first)
        return reader.page_of(found.layout, readings)

    def _strips(
        self,
        reader: LineReader,
        strips: Sequence[Strip],
        known: Mapping[int, Completion],
        watch: Watch,
        number: int,
        place: int,
    ) -> list[StripReading]:
        """As LineReader.read_strips, for some strips of a page, the first of which has the place `place`."""
        order = reading_order(strips, known)
        assert isinstance(reader.engine, _Asking)  # _by_lines has given it

        def tell(index: int, reading: StripReading) -> None:
            """Tell the watch of a strip, by its place in the page's order."""
            watch.strip_read(number, place + index, reader.written(reading))

        def heard(index: int, completion: Completion) -> None:
            """Hear what a strip says, by its place in the page's order."""
            reading = StripReading(strips[index], completion)
            # A doubtful strip is looked at again, and its text is known only after that.
            if not reader.doubts(reading):
                tell(index, reading)

        for index, completion in known.items():
            heard(index, completion)
        asking = replace(reader.engine, tell=lambda row, completion: heard(order[row], completion))
        firsts = replace(reader, engine=asking).look(strips, known)
        readings = replace(reader, engine=replace(asking, tell=None)).look_again(firsts)
        for i, (before, reading) in enumerate(zip(firsts, readings, strict=True)):
            if reader.doubts(before):
                tell(i, reading)
        return readings


def load_service(
    model: Path | None, device: str | None, dtype: str, threads: int | None, max_pages: int
) -> Service:
    """Load a model folder and start a service; None is the model in the package.

    Raises:
        CheckpointError, UsageError: as `Reader`.
    """
    from nanoocr.machine import choose_threads, use_threads

    use_threads(choose_threads(threads))
    reader = Reader(model, device=device, dtype=dtype)
    return Service(reader, "nanoocr" if model is None else model.resolve().name, max_pages)
