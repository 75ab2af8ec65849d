"""Scores that only some page sets have: official scores, boxes, spotted words.

Every entry is a function over all pages that were read (sample id -> text), and returns named numbers. Its
control is the same function over answers that were given to other pages.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

from nanoocr.eval.benchmarks import olmocr_score, omnidocbench_scores
from nanoocr.eval.boxes import detection_scores, spotting_text_scores
from nanoocr.eval.catalogue import plain_word_f1
from nanoocr.eval.fox import fox_scores
from nanoocr.eval.grounding import wrong_picture
from nanoocr.eval.metrics import word_bag_f1
from nanoocr.eval.page_benchmarks import page_table_scores
from nanoocr.eval.samples import EvalSample

Scores = dict[str, float]
Texts = Mapping[str, str]
SetScorer = Callable[[Sequence[EvalSample], Texts], Scores]


def means(score: Callable[[EvalSample, str], Mapping[str, float]]) -> SetScorer:
    """Turn a score of one answer into its mean over all answers."""

    def over_all(samples: Sequence[EvalSample], texts: Texts) -> Scores:
        """The mean of each score over all samples; none for no samples."""
        pages = [score(sample, texts[sample.id]) for sample in samples]
        return {name: fmean(page[name] for page in pages) for name in pages[0]} if pages else {}

    return over_all


def omnidocbench(samples: Sequence[EvalSample], texts: Texts) -> Scores:
    """The official v1.5 scores of all pages, and text_edit of each language; {} for an empty set."""
    score = omnidocbench_scores("1.5")
    found = score(samples, texts) if samples else {}
    for language in ("english", "simplified_chinese"):
        own = [sample for sample in samples if f"language: {language}" in sample.groups]
        if own:
            found[f"text_edit_{language}"] = score(own, texts)["text_edit"]
    return found


def _fox(sample: EvalSample, text: str) -> Scores:
    found = fox_scores(text, sample.truth)
    return {"fox_precision_official": found.fox_precision_official, "fox_f1": found.f1, "fox_ned": found.ned}


def _table(sample: EvalSample, text: str) -> Scores:
    return {**page_table_scores(sample, text), "plain_word_f1": plain_word_f1(text, sample.truth)}


def rejoined(text: str) -> str:
    """The text with the words whole that a hyphen parts at the end of a line."""
    return re.sub(r"(?<=\w)-\s*\n\s*(?=\w)", "", text)


def _rejoined(sample: EvalSample, text: str) -> Scores:
    """The F1 of bag_f1_free, with the words that line ends part made whole on both sides.

    pdftotext wrote the truth and took such hyphens out (also those of "high-intensity"), which nobody who
    reads the picture line by line can do.
    """
    output, truth = (" ".join(rejoined(side).casefold().split()) for side in (text, sample.truth))
    return {"bag_f1_rejoined": word_bag_f1(output, truth)}


EXTRAS: dict[str, SetScorer] = {
    **{f"fox_{kind}": means(_fox) for kind in ("original", "rendered", "random")},
    "born_digital": means(_rejoined),
    "omnidocbench": omnidocbench,
    "olmocr_bench": lambda samples, texts: olmocr_score(samples, texts) if samples else {},
    "scenes": means(lambda sample, text: spotting_text_scores(text, sample.truth)),
    "sroie_boxes": means(lambda sample, text: detection_scores(text, sample.truth)),
    "tables": means(_table),
}


def other_answers(samples: Sequence[EvalSample], texts: Texts) -> dict[str, str]:
    """The grounding control without a second reading: each sample gets the answer to another's picture.

    An engine that is asked nothing, or the same about every page, would have given just this answer for the
    wrong picture. {} where there is only one sample.
    """
    if len(samples) < 2:
        return {}
    keys, truths = [(s.kind, s.prompt) for s in samples], [s.truth for s in samples]
    return {s.id: texts[samples[wrong_picture(keys, truths, i)].id] for i, s in enumerate(samples)}
