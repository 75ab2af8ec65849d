"""Writes docs/results.md: every table with other engines, by one command that continues where it stopped.

python -m scripts.results                          # read what is not read yet, two hours at most, and write
python -m scripts.results --read=False             # score and write what is there
python -m scripts.results --only=tier3,random --limit=7

Answers are stored in --answers, page by page, as by scripts.measure_pages. Engines that have not changed
never read again, and a new model of ours begins anew. With --common (the default) a table compares the pages
that all of its engines have read. Below every table are the commit, the fingerprint of the data, and the
command for that table alone.
"""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nanoocr.commandline import parse, run
from nanoocr.errors import UsageError
from nanoocr.eval.evaluate import split_names
from nanoocr.eval.made_pages import TURNS
from nanoocr.eval.page_reading import OURS
from nanoocr.eval.page_tables import EXPLAINED, about_table, turned_table, verdict
from nanoocr.eval.result_tables import SECTIONS, Section, tables_of
from nanoocr.files import write_file
from nanoocr.machine import machine
from scripts.common import command_line, write_json
from scripts.measure_pages import PagesConfig, commit, measure

TURNED = "turned"


@dataclass(frozen=True)
class ResultsConfig:
    """Writes every table of results beside other engines."""

    data: str = "../shared/data"  # folder of the pictures with truth
    only: str = ""  # tables, as tier3,random; empty means all
    model: str = ""  # model folder; empty means the packaged model
    ours: bool = True  # read with our reader too
    limit: int = 0  # most pages of a set, evenly spread; 0 means all
    threads: int = 1  # threads of every engine
    minutes: float = 110.0  # minutes of reading in total; the next run reads the rest
    read: bool = True  # read the missing answers; False scores only the stored ones
    common: bool = True  # compare the pages that every engine of a table has read
    answers: str = "out/pages"  # folder for the answers
    out: str = "docs/results.json"  # file for the scores
    markdown: str = "docs/results.md"  # file for the tables

    def __post_init__(self) -> None:
        """Refuse senseless settings before anything is read."""
        if self.limit < 0 or self.threads < 1 or not self.minutes > 0:
            raise UsageError("--limit must be 0 or more, --threads at least 1, --minutes above 0")
        unknown = [name for name in split_names(self.only) if name not in wanted_sections("")]
        if unknown:
            raise UsageError(f"--only={self.only}: choose among {', '.join(wanted_sections(''))}")


def wanted_sections(only: str) -> dict[str, Section]:
    """The tables by name, in the order of the page; `only` selects among them."""
    turned = Section(
        "Turned pages", "Points of cer_free above upright pages.", tuple(TURNS), (), "tesseract,ppocr_tiny"
    )
    every = {**SECTIONS, TURNED: turned}
    return {name: every[name] for name in every if not only or name in split_names(only)}


def pages_config(config: ResultsConfig, section: Section, minutes: float) -> PagesConfig:
    """The config of scripts.measure_pages for one table."""
    return PagesConfig(
        data=config.data,
        sets=",".join(section.sets),
        model=config.model,
        ours=config.ours,
        peers=section.peers,
        limit=config.limit,
        threads=config.threads,
        read=config.read and minutes > 0,
        common=config.common,
        minutes=max(minutes, 0.0),
        answers=config.answers,
    )


def command_of(pages: PagesConfig) -> str:
    """The command that measures this table alone."""
    flags = [f"--data={pages.data}", f"--sets={pages.sets}", f"--peers={pages.peers}"]
    flags += [f"--model={pages.model}"] if pages.model else []
    flags += [f"--limit={pages.limit}"] if pages.limit else []
    flags += [f"--common={pages.common}"]
    return shlex.join(["python", "-m", "scripts.measure_pages", *flags])


def measure_all(config: ResultsConfig) -> dict[str, Any]:
    """Measure every table, one after the other; returns plain data."""
    until = time.monotonic() + 60 * config.minutes
    sections: dict[str, Any] = {}
    for name, section in wanted_sections(config.only).items():
        pages = pages_config(config, section, (until - time.monotonic()) / 60)
        found = measure(pages)
        sections[name] = {"command": command_of(pages), "sets": found["sets"], "absent": found["absent"]}
    about = {**machine(), "threads": config.threads, "commit": commit()}
    return {"machine": about, "sections": sections}


# ---------------------------------------------------------------------------------------------------
# The page


def markdown(results: Mapping[str, Any]) -> str:
    """The whole page."""
    about, sections = results["machine"], results["sections"]
    engines = [one["engines"] for section in sections.values() for one in section["sets"].values()]
    parts = [
        "# Results beside other engines",
        f"Written by `{results['command']}` on {about['date']}. {about['cpu']}, {about['threads']} thread(s) "
        f"per engine, torch {about['torch']}. Other work ran beside it: seconds are upper bounds.",
        EXPLAINED.strip(),
        about_table({str(number): one for number, one in enumerate(engines)}),
        *(part for name, one in sections.items() for part in section_parts(name, one, about["commit"])),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def section_parts(name: str, measured: Mapping[str, Any], at: str) -> list[str]:
    """One table with its title, its explanation, and the origin of its numbers."""
    section = wanted_sections("")[name]
    sets = {set_name: one["engines"] for set_name, one in measured["sets"].items()}
    tables = [turned_table(sets)] if name == TURNED else tables_of(section, sets)
    lines = [f"- {line}" for line in verdict(sets, OURS)] if name != TURNED else []
    absent = [f"{engine} was not measured: {reason}" for engine, reason in measured["absent"].items()]
    return [
        f"## {section.title}",
        section.explained,
        *(table for table in tables if table),
        "\n".join(lines),
        *absent,
        origin(measured, at),
    ]


def origin(measured: Mapping[str, Any], at: str) -> str:
    """Commit, data and command of a table, and how much of the data was scored."""
    sets = measured["sets"].items()
    data = ", ".join(f"{name} {one['data']} ({one['scored']} of {one['pages']} pages)" for name, one in sets)
    missing = {name: len(one["left_out"]) for name, one in sets if one["left_out"]}
    named = (
        f" {count} entries of {name} are left out; the JSON names them." for name, count in missing.items()
    )
    return f"Commit {at}; data {data}; `{measured['command']}`.{''.join(named)}"


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, write, and say where."""
    config = parse(ResultsConfig, list(argv) if argv is not None else None)
    results = {**measure_all(config), "command": command_line("scripts.results", argv)}
    measured = [one for section in results["sections"].values() for one in section["sets"].values()]
    if not any(one["engines"] for one in measured):
        raise UsageError("no engine has an answer to any page: take --read=True, or name other --answers")
    write_json(config.out, results)
    write_file(Path(config.markdown), markdown(results).encode())
    read = sum(one["scored"] for one in measured)
    print(json.dumps({"markdown": config.markdown, "json": config.out, "pages": read}))


if __name__ == "__main__":
    sys.exit(run(main))
