"""Figures as PNG bytes: a run's metrics, and the compression curve. They need matplotlib (extra `plot`)."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nanoocr.errors import UsageError
from nanoocr.eval.compression import NATURAL, PAPER_CURVES, PHASES, RANDOM
from nanoocr.eval.run_log import Lines

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANEL = (5.2, 3.2)  # inches per panel
DPI = 110


def new_figure(rows: int, columns: int) -> tuple[Figure, list[Axes]]:
    """An empty figure and its panels in reading order.

    Raises:
        UsageError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError("figures need the extra: pip install 'nano-deepseek-ocr[plot]'") from error
    # A Figure of its own, without pyplot, opens no window and shares no state with other figures.
    figure = Figure(figsize=(PANEL[0] * columns, PANEL[1] * rows), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for panel in panels:
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(alpha=0.25)
    return figure, panels


def png(figure: Figure) -> bytes:
    """The figure as a PNG file."""
    stored = io.BytesIO()
    figure.savefig(stored, format="png", dpi=DPI)
    return stored.getvalue()


def svg(figure: Figure) -> bytes:
    """The figure as an SVG file, the same for the same figure."""
    from matplotlib import rc_context

    stored = io.BytesIO()
    # Letters as letters take a fifth of the space of letters as outlines. A date and ids drawn by chance
    # would make every file a new one.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "nanoocr"}):
        figure.savefig(stored, format="svg", metadata={"Date": None})
    return stored.getvalue()


def plot_curve(curves: Mapping[str, Sequence[Mapping[str, Any]]], name: str) -> bytes:
    """Precision and CER against text tokens / vision tokens, with the paper's precision beside ours."""
    figure, (precision, cer) = new_figure(1, 2)
    for style, (tokens, points) in zip((":", "--"), PAPER_CURVES.items()):
        label = f"paper on Fox, {tokens} vision tokens"
        ratios, shares = [p.ratio for p in points], [p.precision for p in points]
        precision.plot(ratios, shares, style, marker="o", color="0.5", ms=3, label=label)
    for curve, measured in curves.items():
        ratios = [point["ratio"] for point in measured]
        for panel, key in ((precision, "precision"), (cer, "cer")):
            means = [point[key]["mean"] for point in measured]
            panel.plot(ratios, means, "o-", ms=3, label=f"{name}, {curve}")
            low, high = ([point[key][end] for point in measured] for end in ("low", "high"))
            panel.fill_between(ratios, low, high, alpha=0.15)
    for phase, most in PHASES.items():
        cer.axhline(most, color="0.6", lw=0.8, ls=":")
        cer.annotate(f"{phase} below", (0, most), fontsize=6, color="0.4", va="bottom")
    for panel, title in ((precision, "precision (share of the truth's words)"), (cer, "CER, mean of pages")):
        panel.set(title=title, xlabel="text tokens / vision tokens", xlim=(0, None))
        panel.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)
    precision.set_ylim(0, 1.02)
    cer.set_ylim(0, max(1.02, cer.get_ylim()[1]))
    return png(figure)


def plot_control(points: Sequence[Mapping[str, Any]]) -> bytes:
    """CER against characters per vector for each way, natural and random text apart, as an SVG file.

    `points` are those of scripts/compression_control.py: of each way and ratio, from its start to its end.
    """
    figure, panels = new_figure(1, 2)
    curves: dict[str, dict[int, Mapping[str, Any]]] = {}
    for point in points:  # the last point of a run replaces those before it
        curves.setdefault(f"{point['way']}, trained", {})[point["ratio"]] = point
    before = {p["ratio"]: p for p in points if p["way"] == "picture" and not p["steps"]}
    for panel, kind in zip(panels, (NATURAL, RANDOM)):
        for label, curve in {**curves, "picture, as packaged": before}.items():
            ratios = sorted(curve)
            low, mean, high = ([curve[r][kind][key] for r in ratios] for key in ("low", "cer", "high"))
            style = "o:" if curve is before else "o-"
            (line,) = panel.plot(ratios, mean, style, ms=3, label=label)
            panel.fill_between(ratios, low, high, alpha=0.12, color=line.get_color())
        for phase, most in PHASES.items():
            panel.axhline(most, color="0.6", lw=0.8, ls=":")
            panel.annotate(f"{phase} below", (0, most), fontsize=6, color="0.4", va="bottom")
        ratios = sorted({p["ratio"] for p in points})
        panel.set(title=kind, xlabel="characters per vector", ylabel="CER, mean of texts", xticks=ratios)
        panel.set(xlim=(0, None), ylim=(0, max(1.02, panel.get_ylim()[1])))
    panels[0].legend(fontsize=7)
    return svg(figure)


def plot_run(series: Mapping[str, Lines], name: str) -> bytes:
    """One panel per title and one curve per name in it, over steps; logarithmic for ranges above 100-fold."""
    drawn = {title: lines for title, lines in series.items() if any(lines.values())}
    if not drawn:
        raise UsageError(f"{name}: there is nothing in it to draw")
    columns = 2 if len(drawn) > 1 else 1
    figure, panels = new_figure(-(-len(drawn) // columns), columns)
    for panel, (title, lines) in zip(panels, drawn.items()):
        for label, points in lines.items():
            if points:
                few = "o" if len(points) < 30 else ""
                panel.plot(*zip(*points), marker=few, ms=3, lw=1.2, label=label)
        values = [value for points in lines.values() for _, value in points]
        if min(values) > 0 and max(values) > 100 * min(values):
            panel.set_yscale("log")
        panel.set(title=title, xlabel="step")
        panel.legend(fontsize=7)
    for panel in panels[len(drawn) :]:
        panel.set_visible(False)
    figure.suptitle(name)
    return png(figure)
