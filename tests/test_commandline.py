"""Flags come from the config; every mistake ends in one sentence and an exit code."""

import errno
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from nanoocr.commandline import parse, run, with_home
from nanoocr.errors import BrokenRunError, CheckpointError, PictureError, UsageError


@dataclass(frozen=True)
class Optim:
    lr: float = 0.1
    """Learning rate."""


@dataclass(frozen=True)
class Config:
    """What the script does."""

    batch_size: int = 32  # pictures per step
    wandb: bool = False
    files: tuple[str, ...] = ()
    run_name: str | None = None
    recipe: Literal["scratch", "deepseek"] = "scratch"
    optim: Optim = field(default_factory=Optim)


def test_defaults():
    assert parse(Config, []) == Config()


def test_values():
    flags = "--batch_size=5 --wandb=True --run_name=a --recipe=deepseek --optim.lr=1 --files x y"
    assert parse(Config, flags.split()) == Config(5, True, ("x", "y"), "a", "deepseek", Optim(1.0))


def test_hyphens_in_names():
    assert parse(Config, ["--batch-size=7"]).batch_size == 7


@dataclass(frozen=True)
class Renamed:
    RENAMED: ClassVar[Mapping[str, str]] = {"old_size": "batch_size", "old_name": "name"}
    batch_size: int = 32
    name: str = ""


@pytest.mark.parametrize("argv", [["--old_size=7"], ["--old-size", "7"], ["--old_size=1", "--old_size=7"]])
def test_a_flag_of_the_old_name_works_and_says_once_what_changed(argv, capsys):
    assert parse(Renamed, argv) == Renamed(batch_size=7)
    error = capsys.readouterr().err
    assert error.count("--batch_size now") == 1 and error.count("\n") == 1


def test_the_new_name_says_nothing_and_values_stay(capsys):
    assert parse(Renamed, ["--batch_size=7", "--name=old_size=old_name"]).name == "old_size=old_name"
    assert capsys.readouterr().err == ""


def test_none_is_none():
    assert parse(Config, ["--run_name=None"]).run_name is None


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--batch_siz=3", ["--batch_siz=3", "did you mean --batch_size"]),
        ("--nonsense=3", ["--nonsense=3"]),
        ("--batch_size=x", ["--batch_size", "'x'"]),
        ("--batch_size", ["--batch_size"]),
        ("--wandb=maybe", ["--wandb", "maybe", "True"]),
        ("--recipe=other", ["--recipe", "other", "scratch", "deepseek"]),
        ("--optim.lrr=3", ["--optim.lrr=3", "--optim.lr"]),
        ("stray", ["stray"]),
    ],
)
def test_a_wrong_flag_is_one_sentence(flag, words, capsys):
    with pytest.raises(UsageError) as caught:
        parse(Config, [flag], prog="python -m scripts.x")
    message = str(caught.value)
    assert message.isascii()
    assert "\n" not in message
    assert message.endswith("(see python -m scripts.x --help)")
    for word in words:
        assert word in message
    assert capsys.readouterr() == ("", "")


def test_help_names_every_field_with_its_comment(capsys):
    with pytest.raises(SystemExit) as caught:
        parse(Config, ["--help"])
    out = capsys.readouterr().out
    assert caught.value.code == 0
    for text in (
        "What the script does.",
        "--batch_size",
        "pictures per step",
        "--optim.lr",
        "Learning rate.",
    ):
        assert text in out


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("a"), 2),
        (PictureError("a", "empty"), 3),
        (CheckpointError("a"), 4),
        (BrokenRunError("a"), 7),
    ],
)
def test_run_maps_errors_to_exit_codes(error, code, capsys):
    def main(argv):
        raise error

    assert run(main) == code
    assert capsys.readouterr() == ("", "error: a\n")


def test_run_passes_arguments_and_codes():
    seen = []
    assert run(seen.append, ["--x"]) == 0
    assert seen == [["--x"]]
    assert run(lambda argv: 5) == 5


def test_run_interrupted(capsys):
    def main(argv):
        raise KeyboardInterrupt

    assert run(main) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_run_lets_defects_through():
    def main(argv):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(main)


SCRIPT = textwrap.dedent(
    """
    import sys
    from dataclasses import dataclass
    from nanoocr.commandline import parse, run, with_home
    @dataclass(frozen=True)
    class Config:
        lines: int = 1
    def main(argv=None):
        for i in range(parse(Config, argv).lines):
            print(i)
    sys.exit(run(main))
    """
)


SAID = [  # as torch 2.13 words them, and what a user reads
    ("[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to "
     "allocate 4000000000000 bytes. Error code 12 (Cannot allocate memory)", 2, "--micro_batch"),
    ("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported", 2, "--micro_batch"),
    ("DataLoader worker (pid 71) is killed by signal: Killed. ", 7, "fewer --workers"),
    ("DataLoader worker (pid(s) 71, 72) exited unexpectedly", 7, "fewer --workers"),
    ("[third_party/gloo/gloo/transport/tcp/pair.cc:538] Connection closed by peer [::1]:4", 7, "ended"),
    ("[gloo/transport/tcp/pair.cc:589] Read error [::1]:4: Connection reset by peer", 7, "ended"),
    ("NCCL error in: NCCLUtils.hpp:268, remote process exited or there was a network error", 7, "ended"),
    ("NCCL communicator was aborted on rank 0.", 7, "ended"),
    ("[unbound_buffer.cc:81] Timed out waiting 1000ms for recv operation to complete", 7, "--timeout_s"),
    ("[pair.cc:525] Application timeout caused pair closure", 7, "--timeout_s"),
    ("[Rank 1] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=7)", 7, "--timeout_s"),
    ("wait timeout after 600000ms, keys: /default_pg/0//cpu//0", 7, "--timeout_s"),
    ("The client socket has timed out after 60000ms while trying to connect to (a, 1)", 7, "--timeout_s"),
]  # fmt: skip


@pytest.mark.parametrize(("said", "code", "words"), SAID)
def test_what_befalls_a_run_is_one_sentence_that_says_what_to_do(said, code, words, capsys):
    def main(argv):
        raise RuntimeError(said)

    assert run(main) == code
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err.startswith("error: ") and words in err
    assert "--recompute=True" in err if code == 2 else "--resume=True" in err


class Mortal(Dataset[int]):
    def __getitem__(self, i: int) -> int:
        os.kill(os.getpid(), signal.SIGKILL)
        return i


def test_torch_itself_is_understood(capsys):
    """An allocation that no machine grants and a worker that is killed, in the words of this torch."""
    assert run(lambda argv: torch.empty(2**55) and None) == 2
    assert "out of memory" in capsys.readouterr().err
    workers = DataLoader(Mortal(), sampler=[0], num_workers=1, multiprocessing_context="fork")
    assert run(lambda argv: next(iter(workers))) == 7
    assert "fewer --workers" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (MemoryError(), 2, "--micro_batch"),
        (OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)), 2, "--micro_batch"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "out/a.json"), 6, "out/a.json: No space left"),
    ],
)
def test_a_full_machine(error, code, words, capsys):
    def main(argv):
        raise error

    assert run(main) == code
    assert words in capsys.readouterr().err


def test_run_lets_other_runtime_errors_through():
    def main(argv):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)")

    with pytest.raises(RuntimeError, match="mat1"):
        run(main)


def script(tmp_path, *flags, **options):
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    env = {**os.environ, "PYTHONPATH": os.getcwd()}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, str(path), *flags], env=env, text=True, **pipes, **options)


def test_a_process_ends_with_the_code_and_one_line(tmp_path):
    process = script(tmp_path, "--linse=3")
    out, err = process.communicate()
    assert (process.returncode, out) == (2, "")
    assert err.count("\n") == 1
    assert err.startswith("error: unknown flag --linse=3: did you mean --lines?")


def test_a_broken_pipe_is_quiet(tmp_path):
    process = script(tmp_path, "--lines=200000")
    assert process.stdout.readline() == "0\n"
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 0
    process.stderr.close()


def test_the_home_folder_is_meant_by_a_tilde_at_the_start_of_a_value(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ann")
    given = [
        "read",
        "~",
        "--out=~/my model",
        "--model=~",
        "--tasks=x=folder:~/a",
        "-o=a~",
        "--prompt=~1 Euro",
    ]
    wanted = list(given)
    wanted[2:4] = ["--out=/home/ann/my model", "--model=/home/ann"]
    assert with_home(given) == wanted
