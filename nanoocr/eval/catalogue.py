"""The benchmarks by name: how the samples of each are loaded, and how one answer is scored.

A new benchmark needs a function that loads samples (nanoocr/eval/samples.py) and one line in BENCHMARKS. It
may also have a function that scores one answer, where `text_scores` does not fit, and one over the whole set,
where pages are not scored one by one.
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
from nanoocr.eval.page_benchmarks import (
    box_scores,
    fox_drops,
    icdar_scores,
    load_fox_pages,
    load_icdar,
    load_pages,
    page_table_scores,
    spotted_scores,
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
PER_KIND = 100  # synthetic pictures per kind, unless the user gives a number


@dataclass(frozen=True)
class Selection:
    """The user's choices for a benchmark's loader."""

    data: str = ""  # folder or file
    kinds: tuple[str, ...] = ()  # () means all
    per_group: int = 0  # most samples of a group; 0 means the benchmark's own number
    prompt: str = PROMPT
    questions: bool = True  # include samples that ask about a picture


@dataclass(frozen=True)
class Benchmark:
    """How to load a set and how to score it. Scores have names, and lie in [0, 1] except for error rates."""

    load: Callable[[Selection], SampleSet]
    score: Callable[[EvalSample, str], dict[str, float]]  # scores one answer
    # Scores all answers together (sample id -> text, "" where none was given), besides the means of `score`.
    score_set: Callable[[Sequence[EvalSample], Mapping[str, str]], dict[str, float]] | None = None


# For all other scores more is better.
LOWER_IS_BETTER = frozenset(("cer", "wer", "ned", "cer_free", "cer_strict", "ned_free"))


def text_scores(sample: EvalSample, text: str) -> dict[str, float]:
    """Score an answer: text metrics for a reading, two accuracies for an answered question.

    `plain_word_f1` is the word-bag F1 without markup. On tables, forms and scenes it can compare engines that
    know no markup and no reading order.

    Raises:
        UsageError: a text has Chinese, and jieba is not installed.
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
    """The word-bag F1 without markup, which can compare engines that know no markup."""
    return word_bag_f1(without_markup(text), without_markup(truth))


_TAG = re.compile(r"</?[a-zA-Z][^<>]{0,1000}>")
# Tags that stand inside a word: H<sub>2</sub>O is one word.
_INLINE = re.compile(
    r"</?(?:sub|sup|b|i|u|s|em|strong|small|mark|del|ins|span|font|a)(?:\s[^<>]{0,1000})?>", re.IGNORECASE
)
_RULE = re.compile(r"(?<!\S):?-{3,}:?(?!\S)")


def without_markup(text: str) -> str:
    """Replace HTML tags, pipes and the dashed row of Markdown tables by blanks; drop tags within words."""
    plain = _TAG.sub(" ", _INLINE.sub("", text))
    return html.unescape(_RULE.sub(" ", plain.replace("|", " ")))


Loader = Callable[[Selection], SampleSet]
NO_USE = {
    "data": "draws its pictures itself, so that --data means nothing to it: leave it out",
    "kinds": "is of one kind, so that --kinds means nothing to it: leave it out",
}


def _without(unused: Sequence[str], load: Loader) -> Loader:
    """The loader, which refuses a choice that has no effect on it."""

    def checked(selection: Selection) -> SampleSet:
        """Load the set, or say which flag means nothing here."""
        for flag in unused:
            if getattr(selection, flag):
                raise UsageError(f"this benchmark {NO_USE[flag]}")
        return load(selection)

    return checked


def _synthetic(selection: Selection) -> SampleSet:
    return load_synthetic(
        selection.kinds or tuple(KINDS), selection.per_group or PER_KIND, selection.questions
    )


def _folder(selection: Selection) -> SampleSet:
    return load_folder(_data(selection), selection.kinds, selection.per_group, selection.prompt)


def _tables(selection: Selection) -> SampleSet:
    return load_folder(_data(selection), selection.kinds, selection.per_group, selection.prompt, TABLE_TRUTHS)


def _manifest(selection: Selection) -> SampleSet:
    return load_manifest(
        _data(selection), selection.kinds, selection.per_group, selection.prompt, selection.questions
    )


def _fox(selection: Selection) -> SampleSet:
    return load_fox(_data(selection), selection.kinds, selection.per_group, selection.prompt)


def _omnidocbench(selection: Selection) -> SampleSet:
    return load_omnidocbench(_data(selection), selection.per_group, selection.prompt)


def _questions(selection: Selection) -> SampleSet:
    if not selection.questions:
        raise UsageError("this benchmark is all questions, and an engine that only reads answers none")
    return load_questions(_data(selection), selection.per_group)


def _olmocr_bench(selection: Selection) -> SampleSet:
    return load_olmocr_bench(_data(selection), selection.per_group, selection.prompt)


def _omni_parse_bench(selection: Selection) -> SampleSet:
    return load_omni_parse_bench(_data(selection), selection.per_group, selection.prompt)


def _cards(selection: Selection) -> SampleSet:
    return load_pages("cards")("", (), selection.per_group)


def _pages(load: Callable[[str, Sequence[str], int], SampleSet]) -> Loader:
    return lambda selection: load(_data(selection), selection.kinds, selection.per_group)


def _page_set(name: str) -> Loader:
    return _of_one_kind(_pages(load_pages(name)))


def _of_one_kind(load: Loader) -> Loader:
    return _without(("kinds",), load)


def _data(selection: Selection) -> str:
    if not selection.data:
        raise UsageError("this benchmark needs --data=PATH")
    return selection.data


BENCHMARKS: dict[str, Benchmark] = {
    "synthetic": Benchmark(_without(("data",), _synthetic), text_scores),
    "folder": Benchmark(_folder, text_scores),
    "manifest": Benchmark(_manifest, text_scores),
    "fox": Benchmark(_fox, text_scores),
    "omnidocbench": Benchmark(_of_one_kind(_omnidocbench), text_scores, omnidocbench_scores("1.5")),
    "omnidocbench_v1.0": Benchmark(_of_one_kind(_omnidocbench), text_scores, omnidocbench_scores("1.0")),
    "fox_pages": Benchmark(_pages(load_fox_pages), whole_page_scores, fox_drops),
    "sroie": Benchmark(_page_set("sroie"), whole_page_scores),
    "sroie_lines": Benchmark(_page_set("sroie_lines"), whole_page_scores),
    "funsd": Benchmark(_page_set("funsd"), whole_page_scores),
    "born_digital": Benchmark(_page_set("born_digital"), whole_page_scores),
    "sroie_boxes": Benchmark(_page_set("sroie_boxes"), box_scores),
    "scenes": Benchmark(_page_set("scenes"), spotted_scores),
    "icdar2015": Benchmark(_of_one_kind(_pages(load_icdar)), icdar_scores),
    "cards": Benchmark(_without(("data", "kinds"), _cards), whole_page_scores),
    "tables": Benchmark(_tables, page_table_scores),
    "docvqa": Benchmark(_of_one_kind(_questions), docvqa_scores),
    "textvqa": Benchmark(_of_one_kind(_questions), textvqa_scores),
    "olmocr_bench": Benchmark(_of_one_kind(_olmocr_bench), olmocr_scores, olmocr_score),
    "omni_parse_bench": Benchmark(_of_one_kind(_omni_parse_bench), omni_parse_scores, omni_parse_score),
}


def find_benchmark(name: str) -> Benchmark:
    """The benchmark called `name`. Raises UsageError for any other word."""
    if name not in BENCHMARKS:
        raise UsageError(f"unknown benchmark {name!r}: choose one of {', '.join(BENCHMARKS)}")
    return BENCHMARKS[name]


def check_extras(benchmark: Benchmark, samples: Sequence[EvalSample]) -> None:
    """Check that everything the scores need is installed, before hours of reading and not after them.

    Raises:
        UsageError: a truth holds Chinese and jieba is not installed, or the set's score lacks its packages.
    """
    chinese = next((match[0] for sample in samples if (match := CHINESE.search(sample.truth))), None)
    if chinese:
        fox_words(chinese, "")
    if benchmark.score_set is not None:
        benchmark.score_set(samples[:1], {samples[0].id: ""})


def main_metric(scores: Mapping[str, object]) -> str:
    """The name of the score that a table shows: a comparable one, else the first where more is better."""
    preferred = (
        "plain_word_f1",
        "relaxed_accuracy",
        "set_precision",
        *(name for name in scores if name not in LOWER_IS_BETTER),
    )
    return next(name for name in preferred if name in scores)
