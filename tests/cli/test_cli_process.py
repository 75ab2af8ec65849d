"""The command line as a process of its own: streams, full disks, progress bars, help."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys

import pytest

from nanoocr import cli
from nanoocr.inference.reader import Reader
from tests.inference.engine_requests import random_model


def run(arguments: list[str], folder, **kwargs) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "nanoocr", *arguments, f"--model={folder}", "--device=cpu"]
    kwargs["env"] = {**os.environ, "OMP_NUM_THREADS": "1", **kwargs.get("env", {})}
    return subprocess.run(command, capture_output="stdout" not in kwargs, timeout=120, **kwargs)


def test_module_with_stdin_and_an_ascii_locale(folder, files):
    environment = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}
    content = (files / "a.png").read_bytes()
    done = run(["read", "-", "--max_tokens=20"], folder, input=content, env=environment)
    text = Reader(folder, device="cpu").read(content, max_tokens=20).text
    assert not text.isascii()  # otherwise this proves nothing
    assert (done.returncode, done.stdout.decode("utf-8")) == (0, text + "\n")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_full_disk(folder, files):
    with open("/dev/full", "w") as full:
        done = run(
            ["read", str(files / "a.png"), "-q", "--max_tokens=5"],
            folder,
            stdout=full,
            stderr=subprocess.PIPE,
        )
    assert done.returncode == 6
    assert re.fullmatch(rb"error: stdout cannot be written: [^\n]*\n", done.stderr)


def test_broken_pipe_is_quiet(folder, files):
    reading, writing = os.pipe()
    os.close(reading)  # as if `head` had gone already
    with os.fdopen(writing, "w") as pipe:
        done = run(
            ["read", str(files / "a.png"), "-q", "--max_tokens=5"],
            folder,
            stdout=pipe,
            stderr=subprocess.PIPE,
        )
    assert (done.returncode, done.stderr) == (0, b"")


def test_bar_on_a_terminal_leaves_the_results_alone(folder, files, monkeypatch, capsys):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    names = [str(files / "a.png"), str(files / "none.png")]
    assert cli.main(["read", *names, "--json", "--max_tokens=5", f"--model={folder}"]) == 5
    assert [json.loads(line)["status"] for line in capsys.readouterr().out.splitlines()] == [
        "truncated",
        "error",
    ]
    assert "reading" in terminal.getvalue()
    assert "does not exist" in terminal.getvalue()


def test_bar_counts_pages_read_and_inputs_finished(folder, files, monkeypatch):
    """Not inputs opened: a batch of them is opened before the first page is read."""
    terminal, seen = io.StringIO(), []
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    progress = "rich.progress.Progress.update"
    monkeypatch.setattr(progress, lambda *_, completed, description: seen.append((completed, description)))
    names = [str(files / name) for name in ("two.pdf", "none.png", "a.png")]
    assert cli.main(["read", *names, "--max_tokens=2", f"--model={folder}"]) == 5
    assert [done for done, _ in seen] == [0, 1, 2, 3]
    assert [said for _, said in seen] == [f"reading, pages done: {count}" for count in (1, 2, 3, 4)]


def test_info(folder, capsys):
    assert cli.main(["info", f"--model={folder}", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    parameters = facts["parameters"]
    assert facts["preset"] == "tiny"
    assert parameters["total"] == sum(p.numel() for p in random_model().parameters())
    special_vectors = 2 * 32  # newline and separator
    assert sum(parameters.values()) + special_vectors == 2 * parameters["total"]
    assert re.fullmatch("[0-9a-f]{64}", facts["sha256"]["model.safetensors"])
    assert cli.main(["info", f"--model={folder}"]) == 0
    assert re.search(r"^parameters total +\d+$", capsys.readouterr().out, re.MULTILINE)


@pytest.mark.parametrize("arguments", [["--help"], ["read", "--help"], ["--version"]])
def test_help_and_version(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    assert not stop.value.code
    assert "nanoocr" in capsys.readouterr().out
