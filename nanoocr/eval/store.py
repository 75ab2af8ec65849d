"""Answers on disk: one text file per page and condition, each written whole or not at all.

OUT/run.json               the engine and its settings
OUT/right/card/100000.txt  the answer about the sample's own picture
OUT/right/card/100000.json status, seconds, tokens, and a hash of the question
OUT/wrong, OUT/blank       the same for the grounding control

A page with both files is finished. The text is written last, so after a kill in between the page is read
again.
"""

from __future__ import annotations

import hashlib
import json
import math
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

from nanoocr.errors import UsageError
from nanoocr.eval.grounding import CONDITIONS, Ask, Condition
from nanoocr.eval.samples import EvalSample, file_stem
from nanoocr.files import read_text, write_file

RUN = "run.json"
TEXTS = (".md", ".txt")  # suffixes of others' predictions; the first wins


@dataclass(frozen=True)
class Prediction:
    """The answer about one picture.

    `status` is `ok`, `truncated` (token limit), `repetition` (it looped and was cut), `error` (the picture or
    the engine failed, `error` says how, the text is empty), `missing`, or `unknown` for files of others.
    """

    text: str
    status: str = "unknown"
    error: str = ""
    seconds: float | None = None  # wall time of its batch / pages of the batch
    cpu_seconds: float | None = None  # used by this process and its children, where pages are read one by one
    vision_tokens: int | None = None
    text_tokens: int | None = None
    asked: str = ""  # hash of the question and the picture


MISSING = Prediction("", "missing")


class Store:
    """The predictions below one folder."""

    def __init__(self, folder: str | Path, settings: Mapping[str, Any]) -> None:
        """Open or begin the folder; `settings` are plain data that describe what answers.

        Raises:
            UsageError: the folder holds predictions that were made with other settings.
            OSError: it cannot be written.
        """
        self.folder = Path(folder)
        self.digests: dict[str, str] = {}  # digests of the pictures, by sample
        # Tuples become lists, as they will be when they are read back.
        settings = json.loads(json.dumps(settings))
        try:
            found = json.loads((self.folder / RUN).read_bytes()) if (self.folder / RUN).is_file() else None
        except ValueError as error:
            raise UsageError(f"{self.folder / RUN}: not JSON ({error}); name another --out") from error
        if found is None:
            write_file(self.folder / RUN, json.dumps(settings, indent=1).encode())
        elif found != settings:
            other = ", ".join(key for key in {**settings, **found} if settings.get(key) != found.get(key))
            raise UsageError(
                f"{self.folder} holds answers of another run (other {other}): name another --out"
            )

    def get(self, ask: Ask) -> Prediction | None:
        """The finished answer to exactly this question about exactly this picture, or None."""
        path = self.path(ask.condition, ask.sample)
        try:
            facts = json.loads(path.with_name(path.name + ".json").read_bytes())
            text = path.with_name(path.name + ".txt").read_bytes().decode()
            prediction = Prediction(text, **facts)
        except (OSError, ValueError, TypeError):  # nothing is there, or it was not written by this code
            return None
        return prediction if prediction.asked == self.key(ask) else None

    def put(self, ask: Ask, prediction: Prediction) -> None:
        """Write an answer, the text last. An older text goes first, lest a kill pair it with new facts."""
        facts = {key: value for key, value in asdict(prediction).items() if key != "text"}
        path = self.path(ask.condition, ask.sample)
        about = json.dumps({**facts, "asked": self.key(ask)}, ensure_ascii=False).encode()
        path.with_name(path.name + ".txt").unlink(missing_ok=True)
        write_file(path.with_name(path.name + ".json"), about)
        write_file(path.with_name(path.name + ".txt"), prediction.text.encode("utf-8", "replace"))

    def path(self, condition: Condition, sample: EvalSample) -> Path:
        """The path of a sample's files, without suffix."""
        return self.folder / condition / file_stem(sample.id)

    def key(self, ask: Ask) -> str:
        """A hash that tells this question about this picture from all others."""
        if ask.shown.id not in self.digests:
            self.digests[ask.shown.id] = ask.shown.digest()
        parts = (ask.condition == "blank", ask.sample.prompt, ask.sample.kind, self.digests[ask.shown.id])
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


# ---------------------------------------------------------------------------------------------------
# Others' predictions

ByCondition = dict[Condition, dict[str, Prediction]]


class Found(NamedTuple):
    """The predictions in a folder for a set of samples."""

    predictions: ByCondition  # keyed by condition, then by sample id
    missing: tuple[str, ...]  # samples without an answer to their own picture
    unknown: tuple[str, ...]  # files that belong to no sample
    notes: tuple[str, ...]  # further remarks that a reader of the scores should know


def find_predictions(folder: str | Path, samples: Sequence[EvalSample]) -> Found:
    """Read somebody else's predictions: <id>.md or <id>.txt in `folder`, or in its right, wrong and blank.

    Bytes that are not UTF-8 are replaced and reported. Accents that stand apart from their letters are
    reported too, where the truth has none such: the metrics count code points.

    Raises:
        UsageError: no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UsageError(f"--predictions={folder}: no such folder")
    predictions: ByCondition = {}
    unknown: list[str] = []
    odd: list[str] = []
    apart: list[str] = []
    parts = {c: folder / c for c in CONDITIONS if (folder / c).is_dir()} or {CONDITIONS[0]: folder}
    for condition, part in parts.items():
        used: set[Path] = set()
        predictions[condition] = {}
        for sample in samples:
            # Some file systems and archives take an accented letter apart in names.
            forms = (part / unicodedata.normalize(form, file_stem(sample.id)) for form in ("NFC", "NFD"))
            stems = dict.fromkeys((part / file_stem(sample.id), *forms))
            named_so = (stem.with_name(stem.name + suffix) for stem in stems for suffix in TEXTS)
            path = next((path for path in named_so if path.is_file()), None)
            if path is None:
                continue
            stem = path.with_name(path.name.removesuffix(path.suffix))
            used |= {path, stem.with_name(stem.name + ".json")}
            text, problem = read_text(path)
            odd += [path.name] if "\ufffd" in text and problem else []
            apart += [path.name] if _has_accents_apart(text) and not _has_accents_apart(sample.truth) else []
            predictions[condition][sample.id] = Prediction(text.strip(), **_status(stem))
        unknown += _others(part, used)
    missing = tuple(s.id for s in samples if s.id not in predictions.get("right", {}))
    notes = [f"{len(odd)} files are not UTF-8, their odd bytes count as errors: {named(odd)}"] if odd else []
    if apart:
        notes.append(
            f"{len(apart)} files have accents apart from their letters (not NFC), which count as errors: "
            f"{named(apart)}"
        )
    return Found(predictions, missing, tuple(unknown), tuple(notes))


def _has_accents_apart(text: str) -> bool:
    return not unicodedata.is_normalized("NFC", text)


def _status(stem: Path) -> dict[str, Any]:
    """The facts in our JSON file beside a prediction; those of others' files that say something else go."""
    known = {field.name: type(field.default) for field in fields(Prediction) if field.name != "text"}
    try:
        facts = json.loads(stem.with_name(stem.name + ".json").read_bytes())
        return {key: facts[key] for key, kind in known.items() if key in facts and _is_fact(facts[key], kind)}
    except (OSError, ValueError, TypeError):
        return {}


def _is_fact(value: Any, kind: type) -> bool:
    """Whether a value is a text, or a number of a fact that is None by default."""
    if kind is str:
        return isinstance(value, str)
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _others(folder: Path, used: set[Path]) -> list[str]:
    """Files below `folder` that are not in `used`; hidden ones do not count."""
    files = (
        path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file() and path not in used
    )
    return [path.as_posix() for path in files if not any(part.startswith(".") for part in path.parts)]


def named(things: Iterable[str], most: int = 5) -> str:
    """List the first few of many names, and say how many more there are."""
    things = list(things)
    more = f" and {len(things) - most} more" if len(things) > most else ""
    return ", ".join(things[:most]) + more
