"""Fox's page scores: word sets and edit distance, in the official direction and the true one.

Fox (ucaslcl/Fox) scores sets of words, so order and repeats do not count. Its script swaps ground truth and
output, so the number that it prints as precision is the share of the *truth's* words that were found.
DeepSeek-OCR's "precision" on Fox is believed to be that number. This file has both directions, under names
that nobody can confuse.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from statistics import fmean
from typing import Any

from rapidfuzz.distance import Levenshtein

from nanoocr.errors import UsageError
from nanoocr.files import read_json_list

CHINESE = re.compile("[\u4e00-\u9fa5]")  # the character range that Fox itself uses


@dataclass(frozen=True)
class FoxScores:
    """Scores of one page, or their means over many pages; all in [0, 1]."""

    fox_precision_official: float  # |truth & output| / |truth|: recall in the usual sense
    precision: float  # |truth & output| / |output|
    recall: float  # |truth & output| / |truth|, the same number as the official "precision"
    f1: float
    ned: float  # character Levenshtein / longer text; lower is better


def fox_words(truth: str, output: str) -> tuple[set[str], set[str]]:
    """The word sets of both texts, split at white space, or by jieba where either text has Chinese.

    Raises:
        UsageError: there is Chinese and jieba is not installed.
    """
    if not CHINESE.search(truth) and not CHINESE.search(output):
        return set(truth.split()), set(output.split())
    try:
        import jieba
    except ImportError as error:
        raise UsageError(
            "scoring Chinese pages needs the extra: pip install 'nano-deepseek-ocr[eval]'"
        ) from error
    return set(jieba.cut(truth)), set(jieba.cut(output))


def fox_scores(output: str, truth: str) -> FoxScores:
    """Scores of one page. Texts are not normalised: case, punctuation and line breaks stay.

    Where the official script fails, we define: an empty output scores 0 in all word scores and NED 1; for an
    empty truth only an empty output is right.
    """
    wanted, found = fox_words(truth, output)
    if not wanted and not found:
        return FoxScores(1.0, 1.0, 1.0, 1.0, 0.0)
    common = len(wanted & found)
    precision = common / len(found) if found else 0.0
    recall = common / len(wanted) if wanted else 0.0
    f1 = 2 * precision * recall / (precision + recall) if common else 0.0
    ned = Levenshtein.distance(output, truth) / max(len(output), len(truth))
    return FoxScores(recall, precision, recall, f1, ned)


def mean_scores(pages: Sequence[FoxScores]) -> FoxScores:
    """The mean of every score over the pages, as Fox averages.

    Raises:
        ValueError: there are no pages.
    """
    if not pages:
        raise ValueError("no pages to average over")
    return FoxScores(*(fmean(getattr(page, field.name) for page in pages) for field in fields(FoxScores)))


# ---------------------------------------------------------------------------------------------------------
# The data: focus_benchmark_test.zip of ucaslcl/Fox_benchmark_data, unpacked

# Sub-tasks with one picture each, and the folders of their pictures (from Fox's README, which swaps the
# folders of the two line sub-tasks). The two sub-tasks over eight pages at once are not read.
FOX_PICTURES = {
    "en_page_ocr": "en_pdf_png",
    "cn_page_ocr": "cn_pdf_png",
    "en_box_ocr": "en_pdf_png",
    "cn_box_ocr": "cn_pdf_png",
    "en_line_ocr": "en_pdf_png",
    "cn_line_ocr": "cn_pdf_png",
    "en_onbox_ocr": "en_pdf_png_onbox",
    "cn_onbox_ocr": "cn_pdf_png_onbox",
    "en_box_translation": "en_pdf_png",
    "en_box_summary": "en_pdf_png",
    "en_page_indoc_caption": "en_pdf_png_render_laioncoco",
}
PAGE_OCR = ("en_page_ocr", "cn_page_ocr")
IMAGE_TAG = "<image>"


@dataclass(frozen=True)
class FoxPage:
    """One question of Fox. `id` is task/picture, with #2, #3 ... for further questions about one picture."""

    id: str
    image: Path
    prompt: str  # it lacks the placeholder of the picture
    truth: str


def read_fox(folder: str | Path, tasks: Sequence[str] = PAGE_OCR) -> Iterator[FoxPage]:
    """The questions of an unpacked Fox archive, task by task; pictures are not opened.

    Raises:
        UsageError: an unknown task, a missing file, or an entry (named by its number) not of the schema.
    """
    folder = Path(folder)
    inner = folder / "focus_benchmark_test"
    folder = inner if inner.is_dir() else folder
    for task in tasks:
        if task not in FOX_PICTURES:
            raise UsageError(f"Fox has no task {task!r} with one picture: {', '.join(FOX_PICTURES)}")
        file = folder / f"{task}.json"
        seen: Counter[str] = Counter()
        for number, entry in enumerate(read_json_list(file, "questions", "name Fox's folder")):
            picture, prompt, truth = _fox_entry(entry, f"{file}: entry {number}")
            name = f"{task}/{Path(picture).stem}"
            seen[name] += 1
            page_id = name if seen[name] == 1 else f"{name}#{seen[name]}"
            yield FoxPage(page_id, folder / FOX_PICTURES[task] / picture, prompt, truth)


def _fox_entry(entry: Any, name: str) -> tuple[str, str, str]:
    """(picture, prompt, truth) of one entry."""
    try:
        picture, (question, answer) = entry["image"], [turn["value"] for turn in entry["conversations"][:2]]
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{name} needs image and two conversations with a value ({error!r})") from error
    if not all(isinstance(text, str) for text in (picture, question, answer)):
        raise UsageError(f"{name}: image, question and answer are not all texts")
    return picture, question.replace(IMAGE_TAG, "").strip(), answer
