"""Results of an evaluation for people: tables, what was left out, and samples worth a look."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from nanoocr.eval.catalogue import main_metric
from nanoocr.eval.store import named
from nanoocr.eval.summary import ALL

CLIP = 160  # characters of a text that the console shows


def percent(share: float | None) -> str:
    """A share for a table."""
    return "-" if share is None else f"{share:.1%}"


def group_row(summary: Mapping[str, Any]) -> dict[str, str]:
    """The headline numbers of a group, by the title of their column."""
    scores = summary["scores"]
    metric = main_metric(scores)
    gap = scores[metric].get("gap_wrong")
    cer = scores.get("cer")
    return {
        "pages": str(summary["pages"]),
        "CER": percent(summary["corpus_cer"]),
        "median": percent(cer["median"] if cer else None),
        ">50 %": percent(summary["catastrophic"]),
        "perfect": percent(summary["perfect"]),
        "score": f"{scores[metric]['mean']:.3f}",
        "95 %": f"{scores[metric]['low']:.3f}-{scores[metric]['high']:.3f}",
        "gap": "-" if gap is None else f"{gap:.3f}",
        "loops": percent(summary["repetition"]),
        "cut": percent(summary["truncated"]),
        "failed": str(summary["errors"] + summary["missing"]),
        "distinct": str(summary["distinct"]["right"]),
    }


SCORE_NOTE = """\
CER: errors / characters of the set; median: of the pages' CER; >50 %: pages with a CER above that;
score: F1 of the words without markup (questions: relaxed accuracy), with its interval; gap: score minus the
score with another sample's picture, 0 is an engine that does not look; loops, cut: pages that went in circles
or hit the token limit; failed: errors and missing answers, scored as empty; distinct: different answers."""


def group_table(results: Mapping[str, Any]) -> Table:
    """One line per group."""
    title = f"{results['model']} on {results['benchmark']} {results['data']}".strip()
    table = Table("set", title=title, box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), pad_edge=False)
    rows = {name: group_row(summary) for name, summary in results["groups"].items()}
    for title in next(iter(rows.values())):
        table.add_column(title, justify="right", no_wrap=True)
    for name, row in rows.items():
        table.add_row(name, *row.values())
    return table


def metric_table(summary: Mapping[str, Any]) -> Table:
    """Every metric over all pages."""
    table = Table("metric", title="All pages", box=box.SIMPLE_HEAD)
    names = ("mean", "low", "high", "median", "wrong", "blank", "gap_wrong", "gap_blank")
    for name in names:
        table.add_column(name.replace("_", " "), justify="right")
    for metric, numbers in summary["scores"].items():
        table.add_row(metric, *(f"{numbers[name]:.3f}" if name in numbers else "-" for name in names))
    return table


def print_results(results: Mapping[str, Any], console: Console) -> None:
    """Print tables, what was left out, and samples worth a look."""
    console.print(group_table(results))
    console.print(SCORE_NOTE)
    console.print(metric_table(results["groups"][ALL]))
    for condition, scores in results["set_scores"].items():
        listed = ", ".join(f"{name} {value:.6f}" for name, value in scores.items())
        console.print(f"whole set, {condition} picture: {listed}")
    for name in ("left_out", "missing", "unknown"):
        if results[name]:
            console.print(f"{name.replace('_', ' ')}: {len(results[name])} ({named(results[name])})")
    for note in results["notes"]:
        console.print(note)
    seen: set[str] = set()
    for entry in results["shown"]:
        if entry["id"] in seen:
            continue
        seen.add(entry["id"])
        console.print(f"{entry['group']}, {entry['which']}: {entry['id']} ({entry['picture']})")
        for title, text in {"truth": entry["truth"], **entry["texts"]}.items():
            console.print(f"  {title:<6}{text[:CLIP]!r}{' ...' if len(text) > CLIP else ''}")


def result_console() -> Console:
    """A console on stdout whose tables keep their width when stdout is no terminal."""
    return Console(
        highlight=False, markup=False, emoji=False, soft_wrap=True, width=None if sys.stdout.isatty() else 120
    )
