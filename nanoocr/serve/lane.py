"""A lane of the decoder: calls that wait, and the rows that are decoded together over one KV cache."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from queue import SimpleQueue

import torch
from torch import Tensor

from nanoocr.inference.draft import Draft
from nanoocr.inference.engine import Completion, Row
from nanoocr.inference.sampling import Sampler, SamplingConfig
from nanoocr.model.cache import KVCache
from nanoocr.model.vlm import VLM


@dataclass
class Work:
    """One call of `generate`: the rows that still wait, and the queue of its caller's results."""

    waiting: deque[Row]
    sampling: SamplingConfig
    first: int
    cancelled: threading.Event
    most: int  # rows that may be in the batch at a time
    left: int  # rows that have no completion yet
    running: int = 0  # those in the batch
    news: SimpleQueue[tuple[int, Completion] | None] = field(default_factory=SimpleQueue)  # None: the end
    error: Exception | None = None

    def end(self, error: Exception | None = None) -> None:
        """Let the caller go on. If several errors come, the first one is kept."""
        self.error = self.error or error
        self.waiting.clear()
        self.news.put(None)


@dataclass
class Member:
    """A row of the running batch. `sampler` draws its tokens; None takes the likeliest token."""

    row: Row
    work: Work
    inputs: list[int]  # ids that the model has not read yet: the prompt, later the last token
    draft: Draft
    sampler: Sampler | None = None
    vision: Tensor | None = None  # (N, C), the picture of `inputs`; None once it has been read
    began: float = field(default_factory=time.perf_counter)

    def anew(self) -> Member:
        """The same row, of which nothing has been read or said."""
        row = Row(self.row.index, self.row.request, self.row.limit)
        return Member(row, self.work, list(row.request.ids), Draft([]), began=self.began)


@dataclass
class Lane:
    """Calls of one kind. `clock` is the processor time that the lane has used, divided by its `weight`."""

    max_rows: int
    weight: float
    works: deque[Work] = field(default_factory=deque)  # calls with waiting rows; the first is next
    members: list[Member] = field(default_factory=list)
    apart: deque[list[Member]] = field(default_factory=deque)  # groups that begin again by themselves
    cache: KVCache | None = None
    clock: float = 0.0
    steps: int = 0  # steps since rows last entered

    @property
    def is_busy(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.works or self.members or self.apart)

    def take_in(self, most: int) -> list[Member]:
        """Take up to `most` waiting rows, one of each call in turn, so that no call holds another up.

        A group that is to be tried apart comes first, and only into an empty batch.
        """
        if self.apart:
            return [] if self.members else self.apart.popleft()
        taken: list[Member] = []
        full: list[Work] = []
        while self.works and len(taken) < min(most, self.max_rows - len(self.members)):
            work = self.works.popleft()
            if work.running >= work.most:
                full.append(work)
                continue
            work.running += 1
            row = work.waiting.popleft()
            taken.append(Member(row, work, list(row.request.ids), Draft([])))
            if work.waiting:
                self.works.append(work)
        self.works.extendleft(reversed(full))  # calls that could not take part keep their turn
        return taken

    def try_apart(self, members: list[Member]) -> None:
        """Let members with which something failed begin again, each half of them by itself.

        So a row that always fails is found in a few steps, and it takes no other row with it.
        """
        half = len(members) // 2
        groups = (members[:half], members[half:])
        self.apart.extendleft([one.anew() for one in group] for group in reversed(groups) if group)

    def works_of_all(self) -> Iterable[Work]:
        """Every call that has something here; one may come several times."""
        yield from self.works
        for members in (self.members, *self.apart):
            yield from (member.work for member in members)

    def take_out(self) -> list[Work]:
        """Remove the calls that were cancelled, and return them."""
        gone = {id(work): work for work in self.works_of_all() if work.cancelled.is_set()}
        self.remove(gone.values())
        return list(gone.values())

    def remove(self, works: Iterable[Work]) -> None:
        """Remove these calls and all their rows."""
        gone = {id(work) for work in works}
        if not gone:
            return
        self.works = deque(work for work in self.works if id(work) not in gone)
        groups = ([one for one in group if id(one.work) not in gone] for group in self.apart)
        self.apart = deque(group for group in groups if group)
        self.keep([i for i, member in enumerate(self.members) if id(member.work) not in gone])

    def clear(self) -> list[Work]:
        """Remove everything, and return the calls that were there."""
        works = {id(work): work for work in self.works_of_all()}
        self.works.clear()
        self.apart.clear()
        self.members, self.cache = [], None
        return list(works.values())

    @torch.inference_mode()
    def join(self, model: VLM, members: list[Member]) -> None:
        """Give members that have been added their place in the cache."""
        capacity = max(len(one.row.request.ids) + one.row.limit for one in members)
        if self.cache is None:
            self.cache = model.new_cache(batch=len(members), capacity=capacity)
        else:
            self.cache.add_rows(len(members), capacity)

    @torch.inference_mode()
    def keep(self, rows: list[int]) -> None:
        """Keep only these rows of the batch. If the cache cannot be cut down, they begin again."""
        if len(rows) == len(self.members):
            return
        self.members = [self.members[i] for i in rows]
        if not rows:
            self.cache = None
        elif self.cache is not None:
            try:
                self.cache.keep_rows(rows)
            except Exception:  # noqa: BLE001 - too little memory; the other rows' callers must not wait forever
                self.try_apart(self.members)
                self.members, self.cache = [], None
