"""POST /v1/chat/completions: checks what a request of OpenAI's interface asks for."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from nanoocr.inference.sampling import SamplingConfig
from nanoocr.serve.errors import bad, unknown_model

WORKING = ("model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens")
SAMPLING = ("temperature", "top_p", "seed", "stop", "n", "logprobs", "top_logprobs")
REFUSED = ("frequency_penalty", "presence_penalty", "response_format", "store")  # but for one value each
KNOWN = frozenset((*WORKING, *SAMPLING, *REFUSED, "user", "metadata"))
# The only values of these that this server can honour; others are refused.
ONLY: dict[str, Any] = {
    "n": 1,
    "frequency_penalty": 0,
    "presence_penalty": 0,
    "response_format": {"type": "text"},
    "store": False,
}
MOST_WHOLE = 2**31 - 1
MOST_ALTERNATIVES = 20  # OpenAI's own bound of top_logprobs
PIECE = 2**20  # characters of base64 per call of the decoder, which blocks all other threads while it runs


@dataclass(frozen=True)
class Rules:
    """What a server allows: its model, its one question (None: any), and whether it fetches addresses.

    With `any_prompt` a text that the model does not see is accepted, and the answer names it in `warnings`.
    """

    model: str
    question: str | None = None
    any_prompt: bool = False
    fetches: bool = False


class Address(NamedTuple):
    """The address of a picture, and the part of the request that names it, for error messages."""

    url: str
    where: str


@dataclass(frozen=True)
class ChatRequest:
    """A checked request: documents in order, and one question that is asked about each."""

    documents: tuple[bytes | Address, ...]
    prompt: str | None
    sampling: SamplingConfig
    max_tokens: int | None
    stop: tuple[str, ...]
    stream: bool
    usage: bool
    logprobs: bool = False
    warnings: tuple[str, ...] = ()


def parse_chat(body: dict[str, Any], rules: Rules) -> ChatRequest:
    """Parse and check a client's request.

    Raises:
        ApiError: an unknown model or field, a wrong type, a value that cannot be honoured, no picture, or a
            text that the model would not see.
    """
    _refuse_unsupported(body)
    _check_model(body.get("model"), rules.model)
    content, unseen = _last_message(body.get("messages"))
    documents, prompt = _contents(content, rules)
    options = {} if body.get("stream_options") is None else body["stream_options"]
    if not isinstance(options, dict) or set(options) - {"include_usage"}:
        raise bad("stream_options takes include_usage alone", "stream_options")
    most = [_whole(body, name, 1) for name in ("max_completion_tokens", "max_tokens")]
    return ChatRequest(
        documents=tuple(documents),
        prompt=prompt or None,
        sampling=_sampling(body),
        max_tokens=most[0] or most[1],
        stop=_stops(body.get("stop")),
        stream=_yes(body, "stream"),
        usage=_yes(options, "include_usage", "stream_options.include_usage"),
        logprobs=_yes(body, "logprobs"),
        warnings=tuple(_unseen_texts(prompt, unseen, rules)),
    )


def _refuse_unsupported(body: dict[str, Any]) -> None:
    # Null asks for nothing. Some clients write each field of the interface, whether it is set or not.
    if unknown := sorted(name for name in set(body) - KNOWN if body[name] is not None):
        raise bad(f"the field {unknown[0]!r} is not supported here", unknown[0], "unsupported_parameter")
    for name, value in ONLY.items():
        found = body.get(name)
        # In Python True equals 1 and False equals 0, so booleans are told apart first.
        if found is not None and (found != value or isinstance(found, bool) != isinstance(value, bool)):
            raise bad(f"{name}={found!r} is not supported here, only {value!r}", name, "unsupported_value")


def _check_model(asked: Any, model: str) -> None:
    if not isinstance(asked, str):
        raise bad(f"model must be a string, as in {model!r}", "model")
    if asked != model:
        raise unknown_model(asked, model)


# ---------------------------------------------------------------------------------------------------
# Numbers and words


def _sampling(body: dict[str, Any]) -> SamplingConfig:
    alternatives = _whole(body, "top_logprobs", 0) or 0
    if alternatives > MOST_ALTERNATIVES:
        raise bad(f"top_logprobs is at most {MOST_ALTERNATIVES}", "top_logprobs")
    if alternatives and not _yes(body, "logprobs"):
        raise bad("top_logprobs needs logprobs=true", "top_logprobs")
    return SamplingConfig(
        temperature=_number(body, "temperature", 2, 0.0),
        # OpenAI allows top_p=0, which leaves only the likeliest token.
        top_p=max(_number(body, "top_p", 1, 1.0), 1e-9),
        seed=_whole(body, "seed", 0) or 0,
        alternatives=alternatives,
    )


def _yes(values: Mapping[str, Any], name: str, param: str | None = None) -> bool:
    value = values.get(name)
    if value is not None and not isinstance(value, bool):
        raise bad(f"{param or name} must be true or false", param or name)
    return bool(value)


def _whole(body: dict[str, Any], name: str, least: int) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= MOST_WHOLE:
        raise bad(f"{name} must be a whole number from {least} to {MOST_WHOLE}", name)
    return value


def _number(body: dict[str, Any], name: str, most: int, default: float) -> float:
    """A number from 0 to `most`; Python's JSON also accepts NaN and Infinity, which are refused."""
    value = body.get(name)
    value = default if value is None else value
    right = isinstance(value, int | float) and not isinstance(value, bool)
    if not right or not 0 <= value <= most:  # NaN fails the comparison too
        raise bad(f"{name} must be a number from 0 to {most}", name)
    return float(value)


def _stops(value: Any) -> tuple[str, ...]:
    stops = [value] if isinstance(value, str) else [] if value is None else value
    if not isinstance(stops, list) or len(stops) > 4 or not all(isinstance(s, str) and s for s in stops):
        raise bad("stop must be a string or a list of at most four, none of them empty", "stop")
    return tuple(stops)


# ---------------------------------------------------------------------------------------------------
# Messages


def _last_message(messages: Any) -> tuple[list[Any], list[str]]:
    """The parts of the user's last message, and the roles of all messages that the model does not see."""
    if not isinstance(messages, list) or not all(isinstance(one, dict) for one in messages):
        raise bad("messages must be a list of objects", "messages")
    own = [place for place, one in enumerate(messages) if one.get("role") == "user"]
    if not own:
        raise bad("messages holds none of role user: send the picture in one", "messages")
    content = messages[own[-1]].get("content")
    parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
    return parts, [str(one.get("role")) for place, one in enumerate(messages) if place != own[-1]]


def _contents(parts: list[Any], rules: Rules) -> tuple[list[bytes | Address], str]:
    """The documents and the text of a message."""
    documents: list[bytes | Address] = []
    texts = []
    for place, part in enumerate(parts):
        where = f"messages.content[{place}]"
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text" and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif kind == "image_url":
            inner = part.get("image_url")
            url = inner.get("url") if isinstance(inner, dict) else inner
            documents.append(_from_url(url, where, rules.fetches))
        elif kind == "file":
            inner = part.get("file")
            if isinstance(inner, dict) and inner.get("file_id") is not None:
                raise bad(f"{where}: this server keeps no files: send file_data instead of file_id", where)
            url = inner.get("file_data") if isinstance(inner, dict) else None
            documents.append(_from_url(url, where, rules.fetches))
        else:
            raise bad(f"{where}: the parts that can be read are text, image_url and file", where)
    if not documents:
        raise bad("the last message of the user holds no picture: send it as an image_url part", "messages")
    return documents, "\n".join(texts).strip()


def _unseen_texts(prompt: str, unseen: list[str], rules: Rules) -> list[str]:
    """A sentence for each text that the model does not see, where the server's rules let that pass.

    Raises:
        ApiError: they do not.
    """
    said = []
    if rules.question is not None and prompt and _plain(prompt) != _plain(rules.question):
        said.append(f"this model reads lines and knows one question, {rules.question!r}: send it, or no text")
    if unseen:
        said.append(f"the model sees the last message of the user alone, and none of role {unseen[0]!r}")
    if said and not rules.any_prompt:
        message = f"{said[0]} (a server with --any_prompt reads all the same)"
        raise bad(message, "messages", "unsupported_prompt")
    return said


def _plain(text: str) -> str:
    return " ".join(text.casefold().split()).rstrip(".!")


def _from_url(url: Any, where: str, fetches: bool) -> bytes | Address:
    """The bytes of a base64 data URL, or an address where the server fetches such."""
    if not isinstance(url, str):
        raise bad(f"{where}: a data URL is missing, as in data:image/png;base64,...", where)
    if url[:8].lower().startswith(("http://", "https://")):
        if fetches:
            return Address(url, where)
        message = f"{where}: this server fetches no addresses: send the picture as a data URL"
        raise bad(message, where, "fetch_not_allowed")
    start = url[:200].find(",") + 1  # not partition, which copies the whole picture
    head = url[:start].lower()
    if not head.startswith("data:") or not head.endswith(";base64,"):
        raise bad(f"{where}: a data URL looks like data:image/png;base64,...", where, "invalid_data_url")
    try:
        return decode_base64(url, start)
    except (binascii.Error, ValueError):
        message = f"{where}: the base64 of the data URL is damaged: send all of it, with its = at the end"
        raise bad(message, where, "invalid_base64") from None


def decode_base64(text: str, start: int = 0) -> bytes:
    """Decode the base64 in `text` from index `start` on; blanks and line ends are skipped.

    Raises:
        ValueError: the text is not base64.
    """
    out, rest = bytearray(), ""
    for at in range(start, len(text), PIECE):
        rest += "".join(text[at : at + PIECE].split())
        if "=" in rest and at + PIECE < len(text):  # the padding at the end may be split between two pieces
            continue
        ready = len(rest) if at + PIECE >= len(text) else len(rest) // 4 * 4
        out += base64.b64decode(rest[:ready], validate=True)
        rest = rest[ready:]
    out += base64.b64decode(rest, validate=True)
    return bytes(out)
