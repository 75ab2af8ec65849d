"""Lets engines read page sets. Each page is read once and its answer kept; scoring never reads again.

ANSWERS/<engine>/<set>/run.json            the engine: version, weights, threads
ANSWERS/<engine>/<set>/right/<page>.txt    the text; a file beside it has the time it took
(nanoocr/eval/store.py)

The folder of our own reader has a fingerprint of weights and code in its name. So a new model or a changed
finder begins anew, and old answers are never mistaken for its own.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
from PIL import Image

import nanoocr
from nanoocr.errors import NanoOCRError, UsageError
from nanoocr.eval.answering import Read, read_answers
from nanoocr.eval.boxes import TextBox, boxes_of_words, format_boxes
from nanoocr.eval.grounding import Ask
from nanoocr.eval.page_sets import PageSet
from nanoocr.eval.peers import Peer, PeerError, make_peer
from nanoocr.eval.store import RUN, Prediction, Store
from nanoocr.files import read_manifest
from nanoocr.inference.page import Page
from nanoocr.inference.reader import Reader, default_model_folder
from nanoocr.machine import use_threads
from nanoocr.model.folder import WEIGHTS, model_folder
from nanoocr.progress import track

OURS = "nanoocr"
READING_CODE = ("", "model", "layout", "inference")  # the code in these folders decides what is read


class OurPeer:
    """Our reader behind the same small interface as the others: one picture at a time."""

    name = OURS

    def __init__(self, model: str, threads: int) -> None:
        """Load the model folder; "" means the packaged model. Raises CheckpointError."""
        use_threads(threads)
        self.folder = model_folder(model) if model else default_model_folder()
        self.reader = Reader(self.folder, device="cpu")

    def read(self, image: Image.Image, kind: str) -> str:
        """The text of the page. Raises PeerError where the reader reports that it could not read."""
        return self.page(image).text

    def boxes(self, image: Image.Image, kind: str) -> list[TextBox]:
        """The words, joined where little lies between them. Raises PeerError."""
        return boxes_of_words(self.page(image).lines)

    def page(self, image: Image.Image) -> Page:
        """Everything that was read. Raises PeerError."""
        try:
            page = self.reader.read(image)
        except NanoOCRError as error:
            raise PeerError(str(error)) from error
        if isinstance(page, list) or page.status == "error":
            raise PeerError("several pages" if isinstance(page, list) else str(page.error))
        return page

    def about(self) -> dict[str, Any]:
        """The weights' bytes and number, and the fingerprint of weights and reading code."""
        return {
            "version": fingerprint(self.folder),
            "weights_bytes": sum(path.stat().st_size for path in self.folder.iterdir()),
            "parameters": sum(weight.numel() for weight in self.reader.model.parameters()),
        }


def reading(peer: Peer, with_boxes: bool) -> Read:
    """How to call a peer: for a text, or for boxes in a file's form. Ours also gives its vision tokens."""
    if with_boxes:
        return lambda image, kind: (format_boxes(peer.boxes(image, kind)), None)
    if isinstance(peer, OurPeer):

        def read_ours(image: Image.Image, kind: str) -> tuple[str, int | None]:
            """The text of a picture, and how many vision tokens it took."""
            page = peer.page(image)
            return page.text, page.tokens.vision

        return read_ours
    return lambda image, kind: (peer.read(image, kind), None)


def fingerprint(folder: Path) -> str:
    """Eight hexadecimal digits of the weights and of the code that reads with them."""
    digest = hashlib.sha256(read_manifest(folder)["files"][WEIGHTS]["sha256"].encode())
    root = Path(nanoocr.__file__).parent
    for part in READING_CODE:
        for path in sorted((root / part).glob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:8]


@dataclass(frozen=True)
class ComparedEngine:
    """An engine: its name in tables, the folder of its answers, and how to start it."""

    name: str
    folder: Path
    start: Callable[[], Peer]


def find_engines(names: Sequence[str], model: str, answers: str | Path, threads: int) -> list[ComparedEngine]:
    """The engines by name; `nanoocr` is our reader with the model folder `model`.

    Raises:
        CheckpointError: `model` is not a model folder.
    """
    # Before the first picture, because rapidocr and our own finder call OpenCV, which else takes all cores.
    cv2.setNumThreads(threads)
    found = []
    for name in names:
        if name == OURS:
            folder = model_folder(model) if model else default_model_folder()
            place = Path(answers, f"{OURS}-{fingerprint(folder)}")
            found.append(ComparedEngine(name, place, partial(OurPeer, model, threads)))
        else:
            place = Path(answers, name if threads == 1 else f"{name}-{threads}-threads")
            found.append(ComparedEngine(name, place, partial(make_peer, name, threads)))
    return found


def answers_of(
    engine: ComparedEngine, page_set: PageSet, threads: int, read: bool, until: float = math.inf
) -> tuple[dict[str, Any], dict[str, Prediction]]:
    """Describe the engine and return its answers by page.

    With `read`, pages that it has not read are read now, while the clock (time.monotonic) is below `until`;
    the next run reads the rest.

    Raises:
        UsageError: the engine is not installed, or its answers on disk were given by another version.
    """
    folder = engine.folder / page_set.name
    asks = [Ask(sample, "right", sample) for sample in page_set.samples]
    about = stored_about(folder)
    store = Store(folder, about) if about else None
    done = [ask for ask in asks if store and store.get(ask)]
    if read and len(done) < len(asks) and time.monotonic() < until:
        peer = engine.start()
        about = {"engine": engine.name, "threads": threads, **peer.about()}
        store = Store(folder, about)
        todo = [ask for ask in asks if store.get(ask) is None]
        answers = read_answers(reading(peer, page_set.boxes), todo)
        for ask, answer in track(answers, len(todo), f"{engine.name}, {page_set.name}"):
            store.put(ask, answer)
            if time.monotonic() > until:
                break
    if store is None:
        return {}, {}
    found = {ask.sample.id: store.get(ask) for ask in asks}
    return dict(about), {name: answer for name, answer in found.items() if answer is not None}


def stored_about(folder: Path) -> Mapping[str, Any]:
    """The engine's description in run.json; {} where nothing has been read yet.

    Raises:
        UsageError: the file is not JSON.
    """
    try:
        about: Mapping[str, Any] = json.loads((folder / RUN).read_bytes())
        return about
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise UsageError(f"{folder / RUN}: not JSON ({error}); name another --answers") from error
