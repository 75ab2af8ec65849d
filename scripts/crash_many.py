"""Kills a training run a thousand times, in every phase of it: in a step, while it saves, while it validates.

python -m scripts.crash_many --kills=400

This is scripts.crash_test for many kills. A start of Python with torch takes longer than a step, so each life
is forked from this process, which has imported everything and holds no model. In the fork runs the real stage
1, in a process of its own, with --resume and a model of a few thousand weights; SIGKILL ends it. A page of
shared memory says in which phase it died. A run that got to its end is compared with an untouched one, and
another run takes its place. The last line on stdout is the result as JSON.
"""

from __future__ import annotations

import importlib
import json
import mmap
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch

from nanoocr.bpe import Tokenizer
from nanoocr.commandline import parse, run
from nanoocr.config import BYTE_VOCAB, ClipConfig, GPTConfig, ModelConfig, SamConfig
from nanoocr.data.synth.fonts import find_fonts
from nanoocr.errors import UsageError
from nanoocr.model.folder import complete_steps, save_model, step_number
from nanoocr.model.vlm import VLM
from nanoocr.train import loop, setup
from nanoocr.train.validate import past_validations
from scripts import vis_tok_train
from scripts.common import folder_or_temporary
from scripts.crash_test import CrashTestError, compare, result

FLAGS = (
    *("--preset=nano", "--batch_size=2", "--threads=1", "--save_every=1", "--log_every=1", "--keep_last=2"),
    *("--eval_every=2", "--eval_samples=2", "--eval_tokens=2", "--average=0.9", "--pack=True"),
)
STARTING, RESUMING, STEPPING, SAVING, VALIDATING, BETWEEN = range(6)
NAMES = ("starting", "resuming", "in a step", "saving", "validating", "between")
AIMS = (STARTING, RESUMING, STEPPING, SAVING, SAVING, VALIDATING, VALIDATING)  # each kill is aimed at one
PASSED = 3  # a kill comes in one of so many first steps or saves of a life
A_LITTLE_LATER = 1.2  # times the length of a phase: what follows it is worth a kill as well
POLL = 0.001  # seconds
TOO_LONG = 300.0  # seconds that no life and no phase of it takes


@dataclass(frozen=True)
class ManyKillsConfig:
    """Kills training in every phase and compares where it ends."""

    kills: int = 400  # how often
    minutes: float = 60.0  # stop after so many minutes, with the kills that were made until then
    steps: int = 10  # steps of each run
    seed: int = 0  # seeds the moments of the kills
    workers: int = 0  # worker processes of every run, which lose their parent by a kill
    out: str = ""  # folder for the runs; empty means a temporary one

    def __post_init__(self) -> None:
        """Refuse numbers that make no sense."""
        if self.kills < 1 or self.steps < 1 or self.workers < 0 or not self.minutes > 0:
            raise UsageError("--kills, --steps and --minutes must be above 0, --workers not negative")


def save_small_model(folder: Path) -> None:
    """Write a model whose checkpoint takes a hundredth of a second, for --init."""
    sam = SamConfig(
        width=16, depth=2, heads=2, window=4, global_blocks=(1,), grid=(4, 8), neck=16, compressor=(16, 16)
    )
    clip = ClipConfig(width=16, depth=1, heads=2, grid=(1, 2))
    gpt = GPTConfig(vocab_size=BYTE_VOCAB, sequence_len=256, n_layer=1, n_head=2, n_kv_head=2, n_embd=16)
    tokenizer = Tokenizer.bytes()
    model = VLM(ModelConfig("nano", sam, clip, gpt, views=((64, 128),)), image_id=tokenizer.image_id)
    model.init_weights(0)
    save_model(folder, model, tokenizer)


def warm_up() -> None:
    """Do once what every life would spend seconds on: find the fonts, and import what optimisers import."""
    importlib.import_module("torch._dynamo")
    for held_out in (False, True):
        find_fonts(held_out=held_out)


# ---------------------------------------------------------------------------------------------------------
# One life


class Board:
    """What a life and its parent both see: the phase, how often each one began, and how long it took last."""

    def __init__(self) -> None:
        # Anonymous shared memory: a fork shares it, and it keeps what a killed process wrote.
        self.numbers = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("d")

    def clear(self) -> None:
        """Before a life. The seconds stay, as they say when in a phase of the next life a kill may come."""
        for place in range(1 + len(NAMES)):
            self.numbers[place] = 0.0

    @property
    def phase(self) -> int:
        """The phase in which the life is, or in which it died."""
        return int(self.numbers[0])

    def begin(self, phase: int) -> None:
        """Note that a phase begins."""
        self.numbers[0] = phase
        self.numbers[1 + phase] += 1

    def end(self, phase: int, seconds: float) -> None:
        """Note that a phase has ended."""
        self.numbers[0] = BETWEEN
        self.numbers[1 + len(NAMES) + phase] = seconds

    def begun(self, phase: int) -> int:
        """How often this life began the phase."""
        return int(self.numbers[1 + phase])

    def seconds(self, phase: int) -> float:
        """How long the phase took when it ended last, in any life."""
        return self.numbers[1 + len(NAMES) + phase] or 0.1


def tell_phases(board: Board) -> None:
    """Let the parts of the training loop note on the board that they run. It is for a forked child alone."""

    def noting(function: Callable[..., Any], phase: int) -> Callable[..., Any]:
        """`function`, which says on the board when it begins and ends."""

        def noted(*given: Any, **named: Any) -> Any:
            board.begin(phase)
            began = time.monotonic()
            done = function(*given, **named)
            board.end(phase, time.monotonic() - began)
            return done

        return noted

    for module, name, phase in (
        (setup, "resume", RESUMING),
        (loop, "train_step", STEPPING),
        (loop, "save", SAVING),
        (loop, "look", VALIDATING),
    ):
        setattr(module, name, noting(getattr(module, name), phase))


def live(flags: list[str], log: Path, board: Board) -> NoReturn:
    """Train in this forked process and end it, without a way back into the parent's code."""
    code = 70
    try:
        written = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(written, stream)
        tell_phases(board)
        code = run(vis_tok_train.main, flags)
    except BaseException:  # noqa: BLE001 - whatever it is, the log gets it, and the parent gets the code
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def fork(out: Path, name: str, config: ManyKillsConfig, board: Board) -> int:
    """Begin a life of the run and return its pid."""
    board.clear()
    flags = [f"--run_name={name}", f"--out={out}", f"--init={out / 'small'}", f"--steps={config.steps}"]
    board.begin(STARTING)
    pid = os.fork()
    if not pid:
        live([*flags, f"--workers={config.workers}", "--resume=True", *FLAGS], out / f"{name}.log", board)
    return pid


def wait_for(pid: int, seconds: float, is_time: Callable[[], bool]) -> int | None:
    """Wait until it is time, at most so long; returns the status of the process if it ended before."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and not is_time():
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return status
        time.sleep(POLL)
    return None


def aim_and_kill(pid: int, board: Board, rng: random.Random) -> tuple[str, int]:
    """Kill a life in or shortly after a phase. Returns where it died, or "", and its exit code."""
    aim = rng.choice(AIMS)
    times = rng.randint(1, PASSED) if aim in (STEPPING, SAVING) else 1
    status = wait_for(pid, TOO_LONG, lambda: board.begun(aim) >= times)
    if status is None:
        status = wait_for(pid, rng.uniform(0, A_LITTLE_LATER) * board.seconds(aim), lambda: False)
    if status is None:
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
    died = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    return NAMES[board.phase] if died else "", os.waitstatus_to_exitcode(status)


# ---------------------------------------------------------------------------------------------------------
# All lives


def finish(out: Path, name: str, config: ManyKillsConfig, board: Board) -> None:
    """Run to the end without kills.

    Raises:
        CrashTestError: it ended with an error, or not at all.
    """
    pid = fork(out, name, config, board)
    status = wait_for(pid, TOO_LONG, lambda: False)
    if status is None:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise CrashTestError(f"the run {name} hangs in the phase {NAMES[board.phase]}")
    said = (out / f"{name}.log").read_text(errors="replace").strip()
    if status and f"is at step {config.steps} already" not in said:
        raise CrashTestError(f"the run {name} ended with {os.waitstatus_to_exitcode(status)}: {said[-500:]}")


def compare_runs(out: Path, steps: int) -> None:
    """Check that weights, optimisers, places in the data and every validation of the two runs are equal."""
    compare(out, steps)
    ours, theirs = (past_validations(out / name) for name in ("killed", "untouched"))
    if ours != theirs:
        raise CrashTestError(f"the validations differ: {ours} and {theirs}")


def crash_many(out: Path, config: ManyKillsConfig) -> dict[str, Any]:
    """Do all kills, finish each run, and compare."""
    rng, moments, runs, board = random.Random(config.seed), Counter[str](), 0, Board()
    until, enough = time.monotonic() + 60 * config.minutes, False
    save_small_model(out / "small")
    warm_up()
    finish(out, "untouched", config, board)
    while not enough:
        where, code = aim_and_kill(fork(out, "killed", config, board), board, rng)
        moments.update([where] if where else [])
        enough = moments.total() >= config.kills or time.monotonic() > until
        steps = [step_number(folder) for folder in complete_steps(out / "killed")]
        print(
            f"kill {moments.total()}/{config.kills} {where}: whole steps {steps}", file=sys.stderr, flush=True
        )
        # A life that ended by itself is judged by `finish`, which says what its successor says.
        if enough or config.steps in steps or code > 0:
            finish(out, "killed", config, board)
            compare_runs(out, config.steps)
            shutil.rmtree(out / "killed")
            runs += 1
    return result(moments.total(), moments, config.steps, config.workers, runs)


def main(argv: list[str] | None = None) -> None:
    """Kill, compare, print."""
    config = parse(ManyKillsConfig, argv)
    torch.set_num_threads(1)  # a fork of a process whose threads compute would wait for them for ever
    with folder_or_temporary(config.out) as folder:
        folder.mkdir(parents=True, exist_ok=True)
        print(json.dumps(crash_many(folder, config)))


if __name__ == "__main__":
    sys.exit(run(main))
