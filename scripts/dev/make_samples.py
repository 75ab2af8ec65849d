"""Draws the pictures in the repository: the ten samples of tier 1, and those of the quickstart.

python -m scripts.dev.make_samples

The ten samples (data/overfit_dataset.json, with their pictures) need no font but matplotlib's. They test
memory with a trap: rows of one kind share one question, and their answers have hardly a word in common. So
only a model that looks at the picture can answer. The pictures of the quickstart (assets/samples, each with
its truth in a .txt) are cards, the kind that the first packaged model was trained on, from held-out seeds,
and two are in held-out fonts. They were selected before there was a model. Kind, seed and index define both
sets, so drawing them again gives the same pictures, as long as the fonts and Pillow's rendering of them stay
the same.
"""

from __future__ import annotations

import io
import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from PIL import Image

from nanoocr.commandline import parse, run
from nanoocr.data.synth import VALIDATION_SEED, SynthSample, find_fonts, make_sample
from nanoocr.data.synth.fonts import Font, default_folders, families
from nanoocr.errors import UsageError
from nanoocr.files import write_file

ROOT = Path(__file__).resolve().parents[2]
OVERFIT_SEED = 10
# Validation and scripts.measure_reading draw from VALIDATION_SEED itself, the quickstart from the next one.
SHOWN_SEED = VALIDATION_SEED + 1
SIGN = "What does the sign say?"  # the question of the textvqa rows; the generator's scenes have "Read."


class Pick(NamedTuple):
    """One sample of the generator's endless series."""

    name: str
    kind: str
    number: int  # number within the series of its kind
    prompt: str = "Read."
    families: tuple[str, ...] = ()  # fonts; () means matplotlib's
    lines: int = 1  # lines of a card


MATPLOTLIB_FAMILIES = ("DejaVu Sans", "DejaVu Sans Mono", "DejaVu Serif", "STIXGeneral")

# Neighbours matter, because evaluate_reading gives every picture to the next row.
OVERFIT = (
    Pick("receipt_000", "receipt", 3),
    Pick("receipt_001", "receipt", 41),
    Pick("receipt_002", "receipt", 12),
    Pick("receipt_003", "receipt", 20),
    Pick("chart_01", "chart", 252, "Read the chart."),
    Pick("chart_02", "chart", 17, "Read the chart."),
    Pick("chart_03", "chart", 218, "Read the chart."),
    Pick("textvqa_01", "scene", 25, SIGN),
    Pick("textvqa_02", "scene", 16, SIGN),
    Pick("textvqa_03", "scene", 48, SIGN),
)
SHOWN = (
    Pick("card_1_line_dark", "card", 0, families=("DejaVu Sans",)),
    Pick("card_2_lines_light", "card", 125, families=("Inconsolata",), lines=2),
    Pick("card_2_lines_rotated", "card", 41, families=("Liberation Serif",), lines=2),
    Pick("card_3_lines_dark", "card", 80, families=("Lato",), lines=3),
    Pick("card_3_lines_noisy", "card", 281, families=("Roboto Slab", "Vollkorn"), lines=3),
    Pick("new_font_open_sans", "card", 165, families=("Open Sans",), lines=3),
    Pick("new_font_pt_serif", "card", 205, families=("PT Serif",), lines=2),
)


@dataclass(frozen=True)
class MakeSamplesConfig:
    """Draws the ten samples of tier 1 and the pictures of the quickstart."""

    only: Literal["all", "overfit", "shown"] = "all"  # the set to draw
    data: Path = ROOT / "data"  # folder of the ten samples: overfit_dataset.json and overfit/
    assets: Path = ROOT / "assets" / "samples"  # folder of the quickstart's pictures


def matplotlib_fonts() -> tuple[Font, ...]:
    """The fonts inside matplotlib's package.

    Raises:
        UsageError: matplotlib is not installed.
    """
    folders = default_folders()
    if len(folders) < 2:
        raise UsageError("the ten samples are drawn with matplotlib's fonts: run `pip install matplotlib`")
    return of_families(find_fonts(folders=folders[:1]), MATPLOTLIB_FAMILIES)


def of_families(fonts: tuple[Font, ...], wanted: tuple[str, ...]) -> tuple[Font, ...]:
    """The fonts that belong to the `wanted` families.

    Raises:
        UsageError: one of the families is missing, so the pictures would come out differently.
    """
    missing = set(wanted) - set(families(fonts))
    if missing:
        raise UsageError(f"fonts missing here: {', '.join(sorted(missing))}; run `bash runs/fonts.sh` first")
    return tuple(font for font in fonts if font.family in wanted)


def draw(pick: Pick, seed: int, fonts: tuple[Font, ...]) -> SynthSample:
    """Draw the picked sample, with the pick's own question.

    Raises:
        UsageError: the generator has another question for this sample, so its answer would not fit.
    """
    lines = pick.lines
    sample = make_sample(pick.kind, seed, pick.number, fonts=fonts, min_lines=lines, max_lines=lines)
    if sample.prompt != pick.prompt and not (pick.kind == "scene" and pick.prompt == SIGN):
        raise UsageError(
            f"{pick.name}: the generator now asks {sample.prompt!r} of {pick.kind} {pick.number}; choose "
            "another number"
        )
    return replace(sample, prompt=pick.prompt)


def overfit_samples() -> list[tuple[str, SynthSample]]:
    """The ten samples, (id, sample)."""
    fonts = matplotlib_fonts()
    return [(pick.name, draw(pick, OVERFIT_SEED, fonts)) for pick in OVERFIT]


def shown_samples() -> list[tuple[str, SynthSample]]:
    """The quickstart's pictures, (name, sample)."""
    fonts = find_fonts() + find_fonts(held_out=True)
    return [(pick.name, draw(pick, SHOWN_SEED, of_families(fonts, pick.families))) for pick in SHOWN]


def json_row(name: str, sample: SynthSample) -> dict[str, Any]:
    """A row of the JSON format that nanoocr/data/rows.py reads."""
    return {
        "id": name,
        "image": f"overfit/{name}.png",
        "prompt": sample.prompt,
        "answer": sample.answer,
        "chars": sample.chars,
        "boxes": [[round(side, 1) for side in box] for box in sample.boxes.tolist()],
    }


def png(image: Image.Image) -> bytes:
    """The picture as a small PNG file."""
    stored = io.BytesIO()
    image.save(stored, "PNG", optimize=True)
    return stored.getvalue()


def write_overfit(folder: Path) -> None:
    """Write overfit_dataset.json, one row a line, and the pictures that it names."""
    samples = overfit_samples()
    for name, sample in samples:
        write_file(folder / "overfit" / f"{name}.png", png(sample.image))
    rows = ",\n".join(json.dumps(json_row(name, sample)) for name, sample in samples)
    write_file(folder / "overfit_dataset.json", f"[\n{rows}\n]\n".encode())


def write_shown(folder: Path) -> None:
    """Write each picture, and its truth beside it."""
    for name, sample in shown_samples():
        write_file(folder / f"{name}.png", png(sample.image))
        write_file(folder / f"{name}.txt", f"{sample.answer}\n".encode())


def main(argv: list[str] | None = None) -> None:
    """Write the sets that were asked for."""
    config = parse(MakeSamplesConfig, argv)
    if config.only in ("all", "overfit"):
        write_overfit(config.data)
        print(f"{len(OVERFIT)} samples are in {config.data}", file=sys.stderr)
    if config.only in ("all", "shown"):
        write_shown(config.assets)
        print(f"{len(SHOWN)} pictures are in {config.assets}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(run(main))
