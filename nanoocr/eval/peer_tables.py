"""The tables that compare engines: scores and costs by group and engine, and who leads where."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nanoocr.eval.catalogue import main_metric
from nanoocr.eval.console import group_row
from nanoocr.eval.summary import ALL

PEERS_JSON = "peers.json"
COLUMNS = ("CER", "median", ">50 %", "perfect", "score", "95 %", "gap", "loops", "failed")


def score_rows(measured: Mapping[str, Any]) -> list[list[str]]:
    """One row per group and engine: the group, its pages, the engine, and COLUMNS."""
    rows = []
    for group in next(iter(measured["engines"].values()))["groups"]:
        for engine, result in measured["engines"].items():
            row = group_row(result["groups"][group])
            rows.append([group, row["pages"], engine, *(row[column] for column in COLUMNS)])
    return rows


def cost_rows(measured: Mapping[str, Any]) -> list[list[str]]:
    """One row per engine: version, weights, time and memory."""
    rows = []
    for engine, cost in measured["costs"].items():
        result = measured["engines"][engine]
        in_run = result["groups"][ALL]["seconds_per_page"]
        rows.append(
            [
                engine,
                str(result["about"].get("version") or result["about"].get("preset", "")),
                f"{result['about']['weights_bytes'] / 1e6:.1f} MB",
                f"{cost['seconds_per_page']:.2f}",
                "-" if in_run is None else f"{in_run:.2f}",
                f"{cost['start_seconds']:.2f}",
                f"{cost['peak_bytes'] / 1e6:.0f} MB",
                f"{cost['failed']} of {cost['pages']}",
            ]
        )
    return rows


SCORE_TITLES = ["pictures", "number", "engine", *COLUMNS]
COST_TITLES = [
    "engine",
    "version",
    "weights",
    "s/page alone",
    "s/page in the run",
    "start s",
    "memory",
    "failed",
]


def verdict(measured: Mapping[str, Any]) -> list[str]:
    """Who leads in which group by the score that ignores markup, and where the first engine loses."""
    engines = measured["engines"]
    first, *others = engines
    leads: dict[str, list[str]] = {engine: [] for engine in engines}
    lost, unread = [], []
    for group in engines[first]["groups"]:
        means = {}
        for engine, result in engines.items():
            scores = result["groups"][group]["scores"]
            means[engine] = scores[main_metric(scores)]["mean"]
        best = max(means.values())
        unread += [group] if best == 0 else []
        lost += [group] if means[first] < best else []
        for engine, mean in means.items():
            leads[engine] += [group] if mean == best > 0 else []
    if not others:
        return []
    lines = [
        f"{engine} has the best score in: {', '.join(groups) or 'nothing'}."
        for engine, groups in leads.items()
    ]
    lines.append(f"{first} loses in: {', '.join(lost) or 'nothing'}.")
    return [*lines, f"No engine has read a word in: {', '.join(unread)}."] if unread else lines


EXPLAINED = """\
CER: errors / characters of all pages, order and markup count; median: of the pages' CER; >50 %: pages with a
CER above that, which are no readings; perfect: pages without an error; score: F1 of the words as a bag, HTML
tags and pipes removed on both sides (the fair column for tables, forms and scenes); 95 %: bootstrap interval
of the score; gap: score minus the score with another sample's picture, 0 is an engine that does not look;
loops: answers that go in circles; failed: pages without an answer, scored as empty. Peers only read, so
questions about a picture are left out. rapidocr gives boxes: they are joined to lines across the whole page,
so that its CER on pages of several columns is one of order more than of letters.

s/page alone: one page at a time in a process of its own; in the run: the same machine while all pages were
read, a model in batches; start: until the first page was read; memory: peak of the largest process, Python
included.
"""
