"""The fuzzer finds what is planted, and nothing in a few inputs of every kind; the long run is by hand."""

import json
import random

import pytest

from nanoocr.errors import UsageError
from scripts.dev import fuzz
from scripts.dev.fuzz_inputs import TARGETS
from scripts.dev.fuzz_requests import close_apps

INPUTS = {"pictures": 150, "pdfs": 40, "rows": 200, "folders": 25, "flags": 60, "requests": 25}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", INPUTS)
def test_a_few_inputs_of_every_kind(kind, tmp_path):
    if kind == "requests":
        pytest.importorskip("starlette")
    if kind == "pdfs":
        pytest.importorskip("pikepdf")
    outcomes = [fuzz.feed(kind, 17, number, tmp_path) for number in range(INPUTS[kind])]
    close_apps()
    assert [outcome for outcome in outcomes if outcome not in ("fine", "refused")] == []
    assert "refused" in outcomes or kind not in ("rows", "folders", "flags")  # the inputs are spoiled indeed


def test_every_kind_is_fed():
    assert set(INPUTS) == set(TARGETS)


def test_the_same_numbers_make_the_same_input(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setitem(TARGETS, "rows", lambda rng, folder: seen.append(rng.random()))
    assert [fuzz.feed("rows", 1, number, tmp_path) for number in (3, 3, 4)] == ["fine"] * 3
    assert seen[0] == seen[1] != seen[2]


@pytest.mark.parametrize("defect", [ZeroDivisionError("x"), SystemExit(3), RecursionError("deep")])
def test_a_defect_is_a_finding(tmp_path, monkeypatch, defect):
    def broken(rng: random.Random, folder) -> None:
        raise defect

    monkeypatch.setitem(TARGETS, "rows", broken)
    assert type(defect).__name__ in fuzz.feed("rows", 1, 0, tmp_path)


def test_a_message_of_several_lines_is_a_finding(tmp_path, monkeypatch):
    def says(rng: random.Random, folder) -> None:
        raise UsageError("one\nand\x1b[2Janother")

    monkeypatch.setitem(TARGETS, "rows", says)
    assert fuzz.feed("rows", 1, 0, tmp_path) == "refused"  # `ending` writes it as one line


def test_the_watched_process_and_its_table(capsys):
    assert fuzz.main(["--kinds=flags", "--count=4", "--seed=17"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert (row["kind"], row["inputs"], row["findings"]) == ("flags", 4, {})
    assert row["peak_mb"] > 0


@pytest.mark.parametrize("flags", [["--kinds=nothing"], ["--count=0"]])
def test_wrong_flags_are_refused(flags):
    with pytest.raises(UsageError):
        fuzz.main(flags)
