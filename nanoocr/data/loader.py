"""The loader: endless rows -> batches, in worker processes, with a position that a checkpoint can keep.

A step has `batch_size` sequences, in micro-batches of `micro_batch` each. Every place of a micro-batch within
the step is a slot. A slot is served by `turns` row streams, which take turns from step to step, so that
several worker processes can prepare batches for one slot. A stream's batches depend on its own history alone,
and not on the number of processes, of ranks, or on the machine. So a run may go on with another number of
ranks.

    row stream -> draws rows -> plans them (lengths) -> packs sequences -> decodes their pictures -> Batch
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from nanoocr.bpe import Tokenizer
from nanoocr.data.batch import Batch, collate, collate_packed
from nanoocr.data.example import Example, Plan, TooLongError, fit, plan
from nanoocr.data.packing import alike, pack
from nanoocr.data.processes import defect_of, ended_afterwards, leave_signals_to_the_parent, shared_by
from nanoocr.data.rows import BadRowError, FilteredRowError
from nanoocr.data.source import Mixture, RowSource
from nanoocr.errors import NanoOCRError, UsageError
from nanoocr.image_process import MODES, Mode

RUN = 64  # A stream takes this many consecutive draws, so that rows that lie together are read together.
AHEAD = 2.0  # how many batches of sequences wait to be packed
MAX_WAITING = 4096  # At most this many rows wait; many short ones pack well enough.
MAX_UNUSABLE = 1000  # A stream gives up after this many consecutive draws without a usable row.


@dataclass(frozen=True)
class DataPlan:
    """Settings that shape the batches. A resumed run must not change any of them."""

    source: RowSource
    tokenizer: Tokenizer
    views: tuple[tuple[int, int], ...]
    batch_size: int  # sequences per step, over all ranks
    steps: int
    seed: int
    max_length: int  # tokens of a row; with packing, positions of a sequence
    micro_batch: int = 0  # sequences per forward pass; 0 is the whole batch
    turns: int = 1  # row streams per slot, which take turns
    packed: bool = False  # put several rows into a sequence, instead of one
    max_pictures: int = 64  # a packed sequence holds at most this many pictures
    window: int = 0  # without packing: rows that wait for a batch of similar lengths; 0 is four batches
    skip_long: bool = False  # count rows longer than max_length and go on, instead of raising an error
    shrink_long: bool = False  # before that, try to see their pictures in less detail
    skip_bad: bool = False  # count unreadable rows and go on, instead of raising an error
    # resolution modes and their weights; empty means the model's views
    modes: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        """Check that micro-batches divide the batch."""
        if self.micro_batch and self.batch_size % self.micro_batch:
            raise UsageError(
                f"--micro_batch={self.micro_batch} does not divide --batch_size={self.batch_size}"
            )

    @property
    def sequences(self) -> int:
        """How many sequences a micro-batch has."""
        return self.micro_batch or self.batch_size

    @property
    def slots(self) -> int:
        """How many micro-batches a step has."""
        return self.batch_size // self.sequences

    def mode_of(self, draw: int) -> Mode | None:
        """The resolution mode for the row of a draw; None where no modes were given."""
        if not self.modes:
            return None
        weights = np.array([weight for _, weight in self.modes])
        place = np.random.default_rng([self.seed, draw, 1]).choice(len(weights), p=weights / weights.sum())
        return MODES[self.modes[place][0]]


class StreamState(NamedTuple):
    """What a row stream must remember to make its next batch again."""

    draws: int  # rows drawn so far
    waiting: tuple[tuple[int, int], ...]  # (draw, step at which it was drawn) of the rows not yet used


class Delivery(NamedTuple):
    """A micro-batch, what was left out for it, and the state of its row stream afterwards."""

    batch: Batch
    stream: int
    state: StreamState
    skipped: dict[str, int]  # rows that were drawn and not used, by reason
    taken: dict[str, int]  # supervised tokens by data set (of a Mixture)
    shrunk: int = 0  # rows whose pictures are seen in less detail, so that the row fits
    samples_by_task: Mapping[str, int] = MappingProxyType({})  # rows of the batch by data set


class Waiting(NamedTuple):
    """A planned row that no batch has taken yet."""

    draw: int  # the stream's own count
    step: int  # the step at which it was drawn
    plan: Plan


class RowStream:
    """One endless stream of rows, and the micro-batches made from them."""

    def __init__(self, data: DataPlan, number: int, state: StreamState | None = None) -> None:
        self.data, self.number = data, number
        self.draws = 0 if state is None else state.draws
        self.skipped, self.shrunk = Counter[str](), 0
        self.last_reason = ""  # why the last row that was left out cannot be used
        self.waiting: list[Waiting] = []
        for draw, step in () if state is None else state.waiting:
            self._draw(draw, step)
        self.skipped, self.shrunk = Counter[str](), 0  # These rows were counted when they were first drawn.

    def deliver(self, step: int) -> Delivery:
        """Make the micro-batch of `step`. Steps must rise from call to call.

        Raises:
            UsageError: a row may not be skipped, or too many in a row cannot be used.
        """
        data, sequences, tried = self.data, list[list[tuple[Waiting, Example]]](), 0
        while not sequences:
            self._fill(step)
            drawn = self._choose()
            tried += sum(map(len, drawn))
            sequences = [[row for row in map(self._fit, sequence) if row is not None] for sequence in drawn]
            sequences = [sequence for sequence in sequences if sequence]
            if not sequences and tried >= MAX_UNUSABLE:
                raise self._nothing_usable(tried)
        pad = data.tokenizer.assistant_end_id
        examples = [[example for _, example in sequence] for sequence in sequences]
        if data.packed:
            batch = collate_packed(examples, data.max_length, pad)
        else:
            batch = collate([example for (example,) in examples], pad)
        taken, samples = Counter[str](), Counter[str]()
        if isinstance(data.source, Mixture):
            for waiting, example in (pair for sequence in sequences for pair in sequence):
                name = data.source.name_of(self._global(waiting.draw))
                taken[name] += sum(example.mask)
                samples[name] += 1
        skipped, self.skipped = dict(self.skipped), Counter()
        shrunk, self.shrunk = self.shrunk, 0
        return Delivery(batch, self.number, self.state(), skipped, dict(taken), shrunk, dict(samples))

    def state(self) -> StreamState:
        """What the stream must remember now."""
        return StreamState(self.draws, tuple((row.draw, row.step) for row in self.waiting))

    def _fill(self, step: int) -> None:
        """Draw until enough rows wait."""
        unusable = 0
        while not self._enough():
            before = len(self.waiting)
            self._draw(self.draws, step)
            self.draws += 1
            unusable = 0 if len(self.waiting) > before else unusable + 1
            if unusable == MAX_UNUSABLE:
                if self.waiting:
                    return
                raise self._nothing_usable(unusable)

    def _nothing_usable(self, tried: int) -> UsageError:
        reasons = ", ".join(f"{count} {reason}" for reason, count in self.skipped.items())
        return UsageError(
            f"none of {tried} rows can be used ({reasons}; a row may have {self.data.max_length} tokens; "
            f"the last one: {self.last_reason}): "
            "change --max_length, --mix or --modes, or look at the data with scripts.data_look"
        )

    def _enough(self) -> bool:
        data = self.data
        if not data.packed:
            return len(self.waiting) >= (data.window or 4 * data.sequences)
        positions = sum(row.plan.length for row in self.waiting)
        return positions >= AHEAD * data.sequences * data.max_length or len(self.waiting) >= MAX_WAITING

    def _draw(self, draw: int, step: int) -> None:
        """Plan the row of `draw`. A row that cannot be used is counted or raised, as the plan says."""
        data, place = self.data, self._global(draw)
        try:
            row = data.source(place, step / data.steps)
            limits = (data.views, data.max_length, data.mode_of(place))
            planned = plan(row, data.tokenizer, *limits, shrink=data.shrink_long)
        except TooLongError as error:
            if not data.skip_long:
                raise
            self._leave_out("too long", error)
        except FilteredRowError as error:  # The user asked for the filter, so this is never an error.
            self._leave_out("filtered", error)
        except BadRowError as error:
            if not data.skip_bad:
                raise
            self._leave_out("unreadable", error)
        else:
            self.shrunk += planned.shrunk
            self.waiting.append(Waiting(draw, step, planned))

    def _choose(self) -> list[list[Waiting]]:
        """Take the sequences of the next batch out of the waiting rows."""
        data = self.data
        lengths = [row.plan.length for row in self.waiting]
        if data.packed:
            pictures = [len(row.plan.row.pictures) for row in self.waiting]
            places = pack(lengths, pictures, data.max_length, data.max_pictures, data.sequences)
        else:
            places = [[i] for i in alike(lengths, data.sequences)]
        sequences = [[self.waiting[i] for i in sequence] for sequence in places]
        gone = {i for sequence in places for i in sequence}
        self.waiting = [row for i, row in enumerate(self.waiting) if i not in gone]
        return sequences

    def _fit(self, waiting: Waiting) -> tuple[Waiting, Example] | None:
        """Decode the pictures of a row. None means that it is unreadable and may be skipped."""
        try:
            return waiting, fit(waiting.plan)
        except BadRowError as error:
            if not self.data.skip_bad:
                raise
            self._leave_out("unreadable", error)
            return None

    def _leave_out(self, why: str, error: UsageError) -> None:
        """Count a row that is not used."""
        self.skipped[why] += 1
        self.last_reason = str(error)

    def _global(self, draw: int) -> int:
        """Number this stream's draw among the draws of all streams, which take stretches of RUN in turn."""
        run, offset = divmod(draw, RUN)
        return (run * self.data.slots * self.data.turns + self.number) * RUN + offset


class Ticket(NamedTuple):
    """A request for the micro-batch of one step from one row stream."""

    step: int
    stream: int


@dataclass(frozen=True)
class Tickets:
    """The tickets of a rank in order. They are generated, because a list of them would be long."""

    steps: range
    slots: range
    turns: int

    def __iter__(self) -> Iterator[Ticket]:
        for step in self.steps:
            for slot in self.slots:
                yield Ticket(step, slot * self.turns + step % self.turns)


class StreamDataset(Dataset[Delivery | NanoOCRError]):
    """The row streams of one worker process. Each is made when it is first asked."""

    def __init__(self, data: DataPlan, states: Mapping[int, StreamState]) -> None:
        self.data, self.states = data, states
        self.streams: dict[int, RowStream] = {}

    def __getitem__(self, ticket: Ticket) -> Delivery | NanoOCRError:
        # A worker's exception reaches the parent as a text with a traceback; a value arrives as it is.
        try:
            if ticket.stream not in self.streams:
                self.streams[ticket.stream] = RowStream(
                    self.data, ticket.stream, self.states.get(ticket.stream)
                )
            return self.streams[ticket.stream].deliver(ticket.step)
        except NanoOCRError as error:
            return error
        # `MemoryError` has its own message at the top level, whatever process it comes from.
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 (whatever it is, it is told in one sentence)
            return defect_of(error)


def multimodal_data_generator(
    data: DataPlan,
    *,
    start: int = 0,
    states: Mapping[int, StreamState] | None = None,
    workers: int = 0,
    rank: int = 0,
    ranks: int = 1,
    pin_memory: bool = False,
) -> Generator[list[Delivery], None, None]:
    """The micro-batches of this rank for the steps start, start + 1, ..., data.steps - 1.

    `states` holds the state of every stream after the deliveries before `start`; it is empty for a fresh run.
    With `workers`, that many processes make batches ahead, or the next smaller number that divides the
    streams evenly. Close the generator if you leave it early; this ends the processes.

    Raises:
        NanoOCRError: a worker found something wrong with a row; DefectError for a defect of the program.
        UsageError: the ranks cannot share the micro-batches of a step evenly.
    """
    if data.slots % ranks:
        raise UsageError(
            f"{ranks} ranks cannot share {data.slots} micro-batches of a step: "
            "give --batch_size and --micro_batch so that they can"
        )
    mine = range(rank, data.slots, ranks)
    workers = shared_by(len(mine) * data.turns, workers)
    loader: DataLoader[Delivery | NanoOCRError] = DataLoader(
        StreamDataset(data, states or {}),
        sampler=Tickets(range(start, data.steps), mine, data.turns),
        batch_size=None,
        num_workers=workers,
        prefetch_factor=2 + 8 // data.slots if workers else None,
        multiprocessing_context="fork" if workers else None,
        worker_init_fn=leave_signals_to_the_parent,
        # A generator of its own, so that making a loader leaves the run's generator alone.
        generator=torch.Generator(),
        pin_memory=pin_memory,
    )
    deliveries: list[Delivery] = []
    with ended_afterwards():
        # Keep a name for it: once released, the iterator waits for its busy processes.
        iterator = iter(loader)
        for delivery in iterator:
            if isinstance(delivery, NanoOCRError):
                raise delivery
            deliveries.append(delivery)
            if len(deliveries) == len(mine):
                yield deliveries
                deliveries = []
