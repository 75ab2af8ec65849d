"""`nanoocr finetune DATA --out=MODEL`: makes a model that reads your pages better, or says why it cannot."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from nanoocr.cli.flags import Parser

FINETUNE_HELP = """\
DATA is a folder or file: pictures or PDFs with a .txt or .md beside each, PAGE-XML, ALTO or hOCR beside their
pictures, Label Studio's OCR export, chat rows (.jsonl), Parquet in FineVision's schema, HDF5 pages with
boxes, or line crops (NAME.gt.txt beside NAME.png, or a .tsv of pictures and texts). Part of the documents is
held out, and read before and after. If the tuned weights read better, MODEL gets them; else it gets those of
the base model. It also gets a report. The same command continues a stopped run. Exit code 10 means that the
tuned weights are not better, and 11 that texts do not belong to their pictures.
"""


def add_finetune_flags(parser: Parser) -> None:
    """Add the flags of `nanoocr finetune`; flags of the training scripts keep their names."""
    add: Any = parser.add_argument
    add("data", metavar="DATA", help="folder or file of documents with texts")
    add("--out", metavar="MODEL", required=True, help="the model folder to write; MODEL.work holds the run")
    add(
        "--model",
        metavar="DIR",
        default="",
        help="model folder to start from (default: the package's)",
    )
    add("--steps", metavar="N", type=int, default=0, help="optimiser steps (default: by the amount of data)")
    add(
        "--batch_size",
        "--batch-size",
        metavar="N",
        type=int,
        default=32,
        help="lines per step (default: %(default)s)",
    )
    add("--lr", metavar="X", type=float, default=3e-4, help="AdamW's learning rate (default: %(default)s)")
    add(
        "--muon_lr",
        "--muon-lr",
        metavar="X",
        type=float,
        default=1.2e-3,
        help="Muon's learning rate (default: %(default)s)",
    )
    add(
        "--trained",
        metavar="NAMES",
        default="sam,compressor,clip,projector,gpt",
        help="parts of the model that train (default: all of them)",
    )
    add(
        "--glyph_weight",
        "--glyph-weight",
        metavar="X",
        type=float,
        default=0.0,
        help="weight of the loss that names letters, for data with boxes of words (default: %(default)s)",
    )
    _add_measuring_flags(parser)


def _add_measuring_flags(parser: Parser) -> None:
    """Add the flags that say what is held out and measured, on which machine, and what is accepted."""
    add: Any = parser.add_argument
    add("--drawn", metavar="P", type=float, default=0.5, help="share of drawn lines (default: %(default)s)")
    add(
        "--hold_out",
        "--hold-out",
        metavar="P",
        type=float,
        default=0.2,
        help="share of the documents held out for measuring (default: %(default)s)",
    )
    add(
        "--average",
        metavar="P",
        type=float,
        default=0.97,
        help="decay of the averaged weights (default: %(default)s)",
    )
    add(
        "--patience",
        metavar="N",
        type=int,
        default=4,
        help="stop after this many validations without a better one (default: %(default)s)",
    )
    add(
        "--eval_every",
        "--eval-every",
        metavar="N",
        type=int,
        default=0,
        help="steps between two validations (default: an eighth of the steps, and 20 at least)",
    )
    add(
        "--eval_drawn",
        "--eval-drawn",
        metavar="N",
        type=int,
        default=400,
        help="drawn lines for measuring (default: %(default)s)",
    )
    add(
        "--seed", metavar="N", type=int, default=0, help="seeds the split and the data (default: %(default)s)"
    )
    add(
        "--threads", metavar="N", type=int, default=0, help="processors to use (default: those that are free)"
    )
    add("--device", metavar="NAME", default="cpu", help="cpu, cuda, ... (default: %(default)s)")
    add("--dtype", metavar="NAME", default="auto", help="auto, float32 or bfloat16 (default: auto)")
    add(
        "--accept_worse",
        "--accept-worse",
        action="store_true",
        help="keep the tuned weights even if they read worse",
    )
    add(
        "--accept_doubtful", "--accept-doubtful", action="store_true",
        help="train on the rest even if many texts do not belong to their pictures",
    )  # fmt: skip


def finetune_command(arguments: argparse.Namespace) -> int:
    """Tune, and print the scores before and after."""
    from nanoocr.cli.output import opened, write
    from nanoocr.finetune.plan import FinetuneConfig
    from nanoocr.finetune.run import finetune

    names = FinetuneConfig.__dataclass_fields__
    config = FinetuneConfig(**{name: value for name, value in vars(arguments).items() if name in names})
    outcome = finetune(config)
    with opened("-") as out:
        write(out, outcome.table + "\n", "-")
    print(f"wrote {outcome.out}; see {Path(outcome.out) / 'report.html'}", file=sys.stderr)
    return 0
