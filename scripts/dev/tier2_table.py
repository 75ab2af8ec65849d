"""Prints the table of runs/tier2.sh as markdown: how much reading suffers from a mixture of data.

python -m scripts.dev.tier2_table --out=checkpoints/tier2

Everything comes from files: metrics.jsonl of the four runs, and the measurements of scripts.measure_reading
and scripts.vision_eval on the two models.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from nanoocr.commandline import parse, run
from nanoocr.errors import UsageError
from nanoocr.eval.run_log import RunMetrics, read_run
from nanoocr.train.validate import collapsed_stages

DOCUMENTS = {"alone": 1.0, "mixed": 0.7}  # share of documents in the rows of each run
MOST_WORSE = 0.01  # CER may be worse by this much
LEAST_GAP = 0.9


@dataclass(frozen=True)
class TableConfig:
    """Prints the table of a finished runs/tier2.sh."""

    out: str = "checkpoints/tier2"  # the OUT of runs/tier2.sh


class Result(NamedTuple):
    """The result of one run."""

    stages: tuple[RunMetrics, RunMetrics]
    documents: float  # cards seen in both stages
    cards: Mapping[str, float]  # statistics of the held-out cards
    questions: Mapping[str, Any]  # relaxed accuracy: mean, low, high, wrong
    # nats per token, before the first step of stage 1 and after the last of stage 2
    text_loss: tuple[float, float]
    warnings: int  # how many validations of both stages found collapsed features
    validations: int


def read_result(out: Path, name: str) -> Result:
    """Read one run's files.

    Raises:
        UsageError: a file is missing, or lacks a number that the table needs.
    """
    stages = (read_run(out / f"{name}_tok"), read_run(out / f"{name}_mid"))
    measured = out / f"{name}_mid" / f"measured_{stages[1].last('train').get('step', 0):06d}"
    reading, questions = read_json(measured / "reading.json"), read_json(measured / "questions/results.json")
    checked = [record for stage in stages for record in stage.records.get("validation", ())]
    losses = [loss for stage in stages for _, loss in stage.line("validation", "text_loss")]
    if not stages[1].line("validation", "text_loss"):
        raise UsageError(f"{out / name}_mid: no validation has a text_loss")
    try:
        cards = reading["sets"]["cards"]
        accuracy = questions["groups"]["all"]["scores"]["relaxed_accuracy"]
    except (KeyError, TypeError) as error:
        raise UsageError(f"{measured}: lacks {error}; remove it and start runs/tier2.sh again") from error
    return Result(
        stages=stages,
        documents=DOCUMENTS[name] * samples_seen(stages),
        cards=cards,
        questions=accuracy,
        text_loss=(losses[0], losses[-1]),
        warnings=sum(bool(collapsed_stages(record)) for record in checked),
        validations=len(checked),
    )


def read_json(path: Path) -> Any:
    """Read a measurement.

    Raises:
        UsageError: the file does not exist, or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: no measurement there ({error}): run bash runs/tier2.sh") from error


def table_rows(alone: Result, mixed: Result) -> list[tuple[str, str, str, str]]:
    """(quantity, documents alone, mixed, the goal and whether the mixed run met it)."""
    worse = mixed.cards["cer"] - alone.cards["cer"]
    gap, (first, last) = mixed.cards["grounding_gap"], mixed.text_loss

    def row(
        what: str, one: Callable[[Result], tuple[Any, ...]], cell: str, goal: str
    ) -> tuple[str, str, str, str]:
        return what, cell.format(*one(alone)), cell.format(*one(mixed)), goal

    return [
        row("optimiser steps, stages 1 + 2", steps, "{:,} + {:,}", "the same"),
        row("documents (cards) seen", lambda r: (r.documents,), "{:,.0f}", "the same"),
        row("samples seen", lambda r: (samples_seen(r.stages),), "{:,.0f}", ""),
        row(
            "held-out cards: CER",
            lambda r: (r.cards["cer"],),
            "{:.2%}",
            f"mixed at most {MOST_WORSE * 100:g} point worse: {verdict(worse <= MOST_WORSE)} ({worse:+.2%})",
        ),
        row("... cards without an error", lambda r: (r.cards["perfect"],), "{:.1%}", ""),
        row(
            "... grounding gap",
            lambda r: (r.cards["grounding_gap"],),
            "{:.3f}",
            f"at least {LEAST_GAP}: {verdict(gap >= LEAST_GAP)}",
        ),
        row(
            "held-out questions: relaxed accuracy (with another picture)",
            lambda r: (r.questions["mean"], r.questions["wrong"]),
            "{:.1%} ({:.1%})",
            "",
        ),
        row(
            "validation text, nats per token, before training -> after it",
            lambda r: r.text_loss,
            "{:.3f} -> {:.3f}",
            f"falling: {verdict(last < first)}",
        ),
        row(
            "validations with a collapse warning, of all",
            lambda r: (r.warnings, r.validations),
            "{} of {}",
            f"none: {verdict(mixed.warnings == 0)}",
        ),
    ]


def steps(result: Result) -> tuple[int, ...]:
    """The last step of each stage."""
    return tuple(stage.last("train")["step"] for stage in result.stages)


def samples_seen(stages: Iterable[RunMetrics]) -> float:
    """How many rows of all kinds were seen."""
    return sum(count for stage in stages for _, count in stage.line("train", "samples"))


def verdict(good: bool) -> str:
    """The word for the column of the goals."""
    return "met" if good else "**missed**"


def main(argv: list[str] | None = None) -> None:
    """Read both runs and print."""
    out = Path(parse(TableConfig, argv).out)
    rows = table_rows(read_result(out, "alone"), read_result(out, "mixed"))
    head = [("", "documents alone", "mixed 70/20/10", "goal"), ("---", "---:", "---:", "---")]
    print("\n".join(f"| {' | '.join(row)} |" for row in [*head, *rows]))


if __name__ == "__main__":
    sys.exit(run(main))
