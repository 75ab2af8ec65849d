"""Flags come from the config; every mistake ends in one sentence and an exit code."""

import os
import subprocess
import sys
import textwrap
from dataclasses import dataclass, field
from typing import Literal

import pytest

from nanoocr.commandline import parse, run
from nanoocr.errors import CheckpointError, PictureError, UsageError


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
    [(UsageError("a"), 2), (PictureError("a", "empty"), 3), (CheckpointError("a"), 4)],
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
    from nanoocr.commandline import parse, run
    @dataclass(frozen=True)
    class Config:
        lines: int = 1
    def main(argv=None):
        for i in range(parse(Config, argv).lines):
            print(i)
    sys.exit(run(main))
    """
)


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
    assert err.startswith("error: Unrecognized options: --linse=3")


def test_a_broken_pipe_is_quiet(tmp_path):
    process = script(tmp_path, "--lines=200000")
    assert process.stdout.readline() == "0\n"
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 0
    process.stderr.close()
