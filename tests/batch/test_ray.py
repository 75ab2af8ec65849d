"""The same batch on Ray gives the same pages, each once."""

from functools import partial

import pytest

from nanoocr.batch.drive import Plan
from nanoocr.batch.ray_engine import drive_ray
from tests.batch.crash import make_pages, read_out, run
from tests.batch.fake import FakeReading
from tests.batch.test_drive import start_ledger


@pytest.mark.slow
def test_ray_reads_what_the_pool_reads(tmp_path):
    pytest.importorskip("ray")
    make_pages(tmp_path / "in", 12)
    run(tmp_path / "in", tmp_path / "whole", 0.0)
    ledger = start_ledger(tmp_path / "in", tmp_path / "out")
    make = partial(FakeReading, 0.0, str(tmp_path / "out"))
    drive_ray(ledger, tmp_path / "out", make, Plan(rows=5), print, lambda: None, None)
    texts, times = read_out(tmp_path / "out")
    assert texts == read_out(tmp_path / "whole")[0] and set(times.values()) == {1}
