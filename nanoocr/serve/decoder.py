"""Continuous batching: one thread decodes the rows of all requests, and takes new ones in between steps.

generate() of request A --\
generate() of request B ---> waiting rows -> one batch over one KV cache -> completions, each to its request

Callers stay in their own threads and wait there. The result of a row is that of `Engine`: rows of a batch do
not see each other.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from nanoocr.bpe import Tokenizer
from nanoocr.errors import NanoOCRError
from nanoocr.inference.engine import (
    MAX_BATCH,
    Completion,
    Engine,
    Request,
    Row,
    never_generated,
    note_alternatives,
)
from nanoocr.inference.sampling import Sampler, SamplingConfig
from nanoocr.model.cache import KVCache
from nanoocr.model.vlm import VLM

MAX_ROWS = 64  # decoded together; more share each step's cost
AT_ONCE = 16  # rows taken in between two steps: more would hold up those that are decoding


class CancelledError(NanoOCRError):
    """The client of a request has gone, or its time is over."""


@dataclass
class Work:
    """One call of `generate`: its rows that wait, those that are done, and whom to tell."""

    waiting: deque[Row]
    sampling: SamplingConfig
    first: int
    cancelled: threading.Event
    tell: Callable[[int, Completion], None] | None = None
    left: int = 0  # rows that have no completion yet
    done: dict[int, Completion] = field(default_factory=dict)
    ended: threading.Event = field(default_factory=threading.Event)
    error: Exception | None = None

    def end(self, error: Exception | None = None) -> None:
        """Wake the caller; the first error stays."""
        self.error = self.error or error
        self.waiting.clear()
        self.ended.set()


@dataclass
class Member:
    """A row of the running batch. `sampler` is its own dice, None where the likeliest token is taken."""

    row: Row
    work: Work
    sampler: Sampler | None


class Decoder(Engine):
    """An engine that several threads may ask at once; call `close` at the end."""

    def __init__(self, model: VLM, tokenizer: Tokenizer, max_rows: int = MAX_ROWS) -> None:
        super().__init__(model, tokenizer)
        self.max_rows = max_rows
        self.never = never_generated(model, tokenizer)
        self.greedy = Sampler(SamplingConfig(), [], 0, self.never)
        self.members: list[Member] = []
        self.cache: KVCache | None = None
        self.logits_BV = torch.empty(0)
        self._works: deque[Work] = deque()  # with waiting rows, the one whose turn it is first
        self._change = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="decoder", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread; what waits is cancelled."""
        with self._change:
            self._closed = True
            self._change.notify()
        self._thread.join()

    def generate(
        self,
        requests: Sequence[Request],
        sampling: SamplingConfig | None = None,
        *,
        max_batch: int = MAX_BATCH,
        first: int = 0,
        cancelled: threading.Event | None = None,
        tell: Callable[[int, Completion], None] | None = None,
    ) -> list[Completion]:
        """As `Engine.generate`; `tell` gets each completion, and its index, as soon as it is there.

        `tell` is called in the decoder's thread and must return at once.

        Raises:
            UsageError: as `Engine.generate`.
            CancelledError: `cancelled` was set, or the decoder is closed.
        """
        rows = deque(self.start(requests))
        if not rows:
            return []
        stop = cancelled or threading.Event()
        work = Work(rows, sampling or SamplingConfig(), first, stop, tell, left=len(rows))
        with self._change:
            if self._closed:
                raise CancelledError("the server is stopping")
            self._works.append(work)
            self._change.notify()
        work.ended.wait()
        if work.error is not None:
            raise work.error
        return [work.done[i] for i in range(len(requests))]

    def waiting(self) -> int:
        """Rows that no step has taken in yet."""
        return sum(len(work.waiting) for work in list(self._works))

    # -----------------------------------------------------------------------------------------------
    # The decoder's thread

    def _serve(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._closed or self._works or self.members)
                if self._closed:
                    break
            try:
                self._drop_cancelled()
                self._admit()
                if self.members:
                    self._step()
            except Exception as error:  # noqa: BLE001 - every caller gets it; the thread serves on
                self._fail(error)
        self._fail(CancelledError("the server is stopping"))

    def _fail(self, error: Exception) -> None:
        """End all that is under way and all that waits by `error`."""
        with self._change:
            works = {id(work): work for work in (*self._works, *(member.work for member in self.members))}
            self._works.clear()
        self.members, self.cache = [], None
        for work in works.values():
            work.end(error)

    def _drop_cancelled(self) -> None:
        with self._change:
            gone = [work for work in self._works if work.cancelled.is_set()]
            self._works = deque(work for work in self._works if not work.cancelled.is_set())
        gone += [member.work for member in self.members if member.work.cancelled.is_set()]
        if not gone:
            return
        self._keep([i for i, member in enumerate(self.members) if not member.work.cancelled.is_set()])
        for work in gone:
            work.end(CancelledError("the request was cancelled"))

    def _take_in(self) -> list[Member]:
        """Waiting rows in turn, one of each call, so that a long document holds nobody up."""
        taken: list[Member] = []
        with self._change:
            while self._works and len(taken) < min(AT_ONCE, self.max_rows - len(self.members)):
                work = self._works.popleft()
                row = work.waiting.popleft()
                if work.waiting:
                    self._works.append(work)
                taken.append(Member(row, work, self._dice(work, row)))
        return taken

    def _dice(self, work: Work, row: Row) -> Sampler | None:
        if work.sampling.temperature == 0 and not work.sampling.no_repeat_ngram:
            return None
        return Sampler(work.sampling, [work.first + row.index], row.limit, self.never)

    def _admit(self) -> None:
        new = self._take_in()
        if not new:
            return
        before, self.members = self.members, self.members + new  # so that an error finds them all
        cache, logits_BV = self.prefill([member.row for member in new])
        if self.cache is None or not before:
            self.cache, self.logits_BV = cache, logits_BV
            return
        with torch.inference_mode():
            self.cache = join_caches(self.model, self.cache, cache)
            self.logits_BV = torch.cat([self.logits_BV, logits_BV])

    def _step(self) -> None:
        """A token for every row; rows that have ended leave, the others are fed it."""
        tokens, probabilities = self._pick()
        for member, token, probability in zip(self.members, tokens, probabilities, strict=True):
            self.take(member.row, token, probability, member.work.sampling)
        ended = [member for member in self.members if member.row.status is not None]
        going = [i for i, member in enumerate(self.members) if member.row.status is None]
        self._keep(going)
        for member in ended:
            self._deliver(member)
        if going:
            assert self.cache is not None
            self.logits_BV = self.advance(self.cache, [tokens[i] for i in going])

    def _pick(self) -> tuple[list[int], list[float]]:
        tokens, probabilities = self.greedy.pick(self.logits_BV)
        for i, member in enumerate(self.members):
            note_alternatives([member.row], self.logits_BV[i : i + 1], member.work.sampling.alternatives)
            if member.sampler is not None:
                (tokens[i],), (probabilities[i],) = member.sampler.pick(self.logits_BV[i : i + 1])
        return tokens, probabilities

    def _deliver(self, member: Member) -> None:
        work, completion = member.work, self.complete(member.row)
        work.done[member.row.index] = completion
        work.left -= 1
        if work.tell is not None:
            work.tell(member.row.index, completion)
        if work.left == 0:
            work.end()

    def _keep(self, rows: list[int]) -> None:
        """Drop all rows of the batch but these."""
        if len(rows) == len(self.members):
            return
        self.members = [self.members[i] for i in rows]
        if self.cache is None:
            return
        with torch.inference_mode():
            self.cache.keep_rows(rows)
            self.logits_BV = self.logits_BV[rows]
        if not rows:
            self.cache = None


def join_caches(model: VLM, one: KVCache, other: KVCache) -> KVCache:
    """A cache with the rows of both, as long as the longer one; what lies behind a row's end is hidden."""
    count = len(one.lengths)
    capacity = max(one.capacity, other.capacity)
    joined: KVCache = model.new_cache(batch=count + len(other.lengths), capacity=capacity)
    joined.reserve(max(one.used, other.used))
    for part, rows in ((one, slice(0, count)), (other, slice(count, None))):
        joined.keys[:, rows, :, : part.used] = part.keys[:, :, :, : part.used]
        joined.values[:, rows, :, : part.used] = part.values[:, :, :, : part.used]
    joined.lengths = torch.cat([one.lengths, other.lengths])
    joined.used = max(one.used, other.used)
    return joined
