"""`nanoocr finetune`, killed, goes on by the same command and ends with what an untouched run gives."""

import pytest

from nanoocr.errors import UsageError
from scripts.finetune_crash import LANDMARKS, FinetuneCrashConfig, crash_test


@pytest.mark.slow
def test_a_run_that_was_killed_at_every_landmark_ends_as_an_untouched_one(tmp_path):
    told = crash_test(tmp_path, FinetuneCrashConfig(kills=len(LANDMARKS), documents=5))
    assert told["kills"] == len(LANDMARKS) and told["runs_compared_equal"] >= 1


def test_numbers_without_a_meaning_are_refused():
    with pytest.raises(UsageError, match="--kills"):
        FinetuneCrashConfig(kills=0)
