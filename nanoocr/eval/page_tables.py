"""The tables of scripts/measure_pages.py: one row per engine, one table per set, and who wins where."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nanoocr.eval.made_pages import TURNS, UPRIGHT
from nanoocr.eval.report import markdown_table

TITLES = (
    "engine",
    "pages",
    "cer_free",
    "median",
    "together",
    "cer_strict",
    "bag_f1_free",
    "set_precision",
    "set_recall",
    "set_precision_free",
    "turbo_set_f1",
    "control",
    "s/page",
    "CPU s/page",
    "failed",
)
EXPLAINED = """\
cer_free: errors / characters without case and with white space as one space, the mean over pages, then their
median, then all errors / all characters (together); cer_strict: with case and line ends; bag_f1_free: F1 of
the words as a multiset without case; set_precision: right words / words said, as sets, with case; set_recall:
right words / words of the truth (what Fox's own script calls precision); set_precision_free: without case;
turbo_set_f1: TurboOCR's, sets of lower-cased tokens of two or more characters; control: bag_f1_free of the
same answers against the truth of another page, what an engine would score without looking (it is asked
nothing, so that this is what it says about the wrong picture), in other tables in brackets; s/page: median
wall time, of a machine that does other things too; CPU s/page: mean seconds of processor.

A row of fewer pages than its neighbours is not to be compared with them: the number of pages is the second
column. Rows named `published` are the answers that others have published, scored here. rapidocr is the
package as it comes, which enlarges every picture for its detector; rapidocr_960 is told not to; rapidocr_line
is its recogniser alone, for single lines. Boxes are joined to lines row by row across the page.
"""
# The main score of each set: its name, its place in a result, and whether less is better.
MAIN = {
    "sroie": ("cer_free", "mean", True),
    "sroie_lines": ("cer_free_together", "", True),
    "funsd": ("bag_f1_free", "mean", False),
    "fox_original": ("cer_free", "median", True),
    "fox_rendered": ("cer_free", "median", True),
    "fox_random": ("set_precision", "mean", False),
    "born_digital": ("bag_f1_free", "mean", False),
}
# One engine on one set: about, scores or invented, seconds, cpu_seconds, failed, and which pages it read.
Result = Mapping[str, Any]


def rate(value: float) -> str:
    """Format with three digits and without the leading zero: .087."""
    return f"{value:.3f}"


def seconds(value: float | None) -> str:
    """Format seconds; a dash where nobody measured them."""
    return "-" if value is None else f"{value:.2f}"


def score_table(engines: Mapping[str, Result], pages: int) -> str:
    """A table with one row per engine."""
    rows = []
    for name, result in engines.items():
        scores = result["scores"]
        mean, median = scores["mean"], scores["median"]
        numbers = (mean["cer_free"], median["cer_free"], scores["cer_free_together"], mean["cer_strict"])
        words = ("bag_f1_free", "set_precision", "set_recall", "set_precision_free", "turbo_set_f1")
        rows.append(
            [
                name,
                str(scores["pages"]) if scores["pages"] == pages else f"{scores['pages']} of {pages}",
                *(rate(number) for number in numbers),
                *(rate(mean[word]) for word in words),
                rate(scores["control"]["bag_f1_free"]),
                seconds(result["seconds"]),
                seconds(result["cpu_seconds"]),
                str(result["failed"]),
            ]
        )
    return markdown_table(TITLES, rows)


def extra_table(engines: Mapping[str, Result]) -> str:
    """A table of the scores that only this set has, with the control in brackets; "" where there are none."""
    names = list(dict.fromkeys(name for result in engines.values() for name in result.get("extra", {})))
    rows = [
        [engine, *(with_control(result["extra"], result["extra_control"], name) for name in names)]
        for engine, result in engines.items()
        if "extra" in result
    ]
    return markdown_table(("engine", *names), rows) if names else ""


def with_control(scores: Mapping[str, float], control: Mapping[str, float], name: str) -> str:
    """Format a score, followed in brackets by the score of the same answers against other pages."""
    if name not in scores:
        return "-"
    return rate(scores[name]) + (f" ({rate(control[name])})" if name in control else "")


def empty_table(engines: Mapping[str, Result]) -> str:
    """A table of what was read on pictures without text."""
    rows = []
    for name, result in engines.items():
        found = result["invented"]
        where = ", ".join(f"{kind} {number}" for kind, number in found["by_kind"].items())
        row = [name, str(found["pictures"]), f"{found['silent']:.1%}", str(found["characters"])]
        rows.append([*row, str(found["most"]), where or "nowhere", seconds(result["cpu_seconds"])])
    titles = (
        "engine",
        "pictures",
        "nothing said",
        "characters invented",
        "most in one",
        "where",
        "CPU s/page",
    )
    return markdown_table(titles, rows)


def drop_table(sets: Mapping[str, Mapping[str, Result]]) -> str:
    """Fox's texts against random letters: the loss shows how much was guessed. "" without both sets."""
    natural, random = sets.get("fox_rendered", {}), sets.get("fox_random", {})
    rows = []
    for name in natural:
        if name not in random or natural[name]["which"] != random[name]["which"]:
            continue  # with other pages it would be another drop
        row = [name, *size_of(name, natural[name]), str(random[name]["scores"]["pages"])]
        for score in ("set_precision", "set_precision_free"):
            before, after = (one[name]["scores"]["mean"][score] for one in (natural, random))
            row += [rate(before), rate(after), rate(before - after)]
        controls = (one[name]["scores"]["control"]["set_precision"] for one in (natural, random))
        rows.append([*row, *map(rate, controls)])
    columns = [
        f"{what}{kind}" for kind in (", with case", ", without") for what in ("natural", "random", "drop")
    ]
    titles = ("system", "parameters", "vision tokens/page", "pages", *columns, "control: natural", "random")
    return markdown_table(titles, rows) if rows else ""


# Parameters and vision tokens per page of systems with published answers, as their papers give them.
PUBLISHED_SIZES = {
    "deepseek_ocr_64": ("3.3B, 570M active", "64"),
    "deepseek_ocr_100": ("3.3B, 570M active", "100"),
    "deepseek_ocr_base": ("3.3B, 570M active", "256"),
    "smoldocling": ("256M", "-"),
    "monkeyocr_3b": ("3B", "-"),
}


def size_of(name: str, result: Result) -> tuple[str, str]:
    """Parameters (or the weights' bytes where nobody counts parameters), and vision tokens per page."""
    if name.startswith("published: "):
        return PUBLISHED_SIZES.get(name.removeprefix("published: "), ("-", "-"))
    about, tokens = result["about"], result.get("vision_tokens")
    size = f"{about['parameters'] / 1e6:.1f}M" if "parameters" in about else ""
    return (
        size or f"{about['weights_bytes'] / 1e6:.1f} MB of weights",
        "-" if tokens is None else f"{tokens:.0f}",
    )


def turned_table(sets: Mapping[str, Mapping[str, Result]]) -> str:
    """CER of upright pages, and how many points more the rotated ones cost. "" without upright pages."""
    upright = sets.get(UPRIGHT, {})
    names = [name for name in TURNS if name != UPRIGHT and name in sets]
    rows = []
    for engine, result in upright.items():
        base = result["scores"]["mean"]["cer_free"]
        rises = [
            f"{100 * (sets[name][engine]['scores']['mean']['cer_free'] - base):+.1f}"
            if engine in sets[name]
            else "-"
            for name in names
        ]
        rows.append([engine, str(result["scores"]["pages"]), f"{base:.1%}", *rises])
    titles = ("engine", "pages", "upright", *(f"{TURNS[name]:+.0f} degrees" for name in names))
    return markdown_table(titles, rows) if rows else ""


def about_table(sets: Mapping[str, Mapping[str, Result]]) -> str:
    """A table that describes every engine: version, weights, settings."""
    abouts: dict[str, Mapping[str, Any]] = {}
    for engines in sets.values():
        for name, result in engines.items():
            if result["about"]:
                abouts.setdefault(name, result["about"])
    rows = []
    for name, about in abouts.items():
        other = {k: v for k, v in about.items() if k not in ("engine", "version", "weights_bytes", "threads")}
        settings = ", ".join(f"{key}={value}" for key, value in other.items())
        size = f"{about['weights_bytes'] / 1e6:.1f} MB"
        rows.append([name, str(about["version"]), size, str(about["threads"]), settings])
    return markdown_table(("engine", "version", "weights", "threads", "settings"), rows)


def main_score(set_name: str, result: Result) -> float:
    """A result's value of the set's main score."""
    name, group, _ = MAIN[set_name]
    return float(result["scores"][group][name] if group else result["scores"][name])


def verdict(sets: Mapping[str, Mapping[str, Result]], ours: str) -> list[str]:
    """One sentence per set: who is best by the set's main score, and who is ahead of `ours`."""
    lines = []
    for set_name, engines in sets.items():
        # published answers are not engines that ran here
        run = {name: one for name, one in engines.items() if one["about"]}
        if set_name not in MAIN or ours not in run:
            continue
        score, group, less = MAIN[set_name]
        alike = [name for name, one in run.items() if one["which"] == run[ours]["which"]]
        mine = main_score(set_name, run[ours])
        ahead = {n: main_score(set_name, run[n]) for n in alike if n != ours}
        ahead = {n: value for n, value in ahead.items() if (value < mine if less else value > mine)}
        words = ", ".join(f"{n} ({rate(value)})" for n, value in ahead.items())
        label = f"{group} {score}".strip()
        said = f"ahead of it: {words}" if ahead else "nobody measured here is ahead of it"
        lines.append(f"{set_name}, {label}: {ours} has {rate(mine)}; {said}.")
    return lines
