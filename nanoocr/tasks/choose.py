"""Makes a task from a text on the command line: `finevision:chartqa?relevance_min=3&stop=1000`.

A new data set needs a file in this folder, an entry in its __init__.py, and an arm in `_plan`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from nanoocr.config import PROMPT
from nanoocr.data.fetch import HubSet, ShardSource
from nanoocr.data.task import Task
from nanoocr.errors import UsageError
from nanoocr.tasks import chartqa, docvqa, finevision, gsm8k, mmlu, olmocr_mix, plain_text, smoltalk, textvqa
from nanoocr.tasks.folder import Folder
from nanoocr.tasks.jsonl import Jsonl
from nanoocr.tasks.llava_instruct import LlavaInstruct
from nanoocr.tasks.parquet import parquet_task
from nanoocr.tasks.sroie import Sroie
from nanoocr.tasks.synth import Synth

NAMES = (
    "finevision", "olmocr_mix", "llava_instruct", "chartqa", "docvqa", "textvqa", "sroie", "smoltalk", "mmlu",
    "gsm8k", "plain_text", "synth", "folder", "jsonl", "parquet",
)  # fmt: skip
SYNTH = {"count": 1_000_000, "seed": 0, "min_lines": 1, "max_lines": 3, "held_out_fonts": False}
T = TypeVar("T", int, float, str, bool)


def make_task(spec: str) -> Task:
    """Make the task that `NAME:WHAT?key=value&key=value` describes; __init__.py lists the names and keys.

    Raises:
        UsageError: a name or key is unknown, a value does not fit, or the data is not there.
    """
    head, _, tail = spec.partition("?")
    name, _, what = head.partition(":")
    what = with_home(what)
    if name not in NAMES:
        raise UsageError(f"task {spec!r}: no data set {name!r}; known are {', '.join(NAMES)}")
    options = Options(spec, tail)
    build = _plan(name, what, options)
    options.done()
    return build()


def with_home(path: str) -> str:
    """Put the home folder in place of ~/, which shells leave as it is in the middle of a word."""
    return os.path.expanduser(path) if path.startswith("~/") else path


class Options:
    """The part behind the question mark. A key that nobody takes is a mistake."""

    def __init__(self, spec: str, tail: str) -> None:
        self.spec = spec
        self.given: dict[str, str] = {}
        self.known: list[str] = []
        for item in filter(None, tail.split("&")):
            key, equals, value = item.partition("=")
            if not equals or key in self.given:
                raise UsageError(f"task {spec!r}: write key=value&key=value, every key once, not {item!r}")
            self.given[key] = value

    def take(self, key: str, default: T) -> T:
        """The value of a key, converted to the default's type."""
        self.known.append(key)
        text = self.given.get(key)
        if text is None:
            return default
        text = with_home(text)
        kind = type(default)
        try:
            value = {"true": True, "false": False}[text.lower()] if kind is bool else kind(text)
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError("nan and inf are floats of Python, and no amount of anything")
        except (KeyError, ValueError) as error:
            raise UsageError(f"task {self.spec!r}: {key}={text} is no {kind.__name__}") from error
        return value

    def slice(self) -> dict[str, Any]:
        """The keys start, stop and step, which every task has."""
        stop = self.take("stop", -1)
        return {
            "start": self.take("start", 0),
            "stop": None if "stop" not in self.given else stop,
            "step": self.take("step", 1),
        }

    def source(self, repo: str, subset: str = "", split: str = "train") -> ShardSource:
        """Where the shards of a hub data set are."""
        files = HubSet(
            self.take("repo", repo),
            subset,
            self.take("split", split),
            self.take("revision", "main"),
            self.take("shards", 0),
        )
        cache, max_gb = self.take("cache", ShardSource.cache), self.take("max_gb", ShardSource.max_gb)
        return ShardSource(files, self.take("path", ""), cache, max_gb)

    def done(self) -> None:
        """Complain about keys that nobody took."""
        if unknown := [key for key in self.given if key not in self.known]:
            raise UsageError(
                f"task {self.spec!r}: no key {unknown[0]!r}; known are {', '.join(sorted(self.known))}"
            )


def _need(text: str, spec: str, what: str) -> str:
    if not text:
        raise UsageError(f"task {spec!r}: name {what}")
    return text


def _plan(name: str, what: str, options: Options) -> Callable[[], Task]:
    """Take a task's options. Calling the returned function opens its data."""
    rows = options.slice()
    take, source = options.take, options.source
    match name:
        case "finevision":
            _need(what, options.spec, "a subset, as finevision:chartqa")
            least = {rating: take(f"{rating}_min", 1) for rating in finevision.RATINGS}
            prompt, shards = take("prompt", ""), source(finevision.REPO, what)
            return lambda: finevision.FineVision(
                shards.open(finevision.columns(least)), what, prompt, least, **rows
            )
        case "olmocr_mix":
            _need(what, options.spec, "a table such as olmocr_mix:train-s2pdf, or a folder")
            prompt = take("prompt", PROMPT)
            if Path(what).is_dir():
                return partial(olmocr_mix.OlmOcrFolder, what, prompt, **rows)
            pdfs, shards = take("pdfs", ""), source(olmocr_mix.REPO, split=what)
            _need(pdfs, options.spec, "pdfs=FOLDER, the unpacked pdf_tarballs")
            choices = (olmocr_mix.COLUMNS_1025, olmocr_mix.COLUMNS_0225)
            return lambda: olmocr_mix.OlmOcrMix(shards.open(*choices), pdfs, prompt, **rows)
        case "chartqa":
            if what:
                return partial(chartqa.ChartQAFolder, what, take("split", "train"), **rows)
            shards = source(chartqa.REPO)
            return lambda: chartqa.ChartQA(shards.open(*chartqa.COLUMNS), **rows)
        case "docvqa":
            shards = source(docvqa.REPO, what or "DocVQA")
            return lambda: docvqa.DocVQA(shards.open(docvqa.COLUMNS), **rows)
        case "textvqa":
            shards = source(textvqa.REPO, what)
            return lambda: textvqa.TextVQA(shards.open(textvqa.COLUMNS), **rows)
        case "smoltalk":
            shards = source(smoltalk.LARGE if what else smoltalk.SMALL, what)
            return lambda: smoltalk.SmolTalk(shards.open(smoltalk.COLUMNS), **rows)
        case "mmlu":
            shards = source(mmlu.REPO, what or mmlu.CONFIG, mmlu.SPLIT)
            return lambda: mmlu.MMLU(shards.open(mmlu.COLUMNS), **rows)
        case "gsm8k":
            shards = source(gsm8k.REPO, what or gsm8k.CONFIG)
            return lambda: gsm8k.GSM8K(shards.open(gsm8k.COLUMNS), **rows)
        case "plain_text":
            shards, chars = source(plain_text.REPO, what), take("chars", 0)
            return lambda: plain_text.PlainText(shards.open(plain_text.COLUMNS), chars, **rows)
        case "synth":
            keys: dict[str, Any] = {key: take(key, default) for key, default in SYNTH.items()}
            return partial(Synth, what or "card", **keys, **rows)
        case "sroie":
            return partial(Sroie, _need(what, options.spec, "a folder"), take("ask", "text"), **rows)
        case "folder":
            return partial(Folder, _need(what, options.spec, "a folder"), take("prompt", PROMPT), **rows)
        case "jsonl":
            return partial(Jsonl, _need(what, options.spec, "a file"), take("images", ""), **rows)
        case "llava_instruct":
            images = _need(take("images", ""), options.spec, "images=FOLDER, COCO's train2017")
            return partial(LlavaInstruct, _need(what, options.spec, "a file"), images, **rows)
        case _:  # parquet
            path = _need(what, options.spec, "a file or folder")
            return partial(parquet_task, path, **rows)
