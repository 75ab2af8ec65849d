"""runs/tier2.sh at its smallest, down to its table; and the table on results made by hand."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from nanoocr.commandline import run
from nanoocr.data.rows import read_rows
from nanoocr.eval.run_log import RunMetrics, read_run
from scripts.dev import tier2_table
from scripts.dev.tier2_table import Result, table_rows

ROOT = Path(__file__).parents[2]
TINY = {
    **{"STAGE1": "2", "STAGE2": "4", "LINES_ALONE": "1", "LINES_MIXED": "2", "SHARDS": "1", "ROWS": "24"},
    **{"HELD_OUT": "6", "EVERY": "4", "LOG": "1", "CARDS": "4", "QUESTIONS": "2", "MAX_TOKENS": "4"},
}


def tier2(out: Path, init: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **TINY, "OUT": str(out), "INIT": init}
    environment |= {"RUN_WITH": sys.executable, "PYTHONPATH": str(ROOT)}
    command = ["bash", "runs/tier2.sh"]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600, check=False
    )


@pytest.fixture(scope="module")
def from_nothing(tmp_path_factory) -> tuple[Path, str]:
    """The folder of a whole run, and the table that it printed."""
    out = tmp_path_factory.mktemp("tier2")
    done = tier2(out)
    assert done.returncode == 0, done.stderr[-2000:]
    return out, done.stdout


@pytest.mark.slow
def test_from_nothing_to_the_table_and_again(from_nothing):
    out, printed = from_nothing
    table = printed.splitlines()
    assert table[0].startswith("|  | documents alone | mixed") and len(table) == 11
    assert all(line.count("|") == 5 for line in table)
    assert "| 2 + 4 | 2 + 4 | the same |" in printed
    data = out / "data_1x24"
    asked = read_rows(data / "questions" / "form_1.parquet")
    assert all(row.turns[0].user.startswith("What is the ") and len(row.chars) for row in asked)
    assert [row.pictures for row in read_rows(data / "text" / "text_1.parquet")] == [()] * 12
    held_out = pq.read_table(data / "held_out_6.parquet", columns=["source"])["source"].to_pylist()
    assert held_out == ["synth/card", "synth/text"] * 3
    shares = [record["shares"] for record in read_run(out / "mixed_mid").records["train"]]
    assert {name for share in shares for name in share} == {"documents", "questions", "text"}
    again = tier2(out)
    assert again.returncode == 0 and again.stdout == printed
    assert again.stderr.count("already") == 4
    other = tier2(out, init="nanoocr/weights/nano")
    assert other.returncode == 2 and "name another OUT" in other.stderr


@pytest.mark.slow
def test_from_a_model_that_reads(from_nothing, tmp_path):
    """Both runs train all parts of the model that INIT names, and the table begins with what it was."""
    before, _ = from_nothing
    shutil.copytree(before / "data_1x24", tmp_path / "data_1x24")
    # What the end of a run reads is measured in the test above; here these steps find their files there.
    for name in ("alone_mid", "mixed_mid"):
        measured = f"{name}/measured_000004"
        shutil.copytree(before / measured, tmp_path / measured)
    done = tier2(tmp_path, init="nanoocr/weights/nano")
    assert done.returncode == 0, done.stderr[-2000:]
    first = [read_run(tmp_path / f"{name}_tok").records["validation"][0] for name in ("alone", "mixed")]
    assert [record["step"] for record in first] == [0, 0]
    # The model in the package reads lines, not cards in one view, so that only the text tells what it knew.
    assert first[0]["text_loss"] == first[1]["text_loss"] and first[0]["loss"] == first[1]["loss"]
    assert f"{first[0]['text_loss']:.3f} -> " in done.stdout


def result(
    cer: float = 0.1, gap: float = 0.95, losses: tuple[float, float] = (3.0, 1.0), bad: int = 0
) -> Result:
    stage = RunMetrics("run", {"train": [{"step": 20, "samples": 64.0}]}, ())
    cards = {"cer": cer, "grounding_gap": gap, "perfect": 0.5}
    return Result((stage, stage), 128.0, cards, {"mean": 0.5, "wrong": 0.1}, losses, bad, 4)


@pytest.mark.parametrize(
    ("mixed", "missed"),
    [
        (result(cer=0.109), []),
        (result(cer=0.111), ["mixed at most 1 point worse"]),
        (result(gap=0.89), ["at least 0.9"]),
        (result(losses=(1.0, 1.0)), ["falling"]),
        (result(bad=1), ["none"]),
    ],
)
def test_the_table_says_which_goal_was_missed(mixed, missed):
    goals = [row[3] for row in table_rows(result(), mixed)]
    assert [goal.partition(":")[0] for goal in goals if "**missed**" in goal] == missed


def test_a_folder_without_runs_is_one_sentence(tmp_path, capsys):
    assert run(tier2_table.main, [f"--out={tmp_path}"]) == 2
    message = capsys.readouterr().err
    assert "alone_tok" in message and message.count("\n") == 1
