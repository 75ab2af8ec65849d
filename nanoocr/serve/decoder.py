"""Continuous batching: one thread decodes the rows of all requests, and takes new ones in between steps.

generate() of request A --\\
generate() of request B ---> waiting rows -> one batch over one KV cache -> completions, each to its request

Callers stay in their own threads and wait there. In every step the model judges the drafts of all rows, as
in `Engine`, and the result of a row is the same: rows of a batch do not see each other. Calls of a few rows
have a lane with a batch of its own, because they would otherwise wait for the large steps of whole pages. The
lanes take turns: next comes the one that has had less of its share.

If a step fails, its rows begin again in halves, until the row that fails is alone. Only its call gets the
error.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence

import torch

from nanoocr.bpe import Tokenizer
from nanoocr.errors import NanoOCRError
from nanoocr.inference.draft import agreeing
from nanoocr.inference.engine import (
    MAX_BATCH,
    Completion,
    Engine,
    Request,
    never_generated,
    note_alternatives,
)
from nanoocr.inference.judge import Judged, judge
from nanoocr.inference.sampling import Sampler, SamplingConfig
from nanoocr.model.glyph_heads import PatchHead
from nanoocr.model.vlm import VLM
from nanoocr.serve.lane import Lane, Member, Work

MAX_ROWS = 64  # most rows of a lane's batch; more rows share the cost of a step
MOST_OF_ONE = 48  # most rows of one call among them, so that the next call finds room at once
SHORT = 6  # a call of at most this many rows goes into the short lane
SHORT_WEIGHT = 3.0  # how much more of the thread's time the short lane gets than the other one
STEPS_BETWEEN = 2  # steps for which new rows gather: encoding many strips at once costs less per strip
AT_ONCE = 8  # rows that enter between two steps; more would delay the rows that are being decoded
AT_ONCE_BESIDE = 4  # the same for whole pages, while short calls wait


class CancelledError(NanoOCRError):
    """The client of a request has gone, or its time is over."""


class Decoder(Engine):
    """An engine that several threads may ask at once; call `close` at the end."""

    def __init__(
        self, model: VLM, tokenizer: Tokenizer, head: PatchHead | None = None, max_rows: int = MAX_ROWS
    ) -> None:
        super().__init__(model, tokenizer, head)
        self.never = never_generated(model, tokenizer)
        self.never_nor_stop = never_generated(model, tokenizer, may_stop=False)
        self.short, self.long = Lane(max_rows, SHORT_WEIGHT), Lane(max_rows, 1.0)
        self.lanes = (self.short, self.long)
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

        Of the requests at most `max_batch` are decoded at a time. `tell` is called in the caller's thread, so
        that it may compute.

        Raises:
            UsageError: as `Engine.generate`.
            CancelledError: `cancelled` was set, or the decoder is closed.
        """
        rows = deque(row for batch in self._batches(requests, max_batch) for row in batch)
        if not rows:
            return []
        stop, most = cancelled or threading.Event(), min(max_batch, MOST_OF_ONE)
        work = Work(rows, sampling or SamplingConfig(), first, stop, most, len(rows))
        self._begin(work, self.short if len(rows) <= SHORT else self.long)
        done = {}
        for index, completion in iter(work.news.get, None):
            done[index] = completion
            if tell is not None:
                tell(index, completion)
        if work.error is not None:
            raise work.error
        return [done[i] for i in range(len(requests))]

    def _begin(self, work: Work, lane: Lane) -> None:
        with self._change:
            if self._closed:
                raise CancelledError("the server is stopping")
            if not lane.is_busy:
                # A lane does not catch up on time in which it had nothing to do.
                lane.clock = max(lane.clock, min((one.clock for one in self.lanes if one.is_busy), default=0))
            lane.works.append(work)
            self._change.notify()

    def rows(self) -> int:
        """How many rows are being decoded."""
        return sum(len(lane.members) for lane in self.lanes)

    def waiting(self) -> int:
        """How many rows wait to enter a batch."""
        return sum(len(work.waiting) for lane in self.lanes for work in list(lane.works))

    # -----------------------------------------------------------------------------------------------
    # The decoder's thread

    def _serve(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._closed or any(lane.is_busy for lane in self.lanes))
                if self._closed:
                    break
                gone = [work for lane in self.lanes for work in lane.take_out()]
                lane = min((lane for lane in self.lanes if lane.is_busy), key=_clock, default=None)
            _end(gone, CancelledError("the request was cancelled"))
            if lane is not None:
                self._turn(lane)
        for lane in self.lanes:
            self._fail(lane, CancelledError("the server is stopping"))

    def _turn(self, lane: Lane) -> None:
        """Let waiting rows enter the lane's batch, and decode at least one token for every row in it."""
        began = time.thread_time()
        self._admit(lane)
        before = list(lane.members)
        try:
            if lane.members:
                self._step(lane)
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not end the thread
            # The cache may be half written, so all of them begin again. None has told its caller anything.
            lane.members, lane.cache = [], None
            self._part(lane, before, error)
        lane.clock += (time.thread_time() - began) / lane.weight

    def _part(self, lane: Lane, members: list[Member], error: Exception) -> None:
        """Something failed with these members: find out with which. The call of the one to blame fails."""
        with self._change:
            if len(members) > 1:
                lane.try_apart(members)
                return
            work = members[0].work
            lane.remove([work])
        work.end(error)

    def _fail(self, lane: Lane, error: Exception) -> None:
        with self._change:
            works = lane.clear()
        _end(works, error)

    def _admit(self, lane: Lane) -> None:
        beside = lane is self.long and self.short.is_busy
        lane.steps += 1
        if lane.members and lane.steps < STEPS_BETWEEN:
            return
        with self._change:
            new = lane.take_in(AT_ONCE_BESIDE if beside else AT_ONCE)
            lane.steps = 0
        if not new:
            return
        try:
            self._encode(new)
        except Exception as error:  # noqa: BLE001 - as in `_turn`; those in the batch are not concerned
            self._part(lane, new, error)
            return
        before = list(lane.members)
        try:
            lane.join(self.model, new)
        except Exception as error:  # noqa: BLE001 - as in `_turn`; the cache may have grown in part
            lane.members, lane.cache = [], None
            self._part(lane, [*before, *new], error)
            return
        lane.members += new

    def _encode(self, new: Sequence[Member]) -> None:
        """Give new members what the decoder needs: the vision tokens, a draft, or what draws their tokens."""
        vision, drafts = self.encode_with_drafts([member.row for member in new])
        seen = 0
        for member, draft in zip(new, drafts, strict=True):
            tokens = member.inputs.count(self.model.image_id)
            if tokens and vision is not None:
                member.vision = vision[seen : seen + tokens]
            seen += tokens
            member.sampler = self._dice(member)
            # What is drawn, or told with its alternatives, is said one token at a time.
            if member.sampler is None and not member.work.sampling.alternatives:
                member.draft = draft

    def _dice(self, member: Member) -> Sampler | None:
        work, row, sampling = member.work, member.row, member.work.sampling
        # The rows of a step are judged with the same forbidden ids, so a row with others picks on its own.
        if sampling.temperature == 0 and not sampling.no_repeat_ngram and not sampling.ignore_stop:
            return None
        never = self.never_nor_stop if sampling.ignore_stop else self.never
        return Sampler(sampling, [work.first + row.index], row.limit, never)

    def _step(self, lane: Lane) -> None:
        """Add at least one token to every row. Rows that have ended leave the batch."""
        assert lane.cache is not None
        members = lane.members
        proposals = [one.draft.proposal(one.row.limit - len(one.row.ids) - 1) for one in members]
        pictures = [one.vision for one in members if one.vision is not None]
        vision = torch.cat(pictures) if pictures else None
        inputs = [one.inputs for one in members]
        judged = judge(self.model, lane.cache, inputs, proposals, vision, self.never)
        for member, proposal, said in zip(members, proposals, judged, strict=True):
            self._hear(member, proposal, said)
        ended = [(one, self._completion(one)) for one in members if one.row.status is not None]
        lane.keep([i for i, member in enumerate(members) if member.row.status is None])
        if lane.cache is not None:
            # The cache holds a row's prompt and all that it said but its last token, which is fed next.
            lengths = [len(one.row.request.ids) + len(one.row.ids) - 1 for one in lane.members]
            lane.cache.lengths = torch.tensor(lengths, device=self.model.device)
        # Told last: if anything before fails, these rows begin again, and no caller hears of one twice.
        for member, completion in ended:
            _deliver(member, completion)

    def _hear(self, member: Member, proposal: list[int], said: Judged) -> None:
        """Take the proposed tokens on which the model agrees, and one more token of its own."""
        row, sampling, (picks, probabilities, logits_V) = member.row, member.work.sampling, said
        note_alternatives([row], logits_V[None], sampling.alternatives)
        if member.sampler is not None:
            picks, probabilities = member.sampler.pick(logits_V[None])
        accepted = agreeing(proposal, picks)
        for token, probability in zip(picks[: accepted + 1], probabilities):
            if row.status is None:
                self.take(row, token, probability, sampling)
        member.draft.judged(proposal, picks, probabilities, accepted)
        member.inputs, member.vision = row.ids[-1:], None

    def _completion(self, member: Member) -> Completion:
        member.row.seconds = time.perf_counter() - member.began
        return self.complete(member.row)


def _deliver(member: Member, completion: Completion) -> None:
    work = member.work
    work.news.put((member.row.index, completion))
    work.left -= 1
    work.running -= 1
    if work.left == 0:
        work.end()


def _clock(lane: Lane) -> float:
    return lane.clock


def _end(works: Iterable[Work], error: Exception) -> None:
    for work in works:
        work.end(error)
