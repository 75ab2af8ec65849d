"""The runs of both stages that several files here look at; they train once per session."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.train.stages import stage_1, stage_2


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    """Stage 1 for four steps with a checkpoint at two, then stage 2 for three."""
    out = tmp_path_factory.mktemp("checkpoints")
    flags = ["--steps=4", "--save_every=2", "--eval_every=2", "--keep_last=0", "--log_every=1"]
    assert stage_1(out, "--run_name=tok", *flags) == 0
    encoder = out / "tok" / "deepencoder_000004.safetensors"
    # One rate for the word table, so that three steps cannot carry a fresh one far.
    flags = ["--steps=3", "--rates=wte:1", f"--resume_from_deepencoder={encoder}"]
    assert stage_2(out, "--run_name=mid", *flags) == 0
    return out
