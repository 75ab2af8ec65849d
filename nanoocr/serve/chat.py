"""POST /v1/chat/completions: what a request of OpenAI's interface asks for, and its answer."""

from __future__ import annotations

import base64
import binascii
import math
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from nanoocr.config import PROMPT
from nanoocr.inference.page import Page
from nanoocr.inference.sampling import SamplingConfig
from nanoocr.serve.errors import ApiError, bad

WORKING = ("model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens")
SAMPLING = ("temperature", "top_p", "seed", "stop", "n", "logprobs", "frequency_penalty", "presence_penalty")
KNOWN = frozenset((*WORKING, *SAMPLING, "response_format", "store", "user", "metadata"))
# The only values of these that this server can honour; others are refused.
ONLY: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "top_p": (1,),
    "logprobs": (False,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "response_format": ({"type": "text"},),
    "store": (False,),
}


@dataclass(frozen=True)
class ChatRequest:
    """What is asked: documents in order, one question about each of them."""

    documents: tuple[bytes, ...]
    prompt: str
    sampling: SamplingConfig
    max_tokens: int | None
    stop: tuple[str, ...]
    stream: bool
    usage: bool


def parse_chat(body: dict[str, Any], model: str) -> ChatRequest:
    """A request of the client, checked.

    Raises:
        ApiError: an unknown model or field, a wrong type, a value that cannot be honoured, no picture.
    """
    _refuse_unsupported(body)
    asked = body.get("model")
    if not isinstance(asked, str):
        raise bad(f"model must be a string, as in {model!r}", "model")
    if asked != model:
        raise ApiError(
            404, f"there is no model {asked!r} here, only {model!r}", code="model_not_found", param="model"
        )
    documents, prompt = _contents(body.get("messages"))
    options = body.get("stream_options") or {}
    if not isinstance(options, dict) or set(options) - {"include_usage", "include_obfuscation"}:
        raise bad("stream_options takes include_usage alone", "stream_options")
    most = [_whole(body, name, 1) for name in ("max_completion_tokens", "max_tokens")]
    stream = body.get("stream") or False
    if not isinstance(stream, bool):
        raise bad("stream must be true or false", "stream")
    return ChatRequest(
        documents=tuple(documents),
        prompt=prompt or PROMPT,
        sampling=SamplingConfig(temperature=_temperature(body), seed=_whole(body, "seed", 0) or 0),
        max_tokens=most[0] or most[1],
        stop=_stops(body.get("stop")),
        stream=stream,
        usage=bool(options.get("include_usage")),
    )


def _refuse_unsupported(body: dict[str, Any]) -> None:
    if unknown := sorted(set(body) - KNOWN):
        raise bad(f"the field {unknown[0]!r} is not supported here", unknown[0], "unsupported_parameter")
    for name, values in ONLY.items():
        if body.get(name) is not None and body[name] not in values:
            raise bad(
                f"{name}={body[name]!r} is not supported here, only {values[0]!r}",
                name,
                "unsupported_value",
            )


def _whole(body: dict[str, Any], name: str, least: int) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value < 2**31:
        raise bad(f"{name} must be a whole number from {least}", name)
    return value


def _temperature(body: dict[str, Any]) -> float:
    value = body.get("temperature")
    value = 0 if value is None else value
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 2:
        raise bad("temperature must be a number from 0 to 2", "temperature")
    assert math.isfinite(value)
    return float(value)


def _stops(value: Any) -> tuple[str, ...]:
    stops = [value] if isinstance(value, str) else value or []
    if not isinstance(stops, list) or len(stops) > 4 or not all(isinstance(s, str) and s for s in stops):
        raise bad("stop must be a string or a list of at most four", "stop")
    return tuple(stops)


def _contents(messages: Any) -> tuple[list[bytes], str]:
    """The documents and the text of the user's last message; the model sees no earlier turns."""
    if not isinstance(messages, list) or not all(isinstance(one, dict) for one in messages):
        raise bad("messages must be a list of objects", "messages")
    own = [one.get("content") for one in messages if one.get("role") == "user"]
    if not own:
        raise bad("messages holds none of role user", "messages")
    content = own[-1] if isinstance(own[-1], list) else [{"type": "text", "text": own[-1]}]
    documents, texts = [], []
    for place, part in enumerate(content):
        where = f"messages.content[{place}]"
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text" and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif kind == "image_url":
            inner = part.get("image_url")
            documents.append(_from_url(inner.get("url") if isinstance(inner, dict) else inner, where))
        elif kind == "file":
            inner = part.get("file")
            documents.append(_from_url(inner.get("file_data") if isinstance(inner, dict) else None, where))
        else:
            raise bad(f"{where}: the parts that can be read are text, image_url and file", where)
    if not documents:
        raise bad("the last message of the user holds no picture: send it as an image_url part", "messages")
    return documents, "\n".join(texts).strip()


def _from_url(url: Any, where: str) -> bytes:
    """The bytes of a base64 data URL."""
    if not isinstance(url, str):
        raise bad(f"{where}: a data URL is missing", where)
    if url.startswith(("http://", "https://")):
        raise bad(
            f"{where}: this server fetches no addresses: send the picture as a data URL",
            where,
            "fetch_not_allowed",
        )
    head, comma, content = url.partition(",")
    if not comma or not head.startswith("data:") or not head.endswith(";base64"):
        raise bad(f"{where}: a data URL looks like data:image/png;base64,...", where, "invalid_data_url")
    try:
        return base64.b64decode("".join(content.split()), validate=True)
    except (binascii.Error, ValueError):
        raise bad(f"{where}: the base64 of the data URL is damaged", where, "invalid_base64") from None


# ---------------------------------------------------------------------------------------------------
# Answers


@dataclass(frozen=True)
class Answer:
    """The text of all pages of a request, and how it ended."""

    text: str
    finish_reason: str
    usage: dict[str, Any]


def make_answer(pages: Sequence[Page], stop: Sequence[str]) -> Answer:
    """Pages of a request as one answer; a stop string ends it before itself."""
    text = "\n\n".join(page.text for page in pages)
    cut = min((place for one in stop if (place := text.find(one)) >= 0), default=len(text))
    whole = cut < len(text) or all(page.status == "ok" for page in pages)
    return Answer(text[:cut], "stop" if whole else "length", usage_of(pages))


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


def completion(answer: Answer, model: str) -> dict[str, Any]:
    """The object chat.completion."""
    message = {"role": "assistant", "content": answer.text, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": answer.finish_reason}
    return {**_head("chat.completion", model), "choices": [choice], "usage": answer.usage}


def chunks(answer: Answer, model: str, usage: bool) -> Iterator[dict[str, Any]]:
    """The objects chat.completion.chunk: who speaks, the text line by line, the end, and usage if asked."""
    head = _head("chat.completion.chunk", model)

    def chunk(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        return {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}

    yield chunk({"role": "assistant", "content": ""})
    # litellm ends a stream of a hundred equal pieces, so that equal lines go together.
    for piece in joined_pieces(answer.text):
        yield chunk({"content": piece})
    yield chunk({}, answer.finish_reason)
    if usage:
        yield {**head, "choices": [], "usage": answer.usage}


def joined_pieces(text: str) -> Iterator[str]:
    """Lines with their ends; a line that equals the one before goes with it."""
    lines = text.splitlines(keepends=True)
    start = 0
    for place in range(1, len(lines) + 1):
        if place == len(lines) or lines[place] != lines[start]:
            yield "".join(lines[start:place])
            start = place


def _head(kind: str, model: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": kind,
        "created": int(time.time()),
        "model": model,
    }
