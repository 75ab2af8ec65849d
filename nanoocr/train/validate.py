"""Validation: reads held-out rows with right and wrong pictures, and checks the health of the features."""

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

ROWS_SHOWN = 10  # a validation prints this many pictures, worst first; metrics.jsonl has all of them
COLLAPSED_COSINE = 0.9  # centred cosine of the pictures: 0 is healthy, 1 means that all look alike
COLLAPSED_RANK = 2.0  # effective rank of the same features
# spread of all pictures around their mean, relative to its length (healthy: 0.3 and more)
COLLAPSED_SPREAD = 0.01
FEWEST_FOR_COLLAPSE = 8  # below this many pictures the rank is low anyway


def validate(
    run: Run, log: RunLog, state: TrainState, data: DataPlan, rows: Sequence[Row]
) -> ReadingReport | None:
    """Read the held-out rows and print how well it reads and looks; text-only rows give only their loss.

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
    """Step and loss of the best validation up to `step`, including this one; also updates best.json.

    The log holds all validations. Those of steps that the run later went back behind do not count.
    """
    # A run that was resumed from an earlier step may have logged later validations. They are void now.
    losses = {earlier: old for earlier, old in past_validations(folder).items() if earlier < step}
    losses[step] = loss
    write_best(folder, step, losses)
    # A diverged validation has no loss that could be the best.
    finite = {at: value for at, value in losses.items() if math.isfinite(value)}
    return min(finite.items(), key=lambda pair: pair[1]) if finite else (step, loss)


def write_best(folder: Path, step: int, losses: Mapping[int, float] | None = None) -> None:
    """Write best.json: the best validation up to `step` whose step is on disk. No file if there is none.

    `losses` maps steps to losses; None means those of the log.
    """
    losses = past_validations(folder) if losses is None else losses
    saved = {step_number(step_dir) for step_dir in complete_steps(folder)}
    kept = {at: loss for at, loss in losses.items() if at in saved and at <= step and math.isfinite(loss)}
    if not kept:
        (folder / BEST).unlink(missing_ok=True)
        return
    # Of equal losses the first one wins.
    best = min(kept, key=kept.__getitem__)
    write_file(folder / BEST, json.dumps({"step": best, "loss": kept[best]}).encode())


def past_validations(folder: Path) -> dict[int, float]:
    """Map each validated step in a run's log to its loss; {} where there is none yet."""
    try:
        records = read_run(folder).records.get("validation", [])
    except UsageError:
        return {}
    losses = ((record["step"], record.get("loss", record.get("text_loss"))) for record in records)
    # The log writes NaN as null. It counts as infinity here, so that it is never the best.
    return {step: math.inf if loss is None else float(loss) for step, loss in losses}


def text_loss(model: VLM, tokenizer: Tokenizer, rows: Sequence[Row]) -> float:
    """The mean, over rows without a picture, of their nats per supervised token."""
    length = model.config.gpt.sequence_len
    losses = row_losses(model, tokenizer, [prepare(row, tokenizer, (), length) for row in rows])
    return sum(losses) / len(losses)


def report_values(report: ReadingReport) -> dict[str, Any]:
    """The part of a report that metrics.jsonl keeps."""
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
    """The parts of the encoder to which all pictures look alike, from `report_values` or a log record."""
    if len(values.get("rows", ())) < FEWEST_FOR_COLLAPSE:
        return []
    ending = "_centred_cosine"
    stages = [name.removesuffix(ending) for name in values if name.endswith(ending)]

    def is_between(name: str, low: float, high: float) -> bool:
        """Compare, where the log has the number. It keeps None for NaN, and lacks some numbers."""
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
    """Print the averages, the worst rows, and one row in full."""
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
    # Show another row each time, but the same one in every run, so that runs can be compared.
    sample = report.rows[step % len(report.rows)]
    log.say(f"  truth {sample.truth!r}\n  read  {sample.text!r}")


def check_collapse(log: RunLog, report: ReadingReport | None) -> bool:
    """Warn loudly if all pictures look alike to a part of the encoder; returns whether they do."""
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
