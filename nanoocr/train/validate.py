"""Validation: the held-out rows, read with right and wrong pictures, and what it says about the features."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nanoocr.bpe import Tokenizer
from nanoocr.data.example import prepare
from nanoocr.data.loader import DataPlan
from nanoocr.data.rows import Row
from nanoocr.errors import UsageError
from nanoocr.eval.reading import ReadingReport, evaluate_reading, row_losses
from nanoocr.eval.run_log import read_run
from nanoocr.files import write_file
from nanoocr.model.folder import complete_steps, step_number
from nanoocr.model.vlm import VLM
from nanoocr.train.checkpoint import BEST
from nanoocr.train.log import RunLog
from nanoocr.train.run import Run
from nanoocr.train.state import TrainState

ROWS_SHOWN = 10  # pictures that a validation prints, worst first; metrics.jsonl has all of them
COLLAPSED_COSINE = 0.9  # centred cosine of the pictures of a set: 0 if healthy, 1 where all look alike
COLLAPSED_RANK = 2.0  # effective rank of the same features
COLLAPSED_SPREAD = 0.01  # of all pictures around their mean, relative to its length (healthy: 0.3 and more)
FEWEST_FOR_COLLAPSE = 8  # pictures: the rank of fewer is low anyway


def validate(
    run: Run, log: RunLog, state: TrainState, data: DataPlan, rows: Sequence[Row]
) -> ReadingReport | None:
    """Read the held-out rows and print what proves that it looks; rows of text alone give their loss.

    Returns the report on the rows with pictures; None where there are none.
    """
    tokenizer = data.tokenizer
    seen = [(row, data.mode_of(i)) for i, row in enumerate(rows) if row.pictures]
    texts = [row for row in rows if not row.pictures]
    state.model.eval()
    with state.for_reading():
        report, values = None, dict[str, Any]()
        if seen:
            report = evaluate_reading(
                state.model,
                tokenizer,
                [r for r, _ in seen],
                max_tokens=run.config.eval_tokens,
                modes=[m for _, m in seen],
            )
            values = report_values(report)
        if texts:
            values["text_loss"] = text_loss(state.model, tokenizer, texts)
    state.model.train()
    best_step, best_loss = keep_best(run.folder, state.step, float(values["loss" if seen else "text_loss"]))
    values |= {"best_step": best_step, "best_loss": best_loss}
    log.record(state.step, "validation", values)
    if texts:
        log.say(f"validation at {state.step}: text alone, loss {values['text_loss']:.4f}")
    if report is not None:
        say_report(log, state.step, report)
    log.say(f"  best so far: loss {best_loss:.4f} at step {best_step}")
    return report


def keep_best(folder: Path, step: int, loss: float) -> tuple[int, float]:
    """Step and loss of the best validation up to `step`, this one taken in; best.json follows.

    The log knows all of them. What a run found and then went back behind does not count.
    """
    # A run that was resumed from an earlier step may have logged later validations, which are void now.
    losses = {earlier: old for earlier, old in past_validations(folder).items() if earlier < step}
    losses[step] = loss
    write_best(folder, step, losses)
    # A validation that diverged has no loss that could be the best.
    finite = {at: value for at, value in losses.items() if math.isfinite(value)}
    return min(finite.items(), key=lambda pair: pair[1]) if finite else (step, loss)


def write_best(folder: Path, step: int, losses: Mapping[int, float] | None = None) -> None:
    """best.json: the best validation up to `step` among those whose step is on the disk; no file if none is.

    `losses` is by step; None takes them from the log.
    """
    losses = past_validations(folder) if losses is None else losses
    saved = {step_number(step_dir) for step_dir in complete_steps(folder)}
    kept = {at: loss for at, loss in losses.items() if at in saved and at <= step and math.isfinite(loss)}
    if not kept:
        (folder / BEST).unlink(missing_ok=True)
        return
    # Of equal losses the first one found stays.
    best = min(kept, key=kept.__getitem__)
    write_file(folder / BEST, json.dumps({"step": best, "loss": kept[best]}).encode())


def past_validations(folder: Path) -> dict[int, float]:
    """Step -> loss of every validation in the log of a run; {} where it has none yet."""
    try:
        records = read_run(folder).records.get("validation", [])
    except UsageError:
        return {}
    losses = ((record["step"], record.get("loss", record.get("text_loss"))) for record in records)
    # The log keeps NaN as null; infinity takes its place, so that it is never the best.
    return {step: math.inf if loss is None else float(loss) for step, loss in losses}


def text_loss(model: VLM, tokenizer: Tokenizer, rows: Sequence[Row]) -> float:
    """Mean over rows without a picture of their nats per supervised token."""
    length = model.config.gpt.sequence_len
    losses = row_losses(model, tokenizer, [prepare(row, tokenizer, (), length) for row in rows])
    return sum(losses) / len(losses)


def report_values(report: ReadingReport) -> dict[str, Any]:
    """What metrics.jsonl keeps of a report."""
    health = {
        f"{stage}_{name}": value
        for stage, statistics in report.health.items()
        for name, value in statistics._asdict().items()
    }
    rows = [{"id": row.id, "loss": row.loss, "overlap": row.overlap, "cer": row.cer} for row in report.rows]
    return {
        "loss": report.loss,
        "cer": report.cer,
        "overlap": report.overlap,
        "grounding_gap": report.grounding_gap,
        **health,
        "rows": rows,
    }


def collapsed_stages(values: Mapping[str, Any]) -> list[str]:
    """The parts of the encoder to which all pictures look alike, by `report_values` or a line of the log."""
    if len(values.get("rows", ())) < FEWEST_FOR_COLLAPSE:
        return []
    ending = "_centred_cosine"
    stages = [name.removesuffix(ending) for name in values if name.endswith(ending)]

    def is_between(name: str, low: float, high: float) -> bool:
        """None is what the log keeps of a number that is none; not every log has every number."""
        value = values.get(name)
        return value is None or low <= value <= high

    return [
        stage
        for stage in stages
        if not is_between(f"{stage}{ending}", 0.0, COLLAPSED_COSINE)
        or not is_between(f"{stage}_effective_rank", COLLAPSED_RANK, math.inf)
        or not is_between(f"{stage}_spread", COLLAPSED_SPREAD, math.inf)
    ]


def say_report(log: RunLog, step: int, report: ReadingReport) -> None:
    """The averages, the worst rows, and one row in full."""
    ranks = ", ".join(
        f"{stage} rank {h.effective_rank:.1f} cosine {h.centred_cosine:.2f}"
        for stage, h in report.health.items()
    )
    log.say(
        f"validation at {step}: loss {report.loss:.4f} CER {report.cer:.2%} "
        f"overlap {report.overlap:.2%} grounding gap {report.grounding_gap:.3f}; {ranks}"
    )
    for row in sorted(report.rows, key=lambda row: -row.loss)[:ROWS_SHOWN]:
        log.say(f"  {row.id} loss {row.loss:.4f} overlap {row.overlap:.0%} CER {row.cer:.0%}")
    # Another row each time, but the same one in every run, so that runs can be compared.
    sample = report.rows[step % len(report.rows)]
    log.say(f"  truth {sample.truth!r}\n  read  {sample.text!r}")


def check_collapse(log: RunLog, report: ReadingReport | None) -> bool:
    """Do all pictures look alike to a part of the encoder? Says so loudly."""
    if report is None:
        return False
    collapsed = collapsed_stages(report_values(report))
    for stage in collapsed:
        h = report.health[stage]
        log.say(
            f"WARNING: COLLAPSE of {stage}: pictures have centred cosine {h.centred_cosine:.2f}, effective "
            f"rank {h.effective_rank:.1f} and spread {h.spread:.3f}: the model cannot tell them apart"
        )
    return bool(collapsed)
