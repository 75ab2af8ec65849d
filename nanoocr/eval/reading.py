"""Measures whether a model reads, and whether it looks; for validation, `vision_sample` and the model card.

Every row's question is asked about its own picture and about another row's. The grounding gap is the mean
word overlap with the right picture minus that with the wrong one. A model that recites its language prior has
gap 0, however good its loss looks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from nanoocr.bpe import Tokenizer
from nanoocr.data.batch import collate
from nanoocr.data.example import Example, prepare
from nanoocr.data.rows import NO_BOXES, Row, Turn
from nanoocr.errors import UsageError
from nanoocr.eval.feature_health import FeatureHealth, feature_health, picture_vector
from nanoocr.eval.grounding import wrong_picture
from nanoocr.eval.metrics import (
    character_error_rate,
    corpus_character_error_rate,
    grounding_gap,
    word_overlap,
)
from nanoocr.image_process import Mode, normalise
from nanoocr.inference.engine import Engine, Request
from nanoocr.inference.page import Page
from nanoocr.inference.reader import Reader
from nanoocr.model.vlm import VLM

BATCH = 32


@dataclass(frozen=True)
class RowResult:
    """One row, read with its own picture and with another one."""

    id: str
    source: str
    truth: str
    text: str  # with the right picture
    text_wrong_picture: str
    loss: float  # nats per supervised token, teacher-forced
    cer: float
    overlap: float  # word overlap from 0 to 1
    overlap_wrong_picture: float
    status: str


@dataclass(frozen=True)
class ReadingReport:
    """Results per row, averages, and the health of the features over the set."""

    rows: tuple[RowResult, ...]
    loss: float  # mean over rows
    cer: float  # over the whole set: errors / characters
    overlap: float
    grounding_gap: float
    # keys sam, clip, projected; empty with fewer than 3 pictures of one size
    health: dict[str, FeatureHealth]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**asdict(self), "health": {name: h._asdict() for name, h in self.health.items()}}


def evaluate_reading(
    model: VLM,
    tokenizer: Tokenizer,
    rows: Sequence[Row],
    *,
    max_tokens: int = 512,
    wrong_pictures: bool = True,
    modes: Sequence[Mode | None] | None = None,
) -> ReadingReport:
    """Read all rows greedily and score them; then do the same with every picture replaced by another row's.

    `modes` are the rows' resolution modes; None means the best of the model's views.

    Raises:
        UsageError: a row has no picture, or there is only one row to hand pictures on.
    """
    if any(not row.pictures for row in rows) or (wrong_pictures and len(rows) < 2):
        raise UsageError("reading is measured on at least two rows, each with a picture")
    views, length = model.config.views, model.config.gpt.sequence_len
    modes = [None] * len(rows) if modes is None else modes
    examples = [prepare(row, tokenizer, views, length, mode) for row, mode in zip(rows, modes, strict=True)]
    losses = row_losses(model, tokenizer, examples)
    right = read_examples(model, tokenizer, examples, max_tokens)
    wrong = [("", "")] * len(rows)
    if wrong_pictures:
        wrong = _read_wrong_pictures(model, tokenizer, rows, modes, right, max_tokens)
    results = tuple(
        RowResult(
            id=row.id,
            source=row.source,
            truth=row.answer,
            text=text,
            text_wrong_picture=wrong_text,
            loss=loss,
            cer=character_error_rate(text, row.answer),
            overlap=word_overlap(text, row.answer),
            overlap_wrong_picture=word_overlap(wrong_text, row.answer),
            status=status,
        )
        for row, loss, (text, status), (wrong_text, _) in zip(rows, losses, right, wrong)
    )
    return summarise(results, encoder_health(model, examples))


def _read_wrong_pictures(
    model: VLM,
    tokenizer: Tokenizer,
    rows: Sequence[Row],
    modes: Sequence[Mode | None],
    right: Sequence[tuple[str, str]],
    max_tokens: int,
) -> list[tuple[str, str]]:
    """(text, status) of every row's question about another row's picture; `right` holds the first reading.

    Where the other row asks the same question, its answer is already known.
    """
    prompts, answers = [row.prompt for row in rows], [row.answer for row in rows]
    others = [wrong_picture(prompts, answers, i) for i in range(len(rows))]
    asked = [
        i
        for i, j in enumerate(others)
        if len(rows[j].turns) > 1 or (prompts[i], modes[i]) != (prompts[j], modes[j])
    ]
    views, length = model.config.views, model.config.gpt.sequence_len
    examples = [prepare(with_wrong_picture(rows, i), tokenizer, views, length, modes[i]) for i in asked]
    read = dict(zip(asked, read_examples(model, tokenizer, examples, max_tokens) if asked else []))
    return [read.get(i, right[j]) for i, j in enumerate(others)]


def evaluate_pages(reader: Reader, rows: Sequence[Row]) -> tuple[RowResult, ...]:
    """Read rows that ask for the whole text as `nanoocr read` does: line by line if the model reads lines.

    The reading of another row's picture is that row's own text, because all ask the same. There is no loss.
    """
    texts = [reader.read(row.images()[0]) for row in rows]
    pages = [page for page in texts if isinstance(page, Page)]
    prompts, answers = [row.prompt for row in rows], [row.answer for row in rows]
    wrong = [pages[wrong_picture(prompts, answers, i)].text for i in range(len(rows))]
    return tuple(
        RowResult(
            id=row.id,
            source=row.source,
            truth=row.answer,
            text=page.text,
            text_wrong_picture=other,
            loss=math.nan,
            cer=character_error_rate(page.text, row.answer),
            overlap=word_overlap(page.text, row.answer),
            overlap_wrong_picture=word_overlap(other, row.answer),
            status=page.status,
        )
        for row, page, other in zip(rows, pages, wrong, strict=True)
    )


def with_wrong_picture(rows: Sequence[Row], i: int) -> Row:
    """Row i's question about another row's picture, if possible one that asks the same."""
    other = rows[wrong_picture([row.prompt for row in rows], [row.answer for row in rows], i)]
    unanswered = Turn(rows[i].prompt, "")
    return replace(rows[i], pictures=other.pictures, turns=(unanswered,), chars="", boxes=NO_BOXES)


def summarise(results: tuple[RowResult, ...], health: dict[str, FeatureHealth]) -> ReadingReport:
    """Averages over the rows."""
    overlaps = [result.overlap for result in results]
    return ReadingReport(
        rows=results,
        loss=sum(result.loss for result in results) / len(results),
        cer=corpus_character_error_rate([r.text for r in results], [r.truth for r in results]),
        overlap=sum(overlaps) / len(overlaps),
        grounding_gap=grounding_gap(overlaps, [result.overlap_wrong_picture for result in results]),
        health=health,
    )


def read_examples(
    model: VLM, tokenizer: Tokenizer, examples: Sequence[Example], max_tokens: int
) -> list[tuple[str, str]]:
    """Greedy (text, status) for every example's prompt, which ends at the last assistant_start."""
    requests = []
    for example in examples:
        start = len(example.ids) - example.ids[::-1].index(tokenizer.assistant_start_id)
        room = model.config.gpt.sequence_len - start
        requests.append(Request(tuple(example.ids[:start]), example.pixels, min(max_tokens, room)))
    return [(c.text, c.status) for c in Engine(model, tokenizer).generate(requests, max_batch=BATCH)]


@torch.inference_mode()
def row_losses(model: VLM, tokenizer: Tokenizer, examples: Sequence[Example]) -> list[float]:
    """Mean teacher-forced loss of each example's supervised tokens, nats."""
    losses = []
    for example in examples:
        batch = collate([example], tokenizer.assistant_end_id)
        loss = model(batch.ids.to(model.device), batch.targets.to(model.device), example.pixels)
        losses.append(float(loss.mean))
    return losses


@torch.inference_mode()
def encoder_health(model: VLM, examples: Sequence[Example]) -> dict[str, FeatureHealth]:
    """Feature health of SAM, CLIP and the projector over the pictures of the most frequent size."""
    pictures = [picture.overview for example in examples for picture in example.pixels]
    sizes = [tuple(picture.shape) for picture in pictures]
    size = max(set(sizes), key=lambda candidate: (sizes.count(candidate), candidate))
    of_that_size = [picture for picture in pictures if tuple(picture.shape) == size]
    if len(of_that_size) < 3:
        return {}
    blank = torch.full(size, 255, dtype=torch.uint8)
    stages: dict[str, list[Tensor]] = {"sam": [], "clip": [], "projected": []}
    for start in range(0, len(of_that_size) + 1, BATCH):
        views = normalise(torch.stack([*of_that_size, blank][start : start + BATCH]))
        features = model.encoder(views.to(model.device, model.compute_dtype))
        stages["sam"].append(features.sam)
        stages["clip"].append(features.clip)
        stages["projected"].append(features.projected.flatten(1, 2))
    vectors = {name: picture_vector(torch.cat(parts).float()) for name, parts in stages.items()}
    return {name: feature_health(vector[:-1], vector[-1]) for name, vector in vectors.items()}
