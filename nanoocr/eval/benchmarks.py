"""Fox and OmniDocBench as sets of samples, for nanoocr/eval/tasks.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from nanoocr.config import PROMPT
from nanoocr.eval.fox import PAGE_OCR, read_fox
from nanoocr.eval.omnidocbench import OmniPage, read_omnidocbench, score_omnidocbench
from nanoocr.eval.omnidocbench.extract import Version
from nanoocr.eval.samples import EvalSample, SampleSet, collect


def load_fox(
    folder: str | Path, tasks: Sequence[str] = (), per_group: int = 0, prompt: str = PROMPT
) -> SampleSet:
    """The page OCR of an unpacked Fox archive, or the `tasks` named; every task is a line of the table.

    Pages are read with `prompt`, the questions of other tasks are Fox's own.

    Raises:
        UsageError: as `read_fox`.
    """
    pages = read_fox(folder, tasks or PAGE_OCR)

    def sample(page_id: str, image: Path, question: str, truth: str) -> EvalSample:
        task = page_id.partition("/")[0]
        asked = prompt if task in PAGE_OCR else question
        return EvalSample(page_id, image, asked, truth, "document", (task,))

    found = (sample(page.id, page.image, page.prompt, page.truth) for page in pages)
    return collect(found, str(folder), per_group)


def load_omnidocbench(path: str | Path, per_group: int = 0, prompt: str = PROMPT) -> SampleSet:
    """The pages of OmniDocBench.json, or of its folder; every language is a line of the table.

    The truth of a page is its markdown in reading order; the official scores work on the annotation.

    Raises:
        UsageError: as `read_omnidocbench`.
    """

    def sample(page: OmniPage) -> EvalSample:
        languages = tuple(a for a in page.attributes if a.startswith("language:"))
        return EvalSample(page.id, page.image, prompt, page.markdown, "document", languages, page)

    return collect(map(sample, read_omnidocbench(path)), str(path), per_group)


def omnidocbench_scores(
    version: Version,
) -> Callable[[Sequence[EvalSample], Mapping[str, str]], dict[str, float]]:
    """The official averages of a version: `text_edit` over pages, `text_edit_whole` over all text, and so on.

    A page without an answer is all wrong (the official code leaves it out).
    """

    def score(samples: Sequence[EvalSample], texts: Mapping[str, str]) -> dict[str, float]:
        report = score_omnidocbench([sample.annotation for sample in samples], texts, version=version)
        known = {name: average for name, average in report.scores.items() if average is not None}
        means = {name: average.page_average for name, average in known.items()}
        whole = {f"{name}_whole": average.whole for name, average in known.items()}
        together = {} if report.overall is None else {"overall": report.overall}
        return {**means, **whole, **together}

    return score
