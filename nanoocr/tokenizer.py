"""From conversations to training sequences and prompts, in one chat format for all media.

Special tokens are never made from text. Only the renderer in this file places them, so a literal "<|bos|>" in
a user's text stays seven harmless characters. The tokenizer itself is in nanoocr/bpe.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from nanoocr.bpe import SPECIAL_TOKENS, Tokenizer
from nanoocr.errors import UsageError

# What a user's text may hold in place of a picture, sound or film, and the token that it becomes.
MEDIA_PLACEHOLDERS = {"<image>": "<|image|>", "<audio>": "<|audio|>", "<video>": "<|video|>"}

Conversation = Mapping[str, Any]  # {"messages": [{"role": ..., "content": ...}, ...]}


def render_conversation(
    conversation: Conversation,
    tokenizer: Tokenizer,
    *,
    image_token_counts: Sequence[int] = (),
    max_length: int | None = None,
) -> tuple[list[int], list[int]]:
    """Render a conversation as (ids, mask). Mask 1 means supervised: the assistant's words and its end token.

        {"messages": [{"role": "user", "content": "<image>\\nRead the text."},
                      {"role": "assistant", "content": "Hello"}]}

    A leading system message joins the first user message; then user and assistant alternate.
    User content is a string, in which "<image>" marks a picture, or a list of parts {"type": "text",
    "text": ...} and {"type": "image"}, in which text is literal. The i-th picture becomes
    image_token_counts[i] `<|image|>` ids. Assistant content is a string or a list of parts of type text,
    python (both supervised) or python_output (not supervised: a tool wrote it).
    Raises UsageError for any other form, a count that does not match, or more than `max_length` ids:
    nothing is ever cut. Source: nanochat's rendering, with pictures added.
    """
    parsed = _parsed(conversation)
    counts = _matched_counts(parsed, image_token_counts)
    ids, mask = [tokenizer.bos_id], [0]
    for role, parts in parsed:
        for token_ids, supervised in _render_message(role, parts, tokenizer, counts):
            ids += token_ids
            mask += [supervised] * len(token_ids)
    _check_length(len(ids), max_length)
    return ids, mask


def render_for_completion(
    conversation: Conversation,
    tokenizer: Tokenizer,
    *,
    image_token_counts: Sequence[int] = (),
    max_length: int | None = None,
) -> list[int]:
    """Render the prompt that makes the model answer the last user message: ids up to `<|assistant_start|>`.

    A final assistant message is left out. Raises UsageError as render_conversation does.
    """
    messages = _messages(conversation)
    if _field(messages, len(messages) - 1, "role") == "assistant":
        messages = messages[:-1]
    if not messages or _field(messages, len(messages) - 1, "role") != "user":
        raise UsageError("The conversation has no user message to answer at its end.")
    ids, _ = render_conversation({"messages": messages}, tokenizer, image_token_counts=image_token_counts)
    ids.append(tokenizer.assistant_start_id)
    _check_length(len(ids), max_length)
    return ids


# A message is (role, parts); a part is (type, text), and adjacent texts are joined.
Part = tuple[str, str]
Message = tuple[str, list[Part]]


def _messages(conversation: Conversation) -> list[Any]:
    messages = conversation.get("messages")
    if not isinstance(messages, (list, tuple)) or not messages:
        raise UsageError('A conversation needs "messages": a list with at least one message.')
    return list(messages)


def _field(messages: list[Any], index: int, key: str) -> Any:
    message = messages[index]
    if not isinstance(message, Mapping) or key not in message:
        raise UsageError(f'Message {index} has no "{key}".')
    return message[key]


def _parsed(conversation: Conversation) -> list[Message]:
    """Check the messages, in order. A leading system text is put in front of the first user's, literally."""
    messages = _messages(conversation)
    first, system = 0, ""
    if _field(messages, 0, "role") == "system":
        first, system = 1, _system_text(messages)
    parsed: list[Message] = []
    for index in range(first, len(messages)):
        role = _field(messages, index, "role")
        expected = "assistant" if len(parsed) % 2 else "user"
        if role != expected:
            raise UsageError(f"Message {index} is from {role!r}, but it is the {expected}'s turn.")
        parts = _parts(_field(messages, index, "content"), role, index)
        if system and not parsed:
            parts = [("text", f"{system}\n\n"), *parts]
        parsed.append((role, _joined(parts)))
    return parsed


def _system_text(messages: list[Any]) -> str:
    text = _field(messages, 0, "content")
    if not isinstance(text, str):
        raise UsageError("The content of the system message (message 0) must be a string.")
    if len(messages) == 1:
        raise UsageError("The conversation holds a system message only: a user message must follow.")
    return text


PART_TYPES = {
    "user": ("text", "image", "audio", "video"),
    "assistant": ("text", "python", "python_output"),
}
_PLACEHOLDER = re.compile("|".join(MEDIA_PLACEHOLDERS))


def _parts(content: Any, role: str, index: int) -> list[Part]:
    if isinstance(content, str):
        return _split_placeholders(content) if role == "user" else [("text", content)]
    if not isinstance(content, (list, tuple)):
        raise UsageError(f"The content of message {index} must be a string or a list of parts.")
    return [_part(part, role, index) for part in content]


def _split_placeholders(text: str) -> list[Part]:
    """Split "a<image>b" into text, image, text."""
    parts: list[Part] = []
    end = 0
    for match in _PLACEHOLDER.finditer(text):
        parts += [("text", text[end : match.start()]), (match.group().strip("<>"), "")]
        end = match.end()
    return [*parts, ("text", text[end:])]


def _part(part: Any, role: str, index: int) -> Part:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind not in PART_TYPES[role]:
        allowed = ", ".join(PART_TYPES[role])
        raise UsageError(f"Message {index} ({role}) holds a part of type {kind!r}; allowed are {allowed}.")
    if f"<{kind}>" in MEDIA_PLACEHOLDERS:
        return kind, ""
    if not isinstance(part.get("text"), str):
        raise UsageError(f'Message {index} holds a part of type {kind!r} without a string "text".')
    return kind, part["text"]


def _joined(parts: list[Part]) -> list[Part]:
    # Merges could cross the seam between two texts, so adjacent texts are encoded as one.
    joined: list[Part] = []
    for kind, text in parts:
        if kind == "text" and joined and joined[-1][0] == "text":
            joined[-1] = ("text", joined[-1][1] + text)
        else:
            joined.append((kind, text))
    return joined


def _matched_counts(messages: list[Message], image_token_counts: Sequence[int]) -> Iterator[int]:
    """Check and yield the counts, one for each picture in the messages."""
    kinds = [kind for _, parts in messages for kind, _ in parts]
    for placeholder, token in MEDIA_PLACEHOLDERS.items():
        if token not in SPECIAL_TOKENS and placeholder.strip("<>") in kinds:
            raise UsageError(
                f'{placeholder} is not supported yet; for the literal text, pass {{"type": "text"}} parts.'
            )
    found, given = kinds.count("image"), len(image_token_counts)
    if found != given:
        raise UsageError(f"The conversation holds {found} <image> placeholders for {given} pictures.")
    if any(count < 1 for count in image_token_counts):
        raise UsageError(f"Every picture needs at least one token, found {list(image_token_counts)}.")
    return iter(image_token_counts)


def _render_message(
    role: str, parts: list[Part], tokenizer: Tokenizer, counts: Iterator[int]
) -> Iterator[tuple[list[int], int]]:
    """Yield (ids, supervised) runs of one message, including its start and end tokens."""
    t = tokenizer
    if role == "user":
        yield [t.user_start_id], 0
        for kind, text in parts:
            yield [t.image_id] * next(counts) if kind == "image" else t.encode(text), 0
        yield [t.user_end_id], 0
        return
    yield [t.assistant_start_id], 0
    for kind, text in parts:
        ids = t.encode(text)
        if kind == "python":
            yield [t.python_start_id, *ids, t.python_end_id], 1
        elif kind == "python_output":
            yield [t.output_start_id, *ids, t.output_end_id], 0
        else:
            yield ids, 1
    yield [t.assistant_end_id], 1


def _check_length(length: int, max_length: int | None) -> None:
    if max_length is not None and length > max_length:
        raise UsageError(f"The conversation has {length} tokens, but max_length is {max_length}.")


def visualize(ids: Sequence[int], mask: Sequence[int], tokenizer: Tokenizer) -> str:
    """Show tokens between bars, supervised ones green, others red (ANSI); a run of image ids is one entry."""
    shown: list[str] = []
    for (token, supervised), run in groupby(zip(ids, mask, strict=True)):
        length = len(list(run))
        text = tokenizer.decode([token], with_special=True)
        texts = [f"{text} x {length}"] if token == tokenizer.image_id else [text] * length
        shown += [f"\033[{32 if supervised else 31}m{text}\033[0m" for text in texts]
    return "|".join(shown)
