"""Disks that fill up and fail, and kills, at every call of every path that writes: all stays whole.

A stand-in for the file system lets the n-th call that changes the disk fail, for n from 0 until the work gets
through. After each fault the old state or the new one must be there, and the work must succeed when it is
done once more.
"""

from __future__ import annotations

import builtins
import errno
import io
import itertools
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from nanoocr.bpe import Tokenizer
from nanoocr.errors import NanoOCRError
from nanoocr.eval.grounding import Ask
from nanoocr.eval.samples import EvalSample
from nanoocr.eval.store import Prediction, Store
from nanoocr.files import read_folder, write_file, write_folder
from nanoocr.formats import save
from nanoocr.model.folder import (
    complete_steps,
    deepencoder_file,
    load_deepencoder,
    load_model,
    save_deepencoder,
    save_model,
    step_number,
)
from nanoocr.model.vlm import VLM
from nanoocr.train.checkpoint import BEST, best_step, drop_old_steps, load_state, save_step
from nanoocr.train.validate import write_best

FAULTS = {"full": errno.ENOSPC, "failing": errno.EIO}
CHANGES = ("fsync", "rename", "replace", "mkdir", "unlink", "rmdir")


def end(number: int | None, path: object) -> None:
    """What the disk says, or, without a number, the end of this process on the spot."""
    if number is None:
        os._exit(9)
    raise OSError(number, os.strerror(number), str(path))


class Torn:
    """A file of which the one write that is to fail gets half of its bytes to the disk."""

    def __init__(self, file: Any, count: Callable[[], bool], number: int | None) -> None:
        self.file, self.count, self.number = file, count, number

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def __enter__(self) -> Torn:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def write(self, content: Any) -> int:
        if not self.count():
            return self.file.write(content)
        self.file.write(content[: len(content) // 2])
        self.file.flush()
        end(self.number, self.file.name)
        return 0


@contextmanager
def fault(place: int, number: int | None) -> Iterator[list[bool]]:
    """Let the change of the disk at this place fail, once; the list gets an entry when it has."""
    calls, done = itertools.count(), list[bool]()

    def count() -> bool:
        due = next(calls) == place
        done.extend([True] * due)
        return due

    def failing(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if count():
                end(number, arguments[0])
            return function(*arguments, **options)

        return call

    def opening(path: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        file = io_open(path, mode, *arguments, **options)
        return Torn(file, count, number) if set(mode) & set("wax") else file

    io_open = io.open
    with pytest.MonkeyPatch.context() as patch:
        for name in CHANGES:
            patch.setattr(os, name, failing(getattr(os, name)))
        patch.setattr(io, "open", opening)
        patch.setattr(builtins, "open", opening)
        yield done


@dataclass(frozen=True)
class Work:
    """One path that writes: how to get ready, what to do, and what may be there afterwards."""

    prepare: Callable[[Path], None]
    do: Callable[[Path], object]
    state: Callable[[Path], object]  # of what is on the disk; raises where it is not whole


@pytest.fixture
def model(make_config) -> VLM:
    made = VLM(make_config(), image_id=Tokenizer.bytes().image_id)
    made.init_weights(0)
    return made


@pytest.fixture
def works(model) -> dict[str, Work]:
    """Every path by which this project writes something that must last."""
    return {
        **works_on_files(),
        **works_on_models(model),
        **works_on_steps(model),
        "an answer": work_on_answers(),
    }


def works_on_files() -> dict[str, Work]:
    return {
        "a folder": Work(
            lambda f: write_folder(f / "m", {"a": b"old", "b": b"old"}),
            lambda f: write_folder(f / "m", {"a": b"new", "c": b"new"}),
            lambda f: sorted(read_folder(f / "m").items()),
        ),
        "a file": Work(
            lambda f: write_file(f / "a", b"old"),
            lambda f: write_file(f / "a", b"new"),
            lambda f: (f / "a").read_bytes(),
        ),
        "a result": Work(
            lambda f: save(f / "a.txt", b"old"),
            lambda f: save(f / "a.txt", b"new"),
            lambda f: (f / "a.txt").read_bytes(),
        ),
    }


def works_on_models(model) -> dict[str, Work]:
    tokenizer = Tokenizer.bytes()
    return {
        "a model": Work(
            lambda f: save_model(f / "m", model, tokenizer, about={"step": 1}),
            lambda f: save_model(f / "m", model, tokenizer, about={"step": 2}),
            lambda f: (load_model(f / "m"), json.loads((f / "m" / "config.json").read_bytes())["about"])[1],
        ),
        "a tokenizer": Work(
            lambda f: tokenizer.save(f / "t.json"),
            lambda f: tokenizer.save(f / "t.json"),
            lambda f: Tokenizer.from_file(f / "t.json").vocab_size,
        ),
        "an encoder": Work(
            lambda f: save_deepencoder(deepencoder_file(f, 1), model),
            lambda f: save_deepencoder(deepencoder_file(f, 1), model),
            lambda f: len(load_deepencoder(deepencoder_file(f, 1), model).loaded),
        ),
    }


def works_on_steps(model) -> dict[str, Work]:
    tokenizer = Tokenizer.bytes()

    def step(folder: Path, number: int) -> None:
        save_step(folder, number, model, tokenizer, {"step": number}, {"number": torch.tensor(number)})

    def steps(folder: Path) -> list[int]:
        found = complete_steps(folder)
        for one in found:
            load_model(one)
            assert int(load_state(one)["number"]) == step_number(one)
        return [step_number(one) for one in found]

    def three(folder: Path) -> None:
        for number in (1, 2, 3):
            step(folder, number)
        write_best(folder, 3, {1: 0.1, 2: 0.2, 3: 0.3})

    return {
        "a step": Work(lambda f: step(f, 1), lambda f: step(f, 2), steps),
        "old steps that go": Work(
            three, lambda f: drop_old_steps(f, 1), lambda f: (steps(f)[-1], best_step(f))
        ),
        "the best step": Work(
            lambda f: (three(f), write_best(f, 3, {1: 0.1}))[0],
            lambda f: write_best(f, 3, {2: 0.1}),
            lambda f: json.loads((f / BEST).read_bytes()),
        ),
    }


def work_on_answers() -> Work:
    picture = Image.new("L", (8, 8), 255)

    def ask(prompt: str) -> Ask:
        sample = EvalSample("a", picture, prompt, "truth", "card")
        return Ask(sample, "own", sample)

    def answer(folder: Path, text: str, prompt: str) -> None:
        Store(folder / "answers", {}).put(ask(prompt), Prediction(text, "ok"))

    def answers(folder: Path) -> object:
        store = Store(folder / "answers", {})
        return [found and found.text for found in map(store.get, (ask("1"), ask("2")))]

    return Work(lambda f: answer(f, "old", "1"), lambda f: answer(f, "new", "2"), answers)


NAMES = (
    *("a folder", "a file", "a result", "a model", "a tokenizer", "an encoder", "a step"),
    *("old steps that go", "the best step", "an answer"),
)


def test_every_path_is_named(works):
    assert tuple(works) == NAMES


@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("name", NAMES)
def test_a_fault_leaves_the_old_state_or_the_new_one(works, name, kind, tmp_path):
    work = works[name]
    (tmp_path / "untouched").mkdir()
    work.prepare(tmp_path / "untouched")
    allowed = [work.state(tmp_path / "untouched")]
    work.do(tmp_path / "untouched")
    allowed.append(work.state(tmp_path / "untouched"))
    if name == "an answer":
        allowed.append([None, None])  # it will be asked again
    for place in itertools.count():
        folder = tmp_path / str(place)
        folder.mkdir()
        work.prepare(folder)
        with fault(place, FAULTS[kind]) as done:
            failed = False
            try:
                work.do(folder)
            except (OSError, NanoOCRError):
                failed = True
        assert done or not failed
        assert work.state(folder) in allowed, place
        work.do(folder)
        assert work.state(folder) == allowed[1], place
        left = [path.name for path in folder.rglob(".*") if path.name.endswith((".writing", ".old"))]
        assert left == [] or name == "old steps that go", place  # the next run removes those
        if not done:
            assert place >= 2
            return


@pytest.mark.parametrize("name", NAMES)
def test_a_kill_leaves_the_old_state_or_the_new_one(works, name, tmp_path):
    """The same places, but nothing is cleaned up: the process is gone."""
    work = works[name]
    for place in itertools.count():
        folder = tmp_path / str(place)
        folder.mkdir()
        work.prepare(folder)
        before = work.state(folder)
        child = os.fork()
        if child == 0:
            try:
                with fault(place, None):
                    work.do(folder)
            finally:  # a child must never go on as a second pytest
                os._exit(0)
        killed = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
        found = work.state(folder)
        work.do(folder)
        after = work.state(folder)
        assert found in (before, after) or (name == "an answer" and found == [None, None]), place
        if not killed:
            assert place >= 2
            return
