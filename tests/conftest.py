"""Shared by all tests: one thread, the byte tokenizer, and a tiny model whose every weight is random.

A weight that starts at zero or one (norms, biases, relative positions, output matrices) hides mistakes, so
tests that compare numbers use `randomise` or `tiny_model`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate

import numpy as np
import pytest
import torch
from PIL import Image

from nanoocr.bpe import Tokenizer
from nanoocr.config import ClipConfig, GPTConfig, ModelConfig, SamConfig
from nanoocr.data.rows import Row, Turn
from nanoocr.data.task import Task
from nanoocr.model.vlm import VLM


class NumberedTask(Task):
    """Rows 0, 1, 2, ... that answer with their number, in units of the given lengths."""

    def __init__(self, lengths: Sequence[int], *slice_: int | None) -> None:
        super().__init__(*slice_)  # type: ignore[arg-type]
        self.lengths = lengths

    def num_rows(self) -> int:
        return sum(self.lengths)

    def bounds(self) -> list[int]:
        return [0, *accumulate(self.lengths)]

    def read(self, index: int) -> Row:
        return Row(str(index), (), (Turn("", str(index)),), "test")


@pytest.fixture(scope="session")
def numbered_task() -> type[NumberedTask]:
    """numbered_task(lengths of its units, start, stop, step) -> a task of numbered rows."""
    return NumberedTask


@pytest.fixture(autouse=True)
def one_thread_and_seed() -> Iterator[None]:
    """Tiny operations on many threads crawl when something else runs on the machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


def make_tiny_config(name: str = "tiny", n_kv_head: int = 4, sequence_len: int = 128) -> ModelConfig:
    """Every size differs from its neighbours, so that a swapped axis shows."""
    return ModelConfig(
        name=name,
        sam=SamConfig(
            width=16,
            depth=2,
            heads=2,
            window=3,
            global_blocks=(1,),
            grid=(4, 8),
            neck=8,
            compressor=(12, 24),
        ),
        clip=ClipConfig(width=24, depth=2, heads=3, grid=(1, 2)),
        gpt=GPTConfig(
            vocab_size=266, sequence_len=sequence_len, n_layer=2, n_head=4, n_kv_head=n_kv_head, n_embd=32
        ),
        views=((64, 128), (128, 128)),
    )


def randomise_weights(module: torch.nn.Module, seed: int = 1) -> None:
    """Normal weights everywhere: matrices keep the variance, vectors and tables have std 0.3."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in sorted(module.named_parameters()):
        table = parameter.ndim == 1 or "pos" in name
        std = 0.3 if table else parameter[0].numel() ** -0.5
        # Otherwise random weights hardly look: most of a hidden state would be the token itself.
        std *= 4 if "patch_embed" in name and not table else 1
        torch.nn.init.normal_(parameter, std=1.0 if "wte" in name else std, generator=generator)


@pytest.fixture
def randomise() -> Callable[..., None]:
    return randomise_weights


@pytest.fixture
def tiny_config() -> ModelConfig:
    return make_tiny_config()


@pytest.fixture
def make_config() -> Callable[..., ModelConfig]:
    return make_tiny_config


@pytest.fixture
def make_model() -> Callable[..., VLM]:
    """make_model(seed=1, compute_dtype=torch.float32, **sizes of make_tiny_config) -> VLM, all random."""

    def make(seed: int = 1, compute_dtype: torch.dtype = torch.float32, **sizes: int) -> VLM:
        model = VLM(make_tiny_config(**sizes), compute_dtype=compute_dtype)
        randomise_weights(model, seed)
        return model

    return make


@pytest.fixture
def tiny_model(make_model) -> VLM:
    return make_model()


@pytest.fixture(scope="session")
def byte_tokenizer() -> Tokenizer:
    return Tokenizer.bytes()


@pytest.fixture
def make_row() -> Callable[..., Row]:
    """make_row(i, prompt="Read.", answer=..., size=(64, 128), chars="") -> a row with a picture of noise."""

    def make(
        i: int, prompt: str = "Read.", answer: str = "", size: tuple[int, int] = (64, 128), chars: str = ""
    ) -> Row:
        rng = np.random.default_rng(i)
        image = Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8))
        corners = rng.uniform(0, 1, (len(chars), 2)) * (size[1] - 16, size[0] - 16)
        boxes = np.concatenate([corners, corners + 12], axis=1).astype(np.float32)
        turn = Turn(prompt, answer or f"answer {i}")
        return Row(f"row{i}", (image,), (turn,), "test", chars, boxes)

    return make
