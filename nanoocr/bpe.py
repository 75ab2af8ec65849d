"""Byte-level BPE: from text to ids and back. The merges are trained here and applied by tiktoken.

The 256 byte tokens always exist, so any text encodes and decodes to itself. `scripts/tok_train` trains the
merges. Special tokens follow the merges in nanochat's order, and `<|image|>` comes last. Text never becomes
one of them: see nanoocr/tokenizer.py.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tiktoken

from nanoocr.errors import CheckpointError, UsageError
from nanoocr.files import parse_json, write_file

FORMAT = "nanoocr-tokenizer"
VERSION = 1

# This pattern cuts text into pieces before merging, and no token crosses a cut. It is GPT-4's scheme, except
# that numbers are cut after at most two digits (as in nanochat): three would spend 1,000 tokens of a small
# vocabulary.
PATTERN = "|".join(
    [
        r"'(?i:s|d|m|t|ll|ve|re)",  # English contractions
        r"[^\r\n\p{L}\p{N}]?+\p{L}+",  # a word, with the blank or sign in front of it
        r"\p{N}{1,2}",  # one or two digits
        r" ?[^\s\p{L}\p{N}]++[\r\n]*",  # signs, with the line break after them
        r"\s*[\r\n]",  # blank lines
        r"\s+(?!\S)",  # blanks, except the last one, which belongs to the next word
        r"\s+",
    ]
)

SPECIAL_TOKENS = (
    "<|bos|>",
    "<|user_start|>",
    "<|user_end|>",
    "<|assistant_start|>",
    "<|assistant_end|>",
    "<|python_start|>",
    "<|python_end|>",
    "<|output_start|>",
    "<|output_end|>",
    "<|image|>",
)

LONGEST_SLICE = 500_000  # characters that are encoded in one call
TokenBytes = bytes  # the bytes of one id, which need not be valid UTF-8 by themselves


class Tokenizer:
    """Encodes text, decodes ids, and names the special ids. It never changes once it is made."""

    def __init__(self, tokens: Sequence[TokenBytes], pattern: str = PATTERN) -> None:
        """Take `tokens` in the order of their ranks: the id is the place, and lower ranks merge first.

        Raises UsageError when a byte is missing, a token occurs twice, or the pattern is no valid regex.
        """
        _check_tokens(tokens)
        self.tokens = tuple(tokens)
        self.pattern = pattern
        special = {token: len(tokens) + place for place, token in enumerate(SPECIAL_TOKENS)}
        self._special = special
        self._token_of = {**dict(enumerate(tokens)), **{i: token.encode() for token, i in special.items()}}
        self._encoding = _encoding(self.tokens, pattern, special)
        self.vocab_size = len(self._token_of)
        self.bos_id = special["<|bos|>"]
        self.user_start_id = special["<|user_start|>"]
        self.user_end_id = special["<|user_end|>"]
        self.assistant_start_id = special["<|assistant_start|>"]
        self.assistant_end_id = special["<|assistant_end|>"]
        self.python_start_id = special["<|python_start|>"]
        self.python_end_id = special["<|python_end|>"]
        self.output_start_id = special["<|output_start|>"]
        self.output_end_id = special["<|output_end|>"]
        self.image_id = special["<|image|>"]

    # Making

    @classmethod
    def bytes(cls) -> Tokenizer:
        """The tokenizer without merges: every UTF-8 byte is a token."""
        return cls([bytes([value]) for value in range(256)])

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> Tokenizer:
        """Learn merges from `texts` until the vocabulary, special tokens included, has `vocab_size` entries.

        Raises UsageError when rustbpe is not installed, the size is below 266, or the texts are too few.
        """
        wanted = vocab_size - len(SPECIAL_TOKENS)
        if wanted < 256:
            smallest = 256 + len(SPECIAL_TOKENS)
            raise UsageError(
                f"vocab_size {vocab_size} is too small: bytes and special tokens need {smallest}."
            )
        tokens = _train_merges(texts, wanted)
        if len(tokens) < wanted:
            reached = len(tokens) + len(SPECIAL_TOKENS)
            raise UsageError(
                f"The texts give only {reached} of the {vocab_size} tokens asked for: "
                "use more text or a smaller vocab_size."
            )
        return cls(tokens)

    # Storing

    @classmethod
    def from_file(cls, path: str | Path) -> Tokenizer:
        """Read a file that `save` wrote. Raises CheckpointError if it is missing, damaged or foreign."""
        try:
            text = Path(path).read_text(encoding="utf-8")
        except FileNotFoundError:
            raise CheckpointError(f"The tokenizer file {path} does not exist.") from None
        except (OSError, UnicodeDecodeError) as error:
            raise CheckpointError(f"The tokenizer file {path} cannot be read: {error}.") from error
        return cls.from_json(text, name=str(path))

    @classmethod
    def from_json(cls, text: str, *, name: str = "the tokenizer") -> Tokenizer:
        """The inverse of `to_json`; errors call the source `name`. Raises CheckpointError."""
        try:
            tokens, pattern = _parse(text)
            return cls(tokens, pattern)
        except (ValueError, UsageError) as error:  # errors of JSON and Unicode are ValueErrors
            raise CheckpointError(f"{name} is not a usable tokenizer file: {error}") from error

    @classmethod
    def from_nanochat(cls, path: str | Path) -> Tokenizer:
        """Read nanochat's tokenizer.pkl without running anything in it; our `<|image|>` follows its tokens.

        Raises CheckpointError for a pickle of anything but a tiktoken encoding, and for other special tokens.
        """
        try:
            state = _EncodingUnpickler(io.BytesIO(Path(path).read_bytes())).load()
            ranks, special = state.content["mergeable_ranks"], state.content["special_tokens"]
            tokens, pattern = sorted(ranks, key=ranks.__getitem__), state.content["pat_str"]
            places = {token: len(tokens) + place for place, token in enumerate(SPECIAL_TOKENS[:-1])}
            if [ranks[token] for token in tokens] != list(range(len(tokens))) or special != places:
                raise ValueError("its ranks have gaps, or its special tokens are not nanochat's")
            return cls(tokens, pattern)
        except OSError as error:
            raise CheckpointError(f"The tokenizer file {path} cannot be read: {error}.") from error
        except Exception as error:  # hostile bytes can make the unpickler raise anything
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise CheckpointError(f"{path} is not a tokenizer.pkl of nanochat ({reason}).") from error

    def save(self, path: str | Path) -> None:
        """Write a readable file: JSON with one token per line. It appears whole or not at all."""
        write_file(Path(path), self.to_json().encode())

    def to_json(self) -> str:
        """JSON text in pure ASCII. A token's characters U+0000 to U+00FF stand for its bytes (latin-1)."""

        def column(items: Iterable[str]) -> str:
            """The items of a JSON list, each on a line of its own."""
            return ",\n".join(f"    {json.dumps(item)}" for item in items)

        return (
            "{\n"
            f'  "format": "{FORMAT}",\n'
            f'  "version": {VERSION},\n'
            f'  "pattern": {json.dumps(self.pattern)},\n'
            f'  "tokens": [\n{column(token.decode("latin-1") for token in self.tokens)}\n  ],\n'
            f'  "special_tokens": [\n{column(SPECIAL_TOKENS)}\n  ]\n'
            "}\n"
        )

    def fingerprint(self) -> str:
        """sha256 of the content. Tokenizers with equal fingerprints encode every text equally."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tokenizer) and (self.tokens, self.pattern) == (other.tokens, other.pattern)

    def __hash__(self) -> int:
        return hash((self.tokens, self.pattern))

    def __repr__(self) -> str:
        return f"Tokenizer(vocab_size={self.vocab_size})"

    # Using

    def encode(self, text: str) -> list[int]:
        """The ids of `text`, never a special id. Half of a surrogate pair becomes U+FFFD."""
        return [i for piece in _slices(text) for i in self._encoding.encode_ordinary(piece)]

    def decode(self, ids: Iterable[int], *, with_special: bool = False) -> str:
        """The text of `ids`, by default without special tokens. Broken UTF-8 becomes U+FFFD.

        Raises UsageError for an id outside the vocabulary.
        """
        shown = ids if with_special else (i for i in ids if not self.is_special(i))
        return self.decode_bytes(shown).decode("utf-8", errors="replace")

    def decode_bytes(self, ids: Iterable[int]) -> TokenBytes:
        """The bytes of `ids`, special tokens by name. A streamed character may span two tokens."""
        try:
            return b"".join([self._token_of[i] for i in ids])
        except KeyError as error:
            message = f"Id {error.args[0]} is outside the vocabulary of {self.vocab_size} tokens."
            raise UsageError(message) from None

    def is_special(self, id: int) -> bool:
        """Whether `id` is one of SPECIAL_TOKENS."""
        return len(self.tokens) <= id < self.vocab_size

    def special_ids(self) -> range:
        """The ids of SPECIAL_TOKENS, in their order."""
        return range(len(self.tokens), self.vocab_size)


class _EncodingState:
    """Stands in for `tiktoken.core.Encoding` while a pickle is read. It keeps the state and runs nothing."""

    content: Mapping[str, Any]

    def __setstate__(self, content: Mapping[str, Any]) -> None:
        self.content = content


class _EncodingUnpickler(pickle.Unpickler):
    """Admits only the one name that a pickled tiktoken encoding refers to, with a harmless stand-in."""

    def find_class(self, module: str, name: str) -> type:
        """The stand-in for tiktoken's encoding; every other name is refused."""
        if (module, name) != ("tiktoken.core", "Encoding"):
            raise pickle.UnpicklingError(f"it refers to {module}.{name}, which no tokenizer needs")
        return _EncodingState


def _check_tokens(tokens: Sequence[TokenBytes]) -> None:
    known = set(tokens)
    if len(known) != len(tokens):
        raise UsageError(f"{len(tokens) - len(known)} tokens occur twice.")
    if missing := [value for value in range(256) if bytes([value]) not in known]:
        raise UsageError(f"The byte token {missing[0]} is missing, one of {len(missing)}.")


def _slices(text: str) -> Iterator[str]:
    # The regex engine panics on a million blanks in a row, so the text is cut. No page is this long.
    return (text[start : start + LONGEST_SLICE] for start in range(0, len(text), LONGEST_SLICE))


def _encoding(tokens: Sequence[TokenBytes], pattern: str, special: dict[str, int]) -> tiktoken.Encoding:
    ranks = {token: rank for rank, token in enumerate(tokens)}
    try:
        return tiktoken.Encoding(
            name="nanoocr", pat_str=pattern, mergeable_ranks=ranks, special_tokens=special
        )
    except ValueError as error:
        raise UsageError(f"The split pattern is not a regular expression: {error}.") from error


def _train_merges(texts: Iterable[str], count: int) -> list[TokenBytes]:
    try:
        import rustbpe
    except ImportError:
        raise UsageError(
            "Training a tokenizer needs rustbpe: pip install 'nano-deepseek-ocr[train]'."
        ) from None
    trainer = rustbpe.Tokenizer()
    slices = (piece for text in texts for piece in _slices(text))
    trainer.train_from_iterator(slices, vocab_size=count, pattern=PATTERN)
    ranked = sorted(trainer.get_mergeable_ranks(), key=lambda pair: pair[1])
    return [bytes(token) for token, _ in ranked]


def _parse(text: str) -> tuple[list[TokenBytes], str]:
    """Parse tokens and pattern out of the JSON text; a ValueError says in one clause what is wrong."""
    content = parse_json(text)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f'it does not say "format": "{FORMAT}".')
    if content.get("version") != VERSION:
        raise ValueError(f"it has version {content.get('version')}, and this program reads {VERSION}.")
    if content.get("special_tokens") != list(SPECIAL_TOKENS):
        raise ValueError("its special tokens are not this program's, or stand in another order.")
    tokens, pattern = content.get("tokens"), content.get("pattern")
    if not isinstance(pattern, str) or not isinstance(tokens, list):
        raise ValueError("its pattern or its list of tokens is missing.")
    if not all(isinstance(token, str) and token for token in tokens):
        raise ValueError("a token is empty or not a string.")
    return [token.encode("latin-1") for token in tokens], pattern
