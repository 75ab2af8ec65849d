"""What a run trains on, and what it says about it: weights by tokens, lengths, files that were left out."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest

from nanoocr.data.rows import BadRowError, Row, Turn
from nanoocr.data.source import Mixture, RowsTask
from nanoocr.data.task import Task
from nanoocr.errors import UsageError
from nanoocr.tasks.choose import make_task
from nanoocr.train.config import TrainConfig
from nanoocr.train.data import (
    MAX_TRIED,
    PROBE,
    mean_tokens,
    mix_tasks,
    page_prompt,
    plan_data,
    split_tasks,
    validation_rows,
)
from nanoocr.train.loop import left_out
from nanoocr.train.recipes import recipe
from nanoocr.train.resume import FIXED, warn_of_changes
from nanoocr.train.run import Run


class Noted(Task):
    """10,000 rows of three letters; notes which were read, and some cannot be."""

    def __init__(self, bad: range) -> None:
        super().__init__()
        self.bad, self.seen = bad, []

    def num_rows(self) -> int:
        return 10_000

    def read(self, index: int) -> Row:
        self.seen.append(index)
        if index in self.bad:
            raise BadRowError(f"file: row {index}: torn")
        return Row(str(index), (), (Turn("q", "abc"), Turn("q", "d")), "test")


def test_tokens_are_counted_on_the_first_rows_alone(byte_tokenizer):
    """So that no shard but the first is fetched; unreadable rows give way to the next."""
    task = Noted(bad=range(2, 7))
    assert mean_tokens("a", task, byte_tokenizer) == 6  # four letters and two ends
    assert task.seen == list(range(PROBE + 5))


def test_a_task_of_unreadable_rows_is_named(byte_tokenizer):
    task = Noted(bad=range(10_000))
    with pytest.raises(UsageError, match=rf"cannot weigh scans: none of its first {MAX_TRIED} rows.*torn"):
        mean_tokens("scans", task, byte_tokenizer)
    assert len(task.seen) == MAX_TRIED


def test_a_line_longer_than_the_model_is_refused(byte_tokenizer, tiny_config):
    with pytest.raises(UsageError, match=r"--max_length=129: the model has 128 positions"):
        plan_data(TrainConfig(max_length=129), tiny_config, byte_tokenizer, make_task)
    assert plan_data(TrainConfig(max_length=128), tiny_config, byte_tokenizer, make_task).max_length == 128


@pytest.mark.parametrize(
    ("flags", "skips", "shrinks"),
    [({}, True, False), ({"too_long": "fail"}, False, False), ({"too_long": "shrink"}, True, True)],
)
def test_what_happens_to_long_rows(byte_tokenizer, tiny_config, flags, skips, shrinks):
    data = plan_data(TrainConfig(**flags), tiny_config, byte_tokenizer, make_task)
    assert (data.skip_long, data.shrink_long) == (skips, shrinks)


def test_files_without_a_partner_are_said(byte_tokenizer, tiny_config, make_row, tmp_path):
    for name in ("one", "two"):
        make_row(1).image.save(tmp_path / f"{name}.png")
    (tmp_path / "one.txt").write_text("one")
    config = TrainConfig(tasks=f"scans=folder:{tmp_path}")
    data = plan_data(config, tiny_config, byte_tokenizer, make_task)
    (line,) = left_out(data)
    assert line.startswith("scans: left out 1 files") and "two.png" in line
    whole = Mixture((("rows", RowsTask([make_row(0)])),), (1.0,), 0)
    assert left_out(replace(data, source=whole)) == []


def test_flags_that_change_the_rows_of_a_resumed_run_are_said_in_one_line(capsys):
    before = asdict(TrainConfig(curriculum="0:1"))
    del before["too_long"]  # a run of before that flag
    now = TrainConfig(curriculum="0:2", on_bad_row="fail")
    run = Run(now, recipe("scratch", 1), newest=Path("runs/step_000002"))
    warn_of_changes(run, before)
    (line,) = capsys.readouterr().err.splitlines()
    assert "runs/step_000002" in line
    assert "--curriculum=0:2 (was 0:1)" in line and "--on_bad_row=fail (was skip)" in line
    assert "too_long" not in line
    warn_of_changes(run, asdict(now))
    assert capsys.readouterr().err == ""
    assert {"mix", "tasks", "pack"} <= set(FIXED)  # these would make the place in the data meaningless


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a=folder:x b=gsm8k", ["a=folder:x", "b=gsm8k"]),
        ("a='folder:/data/my scans' b=gsm8k", ["a=folder:/data/my scans", "b=gsm8k"]),
        ('"a=folder:my scans"', ["a=folder:my scans"]),
    ],
)
def test_a_shells_quotes_hold_blanks_of_tasks_together(text, words):
    assert split_tasks(text) == words


def test_a_quotation_mark_without_an_end_is_a_sentence():
    with pytest.raises(UsageError, match="a quotation mark is not closed"):
        split_tasks("a='folder:x")


def test_a_task_without_a_name_is_told_how_to_get_one(byte_tokenizer):
    config = TrainConfig(tasks="synth:card?count=5")
    with pytest.raises(UsageError, match='as in --tasks="own=synth:card'):
        mix_tasks(config, byte_tokenizer, make_task)


@pytest.mark.parametrize("tasks", [" ", "\t \n"])
@pytest.mark.parametrize("mix", [TrainConfig.mix, "a:1"])
def test_tasks_of_nothing_but_blanks_are_a_sentence(byte_tokenizer, tasks, mix):
    """As of --tasks="$TASKS " with an empty variable."""
    with pytest.raises(UsageError, match="names no data set: write NAME=SPEC"):
        mix_tasks(TrainConfig(tasks=tasks, mix=mix), byte_tokenizer, make_task)


class Asking(RowsTask):
    """Rows of which the first cannot be read, as the first row of a chat file."""

    def read(self, index: int) -> Row:
        if index == 0:
            raise BadRowError("file: row 0: torn")
        return super().read(index)


def test_what_all_rows_ask_is_what_reading_will_ask(make_row):
    def ask(*questions: str) -> tuple[str, str]:
        rows = [make_row(i, question) for i, question in enumerate(("torn", *questions))]
        text = replace(make_row(9, "What is a noun?"), pictures=())
        tasks = (("text", RowsTask([text])), ("chat", Asking([*rows, text])))
        return page_prompt(Mixture(tasks, (1.0, 1.0), 0))

    assert ask("Transcribe this.", "Transcribe this.") == ("Transcribe this.", "")
    assert ask() == ("Read.", "")  # no row has a picture
    prompt, warning = ask("Transcribe this.", "What is the\ntotal? " * 20, "And the date?")
    assert prompt == "Read."
    assert "as 'Transcribe this.' and 'What is the total?" in warning
    assert "\n" not in warning and len(warning) < 250


def test_a_prompt_that_a_data_set_has_reads_no_row():
    task = Noted(bad=range(0))
    task.prompt = "Free OCR."
    assert page_prompt(Mixture((("scans", task),), (1.0,), 0)) == ("Free OCR.", "")
    assert task.seen == []


def test_drawn_pages_that_validate_are_asked_what_the_run_trains():
    config = TrainConfig(mix="card:1,chart:1", eval_samples=6)
    plain, asked = (validation_rows(config, make_task, prompt) for prompt in ("Read.", "Free OCR."))
    assert [row.answer for row in plain] == [row.answer for row in asked]
    pairs = {(one.prompt, other.prompt) for one, other in zip(plain, asked)}
    assert ("Read.", "Free OCR.") in pairs
    assert all(one == other for one, other in pairs if one != "Read.")
