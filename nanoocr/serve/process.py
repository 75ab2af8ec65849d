"""The model in a process of its own, so that the one that answers clients never waits for Python's lock.

ProcessDesk.begin -> pipe -> serve_jobs, a ThreadDesk in the other process -> pipe -> replies to each job

If that process dies (a crash in a picture decoder, too little memory), its requests are answered with 503,
and a new one is started.
"""

from __future__ import annotations

import gc
import itertools
import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from nanoocr.errors import NanoOCRError
from nanoocr.serve.errors import ApiError
from nanoocr.serve.messages import Job, Note, Tell, tell_error

LOG = logging.getLogger("nanoocr.serve")
BYE = -1  # the number of the message that ends the process
LONGEST_PAUSE = 60.0  # seconds between two tries to start a process that does not start
END_SECONDS = 10.0  # seconds within which the process must end
# Every operation of torch releases Python's lock and asks for it again. While another thread finds lines,
# each operation may wait this long for the lock, and a strip takes hundreds of them.
SWITCH_SECONDS = 0.0005


@dataclass(frozen=True)
class Choice:
    """How the process with the model is set up, in plain values. `hosts` has the form of --allow_fetch."""

    model: Path | None = None
    device: str | None = None
    dtype: str = "auto"
    threads: int | None = None
    max_pages: int = 200
    any_prompt: bool = False
    hosts: str | None = None
    max_body: int = 64 * 2**20

    @property
    def name(self) -> str:
        """What clients call the model."""
        return "nanoocr" if self.model is None else self.model.resolve().name


# ---------------------------------------------------------------------------------------------------
# In the process that reads


def serve_jobs(pipe: Connection, choice: Choice) -> None:
    """Load the model, then do jobs until the pipe closes or says so."""
    # Signals reach the whole process group, but only the HTTP side decides when this process ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    from nanoocr.serve.fetch import Fetcher, parse_hosts
    from nanoocr.serve.jobs import Grants, ThreadDesk
    from nanoocr.serve.service import load_service

    try:
        service = load_service(choice.model, choice.device, choice.dtype, choice.threads, choice.max_pages)
    except NanoOCRError as error:
        pipe.send((0, error))
        return
    fetcher = None if choice.hosts is None else Fetcher(parse_hosts(choice.hosts))
    desk = ThreadDesk(service, Grants(choice.any_prompt, fetcher, choice.max_body))
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.freeze()  # the model and the libraries stay, so the collector need not scan them in each request
    sending = threading.Lock()

    def send(number: int, what: Any) -> None:
        """Send a reply to a job; threads take turns at the pipe."""
        with sending:
            try:
                pipe.send((number, what))
            except OSError:  # the HTTP side is gone
                os._exit(0)

    desk.note = lambda what, values: send(0, (what, values))
    send(0, None)
    cancels: dict[int, Callable[[], None]] = {}
    while True:
        try:
            number, job = pipe.recv()
            if number == BYE:
                raise EOFError
            if job is None:
                cancels.pop(number, lambda: None)()
            else:
                job = job._replace(body=pipe.recv_bytes())
                cancels[number] = desk.begin(job, partial(send, number))
        except (EOFError, OSError):
            os._exit(0)  # at once: its threads may be in the middle of a page that nobody waits for


# ---------------------------------------------------------------------------------------------------
# In the process that answers


@dataclass(frozen=True)
class ReadingProcess:
    """The process with the model, and its queue: (number, job), (number, None) to cancel, None to end."""

    process: BaseProcess
    pipe: Connection
    outgoing: SimpleQueue[tuple[int, Job | None] | None]


def launched(choice: Choice) -> tuple[BaseProcess, Connection]:
    """Start a process, which then loads the model; also returns our end of its pipe."""
    context = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
    ours, theirs = context.Pipe()
    process = context.Process(target=serve_jobs, args=(theirs, choice), daemon=True)
    process.start()
    theirs.close()  # otherwise our end would not notice when the process ends
    return process, ours


def loaded(process: BaseProcess, pipe: Connection) -> ReadingProcess:
    """Wait until the process accepts jobs.

    Raises:
        NanoOCRError: as `load_service`; or it has died before it could say why.
    """
    try:
        _, error = pipe.recv()
    except (EOFError, OSError):
        process.join()
        message = f"the process that reads has ended while it loaded the model (exit code {process.exitcode})"
        raise NanoOCRError(message) from None
    if error is not None:
        process.join()
        raise error
    reading = ReadingProcess(process, pipe, SimpleQueue())
    threading.Thread(target=_send, args=(reading,), name="to reading", daemon=True).start()
    return reading


def _send(reading: ReadingProcess) -> None:
    """Send what goes to the process; in a thread, since a body may be large and the pipe full."""
    for message in iter(reading.outgoing.get, None):
        number, job = message
        try:
            reading.pipe.send((number, job and job._replace(body=b"")))
            if job is not None:
                reading.pipe.send_bytes(job.body)
        except OSError:  # the process has died; the listening thread notices that too
            return
        del message, job  # from here on only the other process needs the body


class ProcessDesk:
    """A desk whose jobs are done by another process; call `close` at the end."""

    def __init__(self, choice: Choice) -> None:
        """Start the process and wait until it takes jobs.

        Raises:
            NanoOCRError: as `loaded`.
        """
        self.choice, self.name = choice, choice.name
        self.note: Note = lambda _, __: None
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._waiting: dict[int, Tell] = {}
        self._closed = threading.Event()
        self._newest, pipe = launched(choice)
        try:
            self._reading: ReadingProcess | None = loaded(self._newest, pipe)
        except BaseException:  # Ctrl-C among others: the process would load the model to its end
            self._newest.kill()
            raise
        threading.Thread(target=self._serve, args=(self._reading,), name="from reading", daemon=True).start()

    def ready(self) -> bool:
        """Whether the process accepts jobs."""
        return self._reading is not None

    def process_id(self) -> int | None:
        """The id of the process that reads, if it is there."""
        reading = self._reading
        return reading.process.pid if reading else None

    def begin(self, job: Job, tell: Tell) -> Callable[[], None]:
        """As Desk.begin."""
        with self._lock:
            reading = self._reading
            if reading is None:
                raise lost()
            number = next(self._numbers)
            self._waiting[number] = tell
        reading.outgoing.put((number, job))

        def cancel() -> None:
            """Forget the job here, and have the other process stop it."""
            self._waiting.pop(number, None)
            reading.outgoing.put((number, None))

        return cancel

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._closed.set()
            reading, newest = self._reading, self._newest
        if reading is None:
            newest.kill()  # it loads the model, and hears nothing meanwhile
        else:
            reading.outgoing.put((BYE, None))
        newest.join(END_SECONDS)
        if newest.is_alive():
            newest.kill()
            newest.join()

    # -----------------------------------------------------------------------------------------------
    # The thread that listens

    def _serve(self, reading: ReadingProcess | None) -> None:
        while reading is not None:
            self._hear(reading)
            with self._lock:
                self._reading, lonely, self._waiting = None, self._waiting, {}
            reading.outgoing.put(None)
            reading.process.join()
            for tell in lonely.values():
                tell_error(tell, lost())
            if self._closed.is_set():
                return
            LOG.error(
                "the process that reads has died (exit code %s): starting another", reading.process.exitcode
            )
            self._reading = reading = self._restarted()

    def _hear(self, reading: ReadingProcess) -> None:
        """Pass on the process's replies until it dies."""
        while True:
            try:
                number, what = reading.pipe.recv()
            except (EOFError, OSError):
                return
            if number == 0:
                self.note(*what)
            elif (tell := self._waiting.get(number)) is not None:
                tell(what)
            del what

    def _restarted(self) -> ReadingProcess | None:
        pause = 1.0
        while True:
            with self._lock:  # so that `close` knows every process
                if self._closed.is_set():
                    return None
                self._newest, pipe = launched(self.choice)
            try:
                return loaded(self._newest, pipe)
            except NanoOCRError as error:
                if not self._closed.is_set():
                    LOG.error("the process that reads does not start: %s", error)
            self._closed.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE)


def lost() -> ApiError:
    """The error for a request whose process has died or is not ready yet."""
    message = "the process that reads has ended and is being started again: try again in a moment"
    return ApiError(503, message, code="reader_lost", headers={"Retry-After": "5"})
