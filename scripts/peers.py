"""Compares the packaged model with other engines: same pictures, same scores, same run.

python -m scripts.peers
python -m scripts.peers --manifest=DIR --per_kind=100

Each engine reads the held-out synthetic set, and a manifest if one is given, with the grounding control
(scripts.vision_eval; answers in --out, resumable). Its cost is measured in a process of its own. The script
writes peers.json into --out and the tables to --markdown. An engine that is not installed is named and left
out.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from nanoocr.commandline import parse, run
from nanoocr.errors import UsageError
from nanoocr.eval.catalogue import Selection, find_benchmark
from nanoocr.eval.console import result_console
from nanoocr.eval.cost import measure_cost
from nanoocr.eval.evaluate import VisionEvalConfig, evaluate, split_names
from nanoocr.eval.peer_tables import (
    COST_TITLES,
    EXPLAINED,
    PEERS_JSON,
    SCORE_TITLES,
    cost_rows,
    score_rows,
    verdict,
)
from nanoocr.eval.peers import PEERS, make_peer
from nanoocr.eval.report import markdown_table
from nanoocr.files import write_file
from nanoocr.inference.reader import default_model_folder
from nanoocr.machine import machine
from nanoocr.model.folder import load_prompt, model_folder
from scripts.common import command_line


@dataclass(frozen=True)
class PeersConfig:
    """Compares engines on the same pictures."""

    out: str = "out/peers"  # folder for answers and peers.json; an interrupted run continues in it
    markdown: str = ""  # file for the tables; empty for none
    engines: str = "shipped,tesseract,rapidocr"  # peers, shipped, model folders
    per_kind: int = 100  # synthetic pictures of each kind
    kinds: str = ""  # only samples of these kinds; empty means all
    manifest: str = ""  # folder with a manifest.jsonl, or such a file, as a second set
    per_group: int = 0  # most samples of a group of the manifest; 0 means all
    grounding: bool = True  # read with wrong and blank pictures too, which takes three times as long
    cost_pages: int = 9  # pages of each set for measuring the cost; 0 measures none
    threads: int = 1  # threads of every engine
    max_tokens: int = 0  # longest answer of a model in tokens; 0 means what fits it

    def __post_init__(self) -> None:
        """Refuse numbers that make no sense."""
        if self.per_kind < 2 or self.cost_pages < 0 or self.cost_pages == 1 or self.threads < 1:
            raise UsageError("--per_kind must be at least 2, --threads 1, --cost_pages 0 or at least 2")
        if self.per_group < 0 or self.max_tokens < 0:
            raise UsageError("--per_group and --max_tokens must not be negative")


def compare(config: PeersConfig) -> dict[str, Any]:
    """Measure every engine on every set; plain data. Raises UsageError if no engine can be used."""
    engines, absent = usable(split_names(config.engines))
    if not engines:
        raise UsageError(f"no engine can be used: {'; '.join(absent.values())}")
    sets = {"synthetic": ("synthetic", "", config.per_kind)}
    if config.manifest:
        sets["manifest"] = ("manifest", config.manifest, config.per_group)
        find_benchmark("manifest").load(selection_of(config, config.manifest, config.per_group))
    for name in engines:  # a wrong name is told before hours of reading, not after them
        if name not in PEERS:
            load_prompt(model_name(name))
    measured = {name: measure_set(config, name, *parts, engines) for name, parts in sets.items()}
    return {"machine": {**machine(), "threads": config.threads}, "absent": absent, "sets": measured}


def usable(names: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The engines that are installed, and why the others are not measured."""
    engines: list[str] = []
    absent: dict[str, str] = {}
    for name in dict.fromkeys(names):
        try:
            if name in PEERS:
                make_peer(name)
            engines.append(name)
        except UsageError as error:
            absent[name] = str(error)
            print(f"{name} is left out: {error}", file=sys.stderr)
    return engines, absent


def measure_set(
    config: PeersConfig, name: str, benchmark: str, data: str, per_group: int, engines: Sequence[str]
) -> dict[str, Any]:
    """Measure one set: the results of every engine, and the cost of reading."""
    results = {}
    for engine in engines:
        out = Path(config.out, name, engine.strip("./").replace("/", "_"))
        results[engine] = evaluate(
            VisionEvalConfig(
                out=str(out),
                model=engine,
                benchmark=benchmark,
                data=data,
                grounding=config.grounding,
                questions=False,
                kinds=config.kinds,
                per_group=per_group,
                max_tokens=0 if engine in PEERS else config.max_tokens,
                threads=config.threads,
            )
        )
    samples = find_benchmark(benchmark).load(selection_of(config, data, per_group)).samples
    count = config.cost_pages
    spread = [samples[i * len(samples) // count] for i in range(min(count, len(samples)))] if count else []
    costs = {}
    for engine in engines if spread else ():
        print(f"{name}: cost of {engine} on {len(spread)} pages", file=sys.stderr)
        costs[engine] = asdict(measure_cost(model_name(engine), spread, config.threads))
    first = next(iter(results.values()))
    return {
        "data": data,
        "left_out": first["left_out"],
        "engines": {engine: {"about": r["about"], "groups": r["groups"]} for engine, r in results.items()},
        "costs": costs,
    }


def selection_of(config: PeersConfig, data: str, per_group: int) -> Selection:
    """The samples of a set that every engine reads."""
    return Selection(data, split_names(config.kinds), per_group, questions=False)


def model_name(engine: str) -> str:
    """A peer's name unchanged, or the folder of a model."""
    if engine in PEERS:
        return engine
    return str(default_model_folder() if engine == "shipped" else model_folder(engine))


# ---------------------------------------------------------------------------------------------------
# Tables


def markdown(results: Mapping[str, Any], command: str) -> str:
    """The Markdown file for the repository."""
    about = results["machine"]
    parts = [
        "# Results beside other engines\n",
        f"Written by `{command}` on {about['date']}.\n",
        f"{about['cpu']}, threads per engine: {about['threads']}, torch {about['torch']}.\n",
        EXPLAINED,
    ]
    for name, measured in results["sets"].items():
        parts.append(f"## {name}\n")
        parts.append(markdown_table(SCORE_TITLES, score_rows(measured)) + "\n")
        parts += [f"{line}\n" for line in verdict(measured)]
        if measured["costs"]:
            parts.append(markdown_table(COST_TITLES, cost_rows(measured)) + "\n")
        parts += [f"Left out: {sentence}.\n" for sentence in measured["left_out"]]
        for engine, result in measured["engines"].items():
            parts.append(f"{engine}: `{json.dumps(result['about'])}`\n")
    parts += [f"{engine} was not measured: {reason}\n" for engine, reason in results["absent"].items()]
    return "\n".join(parts)


def print_tables(results: Mapping[str, Any]) -> None:
    """Print the same tables for people."""
    console = result_console()
    for name, measured in results["sets"].items():
        for titles, rows in ((SCORE_TITLES, score_rows(measured)), (COST_TITLES, cost_rows(measured))):
            table = Table(*titles, title=name, box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), pad_edge=False)
            for row in rows:
                table.add_row(*row)
            if rows:
                console.print(table)
        for line in verdict(measured):
            console.print(line)


def main(argv: list[str] | None = None) -> None:
    """Compare, print, write."""
    config = parse(PeersConfig, argv)
    results = {**compare(config), "command": command_line("scripts.peers", argv)}
    print_tables(results)
    write_file(Path(config.out, PEERS_JSON), json.dumps(results, indent=1).encode())
    if config.markdown:
        write_file(Path(config.markdown), markdown(results, results["command"]).encode())
    print(json.dumps(results))


if __name__ == "__main__":
    sys.exit(run(main))
