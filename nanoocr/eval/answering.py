"""Gets answers onto the disk: from a model of ours in batches, or from a peer page by page.

The way: asks -> those without an answer in the store -> engine -> store -> predictions by condition
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

from PIL import Image

from nanoocr.errors import UsageError
from nanoocr.eval.grounding import Ask
from nanoocr.eval.peers import Peer, PeerError
from nanoocr.eval.store import ByCondition, Prediction, Store
from nanoocr.inference.page import Page
from nanoocr.inference.reader import Reader
from nanoocr.progress import track

Answers = Iterator[tuple[Ask, Prediction]]
Answerer = Callable[[Sequence[Ask]], Answers]
# Maps an upright RGB picture and its kind to its text, and its vision tokens where the engine has such.
Read = Callable[[Image.Image, str], tuple[str, int | None]]


def answer_all(asks: Sequence[Ask], store: Store, answer: Answerer, what: str) -> ByCondition:
    """Answer every ask that has no answer yet, storing each page at once; then return all from the store."""
    todo = [ask for ask in asks if store.get(ask) is None]
    for ask, prediction in track(answer(todo), len(todo), f"{what}, {len(asks) - len(todo)} done before"):
        store.put(ask, prediction)
    found: ByCondition = {}
    for ask in asks:
        stored = store.get(ask)
        if stored is None:
            raise UsageError(f"{store.folder}: the answer of {ask.sample.id} has gone again")
        found.setdefault(ask.condition, {})[ask.sample.id] = stored
    return found


def model_answers(reader: Reader, max_tokens: int | None, asks: Sequence[Ask]) -> Answers:
    """Answer in batches of one question each, as large as the reader allows. Pictures open batch by batch."""
    ordered = sorted(asks, key=lambda ask: ask.sample.prompt)
    for prompt, alike in groupby(ordered, key=lambda ask: ask.sample.prompt):
        together = list(alike)
        for start in range(0, len(together), reader.max_batch):
            batch = together[start : start + reader.max_batch]
            started = time.perf_counter()
            pages = list(
                reader.read_pictures((ask.picture() for ask in batch), prompt, max_tokens=max_tokens)
            )
            seconds = (time.perf_counter() - started) / len(batch)
            yield from ((ask, _from_page(page, seconds)) for ask, page in zip(batch, pages, strict=True))


def _from_page(page: Page, seconds: float) -> Prediction:
    return Prediction(
        text=page.text,
        status=page.status,
        error=page.error or "",
        seconds=seconds,
        vision_tokens=page.tokens.vision,
        text_tokens=page.tokens.text,
    )


def peer_answers(peer: Peer, asks: Sequence[Ask]) -> Answers:
    """Let a peer read one page after the other."""
    return read_answers(lambda image, kind: (peer.read(image, kind), None), asks)


def read_answers(read: Read, asks: Sequence[Ask]) -> Answers:
    """Read one page after the other. A page that `read` fails on gets an empty answer with the reason."""
    for ask in asks:
        picture = ask.picture()
        if picture.image is None:
            yield ask, Prediction("", "error", str(picture.error))
            continue
        started, busy = time.perf_counter(), _cpu_seconds()
        try:
            (text, tokens), status, reason = read(picture.image, ask.sample.kind), "ok", ""
        except PeerError as error:
            (text, tokens), status, reason = ("", None), "error", str(error)
        seconds, busy = time.perf_counter() - started, _cpu_seconds() - busy
        yield ask, Prediction(text, status, reason, seconds=seconds, cpu_seconds=busy, vision_tokens=tokens)


def _cpu_seconds() -> float:
    """Processor seconds that this process and its finished children have used."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system
