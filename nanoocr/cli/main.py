"""The command `nanoocr`: dispatches to the subcommands, and holds info, convert and export.

Results go to stdout, everything else to stderr. Exit codes: 0 everything was read, 2 wrong usage, 3 nothing
could be read, 4 the model is unusable, 5 some inputs failed and the others were read, 6 the output cannot be
written, 10 a fine-tuned model is not better, 11 texts do not belong to their pictures, 130 interrupted. Heavy
imports stand inside the commands, so that --help and mistyped flags are answered at once.
"""

from __future__ import annotations

import argparse
import atexit
import gc
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nanoocr.cli.batch import BATCH_HELP, add_batch_flags, batch_command
from nanoocr.cli.evaluate import EVALUATE_HELP, evaluate_command
from nanoocr.cli.finetune import FINETUNE_HELP, add_finetune_flags, finetune_command
from nanoocr.cli.flags import (
    READ_HELP,
    Parser,
    add_read_flags,
    mistyped_flags,
    refuse_empty_values,
    refuse_unknown_command,
    refuse_unknown_flags,
)
from nanoocr.cli.output import opened, write
from nanoocr.cli.push import PUSH_HELP, add_push_flags, push_command
from nanoocr.cli.read import read_command
from nanoocr.cli.serve import SERVE_HELP, add_serve_flags, serve_command
from nanoocr.commandline import run, with_home

INFO_HELP = """\
Shows the sizes of a model, its number of parameters, the views and the question it was trained with, and the
sha256 of its weights.
"""

EXPORT_HELP = """\
Writes the two halves of a model for tools that know them: the GPT as a folder that transformers loads, and
the encoder under the names that DeepSeek-OCR's weights have.
"""

CONVERT_HELP = """\
SRC is a hub name OWNER/NAME@REVISION (without a revision: the commit pinned in nanoocr/pretrained/files.py,
or else main), a folder, or a file. Parts that no source has are fresh. Every key of a source must be loaded
or known to be useless; anything else ends the conversion.
"""


# new objects between two garbage collections; Python's default of 700 to 2,000 suits small programs
COLLECT_AFTER = 50_000


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    spare_collector()
    return run(_main, argv)


def spare_collector() -> None:
    """Make Python collect garbage less often while torch is imported, and not at all at the end.

    torch creates some 300,000 objects that live as long as the process. Scanning them again and again took a
    third of the processor time of `nanoocr read` for one picture, most of it at the very end.
    """
    gc.set_threshold(max(COLLECT_AFTER, gc.get_threshold()[0]), *gc.get_threshold()[1:])
    atexit.register(gc.freeze)  # the collector skips frozen objects when the interpreter ends


def _main(argv: list[str] | None) -> int:
    argv = with_home(sys.argv[1:] if argv is None else argv)
    parser, commands = _parser()
    refuse_unknown_command(argv, commands)
    refuse_empty_values(argv)
    if argv and argv[0] == "evaluate":
        return evaluate_command(argv[1:])  # its flags come from a config, not from argparse
    if argv and argv[0] in commands:
        # Before parsing: argparse would say that a required flag is missing, where somebody mistyped it.
        refuse_unknown_flags(mistyped_flags(argv[1:], commands[argv[0]]), commands[argv[0]])
    arguments, unknown = parser.parse_known_args(argv)
    refuse_unknown_flags(unknown, commands[arguments.name])
    return arguments.command(arguments)


# ---------------------------------------------------------------------------------------------------
# Flags


def _parser() -> tuple[Parser, dict[str, Parser]]:
    """Build the parser of everything; also returns the parser of each command by name."""
    parser = Parser(prog="nanoocr", description="Read text from pictures.", allow_abbrev=False)
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    parsers = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser, dest="name")
    commands: dict[str, Parser] = {}

    def add(name: str, command: Callable[[argparse.Namespace], int], about: str, more: str = "") -> Parser:
        """Add a subcommand. `about` is its line in the list of all, `more` stands in its own help."""
        added = parsers.add_parser(name, help=about, description=more or None, allow_abbrev=False)
        added.set_defaults(command=command)
        commands[name] = added
        return added

    add_read_flags(add("read", read_command, "read pictures and pages of PDFs and TIFFs", READ_HELP))
    add_batch_flags(
        add("batch", batch_command, "read a great many files, and go on after anything", BATCH_HELP)
    )
    add_serve_flags(add("serve", serve_command, "serve OpenAI's interface and a web page", SERVE_HELP))
    info = add("info", info_command, "show what a model is", INFO_HELP)
    info.add_argument(
        "--model", metavar="DIR", type=Path, help="model or run folder (default: the package's)"
    )
    info.add_argument("--json", action="store_true", help="print one JSON object")
    _add_convert_flags(
        add("convert", convert_command, "make a model folder of others' weights", CONVERT_HELP)
    )
    add_finetune_flags(add("finetune", finetune_command, "train on pages of your own", FINETUNE_HELP))
    commands["evaluate"] = parsers.add_parser("evaluate", help=EVALUATE_HELP)
    add_push_flags(add("push", push_command, "send a model folder to a hub", PUSH_HELP))
    export = add("export", export_command, "give a model to others' tools", EXPORT_HELP)
    export.add_argument(
        "--model", metavar="DIR", type=Path, help="model or run folder (default: the package's)"
    )
    export.add_argument(
        "--out",
        metavar="DIR",
        required=True,
        help="folder for gpt/ (transformers) and encoder/ (DeepSeek-OCR keys)",
    )
    return parser, commands


def _add_convert_flags(convert: Parser) -> None:
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
    convert.add_argument(
        "--seed", metavar="N", type=int, default=0, help="seeds the weights that no source has"
    )
    convert.add_argument(
        "--verify", action="store_true", help="refuse a GPT that does not know English; print what it says"
    )


class _Version(argparse.Action):
    """Looks the version up only when it is asked for, because that takes time."""

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
    from nanoocr.model.folder import CONFIG, SHARDS, STATE, empty_model, model_folder, read_config
    from nanoocr.model.vlm import count_parameters

    folder = model_folder(folder or default_model_folder())
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
    """Turn others' weights into a model folder, and report what was loaded, is new, or was dropped."""
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
    """Write a model folder as a transformers folder and a DeepSeek-OCR encoder."""
    from nanoocr.inference.reader import default_model_folder
    from nanoocr.pretrained.convert import export

    counts = export(str(arguments.model or default_model_folder()), arguments.out)
    with opened("-") as out:
        write(out, "".join(f"{Path(arguments.out) / part}: {n} tensors\n" for part, n in counts.items()), "-")
    return 0
