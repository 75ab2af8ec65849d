"""runs/speedrun.sh at its smallest: data, both stages, evaluation and report, and again from where it was."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def speedrun(out: Path, *flags: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "OUT": str(out),
        "STEPS1": "2",
        "STEPS2": "2",
        "PER_KIND": "2",
        "MAX_TOKENS": "4",
        **more,
    }
    command = ["bash", "runs/speedrun.sh", *flags]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600, check=False
    )


@pytest.mark.slow
@pytest.mark.skipif(not (ROOT / ".venv" / "bin" / "python").is_file(), reason="needs runs/env.sh's .venv")
def test_from_nothing_to_the_report_and_again(tmp_path):
    done = speedrun(tmp_path, "--preset=nano", "--synthetic", NPROC_PER_NODE="2")
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "mid" / "step_000002" / "model.safetensors").is_file()
    assert "<html" in (tmp_path / "report.html").read_text() and (tmp_path / "report.md").is_file()
    assert "shares of rows (supervised tokens): general" in done.stderr
    again = speedrun(tmp_path, "--preset=nano", "--synthetic", NPROC_PER_NODE="2")
    assert again.returncode == 0 and "tok is at step 2 already" in again.stderr


@pytest.mark.skipif(not (ROOT / ".venv" / "bin" / "python").is_file(), reason="needs runs/env.sh's .venv")
@pytest.mark.parametrize(
    ("flags", "more", "words"),
    [
        (["--presett=nano"], {}, "unknown flag"),
        (["--preset=d20"], {}, "needs a GPU"),
        (["--preset=nano", "--synthetic"], {"WANDB": "1"}, "wandb"),
    ],
)
def test_what_cannot_work_is_said_first(tmp_path, flags, more, words):
    done = speedrun(tmp_path / "out", *flags, CUDA_VISIBLE_DEVICES="", **more)
    assert done.returncode == 2 and words in done.stderr
