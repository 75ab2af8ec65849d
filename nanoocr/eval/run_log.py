"""Reads a training run's metrics.jsonl for figures and reports."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nanoocr.errors import UsageError

METRICS = "metrics.jsonl"
STAGES = ("sam", "clip", "projected")  # the encoder's stages, as the log names them

Point = tuple[float, float]
Lines = dict[str, list[Point]]  # points (step, value) by the name of their curve


@dataclass(frozen=True)
class RunMetrics:
    """The records of a run by event (train, validation), in the order of their steps."""

    name: str
    records: dict[str, list[dict[str, Any]]]
    notes: tuple[str, ...]  # sentences about what could not be read

    def line(self, event: str, key: str) -> list[Point]:
        """The (step, value) pairs of an event that has this number."""
        found = ((record["step"], record.get(key)) for record in self.records.get(event, ()))
        return [(step, float(value)) for step, value in found if isinstance(value, int | float)]

    def last(self, event: str) -> dict[str, Any]:
        """The newest record of an event; {} where there is none."""
        records = self.records.get(event)
        return records[-1] if records else {}


def read_run(run: str | Path) -> RunMetrics:
    """Read the metrics of a run folder, or a metrics.jsonl itself.

    A resumed run wrote some steps twice; the later record counts. Broken records are counted.

    Raises:
        UsageError: no such file, or no record in it.
    """
    path = Path(run)
    path = path / METRICS if path.is_dir() else path
    if not path.is_file():
        raise UsageError(f"{path}: no such file; a run folder of training holds {METRICS}")
    records: dict[str, dict[int, dict[str, Any]]] = {}
    broken: list[int] = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            record = json.loads(line) if line.strip() else None
        except ValueError:  # it is not JSON, or not UTF-8
            record = ()
        if (
            isinstance(record, dict)
            and type(record.get("step")) is int
            and isinstance(record.get("event"), str)
        ):
            records.setdefault(record["event"], {})[record["step"]] = record
        elif record is not None:
            broken.append(number)
    if not records:
        raise UsageError(f"{path}: holds no record of a run")
    notes = (
        (f"{path.name}: {len(broken)} lines are no records (the first is line {broken[0]})",)
        if broken
        else ()
    )
    ordered = {event: [steps[step] for step in sorted(steps)] for event, steps in records.items()}
    return RunMetrics(path.parent.name, ordered, notes)


def run_series(metrics: RunMetrics) -> dict[str, Lines]:
    """The curves of a run, by the title of their panel."""

    def lines(event: str, **keys: str) -> Lines:
        """Curves by label, of keys by label; labels without a point are left out."""
        found = {label.replace("_", " "): metrics.line(event, key) for label, key in keys.items()}
        return {label: points for label, points in found.items() if points}

    return {
        "loss, nats per token": {
            **lines("train", training="loss", smoothed="loss_ema"),
            **lines("validation", validation="loss", validation_text_alone="text_loss"),
        },
        "glyph accuracy": lines("train", patches="glyph_patch_accuracy", tokens="glyph_token_accuracy"),
        "learning rate": lines("train", lr="lr"),
        "samples per second": lines("train", samples="samples_per_s"),
        "tokens per second": lines("train", tokens="tokens_per_s"),
        "shares that are lost": lines("train", time_waiting_for_data="data_wait", padding="padding"),
        "share of peak operations (MFU)": lines("train", MFU="mfu"),
        "reading held-out pictures": lines(
            "validation", grounding_gap="grounding_gap", word_overlap="overlap", CER="cer"
        ),
        "effective rank of the features": lines("validation", **{s: f"{s}_effective_rank" for s in STAGES}),
        "centred cosine of the features": lines("validation", **{s: f"{s}_centred_cosine" for s in STAGES}),
        "distance of a blank picture": lines("validation", **{s: f"{s}_blank_distance" for s in STAGES}),
    }
