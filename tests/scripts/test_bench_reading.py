"""The bench of reading: what its pages hold, how its numbers are put together, an engine that is absent."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nanoocr.commandline import run
from scripts.bench import reading
from scripts.bench.reading import MadePage, ReadingConfig, growth_of, receipt, sheet, started, table


def test_a_sheet_is_as_long_as_its_text_wants():
    short, text = sheet(0, 21, 300)
    longer, more = sheet(0, 21, 600)
    assert 300 <= len(text) < 420 and 600 <= len(more) < 720
    assert short.width == longer.width and longer.height > short.height
    assert more.startswith(text)
    again, same = sheet(0, 21, 300)
    assert same == text and np.array_equal(np.asarray(again), np.asarray(short))
    assert sheet(1, 21, 300)[1] != text


def test_ink_stays_on_the_paper():
    for image, text in (sheet(2, 68), receipt(1)):
        pixels = np.asarray(image.convert("L"))
        rim = np.concatenate([pixels[:8].ravel(), pixels[-8:].ravel(), pixels[:, :8].ravel()])
        assert pixels.min() < 80 < 200 < rim.min() and len(text) > 100


def test_table_counts_per_page_and_against_the_first(tmp_path):
    pages = [
        MadePage(name, "document", tmp_path, truth)
        for name, truth in (("a", "abcd"), ("a", "ab"), ("1000 characters", "x" * 100))
    ]

    def answer(text: str, seconds: float, stages: dict[str, float]) -> dict:
        return {"text": text, "wall": 2 * seconds, "processor": seconds, "stages": stages, "peak_bytes": 7}

    stages = {"encoder": 0.5}
    answers = {
        "ours": [answer("abcd", 1.0, stages), answer("ax", 2.0, stages), answer("x" * 100, 1.0, stages)],
        "peer": [answer("abcd", 6.0, {}), answer("ab", 6.0, {}), answer("x" * 50, 0.5, {})],
    }
    rows = table(pages, answers, "a")
    assert rows["ours"]["cer"] == pytest.approx(1 / 6) and rows["peer"]["cer"] == 0
    assert rows["ours"]["pages_per_second"] == pytest.approx(2 / 6)
    assert rows["ours"]["characters_per_core_second"] == pytest.approx(2.0)
    assert rows["ours"]["stages"] == pytest.approx({"encoder": 0.5, "rest": 1.0})
    assert rows["peer"]["ratio"] == pytest.approx(4.0) and rows["peer"]["stages"] == {}
    growth = growth_of({"1000 characters": table(pages, answers, "1000 characters")})
    assert growth == {"ours": {"1000 characters": 10.0}, "peer": {"1000 characters": 5.0}}


def test_an_engine_that_cannot_start_is_named_and_left_out(capsys):
    with started("no_such_engine", ReadingConfig()) as process:
        assert process is None
    assert "no_such_engine is left out" in capsys.readouterr().err


def test_a_bench_without_any_engine_says_so(capsys):
    flags = ["--engines=no_such_engine", "--pages=1", "--growth=False"]
    assert run(reading.main, flags) == 2
    assert "none of them can read" in capsys.readouterr().err.splitlines()[-1]


def test_the_worker_started_by_hand_says_who_starts_it():
    path = Path(reading.__file__).with_name("reading_worker.py")
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True)
    assert done.returncode == 2 and "scripts.bench.reading" in done.stderr and done.stderr.count("\n") == 1
