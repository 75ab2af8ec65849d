"""The inference engine: many pictures and prompts decoded together over one KV cache.

requests -> vision embeddings, once -> prefill of right-padded prompts -> one token per row and step
         (or, by drafts, many: nanoocr/inference/draft.py) -> rows that have ended leave -> completions

Letters: B rows of the batch, T longest prompt, C width, V vocabulary.
"""

from __future__ import annotations

import codecs
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from nanoocr.bpe import Tokenizer
from nanoocr.errors import UsageError
from nanoocr.image_process import PictureViews, as_picture, count_picture_tokens
from nanoocr.inference.draft import Draft, agreeing
from nanoocr.inference.encode import encode_and_draft, encode_pictures
from nanoocr.inference.judge import Judged, judge
from nanoocr.inference.sampling import Loop, Sampler, SamplingConfig, likeliest, stopped_by_loop
from nanoocr.model.cache import KVCache
from nanoocr.model.glyph_heads import PatchHead
from nanoocr.model.vlm import VLM

Status = Literal["ok", "truncated", "repetition"]

LOOP_CHECK = 16  # a row is checked for a loop every so many generated tokens
MAX_BATCH = 32


@dataclass(frozen=True)
class Request:
    """One prompt with its pictures.

    `ids` ends in assistant_start and holds a run of `<|image|>` ids per picture, as long as the picture has
    vision tokens. `views` are the pictures in the order of the runs: float views in [-1, 1], or uint8 pixels,
    which take a quarter of the memory while a batch waits. Without `max_tokens` a row may go on to the end of
    the sequence length that the model was trained for.
    """

    ids: tuple[int, ...]
    views: tuple[Tensor | PictureViews, ...] = ()
    max_tokens: int | None = None


class TokenCount(NamedTuple):
    """How many tokens one request took, by kind."""

    vision: int  # prompt tokens that stand for pictures
    prompt: int  # all other prompt tokens
    text: int  # generated tokens


@dataclass(frozen=True)
class Completion:
    """The answer to one request.

    `status` is `ok` when the model ended the text itself, `truncated` when the token limit or the model's
    sequence length was hit, `repetition` when the row went in circles: then `ids` and `text` end after the
    first copy of the repeated cycle. `confidence` is the mean probability of the tokens in `ids`, None
    without any; it is not calibrated. `seconds` passed between the start of the row's batch and its end.
    `probabilities` are those of the tokens in `ids`, `places` the characters of `text` that they belong to,
    and `stop_probability` is that of the end, 1 where the model did not end the text. `alternatives` are, for
    each token, the likeliest ones in its place with their probabilities, where the sampling asks for them.
    """

    ids: tuple[int, ...]
    text: str
    status: Status
    confidence: float | None
    tokens: TokenCount
    seconds: float
    probabilities: tuple[float, ...] = ()
    places: tuple[int, ...] = ()
    stop_probability: float = 1.0
    alternatives: tuple[list[tuple[int, float]], ...] = ()


class Event(NamedTuple):
    """A piece of text that row `row` of the requests has just got; the last one carries the completion.

    The pieces of a row add up to its text; only after `repetition` the completion is shorter than they are.
    """

    row: int
    text: str
    completion: Completion | None = None


@dataclass
class Row:
    """The state of one request while its batch runs; the server, whose rows come and go, holds them too."""

    index: int
    request: Request
    limit: int  # most tokens that it may generate
    ids: list[int] = field(default_factory=list)
    probabilities: list[float] = field(default_factory=list)
    alternatives: list[list[tuple[int, float]]] = field(default_factory=list)
    stop_probability: float = 1.0
    status: Status | None = None
    seconds: float = 0.0
    shown: int = 0  # tokens whose text has been yielded


class Engine:
    """Decodes requests with one model and its tokenizer; keeps no state between calls."""

    def __init__(self, model: VLM, tokenizer: Tokenizer, head: PatchHead | None = None) -> None:
        """With a `head`, greedy decoding of single views starts from its drafts: faster, the same text."""
        self.model = model
        self.tokenizer = tokenizer
        self.head = head
        self.stop_ids = stop_ids(tokenizer)

    def generate(
        self,
        requests: Sequence[Request],
        sampling: SamplingConfig | None = None,
        *,
        max_batch: int = MAX_BATCH,
        first: int = 0,
    ) -> list[Completion]:
        """Complete all requests, at most `max_batch` at a time; the answers come in request order.

        `first` is the number of the first request among all that the caller has: request i samples by the
        numbers of (seed, first + i).

        Raises:
            UsageError: a request cannot be run: its views and `<|image|>` ids do not match, it is longer than
                the model's sequence, or `max_tokens` is not positive. The message names its index.
        """
        completions = {}
        for batch in self._batches(requests, max_batch):
            for rows in self._run(batch, sampling or SamplingConfig(), first):
                completions.update({row.index: self.complete(row) for row in rows if row.status})
        return [completions[index] for index in range(len(requests))]

    def stream(
        self,
        requests: Request | Sequence[Request],
        sampling: SamplingConfig | None = None,
        *,
        max_batch: int = MAX_BATCH,
        first: int = 0,
    ) -> Iterator[Event]:
        """As `generate`, but yields the text of every row piece by piece, never cut inside a character."""
        requests = (requests,) if isinstance(requests, Request) else requests
        for batch in self._batches(requests, max_batch):
            decoders = {row.index: codecs.getincrementaldecoder("utf-8")("replace") for row in batch}
            for rows in self._run(batch, sampling or SamplingConfig(), first):
                for row in rows:
                    yield from self._events(row, decoders[row.index])

    def _batches(self, requests: Sequence[Request], max_batch: int) -> list[list[Row]]:
        """Check every request before the first one costs anything, then cut them into batches."""
        if max_batch < 1:
            raise UsageError(f"max_batch must be at least 1, found {max_batch}")
        rows = self.start(requests)
        return [rows[start : start + max_batch] for start in range(0, len(rows), max_batch)]

    def start(self, requests: Sequence[Request]) -> list[Row]:
        """The rows of requests that can be run.

        Raises:
            UsageError: as `generate`.
        """
        return [Row(i, request, self._limit(i, request)) for i, request in enumerate(requests)]

    def _limit(self, index: int, request: Request) -> int:
        """The most tokens a request may generate; refuses what cannot be run."""
        wanted = request.ids.count(self.model.image_id)
        found = sum(count_picture_tokens(as_picture(view)) for view in request.views)
        # Checked row by row: in the sum over a batch, a surplus in one row could hide a lack in another.
        if wanted != found:
            raise UsageError(f"request {index} holds {wanted} <|image|> ids but {found} vision tokens")
        # The last generated token is never fed back, so it needs no position.
        room = self.model.config.gpt.sequence_len - len(request.ids) + 1
        if not request.ids or room < 1:
            raise UsageError(
                f"request {index} has a prompt of {len(request.ids)} tokens; the model takes 1 to "
                f"{self.model.config.gpt.sequence_len}"
            )
        limit = room if request.max_tokens is None else request.max_tokens
        if limit < 1:
            raise UsageError(f"request {index}: max_tokens must be at least 1, found {limit}")
        return min(limit, room)

    def _run(self, rows: list[Row], sampling: SamplingConfig, first: int) -> Iterator[list[Row]]:
        """Decode one batch; yields, step by step, the rows that have got a token or have ended."""
        # What is drawn, or forbidden by what came before, cannot be judged for many tokens at once.
        plain = sampling.temperature or sampling.no_repeat_ngram or sampling.alternatives
        drafted = self.head is not None and not plain
        yield from self._run_drafted(rows, sampling) if drafted else self._run_plain(rows, sampling, first)

    def _run_plain(self, rows: list[Row], sampling: SamplingConfig, first: int) -> Iterator[list[Row]]:
        """`_run`, one token per row and step."""
        started = time.perf_counter()
        numbers = [first + row.index for row in rows]
        steps = max(row.limit for row in rows)
        never = never_generated(self.model, self.tokenizer, may_stop=not sampling.ignore_stop)
        sampler = Sampler(sampling, numbers, steps, never)
        cache, logits_BV = self.prefill(rows)
        while rows:
            tokens, probabilities = sampler.pick(logits_BV)
            note_alternatives(rows, logits_BV, sampling.alternatives)
            seconds = time.perf_counter() - started
            for row, token, probability in zip(rows, tokens, probabilities):
                self.take(row, token, probability, sampling)
                row.seconds = seconds
            yield rows
            going = [i for i, row in enumerate(rows) if row.status is None]
            if len(going) < len(rows):
                rows, tokens = [rows[i] for i in going], [tokens[i] for i in going]
                sampler.keep_rows(going)
                with torch.inference_mode():  # the dtype in which the cache was made
                    cache.keep_rows(going)
            if rows:
                logits_BV = self.advance(cache, tokens)

    def _run_drafted(self, rows: list[Row], sampling: SamplingConfig) -> Iterator[list[Row]]:
        """`_run` by drafts: in every step the model judges what is left of each row's draft."""
        started = time.perf_counter()
        never = never_generated(self.model, self.tokenizer, may_stop=not sampling.ignore_stop)
        vision, drafts = self.encode_with_drafts(rows)
        inputs = [list(row.request.ids) for row in rows]
        room = max(len(row.request.ids) + row.limit for row in rows)
        cache = self.model.new_cache(batch=len(rows), capacity=room)
        while rows:
            proposals = [draft.proposal(row.limit - len(row.ids) - 1) for row, draft in zip(rows, drafts)]
            judged = self._judge(cache, inputs, proposals, vision, never)
            vision = None
            seconds = time.perf_counter() - started
            for row, draft, proposal, (picks, probabilities, _) in zip(rows, drafts, proposals, judged):
                accepted = agreeing(proposal, picks)
                for token, probability in zip(picks[: accepted + 1], probabilities):
                    if row.status is None:
                        self.take(row, token, probability, sampling)
                draft.judged(proposal, picks, probabilities, accepted)
                row.seconds = seconds
            yield rows
            going = [i for i, row in enumerate(rows) if row.status is None]
            if len(going) < len(rows):
                rows, drafts = [rows[i] for i in going], [drafts[i] for i in going]
                with torch.inference_mode():
                    cache.keep_rows(going)
            # The cache holds a row's prompt and all that it said but its last token, which is fed now.
            lengths = [len(row.request.ids) + len(row.ids) - 1 for row in rows]
            cache.lengths = torch.tensor(lengths, device=self.model.device)
            inputs = [row.ids[-1:] for row in rows]

    @torch.inference_mode()
    def encode_with_drafts(self, rows: Sequence[Row]) -> tuple[Tensor | None, list[Draft]]:
        """Vision tokens (N, C) of all rows, and their drafts.

        A draft is empty where the engine has no head, and where a row has not one picture of a single view.
        """
        pictures = [as_picture(view) for row in rows for view in row.request.views]
        if self.head is None:
            return encode_pictures(self.model, pictures), [Draft([]) for _ in rows]
        vision, texts = encode_and_draft(self.model, pictures, self.head)
        drafts, at = [], 0
        for row in rows:
            own = texts[at : at + len(row.request.views)]
            at += len(own)
            drafts.append(Draft(self.tokenizer.encode(own[0]) if len(own) == 1 else []))
        return vision, drafts

    def _judge(
        self,
        cache: KVCache,
        inputs: list[list[int]],
        proposals: list[list[int]],
        vision: Tensor | None,
        never: Tensor,
    ) -> list[Judged]:
        return judge(self.model, cache, inputs, proposals, vision, never)

    def take(self, row: Row, token: int, probability: float, sampling: SamplingConfig) -> None:
        """Add a token to its row and see whether the row has ended."""
        if token in self.stop_ids:
            row.status, row.stop_probability = "ok", probability
            return
        row.ids.append(token)
        row.probabilities.append(probability)
        if sampling.stop_loops and len(row.ids) % LOOP_CHECK == 0 and self._loop(row):
            row.status = "repetition"
        elif len(row.ids) == row.limit:
            row.status = "truncated"

    def _loop(self, row: Row) -> Loop | None:
        return stopped_by_loop(row.ids, self.tokenizer.decode)

    @torch.inference_mode()
    def prefill(self, rows: list[Row]) -> tuple[KVCache, Tensor]:
        """Run all prompts at once: the filled cache, and the logits (B, V) behind each prompt."""
        model, device = self.model, self.model.device
        lengths = torch.tensor([len(row.request.ids) for row in rows])
        # The padding may be any id: attention is causal, and `cache.lengths` hides what stands behind.
        ids_BT = torch.full((len(rows), int(lengths.max())), self.tokenizer.bos_id)
        for ids_T, row in zip(ids_BT, rows):
            ids_T[: len(row.request.ids)] = torch.tensor(row.request.ids)
        lengths, ids_BT = lengths.to(device), ids_BT.to(device)
        vision = encode_pictures(model, [as_picture(view) for row in rows for view in row.request.views])
        # The last generated token is never fed back, hence the - 1.
        capacity = max(len(row.request.ids) + row.limit - 1 for row in rows)
        cache = model.new_cache(batch=len(rows), capacity=capacity)
        hidden_BTC = model.gpt(model.embed(ids_BT, vision), cache)
        cache.lengths = lengths
        last_BC = hidden_BTC[torch.arange(len(rows), device=device), lengths - 1]
        return cache, model.logits(last_BC)

    @torch.inference_mode()
    def advance(self, cache: KVCache, tokens: list[int]) -> Tensor:
        """Feed one token per row: the logits (B, V) behind it."""
        ids_B1 = torch.tensor(tokens, device=self.model.device)[:, None]
        hidden_B1C = self.model.gpt(self.model.embed(ids_B1), cache)
        cache.lengths += 1
        return self.model.logits(hidden_B1C[:, 0])

    def complete(self, row: Row) -> Completion:
        """The finished row as its caller sees it."""
        loop = self._loop(row) if row.status == "repetition" else None
        surplus = loop.surplus if loop else 0
        ids = row.ids[: len(row.ids) - surplus]
        probabilities = row.probabilities[: len(ids)]
        vision = row.request.ids.count(self.model.image_id)
        text, places = self._text_of(ids)
        return Completion(
            ids=tuple(ids),
            text=text,
            status=row.status or "truncated",
            confidence=sum(probabilities) / len(ids) if ids else None,
            tokens=TokenCount(vision, len(row.request.ids) - vision, len(ids)),
            seconds=row.seconds,
            probabilities=tuple(probabilities),
            places=places,
            stop_probability=row.stop_probability,
            alternatives=tuple(row.alternatives[: len(ids)]),
        )

    def _text_of(self, ids: list[int]) -> tuple[str, tuple[int, ...]]:
        """The text of a row, and for each token the place of its first character in it."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        text, places = "", []
        for token in ids:
            places.append(len(text))
            text += decoder.decode(self.tokenizer.decode_bytes([token]))
        return text + decoder.decode(b"", final=True), tuple(places)

    def _events(self, row: Row, decoder: codecs.IncrementalDecoder) -> Iterator[Event]:
        """The new piece of a row's text, if its bytes make whole characters; at the end the completion."""
        new = self.tokenizer.decode_bytes(row.ids[row.shown :])
        row.shown = len(row.ids)
        piece = decoder.decode(new, final=row.status is not None)
        if row.status is not None:
            yield Event(row.index, piece, self.complete(row))
        elif piece:
            yield Event(row.index, piece)


def note_alternatives(rows: Sequence[Row], logits_BV: Tensor, count: int) -> None:
    """Add to each row the `count` likeliest tokens of its next place."""
    if count:
        for row, found in zip(rows, likeliest(logits_BV, count), strict=True):
            row.alternatives.append(found)


def stop_ids(tokenizer: Tokenizer) -> frozenset[int]:
    """The ids that end a row."""
    return frozenset((tokenizer.assistant_end_id, tokenizer.bos_id))


def never_generated(model: VLM, tokenizer: Tokenizer, may_stop: bool = True) -> Tensor:
    """(V,) bool: the special ids, which are no text; those that end a row stay possible if it `may_stop`."""
    never = torch.zeros(model.config.gpt.vocab_size, dtype=torch.bool)
    allowed = stop_ids(tokenizer) if may_stop else frozenset()
    never[[token for token in tokenizer.special_ids() if token not in allowed]] = True
    return never.to(model.device)
