"""The same batch on Ray gives the same pages, each once, and a page that kills its actor is set aside."""

from functools import partial

import pyarrow as pa
import pytest

from nanoocr.batch.drive import Plan
from nanoocr.batch.ledger import Document
from nanoocr.batch.ray_actor import Actor, Attempts, assignments_of
from nanoocr.batch.ray_engine import drive_ray, next_round, note_answers
from tests.batch.crash import make_pages, read_out, run
from tests.batch.fake import FakeReading
from tests.batch.test_drive import paint, start_ledger


def test_the_pages_of_a_block_share_a_task_and_documents_do_not():
    one, two = (Document(n, "", "", "", "", 9) for n in (1, 2))
    assignments = assignments_of([("read", one, 3), ("beside", one, 0), ("read", two, 1), ("beside", two, 0)])
    assert [list(one.items()) for one in assignments] == [
        [("beside", 1, 0)],
        [("beside", 2, 0)],
        [("read", 1, 3), ("read", 2, 1)],
    ]


def test_what_was_begun_and_never_ended_counts():
    attempts = Attempts()
    for key in ((1, 1), (1, 1), (1, 2)):
        attempts.begin(key)
    attempts.end((1, 2))
    assert attempts.deaths([(1, 1), (1, 2), (9, 9)]) == [2, 0, 0]


class Here:
    """A handle of Attempts as Ray gives one, in this process."""

    def __init__(self):
        self.attempts = Attempts()

    def __getattr__(self, name):
        method = getattr(self.attempts, name)
        return type("Method", (), {"remote": staticmethod(method)})


def test_an_actor_reads_what_killed_nobody_and_tells_what_did(tmp_path, monkeypatch):
    ray = pytest.importorskip("ray")
    monkeypatch.setattr(ray, "get", lambda value: value)
    make_pages(tmp_path / "in", 9)
    ledger = start_ledger(tmp_path / "in", tmp_path / "out")
    here, answers = Here(), []

    def rounds():
        while (job := next_round(ledger)).items:
            deaths = 1 if job.alone else 2
            actor = Actor(partial(FakeReading), Here() if job.alone else here, deaths, 1, 900.0, 4)
            if job.alone:
                actor.attempts.begin.remote((1, 1))  # the page took its actor down once more
            block = actor(pa.Table.from_pylist(job.items)).to_pylist()
            answers.extend(answer["what"] for answer in block)
            note_answers(ledger, block, False, said.append)

    said = []
    for _ in range(2):
        here.begin.remote((1, 1))  # two actors began the first page and never came back
    rounds()
    assert answers.count("died") == 2 and answers.count("read") == 8 and answers.count("opened") > 1
    assert here.attempts.open == {(1, 1): 2}  # what was read was ended
    assert (ledger.counts().done, ledger.counts().failed) == (8, 1)
    assert "page 1 was given up: 3 workers died" in said[-1]


@pytest.mark.slow
def test_ray_reads_what_the_pool_reads_and_gives_up_what_kills(tmp_path):
    pytest.importorskip("ray")
    make_pages(tmp_path / "in", 12)
    run(tmp_path / "in", tmp_path / "whole", 0.0)
    paint(tmp_path / "in" / "killer.png", (6, 6, 6))
    paint(tmp_path / "in" / "hangs.png", (5, 5, 5))
    ledger = start_ledger(tmp_path / "in", tmp_path / "out")
    make = partial(FakeReading, 0.0, str(tmp_path / "out"))
    said = []
    drive_ray(ledger, tmp_path / "out", make, Plan(rows=5, page_limit=2), said.append, lambda: None, None)
    texts, times = read_out(tmp_path / "out")
    failed = [texts.pop((name, 1)) for name in ("killer.png", "hangs.png")]
    assert texts == read_out(tmp_path / "whole")[0] and set(times.values()) == {1} and failed == ["", ""]
    given_up = "".join(said[-2:])
    assert "killer.png, page 1 was given up: 3 workers died" in given_up
    assert "hangs.png, page 1 was given up: 3 workers died or hung" in given_up
