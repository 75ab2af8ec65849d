"""The flags of `nanoocr read`, and the messages about words that are no command and no flag."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from nanoocr.commandline import nearest
from nanoocr.errors import UsageError

if TYPE_CHECKING:
    from nanoocr.inference.reader import ReaderChoice

READ_HELP = """\
Text goes to stdout. One input gives its text alone; several inputs, or a folder, give a line
"==> name <==" before each text. Pages of one PDF or TIFF are separated by a form feed. In a folder, every
file that contains a picture or a PDF is read, whatever its name is. Messages go to stderr.
"""

# Flags whose value may not be empty, as of a variable that is not set, with what to write instead.
NAMED = {
    "--model": "name a folder, as in --model=my_model",  # it would mean the current folder
    "--out": "name a folder, as in --out=my_folder",  # likewise
    "--host": "give --host=127.0.0.1, or --host=0.0.0.0 for all networks",  # it would mean all of them
}
MODEL_HELP = "model folder, or a run's folder for its newest step (default: the package's)"


class Parser(argparse.ArgumentParser):
    """An argparse parser whose errors are one sentence, like all others here."""

    def error(self, message: str) -> NoReturn:
        """Raise UsageError with the message."""
        raise UsageError(f"{message} (see {self.prog} --help)")


def refuse_unknown_command(argv: Sequence[str], commands: Mapping[str, Parser]) -> None:
    """Raise UsageError if the first word is no command and no flag, and suggest the nearest one."""
    if not argv or argv[0] in commands:
        return
    word = argv[0]
    if word.startswith("-"):
        flags = ("--help", "--version", "-h")
        if word not in flags:
            meant = nearest(word, flags)
            hint = f"did you mean {meant}?" if meant else "a command comes first:"
            raise UsageError(f"unknown flag {word}: {hint} (see nanoocr --help)")
        return
    if os.path.exists(word):
        raise UsageError(f"{word} is no command: to read it, write nanoocr read {word}")
    meant = nearest(word, commands) or ", ".join(commands)
    raise UsageError(f"there is no command {word!r}: did you mean {meant}? (see nanoocr --help)")


def refuse_unknown_flags(unknown: Sequence[str], parser: Parser) -> None:
    """Raise UsageError if words are left over, and suggest the nearest flag for the first of them."""
    if not unknown:
        return
    word = unknown[0].partition("=")[0]
    meant = nearest(word, flags_of(parser))
    hint = f"did you mean {meant}? " if meant else ""
    kind = "flag" if word.startswith("-") else "word"
    raise UsageError(f"unknown {kind} {' '.join(unknown)}: {hint}(see {parser.prog} --help)")


def mistyped_flags(argv: Sequence[str], parser: Parser) -> list[str]:
    """Words such as --nmae=value that look like flags, but are none of the parser's; none come after `--`."""
    words = argv[: argv.index("--")] if "--" in argv else argv
    known = flags_of(parser)
    return [word for word in words if word.startswith("--") and word.partition("=")[0] not in known]


def flags_of(parser: Parser) -> list[str]:
    """Every flag of a parser. argparse has no public list of them."""
    return [flag for action in parser._actions for flag in action.option_strings]


def refuse_empty_values(argv: Sequence[str]) -> None:
    """Raise UsageError for values that would mean something else, in all commands and both spellings.

    argparse turns `--flag=--` into an empty list instead of a text.
    """
    for word, following in zip(argv, [*argv[1:], "-"]):
        if word == "--":
            return
        if match := re.fullmatch(r"(--[\w-]+=|-\w+=?)--", word):
            raise UsageError(f"{word}: -- is no value of {match[1].rstrip('=')}")
        flag = word.removesuffix("=")
        if flag in NAMED and (word != flag or following == ""):
            raise UsageError(f"{flag}=: the name is empty: {NAMED[flag]}")


def add_mark_flag(parser: Parser) -> None:
    """Add the flag for marks of doubt, for the commands that write text."""
    parser.add_argument(
        "--mark_below",
        "--mark-below",
        metavar="P",
        type=share,
        help="mark words with less confidence than P, from 0 to 1, in text and Markdown: [word?] "
        "(default: no marks)",
    )


def add_read_flags(read: Parser) -> None:
    """Add the flags of `nanoocr read`."""
    read.add_argument(
        "files", nargs="+", metavar="FILE", help="picture, PDF, folder (with its folders), or - for stdin"
    )
    _add_output_flags(read)
    add_mark_flag(read)
    add_model_flags(read)
    _add_speed_flags(read)
    read.add_argument(
        "--pages",
        metavar="LIST",
        default="1-end",
        help="pages of PDFs and TIFFs to read, counted from 1, as in 1-3,7,end",
    )
    read.add_argument("-q", "--quiet", action="store_true", help="print nothing on stderr except errors")


def _add_output_flags(read: Parser) -> None:
    read.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        default="-",
        help="write to this file, or to a folder (DIR/), which gets files for each input (default: stdout)",
    )
    read.add_argument(
        "--format",
        metavar="LIST",
        help="one or more of txt, json, md, hocr, alto, page, tsv, pdf, as in --format=txt,pdf -o DIR/ "
        "(default: txt)",
    )
    read.add_argument(
        "--json",
        action="store_true",
        help="print one line of JSON for each page: file, page, text, status (ok, doubtful, truncated, "
        "repetition, error), error, seconds, tokens, confidence, lines with words and their places, and more",
    )
    read.add_argument(
        "--overlay",
        metavar="DIR",
        help="also write each page with its reading drawn on it, into this folder",
    )
    read.add_argument(
        "--overlay_format",
        "--overlay-format",
        metavar="LIST",
        help="png, svg or png,svg for --overlay; an SVG tells the text of the word under the mouse "
        "(default: png)",
    )


def add_model_flags(read: Parser) -> None:
    """Add the flags on which texts depend, the same for every command that reads; see `reader_choice`."""
    read.add_argument(
        "--model", metavar="DIR", type=Path, help="model or run folder (default: the package's)"
    )
    read.add_argument(
        "--prompt", metavar="TEXT", help="the question (default: the one that the model was trained with)"
    )
    read.add_argument(
        "--mode",
        metavar="NAME",
        help="lines (find the lines and read each), view (read the page in one look), or for such a model "
        "tiny, small, base, large, gundam, gundam-m (default: what the model was made for)",
    )
    read.add_argument(
        "--min_confidence",
        "--min-confidence",
        metavar="P",
        type=share,
        help="leave out text with less confidence, from 0 (leave out nothing) to 1; for --mode=lines "
        "(default: the value that did best on drawn pages)",
    )
    read.add_argument(
        "--max_tokens",
        "--max-tokens",
        metavar="N",
        type=positive,
        help="most tokens of a page, or with --mode=lines of a line (default: what fits the model)",
    )
    read.add_argument("--device", metavar="NAME", help="cpu, cuda, ... (default: cuda if there is one)")
    read.add_argument(
        "--dtype",
        metavar="NAME",
        default="auto",
        help="float32, bfloat16, or auto: bfloat16 where the processor has it natively (default: auto)",
    )


def _add_speed_flags(read: Parser) -> None:
    read.add_argument(
        "--max_batch",
        "--max-batch",
        metavar="N",
        type=positive,
        default=32,
        help="pages that are read together with --mode=view (default: %(default)s)",
    )
    read.add_argument(
        "--threads",
        metavar="N",
        type=positive,
        help="processors to use (default: OMP_NUM_THREADS, or the idle ones)",
    )


def reader_choice(arguments: argparse.Namespace, max_batch: int) -> ReaderChoice:
    """The reader that the flags of `add_model_flags` describe; it reads `max_batch` pages together."""
    from nanoocr.inference.reader import ReaderChoice

    return ReaderChoice(
        model=arguments.model,
        device=arguments.device,
        dtype=arguments.dtype,
        max_batch=max_batch,
        mode=arguments.mode,
        min_confidence=arguments.min_confidence,
    )


def positive(text: str) -> int:
    """Parse a whole number above 0."""
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return number


def share(text: str) -> float:
    """Parse a number from 0 to 1."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:  # nan fails the comparison too
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1, as 0.8")
    return number
