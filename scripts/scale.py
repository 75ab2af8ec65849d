"""Estimates a batch on a thousand workers by discrete-event simulation.

python -m scripts.scale [--workers=1000] [--pages=2000000]

Measurements (seconds of pages, of a start, of the driver's notes; bytes of pages) are in docs/scale.json,
which scripts/bench/batch.py writes. Assumptions (deaths, slow machines, storage, prices) are in `Cluster`.
The simulation follows batch/ray_engine.py: tasks are consecutive pages, actors end after each round, a task
whose worker died is done again from its beginning, and one driver notes every page.
"""

from __future__ import annotations

import heapq
import json
import sys
from collections import deque
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nanoocr.commandline import parse, run
from nanoocr.errors import UsageError

HOUR, DAY = 3600.0, 86400.0
# Lengths of 4,949 PDFs on one disk (https://ramanraj.blogspot.com/2010/12/analysis-of-4500-pdf-files.html):
# files of 1 to 9 pages, of 10 to 100 (their mean is 33), and above; 280,777 pages in all, so a mean of 57.
COUNTED = (893, 473, 332, 227, 192, 167, 146, 130, 78)
TEN_TO_HUNDRED, FILES = 1650, 4949
TAIL, LONGEST = 1.435, 5000  # a Pareto tail above 100 pages with the mean that the total leaves, 330 pages


@dataclass(frozen=True)
class Measured:
    """Measurements on one processor."""

    page_seconds: tuple[float, ...]
    page_bytes: float
    start_seconds: float  # from nothing to a loaded model
    note_seconds: float  # the driver's time per page, for the ledger and its shard


@dataclass(frozen=True)
class Cluster:
    """The assumptions. Rates are per worker or driver, and a worker is one processor."""

    workers: int = 1000  # processors that read
    pages: int = 2_000_000  # of all documents together
    deaths_per_day: float = 1.0  # deaths of a worker by preemption, memory or hardware
    replace_seconds: float = 60.0  # until another machine is there
    driver_deaths_per_day: float = 1.0  # deaths of the driver, which end every task that runs
    driver_restart_seconds: float = 60.0  # until another driver is there
    slow_share: float = 0.02  # share of the workers that are slow
    slow_factor: float = 3.0  # times that a slow worker takes longer
    pages_per_task: int = 16  # pages that a worker gets at once
    pages_per_round: int = 20_000  # pages of a round, after which all workers start anew; at least this many
    round_per_worker: int = 1000  # pages of a round for each worker, where that makes more of them
    worker_bandwidth: float = 125e6  # bytes/s of one worker
    storage_bandwidth: float = 2.5e9  # bytes/s of all workers together
    tasks_per_document: int = 0  # at most this many; 0 means any number
    fetch_ranges: bool = True  # fetch only the pages of the task from a document, as a file system allows
    note_share: float = 1.0  # share of today's work per page that the driver keeps; workers do the rest
    backlog_seconds: float = 30.0  # workers wait when more of the driver's work than this is waiting
    single_pages: bool = False  # every document has one page
    dollars_per_hour: float = 0.04  # price of one worker


@dataclass(frozen=True)
class ScaleConfig(Cluster):
    """Simulates a batch and prints the table of docs/scale.md."""

    measured: str = "docs/scale.json"  # file of the measurements, which `scripts.bench.batch measure` writes
    seed: int = 0  # seeds documents, deaths and slow machines


class Outcome(NamedTuple):
    """The result of a simulated batch. Shares are of all workers' time."""

    hours: float
    pages_per_day: float
    reading: float
    fetching: float
    lost: float
    driver_busy: float  # share of the driver's own time
    terabytes: float  # fetched
    dollars_per_million: float
    pages: int

    @property
    def waiting(self) -> float:
        """Share of waiting: for the end of a round or of the batch, a start, a machine, or the driver."""
        return max(1 - self.reading - self.fetching - self.lost, 0.0)


class Work(NamedTuple):
    """A task: its pages, its seconds on a processor of ordinary speed, and the bytes to fetch for it."""

    pages: int
    seconds: float
    bytes: float


# ---------------------------------------------------------------------------------------------------
# The work


def draw_lengths(total: int, rng: np.random.Generator) -> np.ndarray:
    """int64 pages of documents, (N,), that add up to `total`; the last one is cut."""
    lengths, made = [], 0
    shares = np.array([*COUNTED, TEN_TO_HUNDRED, FILES - sum(COUNTED) - TEN_TO_HUNDRED]) / FILES
    while made < total:
        kind = rng.choice(len(shares), size=4096, p=shares)
        middle = 10 ** rng.uniform(1, 2, 4096)
        long = np.minimum(100 * (1 + rng.pareto(TAIL, 4096)), LONGEST)
        drawn = np.where(kind < 9, kind + 1, np.where(kind == 9, middle, long)).astype(np.int64)
        lengths.append(drawn)
        made += int(drawn.sum())
    ends = np.minimum(np.cumsum(np.concatenate(lengths)), total)
    return np.diff(ends[: int(np.searchsorted(ends, total)) + 1], prepend=0)


def draw_work(cluster: Cluster, measured: Measured, rng: np.random.Generator) -> list[Work]:
    """Cut all documents, in order, into tasks. Each task fetches every document that it has a page of."""
    lengths = np.ones(cluster.pages, np.int64) if cluster.single_pages else draw_lengths(cluster.pages, rng)
    seconds = rng.choice(np.array(measured.page_seconds), size=cluster.pages)
    until = np.concatenate([[0.0], np.cumsum(seconds)])
    work, first, place, pending = [], 0, 0, 0.0
    for length in lengths.tolist():
        step = cluster.pages_per_task
        if cluster.tasks_per_document:
            step = max(step, -(-length // cluster.tasks_per_document))
        whole = 0.0 if cluster.fetch_ranges else length * measured.page_bytes
        end, pending = place + length, pending + whole
        while end - first >= step:
            work.append(Work(step, float(until[first + step] - until[first]), pending))
            first += step
            pending = whole if first < end else 0.0
        place = end
    if first < place:
        work.append(Work(place - first, float(until[place] - until[first]), pending))
    if cluster.fetch_ranges:
        return [task._replace(bytes=task.pages * measured.page_bytes) for task in work]
    return work


# ---------------------------------------------------------------------------------------------------
# The simulation


SUMS = ("pages", "reading", "fetching", "lost", "noting", "bytes")


class Running(NamedTuple):
    """A task that a worker is doing."""

    work: Work
    since: float
    fetched: float  # when the fetch is done


@dataclass
class State:
    """The cluster at one moment. `epoch` counts the driver's lives; orders of an earlier life are void."""

    cluster: Cluster
    measured: Measured
    rng: np.random.Generator
    speed: np.ndarray  # factor on each worker's seconds, (workers,)
    left: deque[Work]
    queue: deque[Work] = field(default_factory=deque)  # the tasks of this round
    running: dict[int, Running] = field(default_factory=dict)
    idle: set[int] = field(default_factory=set)
    events: list[tuple[float, int, str, int, int]] = field(default_factory=list)
    ordered: int = 0
    epoch: int = 0
    driver_free: float = 0.0
    storage_free: float = 0.0
    sums: dict[str, float] = field(default_factory=lambda: dict.fromkeys(SUMS, 0.0))

    def at(self, time: float, what: str, worker: int) -> None:
        """Schedule an event; of two at one moment, the one scheduled first comes first."""
        self.ordered += 1
        heapq.heappush(self.events, (time, self.ordered, what, worker, self.epoch))


def simulate(cluster: Cluster, measured: Measured, seed: int = 0) -> Outcome:
    """Simulate one batch from its start to its last page."""
    rng = np.random.default_rng(seed)
    speed = np.where(rng.random(cluster.workers) < cluster.slow_share, cluster.slow_factor, 1.0)
    work = draw_work(cluster, measured, rng)
    state = State(cluster, measured, rng, speed, deque(work))
    _begin_round(state, 0.0)
    _order_death(state, 0.0, "driver died", -1, cluster.driver_deaths_per_day)
    now = 0.0
    while state.events and (state.left or state.queue or state.running):
        now, _, what, worker, epoch = heapq.heappop(state.events)
        if epoch == state.epoch or what == "driver died":
            HAPPENS[what](state, now, worker)
    now = max(now, state.driver_free)
    return _outcome(state, now)


def _outcome(state: State, seconds: float) -> Outcome:
    sums, cluster = state.sums, state.cluster
    whole = seconds * cluster.workers
    return Outcome(
        hours=seconds / HOUR,
        pages_per_day=sums["pages"] / seconds * DAY,
        reading=sums["reading"] / whole,
        fetching=sums["fetching"] / whole,
        lost=sums["lost"] / whole,
        driver_busy=sums["noting"] / seconds,
        terabytes=sums["bytes"] / 1e12,
        dollars_per_million=whole / HOUR * cluster.dollars_per_hour / sums["pages"] * 1e6,
        pages=int(sums["pages"]),
    )


def _begin_round(state: State, now: float) -> None:
    """Take the next pages and start all workers, because Ray's actors end with each round."""
    cluster = state.cluster
    wanted = max(cluster.pages_per_round, cluster.round_per_worker * cluster.workers)
    while state.left and wanted > 0:
        state.queue.append(state.left.popleft())
        wanted -= state.queue[-1].pages
    _start_all(state, now)


def _start_all(state: State, now: float) -> None:
    state.epoch += 1
    state.idle.clear()
    for worker in range(state.cluster.workers):
        state.at(now + state.measured.start_seconds, "is free", worker)


def _order_death(state: State, now: float, what: str, worker: int, per_day: float) -> float:
    """When something dies next. The driver's death is scheduled at once, since it may come at any time."""
    moment = now + (state.rng.exponential(DAY / per_day) if per_day else float("inf"))
    if what == "driver died" and per_day:
        state.at(moment, what, worker)
    return moment


def _is_free(state: State, now: float, worker: int) -> None:
    """Give the worker its next task, or let it wait. The last one to wait begins the next round."""
    if not state.queue:
        state.idle.add(worker)
        if not state.running and state.left:
            _begin_round(state, now)
        return
    work, cluster = state.queue.popleft(), state.cluster
    sent = max(state.storage_free, now) + work.bytes / cluster.storage_bandwidth
    state.storage_free = sent
    fetched = max(sent, now + work.bytes / cluster.worker_bandwidth)
    end = fetched + work.seconds * float(state.speed[worker])
    death = _order_death(state, now, "died", worker, cluster.deaths_per_day)
    state.running[worker] = Running(work, now, fetched)
    state.at(min(end, death), "died" if death < end else "is done", worker)
    state.sums["bytes"] += work.bytes


def _is_done(state: State, now: float, worker: int) -> None:
    task = state.running.pop(worker)
    noting = task.work.pages * state.measured.note_seconds * state.cluster.note_share
    state.driver_free = max(state.driver_free, now) + noting
    for name, amount in (
        ("pages", task.work.pages),
        ("reading", now - task.fetched),
        ("fetching", task.fetched - task.since),
        ("noting", noting),
    ):
        state.sums[name] += amount
    state.at(max(now, state.driver_free - state.cluster.backlog_seconds), "is free", worker)


def _lose(state: State, now: float, worker: int) -> None:
    """The worker's task is done again from the beginning, by some worker without a task."""
    task = state.running.pop(worker)
    state.sums["lost"] += now - task.since
    state.queue.appendleft(task.work)


def _died(state: State, now: float, worker: int) -> None:
    _lose(state, now, worker)
    state.at(now + state.cluster.replace_seconds + state.measured.start_seconds, "is free", worker)
    if state.idle:
        state.at(now, "is free", state.idle.pop())


def _driver_died(state: State, now: float, _: int) -> None:
    for worker in list(state.running):
        _lose(state, now, worker)
    later = now + state.cluster.driver_restart_seconds
    state.driver_free = later
    _start_all(state, later)
    _order_death(state, later, "driver died", -1, state.cluster.driver_deaths_per_day)


HAPPENS = {"is free": _is_free, "is done": _is_done, "died": _died, "driver died": _driver_died}


# ---------------------------------------------------------------------------------------------------
# The table


def scenarios(base: Cluster) -> dict[str, Cluster]:
    """One thing after the other made worse, or mended."""
    whole = replace(base, fetch_ranges=False)  # as from an archive, a table or S3
    calm = replace(base, deaths_per_day=0.0, driver_deaths_per_day=0.0, slow_share=0.0)
    return {
        "as the code is, a tenth of the workers": replace(base, workers=base.workers // 10),
        "as the code is": base,
        "... and twice the workers": replace(base, workers=base.workers * 2),
        "... and that, the driver does a tenth of its work": replace(
            base, workers=base.workers * 2, note_share=0.1
        ),
        "... and nothing dies, none is slow": calm,
        "... and workers die 24 times a day": replace(base, deaths_per_day=24.0),
        "... and the driver dies 24 times a day": replace(base, driver_deaths_per_day=24.0),
        "... and a tenth of the workers is slow": replace(base, slow_share=0.1),
        "... and rounds are of 20,000 pages": replace(base, round_per_worker=0),
        "... and storage gives 250 MB/s": replace(base, storage_bandwidth=250e6),
        "... and each task fetches whole documents": whole,
        "... and that, cut into 16 tasks at most": replace(whole, tasks_per_document=16),
        "... and that, each document one page": replace(whole, single_pages=True),
    }


# The first row of the table has a tenth of the workers, and a batch without bandwidth never ends.
LEAST = {"workers": 10, "pages": 1, "pages_per_task": 1, "pages_per_round": 1}
ABOVE_ZERO = ("slow_factor", "worker_bandwidth", "storage_bandwidth")


def refuse_senseless(config: ScaleConfig) -> None:
    """Raise UsageError for a cluster that could never end a batch."""
    for name, value in vars(config).items():
        if isinstance(value, int | float) and value < LEAST.get(name, 0):
            raise UsageError(f"--{name}={value}: give at least {LEAST.get(name, 0)}")
        if name in ABOVE_ZERO and not value > 0:
            raise UsageError(f"--{name}={value}: give a number above 0")


def read_measured(path: Path) -> Measured:
    """Read what scripts/bench/batch.py has written.

    Raises:
        UsageError: the file is missing, or it is another one.
    """
    try:
        about: dict[str, Any] = json.loads(path.read_text())
        return Measured(
            tuple(about["page_seconds"]), about["page_bytes"], about["start_seconds"], about["note_seconds"]
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"--measured={path}: not a file that `python -m scripts.bench.batch measure` wrote ({error!r})"
        ) from error


def main(argv: list[str] | None = None) -> None:
    """Print the table of docs/scale.md."""
    cluster = parse(ScaleConfig, argv)
    refuse_senseless(cluster)
    seen = read_measured(Path(cluster.measured))
    print("| what | million pages a day | reads | fetches | lost | waits | driver busy | TB | $ a million |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, one in scenarios(cluster).items():
        out = simulate(one, seen, cluster.seed)
        shares = " | ".join(f"{x:.1%}" for x in (out.reading, out.fetching, out.lost, out.waiting))
        print(
            f"| {name} | {out.pages_per_day / 1e6:.1f} | {shares} | {out.driver_busy:.0%} | "
            f"{out.terabytes:.1f} | {out.dollars_per_million:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    sys.exit(run(main))
