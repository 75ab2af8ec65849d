"""Writes one page about a model: training curves, tables, compression curve, grounding, peers, samples.

python -m scripts.report --run=checkpoints/nano_mid --eval=out/synthetic --eval=out/curve --eval=out/peers

Each --eval is the --out folder of scripts.vision_eval, scripts.compression_curve or scripts.peers. The script
writes a self-contained HTML page, and Markdown with its pictures in a folder beside it.
"""

from __future__ import annotations

import datetime
import json
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

import tyro

from nanoocr.commandline import parse, run
from nanoocr.errors import UsageError
from nanoocr.eval.compression import COLUMNS, CURVE, curve_row
from nanoocr.eval.console import SCORE_NOTE, group_row
from nanoocr.eval.evaluate import RESULTS
from nanoocr.eval.peer_tables import (
    COST_TITLES,
    EXPLAINED,
    PEERS_JSON,
    SCORE_TITLES,
    cost_rows,
    score_rows,
    verdict,
)
from nanoocr.eval.plots import plot_curve, plot_run
from nanoocr.eval.report import (
    LEGEND,
    Block,
    Code,
    Figure,
    Heading,
    Paragraph,
    Rows,
    Sample,
    pictures_of,
    to_html,
    to_markdown,
)
from nanoocr.eval.run_log import STAGES, RunMetrics, read_run, run_series
from nanoocr.eval.summary import ALL
from nanoocr.files import write_file
from nanoocr.machine import cpu_name
from scripts.common import command_line

PACKAGES = (
    "nano-deepseek-ocr",
    "torch",
    "numpy",
    "pillow",
    "rapidfuzz",
    "matplotlib",
    "rapidocr",
    "onnxruntime",
)


Repeated = Annotated[tuple[str, ...], tyro.conf.UseAppendAction]


@dataclass(frozen=True)
class ReportConfig:
    """Puts measurements onto one page."""

    run: Repeated = ()  # run folder of a training; may be repeated
    eval: Repeated = ()  # folder that an evaluation wrote (its --out); may be repeated
    out: str = "report.html"  # page to write; the Markdown gets the same name with .md
    title: str = "nano-deepseek-ocr: report"  # title of the page


def build(config: ReportConfig, command: str) -> list[Block]:
    """Build the blocks of the report.

    Raises:
        UsageError: nothing was named, or a folder has nothing that a report shows.
    """
    if not config.run and not config.eval:
        raise UsageError("name what to report with --run=DIR or --eval=DIR")
    loaded = [load_evaluation(folder) for folder in config.eval]
    blocks = about_blocks(command, [data for _, _, data in loaded])
    for name in config.run:
        blocks += run_blocks(read_run(name))
    for i, (render, folder, data) in enumerate(loaded, start=1):
        try:
            blocks += render(data, folder, f"{i}_{folder.name}")
        except (KeyError, TypeError, AttributeError, IndexError, StopIteration) as error:
            raise UsageError(
                f"{folder}: its JSON is not of this version ({error!r}): measure again"
            ) from error
    return blocks


# takes results, their folder, and the names of pictures
Renderer = Callable[[Mapping[str, Any], Path, str], list[Block]]


def load_evaluation(name: str) -> tuple[Renderer, Path, dict[str, Any]]:
    """The function that shows the results in a folder, the folder, and the results.

    Raises:
        UsageError: the folder has no results, or they are no JSON object.
    """
    renderers: dict[str, Renderer] = {RESULTS: eval_blocks, CURVE: curve_blocks, PEERS_JSON: peers_blocks}
    folder = Path(name)
    found = next((file for file in renderers if (folder / file).is_file()), None)
    if found is None:
        raise UsageError(f"--eval={name}: there is no {', '.join(renderers)} in it")
    try:
        data = json.loads((folder / found).read_bytes())
    except ValueError as error:
        raise UsageError(f"{folder / found}: not JSON ({error})") from error
    if not isinstance(data, dict):
        raise UsageError(f"{folder / found}: holds no results")
    return renderers[found], folder, data


# ---------------------------------------------------------------------------------------------------
# Sections


def about_blocks(command: str, measured: Sequence[Mapping[str, Any]]) -> list[Block]:
    """Say when, where and with what it was measured, and with which commands."""
    commands = [str(data["command"]) for data in measured if data.get("command")]
    versions = [("Python", platform.python_version()), *((name, installed(name)) for name in PACKAGES)]
    facts = [("date", datetime.date.today().isoformat()), ("processor", cpu_name())]
    facts += [(name, found) for name, found in versions if found]
    return [
        Rows(("what", "value"), tuple(facts)),
        Code("\n".join([*commands, command])),
    ]


def installed(package: str) -> str:
    """The version of a package; "" where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def run_blocks(metrics: RunMetrics) -> list[Block]:
    """The curves of a run, and its last numbers on collapse and grounding."""
    blocks: list[Block] = [Heading(f"Training: {metrics.name}")]
    figure = plot_run(run_series(metrics), metrics.name)
    blocks.append(Figure(f"run_{metrics.name}.png", figure, f"what {metrics.name} logged over its steps"))
    last = metrics.last("validation")
    if last:
        shown = {"loss": "loss", "CER": "cer", "word overlap": "overlap", "grounding gap": "grounding_gap"}
        numbers = tuple((name, number(last.get(key))) for name, key in shown.items())
        blocks.append(Rows((f"validation at step {last['step']}", "value"), numbers))
        keys = ("effective_rank", "centred_cosine", "spread", "blank_distance")
        health = tuple((stage, *(number(last.get(f"{stage}_{key}")) for key in keys)) for stage in STAGES)
        blocks.append(Rows(("features of", *(key.replace("_", " ") for key in keys)), health))
        blocks.append(
            Paragraph(
                "A collapsed encoder gives all pictures one direction: effective rank near 1, centred cosine "
                "near 1. A model that does not look has grounding gap 0."
            )
        )
    return [*blocks, *map(Paragraph, metrics.notes)]


def number(value: object) -> str:
    """Format a number for a table."""
    return f"{value:.3f}" if isinstance(value, int | float) else "-"


def eval_blocks(data: Mapping[str, Any], folder: Path, name: str) -> list[Block]:
    """The tables of an evaluation, the missing answers, and pages to look at."""
    rows = {group: group_row(summary) for group, summary in data["groups"].items()}
    titles = tuple(next(iter(rows.values())))
    keys = ("mean", "low", "high", "median", "wrong", "blank", "gap_wrong", "gap_blank")
    metrics = data["groups"][ALL]["scores"].items()
    blocks: list[Block] = [
        Heading(
            f"Evaluation: {data['model']} on {data.get('benchmark', data.get('task'))} {data['data']}".strip()
        ),
        Rows(("set", *titles), tuple((group, *row.values()) for group, row in rows.items())),
        Paragraph(" ".join(SCORE_NOTE.split())),
        Rows(
            ("all pages", *(key.replace("_", " ") for key in keys)),
            tuple((metric, *(number(values.get(key)) for key in keys)) for metric, values in metrics),
        ),
        *set_score_blocks(data["set_scores"]),
        Code(json.dumps({"answers": data["about"], "machine": data["machine"]}, indent=1)),
    ]
    for key in ("left_out", "missing", "unknown", "notes"):
        if data[key]:
            title = key.replace("_", " ")
            blocks.append(Paragraph(f"{title}, {len(data[key])}: {'; '.join(data[key][:20])}"))
    blocks += [Heading("Pages to look at", 3), Paragraph(f"Worst and median of every line; {LEGEND}.")]
    return [*blocks, *samples(data["shown"], folder, name)]


def set_score_blocks(scores: Mapping[str, Mapping[str, float]]) -> list[Block]:
    """The scores of the whole set for each shown picture; nothing where the benchmark has none."""
    names = scores.get("right", {})
    rows = tuple((name, *(number(given.get(name)) for given in scores.values())) for name in names)
    return [Rows(("whole set", *(f"{shown} picture" for shown in scores)), rows)] if rows else []


def samples(shown: Sequence[Mapping[str, Any]], folder: Path, name: str) -> list[Block]:
    """The pages that an evaluation stored for showing, each once."""
    titles: dict[str, list[str]] = {}
    for entry in shown:
        titles.setdefault(entry["id"], []).append(f"{entry['which']} of {entry['group']}")
    blocks: list[Block] = []
    for entry in {entry["id"]: entry for entry in shown}.values():
        picture = folder / entry["picture"] if entry["picture"] else None
        scores = ", ".join(f"{metric} {value:.3f}" for metric, value in entry["scores"].items())
        blocks.append(
            Sample(
                title=f"{entry['id']} ({'; '.join(titles[entry['id']])}): {entry['prompt']}",
                name=f"{name}_{picture.name}" if picture else "",
                png=picture.read_bytes() if picture and picture.is_file() else None,
                truth=entry["truth"],
                texts=entry["texts"],
            )
        )
        blocks.append(Paragraph("; ".join(filter(None, (entry["status"], entry["error"], scores)))))
    return blocks


def curve_blocks(data: Mapping[str, Any], folder: Path, name: str) -> list[Block]:
    """The compression curve as figure and table, with the paper's curve."""
    rows = [
        (view, f"{point['from']:g}-{point['to']:g}", *curve_row(point))
        for view, points in data["curves"].items()
        for point in points
    ]
    paper = [
        (
            tokens,
            "-".join(map(str, p["text_tokens"])),
            str(p["pages"]),
            str(p["ratio"]),
            number(p["precision"]),
        )
        for tokens, points in data["paper"].items()
        for p in points
    ]
    figure = plot_curve(data["curves"], Path(data["model"]).name)
    return [
        Heading(f"Compression curve: {data['model']}"),
        Figure(f"{name}_curve.png", figure, "precision and CER against compression"),
        Rows(("view", "bucket", *COLUMNS), tuple(rows)),
        Paragraph(
            "DeepSeek-OCR on the English pages of Fox (arXiv 2510.18234, table 2), other pages and tokens:"
        ),
        Rows(("vision tokens", "text tokens", "pages", "ratio", "precision"), tuple(paper)),
        *(Paragraph(f"Left out: {sentence}") for sentence in data["left_out"][:20]),
    ]


def peers_blocks(data: Mapping[str, Any], folder: Path, name: str) -> list[Block]:
    """Engines side by side."""
    blocks: list[Block] = [Heading("Beside other engines"), *map(Paragraph, EXPLAINED.strip().split("\n\n"))]
    for set_name, measured in data["sets"].items():
        blocks.append(Heading(set_name, 3))
        blocks.append(Rows(tuple(SCORE_TITLES), tuple(map(tuple, score_rows(measured)))))
        blocks += map(Paragraph, verdict(measured))
        if measured["costs"]:
            blocks.append(Rows(tuple(COST_TITLES), tuple(map(tuple, cost_rows(measured)))))
        blocks += [Paragraph(f"Left out: {sentence}") for sentence in measured["left_out"][:20]]
        about = {engine: result["about"] for engine, result in measured["engines"].items()}
        blocks.append(Code("\n".join(f"{engine}: {json.dumps(facts)}" for engine, facts in about.items())))
    return [*blocks, *(Paragraph(f"{e} was not measured: {reason}") for e, reason in data["absent"].items())]


def main(argv: list[str] | None = None) -> None:
    """Collect the blocks, and write the page and the Markdown."""
    config = parse(ReportConfig, argv)
    blocks = build(config, command_line("scripts.report", argv))
    page = Path(config.out)
    if page.suffix not in (".html", ".htm"):
        raise UsageError(f"--out={config.out}: the page is HTML, so its name should end in .html")
    files = page.with_name(f"{page.stem}_files")
    for name, png in pictures_of(blocks).items():
        write_file(files / name, png)
    write_file(page, to_html(config.title, blocks).encode("utf-8", "replace"))
    markdown = to_markdown(config.title, blocks, files.name)
    write_file(page.with_suffix(".md"), markdown.encode("utf-8", "replace"))
    print(config.out)


if __name__ == "__main__":
    sys.exit(run(main))
