"""Every size of every preset, in one place.

`preset(name)` is the one dial, and frozen dataclasses hold its numbers. All presets use the same classes.
Sizes given as (height, width) are in the unit that the field's comment names.
"""

from __future__ import annotations

from dataclasses import Field, asdict, dataclass, fields
from typing import Any

from nanoocr.errors import CheckpointError, UsageError, require

PATCH = 16  # pixels per side of a SAM patch
SLOTS = 2  # halves of a patch, left and right, in which the glyph heads name characters
CELL = 64  # pixels per side of one vision token: 4 x 4 patches after two stride-2 convolutions
# the question about a page in training, reading and evaluation, unless somebody gives another
PROMPT = "Read."


@dataclass(frozen=True)
class SamConfig:
    """SAM-style ViT followed by the 16x compressor (the first half of DeepEncoder)."""

    width: int
    depth: int
    heads: int
    window: int  # side of an attention window, in patches
    global_blocks: tuple[int, ...]  # blocks that attend over the whole picture
    grid: tuple[int, int]  # native (height, width) of the position tables, in patches
    neck: int  # channels after the neck
    compressor: tuple[int, int]  # channels after net_2 and net_3


@dataclass(frozen=True)
class ClipConfig:
    """CLIP-style transformer over the compressed grid (the second half of DeepEncoder).

    Its width equals the compressor's last width, because the compressed grid serves as its patch embedding.
    """

    width: int
    depth: int
    heads: int
    grid: tuple[int, int]  # native (height, width) of the position table, in vision tokens


@dataclass(frozen=True)
class GPTConfig:
    """nanochat's GPT (the original architecture, October 2025)."""

    vocab_size: int
    sequence_len: int  # positions that training covers
    n_layer: int
    n_head: int
    n_kv_head: int
    n_embd: int


@dataclass(frozen=True)
class ModelConfig:
    """A whole vision-language model. `views` lists its trained view sizes, (height, width) in pixels."""

    name: str
    sam: SamConfig
    clip: ClipConfig
    gpt: GPTConfig
    views: tuple[tuple[int, int], ...]

    @property
    def reads_lines(self) -> bool:
        """Whether the model reads strips of one line each: then all views are one vision token high."""
        return all(height == CELL for height, _ in self.views)

    def __post_init__(self) -> None:
        """Refuse sizes that do not fit together, before anything is allocated."""
        _require(self.clip.width == self.sam.compressor[1], "clip.width must equal sam.compressor[1]")
        _require(self.sam.width % self.sam.heads == 0, "sam.heads must divide sam.width")
        _require(self.clip.width % self.clip.heads == 0, "clip.heads must divide clip.width")
        _require(self.gpt.n_embd % self.gpt.n_head == 0, "gpt.n_head must divide gpt.n_embd")
        _require(self.gpt.n_head % self.gpt.n_kv_head == 0, "gpt.n_kv_head must divide gpt.n_head")
        _require((self.gpt.n_embd // self.gpt.n_head) % 2 == 0, "the GPT's head width must be even")
        _require(bool(self.views), "views must name at least one (height, width)")
        for side in (side for view in self.views for side in view):
            _require(0 < side <= 4096 and side % CELL == 0, f"view side {side} is not a multiple of {CELL}")


def _require(condition: bool, message: str) -> None:
    require(condition, f"model configuration: {message}")


# 256 byte tokens, nanochat's nine special tokens and <|image|>. Scripts put the real tokenizer's size here.
BYTE_VOCAB = 266


def nano(vocab_size: int = BYTE_VOCAB) -> ModelConfig:
    """About 8M parameters, for two CPU cores and continuous integration. It is the packaged model's size."""
    return ModelConfig(
        name="nano",
        sam=SamConfig(
            width=128,
            depth=4,
            heads=2,
            window=4,
            global_blocks=(1, 3),
            grid=(12, 24),
            neck=128,
            compressor=(256, 256),
        ),
        clip=ClipConfig(width=256, depth=3, heads=4, grid=(3, 6)),
        gpt=GPTConfig(vocab_size=vocab_size, sequence_len=512, n_layer=4, n_head=4, n_kv_head=4, n_embd=256),
        views=((192, 384), (256, 256)),
    )


def small(vocab_size: int = 8192 + 10) -> ModelConfig:
    """About 45M parameters, for minutes on one GPU."""
    return ModelConfig(
        name="small",
        sam=SamConfig(
            width=256,
            depth=6,
            heads=4,
            window=8,
            global_blocks=(2, 5),
            grid=(32, 32),
            neck=128,
            compressor=(256, 512),
        ),
        clip=ClipConfig(width=512, depth=6, heads=8, grid=(8, 8)),
        gpt=GPTConfig(vocab_size=vocab_size, sequence_len=2048, n_layer=8, n_head=8, n_kv_head=8, n_embd=512),
        views=((512, 512), (640, 640)),
    )


def d20(vocab_size: int = 65537) -> ModelConfig:
    """962M parameters: SAM-ViT-B, CLIP-L and nanochat's d20, the sizes of the released weights."""
    return ModelConfig(
        name="d20",
        sam=SamConfig(
            width=768,
            depth=12,
            heads=12,
            window=14,
            global_blocks=(2, 5, 8, 11),
            grid=(64, 64),
            neck=256,
            compressor=(512, 1024),
        ),
        clip=ClipConfig(width=1024, depth=24, heads=16, grid=(16, 16)),
        # 10 heads of 128, not 16: the shapes fit any divisor of 1280, but only 10 computes the released
        # function.
        gpt=GPTConfig(
            vocab_size=vocab_size, sequence_len=2048, n_layer=20, n_head=10, n_kv_head=10, n_embd=1280
        ),
        views=((512, 512), (640, 640), (1024, 1024), (1280, 1280)),
    )


PRESETS = {"nano": nano, "small": small, "d20": d20}


def preset(name: str, vocab_size: int | None = None) -> ModelConfig:
    """The configuration called `name`, with the vocabulary of the tokenizer at hand.

    Raises:
        UsageError: `name` is not a preset.
    """
    if name not in PRESETS:
        raise UsageError(f"unknown preset {name!r}: choose one of {', '.join(PRESETS)}")
    return PRESETS[name]() if vocab_size is None else PRESETS[name](vocab_size)


def config_to_dict(config: ModelConfig) -> dict[str, Any]:
    """A plain dict for config.json."""
    return asdict(config)


def config_from_dict(data: dict[str, Any]) -> ModelConfig:
    """Read a dict of `config_to_dict`. Unknown, missing and ill-typed fields are refused by name.

    Raises:
        CheckpointError: the dict does not describe a model of this code.
    """
    try:
        wanted = {field.name for field in fields(ModelConfig)}
        if set(data) != wanted:
            raise ValueError(f"it needs the fields {sorted(wanted)}, found {sorted(data)}")
        return ModelConfig(
            name=str(data["name"]),
            sam=_read(SamConfig, data["sam"]),
            clip=_read(ClipConfig, data["clip"]),
            gpt=_read(GPTConfig, data["gpt"]),
            views=tuple((int(height), int(width)) for height, width in data["views"]),
        )
    except (KeyError, TypeError, ValueError, OverflowError, UsageError) as error:
        raise CheckpointError(f"the model configuration is not readable: {error}") from error


MAX_SIZE = 1_000_000  # Real sizes are smaller; the limit keeps a hostile config from asking for terabytes.


def _read(kind: type, data: dict[str, Any]) -> Any:
    """Build one of the size dataclasses from exactly its fields; every number is a sane positive integer."""
    names = {field.name for field in fields(kind)}
    if not isinstance(data, dict) or set(data) != names:
        raise ValueError(f"{kind.__name__} needs exactly the fields {sorted(names)}, found {sorted(data)}")
    return kind(**{field.name: _read_size(field, data[field.name]) for field in fields(kind)})


def _read_size(field: Field[Any], value: Any) -> Any:
    """Check one size: an integer, a (height, width) pair, or a list of blocks (counted from 0)."""
    numbers = value if isinstance(value, list | tuple) else [value]
    lowest = 0 if field.name == "global_blocks" else 1
    length = {"int": 1, "tuple[int, int]": 2}.get(str(field.type), len(numbers))
    if isinstance(value, list | tuple) == (field.type == "int") or len(numbers) != length:
        raise ValueError(f"{field.name} has the impossible value {value!r}")
    for number in numbers:
        if type(number) is not int or not lowest <= number <= MAX_SIZE:
            raise ValueError(f"{field.name} has the impossible value {value!r}")
    return value if field.type == "int" else tuple(numbers)
