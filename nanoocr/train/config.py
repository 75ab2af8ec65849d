"""The flags that both stages share. Each field is a flag, and its comment is the flag's help text."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, fields

import torch

from nanoocr.config import MAX_SIZE
from nanoocr.errors import require as require
from nanoocr.machine import has_fast_bf16


@dataclass(frozen=True)
class TrainConfig:
    """Every setting of a run. A value of -1 or "" means that the recipe decides."""

    run_name: str = "run"  # name of the run; its files go to OUT/RUN
    out: str = "checkpoints"  # folder that holds all runs
    preset: str = "nano"  # sizes of the model: nano, small or d20
    recipe: str = "scratch"  # what trains and how: scratch, deepseek or llava
    init: str = ""  # model folder to start from, such as `nanoocr convert` makes; empty means fresh weights
    # heights x widths, as 192x384,256x256 (the first sets the position tables); empty leaves them unchanged
    views: str = ""
    tokenizer: str = ""  # tokenizer.json of scripts.tok_train; empty means one token per byte
    steps: int = 2000  # optimiser steps in total
    batch_size: int = 64  # sequences per step, over all processes
    micro_batch: int = 0  # sequences per forward pass; 0: the whole step, shared by the processes
    pack: bool = False  # fill every sequence up to --max_length with several rows that do not see each other
    max_pictures: int = 64  # a packed sequence holds at most this many pictures
    # row streams that take turns to fill a micro-batch, so that as many workers can prepare it
    turns: int = 1
    seed: int = 0  # seeds weights and data; validation uses other seeds
    mix: str = "card"  # weights, as card:0.8,scene:0.2, for synthetic kinds or for the names in --tasks
    tasks: str = ""  # data sets by name, as "ocr=folder:scans text=jsonl:talk.jsonl"; see --tasks=help
    mix_by: str = "samples"  # what --mix counts with --tasks: samples, or (supervised) tokens
    # what to do with rows of --tasks that are unreadable or too long: skip and count them, or fail
    on_bad_row: str = "skip"
    # what to do with rows above --max_length: skip, shrink (smaller modes or views, else skip) or fail
    too_long: str = ""
    # lines per card from a share of the steps on: 0:1,0.1:2,0.3:2-3 means 1, then 1-2, then 2-3
    curriculum: str = "0:3"
    text_ratio: float = 0.0  # share of rows without a picture
    data: str = ""  # a .parquet or .json file to learn by heart, or one data set, as folder:scans
    eval_data: str = ""  # the same, to validate on; empty means synthetic rows, or those of --data
    modes: str = ""  # resolution modes and weights, as base:0.5,gundam:0.5; empty means the preset's views
    # longest row or packed sequence in tokens; 0 is the model's limit, a larger number extends it
    max_length: int = 0
    trained: str = ""  # components to train, as sam,compressor,clip,projector,gpt; empty means the recipe's
    optimizer: str = ""  # muon (with AdamW for everything but hidden matrices) or adamw
    lr: float = -1.0  # AdamW's learning rate
    muon_lr: float = -1.0  # Muon's learning rate
    # factors on the rates of components and ends, as sam:0.1,wte:20; they override the recipe's
    rates: str = ""
    moments: str = "float32"  # dtype of both optimisers' moments: float32, or bfloat16 for half the memory
    polar_steps: int = 5  # iterations of Muon's orthogonalisation, 1 to 5: fewer are rougher and cheaper
    weight_decay: float = 0.0  # weight decay of both optimisers; it is multiplied by the learning rate
    schedule: str = ""  # cosine, trapezoid, step or constant
    warmup: float = -1.0  # share of the steps with a rising rate
    cooldown: float = 0.4  # trapezoid: share of the steps with a falling rate
    average: float = 0.0  # measure and save a moving average of the weights with this decay; 0 is off
    lr_step_every: int = 2000  # step schedule: steps between two drops
    lr_step_factor: float = 0.1  # step schedule: factor of a drop
    # weight of the glyph loss, which names the characters under each vision token; 0 turns it off
    glyph_weight: float = -1.0
    # weight of the loss that keeps the pictures of a micro-batch apart; 0 turns it off
    feature_weight: float = 0.0
    glyph_only: float = 0.0  # share of the steps, at the start, that train with the glyph loss alone
    dtype: str = "auto"  # compute dtype: auto, float32 or bfloat16
    compile: bool = False  # let torch.compile fuse the step: faster, after a minute; needs a C++ compiler
    # split weights, gradients and optimisers over all processes, for models too large for one
    shard: bool = False
    recompute: bool = False  # compute each block's activations again in backward: less memory, more work
    device: str = "cpu"  # cpu, cuda, mps
    timeout_s: int = 1800  # seconds that processes wait for one that does not answer within a step
    threads: int = 0  # torch threads; 0 means OMP_NUM_THREADS, or all processors that the process may use
    workers: int = 1  # processes that make batches ahead
    # peak of one device at the compute dtype (H200, bf16: 989); with it the log shows MFU
    peak_tflops: float = 0.0
    log_every: int = 20  # steps between two log lines
    eval_every: int = 500  # steps between two validations
    eval_first: bool = False  # validate before the first step too, which shows what the run starts from
    eval_samples: int = 64  # held-out rows of a validation; 0 turns validation off
    eval_tokens: int = 512  # longest answer in a validation, in tokens
    patience: int = 0  # end the run early after this many validations without a better loss; 0 never does
    stop_on_collapse: bool = False  # end the run if a validation finds collapsed features
    save_every: int = 500  # steps between two checkpoints
    keep_last: int = 2  # checkpoints to keep besides the best one; 0 keeps all
    resume: bool = False  # continue from the newest whole checkpoint of the run
    wandb: bool = False  # log to Weights & Biases as well

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
        """The dtype of the matrix products: bf16 where the hardware has it, else fp32."""
        # A dtype that the user asked for is used even where it is slow.
        if self.dtype != "auto":
            return torch.float32 if self.dtype == "float32" else torch.bfloat16
        return torch.bfloat16 if has_fast_bf16(self.device) else torch.float32

    @property
    def num_threads(self) -> int:
        """Torch threads for all ranks of this machine: --threads, OMP_NUM_THREADS, or all allowed processors.

        Unlike reading, training ignores the machine's load: with other threads a resumed run would add up
        otherwise.
        """
        if self.threads:
            return self.threads
        told = os.environ.get("OMP_NUM_THREADS", "")
        if told.isdecimal() and int(told):
            return min(int(told), os.cpu_count() or 1)  # torch dies if it cannot start that many threads
        # A container or a batch system may allow fewer processors than the machine has.
        allowed = getattr(os, "sched_getaffinity", None)  # macOS has no such function
        return len(allowed(0)) if allowed else os.cpu_count() or 1
