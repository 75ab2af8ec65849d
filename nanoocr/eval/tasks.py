"""Tasks: where the samples of an evaluation come from, and how one answer is scored.

A new task is a function that loads samples (nanoocr/eval/samples.py), a function that scores one answer where
`text_scores` is not what is wanted, a function over the whole set where pages are not scored one by one, and
one line in TASKS.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from nanoocr.config import PROMPT
from nanoocr.data.synth import KINDS
from nanoocr.errors import UsageError
from nanoocr.eval.benchmarks import (
    load_fox,
    load_olmocr_bench,
    load_omnidocbench,
    olmocr_score,
    olmocr_scores,
    omnidocbench_scores,
)
from nanoocr.eval.fox import CHINESE, fox_scores, fox_words
from nanoocr.eval.metrics import (
    anls,
    character_error_rate,
    normalised_edit_distance,
    relaxed_accuracy,
    word_bag_f1,
    word_error_rate,
    word_overlap,
)
from nanoocr.eval.omni_parse import load_omni_parse_bench, omni_parse_score, omni_parse_scores
from nanoocr.eval.page_tasks import (
    box_scores,
    fox_drops,
    icdar_scores,
    load_fox_pages,
    load_icdar,
    load_pages,
    spotted_scores,
    table_task_scores,
    whole_page_scores,
)
from nanoocr.eval.question_sets import docvqa_scores, load_questions, textvqa_scores
from nanoocr.eval.samples import (
    QUESTION,
    EvalSample,
    SampleSet,
    load_folder,
    load_manifest,
    load_synthetic,
)

TABLE_TRUTHS = (".html", ".htm", ".md", ".txt")  # suffixes of the files that hold a true table
PER_KIND = 100  # synthetic pictures of a kind where nothing else is said


@dataclass(frozen=True)
class Selection:
    """What a user asks of a task's loader."""

    data: str = ""  # folder or file
    kinds: tuple[str, ...] = ()  # () is all
    per_group: int = 0  # most samples of a line of the table; 0 is the task's own number
    prompt: str = PROMPT
    questions: bool = True  # also samples that ask about a picture


@dataclass(frozen=True)
class EvalTask:
    """How to load a set and how to score it; scores are named, and in [0, 1] but for error rates."""

    load: Callable[[Selection], SampleSet]
    score: Callable[[EvalSample, str], dict[str, float]]  # of one answer
    # of all answers (sample id -> text; "" where none was given) together, beside the means of `score`
    score_set: Callable[[Sequence[EvalSample], Mapping[str, str]], dict[str, float]] | None = None


# Of all other scores more is better.
LOWER_IS_BETTER = frozenset(("cer", "wer", "ned", "cer_free", "cer_strict", "ned_free"))


def text_scores(sample: EvalSample, text: str) -> dict[str, float]:
    """Scores of an answer: of a reading the text metrics, of an answered question two accuracies.

    `plain_word_f1` is the word-bag F1 without markup, for tables, forms and scenes: engines that know no
    markup and no reading order can be compared by it.

    Raises:
        UsageError: there is Chinese, and jieba is not installed.
    """
    truth = sample.truth
    if sample.kind == QUESTION:
        answers = sample.annotation or (truth,)
        relaxed = max(relaxed_accuracy(text, answer) for answer in answers)
        return {"relaxed_accuracy": relaxed, "anls": anls(text, answers)}
    fox = fox_scores(text, truth)
    return {
        "cer": character_error_rate(text, truth),
        "wer": word_error_rate(text, truth),
        "ned": normalised_edit_distance(text, truth),
        "fox_precision_official": fox.fox_precision_official,
        "precision": fox.precision,
        "f1": fox.f1,
        "word_overlap": word_overlap(text, truth),
        "plain_word_f1": plain_word_f1(text, truth),
    }


def plain_word_f1(text: str, truth: str) -> float:
    """The word-bag F1 without markup: engines that know none can be compared by it on tables and forms."""
    return word_bag_f1(without_markup(text), without_markup(truth))


_TAG = re.compile(r"</?[a-zA-Z][^<>]{0,1000}>")
_RULE = re.compile(r"(?<!\S):?-{3,}:?(?!\S)")


def without_markup(text: str) -> str:
    """The text with HTML tags, pipes and the dashed row of Markdown tables turned into blanks."""
    return html.unescape(_RULE.sub(" ", _TAG.sub(" ", text).replace("|", " ")))


def _synthetic(chosen: Selection) -> SampleSet:
    return load_synthetic(chosen.kinds or tuple(KINDS), chosen.per_group or PER_KIND, chosen.questions)


def _folder(chosen: Selection) -> SampleSet:
    return load_folder(_data(chosen), chosen.kinds, chosen.per_group, chosen.prompt)


def _tables(chosen: Selection) -> SampleSet:
    return load_folder(_data(chosen), chosen.kinds, chosen.per_group, chosen.prompt, TABLE_TRUTHS)


def _manifest(chosen: Selection) -> SampleSet:
    return load_manifest(_data(chosen), chosen.kinds, chosen.per_group, chosen.prompt, chosen.questions)


def _fox(chosen: Selection) -> SampleSet:
    return load_fox(_data(chosen), chosen.kinds, chosen.per_group, chosen.prompt)


def _omnidocbench(chosen: Selection) -> SampleSet:
    return load_omnidocbench(_data(chosen), chosen.per_group, chosen.prompt)


def _questions(chosen: Selection) -> SampleSet:
    if not chosen.questions:
        raise UsageError("this task is all questions, and an engine that only reads answers none")
    return load_questions(_data(chosen), chosen.per_group)


def _olmocr_bench(chosen: Selection) -> SampleSet:
    return load_olmocr_bench(_data(chosen), chosen.per_group, chosen.prompt)


def _omni_parse_bench(chosen: Selection) -> SampleSet:
    return load_omni_parse_bench(_data(chosen), chosen.per_group, chosen.prompt)


def _pages(load: Callable[[str, Sequence[str], int], SampleSet]) -> Callable[[Selection], SampleSet]:
    return lambda chosen: load(_data(chosen), chosen.kinds, chosen.per_group)


def _data(chosen: Selection) -> str:
    if not chosen.data:
        raise UsageError("this task needs --data=PATH")
    return chosen.data


TASKS: dict[str, EvalTask] = {
    "synthetic": EvalTask(_synthetic, text_scores),
    "folder": EvalTask(_folder, text_scores),
    "manifest": EvalTask(_manifest, text_scores),
    "fox": EvalTask(_fox, text_scores),
    "omnidocbench": EvalTask(_omnidocbench, text_scores, omnidocbench_scores("1.5")),
    "omnidocbench_v1.0": EvalTask(_omnidocbench, text_scores, omnidocbench_scores("1.0")),
    "fox_pages": EvalTask(_pages(load_fox_pages), whole_page_scores, fox_drops),
    "sroie": EvalTask(_pages(load_pages("sroie")), whole_page_scores),
    "sroie_lines": EvalTask(_pages(load_pages("sroie_lines")), whole_page_scores),
    "funsd": EvalTask(_pages(load_pages("funsd")), whole_page_scores),
    "born_digital": EvalTask(_pages(load_pages("born_digital")), whole_page_scores),
    "sroie_boxes": EvalTask(_pages(load_pages("sroie_boxes")), box_scores),
    "scenes": EvalTask(_pages(load_pages("scenes")), spotted_scores),
    "icdar2015": EvalTask(_pages(load_icdar), icdar_scores),
    "cards": EvalTask(lambda _: load_pages("cards")("", (), 0), whole_page_scores),
    "tables": EvalTask(_tables, table_task_scores),
    "docvqa": EvalTask(_questions, docvqa_scores),
    "textvqa": EvalTask(_questions, textvqa_scores),
    "olmocr_bench": EvalTask(_olmocr_bench, olmocr_scores, olmocr_score),
    "omni_parse_bench": EvalTask(_omni_parse_bench, omni_parse_scores, omni_parse_score),
}


def find_task(name: str) -> EvalTask:
    """The task called `name`. Raises UsageError for any other word."""
    if name not in TASKS:
        raise UsageError(f"unknown task {name!r}: choose one of {', '.join(TASKS)}")
    return TASKS[name]


def check_extras(task: EvalTask, samples: Sequence[EvalSample]) -> None:
    """Ask for what the scores need before hours of reading, not after them.

    Raises:
        UsageError: a truth holds Chinese and jieba is not installed, or the set's score lacks its packages.
    """
    chinese = next((match[0] for sample in samples if (match := CHINESE.search(sample.truth))), None)
    if chinese:
        fox_words(chinese, "")
    if task.score_set is not None:
        task.score_set(samples[:1], {samples[0].id: ""})


def main_metric(scores: Mapping[str, object]) -> str:
    """The score of these that a table shows: the comparable one, or else the first where more is better."""
    preferred = (
        "plain_word_f1",
        "relaxed_accuracy",
        "set_precision",
        *(name for name in scores if name not in LOWER_IS_BETTER),
    )
    return next(name for name in preferred if name in scores)
