"""The samples of an evaluation: pictures with a question and the truth, from several kinds of sources.

A loader returns a SampleSet: the samples, and one sentence for everything found that is no sample. A new
benchmark is one such function; nanoocr/eval/catalogue.py pairs it with the function that scores it.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count, islice
from pathlib import Path
from typing import Any

from PIL import Image

from nanoocr.config import PROMPT
from nanoocr.data.synth import ALL_KINDS, KINDS, QUESTION_KINDS, VALIDATION_SEED, find_fonts, make_sample
from nanoocr.data.synth.fonts import Font
from nanoocr.errors import PictureError, UsageError
from nanoocr.files import parse_json, read_text
from nanoocr.folders import TEXTS, files_below, pair_texts
from nanoocr.pages import PageRanges, count_pages, is_pdf, open_source
from nanoocr.pictures import open_image

FIRST_INDEX = 100_000  # Validation during training uses the indices from 0 on.
QUESTION = "question"  # the kind of samples that ask about a picture instead of reading it


@dataclass(frozen=True)
class EvalSample:
    """One picture, the question about it, and the true answer."""

    id: str  # unique in its set; prediction files are named after it
    picture: Path | bytes | Image.Image
    prompt: str
    truth: str
    kind: str  # card, receipt, document, ...; some engines want to know
    groups: tuple[str, ...] = ()  # the groups whose scores it counts in, besides "all"
    # what the benchmark knows besides the truth; for a question a tuple of all true answers
    annotation: Any = None
    page: int = 0  # page in a file of several, from 1; 0 where the file is one picture

    def open(self) -> Image.Image:
        """The picture or the page upright, as RGB.

        Raises:
            PictureError: it cannot be read, or it is a file of several pages and `page` names none; the error
            names the sample.
        """
        if isinstance(self.picture, Image.Image):
            return open_image(self.picture, name=self.id)
        pages = 1 if self.page else count_pages(self.picture, self.id)
        if pages != 1:
            raise PictureError(f"{self.id} has {pages} pages, and its truth is about one.")
        page = self.page or 1
        (picture,) = open_source(self.picture, self.id, PageRanges(((page, page),)))
        if picture.image is None:
            raise picture.error or PictureError(f"{self.id}: it has no page {page}")
        return picture.image

    def digest(self) -> str:
        """A sha256 of the picture's source; an unreadable file has one too."""
        if isinstance(self.picture, Image.Image):
            content = self.picture.tobytes()
        elif isinstance(self.picture, bytes):
            content = self.picture
        else:
            content = self.picture.read_bytes() if self.picture.is_file() else b""
        return hashlib.sha256(content + (b"page %d" % self.page if self.page else b"")).hexdigest()


@dataclass(frozen=True)
class SampleSet:
    """The samples of a set, with unique ids, and one sentence for each thing that is no sample."""

    samples: tuple[EvalSample, ...]
    left_out: tuple[str, ...] = ()


def collect(found: Iterable[EvalSample | str], where: str, per_group: int = 0) -> SampleSet:
    """Gather samples, and strings that say what was left out, into a set; at most `per_group` per group.

    A second sample with the same id is left out and reported. Samples above `per_group` (0 means no limit)
    were not asked for, so they are not reported.

    Raises:
        UsageError: there is no sample.
    """
    samples: dict[str, EvalSample] = {}
    left_out: list[str] = []
    counts: dict[tuple[str, ...], int] = {}
    for item in found:
        if isinstance(item, str):
            left_out.append(item)
        elif item.id in samples:
            left_out.append(f"{item.id}: a second sample of that name")
        elif not per_group or counts.get(item.groups, 0) < per_group:
            counts[item.groups] = counts.get(item.groups, 0) + 1
            samples[item.id] = item
    if not samples:
        why = f" ({left_out[0]})" if left_out else ""
        raise UsageError(f"{where}: there is no picture with truth in it{why}")
    return SampleSet(tuple(samples.values()), tuple(left_out))


# ---------------------------------------------------------------------------------------------------
# Synthetic, held-out samples


def load_synthetic(
    kinds: Sequence[str] = tuple(KINDS), per_kind: int = 100, questions: bool = True
) -> SampleSet:
    """Draw the first `per_kind` held-out pictures of each kind, from VALIDATION_SEED at FIRST_INDEX.

    No training run can use that seed, and validation during training uses lower indices. Each picture counts
    in two groups: its kind (or the questions about its kind), and natural or random text. Other fonts give
    other pictures (runs/fonts.sh).
    """
    unknown = sorted(set(kinds) - set(ALL_KINDS))
    if unknown:
        raise UsageError(f"unknown kind {unknown[0]!r}: choose among {', '.join(ALL_KINDS)}")
    fonts = find_fonts()
    wanted = (kind for kind in kinds if questions or kind not in QUESTION_KINDS)
    series = (_synthetic_series(kind, fonts, questions) for kind in wanted)
    return collect((sample for one in series for sample in islice(one, per_kind)), "the synthetic set")


def _synthetic_series(kind: str, fonts: tuple[Font, ...], questions: bool) -> Iterator[EvalSample]:
    samples = (_synthetic(kind, index, fonts) for index in count(FIRST_INDEX))
    return (sample for sample in samples if questions or sample.kind != QUESTION)


def _synthetic(kind: str, index: int, fonts: tuple[Font, ...]) -> EvalSample:
    drawn = make_sample(kind, VALIDATION_SEED, index, fonts=fonts)
    text = "natural text" if drawn.guessable else "random text"
    asks = drawn.prompt.endswith("?")
    line = f"{kind}: {QUESTION}" if asks and kind not in QUESTION_KINDS else kind
    sample_kind = QUESTION if asks else kind
    return EvalSample(f"{kind}/{index}", drawn.image, drawn.prompt, drawn.answer, sample_kind, (line, text))


# ---------------------------------------------------------------------------------------------------
# A folder: name.png beside name.txt or name.md


def load_folder(
    folder: str | Path,
    kinds: Sequence[str] = (),
    per_group: int = 0,
    prompt: str = PROMPT,
    truths: Sequence[str] = TEXTS,
) -> SampleSet:
    """Load every picture below `folder` that has a text beside it, in name order (nanoocr/folders.py).

    `truths` are the suffixes of texts; if a picture has several texts, the first suffix wins.

    The first folder on the path to a picture is its kind (receipt/a.png); without one it is a document.
    `kinds` selects among them, () means all.

    Raises:
        UsageError: no such folder, or no picture with truth in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder")
    found = _folder_samples(folder, prompt, truths)
    return collect(_of_kinds(found, kinds), str(folder), per_group)


def _folder_samples(folder: Path, prompt: str, truths: Sequence[str]) -> Iterator[EvalSample | str]:
    files, failed = files_below(folder)
    found = pair_texts(files, truths)
    yield from (f"{where.relative_to(folder)}: cannot be searched ({reason})" for where, reason in failed)
    for path in found.pictures:
        wanted = " or ".join(f"{path.stem}{suffix}" for suffix in truths)
        yield f"{path.relative_to(folder)}: there is no {wanted} beside it"
    for path, truth in found.pairs:
        name = path.relative_to(folder)
        text = _read_pages(truth)
        if text is None:
            yield f"{name}: its truth {truth.name} is not UTF-8"
            continue
        kind = name.parts[0] if len(name.parts) > 1 else "document"
        sample = EvalSample(name.with_suffix("").as_posix(), path, prompt, text, kind, (kind,))
        yield from _pages_of(sample, path, name)
    yield from (f"{path.relative_to(folder)}: a text without a picture" for path in found.texts)
    for used, other in found.doubled:
        yield f"{other.relative_to(folder)}: {used.name} beside it is used"


def _pages_of(sample: EvalSample, path: Path, name: Path | str) -> Iterator[EvalSample | str]:
    """The sample; for a PDF or TIFF of several pages one each, if form feeds split its text into pages.

    `name` is what messages call it. A blank page has a text too, so form feeds at the ends count.
    """
    try:
        pages = count_pages(path, str(name))
    except PictureError:
        pages = 1  # reading it will say what is wrong
    texts = sample.truth.split("\f")
    if len(texts) == pages + 1 and not texts[-1].strip():
        texts.pop()  # Some programs write a form feed behind the last page too.
    if pages == 1:
        yield replace(sample, truth=sample.truth.strip(), page=int(is_pdf(path)))
    elif len(texts) != pages:
        yield f"{name}: has {pages} pages, and its text has {len(texts)}: part them by form feeds"
    else:
        for number, text in enumerate(texts, start=1):
            yield replace(sample, id=f"{sample.id}-{number}", truth=text.strip(), page=number)


def _of_kinds(found: Iterable[EvalSample | str], kinds: Sequence[str]) -> Iterator[EvalSample | str]:
    """Yield what is of these kinds (of any, for none), and at the end a sentence for each kind not found."""
    missing = dict.fromkeys(kinds)
    for item in found:
        if isinstance(item, str) or not kinds or item.kind in kinds:
            yield item
        if isinstance(item, EvalSample):
            missing.pop(item.kind, None)
    yield from (f"--kinds={kind}: no sample is of this kind" for kind in missing)


def read_truth(path: Path) -> str | None:
    """The text of a file, stripped at both ends; None where it is neither UTF-8 nor marked as UTF-16 or 32.

    Raises:
        UsageError: the file cannot be read.
    """
    text = _read_pages(path)
    return None if text is None else text.strip()


def _read_pages(path: Path) -> str | None:
    """As `read_truth`, with the blanks at both ends: form feeds among them part blank pages from others."""
    text, _ = read_text(path)
    return None if "\ufffd" in text else text


# ---------------------------------------------------------------------------------------------------
# A manifest: one JSON object a line


def load_manifest(
    path: str | Path,
    kinds: Sequence[str] = (),
    per_group: int = 0,
    prompt: str = PROMPT,
    questions: bool = True,
) -> SampleSet:
    """Load the rows of a manifest.jsonl (or of the one in a folder): {dataset, id, kind, image, text}.

    `image` and `text` are paths relative to the manifest. A text that ends in .json holds a list of {query,
    label}; with `questions` each of them becomes a sample of kind "question". Every data set and every kind
    is a group.

    Raises:
        UsageError: there is no such file, or no sample in it.
    """
    path = Path(path)
    path = path / "manifest.jsonl" if path.is_dir() else path
    if not path.is_file():
        raise UsageError(f"{path}: no such manifest")
    found = _of_kinds(_manifest_samples(path, prompt), kinds)
    wanted = (item for item in found if questions or isinstance(item, str) or item.kind != QUESTION)
    return collect(wanted, str(path), per_group)


def _manifest_samples(path: Path, prompt: str) -> Iterator[EvalSample | str]:
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        if not line.strip():
            continue
        name = f"{path.name}, line {number}"
        try:
            row = parse_json(line)
            values = [row[key] for key in ("dataset", "id", "kind", "image", "text")]
        except ValueError:
            yield f"{name}: not JSON"
            continue
        except (KeyError, TypeError) as error:
            yield f"{name}: needs dataset, id, kind, image and text ({error!r})"
            continue
        if not all(isinstance(value, str) for value in values):
            yield f"{name}: dataset, id, kind, image and text must be texts"
            continue
        yield from _manifest_row(path.parent, *values, prompt=prompt)


def _manifest_row(
    folder: Path, dataset: str, number: str, kind: str, image: str, text: str, *, prompt: str
) -> Iterator[EvalSample | str]:
    """The samples of one row: one text to read, or several questions."""
    name, picture, truth_file = f"{dataset}/{number}", folder / image, folder / text
    missing = next((path for path in (picture, truth_file) if not path.is_file()), None)
    truth = None if missing else _read_pages(truth_file)
    if missing or truth is None:
        yield f"{name}: {missing} is missing" if missing else f"{name}: its truth {text} is not UTF-8"
    elif truth_file.suffix != ".json":
        sample = EvalSample(name, picture, prompt, truth, kind, (f"{dataset}: {kind}",))
        yield from _pages_of(sample, picture, name)
    else:
        entries = _entries(truth)
        if not entries:
            yield f"{name}: {text} holds no list of query and label"
        for i, entry in enumerate(entries):
            asked = entry.get("query") if isinstance(entry, dict) else None
            answers = _answers(entry.get("label")) if isinstance(entry, dict) else ()
            if not isinstance(asked, str) or not answers:
                yield f"{name}-{i}: query must be a text, and label a text, a number, or a list of such"
                continue
            group = (f"{dataset}: {QUESTION}",)
            yield EvalSample(f"{name}-{i}", picture, asked, answers[0], QUESTION, group, answers)


def _entries(text: str) -> list[Any]:
    """The entries of a JSON list; [] where the text is something else."""
    try:
        entries = parse_json(text)
    except ValueError:
        return []
    return entries if isinstance(entries, list) else []


def _answers(label: Any) -> tuple[str, ...]:
    """Every true answer of a label, with numbers as JSON writes them; () if one of them is no answer."""
    listed = label if isinstance(label, list) else [label]
    usable = all(isinstance(one, (str, int, float)) and not isinstance(one, bool) for one in listed)
    # An answer that is missing would be right for a blank label, and nan is what programs write for none.
    usable = usable and all(one.strip() if isinstance(one, str) else math.isfinite(one) for one in listed)
    return tuple(one if isinstance(one, str) else json.dumps(one) for one in listed) if usable else ()


# ---------------------------------------------------------------------------------------------------
# File names


def file_stem(sample_id: str) -> str:
    """The path of a sample's files below a folder, without suffix: its id, made safe as a relative path.

    A slash makes a folder. A part that is empty or starts with a dot gets a percent sign in front. NUL
    becomes a percent sign, and a part too long for a file system is shortened and ends in its hash.
    """
    return os.path.join(*(_safe_part(part) for part in sample_id.replace("\\", "/").split("/")))


def _safe_part(part: str) -> str:
    part = part.replace("\0", "%")
    part = f"%{part}" if not part or part.startswith(".") else part
    encoded = part.encode("utf-8", "replace")
    if len(encoded) <= 200:
        return part
    return f"{encoded[:180].decode('utf-8', 'ignore')}-{hashlib.sha256(encoded).hexdigest()[:12]}"
