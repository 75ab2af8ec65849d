"""Scores a model, a peer or somebody's predictions on a benchmark, with a control for looking.

python -m scripts.vision_eval --out=out/synthetic
python -m scripts.vision_eval --model=tesseract --benchmark=folder --data=assets/samples --out=out/tesseract
python -m scripts.vision_eval --predictions=DIR --benchmark=manifest --data=DIR --out=out/theirs

Every question is asked three times: about its own picture, another sample's, and a blank one (the grounding
control, nanoocr/eval/grounding.py). Answers are written to --out at once, so an interrupted run continues
where it was. The last line on stdout is JSON; results.json in --out also has every page's scores.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from typing import Any

from rich.console import Console

from nanoocr.commandline import parse, run
from nanoocr.eval.console import SCORE_NOTE, group_table, metric_table
from nanoocr.eval.evaluate import VisionEvalConfig, evaluate
from nanoocr.eval.store import named
from nanoocr.eval.summary import ALL
from scripts.common import command_line, result_console

CLIP = 160  # characters of a text that the console shows


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


def main(argv: list[str] | None = None) -> None:
    """Evaluate, print, and end with one line of JSON."""
    given = list(sys.argv[1:] if argv is None else argv)
    # The flag was called --task before, and commands that were written down should go on working.
    given = [re.sub(r"^--task(?==|$)", "--benchmark", flag) for flag in given]
    config = parse(VisionEvalConfig, given)
    results = evaluate(config, command_line("scripts.vision_eval", given))
    print_results(results, result_console())
    print(json.dumps({key: value for key, value in results.items() if key != "shown"}))


if __name__ == "__main__":
    sys.exit(run(main))
