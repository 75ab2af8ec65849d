"""One training step of our model against the same model put together from transformers' classes.

python -m scripts.bench.train_peers --batch_size=16

The other side is what one would write without this project: UnlimitedOcrVisionModel, a linear projector, and
NanoChatForCausalLM on embeddings, trained with AdamW. Same sizes, same pictures, same tokens, same optimiser
(AdamW on both sides), interleaved. bf16 means torch's autocast over there and our own policy here, with fp32
masters on both. The last line on stdout is the same as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch
import torch.nn.functional as F
from rich.table import Table
from torch import Tensor, nn

from nanoocr.commandline import parse, run
from nanoocr.config import CELL, ModelConfig, preset
from nanoocr.errors import UsageError
from nanoocr.eval.console import result_console
from nanoocr.image_process import count_vision_tokens
from nanoocr.machine import has_fast_bf16, machine, use_threads
from nanoocr.model.vlm import IGNORE, VLM, count_parameters
from scripts.bench.reference import reference_encoder, square_sizes


@dataclass(frozen=True)
class TrainingPeersConfig:
    """Measures training samples per second against transformers' classes."""

    preset: str = "nano"  # sizes of the model, with square position tables
    side: int = 256  # side of the square pictures, in pixels
    text: int = 60  # tokens of text behind each picture, all of them supervised
    batch_size: int = 16  # pictures per step
    rounds: int = 7  # steps of each side, of which the median counts
    threads: int = 0  # torch threads; 0 is torch's choice

    def __post_init__(self) -> None:
        """All but the threads above zero."""
        if min(self.text, self.batch_size, self.rounds) < 1 or self.side % CELL or self.side < CELL:
            raise UsageError(
                f"--text, --batch_size and --rounds must be above 0, --side a multiple of {CELL}"
            )


class Assembled(nn.Module):
    """transformers' parts: pictures and text in, mean cross entropy out."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        import transformers

        gpt = config.gpt
        self.encoder = reference_encoder(config).requires_grad_(True).train()
        self.projector = nn.Linear(2 * config.clip.width, gpt.n_embd)
        self.newline = nn.Parameter(torch.randn(gpt.n_embd))
        self.separator = nn.Parameter(torch.randn(gpt.n_embd))
        self.gpt = transformers.NanoChatForCausalLM(
            transformers.NanoChatConfig(
                vocab_size=gpt.vocab_size,
                hidden_size=gpt.n_embd,
                intermediate_size=4 * gpt.n_embd,
                num_hidden_layers=gpt.n_layer,
                num_attention_heads=gpt.n_head,
                num_key_value_heads=gpt.n_kv_head,
                max_position_embeddings=gpt.sequence_len,
                rms_norm_eps=torch.finfo(torch.float32).eps,
                pad_token_id=None,
                attn_implementation="sdpa",  # type: ignore[call-arg]
            )
        )

    def forward(self, views: Tensor, ids: Tensor, targets: Tensor) -> Tensor:
        """(B, 3, S, S) pictures, (B, T) ids behind them, (B, N + T) targets."""
        projected = self.projector(self.encoder(views).last_hidden_state)
        B, cells, C = projected.shape
        side = round(cells**0.5)
        rows = torch.cat(
            [projected.view(B, side, side, C), self.newline.expand(B, side, 1, C).to(projected)], dim=2
        )
        picture = torch.cat([rows.flatten(1, 2), self.separator.expand(B, 1, C).to(projected)], dim=1)
        text = self.gpt.get_input_embeddings()(ids).to(projected)
        logits = self.gpt(inputs_embeds=torch.cat([picture, text], dim=1)).logits
        return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORE)


def sides(config: TrainingPeersConfig, sizes: ModelConfig) -> dict[str, Callable[[], None]]:
    """A training step of either side, by name."""
    generator = torch.Generator().manual_seed(0)
    B, N = config.batch_size, count_vision_tokens((config.side, config.side))
    views = torch.rand(B, 3, config.side, config.side, generator=generator) * 2 - 1
    text = torch.randint(0, 256, (B, config.text + 1), generator=generator)
    targets = torch.full((B, N + config.text), IGNORE)
    targets[:, N:] = text[:, 1:]
    ids = torch.cat([torch.full((B, N), sizes.gpt.vocab_size - 1), text[:, :-1]], dim=1)
    theirs = Assembled(sizes)
    steps: dict[str, Callable[[], None]] = {}
    kinds = (torch.float32, torch.bfloat16) if has_fast_bf16("cpu") else (torch.float32,)
    for dtype in kinds:
        ours = VLM(sizes, compute_dtype=dtype)
        ours.init_weights(0)

        def our_loss(model: VLM = ours) -> Tensor:
            loss = model(ids, targets, views)
            return loss.mean

        def their_loss(dtype: torch.dtype = dtype) -> Tensor:
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
                return theirs(views, text[:, :-1], targets)

        name = str(dtype).removeprefix("torch.")
        steps[f"transformers, {name}"] = stepper(their_loss, theirs)
        steps[f"ours, {name}"] = stepper(our_loss, ours)
    return steps


def stepper(loss: Callable[[], Tensor], model: nn.Module) -> Callable[[], None]:
    """Forward, backward, AdamW."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)

    def step() -> None:
        loss().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def main(argv: list[str] | None = None) -> None:
    """Measure, print the table and the JSON."""
    config = parse(TrainingPeersConfig, argv)
    use_threads(config.threads)
    sizes = square_sizes(preset(config.preset))
    steps = sides(config, sizes)
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(config.rounds + 1):
        for name, step in steps.items():
            started = time.perf_counter()
            step()
            if turn:  # the first one allocates
                seconds[name].append(time.perf_counter() - started)
    table = Table("Side", title=f"Training step of {config.preset}, {config.batch_size} pictures")
    table.add_column("samples/s", justify="right")
    table.add_column("times faster", justify="right")
    lines = []
    for name in steps:
        dtype = name.partition(", ")[2]
        speed = median(seconds[f"transformers, {dtype}"]) / median(seconds[name])
        rate = config.batch_size / median(seconds[name])
        table.add_row(name, f"{rate:.1f}", f"{speed:.2f}")
        lines.append({"side": name, "samples_per_s": rate, "speed": speed})
    result_console().print(table)
    parameters = {"transformers": count_parameters(Assembled(sizes)), "ours": count_parameters(VLM(sizes))}
    print(json.dumps({**machine(), "parameters": parameters, "sides": lines}))


if __name__ == "__main__":
    sys.exit(run(main))
