"""Measures the confidence of strips: how often it is right, and what a threshold keeps and loses.

python -m scripts.calibration --model=checkpoints/lines --strips=2000

Strips are drawn from VALIDATION_SEED, which no training run uses. A strip is right if its text equals the
truth letter for letter. The table gives the share of right strips for ten classes of confidence; the expected
calibration error is the mean distance of share and confidence. A second table gives, for several thresholds,
how much true text is left out and how much is invented on strips without text. A third one says for
--mark_below how many words it marks, how many of these are wrong, and how many wrong words it finds. The last
line on stdout is the same as JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

import numpy as np
from rich.table import Table

from nanoocr.commandline import parse, run
from nanoocr.data.synth import VALIDATION_SEED, find_fonts, make_sample
from nanoocr.errors import UsageError
from nanoocr.eval.console import result_console
from nanoocr.eval.metrics import corpus_character_error_rate
from nanoocr.eval.samples import FIRST_INDEX
from nanoocr.inference.assemble import word_confidences
from nanoocr.inference.reader import Reader, default_model_folder
from nanoocr.layout import Strip
from nanoocr.machine import machine, use_threads
from nanoocr.model.folder import model_folder
from scripts.common import refuse_below, write_json

BINS = 10
THRESHOLDS = (0.0, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.9)
MARKS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98)


@dataclass(frozen=True)
class CalibrationConfig:
    """Reads held-out strips and compares confidence with truth."""

    model: str = ""  # model folder, training step or run folder; empty means the packaged model
    strips: int = 2000  # held-out strips, some 8 % of them without text
    json: str = ""  # file for a copy of the JSON; empty for none
    threads: int = 1  # torch threads

    def __post_init__(self) -> None:
        """Refuse numbers that are too small for ten classes."""
        refuse_below(self, strips=100, threads=1)


@dataclass(frozen=True)
class Outcome:
    """One strip: its truth, the text that was read, and the model's confidence."""

    truth: str
    text: str
    confidence: float
    words: tuple[float, ...] = ()  # the confidence of each word of the text


def read_strips(reader: Reader, count: int) -> list[Outcome]:
    """Draw held-out strips and read them in groups, as the strips of a page are read."""
    fonts, lines = find_fonts(), reader.line_reader(reader.prompt)
    outcomes: list[Outcome] = []
    for start in range(0, count, 256):
        indices = range(FIRST_INDEX + start, FIRST_INDEX + min(start + 256, count))
        samples = [make_sample("strip", VALIDATION_SEED, i, fonts=fonts) for i in indices]
        pictures = [np.asarray(sample.image) for sample in samples]
        strips = [Strip(picture, np.eye(2, 3), (0, picture.shape[1]), 0) for picture in pictures]
        for sample, reading in zip(samples, lines.read_strips(strips), strict=True):
            done = reading.completion
            words = tuple(word_confidences(done, done.text.split()))
            outcomes.append(Outcome(sample.answer, done.text, reading.confidence, words))
        print(f"{len(outcomes)} of {count} strips", file=sys.stderr)
    return outcomes


def reliability(outcomes: Sequence[Outcome]) -> list[tuple[int, float, float]]:
    """(strips, mean confidence, share that is right) for each class of confidence, lowest first."""
    rows = []
    for low in range(BINS):
        members = [o for o in outcomes if low <= min(o.confidence * BINS, BINS - 1e-9) < low + 1]
        right = [o.text == o.truth for o in members]
        sure = [o.confidence for o in members]
        share = max(1, len(members))
        rows.append((len(members), sum(sure) / share, sum(right) / share))
    return rows


def expected_calibration_error(rows: Sequence[tuple[int, float, float]]) -> float:
    """Mean over all strips of |confidence - share that is right| of their class (arXiv 1706.04599)."""
    total = sum(count for count, _, _ in rows)
    return sum(count * abs(sure - right) for count, sure, right in rows) / total


def at_threshold(outcomes: Sequence[Outcome], least: float) -> dict[str, float]:
    """The value of reading if strips below the confidence `least` are left out as no text."""
    kept = [o.text if o.confidence >= least else "" for o in outcomes]
    empty = [text for text, o in zip(kept, outcomes, strict=True) if not o.truth]
    pairs = [(text, o.truth) for text, o in zip(kept, outcomes, strict=True) if o.truth]
    return {
        "threshold": least,
        "cer": corpus_character_error_rate([text for text, _ in pairs], [truth for _, truth in pairs]),
        "left_out": sum(len(truth) for text, truth in pairs if not text) / sum(len(t) for _, t in pairs),
        "invented": sum(bool(text) for text in empty) / max(1, len(empty)),
    }


def right_words(outcome: Outcome) -> list[bool]:
    """For each word that was read, whether it stands at its place in the truth too."""
    read, truth = outcome.text.split(), outcome.truth.split()
    right = [False] * len(read)
    for block in SequenceMatcher(None, read, truth, autojunk=False).get_matching_blocks():
        right[block.a : block.a + block.size] = [True] * block.size
    return right


def at_mark(outcomes: Sequence[Outcome], below: float, least: float) -> dict[str, float]:
    """What marks below a confidence of `below` say, in strips that are not left out."""
    kept = [o for o in outcomes if o.confidence >= least]
    words = [pair for o in kept for pair in zip(o.words, right_words(o), strict=True)]
    marked = [right for sure, right in words if sure < below]
    wrong = sum(not right for _, right in words)
    return {
        "mark_below": below,
        "marked": len(marked) / max(1, len(words)),
        "marked_are_wrong": sum(not right for right in marked) / max(1, len(marked)),
        "wrong_are_marked": sum(not right for right in marked) / max(1, wrong),
        "unmarked_are_wrong": (wrong - sum(not right for right in marked)) / max(1, len(words) - len(marked)),
    }


def main(argv: list[str] | None = None) -> None:
    """Read, print the tables and the JSON."""
    config = parse(CalibrationConfig, argv)
    use_threads(config.threads)
    reader = Reader(model_folder(config.model) if config.model else default_model_folder())
    if not reader.by_lines:
        raise UsageError("this model reads whole pictures; calibration is about models that read lines")
    outcomes = read_strips(reader, config.strips)
    rows = reliability(outcomes)
    cuts = [at_threshold(outcomes, least) for least in THRESHOLDS]
    marks = [at_mark(outcomes, below, reader.min_confidence) for below in MARKS]
    error = expected_calibration_error(rows)
    result_console().print(_reliability_table(rows, error))
    result_console().print(_threshold_table(cuts))
    result_console().print(_mark_table(marks))
    data = {**machine(), "strips": config.strips, "ece": error, "reliability": rows, "thresholds": cuts}
    data["marks"] = marks
    if config.json:
        write_json(config.json, data)
    print(json.dumps(data))


def _reliability_table(rows: Sequence[tuple[int, float, float]], error: float) -> Table:
    table = Table(title=f"Confidence against truth, expected calibration error {error:.3f}")
    for name in ("Confidence", "Strips", "Mean confidence", "Right letter for letter"):
        table.add_column(name, justify="right")
    for low, (count, sure, right) in enumerate(rows):
        table.add_row(
            f"{low / BINS:.1f} to {(low + 1) / BINS:.1f}", f"{count}", f"{sure:.3f}", f"{right:.3f}"
        )
    return table


def _threshold_table(cuts: Sequence[dict[str, float]]) -> Table:
    table = Table(title="What a threshold keeps")
    for name in ("Least confidence", "CER of strips with text", "Text left out", "Empty strips with text"):
        table.add_column(name, justify="right")
    for cut in cuts:
        shares = (cut["cer"], cut["left_out"], cut["invented"])
        table.add_row(f"{cut['threshold']:.2f}", *(f"{share:.2%}" for share in shares))
    return table


def _mark_table(marks: Sequence[dict[str, float]]) -> Table:
    table = Table(title="What marks of doubt say about words")
    names = ("Words marked", "Marked words wrong", "Wrong words marked", "Unmarked words wrong")
    for name in ("Marked below", *names):
        table.add_column(name, justify="right")
    for mark in marks:
        below, *shares = mark.values()
        table.add_row(f"{below:.2f}", *(f"{share:.1%}" for share in shares))
    return table


if __name__ == "__main__":
    sys.exit(run(main))
