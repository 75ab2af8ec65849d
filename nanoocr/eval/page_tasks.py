"""Whole pages, tables and olmOCR-bench as tasks of an evaluation: how they are loaded and scored.

`python -m scripts.vision_eval --task=fox_pages --data=DIR` gives every score of nanoocr/eval/page_scores.py
with the grounding control; scripts.measure_pages puts many sets and engines side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean

from nanoocr.config import PROMPT
from nanoocr.errors import UsageError
from nanoocr.eval.metrics import normalised_edit_distance
from nanoocr.eval.olmocr.tests import PageKey, TestSet, read_tests, score_pages, with_baselines
from nanoocr.eval.page_scores import page_scores
from nanoocr.eval.page_sets import FOX_KINDS, load_page_set
from nanoocr.eval.samples import EvalSample, SampleSet, collect
from nanoocr.eval.teds import table_scores

Scores = dict[str, float]

# ---------------------------------------------------------------------------------------------------
# Pages


def load_fox_pages(folder: str | Path, kinds: Sequence[str] = (), per_group: int = 0) -> SampleSet:
    """Fox's pages as they were printed, set anew, and as random letters; each is a line of the table.

    `folder` holds fox_pages/, as for scripts.measure_pages. A sample's id is KIND/NUMBER, which is how the
    published answers of other systems are filed.

    Raises:
        UsageError: an unknown kind, or no pages.
    """
    unknown = sorted(set(kinds) - set(FOX_KINDS))
    if unknown:
        raise UsageError(f"unknown kind {unknown[0]!r} of Fox's pages: choose among {', '.join(FOX_KINDS)}")
    samples: list[EvalSample] = []
    left_out: list[str] = []
    for kind in kinds or FOX_KINDS:
        pages = load_page_set(f"fox_{kind}", folder, per_group)
        samples += [replace(page, id=f"{kind}/{page.id}", groups=(kind,)) for page in pages.samples]
        left_out += pages.left_out
    return SampleSet(tuple(samples), tuple(left_out))


def load_pages(name: str) -> Callable[[str | Path, Sequence[str], int], SampleSet]:
    """A loader of the page set `name` (nanoocr/eval/page_sets.py), which has no kinds to choose from."""

    def load(folder: str | Path, kinds: Sequence[str] = (), per_group: int = 0) -> SampleSet:
        found = load_page_set(name, folder, per_group)
        return SampleSet(found.samples, found.left_out)

    return load


def whole_page_scores(sample: EvalSample, text: str) -> Scores:
    """Every score of PageScores, under names that say the protocol, and NED without case."""
    scores = asdict(page_scores(text, sample.truth))
    return {**scores, "ned_free": normalised_edit_distance(text.casefold(), sample.truth.casefold())}


def fox_drops(samples: Sequence[EvalSample], texts: Mapping[str, str]) -> Scores:
    """What is lost where the text cannot be guessed: mean word-set precision of `rendered` minus `random`.

    With case and without; {} unless both kinds are there.
    """
    means = {}
    for kind in ("rendered", "random"):
        pages = [page_scores(texts[s.id], s.truth) for s in samples if s.id.startswith(f"{kind}/")]
        if not pages:
            return {}
        means[kind] = [fmean(getattr(page, name) for page in pages) for name in _PRECISIONS]
    differences = (natural - random for natural, random in zip(means["rendered"], means["random"]))
    return dict(zip(("drop_set_precision", "drop_set_precision_free"), differences))


_PRECISIONS = ("set_precision", "set_precision_free")


# ---------------------------------------------------------------------------------------------------
# Tables


def table_task_scores(sample: EvalSample, text: str) -> Scores:
    """TEDS and TEDS-S of an answer in HTML; an answer without a table has 0.

    Raises:
        UsageError: the packages of the extra `eval` are not installed.
    """
    found = table_scores(text, sample.truth)
    return {"teds": found.teds, "teds_structure": found.teds_structure}


# ---------------------------------------------------------------------------------------------------
# olmOCR-bench


def load_olmocr_bench(folder: str | Path, per_group: int = 0, prompt: str = PROMPT) -> SampleSet:
    """Every page that a test of a folder of .jsonl files is about; the PDFs lie in it, or in pdfs/ below it.

    A sample's annotation is its tests, a TestSet. Tests of types that cannot be run here, and lines that are
    no test, are among what is left out.

    Raises:
        UsageError: no such folder, no test in it, or none of its pages is there.
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


def olmocr_scores(sample: EvalSample, text: str) -> Scores:
    """The share of a page's tests that its text passes."""
    own: TestSet = sample.annotation
    key = (own.tests[0].document, own.tests[0].page)
    report = score_pages(own, {key: text})
    passed = [outcome.passed for outcome in report.outcomes if outcome.test in own.tests]
    return {"tests_passed": fmean(passed)}


def olmocr_score(samples: Sequence[EvalSample], texts: Mapping[str, str]) -> Scores:
    """The benchmark's score: the mean over its files of the share of tests passed; and the share by type."""
    tests = TestSet(tuple(test for sample in samples for test in sample.annotation.tests), {}, ())
    keys = {sample.id: sample.annotation.tests[0] for sample in samples}
    report = score_pages(tests, {(keys[i].document, keys[i].page): texts[i] for i in keys})
    return {
        "olmocr_bench": report.score,
        **{f"passed_{kind}": share for kind, share in report.by_kind.items()},
    }
