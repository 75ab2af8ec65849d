"""Writes synthetic documents to Parquet.

python -m nanoocr.data.synth --kind=card --count=1000 --seed=0 --out=FILE.parquet

Kinds: card, receipt, paragraph, form, table, chart, scene; chart_question and form_question, which only ask;
strip, one line of a page as the packaged model reads it; card_line, one line of a card; and text, natural
sentences without a picture.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

from nanoocr.commandline import parse, run
from nanoocr.data.synth import KINDS, find_fonts, write_parquet


@dataclass(frozen=True)
class SynthConfig:
    """Draws synthetic documents and writes them as Parquet in FineVision's schema."""

    out: str  # the file to write; an existing one is replaced
    kind: str = "card"
    """one kind, or several that alternate, as card,text: card, receipt, paragraph, form, table, chart, scene,
    chart_question, form_question, strip (a line, as the packaged model reads it), card_line, text; all: the
    first 7"""
    count: int = 1000  # rows
    seed: int = 0  # the series; the same seed gives the same pixels with the same fonts
    min_lines: int = 1  # fewest lines of a card
    max_lines: int = 3  # most lines of a card, up to 4
    held_out_fonts: bool = False  # draw with the two families that training never uses


def main(argv: list[str] | None = None) -> None:
    """Runs the command; mistakes raise UsageError."""
    config = parse(SynthConfig, argv)
    kinds = list(KINDS) if config.kind == "all" else config.kind.split(",")
    write_parquet(
        config.out,
        kinds,
        config.count,
        config.seed,
        fonts=find_fonts(held_out=config.held_out_fonts),
        max_lines=config.max_lines,
        min_lines=config.min_lines,
    )
    print(f"{config.count} rows of {', '.join(kinds)} are in {config.out}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(run(main))
