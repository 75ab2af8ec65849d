"""Random models and requests for the tests of the engine."""

from __future__ import annotations

import torch

from nanoocr.bpe import Tokenizer
from nanoocr.config import ClipConfig, GPTConfig, ModelConfig, SamConfig
from nanoocr.image_process import count_vision_tokens
from nanoocr.inference.engine import Request
from nanoocr.inference.sampling import (
    SamplingConfig,
)
from nanoocr.model.vlm import VLM

FREE = SamplingConfig(ignore_stop=True, stop_loops=False)
TOKENIZER = Tokenizer.bytes()


def tiny_config(n_kv_head: int = 4, sequence_len: int = 96) -> ModelConfig:
    return ModelConfig(
        name="tiny",
        sam=SamConfig(
            width=32,
            depth=2,
            heads=2,
            window=3,
            global_blocks=(1,),
            grid=(4, 8),
            neck=16,
            compressor=(16, 32),
        ),
        clip=ClipConfig(width=32, depth=1, heads=2, grid=(1, 2)),
        gpt=GPTConfig(
            vocab_size=266, sequence_len=sequence_len, n_layer=2, n_head=4, n_kv_head=n_kv_head, n_embd=32
        ),
        views=((64, 128), (128, 128)),
    )


def random_model(seed: int = 2, **sizes: int) -> VLM:
    """Every parameter random: those that start at zero or one would hide mistakes."""
    model = VLM(tiny_config(**sizes))
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        std = 0.3 if parameter.ndim == 1 or "pos" in name else 1.5 * parameter[0].numel() ** -0.5
        # Otherwise random weights hardly look: most of a hidden state is the token itself.
        std *= 4 if "patch_embed" in name else 3 if "attn.c_proj" in name else 1
        torch.nn.init.normal_(parameter, std=1.0 if "wte" in name else std, generator=generator)
    return model


def blotches(size: tuple[int, int], generator: torch.Generator) -> torch.Tensor:
    """A picture of random colours, coarse enough that two of them look different to a random encoder."""
    height, width = size
    coarse = torch.rand(1, 3, height // 16, width // 16, generator=generator) * 2 - 1
    return torch.nn.functional.interpolate(coarse, size=size)[0]


def make_request(text: str, *sizes: tuple[int, int], seed: int = 0, max_tokens: int = 20) -> Request:
    t = TOKENIZER
    generator = torch.Generator().manual_seed(seed)
    views = tuple(blotches(size, generator) for size in sizes)
    runs = [t.image_id] * sum(count_vision_tokens(size) for size in sizes)
    ids = [t.bos_id, t.user_start_id, *runs, *t.encode(text), t.user_end_id, t.assistant_start_id]
    return Request(tuple(ids), views, max_tokens)


def mixed_requests() -> list[Request]:
    """Several prompt lengths, view sizes and limits, with and without pictures, two pictures in one."""
    return [
        make_request("Read.", (64, 128), seed=1, max_tokens=30),
        make_request("text alone", max_tokens=9),
        make_request("Read all of this.", (128, 128), seed=2),
        make_request("Two", (64, 64), (128, 192), seed=3, max_tokens=1),
        make_request("", (64, 128), seed=4, max_tokens=25),
        make_request("Read.", (64, 128), seed=5, max_tokens=30),
    ]


def scripted(model: VLM, text: bytes, request: Request) -> None:
    """Make the model say `text`: its logits follow a script, whatever the hidden state is."""
    script = iter([*text, TOKENIZER.assistant_end_id])

    def logits(hidden: torch.Tensor) -> torch.Tensor:
        out = torch.zeros(*hidden.shape[:-1], 266)
        out[..., next(script)] = 9.0
        return out

    model.gpt.logits = logits
