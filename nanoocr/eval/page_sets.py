"""Real pages with their truth, as sets to read: receipts, forms, Fox's pages, pages of PDFs.

The pictures are not part of the project: `load_page_set("sroie", "../shared/data")` takes the folder that
holds them. Two kinds of sets are drawn here instead (nanoocr/eval/made_pages.py): pictures without text, and
rotated pages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from nanoocr.config import PROMPT
from nanoocr.errors import UsageError
from nanoocr.eval.benchmarks import load_olmocr_bench, load_omnidocbench
from nanoocr.eval.boxes import TextBox, format_boxes, quads
from nanoocr.eval.made_pages import TURNS, empty_samples, turned_samples
from nanoocr.eval.samples import EvalSample, SampleSet, collect, load_synthetic, read_truth
from nanoocr.eval.store import find_predictions
from nanoocr.files import lines_as_lf, parse_json

FOX = "fox_pages"
FOX_ANSWERS = f"{FOX}/answers"
FOX_KINDS = ("original", "rendered", "random")
OMNI_ANNOTATION = "omnidocbench_golden/OmniDocBench_demo.json"
CARDS = 24
LINE_MARGIN = 0.25  # A line is cut out with this share of its box's height as a margin on all four sides.
FAR_OUTSIDE = 2  # A corner beyond this many sides of the page is a mistake.
Found = Iterator[EvalSample | str]


@dataclass(frozen=True)
class PageSet:
    """Pages to read, the protocol of their scores, and one sentence for everything that is no page."""

    name: str
    protocol: str  # one sentence: what is shown to engines, and what is compared
    samples: tuple[EvalSample, ...]
    left_out: tuple[str, ...] = ()
    boxes: bool = False  # whether answers and truths are boxes (nanoocr/eval/boxes.py)


# ---------------------------------------------------------------------------------------------------
# Loaders. Each takes the folder of all data and yields samples, or strings that say what was left out.


def _rows(file: Path) -> Iterator[dict[str, Any] | str]:
    """Yield the objects of a file with one JSON object a line, or a sentence for each odd line.

    Raises:
        UsageError: the file cannot be read.
    """
    try:
        lines = file.read_bytes().splitlines()
    except OSError as error:
        raise UsageError(f"{file}: cannot be read ({error.strerror}): name the folder by --data") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = parse_json(line)
        except ValueError:
            row = None
        yield row if isinstance(row, dict) else f"{file.name}, line {number}: not a JSON object"


def _page(folder: Path, name: str, row: dict[str, Any], kind: str) -> EvalSample | str:
    """The page for one row of a manifest, or a sentence that says why it is none."""
    image, text = row.get("image"), row.get("text")
    if not isinstance(image, str) or not isinstance(text, str):
        return f"{name}: image and text must be names of files"
    missing = next((path for path in (image, text) if not (folder / path).is_file()), None)
    if missing:
        return f"{name}: {missing} is missing"
    truth = read_truth(folder / text)
    if truth is None:
        return f"{name}: its truth {text} is not UTF-8"
    return EvalSample(name, folder / image, PROMPT, lines_as_lf(truth), kind)


def _of_dataset(dataset: str, kind: str) -> Callable[[Path], Found]:
    """Make a loader for the rows of one data set in manifest.jsonl; `kind` is what engines are told."""

    def load(data: Path) -> Found:
        """The data set's pages in the manifest of `data`, and sentences about broken rows."""
        for row in _rows(data / "manifest.jsonl"):
            if isinstance(row, str) or row.get("dataset") == dataset:
                yield row if isinstance(row, str) else _page(data, f"{dataset}/{row.get('id')}", row, kind)

    return load


def _fox(kind: str) -> Callable[[Path], Found]:
    """Make a loader for one of the three settings of Fox's pages."""

    def load(data: Path) -> Found:
        """The pages of this setting, and sentences about broken rows."""
        for row in _rows(data / FOX / "manifest.jsonl"):
            if isinstance(row, str) or row.get("kind") == kind:
                yield row if isinstance(row, str) else _page(data / FOX, f"{row.get('id')}", row, "document")

    return load


def _receipt_lines(data: Path) -> Found:
    """Yield every line of every receipt as a picture of its own, cut out by its true box."""
    for row in _rows(data / "sroie_receipts_lines.jsonl"):
        if isinstance(row, str):
            yield row
            continue
        try:
            name, image, lines = str(row["id"]), data / str(row["image"]), list(row["lines"])
            page = np.asarray(Image.open(image).convert("RGB"))
        except (KeyError, TypeError, OSError) as error:
            yield f"sroie_receipts_lines.jsonl, {row.get('id')}: no picture with lines ({error!r})"
            continue
        for number, line in enumerate(lines):
            yield _line(page, f"{name}/{number}", line)


def _line(page_HW3: np.ndarray, name: str, line: Any) -> EvalSample | str:
    try:
        quad, truth = np.asarray(line["quad"], dtype=np.float32).reshape(4, 2), line["text"]
    except (KeyError, TypeError, ValueError) as error:
        return f"{name}: needs text and quad, eight numbers ({error!r})"
    if not isinstance(truth, str):
        return f"{name}: its text is no text"
    # A corner that is not finite has no place, and one far outside would make a picture that fills memory.
    if not np.abs(quad).max() <= FAR_OUTSIDE * max(page_HW3.shape):
        return f"{name}: its box lies outside of the page"
    picture = cut_quad(page_HW3, quad)
    if picture is None:
        return f"{name}: its box has no area"
    return EvalSample(name, picture, PROMPT, lines_as_lf(truth).strip(), "line")


def cut_quad(page_HW3: np.ndarray, quad_42: np.ndarray, margin: float = LINE_MARGIN) -> Image.Image | None:
    """Cut a quadrilateral out of the page and make it level, with `margin` of its height on all sides.

    The corners are (x, y), clockwise from the upper left of the text. Boxes below one pixel give None.
    """
    top, right, bottom, left = (np.linalg.norm(quad_42[i] - quad_42[(i + 1) % 4]) for i in range(4))
    width, height = (top + bottom) / 2, (left + right) / 2
    if width < 1 or height < 1:
        return None
    pad = margin * height
    size = (round(width + 2 * pad), round(height + 2 * pad))
    corners = [[pad, pad], [pad + width, pad], [pad + width, pad + height], [pad, pad + height]]
    matrix = cv2.getPerspectiveTransform(quad_42.astype(np.float32), np.asarray(corners, dtype=np.float32))
    # Outside the page its edge is repeated, because black corners would be read as ink.
    cut = cv2.warpPerspective(page_HW3, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return Image.fromarray(cut)


def _receipt_boxes(data: Path) -> Found:
    """Yield every receipt with its lines as boxes: four corners and the text."""
    for row in _rows(data / "sroie_receipts_lines.jsonl"):
        if isinstance(row, str):
            yield row
            continue
        try:
            name, image = str(row["id"]), data / str(row["image"])
            lines = row["lines"]
            corners = quads([line["quad"] for line in lines])
            truth = format_boxes(TextBox(quad, line["text"]) for quad, line in zip(corners, lines))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            yield f"sroie_receipts_lines.jsonl, {row.get('id')}: lines need text and quad ({error!r})"
            continue
        found = EvalSample(name, image, PROMPT, truth, "receipt")
        yield found if image.is_file() else f"{name}: {row['image']} is missing"


def _omnidocbench(data: Path) -> Found:
    found = load_omnidocbench(data / OMNI_ANNOTATION, pictures=data / "omnidocbench_demo")
    yield from found.left_out
    for sample in found.samples:
        there = Path(str(sample.picture)).is_file()
        yield sample if there else f"{sample.id}: its picture is missing"


def _sample_set(load: Callable[[Path], SampleSet]) -> Callable[[Path], Found]:
    """Turn the loader of a benchmark into the loader of a page set."""

    def found(data: Path) -> Found:
        """What is left out, then the samples."""
        samples = load(data)
        yield from samples.left_out
        yield from samples.samples

    return found


# ---------------------------------------------------------------------------------------------------
# The sets


@dataclass(frozen=True)
class _Source:
    protocol: str
    load: Callable[[Path], Found]
    boxes: bool = False


def _turned(degrees: float) -> _Source:
    protocol = f"Pages made by seed, turned clockwise by {degrees:.0f} degrees. {_ORDER}"
    return _Source(protocol, lambda _data: turned_samples(degrees))


_ORDER = "Truth in reading order; cer_free ignores case and line ends."
SOURCES: dict[str, _Source] = {
    "sroie": _Source(
        f"Whole scanned receipts. {_ORDER} The truth is all capitals: only scores without case count.",
        _of_dataset("sroie_receipts", "receipt"),
    ),
    "sroie_lines": _Source(
        f"Lines of the receipts, cut by their true quadrilaterals with {LINE_MARGIN} of their height around.",
        _receipt_lines,
    ),
    "funsd": _Source(
        "Whole noisy forms. The truth is sorted by rows, so that bag_f1_free is the fair score.",
        _of_dataset("funsd_test", "form"),
    ),
    "fox_original": _Source(f"Fox's English pages as they were printed. {_ORDER}", _fox("original")),
    "fox_rendered": _Source(f"The same texts set anew in one column. {_ORDER}", _fox("rendered")),
    "fox_random": _Source(f"Pages of random letters, set like fox_rendered. {_ORDER}", _fox("random")),
    "born_digital": _Source(
        "Pages of PDFs as pictures; the truth is the PDF's text layer in its own order, from which pdftotext "
        "took hyphens at line ends. bag_f1_rejoined takes them from both sides.",
        _of_dataset("borndigital_pdf", "document"),
    ),
    "empty": _Source(
        "Pictures without text, made by seed: every character read is invented.",
        lambda _data: empty_samples(),
    ),
    "omnidocbench": _Source(
        "The official demo pages of OmniDocBench with their annotation; text, order, tables and formulas are "
        "matched block by block as the v1.5 code does (cdm apart, which needs TeX).",
        _omnidocbench,
    ),
    "olmocr_bench": _Source(
        "Pages of PDFs with olmOCR-bench's tests; the score is the share of tests passed.",
        _sample_set(lambda data: load_olmocr_bench(data / "olmocr_bench_sample")),
    ),
    "scenes": _Source(
        "Photographs of streets. The truth is the legible words without their places, so that words are "
        "spotted by their text alone (spotting_text: three letters or more, without case).",
        _of_dataset("icdar2015_scene", "scene"),
    ),
    "tables": _Source(
        "Cut out tables with their HTML. teds is 0 for who writes none; plain_word_f1 is without markup.",
        _of_dataset("pubtabnet_tables", "table"),
    ),
    "sroie_boxes": _Source(
        "Lines of receipts found, against the boxes of the truth: one to one at an intersection above half "
        "of the union (iou50), and by area (covered, inside). What is read in the boxes does not count.",
        _receipt_boxes,
        boxes=True,
    ),
    "cards": _Source(
        f"{CARDS} held-out synthetic cards of one to three lines, drawn by seed in this machine's fonts.",
        _sample_set(lambda _data: load_synthetic(("card",), CARDS, questions=False)),
    ),
    **{name: _turned(degrees) for name, degrees in TURNS.items()},
}


def load_page_set(name: str, data: str | Path, limit: int = 0) -> PageSet:
    """Load a set by name; `limit` takes that many pages, evenly spread (0 means all).

    Raises:
        UsageError: there is no such set, its files are missing, or it has no page.
    """
    if name not in SOURCES:
        raise UsageError(f"there is no set {name!r}: choose among {', '.join(SOURCES)}")
    found = collect(SOURCES[name].load(Path(data)), f"the set {name} of {data}")
    samples = found.samples
    if 0 < limit < len(samples):
        samples = tuple(samples[i * len(samples) // limit] for i in range(limit))
    return PageSet(name, SOURCES[name].protocol, samples, found.left_out, SOURCES[name].boxes)


def published_answers(data: str | Path, page_set: PageSet) -> dict[str, dict[str, str]]:
    """Published answers of other systems about a set of Fox's pages: system -> page -> text.

    The result is empty for other sets, and where pages or answers are incomplete.
    """
    kind = page_set.name.removeprefix("fox_")
    answers: dict[str, dict[str, str]] = {}
    for folder in sorted((Path(data) / FOX_ANSWERS).glob(f"*/{kind}")):
        found = find_predictions(folder, page_set.samples).predictions.get("right", {})
        if len(found) == len(page_set.samples):  # a mean over fewer pages could not be compared
            answers[folder.parent.name] = {name: answer.text for name, answer in found.items()}
    return answers
