"""A run that breaks ends: one sentence, the traceback in the log, exit code 8, soon, whatever was running."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from nanoocr.commandline import ending
from nanoocr.data.processes import ended_afterwards, in_a_line
from nanoocr.errors import DefectError, NanoOCRError, UsageError
from nanoocr.train.distributed import World
from nanoocr.train.failure import in_one_sentence

ROOT = Path(__file__).parents[2]
SOON = 30  # seconds; a quiet machine takes 3, and the issue asks for 10, but tests share processors
FLAGS = [
    *("--preset=nano", "--batch_size=2", "--micro_batch=1", "--threads=1", "--dtype=float32", "--workers=2"),
    *("--eval_samples=2", "--eval_tokens=2", "--eval_every=2", "--save_every=1", "--log_every=1"),
    *("--steps=500", "--max_length=200", "--timeout_s=120", "--run_name=r"),
]
SCRIPT = """
import os, sys, time
from pathlib import Path
import nanoocr.data.loader, nanoocr.train.loop, nanoocr.train.resume
from nanoocr.commandline import run
from scripts import vis_tok_train

def broken(*args, **flags):
    new = Path({stamp!r} + f".{{os.getpid()}}")  # several processes may break at once
    new.write_text(str(time.time()))
    new.replace({stamp!r})
    raise ValueError("a fault\\nof two lines")

def after(times, function, then=broken):
    calls = []
    def counted(*args, **flags):
        calls.append(1)
        return (then if len(calls) > times else function)(*args, **flags)
    return counted

{fault}
sys.exit(run(vis_tok_train.main))
"""
FAULTS = {
    "a step": "nanoocr.train.loop.train_step = after(2, nanoocr.train.loop.train_step)",
    "a worker": "nanoocr.data.loader.fit = after(2, nanoocr.data.loader.fit)",
    "a validation": "nanoocr.train.loop.validate = broken",
    "a save": "nanoocr.train.resume.save_step = after(1, nanoocr.train.resume.save_step)",
    "a step while the workers are busy": """
        nanoocr.train.loop.train_step = after(2, nanoocr.train.loop.train_step)
        nanoocr.data.loader.fit = after(4, nanoocr.data.loader.fit, lambda plan: time.sleep(3600))
    """,
}
IN_A_RANK = """
if os.environ["RANK"] == "1":
    nanoocr.train.loop.train_step = after(2, nanoocr.train.loop.train_step)
"""


def command(tmp_path: Path, fault: str, *launcher: str) -> list[str]:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(stamp=str(tmp_path / "stamp"), fault=textwrap.dedent(fault).strip()))
    return [sys.executable, *launcher, str(script), *FLAGS, f"--out={tmp_path}"]


def run_to_its_end(command: list[str]) -> tuple[int, str]:
    """Exit code and stderr, which ends when the last process that has it open is gone."""
    done = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
        timeout=240,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("where", FAULTS)
def test_a_run_that_breaks_ends_with_a_sentence(tmp_path, where):
    code, err = run_to_its_end(command(tmp_path, FAULTS[where]))
    assert time.time() - float((tmp_path / "stamp").read_text()) < SOON
    last = err.strip().splitlines()[-1]
    assert code == DefectError.exit_code == 8, err
    assert last.startswith("error: the run broke (ValueError: a fault): a defect of this code"), err
    assert "Traceback" not in err and "--resume=True" in last
    trace = (tmp_path / "r" / "error.log").read_text()
    assert "rank 0\nTraceback" in trace and "in broken" in trace and "of two lines" in trace


def test_one_rank_that_breaks_ends_all(tmp_path):
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    code, err = run_to_its_end(command(tmp_path, IN_A_RANK, *launcher))
    assert time.time() - float((tmp_path / "stamp").read_text()) < SOON
    assert code != 0 and err.count("error: the run broke (ValueError: a fault)") == 1, err
    assert "exitcode  : 8" in err  # torchrun's summary
    assert "rank 1\nTraceback" in (tmp_path / "r" / "error.log").read_text()


# ---------------------------------------------------------------------------------------------------------
# the parts


def test_mistakes_and_what_the_machine_does_pass(tmp_path):
    for error in (UsageError("no"), MemoryError(), OSError(28, "No space left"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as caught, in_one_sentence(tmp_path, World()):
            raise error
        assert caught.value is error and ending(error)
    assert not list(tmp_path.iterdir())
    assert ending(ZeroDivisionError()) is None


def test_a_traceback_that_no_file_takes_is_said(tmp_path, capsys):
    (tmp_path / "r").write_text("in the way")
    with pytest.raises(DefectError, match="stands above"), in_one_sentence(tmp_path / "r", World()):
        raise ZeroDivisionError("by nothing")
    assert "in_one_sentence" in capsys.readouterr().err


def test_an_error_in_a_line():
    assert in_a_line(ValueError("one\ntwo")) == "ValueError: one"
    assert in_a_line(KeyError()) == "KeyError"
    assert len(in_a_line(ValueError("x" * 9999))) < 250
    assert issubclass(DefectError, NanoOCRError)


def test_only_processes_that_were_started_within_are_ended():
    import multiprocessing

    context = multiprocessing.get_context("fork")
    before = context.Process(target=time.sleep, args=(60,), daemon=True)
    before.start()
    with ended_afterwards():
        within = context.Process(target=time.sleep, args=(60,), daemon=True)
        within.start()
    assert before.is_alive() and within.exitcode == -9
    before.kill()
    before.join()
