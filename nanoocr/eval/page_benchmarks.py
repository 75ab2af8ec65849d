"""Whole pages, boxes and tables as benchmarks: how they are loaded and scored.

`python -m scripts.vision_eval --benchmark=fox_pages --data=DIR` gives every score of
nanoocr/eval/page_scores.py with the grounding control. scripts.measure_pages compares many sets and engines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean

from nanoocr.config import PROMPT
from nanoocr.errors import UsageError
from nanoocr.eval.boxes import (
    NOT_LEGIBLE,
    detection_scores,
    format_boxes,
    parse_boxes,
    spotting_scores,
    spotting_text_scores,
    text_of_boxes,
)
from nanoocr.eval.metrics import normalised_edit_distance
from nanoocr.eval.page_scores import page_scores
from nanoocr.eval.page_sets import FOX_KINDS, load_page_set
from nanoocr.eval.samples import EvalSample, SampleSet, collect, read_truth
from nanoocr.eval.teds import table_scores
from nanoocr.folders import SUFFIXES, by_stem, files_below

Scores = dict[str, float]

# ---------------------------------------------------------------------------------------------------
# Pages


def load_fox_pages(folder: str | Path, kinds: Sequence[str] = (), per_group: int = 0) -> SampleSet:
    """Load Fox's pages as printed, as set anew, and as random letters; each of these kinds is a group.

    `folder` contains fox_pages/, as for scripts.measure_pages. A sample's id is KIND/NUMBER, by which the
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
    """Make a loader for the page set `name` (nanoocr/eval/page_sets.py), which has no kinds to select."""

    def load(folder: str | Path, kinds: Sequence[str] = (), per_group: int = 0) -> SampleSet:
        """The samples of the set in `folder`; `kinds` is not used."""
        found = load_page_set(name, folder, per_group)
        return SampleSet(found.samples, found.left_out)

    return load


def whole_page_scores(sample: EvalSample, text: str) -> Scores:
    """Every score of PageScores, under names that say the protocol, and NED without case."""
    scores = asdict(page_scores(text, sample.truth))
    return {**scores, "ned_free": normalised_edit_distance(text.casefold(), sample.truth.casefold())}


def fox_drops(samples: Sequence[EvalSample], texts: Mapping[str, str]) -> Scores:
    """The loss where text cannot be guessed: mean word-set precision of `rendered` minus that of `random`.

    It is given with and without case; {} unless both kinds are there.
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
# Boxes and scenes


def load_icdar(folder: str | Path, kinds: Sequence[str] = (), per_group: int = 0) -> SampleSet:
    """Load ICDAR's layout: img_1.jpg beside gt_img_1.txt, or truths and pictures in separate folders.

    A sample's id is the picture's name, so its answer is found as img_1.txt.

    Raises:
        UsageError: no such folder, or no picture with boxes in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder")
    files = sorted(files_below(folder)[0])
    pictures = by_stem(path for path in files if path.suffix.lower() in SUFFIXES)
    truths = by_stem(path for path in files if path.match("gt_*.txt"))
    truths = {name.removeprefix("gt_"): found for name, found in truths.items()}

    def sample(name: str) -> EvalSample | str:
        """One picture with its truth, or the reason why it is left out."""
        if name not in pictures or name not in truths:
            there, lacks = ("truth", "picture") if name in truths else ("picture", "truth")
            return f"{name}: a {there} without a {lacks}"
        picture, *more = pictures[name]
        truth_file, *others = truths[name]
        if more or others:
            found = ", ".join(str(path.relative_to(folder)) for path in (more or others))
            return f"{name}: there is also {found}: name the folders of one set alone"
        truth = read_truth(truth_file)
        if truth is None:
            return f"{name}: its truth is not UTF-8"
        odd = parse_boxes(truth)[1]
        if odd:
            return f"{name}: {odd} lines of its truth are no box (eight numbers and a text)"
        return EvalSample(name, picture, PROMPT, truth, "scene")

    return collect(map(sample, dict.fromkeys([*pictures, *truths])), str(folder), per_group)


def box_scores(sample: EvalSample, text: str) -> Scores:
    """How well the boxes of an answer fit those of the truth. An answer without boxes has found nothing."""
    return detection_scores(text, sample.truth)


def icdar_scores(sample: EvalSample, text: str) -> Scores:
    """Word spotting by place and text, word spotting by text alone, and detection of all words."""
    legible = format_boxes(box for box in parse_boxes(sample.truth)[0] if box.text != NOT_LEGIBLE)
    by_text = spotting_text_scores(text, text_of_boxes(legible))
    return {**spotting_scores(text, sample.truth), **by_text, **detection_scores(text, sample.truth)}


def spotted_scores(sample: EvalSample, text: str) -> Scores:
    """Word spotting for truths without places, and the scores of a page."""
    return {**whole_page_scores(sample, text), **spotting_text_scores(text, sample.truth)}


# ---------------------------------------------------------------------------------------------------
# Tables


def page_table_scores(sample: EvalSample, text: str) -> Scores:
    """TEDS and TEDS-S of an answer in HTML; an answer without a table has 0.

    Raises:
        UsageError: the packages of the extra `eval` are not installed.
    """
    found = table_scores(text, sample.truth)
    return {"teds": found.teds, "teds_structure": found.teds_structure}
