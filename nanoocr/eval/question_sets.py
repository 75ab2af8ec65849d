"""DocVQA and TextVQA: questions about pictures, with answers of several people.

Both come as one JSON file with a list under "data" beside a folder of pictures:

    DocVQA    {"questionId": 1, "question": "...", "image": "documents/a.png", "answers": ["a", "A"]}
    TextVQA   {"question_id": 1, "question": "...", "image_id": "0a1b", "answers": [ten strings]}

Answers to DocVQA are scored by ANLS, the best over all true answers (arXiv 2007.00398), and those to TextVQA
by the VQA challenge's accuracy (nanoocr/eval/vqa.py). A sample's truth is its most frequent answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nanoocr.errors import UsageError
from nanoocr.eval.metrics import anls
from nanoocr.eval.samples import QUESTION, EvalSample, SampleSet, collect
from nanoocr.eval.vqa import textvqa_accuracy
from nanoocr.files import parse_json
from nanoocr.folders import SUFFIXES, by_stem, files_below

LEAST_ANSWERS = 2  # TextVQA leaves out each person in turn, so a question needs at least two answers


def load_questions(path: str | Path, per_group: int = 0) -> SampleSet:
    """Load the questions of a JSON file of DocVQA or TextVQA, or of the only .json in a folder.

    Pictures are looked for below the file's folder: by the path in `image`, or by the name `image_id` with
    any suffix. `annotation` holds all answers.

    Raises:
        UsageError: there is no such file, a folder has several, there is no list under "data", or no
        question has a picture.
    """
    file = _the_file(Path(path))
    try:
        rows = parse_json(file.read_bytes().decode("utf-8-sig"))["data"]
    except OSError as error:
        raise UsageError(f"{file}: cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f'{file}: must be a JSON object with a list of questions under "data"') from error
    if not isinstance(rows, list):
        raise UsageError(f'{file}: under "data" there must be a list of questions')
    pictures = by_stem(p for p in files_below(file.parent)[0] if p.suffix.lower() in SUFFIXES)
    return collect(_samples(file, rows, pictures), str(file), per_group)


def _the_file(path: Path) -> Path:
    if path.is_file():
        return path
    files = sorted(one for one in path.glob("*.json") if one.name[0] != ".")
    if len(files) != 1:
        held = f"holds {len(files)} .json files: name one of them" if path.is_dir() else "no such file"
        raise UsageError(f"{path}: {held}, as in --data=val_v1.0.json")
    return files[0]


def _samples(file: Path, rows: list[Any], pictures: dict[str, list[Path]]) -> Iterator[EvalSample | str]:
    for number, row in enumerate(rows, start=1):
        name = f"{file.name}, question {number}"
        if not isinstance(row, dict):
            yield f"{name}: not a JSON object"
            continue
        question, answers = row.get("question"), row.get("answers")
        if not isinstance(question, str) or not question.strip():
            yield f"{name}: it has no text under question"
        elif not isinstance(answers, list) or not answers or not all(isinstance(a, str) for a in answers):
            yield f"{name}: answers must be a list of texts"
        elif not isinstance(picture := _picture_of(file.parent, row, pictures), Path):
            yield f"{name}: its picture {row.get('image') or row.get('image_id')} {picture}"
        else:
            key = row.get("questionId", row.get("question_id", number))
            truth = Counter(answers).most_common(1)[0][0]
            yield EvalSample(f"{key}", picture, question, truth, QUESTION, (), tuple(answers))


def _picture_of(folder: Path, row: dict[str, Any], pictures: dict[str, list[Path]]) -> Path | str:
    """The picture of a question, or what is wrong with it."""
    named = row.get("image")
    if isinstance(named, str) and (folder / named).is_file():
        return folder / named
    found = pictures.get(str(row.get("image_id", "")), [])
    if len(found) == 1:
        return found[0]
    return f"may be {found[0]} or {found[1]}" if found else "is missing"


def docvqa_scores(sample: EvalSample, text: str) -> dict[str, float]:
    """ANLS of one answer, in [0, 1]."""
    return {"anls": anls(text, sample.annotation)}


def textvqa_scores(sample: EvalSample, text: str) -> dict[str, float]:
    """The VQA challenge's accuracy of one answer, in [0, 1], and ANLS beside it.

    A question with a single answer leaves nobody out: that answer counts as the answer of all ten people.
    """
    answers = sample.annotation
    people = answers if len(answers) >= LEAST_ANSWERS else answers * 10
    return {"vqa_accuracy": textvqa_accuracy(text, people), "anls": anls(text, answers)}
