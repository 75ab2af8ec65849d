"""Short runs of both stages, which several files here look at."""

from __future__ import annotations

import json
from pathlib import Path

import safetensors.torch
from torch import Tensor

from nanoocr.commandline import run
from scripts import vis_mid_train, vis_tok_train

SHORT = [
    "--preset=nano",
    "--batch_size=4",
    "--eval_samples=2",
    "--eval_tokens=8",  # what such a model says goes on to the end of its room
    "--workers=0",
    "--threads=1",
    "--dtype=float32",
    "--average=0.5",
]


def stage_1(out: Path, *flags: str) -> int:
    return run(vis_tok_train.main, [*SHORT, f"--out={out}", *flags])


def stage_2(out: Path, *flags: str) -> int:
    return run(vis_mid_train.main, [*SHORT, f"--out={out}", *flags])


def weights(folder: Path) -> dict[str, Tensor]:
    return safetensors.torch.load_file(folder / "model.safetensors")


def metrics(run_folder: Path, event: str) -> list[dict]:
    lines = [json.loads(line) for line in (run_folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["event"] == event]


def refused(capsys, code: int, *words: str) -> None:
    """The last command said one sentence on stderr that holds `words`."""
    err = capsys.readouterr().err.strip()
    last = err.splitlines()[-1]
    assert last.startswith("error: ") and "Traceback" not in err
    for word in words:
        assert word in last
    assert code in (2, 4)


def validations(log: Path) -> list[dict]:
    """Of a log that may hold torn lines."""
    lines = [line for line in log.read_text().splitlines() if line.endswith("}")]
    return [record for record in map(json.loads, lines) if record["event"] == "validation"]
