"""Reader: pictures in, pages of text out. `Reader().read("x.png").text` is all that most people need.

source -> pictures (nanoocr/pages.py) -> lines (nanoocr/inference/lines.py), or one view -> Engine -> Page

A model says by its views which of the two it was made for: strips of one line, or whole pictures.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import overload

import torch
from PIL import Image

from nanoocr.bpe import Tokenizer
from nanoocr.document import join_lines
from nanoocr.errors import CheckpointError, PictureError, UsageError
from nanoocr.image_process import Mode, count_picture_tokens, fit_picture
from nanoocr.image_process import mode as find_mode
from nanoocr.inference.assemble import PageReading
from nanoocr.inference.doubt import doubt_of_lines, doubt_of_view
from nanoocr.inference.engine import MAX_BATCH, Engine, Request
from nanoocr.inference.lines import LEAST_CONFIDENCE, LineReader
from nanoocr.inference.page import Page, error_page, make_page, with_doubt
from nanoocr.inference.sampling import SamplingConfig
from nanoocr.machine import check_device, choose_threads, has_fast_bf16, use_threads
from nanoocr.model.folder import load_heads, load_manner, load_model, model_folder
from nanoocr.model.vlm import VLM
from nanoocr.pages import ALL_PAGES, PageRanges, Picture, Source, check_source, open_source
from nanoocr.pictures import find_dpi
from nanoocr.tokenizer import render_for_completion

LINES, VIEW = "lines", "view"
WAYS = (LINES, VIEW)  # ways to read; --mode also takes the resolution modes of a model of whole pictures
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


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
        min_confidence: float | None = None,
        drafts: bool = True,
    ) -> None:
        """Load a model folder; None is the model in the package.

        Args:
            device: as torch names it; None is `cuda` where there is one, else `cpu`.
            dtype: of the computation: `float32`, `bfloat16`, or `auto` (see `choose_dtype`).
            sampling: None is greedy.
            max_batch: pages that are decoded together.
            mode: `lines`, for a model that reads strips of one line; `view`, the best of the views that a
                model of whole pictures was made for, or its resolution mode (tiny, small, base, large,
                gundam, gundam-m). None is what the model was made for.
            min_confidence: in `lines`, what the model is less sure of is left out as no text; 0 keeps all.
                None is what was best on pages made for measuring.
            drafts: let the model's glyph head draft the text of a strip, where its folder has one. It is
                read faster, and in float32 the text is the same.

        Raises:
            CheckpointError: the folder is missing, damaged, or of another format version.
            UsageError: an unknown device, dtype or mode, a mode that the model was not made for, `max_batch`
                below 1, or `min_confidence` outside 0 to 1 or for a model of whole pictures.
        """
        if max_batch < 1:
            raise UsageError(f"max_batch must be at least 1, found {max_batch}")
        if min_confidence is not None and not 0 <= min_confidence <= 1:
            raise UsageError(f"min_confidence is a number from 0 to 1, found {min_confidence}")
        self.mode = None if mode in (None, *WAYS) else find_mode(mode)
        self.device = choose_device(device)
        self.dtype = choose_dtype(dtype, self.device)
        folder = default_model_folder() if model is None else model_folder(model)
        self.model, self.tokenizer = load_model(folder, device=self.device, compute_dtype=self.dtype)
        self.prompt, self.trained_modes, self.letters = load_manner(folder)
        # The layers cast their fp32 weights at every use, for training's sake; here that would be waste.
        self.model.to(self.dtype)
        self.by_lines = self.model.config.reads_lines
        if mode is not None and (mode == LINES) != self.by_lines:
            made_for = f"strips of one line: use --mode={LINES}" if self.by_lines else "whole pictures"
            raise UsageError(f"--mode={mode}: this model reads {made_for}, or leave --mode out")
        if min_confidence is not None and not self.by_lines:
            raise UsageError("--min_confidence is for models that read lines; this one reads whole pictures")
        self.min_confidence = LEAST_CONFIDENCE if min_confidence is None else min_confidence
        head = load_heads(folder, self.model.config) if drafts else None
        if head is not None:
            head = head.to(self.device, self.dtype)
        self.engine = Engine(self.model, self.tokenizer, head)
        self.sampling = sampling or SamplingConfig()
        self.max_batch = max_batch

    @overload
    def read(
        self,
        source: Source,
        prompt: str | None = ...,
        *,
        max_tokens: int | None = ...,
        pages: PageRanges = ...,
    ) -> Page | list[Page]: ...

    @overload
    def read(
        self,
        source: list[Source] | tuple[Source, ...],
        prompt: str | None = ...,
        *,
        max_tokens: int | None = ...,
        pages: PageRanges = ...,
    ) -> list[Page]: ...

    def read(
        self,
        source: Source | list[Source] | tuple[Source, ...],
        prompt: str | None = None,
        *,
        max_tokens: int | None = None,
        pages: PageRanges = ALL_PAGES,
    ) -> Page | list[Page]:
        """Read a path, the bytes of a file, a Pillow image, or a list of them.

        Without a `prompt` the model is asked what it was trained to be asked.

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
                check_source(one)  # all are checked before the first one is read
            every = (picture for one in source for picture in open_source(one, pages=pages))
            return list(self.read_pictures(every, prompt, max_tokens=max_tokens))
        check_source(source)
        pictures = open_source(source, pages=pages)
        # Two are opened to learn whether there are several; the others wait for their turn.
        first = list(islice(pictures, 2))
        if len(first) != 1:
            return list(self.read_pictures(chain(first, pictures), prompt, max_tokens=max_tokens))
        *_, page = self._stream_picture(first[0], prompt, max_tokens)
        assert isinstance(page, Page)  # the last item
        return page

    def read_pictures(
        self, pictures: Iterable[Picture], prompt: str | None = None, *, max_tokens: int | None = None
    ) -> Iterator[Page]:
        """A Page for each picture, in order; they are opened and decoded `max_batch` at a time.

        With a temperature the n-th of those that can be read samples by the numbers of (seed, n), whatever
        `max_batch` is and however many others cannot be read.
        """
        prompt = prompt or self.prompt
        if self.by_lines:
            reader = self.line_reader(prompt, max_tokens)
            yield from (self._read_by_lines(reader, picture) for picture in pictures)
            return
        rest, readable = iter(pictures), 0
        while True:
            started = time.perf_counter()
            batch = [self._prepare(picture, prompt, max_tokens) for picture in islice(rest, self.max_batch)]
            if not batch:
                return
            requests = [request for _, request, _ in batch if request is not None]
            waited = time.perf_counter() - started
            completions = iter(
                self.engine.generate(requests, self.sampling, max_batch=self.max_batch, first=readable)
            )
            # Rows draw their random numbers by this count, so a picture that fails must not move it.
            readable += len(requests)
            for picture, request, doubt in batch:
                page = make_page(picture, None if request is None else next(completions), waited)
                yield with_doubt(page, doubt)

    def line_reader(self, prompt: str, max_tokens: int | None = None) -> LineReader:
        """What asks this model about strips: the prompt's ids, cut where the picture's run stands."""
        image = self.model.image_id
        # One token marks the place of the picture; each strip then takes as many as its width needs.
        ids = picture_prompt(self.tokenizer, prompt, 1)
        place = ids.index(image)
        return LineReader(
            engine=self.engine,
            before=tuple(ids[:place]),
            behind=tuple(ids[place + 1 :]),
            sampling=self.sampling,
            least_confidence=self.min_confidence,
            max_tokens=max_tokens,
            letters=self.letters,
            threads=torch.get_num_threads() if self.device.type == "cpu" else 1,
        )

    def _read_by_lines(self, reader: LineReader, picture: Picture) -> Page:
        if picture.image is None:
            return error_page(picture)
        started = time.perf_counter()
        return page_of_lines(picture, reader.read(picture.image), time.perf_counter() - started)

    def _prepare(
        self, picture: Picture, prompt: str, max_tokens: int | None
    ) -> tuple[Picture, Request | None, str | None]:
        """A picture without its pixels (a batch of them fills gigabytes), its request, and why to doubt."""
        if picture.image is None:
            return picture, None, None
        doubt = self.doubt_of(picture.image)
        request = make_request(self.model, self.tokenizer, picture.image, prompt, max_tokens, self.mode)
        vision, most = request.ids.count(self.model.image_id), self.model.config.gpt.sequence_len
        picture = picture._replace(image=None)
        # Only where the picture is to blame: a prompt that is too long by itself is the engine's to refuse.
        if vision and len(request.ids) > most >= len(request.ids) - vision:
            message = (
                f"{picture.file} needs {len(request.ids)} tokens with its prompt, the model takes {most}: "
                "choose a smaller --mode"
            )
            return picture._replace(error=PictureError(message, kind="too_large")), None, None
        return picture, request, doubt

    def doubt_of(self, image: Image.Image) -> str | None:
        """Why not to trust this model's one look at a picture; None if nothing speaks against it."""
        views = self.model.config.views
        return doubt_of_view((image.height, image.width), views, self.mode, self.trained_modes)

    def stream(
        self,
        source: Source,
        prompt: str | None = None,
        *,
        max_tokens: int | None = None,
        pages: PageRanges = ALL_PAGES,
    ) -> Iterator[str | Page]:
        """The text of a source piece by piece as it is read, then its Page as the last item.

        A page that is read by lines comes in one piece, since what stands first may be read last.

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
        self, picture: Picture, prompt: str | None, max_tokens: int | None, number: int = 0
    ) -> Iterator[str | Page]:
        """`stream` of one picture, the one of this `number` from 0."""
        prompt = prompt or self.prompt
        if self.by_lines:
            page = self._read_by_lines(self.line_reader(prompt, max_tokens), _demand(picture))
            yield page.text
            yield page
            return
        started = time.perf_counter()
        picture, request, doubt = self._prepare(_demand(picture), prompt, max_tokens)
        _demand(picture)
        assert request is not None  # _demand has raised if there is no picture
        waited = time.perf_counter() - started
        for event in self.engine.stream(request, self.sampling, first=number):
            if event.text:
                yield event.text
            if event.completion is not None:
                yield with_doubt(make_page(picture, event.completion, waited), doubt)


@dataclass(frozen=True)
class ReaderChoice:
    """What a Reader is made of, in plain values that go to other processes; the fields are as of Reader."""

    model: Path | None = None
    device: str | None = None
    dtype: str = "auto"
    max_batch: int = MAX_BATCH
    mode: str | None = None
    min_confidence: float | None = None

    def load(self, threads: int | None = None) -> Reader:
        """The Reader, on so many torch threads in this process (None: see `machine.choose_threads`).

        Raises:
            CheckpointError, UsageError: as `Reader`.
        """
        use_threads(choose_threads(threads))
        return Reader(
            self.model,
            device=self.device,
            dtype=self.dtype,
            max_batch=self.max_batch,
            mode=self.mode,
            min_confidence=self.min_confidence,
        )


def _demand(picture: Picture) -> Picture:
    """The picture; raises its error if it has none."""
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
    ids = picture_prompt(tokenizer, prompt, count_picture_tokens(picture))
    return Request(tuple(ids), (picture,), max_tokens)


def picture_prompt(tokenizer: Tokenizer, prompt: str, vision_tokens: int) -> list[int]:
    """The ids of a question about one picture of so many vision tokens, up to where the answer begins."""
    content = [{"type": "image"}, {"type": "text", "text": prompt}]
    conversation = {"messages": [{"role": "user", "content": content}]}
    return render_for_completion(conversation, tokenizer, image_token_counts=[vision_tokens])


def page_of_lines(picture: Picture, reading: PageReading, seconds: float) -> Page:
    """The record of a page that was read by lines."""
    assert picture.image is not None
    page = Page(
        file=picture.file,
        page=picture.page,
        text=join_lines(reading.lines),
        status="truncated" if reading.truncated else "ok",
        error=None,
        seconds=seconds,
        tokens=reading.tokens,
        confidence=reading.confidence,
        lines=reading.lines,
        width=picture.image.width,
        height=picture.image.height,
        dpi=find_dpi(picture.image),
        quarter_turns=reading.quarter_turns,
        left_out=reading.left_out,
    )
    return with_doubt(page, doubt_of_lines(reading))


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
    return check_device(name)


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """The dtype called `name`; `auto` is bfloat16 where the device multiplies it in hardware, else float32.

    On a CPU that takes AVX512-BF16 or AMX. A text may differ in a letter here and there between the two; on
    real pages neither is better (docs/log.md, 2026-11-29).

    Raises:
        UsageError: the name is none of these.
    """
    if name == "auto":
        return torch.bfloat16 if has_fast_bf16(device.type) else torch.float32
    if name not in DTYPES:
        raise UsageError(f"unknown dtype {name!r}: choose auto, {' or '.join(DTYPES)}")
    return DTYPES[name]
