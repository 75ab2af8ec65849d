"""Loads Fox, OmniDocBench and olmOCR-bench as sets of samples, for nanoocr/eval/catalogue.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean

from nanoocr.config import PROMPT
from nanoocr.eval.fox import PAGE_OCR, read_fox
from nanoocr.eval.olmocr.tests import PageKey, TestSet, read_tests, score_pages, with_baselines
from nanoocr.eval.omnidocbench import OmniPage, read_omnidocbench, score_omnidocbench
from nanoocr.eval.omnidocbench.extract import Version
from nanoocr.eval.samples import EvalSample, SampleSet, collect


def load_fox(
    folder: str | Path, tasks: Sequence[str] = (), per_group: int = 0, prompt: str = PROMPT
) -> SampleSet:
    """Load the page OCR of an unpacked Fox archive, or the sub-tasks named in `tasks`; each is a group.

    Pages are read with `prompt`; other sub-tasks have questions of their own.

    Raises:
        UsageError: as `read_fox`.
    """
    pages = read_fox(folder, tasks or PAGE_OCR)

    def sample(page_id: str, image: Path, question: str, truth: str) -> EvalSample:
        """One page, or one question about a page."""
        task = page_id.partition("/")[0]
        asked = prompt if task in PAGE_OCR else question
        return EvalSample(page_id, image, asked, truth, "document", (task,))

    found = (sample(page.id, page.image, page.prompt, page.truth) for page in pages)
    return collect(found, str(folder), per_group)


def load_omnidocbench(
    path: str | Path, per_group: int = 0, prompt: str = PROMPT, pictures: str | Path = ""
) -> SampleSet:
    """Load the pages of OmniDocBench.json, or of its folder; every language is a group.

    `pictures` is the folder of the pictures, where they do not lie in images/ beside the annotation.

    The truth of a page is its markdown in reading order; the official scores work on the annotation.

    Raises:
        UsageError: as `read_omnidocbench`.
    """

    def sample(page: OmniPage) -> EvalSample:
        """One page; its languages are its groups."""
        languages = tuple(a for a in page.attributes if a.startswith("language:"))
        image = Path(pictures) / page.image.name if pictures else page.image
        return EvalSample(page.id, image, prompt, page.markdown, "document", languages, page)

    return collect(map(sample, read_omnidocbench(path)), str(path), per_group)


def omnidocbench_scores(
    version: Version,
) -> Callable[[Sequence[EvalSample], Mapping[str, str]], dict[str, float]]:
    """The official averages of a version: `text_edit` over pages, `text_edit_whole` over all text, and more.

    A page without an answer counts as all wrong, while the official code leaves it out.
    """

    def score(samples: Sequence[EvalSample], texts: Mapping[str, str]) -> dict[str, float]:
        """The scores of the set: means over pages, scores of all pages as one text, and the overall score."""
        report = score_omnidocbench([sample.annotation for sample in samples], texts, version=version)
        known = {name: average for name, average in report.scores.items() if average is not None}
        means = {name: average.page_average for name, average in known.items()}
        whole = {f"{name}_whole": average.whole for name, average in known.items()}
        together = {} if report.overall is None else {"overall": report.overall}
        return {**means, **whole, **together}

    return score


# ---------------------------------------------------------------------------------------------------
# olmOCR-bench


def load_olmocr_bench(folder: str | Path, per_group: int = 0, prompt: str = PROMPT) -> SampleSet:
    """Load every page that some test in a folder of .jsonl files is about; PDFs lie in it, or in its pdfs/.

    A sample's annotation is its tests, a TestSet. Tests of types that cannot run here, and lines that are no
    test, are reported as left out.

    Raises:
        UsageError: there is no such folder, no test in it, or none of its pages.
    """
    folder = Path(folder)
    found = read_tests(folder)
    of_page: dict[PageKey, list[int]] = {}
    tests = with_baselines(found.tests)
    for number, test in enumerate(tests):
        of_page.setdefault((test.document, test.page), []).append(number)
    not_run = tuple(
        f"{count} tests of type {kind} cannot be run here" for kind, count in found.not_run.items()
    )

    def sample(key: PageKey) -> EvalSample | str:
        """One page with its own tests, or the reason why it is left out."""
        document, page = key
        names = (f"pdfs/{document}.pdf", f"{document}.pdf")
        picture = next((folder / name for name in names if (folder / name).is_file()), None)
        if picture is None:
            return f"{document}.pdf: missing, with {len(of_page[key])} tests"
        own = TestSet(tuple(tests[number] for number in of_page[key]), {}, ())
        groups = tuple(dict.fromkeys(test.kind for test in own.tests))
        return EvalSample(f"{document}_pg{page}", picture, prompt, "", "document", groups, own, page=page)

    pages = collect(map(sample, of_page), str(folder), per_group)
    return SampleSet(pages.samples, (*pages.left_out, *not_run, *found.problems))


def olmocr_scores(sample: EvalSample, text: str) -> dict[str, float]:
    """The share of a page's tests that its text passes."""
    own: TestSet = sample.annotation
    key = (own.tests[0].document, own.tests[0].page)
    report = score_pages(own, {key: text})
    passed = [outcome.passed for outcome in report.outcomes if outcome.test in own.tests]
    return {"tests_passed": fmean(passed)}


def olmocr_score(samples: Sequence[EvalSample], texts: Mapping[str, str]) -> dict[str, float]:
    """The benchmark's score: the mean over its files of the share of passed tests; and that share by type."""
    tests = TestSet(tuple(test for sample in samples for test in sample.annotation.tests), {}, ())
    keys = {sample.id: sample.annotation.tests[0] for sample in samples}
    report = score_pages(tests, {(keys[i].document, keys[i].page): texts[i] for i in keys})
    return {
        "olmocr_bench": report.score,
        **{f"passed_{kind}": share for kind, share in report.by_kind.items()},
    }
