"""Reads real pages with our reader and with peers: receipts, forms, Fox's pages, random letters, empty pages.

python -m scripts.measure_pages --data=../shared/data --sets=sroie,funsd --limit=5
python -m scripts.measure_pages --data=../shared/data --peers=tesseract,ppocr_tiny
python -m scripts.measure_pages --data=../shared/data --read=False

Our reader and each peer read every picture of every set, one after the other, each with --threads. Answers
stay in --answers, so an interrupted run continues, and --read=False scores the stored answers without
reading. The tables go to stdout and into the files that --markdown and --out name. An engine that is not
installed is named and left out.
"""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean, median
from typing import Any

from nanoocr.commandline import parse, run
from nanoocr.errors import NanoOCRError, UsageError
from nanoocr.eval.boxes import text_of_boxes
from nanoocr.eval.evaluate import split_names
from nanoocr.eval.made_pages import TURNS, UPRIGHT
from nanoocr.eval.page_extras import EXTRAS, other_answers
from nanoocr.eval.page_reading import OURS, ComparedEngine, answers_of, find_engines
from nanoocr.eval.page_scores import invented, score_set
from nanoocr.eval.page_sets import SOURCES, PageSet, load_page_set, published_answers
from nanoocr.eval.page_tables import (
    EXPLAINED,
    about_table,
    drop_table,
    empty_table,
    extra_table,
    score_table,
    turned_table,
    verdict,
)
from nanoocr.eval.peers import PEERS
from nanoocr.eval.samples import EvalSample
from nanoocr.eval.store import Prediction
from nanoocr.files import write_file
from nanoocr.machine import machine
from scripts.common import command_line, write_json

EMPTY = "empty"
PAIR = ("fox_rendered", "fox_random")


@dataclass(frozen=True)
class PagesConfig:
    """Measures reading of pages beside peers."""

    data: str = "../shared/data"  # folder of the pictures with truth; sets that are drawn need none
    # the sets to read
    sets: str = "sroie,sroie_lines,funsd,fox_original,fox_rendered,fox_random,born_digital,empty"
    model: str = ""  # model folder; empty means the packaged model
    ours: bool = True  # read with our reader too
    peers: str = "tesseract,rapidocr_960,ppocr_tiny"  # other engines; empty for none
    limit: int = 0  # most pages of a set, evenly spread; 0 means all
    threads: int = 1  # threads of every engine
    read: bool = True  # read the missing answers; False scores only the stored ones
    common: bool = False  # score a set only on the pages that every engine (with answers to it) has read
    minutes: float = 0.0  # after this many minutes of reading no further page is begun; 0 means no limit
    answers: str = "out/pages"  # folder for the answers
    out: str = ""  # JSON file for the scores, as docs/pages.json; empty for none
    markdown: str = ""  # file for the tables, as docs/pages.md; empty for none

    def __post_init__(self) -> None:
        """Refuse unknown names and senseless numbers before anything is read."""
        if self.limit < 0 or self.threads < 1 or not self.minutes >= 0:
            raise UsageError("--limit and --minutes must be 0 or more and --threads at least 1")
        unknown = [name for name in split_names(self.sets) if name not in SOURCES]
        if unknown or not split_names(self.sets):
            raise UsageError(f"--sets={self.sets}: choose among {', '.join(SOURCES)}")
        unknown = [name for name in split_names(self.peers) if name not in PEERS]
        if unknown:
            raise UsageError(f"--peers={self.peers}: choose among {', '.join(PEERS)}")


def measure(config: PagesConfig) -> dict[str, Any]:
    """Measure every engine on every set; returns plain data."""
    names = [*([OURS] if config.ours else []), *split_names(config.peers)]
    until = time.monotonic() + 60 * config.minutes if config.minutes else math.inf
    engines = find_engines(names, config.model, config.answers, config.threads)
    absent: dict[str, str] = {}
    sets = [load_page_set(name, config.data, config.limit) for name in split_names(config.sets)]
    readings = {one.name: read_engines(config, engines, one, absent, until) for one in sets}
    scored = {one.name: scored_pages(config, one, readings) for one in sets}
    results = {one.name: result_of_set(config, one, scored[one.name], readings[one.name]) for one in sets}
    about = {**machine(), "threads": config.threads, "commit": commit()}
    return {"machine": about, "absent": absent, "sets": results}


@dataclass(frozen=True)
class Reading:
    """An engine's description ({} for published answers), and its answers by page."""

    about: Mapping[str, Any]
    answers: Mapping[str, Prediction]


def read_engines(
    config: PagesConfig,
    engines: Sequence[ComparedEngine],
    page_set: PageSet,
    absent: dict[str, str],
    until: float,
) -> dict[str, Reading]:
    """Let every engine read one set, and add published answers of other systems."""
    found = {engine.name: read_set(config, engine, page_set, absent, until) for engine in engines}
    found = {engine: one for engine, one in found.items() if one.answers}
    for system, texts in published_answers(config.data, page_set).items():
        found[f"published: {system}"] = Reading({}, {page: Prediction(t) for page, t in texts.items()})
    return found


def read_set(
    config: PagesConfig, engine: ComparedEngine, page_set: PageSet, absent: dict[str, str], until: float
) -> Reading:
    """One engine's reading of a set. If it cannot read there are no answers, and `absent` says why."""
    if engine.name in absent:
        return Reading({}, {})
    try:
        return Reading(*answers_of(engine, page_set, config.threads, config.read, until))
    except NanoOCRError as error:
        absent[engine.name] = str(error)
        print(f"{engine.name} is left out: {error}", file=sys.stderr)
        return Reading({}, {})


def scored_pages(
    config: PagesConfig, page_set: PageSet, readings: Mapping[str, Mapping[str, Reading]]
) -> PageSet:
    """The pages to score: all, or with --common those that every engine has read.

    A page of random letters counts only if its page of natural text does: their difference is the drop.
    """
    if not config.common:
        return page_set
    pair = PAIR if page_set.name in PAIR and all(name in readings for name in PAIR) else (page_set.name,)
    answers = [reading.answers for name in pair for reading in readings[name].values()]
    shared = [sample for sample in page_set.samples if all(sample.id in given for given in answers)]
    return replace(page_set, samples=tuple(shared)) if shared else page_set


def result_of_set(
    config: PagesConfig, page_set: PageSet, scored: PageSet, readings: Mapping[str, Reading]
) -> dict[str, Any]:
    """A set's description, the pages that were scored, and every engine's result, as plain data."""
    return {
        "protocol": page_set.protocol,
        "pages": len(page_set.samples),
        "scored": len(scored.samples),
        "scored_ids": [sample.id for sample in scored.samples] if config.common else [],
        "data": data_fingerprint(page_set),
        "left_out": list(page_set.left_out),
        "engines": {engine: result_of(scored, one) for engine, one in readings.items()},
    }


def result_of(page_set: PageSet, reading: Reading) -> dict[str, Any]:
    """Scores of the pages that have an answer, and the cost of reading them."""
    about, answers = reading.about, reading.answers
    read = [(sample, answers[sample.id]) for sample in page_set.samples if sample.id in answers]
    walls = [answer.seconds for _, answer in read if answer.seconds is not None]
    busy = [answer.cpu_seconds for _, answer in read if answer.cpu_seconds is not None]
    result = {
        "about": dict(about),
        "seconds": median(walls) if walls else None,
        "cpu_seconds": fmean(busy) if busy else None,
        "failed": sum(answer.status == "error" for _, answer in read),
        "which": hashlib.sha256("\0".join(sample.id for sample, _ in read).encode()).hexdigest()[:8],
    }
    tokens = [answer.vision_tokens for _, answer in read if answer.vision_tokens is not None]
    if tokens:
        result["vision_tokens"] = fmean(tokens)
    texts = [answer.text for _, answer in read]
    if page_set.name == EMPTY:
        return {**result, "invented": asdict(invented(texts, [sample.groups[0] for sample, _ in read]))}
    return {**result, **scores_of(page_set, [sample for sample, _ in read], texts)}


def scores_of(page_set: PageSet, samples: Sequence[EvalSample], texts: Sequence[str]) -> dict[str, Any]:
    """Scores of every page and scores that only this set has, each with its control."""
    plain, truths = texts, [sample.truth for sample in samples]
    if page_set.boxes:
        plain, truths = [text_of_boxes(text) for text in texts], [text_of_boxes(truth) for truth in truths]
    found: dict[str, Any] = {"scores": asdict(score_set(plain, truths))}
    if page_set.name in EXTRAS:
        given = {sample.id: text for sample, text in zip(samples, texts)}
        others = other_answers(samples, given)
        found["extra"] = EXTRAS[page_set.name](samples, given)
        found["extra_control"] = EXTRAS[page_set.name](samples, others) if others else {}
    return found


def data_fingerprint(page_set: PageSet) -> str:
    """Eight hexadecimal digits of all pictures and truths of the set."""
    digest = hashlib.sha256()
    for sample in page_set.samples:
        digest.update(f"{sample.id}\0{sample.digest()}\0{sample.truth}\0".encode())
    return digest.hexdigest()[:8]


def commit() -> str:
    """The commit of the working tree, with a plus where it has changes; "unknown" outside of git."""
    try:
        head = _git("rev-parse", "--short=10", "HEAD")
        return head + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True)
    return done.stdout.strip()


# ---------------------------------------------------------------------------------------------------
# The report


def markdown(results: Mapping[str, Any], command: str) -> str:
    """The whole report."""
    about = results["machine"]
    by_set = {name: one["engines"] for name, one in results["sets"].items()}
    scored = {name: engines for name, engines in by_set.items() if name != EMPTY}
    parts = [
        "# Pages beside other engines",
        f"Written by `{command}` on {about['date']}, commit {about['commit']}. {about['cpu']}, "
        f"{about['threads']} thread(s) per engine, torch {about['torch']}.",
        EXPLAINED.strip(),
        about_table(by_set),
    ]
    lines = verdict(scored, OURS)
    if lines:
        parts += ["## Where our reader stands", "\n".join(f"- {line}" for line in lines)]
    for title, table in (
        ("Fox's texts and random letters: the drop", drop_table(scored)),
        ("Turned pages: points of cer_free above upright", turned_table(scored)),
    ):
        parts += [f"## {title}", table] if table else []
    for name, one in results["sets"].items():
        if name in TURNS and name != UPRIGHT:
            continue  # its numbers are in the table of rotated pages
        parts += [f"## {name}", f"{one['protocol']} Data {one['data']}, {one['pages']} pages."]
        if one["engines"]:
            table = (
                empty_table(one["engines"]) if name == EMPTY else score_table(one["engines"], one["pages"])
            )
            parts += [table, extra_table(one["engines"])]
        parts += [f"Left out: {sentence}." for sentence in one["left_out"]]
    parts += [f"{name} was not measured: {reason}" for name, reason in results["absent"].items()]
    return "\n\n".join(part for part in parts if part) + "\n"


def main(argv: list[str] | None = None) -> None:
    """Measure, print, write."""
    config = parse(PagesConfig, argv)
    results = {**measure(config), "command": command_line("scripts.measure_pages", argv)}
    report = markdown(results, results["command"])
    print(report)
    if config.out:
        write_json(config.out, results)
    if config.markdown:
        write_file(Path(config.markdown), report.encode())
    if not any(one["engines"] for one in results["sets"].values()):
        print(json.dumps(results["absent"]), file=sys.stderr)
        raise UsageError("no engine has an answer to any page: see why above, or take --read=True")


if __name__ == "__main__":
    sys.exit(run(main))
