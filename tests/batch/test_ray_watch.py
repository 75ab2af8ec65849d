"""A Ray that hangs or has lost its machines ends a batch by a sentence instead of waiting without end."""

import threading
import time

import pytest

from nanoocr.batch import ray_watch
from nanoocr.batch.ray_watch import Nodes, nodes_of, watched
from nanoocr.errors import BrokenRunError

GOOD = Nodes(is_ours_alive=True, readers=2)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(ray_watch, "LOOK_EVERY", 0.02)
    monkeypatch.setattr(ray_watch, "ASK_EVERY", 0.01)
    monkeypatch.setattr(ray_watch, "SILENT", 0.3)
    monkeypatch.setattr(ray_watch, "EMPTY", 0.3)


def hang():
    threading.Event().wait(5)
    yield "never"


def test_blocks_come_in_order_and_a_slow_one_is_waited_for_while_ray_answers():
    def blocks():
        yield "a"
        time.sleep(0.6)  # twice as long as a Ray may be silent
        yield "b"

    seen = list(watched(blocks, lambda: GOOD))
    assert [one for one in seen if one] == ["a", "b"] and None in seen


def test_what_ends_the_blocks_is_raised_here():
    def blocks():
        yield "a"
        raise SystemExit(1)

    with pytest.raises(SystemExit):
        list(watched(blocks, lambda: GOOD))


def silent():
    threading.Event().wait(5)


def broken():
    raise ConnectionError


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (silent, "has not answered"),
        (broken, "has not answered"),
        (lambda: Nodes(is_ours_alive=False, readers=3), "node of this machine has died"),
        (lambda: Nodes(is_ours_alive=True, readers=0), "no machine has been left"),
    ],
)
def test_a_lost_ray_is_one_sentence(ask, said):
    with pytest.raises(BrokenRunError, match=rf"{said}.*go on with --resume"):
        list(watched(hang, ask))


def test_what_ray_says_of_its_nodes():
    class Ray:
        def nodes():
            return [
                {"NodeID": "head", "Alive": True, "Resources": {}},
                {"NodeID": "a", "Alive": False, "Resources": {"CPU": 4.0}},
                {"NodeID": "b", "Alive": True, "Resources": {"CPU": 4.0}},
            ]

    assert nodes_of(Ray, "head") == (True, 1)
    assert nodes_of(Ray, "a") == (False, 1)


def test_leaving_a_ray_that_hangs_does_not_hang(monkeypatch):
    class Ray:
        def shutdown():
            threading.Event().wait(5)

    ends = []
    monkeypatch.setattr(ray_watch, "LEAVE", 0.05)
    monkeypatch.setattr(ray_watch.atexit, "register", ends.append)
    ray_watch.leave(Ray)
    assert ends == [ray_watch._end]
