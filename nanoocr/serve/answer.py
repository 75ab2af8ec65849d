"""The answer of /v1/chat/completions: text, how it ended, usage, and each token's probability.

completions of strips -> tokens, each with its piece of the text -> cut by stop and max_tokens -> JSON
"""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from nanoocr.bpe import Tokenizer
from nanoocr.inference.engine import Completion
from nanoocr.inference.page import Page
from nanoocr.serve.chat import ChatRequest
from nanoocr.serve.service import Read

LEAST_LOGPROB = -9999.0  # OpenAI's word for a probability of 0, whose logarithm JSON cannot say


@dataclass(frozen=True)
class Said:
    """A token of the answer: its piece of the text, its probability, and the likeliest in its place."""

    text: str
    probability: float
    alternatives: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Answer:
    """The tokens of all pages of a request, and how it ended. Their pieces make up the text."""

    said: tuple[Said, ...]
    finish_reason: str
    usage: dict[str, Any]
    logprobs: bool
    warnings: tuple[str, ...]

    @property
    def text(self) -> str:
        """The whole text of the answer."""
        return "".join(one.text for one in self.said)


def make_answer(reads: Sequence[Read], asked: ChatRequest) -> Answer:
    """The pages of a request as one answer, cut before a stop string and behind max_tokens."""
    pages = [one.page for one in reads]
    text = "\n\n".join(page.text for page in pages)
    said = place_tokens(text, [completion for one in reads for completion in one.completions])
    usage = usage_of(pages)
    reason = "stop" if all(page.status in ("ok", "error") for page in pages) else "length"
    most = asked.max_tokens
    if most is not None and most < usage["completion_tokens"]:
        # A strip has no more tokens than that, yet all strips together may have.
        usage = {**usage, "completion_tokens": most, "total_tokens": usage["prompt_tokens"] + most}
    if most is not None and most < len(said):
        said, reason = said[:most], "length"
        text = "".join(one.text for one in said)
    ends = [place for one in asked.stop if (place := text.find(one)) >= 0]
    if ends:
        said, reason = cut(said, min(ends)), "stop"
    broken = [f"page {page.page} of {page.file}: {page.error}" for page in pages if page.error]
    return Answer(tuple(said), reason, usage, asked.logprobs, (*asked.warnings, *broken))


def place_tokens(text: str, completions: Sequence[Completion]) -> list[Said]:
    """`text` shared out among the tokens that gave it.

    The pages hold the strips' words in order, with blanks and ends of lines of their own between them. A
    token gets what it says if that stands here, else as many letters as it says and what is before them.
    """
    said, at = [], 0
    for completion in completions:
        ends = (*completion.places[1:], len(completion.text))
        for i, (start, end) in enumerate(zip(completion.places, ends, strict=True)):
            own = completion.text[start:end]
            next_at = at + len(own) if text.startswith(own, at) else _behind_letters(text, at, own)
            told = completion.alternatives[i] if completion.alternatives else ()
            said.append(Said(text[at:next_at], completion.probabilities[i], tuple(told)))
            at = next_at
    if at < len(text):
        said.append(Said(text[at:], 1.0))  # ends of lines between the last pages, where these hold nothing
    return said


def _behind_letters(text: str, at: int, own: str) -> int:
    """The place in `text` behind as many letters as `own` has."""
    for _ in range(len(own) - sum(map(str.isspace, own))):
        while at < len(text) and text[at].isspace():
            at += 1
        at += 1
    return min(at, len(text))


def cut(said: Sequence[Said], end: int) -> list[Said]:
    """The tokens of the first `end` characters, the last one cut."""
    kept, at = [], 0
    for one in said:
        if at >= end:
            break
        kept.append(replace(one, text=one.text[: end - at]))
        at += len(one.text)
    return kept


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


def completion(answer: Answer, model: str, tokenizer: Tokenizer) -> dict[str, Any]:
    """The object chat.completion."""
    message = {"role": "assistant", "content": answer.text, "refusal": None}
    choice = {
        "index": 0,
        "message": message,
        "logprobs": _logprobs(answer, answer.said, tokenizer),
        "finish_reason": answer.finish_reason,
    }
    return {**_head("chat.completion", model, answer), "choices": [choice], "usage": answer.usage}


def chunks(answer: Answer, model: str, usage: bool, tokenizer: Tokenizer) -> Iterator[dict[str, Any]]:
    """The objects chat.completion.chunk: who speaks, the text line by line, the end, and usage if asked."""
    head = _head("chat.completion.chunk", model, answer)

    def chunk(delta: dict[str, Any], reason: str | None = None, said: Sequence[Said] = ()) -> dict[str, Any]:
        logprobs = _logprobs(answer, said, tokenizer) if said else None
        return {
            **head,
            "choices": [{"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": reason}],
        }

    yield chunk({"role": "assistant", "content": ""})
    for said in joined_lines(lines_of(answer.said)):
        yield chunk({"content": "".join(one.text for one in said)}, said=said)
    yield chunk({}, answer.finish_reason)
    if usage:
        yield {**head, "choices": [], "usage": answer.usage}


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


def joined_lines(lines: Iterator[list[Said]]) -> Iterator[list[Said]]:
    """Equal lines go together: litellm ends a stream of a hundred equal pieces."""
    for _, equal in groupby(lines, key=lambda line: "".join(one.text for one in line)):
        yield [one for line in equal for one in line]


def _logprobs(answer: Answer, said: Sequence[Said], tokenizer: Tokenizer) -> dict[str, Any] | None:
    if not answer.logprobs:
        return None
    content = []
    for one in said:
        others = [
            _token(token.decode("utf-8", "replace"), token, probability)
            for token, probability in ((tokenizer.decode_bytes([i]), p) for i, p in one.alternatives)
        ]
        content.append({**_token(one.text, one.text.encode(), one.probability), "top_logprobs": others})
    return {"content": content, "refusal": None}


def _token(text: str, content: bytes, probability: float) -> dict[str, Any]:
    sure = max(math.log(probability), LEAST_LOGPROB) if probability > 0 else LEAST_LOGPROB
    return {"token": text, "logprob": round(sure, 6), "bytes": list(content)}


def _head(kind: str, model: str, answer: Answer) -> dict[str, Any]:
    head = {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": kind,
        "created": int(time.time()),
        "model": model,
    }
    return {**head, "warnings": list(answer.warnings)} if answer.warnings else head
