"""The answer of /v1/chat/completions: text, how it ended, usage, and each token's probability.

text of lines or pages, completions of strips -> Speech: tokens, each with its piece of the text, cut by stop
and max_tokens -> JSON. A stream and a whole answer go through the same Speech, so that they say the same.
"""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from nanoocr.bpe import Tokenizer
from nanoocr.inference.engine import Completion
from nanoocr.inference.page import Page
from nanoocr.serve.chat import ChatRequest

LEAST_LOGPROB = -9999.0  # stands for the logarithm of 0, as at OpenAI, since JSON has no minus infinity


@dataclass(frozen=True)
class Said:
    """A token of the answer: its piece of the text, its probability, and the likeliest at its place.

    Of the piece, `before` is what the page has put before what the token `id` says; id -1 is no token.
    """

    text: str
    probability: float
    alternatives: tuple[tuple[int, float], ...] = ()
    id: int = -1
    before: str = ""


@dataclass
class Speech:
    """The tokens of an answer while it grows. `take` gives those that later text can no longer change."""

    stops: tuple[str, ...] = ()
    most: int | None = None  # tokens
    count: int = 0  # tokens that have come so far
    cut_short: bool = False  # the answer ended because it had more than `most`
    stopped: bool = False  # a stop string has come
    held: list[Said] = field(default_factory=list)  # tokens that `take` has not given yet
    before: str = ""  # line ends and blanks that wait for the next token

    @property
    def is_over(self) -> bool:
        """Whether nothing that is added would go out any more."""
        return self.stopped or self.cut_short

    def add(self, text: str, completions: Sequence[Completion]) -> None:
        """Append a text and the strips it was read from. A text without strips waits for the next token."""
        if not completions:
            self.before += text
            return
        said, self.before = place_tokens(self.before + text, completions)
        self._hold(said)

    def _hold(self, said: list[Said]) -> None:
        if self.most is not None and self.count + len(said) > self.most:
            self.cut_short = True
            said = said[: self.most - self.count]
        self.count += len(said)
        self.held += said

    def take(self, end: bool = False) -> list[Said]:
        """The tokens that may go out now: before a stop string, and none that may be part of one.

        At the `end` of the answer these are all that are left.
        """
        if end and self.before:
            self._hold([Said(self.before, 1.0)])  # line ends after which nothing follows
            self.before = ""
        if self.stopped:
            return []
        text = "".join(one.text for one in self.held)
        # The beginning of a stop string may have come: this many characters could still turn out to be one.
        sure = len(text) if end else len(text) - max(map(len, self.stops), default=1) + 1
        place = min((at for one in self.stops if (at := text.find(one)) >= 0), default=sure + 1)
        if place <= sure:
            self.stopped = True
            given, self.held = cut(self.held, place), []
            return given
        count = at = 0
        while count < len(self.held) and at + len(self.held[count].text) <= sure:
            at += len(self.held[count].text)
            count += 1
        given, self.held = self.held[:count], self.held[count:]
        return given


def place_tokens(text: str, completions: Sequence[Completion]) -> tuple[list[Said], str]:
    """Share `text` out among the tokens that gave it; also returns what is left after the last token.

    Pages hold the strips' words in order, with blanks and ends of lines of their own between them. A
    token gets what it says if that stands here, else as many letters as it says and what is before them.
    """
    said, at = [], 0
    for completion in completions:
        places = (*completion.places, len(completion.text))
        for i, (start, end) in enumerate(pairwise(places)):
            own = completion.text[start:end]
            next_at = at + len(own) if text.startswith(own, at) else _behind_letters(text, at, own)
            told = completion.alternatives[i] if completion.alternatives else ()
            piece = text[at:next_at]
            before = piece.removesuffix(own) if piece.endswith(own) else ""
            said.append(Said(piece, completion.probabilities[i], tuple(told), completion.ids[i], before))
            at = next_at
    return said, text[at:]


def _behind_letters(text: str, at: int, own: str) -> int:
    """The place in `text` after as many letters as `own` has."""
    for _ in range(len(own) - sum(map(str.isspace, own))):
        while at < len(text) and text[at].isspace():
            at += 1
        at += 1
    return min(at, len(text))


def cut(said: Sequence[Said], end: int) -> list[Said]:
    """The tokens of the first `end` characters; the last one is cut to fit."""
    kept, at = [], 0
    for one in said:
        if at >= end:
            break
        kept.append(replace(one, text=one.text[: end - at]))
        at += len(one.text)
    return kept


# ---------------------------------------------------------------------------------------------------
# The end of an answer


@dataclass(frozen=True)
class Ending:
    """How an answer ended, how many tokens it took, and the warnings for its reader."""

    finish_reason: str
    usage: dict[str, Any]
    warnings: tuple[str, ...]


def ending(pages: Sequence[Page], speech: Speech, asked: ChatRequest) -> Ending:
    """The end of an answer of which all has been taken."""
    usage, most = usage_of(pages), asked.max_tokens
    cut_short = speech.cut_short or any(page.status in ("truncated", "repetition") for page in pages)
    if most is not None and most < usage["completion_tokens"]:
        # The decoder limits each strip, but all strips of an answer together may exceed the limit.
        usage = {**usage, "completion_tokens": most, "total_tokens": usage["prompt_tokens"] + most}
    reason = "length" if cut_short and not speech.stopped else "stop"
    broken = [f"page {page.page} of {page.file}: {page.error}" for page in pages if page.error]
    return Ending(reason, usage, (*asked.warnings, *broken))


def usage_of(pages: Sequence[Page]) -> dict[str, Any]:
    """Tokens as OpenAI counts them; those of the pictures are part of the prompt."""
    vision = sum(page.tokens.vision for page in pages)
    prompt = vision + sum(page.tokens.prompt for page in pages)
    text = sum(page.tokens.text for page in pages)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": text,
        "total_tokens": prompt + text,
        "prompt_tokens_details": {"image_tokens": vision, "cached_tokens": 0},
    }


# ---------------------------------------------------------------------------------------------------
# JSON


@dataclass(frozen=True)
class Form:
    """What all objects of an answer share: id, time, model, and whether tokens and likely ones are told."""

    model: str
    tokenizer: Tokenizer
    logprobs: bool
    alternatives: bool = False
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    def completion(self, said: Sequence[Said], end: Ending) -> dict[str, Any]:
        """The object chat.completion."""
        text = "".join(one.text for one in said)
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": text, "refusal": None},
            "logprobs": self._logprobs(said),
            "finish_reason": end.finish_reason,
        }
        head = self._head("chat.completion", end.warnings)
        return {**head, "choices": [choice], "usage": end.usage}

    def chunk(
        self,
        delta: dict[str, Any],
        said: Sequence[Said] = (),
        reason: str | None = None,
        warnings: tuple[str, ...] = (),
    ) -> dict[str, Any]:
        """The object chat.completion.chunk."""
        logprobs = self._logprobs(said) if said else None
        choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
        return {**self._head("chat.completion.chunk", warnings), "choices": [choice]}

    def usage_chunk(self, end: Ending) -> dict[str, Any]:
        """The last object of a stream whose client wants the usage."""
        return {**self._head("chat.completion.chunk", end.warnings), "choices": [], "usage": end.usage}

    def _head(self, kind: str, warnings: tuple[str, ...]) -> dict[str, Any]:
        head = {"id": self.id, "object": kind, "created": self.created, "model": self.model}
        return {**head, "warnings": list(warnings)} if warnings else head

    def _logprobs(self, said: Sequence[Said]) -> dict[str, Any] | None:
        if not self.logprobs:
            return None
        content = []
        for one in said:
            # Line ends at the very end are no token of the decoder: nothing else was likely there.
            pairs = one.alternatives or (((one.id, one.probability),) if self.alternatives else ())
            likeliest = [self._alternative(one, i, p) for i, p in pairs]
            content.append(
                {**_token(one.text, one.text.encode(), one.probability), "top_logprobs": likeliest}
            )
        return {"content": content, "refusal": None}

    def _alternative(self, said: Said, token: int, probability: float) -> dict[str, Any]:
        """A likely token in the place of `said`, as it would stand in the text, after the same line end."""
        if token == said.id:
            # The very piece that was chosen, so that a client finds it among the likeliest.
            return _token(said.text, said.text.encode(), probability)
        content = said.before.encode() + self.tokenizer.decode_bytes([token])
        return _token(content.decode("utf-8", "replace"), content, probability)


def _token(text: str, content: bytes, probability: float) -> dict[str, Any]:
    sure = max(math.log(probability), LEAST_LOGPROB) if probability > 0 else LEAST_LOGPROB
    return {"token": text, "logprob": round(sure, 6), "bytes": list(content)}


# ---------------------------------------------------------------------------------------------------
# Pieces of a stream


def lines_of(said: Sequence[Said]) -> Iterator[list[Said]]:
    """The tokens of each line; a line begins with the token that holds the end of the one before."""
    line: list[Said] = []
    for one in said:
        if "\n" in one.text and line:
            yield line
            line = []
        line.append(one)
    if line:
        yield line


@dataclass
class Pieces:
    """Cuts an answer into lines, and joins lines that repeat the one before, so that no two pieces are equal.

    The client litellm breaks off a stream of a hundred equal pieces, such as the rows of an empty table.
    """

    last: str = ""
    equal: list[Said] = field(default_factory=list)

    def add(self, said: Sequence[Said]) -> Iterator[list[Said]]:
        """Take lines; returns the pieces that go out now."""
        for line in lines_of(said):
            text = "".join(one.text for one in line)
            if text == self.last:
                self.equal += line
                continue
            yield from self.rest()
            self.last = text
            yield line

    def rest(self) -> Iterator[list[Said]]:
        """The lines that are still kept back, as one last piece."""
        if self.equal:
            yield self.equal
            self.equal = []
