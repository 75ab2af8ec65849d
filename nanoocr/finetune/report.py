"""What is handed over: the model folder with its card, and a page that shows before and after."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any

import torch

from nanoocr.files import read_folder, write_folder
from nanoocr.finetune.agreement import Agreement
from nanoocr.finetune.measure import (
    Interval,
    Measured,
    Reading,
    Verdict,
    cer,
    grounding,
    interval,
    mean_interval,
    without_case,
    word_f1,
)
from nanoocr.finetune.plan import FinetuneConfig, Split, strips_of
from nanoocr.finetune.task import as_png
from nanoocr.finetune.types import CutDocument
from nanoocr.model.folder import HEADS, load_letters, load_model, load_prompt, model_files

WORST = 24  # lines that the report shows
LEFT_OUT = 40  # lines without a truth that it names
TERMS = """CER: character errors / characters of the truth; case counts, white space is one blank. Word F1: of
the words as multisets. Grounding gap: word overlap with the right picture minus that with another one's. In
brackets: where it lies in 95 % of the resamplings of the documents. The hold-out was parted from the rest by
document before training. Drawn lines are the project's own held-out series, as the weights read them."""
CARD, REPORT, NUMBERS = "MODEL_CARD.md", "report.html", "finetune.json"


@dataclass(frozen=True)
class Story:
    """All that is told of a run."""

    config: FinetuneConfig
    mark: str
    cuts: Sequence[CutDocument]
    parts: Split
    problems: Sequence[str]
    found: Agreement
    steps: int
    share: float  # of the tuned weights in what is handed over, the rest being the base's
    letters: str  # what the texts are all written in, against the print; "" where they follow it
    before: Measured
    after: Measured
    verdict: Verdict
    tuned: Path  # the tuned model
    handed: Path  # whose weights are handed over: the tuned model's, or the base's
    base: Path

    @property
    def is_tuned(self) -> bool:
        """Whether the tuned weights are handed over, and not those of the base."""
        return self.handed == self.tuned


def write_result(story: Story, out: Path) -> None:
    """The model folder of a run: weights in fp16, card, report and numbers."""
    model, tokenizer = load_model(story.handed)
    about = {"finetuned": story.is_tuned, "data": story.mark, "steps": story.steps, "base": story.base.name}
    about |= {"letters": load_letters(story.handed), "prompt": load_prompt(story.base)}
    files = model_files(model, tokenizer, torch.float16, about)
    # The base's head drafts what the tuned model then judges: the text is the model's own, and comes sooner.
    if (head := read_folder(story.base, only=HEADS).get(HEADS)) is not None:
        files[HEADS] = head
    files[CARD] = card(story).encode()
    files[REPORT] = report(story).encode()
    files[NUMBERS] = json.dumps(numbers(story), indent=2, ensure_ascii=False).encode()
    write_folder(out, files)


# ---------------------------------------------------------------------------------------------------
# Numbers


def rows(story: Story) -> list[tuple[str, str, str]]:
    """(what, before, after) of everything that was measured."""

    def cers(name: str, seen: Callable[[Sequence[Reading]], Sequence[Reading]] = tuple) -> tuple[str, str]:
        """CER with its interval before and after, of the readings that `seen` makes of what was measured."""
        both = (seen(getattr(measured, name)) for measured in (story.before, story.after))
        one, other = (_span(interval(readings), "{:.2%}") for readings in both)
        return one, other

    def means(name: str, score: Callable[[Reading], float]) -> tuple[str, str]:
        """The mean of a score with its interval, before and after."""
        both = (mean_interval(getattr(measured, name), score) for measured in (story.before, story.after))
        one, other = (_span(value, "{:.3f}") for value in both)
        return one, other

    counts = (len(story.before.pages), len(story.before.lines), len(story.before.drawn))
    documents = "1 document" if counts[0] == 1 else f"{counts[0]} documents"
    return [
        (f"hold-out, {documents}: CER", *cers("pages")),
        *([("... CER without case", *cers("pages", without_case))] if story.letters else []),
        ("... word F1", *means("pages", word_f1)),
        (f"hold-out, {counts[1]} lines: CER", *cers("lines")),
        ("... grounding gap", *means("lines", grounding)),
        (f"drawn, {counts[2]} lines: CER", *cers("drawn")),
        ("... word F1", *means("drawn", word_f1)),
        ("... grounding gap", *means("drawn", grounding)),
    ]


def _span(value: Interval, form: str) -> str:
    """A value and its interval."""
    low, high = form.format(value.low), form.format(value.high)
    return f"{form.format(value.value)} ({low} to {high})"


def numbers(story: Story) -> dict[str, Any]:
    """What finetune.json keeps."""
    flags = {
        name: value for name, value in asdict(story.config).items() if name not in ("data", "out", "model")
    }
    return {
        "data": story.mark,
        "flags": flags,
        "steps": story.steps,
        "share_of_tuned": story.share,
        "letters": story.letters,
        "documents": {name: len(getattr(story.parts, name)) for name in ("train", "watch", "measure")},
        "lines": {name: len(strips_of(getattr(story.parts, name))) for name in ("train", "watch", "measure")},
        "aligned": story.found.aligned,
        "doubtful": list(story.found.doubtful),
        "problems": list(story.problems),
        "cer": {
            name: {"before": cer(getattr(story.before, name)), "after": cer(getattr(story.after, name))}
            for name in ("pages", "lines", "drawn")
        },
        "verdict": asdict(story.verdict),
        "tuned": story.is_tuned,
    }


def verdict_sentence(story: Story) -> str:
    """What was decided, in one sentence."""
    if story.verdict.better:
        own = story.verdict.own
        return (
            f"The tuned model reads the hold-out better: its CER fell by {-100 * own.value:.2f} points "
            f"({-100 * own.high:.2f} to {-100 * own.low:.2f} in 95 % of the resamplings)."
        )
    kept = (
        "The tuned weights were taken all the same"
        if story.is_tuned
        else "The base model's weights were kept"
    )
    return f"{kept}: {'; '.join(story.verdict.reasons)}."


def letters_sentence(story: Story) -> str:
    """What is done about texts that do not follow the case of the print; "" where they do."""
    if not story.letters:
        return ""
    return (
        f"The texts are all in {story.letters}, and the print is not: the model was trained to follow the "
        f"print, and its texts are then written in {story.letters}. The row without case tells what it reads "
        "better or worse than before."
    )


# ---------------------------------------------------------------------------------------------------
# The card


def card(story: Story) -> str:
    """The model card in Markdown; the head is what hubs read."""
    parts = story.parts
    measured = "\n".join(f"| {what} | {one} | {other} |" for what, one, other in rows(story))
    counted = "\n".join(
        f"| {name} | {len(getattr(parts, which))} | {len(strips_of(getattr(parts, which)))} |"
        for name, which in (("train", "train"), ("say when to stop", "watch"), ("measure", "measure"))
    )
    config = story.config
    return f"""---
library_name: nanoocr
pipeline_tag: image-to-text
tags: [ocr]
---

# A fine-tuned nanoocr model

{verdict_sentence(story)}

{letters_sentence(story)}

| | before | after |
|---|---|---|
{measured}

{TERMS}

## Data

Fingerprint {story.mark}. {story.found.aligned:.0%} of the texts' characters were found on the pictures.
{len(story.found.doubtful)} documents were left out because their texts do not belong to their pictures.

| to | documents | lines |
|---|---|---|
{counted}

## Training

Base: `{story.base.name}`. Up to {story.steps} steps of {config.batch_size} lines, {config.drawn:.0%} of them
drawn; all parts trained, AdamW at {config.lr:g} and Muon at {config.muon_lr:g}, averaged weights (decay
{config.average:g}), seed {config.seed}.
The step with the best validation on documents of its own was taken, and of its weights {story.share:.0%},
the rest being those of the base: the largest share with which drawn lines are read about as well as before.
"""


# ---------------------------------------------------------------------------------------------------
# The page

STYLE = """body{font:16px/1.5 sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:1rem 0}td,th{border:1px solid #ccc;padding:.3rem .6rem;text-align:left}
img{max-width:100%;border:1px solid #ccc}.good{color:#176b2c}.bad{color:#a32020}code{white-space:pre-wrap}"""


def report(story: Story) -> str:
    """One page without anything from outside, pictures included."""
    tone = "good" if story.verdict.better else "bad"
    body = [
        "<h1>Fine-tuning: before and after</h1>",
        f'<p class="{tone}"><b>{escape(verdict_sentence(story))}</b></p>',
        f"<p>{escape(letters_sentence(story))}</p>",
        _table(("", "before", "after"), rows(story)),
        f"<p>{escape(TERMS)}</p>",
        "<h2>The documents of the hold-out</h2>",
        _table(("document", "CER before", "CER after"), _documents(story)),
        "<h2>The worst lines of the hold-out</h2>",
        *_worst(story),
        "<h2>What was left out</h2>",
        _list([*story.found.warnings(), *story.problems]),
        "<h3>Lines on the pictures that no text was found for, as the base model read them</h3>",
        _list(_left_out(story)),
    ]
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Fine-tuning</title>'
        f"<style>{STYLE}</style>" + "\n".join(body) + "</html>\n"
    )


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    rest = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in line) + "</tr>" for line in lines)
    return f"<table><tr>{top}</tr>{rest}</table>"


def _list(sentences: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(one)}</li>" for one in sentences or ["nothing"]) + "</ul>"


def _documents(story: Story) -> list[tuple[str, str, str]]:
    pairs = zip(story.before.pages, story.after.pages, strict=True)
    ordered = sorted(pairs, key=lambda pair: -cer([pair[1]]))
    return [(one.name, f"{cer([one]):.2%}", f"{cer([other]):.2%}") for one, other in ordered]


def _worst(story: Story) -> list[str]:
    """The lines with the most errors after training, with their pictures."""
    strips = strips_of(story.parts.measure)
    triples: list[tuple[int, Reading, Reading]] = [
        (i, one, other)
        for i, (one, other) in enumerate(zip(story.before.lines, story.after.lines, strict=True))
        if other.errors
    ]
    triples.sort(key=lambda triple: -triple[2].errors)
    return [
        f"<p><b>{escape(after.name)}</b>, {_errors(after.errors)}<br>"
        f'<img alt="{escape(after.truth)}" src="data:image/png;base64,'
        f'{base64.b64encode(as_png(strips[i].pixels)).decode()}"><br>truth <code>{escape(after.truth)}</code>'
        f"<br>before <code>{escape(before.read)}</code><br>after <code>{escape(after.read)}</code></p>"
        for i, before, after in triples[:WORST]
    ] or ["<p>No line has an error.</p>"]


def _errors(count: int) -> str:
    return f"{count} error{'s' if count > 1 else ''}"


def _left_out(story: Story) -> list[str]:
    found = [f"{cut.document.name}: {line}" for cut in story.cuts for line in cut.left_out]
    more = [f"and {len(found) - LEFT_OUT} more"] if len(found) > LEFT_OUT else []
    return found[:LEFT_OUT] + more
