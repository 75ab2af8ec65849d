"""The training loop of both stages: take batches, step, log, validate, save.

A stage script decides which parts train and where the weights come from. Everything after that is here.
"""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from types import FrameType
from typing import Any

import torch

from nanoocr.data.loader import DataPlan, Delivery, multimodal_data_generator
from nanoocr.data.processes import shared_by
from nanoocr.data.rows import Row
from nanoocr.data.source import Mixture
from nanoocr.errors import UsageError
from nanoocr.eval.reading import ReadingReport
from nanoocr.files import drop_unfinished
from nanoocr.machine import peak_resident
from nanoocr.model.components import COMPONENTS
from nanoocr.model.folder import step_folder
from nanoocr.train.finite import stop_if_diverged
from nanoocr.train.log import RunLog
from nanoocr.train.recipes import describe
from nanoocr.train.resume import save, warn_of_other_data
from nanoocr.train.run import Run
from nanoocr.train.state import TrainState, gathered
from nanoocr.train.step import StepStats, train_step
from nanoocr.train.validate import check_collapse, past_validations, validate, write_best


def train(run: Run, state: TrainState, data: DataPlan, rows: list[Row], prompt: str) -> ReadingReport | None:
    """Run from `state.step` to --steps; returns the last validation report (on rank 0).

    `rows` are the held-out rows for validation; without rows there is no validation. `prompt` is what the run
    asks about pages, which is written into the model's config.json.

    Raises:
        KeyboardInterrupt: somebody asked the run to stop; its last step is saved.
        DivergedError: a loss, gradient or weight is not finite; its last good step is saved.
    """
    config, world, report = run.config, run.world, None
    if world.is_main:
        # A kill may have left half a checkpoint behind; it is of no use and takes space.
        drop_unfinished(run.folder)
        write_best(run.folder, state.step)
    about: dict[str, Any] = {"prompt": prompt, "data": data.source.fingerprint()}
    if state.step:
        warn_of_other_data(run, step_folder(run.folder, state.step), about["data"])
    batches = multimodal_data_generator(
        data, start=state.step, states=state.streams, workers=config.workers,
        rank=world.rank, ranks=world.size, pin_memory=world.device.startswith("cuda"),
    )  # fmt: skip
    with RunLog(run.folder, config, start=state.step, main=world.is_main) as log:
        log.table(describe(state.model, run.recipe))
        for line in [*idle_workers(run, data), *left_out(data)]:
            log.say(line)
        if rows and validation_is_due(run, state.step):
            report = look(run, log, state, data, rows)
        # `closing` ends the processes that make batches, also when a step raises.
        with interruptible() as asked, closing(batches):
            clock = Clock()
            for deliveries in while_it_helps(run, log, state, batches):
                clock.waited()
                stats = train_step(run, state, deliveries, stop=asked[0])
                clock.stepped(stats)
                log.advance(state.step)
                last, stop = state.step == config.steps, stats.totals.stops > 0
                logs = state.step % config.log_every == 0 or last
                saves = state.step % config.save_every == 0 or last or stop
                # Nothing that is not finite may reach the log or a checkpoint.
                if logs or saves:
                    stop_if_diverged(run, state, stats.losses)
                if logs:
                    log_step(run, log, state, stats, clock)
                # Save first: nothing that goes wrong in a validation may cost the steps before it.
                if saves:
                    save(run, state, data.tokenizer, about)
                    clock.restart()
                if (state.step % config.eval_every == 0 or last) and rows and not stop:
                    report = look(run, log, state, data, rows)
                    clock.restart()
                if stop:
                    log.say(f"stopped at step {state.step}; go on with --resume=True")
                    raise KeyboardInterrupt
    return report


def validation_is_due(run: Run, step: int) -> bool:
    """Whether to validate now: at the start with --eval_first, later if a kill prevented a validation."""
    if step == 0:
        return run.config.eval_first
    planned = step % run.config.eval_every == 0 or step == run.config.steps
    # Only rank 0 reads the log; the sum tells all ranks what it found, since all must take part.
    missing = run.world.is_main and planned and step not in past_validations(run.folder)
    return run.world.sum([float(missing)])[0] > 0


def while_it_helps(
    run: Run, log: RunLog, state: TrainState, batches: Iterable[list[Delivery]]
) -> Iterator[list[Delivery]]:
    """Pass the batches on until the last `--patience` validations have brought no better loss."""
    for deliveries in batches:
        validated = state.step and state.step % run.config.eval_every == 0
        if validated and out_of_patience(run, state.step):
            log.say(f"stopped at step {state.step}: no better for {run.config.patience} validations")
            return
        yield deliveries


def out_of_patience(run: Run, step: int) -> bool:
    """Whether none of the last `--patience` validations beat an earlier one."""
    patience = run.config.patience
    if not patience:
        return False
    losses = [loss for at, loss in sorted(past_validations(run.folder).items()) if at <= step]
    # As above: rank 0 decides, and every rank stops after the same step.
    late = run.world.is_main and len(losses) > patience
    stale = late and min(losses[-patience:]) >= min(losses[:-patience])
    return run.world.sum([float(stale)])[0] > 0


def look(run: Run, log: RunLog, state: TrainState, data: DataPlan, rows: list[Row]) -> ReadingReport | None:
    """Validate on rank 0, which alone gets the report, while the others wait.

    Raises:
        UsageError: the features have collapsed, and --stop_on_collapse was given.
    """
    reading, report = gathered(state, run.world, run.world.device), None
    if run.world.is_main:
        report = validate(run, log, reading, data, rows)
    run.world.wait()  # not an ordinary exchange: a validation may take longer than --timeout_s
    collapsed = run.world.sum([float(check_collapse(log, report))])[0] > 0
    if collapsed and run.config.stop_on_collapse and state.step:
        raise UsageError(f"stopped at step {state.step}: the features have collapsed")
    return report


def idle_workers(run: Run, data: DataPlan) -> list[str]:
    """One sentence, if fewer processes than --workers find work in a micro-batch of this rank."""
    workers = shared_by(data.slots // run.world.size * data.turns, run.config.workers)
    if workers == run.config.workers:
        return []
    return [f"workers: {workers} of {run.config.workers} (give more --turns to use them)"]


def left_out(data: DataPlan) -> list[str]:
    """One sentence for every data set that was opened without some of its files."""
    tasks = data.source.tasks if isinstance(data.source, Mixture) else ()
    return [
        f"{name}: left out {len(task.missing)} files without a partner, as {task.missing[0]}"
        for name, task in tasks
        if task.missing
    ]


class Clock:
    """Times waiting and computing, and counts samples and tokens, since the last log line."""

    def __init__(self) -> None:
        # These are kept when a validation or checkpoint interrupts the interval.
        self.skipped, self.taken, self.samples = Counter[str](), Counter[str](), Counter[str]()
        self.shrunk = 0
        self.restart()

    def restart(self) -> None:
        """Begin a new interval now."""
        self.wait = self.busy = 0.0
        self.documents = self.tokens = self.positions = self.places = self.flops = 0.0
        self.flops_here = dict.fromkeys(COMPONENTS, 0.0)  # operations on this rank
        self.mark = time.monotonic()

    def waited(self) -> None:
        """Note that a batch has arrived."""
        now = time.monotonic()
        self.wait, self.mark = self.wait + now - self.mark, now

    def stepped(self, stats: StepStats) -> None:
        """Note that a step is done."""
        now = time.monotonic()
        self.busy, self.mark = self.busy + now - self.mark, now
        self.documents += stats.totals.documents
        self.tokens += stats.totals.supervised
        self.positions += stats.totals.positions
        self.places += stats.totals.places
        self.flops += stats.totals.flops
        self.flops_here = {name: done + stats.flops[name] for name, done in self.flops_here.items()}
        self.skipped.update(stats.skipped)
        self.taken.update(stats.taken)
        self.samples.update(stats.samples)
        self.shrunk += stats.shrunk


def log_step(run: Run, log: RunLog, state: TrainState, stats: StepStats, clock: Clock) -> None:
    """Print one line: step, averaged losses, rate, throughput, share of waiting, time left."""
    world = run.world
    ema = world.sum_by_name(state.ema)  # This waits until a GPU has finished its work.
    # What the line above waited for is computing, not waiting for data.
    clock.busy += time.monotonic() - clock.mark
    # Never zero, so that no rate divides by it.
    seconds = max(1e-9, clock.wait + clock.busy)
    skipped, taken, samples, shrunk = Counter[str](), Counter[str](), Counter[str](), 0
    for of_rank in world.gather((clock.skipped, clock.taken, clock.samples, clock.shrunk)):
        skipped.update(of_rank[0])
        taken.update(of_rank[1])
        samples.update(of_rank[2])
        shrunk += of_rank[3]
    peak = log.peak_tflops
    values: dict[str, Any] = {
        **world.sum_by_name(stats.losses),
        **{f"{name}_ema": value for name, value in ema.items()},
        "lr": state.optimizers[0].param_groups[0]["lr"],
        "samples": clock.documents,  # since the last log line, validation or checkpoint
        "samples_per_s": clock.documents / seconds,
        "tokens_per_s": clock.tokens / seconds,
        "data_wait": clock.wait / seconds,
        "padding": 1 - clock.positions / max(1.0, clock.places),
        "memory_gb": peak_memory(world.device),
        "tflops": clock.flops / seconds / 1e12,
        "flop_shares": shares_of(clock.flops_here),
        **({"mfu": clock.flops / seconds / 1e12 / (peak * world.size)} if peak else {}),
        "skipped_rows": sum(skipped.values()),
        "skipped": dict(skipped),
        "shrunk_rows": shrunk,
        "shares": shares_of(taken),  # shares of the supervised tokens since the run started or was resumed
        "sample_shares": shares_of(samples),  # shares of the rows since then
    }
    clock.skipped.clear()
    clock.shrunk = 0
    clock.restart()
    log.record(state.step, "train", values)
    shown = " ".join(f"{name} {value:.4f}" for name, value in ema.items() if name != "total")
    reasons = ", ".join(f"{count} {reason}" for reason, count in skipped.items())
    shares = ", ".join(
        f"{name} {share:.1%} ({values['shares'][name]:.1%})"
        for name, share in values["sample_shares"].items()
    )
    log.say(
        f"step {state.step}/{log.steps} {shown} lr {values['lr']:.2e} "
        f"{values['samples_per_s']:.0f} samples/s {values['tokens_per_s']:.0f} tok/s "
        f"wait {values['data_wait']:.1%} padding {values['padding']:.1%} "
        + (f"MFU {values['mfu']:.1%} " if peak else "")
        + f"left {log.time_left(state.step)}"
        + (f" shares of rows (supervised tokens): {shares}" if len(samples) > 1 else "")
        + (f" shrunk rows: {shrunk}" if shrunk else "")
        + (f" skipped rows: {reasons}" if reasons else "")
    )


def shares_of(counts: Mapping[str, float]) -> dict[str, float]:
    """Divide each count by the sum of all."""
    return {name: count / max(1.0, sum(counts.values())) for name, count in sorted(counts.items())}


def peak_memory(device: str) -> float:
    """The most memory that this process has held so far, in GB: on the GPU, or resident."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated() / 1e9
    return peak_resident() / 1e9


@contextmanager
def interruptible() -> Iterator[list[bool]]:
    """SIGTERM and the first Ctrl-C set the flag, and the run saves after its step; a second Ctrl-C ends it.

    A scheduler and a launcher may both send SIGTERM: the second one changes nothing.
    """
    asked = [False]

    def ask(number: int, frame: FrameType | None) -> None:
        """The signal's handler: notes that the run is to stop after this step."""
        # A second Ctrl-C means that somebody does not want to wait for the checkpoint.
        if asked[0] and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked[0] = True

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
