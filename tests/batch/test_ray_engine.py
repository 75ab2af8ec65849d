"""A Ray that has died, hangs or has lost its machines ends a batch by a sentence."""

import os
from multiprocessing import Pipe

import pytest

from nanoocr.batch import ray_engine
from nanoocr.batch.ray_engine import Partner, hear, order
from nanoocr.batch.ray_process import Nodes, Round, connect, cut, nodes_of
from nanoocr.errors import BrokenRunError, UsageError

GOOD = Nodes(is_ours_alive=True, readers=2)


@pytest.fixture
def ends(monkeypatch):
    """A partner without a process, and the end of its pipe at which we play Ray."""
    monkeypatch.setattr(ray_engine, "LOOK_EVERY", 0.01)
    monkeypatch.setattr(ray_engine, "EMPTY", 0.05)
    ours, theirs = Pipe()
    yield Partner(None, ours, limit=0.05), theirs
    ours.close()
    theirs.close()


def say(pipe, *words):
    for word in words:
        pipe.send(word)


def test_answers_come_in_order_until_the_end(ends):
    partner, theirs = ends
    say(theirs, ("nodes", GOOD), ("answers", [1]), ("answers", [2]), ("end", None), ("answers", [3]))
    assert list(hear(partner, "end")) == [[1], [2]]


def test_it_is_waited_for_as_long_as_ray_says_that_it_is_well(ends):
    partner, theirs = ends
    heard = hear(partner, "end")
    for _ in range(20):
        theirs.send(("nodes", GOOD))
        assert next(heard) is None
    theirs.send(("answers", [1]))
    assert next(heard) == [1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "has not answered"),
        ([("nodes", GOOD)], "has not answered"),
        ([("nodes", Nodes(is_ours_alive=False, readers=3))], "node of this machine has died"),
    ],
)
def test_a_lost_ray_is_one_sentence(ends, words, said):
    partner, theirs = ends
    say(theirs, *words)
    with pytest.raises(BrokenRunError, match=rf"{said}.*go on with --resume"):
        list(hear(partner, "end"))


def test_machines_that_were_taken_away_are_waited_for_and_not_without_end(ends):
    partner, theirs = ends
    none = Nodes(is_ours_alive=True, readers=0)
    say(theirs, ("nodes", none), ("nodes", GOOD), ("end", None))
    assert list(hear(partner, "end")) == []
    partner.limit = 5.0
    theirs.send(("nodes", none))
    with pytest.raises(BrokenRunError, match="no machine to read with"):
        list(hear(partner, "end"))


def test_a_process_that_has_ended_and_one_that_cannot_go_on(ends):
    partner, theirs = ends
    theirs.send(("broken", UsageError("too few processors")))
    with pytest.raises(UsageError, match="too few"):
        list(hear(partner, "end"))
    theirs.close()
    with pytest.raises(BrokenRunError, match="its process has ended"):
        list(hear(partner, "end"))
    with pytest.raises(BrokenRunError, match="its process has ended"):
        order(partner, Round([], False))


def test_what_ray_says_of_its_nodes():
    table = [
        {"NodeID": "head", "Alive": True, "Resources": {}},
        {"NodeID": "a", "Alive": False, "Resources": {"CPU": 4.0}},
        {"NodeID": "b", "Alive": True, "Resources": {"CPU": 4.0}},
    ]
    assert nodes_of(table, "head") == (True, 1)
    assert nodes_of(table, "a") == (False, 1)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "127.0.0.1:99999"])
def test_an_address_where_nobody_is_is_a_sentence(address):
    pytest.importorskip("ray")
    with pytest.raises(UsageError, match=f"--address={address}: no Ray answers there"):
        connect(1, address)


def test_the_last_tasks_of_a_round_are_short():
    items = [{"page": page} for page in range(100)]
    tasks = [task.to_pylist() for task in cut(items, 2, 16)]
    assert [item for task in tasks for item in task] == items
    assert [len(task) for task in tasks] == [16, 16, 16, 13, 10, 8, 6, 4, 3, 2, 2, 1, 1, 1, 1]


def dies(pipe, *_):
    os._exit(1)  # as Ray ends the process that uses it, when its node has died


def test_a_real_process_that_dies_is_told_and_buried(tmp_path, monkeypatch):
    pytest.importorskip("ray")
    from nanoocr.batch.drive import Plan
    from nanoocr.batch.ledger import Ledger

    monkeypatch.setattr(ray_engine, "serve", dies)
    with pytest.raises(BrokenRunError, match="its process has ended"):
        ray_engine.drive_ray(Ledger(tmp_path), tmp_path, None, Plan(), print, lambda: None, None)
