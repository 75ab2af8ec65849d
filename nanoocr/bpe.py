"""Text to ids and back: byte-level BPE, trained here, run by tiktoken.

The 256 byte tokens are always there, so any text encodes and decodes to itself. The merges are trained by
`scripts/tok_train`. Special tokens stand after the merges in nanochat's order, then `<|image|>`; text never
becomes one of them: see nanoocr/tokenizer.py.
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

# How text is cut into pieces before merging; no token ever crosses a cut. GPT-4's scheme, but numbers in
# runs of at most two digits (nanochat): three would spend 1,000 tokens of a small vocabulary on numbers.
PATTERN = "|".join(
    [
        r"'(?i:s|d|m|t|ll|ve|re)",  # English contractions
        r"[^\r\n\p{L}\p{N}]?+\p{L}+",  # a word, with the blank or sign before it
        r"\p{N}{1,2}",  # one or two digits
        r" ?[^\s\p{L}\p{N}]++[\r\n]*",  # signs, with the line break after them
        r"\s*[\r\n]",  # blank lines
        r"\s+(?!\S)",  # blanks, but the last one goes to the word that follows
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

LONGEST_SLICE = 500_000  # characters that are encoded at once
TokenBytes = bytes  # what one id stands for; not every token is valid UTF-8 by itself


class Tokenizer:
    """Encodes text, decodes ids, and names the special ids. Never changes once made."""

    def __init__(self, tokens: Sequence[TokenBytes], pattern: str = PATTERN) -> None:
        """`tokens` in rank order: the id is the place, and lower ranks merge first.

        Raises UsageError when a byte is missing, a token occurs twice, or the pattern is no regex.
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
        """Learns merges from `texts` until the vocabulary, special tokens included, has `vocab_size` entries.

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
        """Reads what `save` wrote. Raises CheckpointError when it is missing, damaged, or another format."""
        try:
            text = Path(path).read_text(encoding="utf-8")
        except FileNotFoundError:
            raise CheckpointError(f"The tokenizer file {path} does not exist.") from None
        except (OSError, UnicodeDecodeError) as error:
            raise CheckpointError(f"The tokenizer file {path} cannot be read: {error}.") from error
        return cls.from_json(text, name=str(path))

    @classmethod
    def from_json(cls, text: str, *, name: str = "the tokenizer") -> Tokenizer:
        """The inverse of `to_json`; `name` is what errors call the source. Raises CheckpointError."""
        try:
            tokens, pattern = _parse(text)
            return cls(tokens, pattern)
        except (ValueError, UsageError) as error:  # JSON and Unicode errors are ValueErrors
            raise CheckpointError(f"{name} is not a usable tokenizer file: {error}") from error

    @classmethod
    def from_nanochat(cls, path: str | Path) -> Tokenizer:
        """nanochat's tokenizer.pkl, read without running anything of it; our `<|image|>` follows its tokens.

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
        """Writes the readable file: JSON with one token per line. It appears whole or not at all."""
        write_file(Path(path), self.to_json().encode())

    def to_json(self) -> str:
        """JSON text, pure ASCII; a token's characters U+0000 to U+00FF stand for its bytes (latin-1)."""

        def column(items: Iterable[str]) -> str:
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
        """sha256 of the content: equal fingerprints encode every text equally."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tokenizer) and (self.tokens, self.pattern) == (other.tokens, other.pattern)

    def __hash__(self) -> int:
        return hash((self.tokens, self.pattern))

    def __repr__(self) -> str:
        return f"Tokenizer(vocab_size={self.vocab_size})"

    # Using

    def encode(self, text: str) -> list[int]:
        """Ids of `text`; never a special id. Half of a surrogate pair becomes U+FFFD."""
        return [i for piece in _slices(text) for i in self._encoding.encode_ordinary(piece)]

    def decode(self, ids: Iterable[int], *, with_special: bool = False) -> str:
        """Text of `ids`, special tokens left out by default. Broken UTF-8 becomes U+FFFD.

        Raises UsageError for an id outside the vocabulary.
        """
        shown = ids if with_special else (i for i in ids if not self.is_special(i))
        return self.decode_bytes(shown).decode("utf-8", errors="replace")

    def decode_bytes(self, ids: Iterable[int]) -> TokenBytes:
        """The bytes of `ids`, specials by name; for streaming, where a character may span two tokens."""
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
    """Stands in for `tiktoken.core.Encoding` while a pickle is read: keeps its state, runs nothing."""

    content: Mapping[str, Any]

    def __setstate__(self, content: Mapping[str, Any]) -> None:
        self.content = content


class _EncodingUnpickler(pickle.Unpickler):
    """Admits the one name that a pickled tiktoken encoding refers to, and gives it a harmless stand-in."""

    def find_class(self, module: str, name: str) -> type:
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
    # The regex engine gives up (with a panic) on a million blanks in a row; no page is this long.
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
    """Tokens and pattern out of the JSON text; ValueError says in one clause what is wrong."""
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
