"""Reader: pictures in, pages of text out. `Reader().read("x.png").text` is all that most people need.

source -> pictures (nanoocr/pages.py) -> view and prompt -> Engine, in batches -> Page
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal, overload

import torch
from PIL import Image

from nanoocr.bpe import Tokenizer
from nanoocr.errors import CheckpointError, PictureError, UsageError
from nanoocr.image_process import Mode, count_picture_tokens, fit_picture
from nanoocr.image_process import mode as find_mode
from nanoocr.inference.engine import MAX_BATCH, Completion, Engine, Request, TokenCount
from nanoocr.inference.sampling import SamplingConfig
from nanoocr.model.folder import load_model
from nanoocr.model.vlm import VLM
from nanoocr.pages import ALL_PAGES, PageRanges, Picture, Source, check_source, open_source
from nanoocr.tokenizer import render_for_completion

PROMPT = "Read."
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Page:
    """What was read from one page.

    `status` is `ok`, `truncated` (token limit hit), `repetition` (went in circles, cut after the first
    round) or `error` (then `text` is empty and `error` one sentence). `page` counts from 1. `seconds` is the
    wall time from opening the picture's batch to its last token. `confidence` is the mean probability of the
    tokens, not calibrated; None without tokens.
    """

    file: str
    page: int
    text: str
    status: Literal["ok", "truncated", "repetition", "error"]
    error: str | None
    seconds: float
    tokens: TokenCount
    confidence: float | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values in the order of the fields; a number that is not finite becomes None."""
        return {
            "file": self.file,
            "page": self.page,
            "text": self.text,
            "status": self.status,
            "error": self.error,
            "seconds": _finite(self.seconds, 4),
            "tokens": self.tokens._asdict(),
            "confidence": _finite(self.confidence, 4),
        }

    def to_json(self) -> str:
        """`to_dict` as one line of JSON."""
        return json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False)


def _finite(number: float | None, digits: int) -> float | None:
    return round(number, digits) if number is not None and math.isfinite(number) else None


class Reader:
    """A loaded model that reads pictures. Not for several threads at once (PDF rendering is not)."""

    def __init__(
        self,
        model: str | Path | None = None,
        *,
        device: str | None = None,
        dtype: str = "auto",
        sampling: SamplingConfig | None = None,
        max_batch: int = MAX_BATCH,
        mode: str | None = None,
    ) -> None:
        """Load a model folder; None is the model in the package.

        Args:
            device: as torch names it; None is `cuda` where there is one, else `cpu`.
            dtype: of the computation: `float32`, `bfloat16`, or `auto` (see `choose_dtype`).
            sampling: None is greedy.
            max_batch: pages that are decoded together.
            mode: a resolution mode (tiny, small, base, large, gundam, gundam-m); None is the best of the
                views that the model was made for.

        Raises:
            CheckpointError: the folder is missing, damaged, or of another format version.
            UsageError: an unknown device, dtype or mode, or `max_batch` below 1.
        """
        if max_batch < 1:
            raise UsageError(f"max_batch must be at least 1, found {max_batch}")
        self.mode = None if mode is None else find_mode(mode)
        self.device = choose_device(device)
        self.dtype = choose_dtype(dtype, self.device)
        folder = default_model_folder() if model is None else Path(model)
        self.model, self.tokenizer = load_model(folder, device=self.device, compute_dtype=self.dtype)
        # The layers cast their fp32 weights at every use, for training's sake; here that would be waste.
        self.model.to(self.dtype)
        self.engine = Engine(self.model, self.tokenizer)
        self.sampling = sampling or SamplingConfig()
        self.max_batch = max_batch

    @overload
    def read(
        self, source: Source, prompt: str = ..., *, max_tokens: int | None = ..., pages: PageRanges = ...
    ) -> Page | list[Page]: ...

    @overload
    def read(
        self,
        source: list[Source] | tuple[Source, ...],
        prompt: str = ...,
        *,
        max_tokens: int | None = ...,
        pages: PageRanges = ...,
    ) -> list[Page]: ...

    def read(
        self,
        source: Source | list[Source] | tuple[Source, ...],
        prompt: str = PROMPT,
        *,
        max_tokens: int | None = None,
        pages: PageRanges = ALL_PAGES,
    ) -> Page | list[Page]:
        """Read a path, the bytes of a file, a Pillow image, or a list of them.

        A list gives a list, in which a PDF or TIFF stands with one Page for each of its pages and a source
        that cannot be read with one Page of status `error`. A single source gives its Page, or the list of
        them if several pages of a PDF or TIFF are read. `pages` matters for those only.

        Raises:
            PictureError: a single source of one page cannot be read; its `kind` says why.
            UsageError: `source` is something else, the prompt is too long for the model, or `max_tokens` is
                not positive.
        """
        if isinstance(source, list | tuple):
            for one in source:
                check_source(one)  # all of them before the first costs anything
            every = (picture for one in source for picture in open_source(one, pages=pages))
            return list(self.read_pictures(every, prompt, max_tokens=max_tokens))
        check_source(source)
        pictures = open_source(source, pages=pages)
        first = list(islice(pictures, 2))
        if len(first) != 1:
            return list(self.read_pictures(chain(first, pictures), prompt, max_tokens=max_tokens))
        *_, page = self._stream_picture(first[0], prompt, max_tokens)
        assert isinstance(page, Page)  # the last item
        return page

    def read_pictures(
        self, pictures: Iterable[Picture], prompt: str = PROMPT, *, max_tokens: int | None = None
    ) -> Iterator[Page]:
        """A Page for each picture, in order; they are opened and decoded `max_batch` at a time.

        With a temperature the n-th of those that can be read samples by the numbers of (seed, n), whatever
        `max_batch` is and however many others cannot be read.
        """
        rest, readable = iter(pictures), 0
        while True:
            started = time.perf_counter()
            batch = [self._prepare(picture, prompt, max_tokens) for picture in islice(rest, self.max_batch)]
            if not batch:
                return
            requests = [request for _, request in batch if request is not None]
            waited = time.perf_counter() - started
            completions = iter(
                self.engine.generate(requests, self.sampling, max_batch=self.max_batch, first=readable)
            )
            readable += len(requests)
            for picture, request in batch:
                yield make_page(picture, None if request is None else next(completions), waited)

    def _prepare(
        self, picture: Picture, prompt: str, max_tokens: int | None
    ) -> tuple[Picture, Request | None]:
        """The request of a picture, and the picture without its pixels: a batch of scans fills gigabytes."""
        if picture.image is None:
            return picture, None
        request = make_request(self.model, self.tokenizer, picture.image, prompt, max_tokens, self.mode)
        vision, most = request.ids.count(self.model.image_id), self.model.config.gpt.sequence_len
        picture = picture._replace(image=None)
        if vision and len(request.ids) > most >= len(request.ids) - vision:
            message = (
                f"{picture.file} needs {len(request.ids)} tokens with its prompt, the model takes {most}: "
                "choose a smaller --mode"
            )
            return picture._replace(error=PictureError(message, kind="too_large")), None
        return picture, request

    def stream(
        self,
        source: Source,
        prompt: str = PROMPT,
        *,
        max_tokens: int | None = None,
        pages: PageRanges = ALL_PAGES,
    ) -> Iterator[str | Page]:
        """The text of a source piece by piece as it is read, then its Page as the last item.

        Of a PDF or TIFF with several pages, each page's pieces are followed by its Page. The pieces add up
        to the Page's text, but for status `repetition`, where the Page ends after the first round.

        Raises:
            PictureError: a page cannot be read.
            UsageError: as `read`.
        """
        check_source(source)
        for number, picture in enumerate(open_source(source, pages=pages)):
            yield from self._stream_picture(picture, prompt, max_tokens, number)

    def _stream_picture(
        self, picture: Picture, prompt: str, max_tokens: int | None, number: int = 0
    ) -> Iterator[str | Page]:
        """`stream` of one picture, the one of this `number` from 0."""
        started = time.perf_counter()
        picture, request = self._prepare(_demand(picture), prompt, max_tokens)
        _demand(picture)
        assert request is not None  # _demand has raised where there is none
        waited = time.perf_counter() - started
        for event in self.engine.stream(request, self.sampling, first=number):
            if event.text:
                yield event.text
            if event.completion is not None:
                yield make_page(picture, event.completion, waited)


def _demand(picture: Picture) -> Picture:
    """The picture, or its error raised."""
    if picture.error is not None:
        raise picture.error
    return picture


def make_request(
    model: VLM,
    tokenizer: Tokenizer,
    image: Image.Image,
    prompt: str,
    max_tokens: int | None = None,
    mode: Mode | None = None,
) -> Request:
    """One picture and what is asked about it, in the form that the model was trained on: picture first."""
    picture = fit_picture(image, model.config.views, mode)  # uint8 until it is encoded
    content = [{"type": "image"}, {"type": "text", "text": prompt}]
    ids = render_for_completion(
        {"messages": [{"role": "user", "content": content}]},
        tokenizer,
        image_token_counts=[count_picture_tokens(picture)],
    )
    return Request(tuple(ids), (picture,), max_tokens)


def make_page(picture: Picture, completion: Completion | None, waited: float) -> Page:
    """The record of a page; `waited` seconds passed before its batch went into the engine."""
    if completion is None:
        reason = str(picture.error)
        return Page(picture.file, picture.page, "", "error", reason, waited, TokenCount(0, 0, 0), None)
    return Page(
        file=picture.file,
        page=picture.page,
        text=completion.text,
        status=completion.status,
        error=None,
        seconds=waited + completion.seconds,
        tokens=completion.tokens,
        confidence=completion.confidence,
    )


PACKAGED_MODEL = Path(__file__).parent.parent / "weights" / "nano"


def default_model_folder() -> Path:
    """Where the model of the package lies.

    Raises:
        CheckpointError: this installation has none.
    """
    if not PACKAGED_MODEL.is_dir():
        raise CheckpointError(
            f"the package holds no model in {PACKAGED_MODEL}: train one (README) and name it with --model=DIR"
        )
    return PACKAGED_MODEL


def choose_device(name: str | None) -> torch.device:
    """The torch device called `name`; None is `cuda` where there is one, else `cpu`.

    Raises:
        UsageError: torch does not know the name, or this machine lacks the device.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # AssertionError: torch built without CUDA
        reason = str(error).splitlines()[0]
        raise UsageError(f"device {name!r} cannot be used here: {reason}") from error
    return device


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """The dtype called `name`; `auto` is bfloat16 on a GPU that has it, else float32.

    On a CPU bfloat16 is left to those who ask for it. Measured with AVX512-BF16, two cores and the nano size:
    1.6 times the tokens per second in batches of 32, no gain at 8, a loss of a quarter for a single page.

    Raises:
        UsageError: the name is none of these.
    """
    if name == "auto":
        fast = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if fast else torch.float32
    if name not in DTYPES:
        raise UsageError(f"unknown dtype {name!r}: choose auto, {' or '.join(DTYPES)}")
    return DTYPES[name]
