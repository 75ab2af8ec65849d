"""Kills in the phases of training: a few here, hundreds by hand; and the comparison can fail."""

import json
import subprocess
import sys

import pytest

from scripts import crash_many
from scripts.crash_test import CrashTestError


def test_a_board_tells_where_a_life_is():
    board = crash_many.Board()
    board.begin(crash_many.SAVING)
    assert (board.phase, board.begun(crash_many.SAVING)) == (crash_many.SAVING, 1)
    board.end(crash_many.SAVING, 0.25)
    assert (board.phase, board.seconds(crash_many.SAVING)) == (crash_many.BETWEEN, 0.25)
    board.clear()
    assert (board.begun(crash_many.SAVING), board.seconds(crash_many.SAVING)) == (0, 0.25)


def test_validations_that_differ_are_told(tmp_path, monkeypatch):
    monkeypatch.setattr(crash_many, "compare", lambda out, steps: None)
    monkeypatch.setattr(crash_many, "past_validations", lambda folder: {2: len(folder.name)})
    with pytest.raises(CrashTestError, match="validations differ"):
        crash_many.compare_runs(tmp_path, 2)


@pytest.mark.slow
def test_kills_in_every_phase_change_nothing():
    """In a process of its own, because a fork of this one might wait for threads that it does not have."""
    command = [sys.executable, "-m", "scripts.crash_many", "--kills=2", "--steps=1"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-500:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["kills"] == sum(told["killed_while"].values()) == 2 and told["runs_compared_equal"] >= 1
