"""The command `nanoocr`: read pictures (read.py), show what a model is, take weights in and give them out.

Results on stdout, everything else on stderr. Exit codes: 0 all read, 2 wrong usage, 3 nothing could be read,
4 model unusable, 5 some inputs failed and the others were read, 6 output not writable, 130 interrupted.
Heavy imports stand inside the commands, so that --help and a mistyped flag answer at once.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, NoReturn

from nanoocr.cli.output import opened, write
from nanoocr.cli.read import read_command
from nanoocr.commandline import run
from nanoocr.errors import UsageError

READ_HELP = """\
Text goes to stdout. One input gives its text alone; several inputs, or a folder, give a line
"==> name <==" before each text. Pages of one PDF or TIFF are separated by a form feed. With --json every
page is one line: file, page, text, status (ok, truncated, repetition, error), error, seconds, tokens,
confidence.
"""

CONVERT_HELP = """\
SRC is a hub name OWNER/NAME@REVISION (without a revision: the commit pinned in nanoocr/pretrained/files.py,
or else main), a folder, or a file. What no source brings is fresh. Every key of a source is loaded or known
to be useless; anything else ends the conversion.
"""


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return run(_main, argv)


def _main(argv: list[str] | None) -> int:
    arguments = _parser().parse_args(argv)
    return arguments.command(arguments)


# ---------------------------------------------------------------------------------------------------
# Flags


class _Parser(argparse.ArgumentParser):
    """argparse whose complaints are one sentence, like all others here."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="nanoocr", description="Read text from pictures.", allow_abbrev=False)
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)
    read = commands.add_parser(
        "read",
        help="read pictures and pages of PDFs and TIFFs",
        description=READ_HELP,
        allow_abbrev=False,
    )
    _add_read_flags(read)
    read.set_defaults(command=read_command)
    info = commands.add_parser("info", help="show what a model is", allow_abbrev=False)
    info.add_argument("--model", metavar="DIR", type=Path, help="model folder (default: the package's)")
    info.add_argument("--json", action="store_true", help="print one JSON object")
    info.set_defaults(command=info_command)
    convert = commands.add_parser(
        "convert", help="make a model folder of others' weights", description=CONVERT_HELP, allow_abbrev=False
    )
    _add_convert_flags(convert)
    convert.set_defaults(command=convert_command)
    export = commands.add_parser("export", help="give a model to others' tools", allow_abbrev=False)
    export.add_argument("--model", metavar="DIR", type=Path, help="model folder (default: the package's)")
    export.add_argument(
        "--out",
        metavar="DIR",
        required=True,
        help="gets gpt/ (transformers) and encoder/ (DeepSeek-OCR keys)",
    )
    export.set_defaults(command=export_command)
    return parser


def _add_convert_flags(convert: argparse.ArgumentParser) -> None:
    convert.add_argument("--out", metavar="DIR", required=True, help="the model folder to write")
    convert.add_argument("--preset", default="d20", help="sizes of the encoder (default: %(default)s)")
    convert.add_argument("--sam", metavar="SRC", default="", help="SAM-ViT, as facebook/sam-vit-base")
    convert.add_argument(
        "--clip", metavar="SRC", default="", help="CLIP-ViT, as openai/clip-vit-large-patch14"
    )
    convert.add_argument(
        "--deepseek_ocr",
        "--deepseek-ocr",
        metavar="SRC",
        default="",
        help="the whole encoder, as deepseek-ai/DeepSeek-OCR",
    )
    convert.add_argument(
        "--deepencoder",
        metavar="FILE",
        default="",
        help="the whole encoder: a deepencoder_NNNNNN.safetensors of stage 1",
    )
    convert.add_argument(
        "--gpt", metavar="SRC", default="", help="nanochat's GPT, as nanochat-students/base-d20"
    )
    convert.add_argument(
        "--tokenizer", metavar="FILE", default="", help="tokenizer.json of ours or nanochat's tokenizer.pkl"
    )
    convert.add_argument("--seed", metavar="N", type=int, default=0, help="of the weights no source brings")
    convert.add_argument(
        "--verify", action="store_true", help="refuse a GPT that does not know English; print what it says"
    )


def _add_read_flags(read: argparse.ArgumentParser) -> None:
    read.add_argument(
        "files", nargs="+", metavar="FILE", help="picture, PDF, folder (read recursively), or - for stdin"
    )
    read.add_argument("--json", action="store_true", help="print one JSON object per page")
    read.add_argument("--model", metavar="DIR", type=Path, help="model folder (default: the package's)")
    read.add_argument("--prompt", metavar="TEXT", default="Read.", help="what to ask (default: %(default)s)")
    read.add_argument(
        "--mode",
        metavar="NAME",
        help="tiny, small, base, large, gundam or gundam-m (default: the model's own views)",
    )
    read.add_argument(
        "--pages", metavar="LIST", default="1-end", help="of PDFs and TIFFs, from 1, as in 1-3,7,end"
    )
    read.add_argument(
        "--max_tokens",
        "--max-tokens",
        metavar="N",
        type=_positive,
        help="most tokens per page (default: what fits the model)",
    )
    read.add_argument(
        "--max_batch", "--max-batch", metavar="N", type=_positive, default=32, help="pages decoded together"
    )
    read.add_argument("--device", metavar="NAME", help="cpu, cuda, ... (default: cuda if there is one)")
    read.add_argument("--dtype", default="auto", help="auto, float32 or bfloat16")
    read.add_argument(
        "-o", "--output", metavar="OUT", default="-", help="write results to this file, never an input"
    )
    read.add_argument("-q", "--quiet", action="store_true", help="say nothing on stderr but errors")


def _positive(text: str) -> int:
    number = int(text) if text.isascii() and text.isdigit() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return number


class _Version(argparse.Action):
    """Looks the version up only when asked: that is not free."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib.metadata import version

        print(f"nanoocr {version('nano-deepseek-ocr')}")
        parser.exit()


# ---------------------------------------------------------------------------------------------------
# nanoocr info


def info_command(arguments: argparse.Namespace) -> int:
    """Print what a model folder holds, after checking its files against their sha256."""
    facts = model_facts(arguments.model)
    with opened("-") as out:
        if arguments.json:
            write(out, json.dumps(facts) + "\n", "-")
            return 0
        for name, value in facts.items():
            entries = value.items() if isinstance(value, dict) else [("", value)]
            write(out, "".join(f"{f'{name} {key}'.strip():<28} {entry}\n" for key, entry in entries), "-")
    return 0


def model_facts(folder: Path | None) -> dict[str, Any]:
    """Configuration, parameters by part and checksums of a model folder; loads no weights.

    Raises:
        CheckpointError: the folder is missing, damaged, or of another format version.
    """
    import torch

    from nanoocr.files import read_folder, read_manifest
    from nanoocr.inference.reader import default_model_folder
    from nanoocr.model.folder import CONFIG, SHARDS, STATE, empty_model, read_config
    from nanoocr.model.vlm import count_parameters

    folder = folder or default_model_folder()
    files = read_folder(folder, skip=(STATE, SHARDS))
    config = read_config(files.get(CONFIG, b""), folder / CONFIG)
    model = empty_model(config)
    parts = {
        "sam": model.encoder.sam_model,
        "clip": model.encoder.vision_model,
        "projector": model.encoder.projector,
        "gpt": model.gpt,
        "total": model,
    }
    return {
        "folder": str(folder),
        "preset": config.name,
        "views": " ".join(f"{height}x{width}" for height, width in config.views),
        "vocabulary": config.gpt.vocab_size,
        "sequence": config.gpt.sequence_len,
        "parameters": {name: count_parameters(part) for name, part in parts.items()},
        "about": json.loads(files[CONFIG]).get("about", {}),
        "sha256": {name: entry["sha256"] for name, entry in read_manifest(folder)["files"].items()},
        "torch": torch.__version__,
    }


# ---------------------------------------------------------------------------------------------------
# nanoocr convert, nanoocr export


def convert_command(arguments: argparse.Namespace) -> int:
    """Others' weights as a model folder; says what was loaded, what is new and what was dropped."""
    from nanoocr.pretrained.convert import Sources, convert

    sources = Sources(
        sam=arguments.sam,
        clip=arguments.clip,
        deepseek_ocr=arguments.deepseek_ocr,
        deepencoder=arguments.deepencoder,
        gpt=arguments.gpt,
        tokenizer=arguments.tokenizer,
    )
    done = convert(
        sources, arguments.out, preset_name=arguments.preset, seed=arguments.seed, verify=arguments.verify
    )
    lines = [
        *map(str, done.reports),
        f"random from seed {arguments.seed}: {', '.join(done.fresh) or 'nothing'}",
    ]
    with opened("-") as out:
        for line in lines if done.check is None else [*lines, str(done.check)]:
            write(out, f"{line}\n", "-")
    print(f"wrote {arguments.out}", file=sys.stderr)
    return 0


def export_command(arguments: argparse.Namespace) -> int:
    """A model folder as a transformers folder and a DeepSeek-OCR encoder."""
    from nanoocr.inference.reader import default_model_folder
    from nanoocr.pretrained.convert import export

    counts = export(str(arguments.model or default_model_folder()), arguments.out)
    with opened("-") as out:
        write(out, "".join(f"{Path(arguments.out) / part}: {n} tensors\n" for part, n in counts.items()), "-")
    return 0
