"""The flags that both stages share. Each field is a flag, its comment the help."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, fields

import torch

from nanoocr.config import MAX_SIZE
from nanoocr.errors import UsageError
from nanoocr.machine import has_fast_bf16


@dataclass(frozen=True)
class TrainConfig:
    """Everything that a run can be told; a value of -1 or "" means: what the recipe says."""

    run_name: str = "run"  # name of the run; its files go to OUT/RUN
    out: str = "checkpoints"  # folder of all runs
    preset: str = "nano"  # sizes of the model: nano, small or d20
    recipe: str = "scratch"  # what trains and how: scratch, deepseek or llava
    init: str = ""  # model folder to start from, as `nanoocr convert` makes; empty: fresh weights
    views: str = ""  # heights x widths, as 192x384,256x256 (the first for position tables); empty: unchanged
    tokenizer: str = ""  # tokenizer.json of scripts.tok_train; empty is bytes, one token each
    steps: int = 2000  # optimiser steps in all
    batch_size: int = 64  # sequences per step, of all processes together
    micro_batch: int = 0  # sequences per forward pass; 0: the whole step, shared by the processes
    pack: bool = False  # fill every sequence up to --max_length with several rows that do not see each other
    max_pictures: int = 64  # pictures in a packed sequence at most
    turns: int = 1  # readers of a micro-batch that take turns, so that as many workers can serve it
    seed: int = 0  # of weights and data; validation uses other seeds
    mix: str = "card"  # weights, as card:0.8,scene:0.2: of synthetic kinds, or of the names in --tasks
    tasks: str = ""  # data sets by name, as "ocr=folder:scans text=jsonl:talk.jsonl"; see --tasks=help
    mix_by: str = "samples"  # what --mix counts with --tasks: samples, or (supervised) tokens
    on_bad_row: str = "skip"  # with --tasks: skip and count rows that are unreadable or too long, or fail
    too_long: str = ""  # rows above --max_length: skip, shrink (smaller modes or views, else skip) or fail
    curriculum: str = "0:3"  # from a share of the steps on, lines of a card: 0:1,0.1:2,0.3:2-3 (1; 1-2; 2-3)
    text_ratio: float = 0.0  # share of rows without a picture
    data: str = ""  # a .parquet or .json file to learn by heart, or one data set, as folder:scans
    eval_data: str = ""  # the same to validate on; empty: synthetic rows, or those of --data
    modes: str = ""  # resolution modes and weights, as base:0.5,gundam:0.5; empty: the preset's views
    max_length: int = 0  # longest row or packed sequence in tokens; 0 is what the model takes, or give more
    trained: str = ""  # components that train, as sam,compressor,clip,projector,gpt; empty: the recipe's
    optimizer: str = ""  # muon (with AdamW for what is no hidden matrix) or adamw
    lr: float = -1.0  # AdamW's learning rate
    muon_lr: float = -1.0  # Muon's learning rate
    rates: str = ""  # factors on the rates of components and ends, as sam:0.1,wte:20, over the recipe's
    moments: str = "float32"  # dtype of both optimisers' moments: float32, or bfloat16 for half the memory
    polar_steps: int = 5  # iterations of Muon's orthogonalisation, 1 to 5: fewer are rougher and cheaper
    weight_decay: float = 0.0  # of both optimisers, times their rate
    schedule: str = ""  # cosine, trapezoid, step or constant
    warmup: float = -1.0  # share of the steps with a rising rate
    cooldown: float = 0.4  # trapezoid: share of the steps with a falling rate
    average: float = 0.0  # measure and save a moving average of the weights with this decay; 0 is off
    lr_step_every: int = 2000  # step schedule: steps between two drops
    lr_step_factor: float = 0.1  # step schedule: factor of a drop
    glyph_weight: float = -1.0  # of the loss that names the characters under each vision token; 0 is off
    feature_weight: float = 0.0  # of the loss that keeps the pictures of a micro-batch apart; 0 is off
    glyph_only: float = 0.0  # share of the steps, at the start, that train by the glyph loss alone
    dtype: str = "auto"  # compute dtype: auto, float32 or bfloat16
    compile: bool = False  # let torch.compile fuse the step: faster, after a minute; needs a C++ compiler
    shard: bool = False  # split weights, gradients and optimisers over all processes: for what is too large
    recompute: bool = False  # compute each block's activations again in backward: less memory, more work
    device: str = "cpu"  # cpu, cuda, mps
    timeout_s: int = 1800  # seconds that processes wait for one that does not answer in a step
    threads: int = 0  # torch threads; 0 is OMP_NUM_THREADS or the number of CPUs that this process may use
    workers: int = 1  # processes that make batches ahead
    peak_tflops: float = 0.0  # of one device at the compute dtype (H200, bf16: 989): the log then shows MFU
    log_every: int = 20  # steps between two log lines
    eval_every: int = 500  # steps between two validations
    eval_first: bool = False  # validate before the first step too: what the run starts from
    eval_samples: int = 64  # held-out rows of a validation; 0 is none
    eval_tokens: int = 512  # most tokens of an answer in a validation
    patience: int = 0  # validations in a row without a better loss until the run ends early; 0 never
    stop_on_collapse: bool = False  # end the run where a validation finds collapsed features
    save_every: int = 500  # steps between two checkpoints
    keep_last: int = 2  # checkpoints that are kept beside the best one; 0 is all
    resume: bool = False  # go on from the newest whole checkpoint of the run
    wandb: bool = False  # also log to Weights & Biases

    def __post_init__(self) -> None:
        """Refuse values that cannot work, before anything is built."""
        for name in (
            *("steps", "batch_size", "log_every", "eval_every", "save_every", "lr_step_every"),
            *("eval_tokens", "max_pictures", "turns", "timeout_s"),
        ):
            require(getattr(self, name) > 0, f"--{name} must be above 0")
        require(not (self.shard and self.compile), "--compile does not work with --shard: leave one out")
        require(self.peak_tflops >= 0, "--peak_tflops must not be negative")
        for name in (
            *("seed", "eval_samples", "keep_last", "workers", "threads", "max_length", "weight_decay"),
            *("micro_batch", "patience"),
        ):
            require(getattr(self, name) >= 0, f"--{name} must not be negative")
        # More threads than processors make a step slower, and far too many end the process in torch itself.
        processors = os.cpu_count() or 1
        require(
            self.threads <= processors,
            f"--threads={self.threads}: this machine has {processors}, as in --threads={processors}",
        )
        for field in fields(self):
            value = getattr(self, field.name)
            # A NaN passes every comparison below as false, so it is refused by name first.
            finite = not isinstance(value, float) or math.isfinite(value)
            require(finite, f"--{field.name}={value}: give a number, as in --{field.name}=0.5")
        require(self.lr_step_factor >= 0, "--lr_step_factor must not be negative")
        require(self.max_length <= MAX_SIZE, f"--max_length must not be above {MAX_SIZE}")
        require(self.mix_by in ("samples", "tokens"), "--mix_by is samples or tokens")
        require(self.on_bad_row in ("skip", "fail"), "--on_bad_row is skip or fail")
        require(self.too_long in ("", "skip", "shrink", "fail"), "--too_long is skip, shrink or fail")
        require(0 <= self.feature_weight < math.inf, "--feature_weight must not be negative")
        require(0 <= self.average < 1, "--average is a decay from 0 to below 1, as 0.999")
        for name in ("text_ratio", "glyph_only", "cooldown"):
            require(0 <= getattr(self, name) <= 1, f"--{name} is a share between 0 and 1")
        for name in ("lr", "muon_lr", "warmup", "glyph_weight"):
            value = getattr(self, name)
            # -1 stands for the recipe's value, which is why 0 is left to mean what it says.
            require(value == -1 or 0 <= value < math.inf, f"--{name} must not be negative (-1: the recipe's)")
        require(self.seed < 2**31, "--seed must be below 2147483648")
        require(self.warmup <= 1, "--warmup is a share between 0 and 1")
        # The grounding gap compares each row with another row's picture, so a single row has nothing to
        # compare.
        require(self.eval_samples != 1, "--eval_samples is 0 or at least 2: wrong pictures are other rows'")
        require(self.optimizer in ("", "muon", "adamw"), "--optimizer is muon or adamw")
        require(1 <= self.polar_steps <= 5, "--polar_steps is a number from 1 to 5")
        require(self.moments in ("float32", "bfloat16"), "--moments is float32 or bfloat16")
        require(
            self.schedule in ("", "cosine", "trapezoid", "step", "constant"),
            "--schedule is cosine, trapezoid, step or constant",
        )
        require(self.dtype in ("auto", "float32", "bfloat16"), "--dtype is auto, float32 or bfloat16")
        require(
            self.run_name not in ("", ".", "..") and "/" not in self.run_name,
            "--run_name is a plain folder name",
        )

    @property
    def compute_dtype(self) -> torch.dtype:
        """bf16 where the hardware multiplies it, else fp32."""
        # A dtype that was asked for is taken even where it is slow.
        if self.dtype != "auto":
            return torch.float32 if self.dtype == "float32" else torch.bfloat16
        return torch.bfloat16 if has_fast_bf16(self.device) else torch.float32

    @property
    def num_threads(self) -> int:
        """Torch threads of all ranks of this machine: --threads, OMP_NUM_THREADS, or all processors allowed.

        Unlike reading, training does not look at the load: a resumed run would then add up in another order.
        """
        if self.threads:
            return self.threads
        told = os.environ.get("OMP_NUM_THREADS", "")
        if told.isdecimal() and int(told):
            return min(int(told), os.cpu_count() or 1)  # torch dies where it cannot start so many
        # A container or a batch system may allow fewer processors than the machine has.
        allowed = getattr(os, "sched_getaffinity", None)  # not on macOS
        return len(allowed(0)) if allowed else os.cpu_count() or 1


def require(condition: bool, message: str) -> None:
    """Raise UsageError with `message` unless `condition`."""
    if not condition:
        raise UsageError(message)
